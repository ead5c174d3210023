"""Rewinding: the run as it was when a step completed, however it completed, and nothing of later steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .oracle.compare import check
from .oracle.twin import anonymous, go_on, picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from .oracle.service import Service

POOL = [f"pool/{at}" for at in range(20)]
SPEC: dict[str, Any] = {"train_batch_size": 4, "rollout_batch_size": 8, "seed": 7}


def begun(service: Service, name: str) -> str:
    """A run with a pool, whose step 0 is complete, so that every later one adjusts."""
    run = service.create(name, **SPEC)
    service.json("PUT", f"{run}/pool", {"prompts": POOL})
    report(service, run, 0, 1, len(POOL) - 1, final=True)
    return run


def report(service: Service, run: str, step: int, effective: int, hard: int, *, final: bool = False) -> Any:
    """So many groups of the pool's first prompts."""
    kinds = [[0, 1]] * effective + [[0, 0]] * hard
    results = [{"prompt": prompt, "rewards": rewards} for prompt, rewards in zip(POOL, kinds, strict=False)]
    return service.json("POST", f"{run}/report", {"step": step, "results": results, "final": final})


def rewind(service: Service, run: str, step: int) -> Any:
    return service.json("POST", f"{run}/rewind", {"step": step})


def draw(service: Service, run: str, step: int, count: int = 5) -> Any:
    return service.json("POST", f"{run}/draw", {"step": step, "count": count})["prompts"]


def go_far(service: Service, run: str, step: int) -> None:
    """Some of everything at later steps: nothing of it may remain."""
    for later in range(step + 1, step + 4):
        draw(service, run, later, 30)
        service.json("POST", f"{run}/select", {"step": later, "prompts": [*POOL, f"new/{later}"]})
        report(service, run, later, later % 4, 9, final=later % 2 == 0)
        report(service, run, step, 2, 2)
    service.json("PUT", f"{run}/pool", {"prompts": ["late/1", "late/2"]})
    service.json("PATCH", run, {"min_keep_probability": 0.3, "exploration_step": 0.1})


ENDINGS: dict[str, Callable[[Service, str], Any]] = {
    "by its train batch": lambda service, run: report(service, run, 3, 4, 5),
    "by final": lambda service, run: report(service, run, 3, 1, 3, final=True),
    "by an empty final": lambda service, run: [
        report(service, run, 3, 1, 3),
        report(service, run, 3, 0, 0, final=True),
    ],
    "by final alone": lambda service, run: report(service, run, 3, 0, 0, final=True),
    "in two rounds": lambda service, run: [report(service, run, 3, 2, 3), report(service, run, 3, 2, 1)],
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_to_a_step_that_its_own_report_completed(served: Service, name: str, ending: str) -> None:
    run, twin = begun(served, name), begun(served, f"{name}-twin")
    for each in (run, twin):
        draw(served, each, 3)
        ENDINGS[ending](served, each)
    before = picture(served, run)
    go_far(served, run, 3)
    assert picture(served, run) != before
    told = rewind(served, run, 3)
    assert (told["run"], told["generation"], told["step"]) == (name, 1, 3)
    assert told == served.json("GET", run)
    assert picture(served, run) == before == picture(served, twin)
    assert go_on(served, run, 3, POOL) == go_on(served, twin, 3, POOL)
    assert picture(served, run) == picture(served, twin)


@pytest.mark.parametrize(("later", "back"), [(4, 3), (9, 3), (9, 8), (9, 5)])
def test_to_a_step_that_a_later_one_completed(served: Service, name: str, later: int, back: int) -> None:
    run, twin = begun(served, name), begun(served, f"{name}-twin")
    for each in (run, twin):
        draw(served, each, 3)
        report(served, each, 3, 1, 4)
    check({"easy": 0.5, "hard": 0.5}, served.json("GET", run)["exploration"], "step 3 is open")
    report(served, run, later, 1, 2)
    go_far(served, run, later)
    told = rewind(served, run, back)
    check({"step": back, "exploration": {"easy": 0.51, "hard": 0.49}}, told, "step 3 is complete and has adjusted")
    rows = {row["step"]: row for row in served.json("GET", f"{run}/steps?limit=100")["steps"]}
    assert max(rows) <= back
    check({"groups": 5, "effective": 1, "rollouts": 10, "complete": True}, rows[3], "step 3 has the groups of its own")
    # The twin never went on; its step is ended by itself.
    report(served, twin, back, 0, 0, final=True)
    assert anonymous(served.json("GET", run)) == anonymous(served.json("GET", twin))
    assert go_on(served, run, back, POOL) == go_on(served, twin, back, POOL)


def test_a_restored_step_is_complete_for_late_reports_and_adjusts_no_more(served: Service, name: str) -> None:
    run = begun(served, name)
    report(served, run, 3, 1, 4)
    report(served, run, 6, 1, 1)
    rewind(served, run, 5)
    for step in (5, 4, 3, 2):
        told = report(served, run, step, 4, 4, final=True)
        counts = {"groups": 5, "effective": 1} if step == 3 else {"groups": 0, "effective": 0}
        check({"step": counts | {"complete": True}}, told, f"late for step {step}")
        check({"easy": 0.51, "hard": 0.49}, told["exploration"], f"late for step {step}")
    rewind(served, run, 5)
    check({"rollouts": 2 * (len(POOL) + 5)}, served.json("GET", run)["totals"], "late reports are forgotten again")


def test_late_reports_stay_when_they_came_before_the_completion(served: Service, name: str) -> None:
    run = begun(served, name)
    report(served, run, 1, 4, 0)
    report(served, run, 2, 1, 3)
    report(served, run, 1, 0, 6)
    report(served, run, 2, 3, 0)
    kept = picture(served, run)
    report(served, run, 1, 0, 7)
    report(served, run, 2, 0, 7)
    rewind(served, run, 2)
    assert picture(served, run) == kept
    rewind(served, run, 1)
    check({"rollouts": 2 * (len(POOL) + 4), "effective": 5}, served.json("GET", run)["totals"], "none of it at step 1")


def test_to_step_0(served: Service, name: str) -> None:
    run = begun(served, name)
    kept = picture(served, run)
    go_far(served, run, 0)
    assert rewind(served, run, 0)["step"] == 0
    assert picture(served, run) == kept


def test_to_before_the_first_report(served: Service, name: str) -> None:
    run, fresh = (served.create(f"{name}-{at}", **SPEC) for at in range(2))
    for each in (run, fresh):
        served.json("PUT", f"{each}/pool", {"prompts": POOL})
    draw(served, run, 1)
    report(served, run, 1, 3, 3)
    go_far(served, run, 1)
    told = rewind(served, run, 0)
    check({"step": 0, "pool": len(POOL), "epoch": 0, "totals": {"examined": 0, "rollouts": 0}}, told, "step 0")
    assert go_on(served, run, 0, POOL) == go_on(served, fresh, 0, POOL)


@pytest.mark.parametrize("reported", [None, 0, 1, 5])
def test_an_open_or_future_step_is_a_conflict(served: Service, name: str, reported: int | None) -> None:
    run = served.create(name, **SPEC)
    newest = -1
    if reported is not None:
        report(served, run, reported, 1, 1)
        newest = reported - 1
    before = picture(served, run)
    for step in (newest + 1, newest + 2, newest + 1000):
        answer = served.call("POST", f"{run}/rewind", {"step": step})
        assert answer.status_code == 409
        problem = answer.json()
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert f"step {step}" in problem["detail"]
        assert newest < 0 or f"step {newest}" in problem["detail"], problem
    assert picture(served, run) == before
    assert served.json("GET", run)["generation"] == 0


@pytest.mark.parametrize("body", [{}, {"step": -1}, {"step": "3"}, {"step": 1.5}, {"step": None}, {"step": 0, "x": 1}])
def test_other_bodies_are_refused(served: Service, name: str, body: dict[str, Any]) -> None:
    run = begun(served, name)
    answer = served.call("POST", f"{run}/rewind", body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == ("/x" if "x" in body else "/step")
    assert served.json("GET", run)["generation"] == 0
    assert served.call("POST", "/v1/runs/never-made/rewind", {"step": 0}).status_code == 404


def test_back_twice_and_not_forward_again(served: Service, name: str) -> None:
    run = begun(served, name)
    pictures = [picture(served, run)]
    for step in (1, 2, 3, 4):
        draw(served, run, step)
        report(served, run, step, step % 3, 4, final=True)
        pictures.append(picture(served, run))
    for generation, step in enumerate((3, 3, 2, 0, 0), start=1):
        assert rewind(served, run, step)["generation"] == generation
        assert picture(served, run) == pictures[step]
        # What was forgotten can't be gone back to.
        assert served.call("POST", f"{run}/rewind", {"step": step + 1}).status_code == 409
    for step in (1, 2):
        draw(served, run, step)
        report(served, run, step, step % 3, 4, final=True)
        assert picture(served, run) == pictures[step], "the same again after all"
    assert rewind(served, run, 1)["generation"] == 6
    assert picture(served, run) == pictures[1]


def test_across_a_billion_steps_that_never_were(served: Service, name: str) -> None:
    run = begun(served, name)
    report(served, run, 1, 1, 4)
    report(served, run, 10**9, 1, 1)
    for step in (10**9 - 1, 5 * 10**8, 2, 1):
        check({"step": step, "exploration": {"easy": 0.51, "hard": 0.49}}, rewind(served, run, step), f"step {step}")


def test_draws_give_the_same_prompts_as_the_first_time(served: Service, name: str) -> None:
    run = begun(served, name)
    walk: dict[int, list[list[str]]] = {}
    for step in range(1, 9):
        # Forty prompts, thirteen a step: epochs end within steps and within draws.
        walk[step] = [draw(served, run, step, count) for count in (7, 6)]
        report(served, run, step, 4, 0)
    assert served.json("GET", run)["epoch"] >= 2
    for back in (6, 3, 0):
        rewind(served, run, back)
        for step in range(back + 1, 8):
            assert [draw(served, run, step, count) for count in (7, 6)] == walk[step]
            report(served, run, step, 4, 0)


def test_the_walk_stays_where_the_completion_found_it(served: Service, name: str) -> None:
    run = served.create(name, **SPEC)
    served.json("PUT", f"{run}/pool", {"prompts": POOL})
    # Drawn ahead of time for step 2, in the middle of step 1.
    first, ahead, second = draw(served, run, 1), draw(served, run, 2), draw(served, run, 1)
    report(served, run, 1, 4, 0)
    after = draw(served, run, 2)
    told = rewind(served, run, 1)
    check({"examined": 10, "selected": 10}, told["totals"], "the ten drawn for step 1")
    again = draw(served, run, 2)
    assert again == after
    assert not set(again) & {*first, *second}
    assert len({*first, *ahead, *second, *after}) == 20


def test_questions_about_later_steps_are_forgotten_even_if_asked_before(served: Service, name: str) -> None:
    run = begun(served, name)
    served.json("POST", f"{run}/select", {"step": 1, "prompts": POOL[:3]})
    before = served.json("GET", run)["totals"]
    ahead = served.json("POST", f"{run}/select", {"step": 2, "prompts": POOL})
    served.json("POST", f"{run}/select", {"step": 5, "prompts": POOL})
    report(served, run, 1, 4, 0)
    told = rewind(served, run, 1)
    for count in ("examined", "selected", "skipped", "rollouts_avoided"):
        assert told["totals"][count] == before[count]
    rows = served.json("GET", f"{run}/steps?limit=10")["steps"]
    assert [row["step"] for row in rows] == [0, 1]
    assert rows[1]["examined"] == 3
    again = served.json("POST", f"{run}/select", {"step": 2, "prompts": POOL})
    assert ahead["examined"] == again["examined"] == served.json("GET", f"{run}/steps?after=1")["steps"][0]["examined"]


def test_pool_uploads_and_changes_after_the_completion_are_forgotten(served: Service, name: str) -> None:
    run = begun(served, name)
    served.json("PUT", f"{run}/pool", {"prompts": ["early"]})
    served.json("PATCH", run, {"min_keep_probability": 0.2})
    report(served, run, 1, 4, 0)
    kept = served.json("GET", run)
    served.json("PUT", f"{run}/pool", {"prompts": ["late"]})
    served.json("PATCH", run, {"min_keep_probability": 0.4, "train_batch_size": 2})
    told = rewind(served, run, 1)
    assert anonymous(told) == anonymous(kept)
    assert (told["pool"], told["spec"]["min_keep_probability"]) == (len(POOL) + 1, 0.2)
    assert served.call("GET", f"{run}/prompts/late").status_code == 404
    assert served.json("PUT", f"{run}/pool", {"prompts": ["late", "early"]}) == {"added": 1, "pool": len(POOL) + 2}
    # The train batch is four again.
    assert report(served, run, 2, 3, 0)["step"]["complete"] is False


def test_prompts_of_later_steps_are_unknown_again(served: Service, name: str) -> None:
    run = begun(served, name)
    served.json("POST", f"{run}/report", {"step": 1, "results": [{"prompt": "guest", "rewards": [0, 0]}]})
    rewind(served, run, 0)
    assert served.call("GET", f"{run}/prompts/guest").status_code == 404
    asked = served.json("POST", f"{run}/select", {"step": 1, "prompts": ["guest"], "explain": True})
    assert asked["decisions"][0]["reason"] == "new"


@pytest.mark.slow
def test_a_rewound_run_survives_kills_and_restarts(private: Callable[..., Service]) -> None:
    service = private("--snapshot-every", "4")
    run = begun(service, "again")
    for step in (1, 2, 3, 4):
        draw(service, run, step)
        report(service, run, step, 2, 3, final=True)
    rewind(service, run, 2)
    report(service, run, 3, 1, 1)
    shown = picture(service, run)
    for end in (service.kill, service.stop):
        end()
        service.start()
        assert picture(service, run) == shown
        assert service.json("GET", run)["generation"] == 1
        assert service.call("POST", f"{run}/rewind", {"step": 3}).status_code == 409
    told = rewind(service, run, 1)
    assert (told["generation"], told["step"]) == (2, 1)
