"""What the service shows of a run, told from the model.

The contract names what each view holds and, for some members, not their exact spelling: those are looked up under the
few spellings that the contract's own words allow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .compare import OneOf, check, differences
from .service import segment

if TYPE_CHECKING:
    from .model import Run
    from .records import Group, Prompt
    from .service import Service


def member(row: dict[str, Any], *spellings: str) -> Any:
    """The member of a row under the first spelling it has; a dotted spelling goes down."""
    for spelling in spellings:
        found: Any = row
        for name in spelling.split("."):
            found = found[name] if isinstance(found, dict) and name in found else _ABSENT
        if found is not _ABSENT:
            return found
    raise AssertionError(f"none of {spellings} in {row}")


_ABSENT: Any = object()


def rows(page: Any, name: str) -> list[dict[str, Any]]:
    """The rows of a listing."""
    listed = page[name]
    assert isinstance(listed, list)
    return listed


def next_cursor(page: Any) -> str | None:
    """The cursor for the following page; None on the last."""
    cursor = next((page[name] for name in ("next_cursor", "cursor", "next") if name in page), None)
    assert cursor is None or isinstance(cursor, str)
    return cursor


def all_pages(service: Service, path: str, name: str, **query: Any) -> list[dict[str, Any]]:
    """Every row of a listing, page after page."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        answer = service.http.get(path, params=query | ({} if cursor is None else {"cursor": cursor}))
        assert answer.status_code == 200, answer.text
        found += rows(answer.json(), name)
        cursor = next_cursor(answer.json())
        if cursor is None:
            return found


def expected_state(model: Run) -> dict[str, Any]:
    """`GET /v1/runs/{run}` as the law has it."""
    totals = model.totals
    judged = totals.effective + totals.easy + totals.hard
    sure, possible = model.seen() | model.pool.keys(), model.mentioned | model.pool.keys()
    state: dict[str, Any] = {
        "generation": model.generation,
        "exploration": model.exploration(),
        "prompts": OneOf(*range(len(sure), len(possible) + 1)),
        "pool": len(model.pool),
        # Tuples are lists in JSON; a seed that was not given is the service's choice.
        "spec": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(model.spec).items()
            if name != "seed" or value is not None
        },
        "totals": {
            "examined": totals.examined,
            "selected": totals.selected,
            "skipped": {"easy": totals.skipped_easy, "hard": totals.skipped_hard},
            "groups": OneOf(judged, judged + totals.undetermined),
            "effective": totals.effective,
            "zero_variance": {"easy": totals.easy, "hard": totals.hard},
            "undetermined": totals.undetermined,
            "rollouts": totals.rollouts,
            "rollouts_avoided": (totals.skipped_easy + totals.skipped_hard) * model.spec.group_size,
        },
    }
    if model.newest is not None and (model.newest_asked is None or model.newest_asked <= model.newest):
        state["step"] = model.newest
    return state


def check_state(service: Service, path: str, model: Run) -> None:
    """The run's state is the model's."""
    check(expected_state(model), service.json("GET", path), f"GET {path}")


def check_steps(service: Service, path: str, model: Run) -> None:
    """Every reported step has its row, every row is right, ascending."""
    page = service.json("GET", f"{path}/steps?limit=1000")
    listed = rows(page, "steps")
    numbers = [member(row, "step", "number") for row in listed]
    assert numbers == sorted(set(numbers)), f"steps are not ascending: {numbers}"
    assert max(numbers, default=0) <= max(model.steps, default=0), f"rows of steps that are no more: {numbers}"
    reported = {number for number, step in model.steps.items() if step.reported}
    assert reported <= set(numbers), f"no row for steps {sorted(reported - set(numbers))}"
    for number, row in zip(numbers, listed, strict=True):
        probabilities = _plain_step(row)["exploration"]
        assert all(0 < p < 1 for p in probabilities), f"p_easy, p_hard of step {number} were never {probabilities}"
        if number in model.steps:
            check(_expected_step(model, number), _plain_step(row), f"GET {path}/steps, step {number}")


def _expected_step(model: Run, number: int) -> dict[str, Any]:
    step = model.steps[number]
    row: dict[str, Any] = {
        "groups": step.groups,
        "effective": step.effective,
        "easy": step.easy,
        "hard": step.hard,
        "rollouts": step.rollouts,
        "complete": step.complete,
    }
    if not step.asked_after_completion:
        row |= {
            "examined": step.examined,
            "selected": step.selected,
            "skipped_easy": step.skipped_easy,
            "skipped_hard": step.skipped_hard,
        }
    if step.reported:
        row["rounds"] = OneOf(step.reports, step.reports_with_groups, step.asks)
        now = (model.p_easy, model.p_hard)
        known = [*step.exploration, now] if not step.complete else step.exploration
        if model.spec.policy != "uniform":
            row["exploration"] = OneOf(*([easy, hard] for easy, hard in known))
    return row


def _plain_step(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "groups": row["groups"],
        "effective": row["effective"],
        "easy": member(row, "zero_variance.easy", "zero_variance_easy"),
        "hard": member(row, "zero_variance.hard", "zero_variance_hard"),
        "rollouts": row["rollouts"],
        "complete": row["complete"],
        "examined": row["examined"],
        "selected": row["selected"],
        "skipped_easy": member(row, "skipped.easy", "skipped_easy"),
        "skipped_hard": member(row, "skipped.hard", "skipped_hard"),
        "rounds": row["rounds"],
        "exploration": [member(row, "p_easy", "exploration.easy"), member(row, "p_hard", "exploration.hard")],
    }


def check_prompts(service: Service, path: str, model: Run) -> None:
    """The listing holds each known prompt once, with what the model knows of it."""
    listed = all_pages(service, f"{path}/prompts", "prompts", limit=1000)
    names = [row["prompt"] for row in listed]
    assert len(names) == len(set(names)), f"{path}/prompts lists a prompt twice"
    sure = model.seen() | model.pool.keys()
    assert sure <= set(names), f"{path}/prompts leaves out {sorted(sure - set(names))}"
    assert set(names) <= model.mentioned | model.pool.keys(), f"{path}/prompts makes up prompts"
    for row in listed:
        check(_expected_prompt(model, row["prompt"]), _plain_prompt(row), f"GET {path}/prompts, {row['prompt']!r}")


def check_prompt(service: Service, path: str, model: Run, prompt: str) -> None:
    """One prompt's own page, with its recent groups."""
    page = service.json("GET", f"{path}/prompts/{segment(prompt)}")
    what = f"GET {path}/prompts/{prompt}"
    assert page["prompt"] == prompt
    check(_expected_prompt(model, prompt), _plain_prompt(page), what)
    shown = member(page, "recent_groups", "recent", "history", "groups")
    known = model.prompts[prompt].groups if prompt in model.prompts else []
    told = [_plain_group(group) for group in shown]
    recent = [_expected_group(group) for group in known[len(known) - len(told) :]]
    assert bool(told) == bool(known), f"{what}: {len(told)} of {len(known)} groups shown"
    # Oldest or newest first is the service's choice.
    wrong = differences(recent, told)
    assert not wrong or not differences(recent[::-1], told), f"{what}, recent groups:\n  " + "\n  ".join(wrong)


def _expected_prompt(model: Run, prompt: str) -> dict[str, Any]:
    known = model.prompts.get(prompt)
    row: dict[str, Any] = {
        "streak": model.streak(prompt),
        "kind": model.kind(prompt),
        "keep_probability": model.keep_probability(prompt),
    }
    if known is not None and known.judged:
        row["visits"] = OneOf(len(known.judged), len(known.groups))
        row["mean"] = OneOf(*_means(known))
        row["last_step"] = OneOf(*_last_steps(known))
    return row


def _plain_prompt(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "streak": row["streak"],
        "kind": row["kind"],
        "keep_probability": row["keep_probability"],
        "visits": row["visits"],
        "mean": member(row, "mean", "mean_reward"),
        "last_step": row["last_step"],
    }


def _means(known: Prompt) -> list[float]:
    """The latest group's mean, the mean of all rewards, the mean of all groups' means; judged groups or all."""
    readings = []
    for groups in (known.judged, [group for group in known.groups if group.rewards]):
        means = [sum(group.rewards) / len(group.rewards) for group in groups]
        rewards = [reward for group in groups for reward in group.rewards]
        readings += [means[-1], sum(rewards) / len(rewards), sum(means) / len(means)]
    return readings


def _last_steps(known: Prompt) -> list[int]:
    """The step of the latest group to arrive, or the greatest; judged groups or all."""
    return [
        take
        for steps in ([g.step for g in known.judged], [g.step for g in known.groups])
        for take in (steps[-1], max(steps))
    ]


def _expected_group(group: Group) -> dict[str, Any]:
    rewards = group.rewards
    spread = {"mean": sum(rewards) / len(rewards), "min": min(rewards), "max": max(rewards)} if rewards else {}
    return {"step": group.step, "count": len(rewards), "outcome": group.outcome, **spread}


def _plain_group(group: dict[str, Any]) -> dict[str, Any]:
    return {
        "step": group["step"],
        "count": member(group, "count", "rewards"),
        "outcome": group["outcome"],
        "mean": group["mean"],
        "min": group["min"],
        "max": group["max"],
    }
