"""A random trainer: it asks, reports, repeats itself and errs, and compares every answer with the model's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from .book import DrawBook
from .compare import OneOf, check
from .life import Life, Request
from .views import check_prompt, check_prompts, check_state, check_steps
from .worlds import random_prompts, random_rewards, random_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from .service import Service


@dataclass(frozen=True)
class Sent:
    """A request that carried a key, and its first answer."""

    path: str
    body: dict[str, Any]
    key: str
    status: int
    content: bytes


class Trace:
    """One run driven at random; equal seeds drive equal runs."""

    def __init__(self, service: Service, seed: int, name: str) -> None:
        self.rng = Random(seed)
        self.service = service
        self.model = Life(random_spec(self.rng))
        self.names = random_prompts(self.rng)
        self.path = service.create(name, **self.model.spec.json())
        self.book = DrawBook()
        self.sent: list[Sent] = []
        self.step = self.rng.randint(0, 3)
        self.keys = 0

    def play(self, actions: int) -> None:
        """Some actions; the run's state is compared after each."""
        verbs = self.verbs()
        for _ in range(actions):
            self.rng.choices([*verbs], [*verbs.values()])[0]()
            check_state(self.service, self.path, self.model)

    def verbs(self) -> dict[Callable[[], None], float]:
        """What it may do and how often."""
        return {
            self.select: 4, self.report: 7, self.draw: 1.5, self.add: 0.6, self.change: 0.4,
            self.replay: 1.5, self.refused: 0.8, self.look: 0.3,
        }  # fmt: skip

    def look(self) -> None:
        """Compare everything that can be looked at."""
        check_state(self.service, self.path, self.model)
        check_steps(self.service, self.path, self.model)
        check_prompts(self.service, self.path, self.model)
        for prompt in sorted(self.model.seen() | self.model.pool.keys()):
            check_prompt(self.service, self.path, self.model, prompt)

    # -- asking ------------------------------------------------------------------------------------------------------

    def select(self) -> None:
        """A select with some of its options."""
        rng = self.rng
        prompts = rng.choices(self.names, k=rng.randint(0, 30)) if rng.random() < 0.5 else self._distinct()
        step = self._step_to_ask()
        body: dict[str, Any] = {"step": step, "prompts": prompts}
        if rng.random() < 0.4:
            body["limit"] = rng.randint(1, len(prompts) + 2)
        if rng.random() < 0.3:
            body["at_least"] = rng.randint(0, body.get("limit", len(prompts) + 2))
        # With both, only the explanation tells a candidate that was kept from one that filled up.
        if rng.random() < 0.6 or "at_least" in body:
            body["explain"] = True
        answer = self._post("select", body)
        self._check_select(body, answer)
        if rng.random() < 0.15:
            again = self.service.json("POST", f"{self.path}/select", body)
            assert again["selected"] == answer["selected"], f"the same question, another answer: {body}"
            self._check_select(body, again)

    def _distinct(self) -> list[str]:
        return self.rng.sample(self.names, self.rng.randint(0, len(self.names)))

    def _check_select(self, body: dict[str, Any], answer: Any) -> None:
        model, prompts, step = self.model, body["prompts"], body["step"]
        what = f"select {json.dumps(body)} answered {json.dumps(answer)}"
        told = {"exploration": model.exploration(), "rollout_batch_size": model.current_batch(step)}
        check(told | {"generation": model.generation, "stale": False}, answer, what)
        selected, examined = answer["selected"], answer["examined"]
        assert selected == sorted(set(selected)), what
        assert all(at < examined for at in selected), what
        assert examined <= len(prompts), what
        chosen = set(selected)
        skipped = [at for at in range(examined) if at not in chosen]
        kinds = [model.kind(prompts[at]) for at in skipped]
        assert set(kinds) <= {"easy", "hard"}, f"skipped without a streak: {what}"
        counts = {"easy": kinds.count("easy"), "hard": kinds.count("hard")}
        check({"skipped": counts}, answer, what)
        filled = self._check_decisions(body, answer, chosen) if body.get("explain") else []
        kept = [at for at in selected if at not in filled]
        reached = "limit" in body and len(kept) == body["limit"]
        assert len(kept) <= body.get("limit", len(prompts)), what
        assert examined == (kept[-1] + 1 if reached else len(prompts)), what
        wanted = min(body.get("at_least", 0), len(prompts))
        assert len(selected) == max(len(kept), wanted), what
        if model.spec.policy == "uniform":
            assert not skipped, what
        else:
            self._note(step, prompts, kept, skipped, filled)
        model.asked(step, len(selected), counts["easy"], counts["hard"])
        model.remember(Request("POST", "/select", body, answer))

    def _check_decisions(self, body: dict[str, Any], answer: Any, chosen: set[int]) -> list[int]:
        """Compare the explanation; returns the candidates that only filled up."""
        model, prompts = self.model, body["prompts"]
        filled = []
        expected = []
        for at, decision in enumerate(answer["decisions"]):
            kind, fills = model.kind(prompts[at]), decision["reason"] == "fill"
            if fills:
                filled.append(at)
                assert at in chosen
                assert "at_least" in body
            kept = "fill" if fills else kind if kind in {"new", "effective"} else "explore"
            reason: Any = kept if at in chosen else f"skip_{kind}"
            if model.spec.policy == "uniform":
                reason = OneOf("new", "effective", "explore")
            expected.append(
                {
                    "keep": at in chosen,
                    "reason": reason,
                    "keep_probability": model.keep_probability(prompts[at]),
                    "streak": model.streak(prompts[at]),
                }
            )
        assert len(expected) == answer["examined"]
        check(expected, answer["decisions"], f"decisions of {json.dumps(body)}")
        return filled

    def _note(self, step: int, prompts: list[str], kept: list[int], skipped: list[int], filled: list[int]) -> None:
        seed, model = self.model.spec.seed or 0, self.model
        for at in kept:
            self.book.kept((seed, step, prompts[at]), model.keep_probability(prompts[at]))
        for at in [*skipped, *filled]:
            self.book.skipped((seed, step, prompts[at]), model.keep_probability(prompts[at]))
        odds = {(seed, step, prompts[at]): model.keep_probability(prompts[at]) for at in [*filled, *skipped]}
        fills = {(seed, step, prompts[at]) for at in filled}
        self.book.closest_filled(
            {question: q for question, q in odds.items() if question in fills},
            {question: q for question, q in odds.items() if question not in fills},
        )

    def draw(self) -> None:
        """A walk on the pool; which positions it passed is shown only by the prompts it kept."""
        model, step = self.model, self._step_to_ask()
        body: dict[str, Any] = {"step": step}
        if self.rng.random() < 0.8:
            body["count"] = self.rng.randint(1, 12)
        if not model.pool:
            assert self.service.call("POST", f"{self.path}/draw", body).status_code == 409
            return
        asked_for = [body["count"]] if "count" in body else _readings(model.current_batch(step))
        answer = self._post("draw", body)
        what = f"draw {body} answered {answer}"
        prompts, skipped = answer["prompts"], answer["skipped"]
        assert set(prompts) <= model.pool.keys(), what
        assert answer["examined"] == len(prompts) + skipped["easy"] + skipped["hard"], what
        assert answer["examined"] <= len(model.pool), what
        assert len(prompts) <= max(asked_for), what
        assert len(prompts) in asked_for or answer["examined"] == len(model.pool), what
        check({"exploration": model.exploration(), "generation": model.generation}, answer, what)
        for kind in ("easy", "hard"):
            # A walk of at most one pool's length touches two epochs at most.
            streaks = sum(model.keep_probability(name) < 1 and model.kind(name) == kind for name in model.pool)
            assert skipped[kind] <= 2 * streaks, what
        for name in prompts:
            self.book.kept((model.spec.seed or 0, step, name), model.keep_probability(name))
        model.asked(step, len(prompts), skipped["easy"], skipped["hard"])
        model.remember(Request("POST", "/draw", body, answer))

    def add(self) -> None:
        """Some prompts into the pool, known ones among them."""
        prompts = self.rng.choices(self.names, k=self.rng.randint(0, 8))
        added = self.model.add(prompts)
        answer = self.service.json("PUT", f"{self.path}/pool", {"prompts": prompts})
        check({"added": added, "pool": len(self.model.pool)}, answer, f"pool {prompts}")
        self.model.remember(Request("PUT", "/pool", {"prompts": prompts}, answer))

    # -- reporting ---------------------------------------------------------------------------------------------------

    def report(self) -> None:
        """A report: mostly for the open step, sometimes late, sometimes for a later one."""
        rng, model = self.rng, self.model
        step = rng.choices([self.step, self.step + rng.randint(1, 3), rng.randint(0, self.step)], [70, 10, 20])[0]
        self.step = max(self.step, step)
        size = rng.choice([0, 1, 3, model.spec.train_batch_size, model.spec.rollout_batch_size])
        names = rng.choices(self.names, k=rng.randint(0, size))
        results = [(name, random_rewards(rng, model.spec, name)) for name in names]
        final = rng.random() < 0.1
        body: dict[str, Any] = {
            "step": step,
            # Whole numbers go out as JSON integers, as trainers send them.
            "results": [{"prompt": name, "rewards": [*map(_short, rewards)]} for name, rewards in results],
        }
        if final or rng.random() < 0.5:
            body["final"] = final
        answer = self._post("report", body)
        check(model.report(step, results, final=final), answer, f"report {json.dumps(body)}")
        model.remember(Request("POST", "/report", body, answer))
        if model.steps[step].complete and step == self.step and rng.random() < 0.8:
            self.step += 1

    def change(self) -> None:
        """A tunable of the live run."""
        changes: list[dict[str, Any]] = [
            {"min_keep_probability": 0.05},
            {"exploration_step": 0.03},
            {"safety_factor": 1.75, "easy_share": 0.41},
        ]
        chosen = self.rng.choice(changes)
        self.model.change(chosen)
        self.model.remember(Request("PATCH", "", chosen, self.service.json("PATCH", self.path, chosen)))

    # -- repeating and erring ----------------------------------------------------------------------------------------

    def replay(self) -> None:
        """A request sent before, as a client that missed the answer sends it."""
        if not self.sent:
            return
        old = self.rng.choice(self.sent)
        answer = self.service.call("POST", old.path, old.body, old.key)
        assert (answer.status_code, answer.content) == (old.status, old.content), f"replay of {old}"
        assert answer.headers.get("Idempotent-Replayed") == "true", f"replay of {old}"

    def refused(self) -> None:
        """A request that must be refused; what play compares afterwards shows that nothing was applied."""
        good = {"prompt": self.names[0], "rewards": [0, 0]}
        bad: list[dict[str, Any]] = [
            {"step": -1, "results": [good]},
            {"step": self.step, "results": [good, {"prompt": "", "rewards": [1]}]},
            {"step": self.step, "results": [good], "unknown": 1},
            {"step": self.step, "results": [good, {"prompt": "p", "rewards": ["1"]}]},
        ]
        answer = self.service.call("POST", f"{self.path}/report", self.rng.choice(bad))
        assert answer.status_code == 422, answer.text
        if self.sent:
            old = self.rng.choice(self.sent)
            other = old.body | {"step": old.body.get("step", 0) + 1}
            assert self.service.call("POST", old.path, other, old.key).status_code == 422

    def _post(self, verb: str, body: dict[str, Any], status: int = 200) -> Any:
        """Send with a key, and with the run's generation, more often than not."""
        path, key = f"{self.path}/{verb}", None
        if self.rng.random() < 0.6:
            self.keys += 1
            key = f"key-{self.keys}"
        generation = self.model.generation if self.rng.random() < 0.6 else None
        answer = self.service.call("POST", path, body, key, generation)
        assert answer.status_code == status, f"{verb} {json.dumps(body)}: {answer.status_code} {answer.text[:2000]}"
        assert answer.headers.get("Idempotent-Replayed") != "true"
        if key is not None:
            self.sent.append(Sent(path, body, key, answer.status_code, answer.content))
        return answer.json()

    def _step_to_ask(self) -> int:
        return self.rng.choices([self.step, self.step + 1, self.rng.randint(0, self.step)], [80, 10, 10])[0]


def _readings(value: Any) -> list[int]:
    return list(value.readings) if isinstance(value, OneOf) else [value]


def _short(reward: float) -> float | int:
    return int(reward) if reward.is_integer() else reward
