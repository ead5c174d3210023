"""A random trainer that goes back in time, forks and is fenced off, on top of all that `Trace` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .compare import check
from .trace import Trace
from .twin import go_on, live_again, picture, unrounded
from .views import check_state, expected_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from .life import Life
    from .service import Service

STALE = "urn:greso:problem:stale-generation"


@dataclass
class Branch:
    """A run that was forked, or that was forked from and left."""

    path: str
    model: Life
    step: int


class Journey(Trace):
    """A run with its forks; one of them is travelled, the others must stay as they are."""

    def __init__(self, service: Service, seed: int, name: str) -> None:
        super().__init__(service, seed, name)
        self.name = name
        self.others: list[Branch] = []
        self.names_taken = 0
        self.rewinds = self.forks = self.twins = self.fenced_off = 0

    def verbs(self) -> dict[Callable[[], None], float]:
        more = {
            self.rewind: 1.8,
            self.too_early: 0.3,
            self.fork: 0.4,
            self.switch: 0.4,
            self.fenced: 0.9,
            self.twin: 0.1,
        }
        return super().verbs() | more

    def look(self) -> None:
        super().look()
        for branch in self.others:
            check_state(self.service, branch.path, branch.model)

    # -- time --------------------------------------------------------------------------------------------------------

    def rewind(self) -> None:
        """Back to a complete step, mostly a late one."""
        newest = self.model.newest_complete()
        if newest < 0:
            return
        step = self.rng.choice([newest, max(0, newest - 1), self.rng.randint(0, newest)])
        forked = self._fork(step) if self.rng.random() < 0.3 else None
        told = self._post("rewind", {"step": step})
        self.model.rewind(step)
        check(expected_state(self.model), told, f"rewind to {step}")
        self.step = step + 1
        self.rewinds += 1
        if forked is not None:
            pictures = [picture(self.service, path, pages=False) for path in (self.path, forked.path)]
            assert pictures[0] == pictures[1], f"fork and rewind at {step}"

    def too_early(self) -> None:
        """To a step that is open or to come: refused, and told which is the newest complete one."""
        newest = self.model.newest_complete()
        step = newest + self.rng.randint(1, 3)
        verb, body = self.rng.choice([("rewind", {"step": step}), ("fork", {"run": f"{self.name}-none", "step": step})])
        answer = self.service.call("POST", f"{self.path}/{verb}", body)
        assert answer.status_code == 409, f"{verb} {body}, {newest} is the newest complete: {answer.text}"
        assert newest < 0 or str(newest) in answer.json()["detail"], answer.text

    def fork(self) -> None:
        """Begin another run here or at a complete step; go on with either."""
        newest = self.model.newest_complete()
        step = None if newest < 0 or self.rng.random() < 0.4 else self.rng.randint(0, newest)
        self.others.append(self._fork(step))
        if self.rng.random() < 0.5:
            self.switch()

    def _fork(self, step: int | None) -> Branch:
        self.names_taken += 1
        name = f"{self.name}-{self.names_taken}"
        body: dict[str, Any] = {"run": name} if step is None else {"run": name, "step": step}
        told = self._post("fork", body, 201)
        assert told["run"] == name
        branch = Branch(f"/v1/runs/{name}", self.model.fork(step), self.step if step is None else step + 1)
        check(expected_state(branch.model), told, f"fork {body}")
        check_state(self.service, branch.path, branch.model)
        self.forks += 1
        return branch

    def switch(self) -> None:
        """Go on with another of the runs."""
        if not self.others:
            return
        at = self.rng.randrange(len(self.others))
        here = Branch(self.path, self.model, self.step)
        there, self.others[at] = self.others[at], here
        self.path, self.model, self.step = there.path, there.model, there.step
        check_state(self.service, here.path, here.model)

    # -- fencing -----------------------------------------------------------------------------------------------------

    def fenced(self) -> None:
        """Any write with another generation than the run's is refused; play compares the state afterwards."""
        other = self.model.generation + self.rng.choice([-1, -2, 1, 7])
        if other < 0:
            return
        results = [{"prompt": self.names[0], "rewards": [0, 0]}]
        writes: list[tuple[str, str, dict[str, Any] | None]] = [
            ("POST", "/report", {"step": self.step + 1, "results": results, "final": True}),
            ("POST", "/select", {"step": self.step, "prompts": self.names}),
            ("POST", "/draw", {"step": self.step}),
            ("PUT", "/pool", {"prompts": [f"fenced/{self.names_taken}"]}),
            ("PATCH", "", {"min_keep_probability": 0.011}),
            ("POST", "/rewind", {"step": max(0, self.model.newest_complete())}),
            ("POST", "/fork", {"run": f"{self.name}-fenced"}),
            ("PUT", "", self.model.first_spec.json()),
            ("DELETE", "", None),
        ]
        method, suffix, body = self.rng.choice(writes)
        key = f"fenced-{self.fenced_off}" if method == "POST" and self.rng.random() < 0.5 else None
        answer = self.service.call(method, self.path + suffix, body, key, other)
        what = f"{method} {suffix} of generation {other} on a run of {self.model.generation}"
        assert answer.status_code == 409, f"{what}: {answer.text}"
        # A newer one is refused as well, but not because the sender was overtaken.
        assert answer.json()["type"] == STALE or other > self.model.generation, f"{what}: {answer.text}"
        for number in (other, self.model.generation):
            assert str(number) in answer.json()["detail"], f"{what}: {answer.text}"
        self.fenced_off += 1

    # -- twins -------------------------------------------------------------------------------------------------------

    def twin(self) -> None:
        """A run to which only what is remembered was done is the same run, bit for bit, now and from here on."""
        if self.model.walk_has_gaps:
            return
        self.names_taken += 1
        name = f"{self.name}-twin-{self.names_taken}"
        twin = live_again(self.service, self.model, name)
        pictures = [unrounded(picture(self.service, path), self.model) for path in (self.path, twin)]
        assert pictures[0] == pictures[1], f"{self.path} and {twin}"
        futures: list[list[dict[str, Any]]] = []
        for path in (self.path, twin):
            fork = f"{name}-future-{len(futures)}"
            self.service.json("POST", f"{path}/fork", {"run": fork})
            futures.append(go_on(self.service, f"/v1/runs/{fork}", self.step, self.names))
        assert futures[0] == futures[1], f"{self.path} and {twin} go on differently"
        self.twins += 1
