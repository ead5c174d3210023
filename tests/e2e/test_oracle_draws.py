"""The uniform numbers behind the decisions: their distribution, what they depend on, and what limits do with them.

`min_keep_probability` is a tunable, so the keep probability of prompts with a long streak can be set to any value, and
asking the same question at many values brackets each prompt's number.
"""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from .oracle.book import DrawBook

if TYPE_CHECKING:
    from collections.abc import Callable

    from .oracle.service import Service

SIGMAS = 5.0
# 0.5 ** 12 is below every keep probability that these tests set.
LONG = 12


def train(service: Service, run: str, prompts: dict[str, int], rewards: dict[str, list[int]] | None = None) -> None:
    """Give each prompt its streak, within one step that stays open."""
    results = [
        {"prompt": prompt, "rewards": (rewards or {}).get(prompt, [0, 0])}
        for prompt, streak in prompts.items()
        for _ in range(streak)
    ]
    service.json("POST", f"{run}/report", {"step": 0, "results": results})


def kept(service: Service, run: str, step: int, prompts: list[str], **options: Any) -> set[str]:
    """The prompts that are kept of these candidates."""
    answer = service.json("POST", f"{run}/select", {"step": step, "prompts": prompts, **options})
    return {prompts[at] for at in answer["selected"]}


def within(hits: int, trials: int, probability: float, what: str) -> None:
    """A binomial count lies within SIGMAS of its mean."""
    deviation = math.sqrt(trials * probability * (1 - probability))
    gap = abs(hits - trials * probability)
    assert gap <= SIGMAS * deviation, (
        f"{what}: {hits} of {trials}, expected {trials * probability:.0f} ± {deviation:.1f}"
    )


def test_keep_frequencies_match_the_keep_probabilities(served: Service, name: str) -> None:
    run = served.create(name, seed=17)
    streaks = {f"p/{at}": 1 + at % 4 for at in range(1600)}
    easy = {prompt: [1, 1] for at, prompt in enumerate(streaks) if at % 3 == 0}
    train(served, run, streaks, easy)
    prompts, steps = list(streaks), range(1, 26)
    counts: dict[tuple[str, int], list[int]] = {}
    for step in steps:
        chosen = kept(served, run, step, prompts)
        for prompt, streak in streaks.items():
            count = counts.setdefault(("easy" if prompt in easy else "hard", streak), [0, 0])
            count[0] += prompt in chosen
            count[1] += 1
    for (kind, streak), (hits, trials) in counts.items():
        within(hits, trials, 0.5**streak, f"{kind} prompts with streak {streak}")
    assert len(counts) == 8


def test_draws_of_other_steps_prompts_and_seeds_are_independent(served: Service, name: str) -> None:
    prompts = [f"p/{at}" for at in range(2000)]
    runs = [served.create(f"{name}-{seed}", seed=seed) for seed in (1, 2)]
    for run in runs:
        train(served, run, dict.fromkeys(prompts, 1))
    sets = [kept(served, run, step, prompts) for run in runs for step in (1, 2, 3, 1000000)]
    for at, one in enumerate(sets):
        within(len(one), len(prompts), 0.5, f"question {at}")
        for other in sets[:at]:
            within(len(one & other), len(prompts), 0.25, f"two questions, {at} the later")
        # Neighbours in the list, whose ids differ in one character, have nothing in common either.
        pairs = sum(left in one and right in one for left, right in zip(prompts[::2], prompts[1::2], strict=True))
        within(pairs, len(prompts) // 2, 0.25, f"neighbours in question {at}")


def test_a_decision_depends_on_seed_step_and_prompt_alone(served: Service, name: str) -> None:
    prompts = [f"p/{at}" for at in range(600)]
    one, other = served.create(f"{name}-a", seed=5), served.create(f"{name}-b", seed=5)
    train(served, one, dict.fromkeys(prompts, 1))
    # The same prompts in another order, among others, in a run that is otherwise different.
    shuffled = Random(3).sample(prompts, len(prompts))
    train(served, other, dict.fromkeys([*(f"other/{at}" for at in range(50)), *shuffled], 1))
    for step in (1, 7):
        whole = kept(served, one, step, prompts)
        assert kept(served, one, step, prompts) == whole, "asked again"
        assert kept(served, one, step, shuffled) == whole, "in another order"
        assert kept(served, other, step, shuffled) == whole, "in another run with the same seed"
        parts = [kept(served, one, step, prompts[at : at + 50], explain=True) for at in range(0, 600, 50)]
        assert set().union(*parts) == whole, "in smaller batches"
        assert kept(served, one, step, [prompts[0], prompts[1], prompts[0]]) == whole & {prompts[0], prompts[1]}


def test_a_longer_streak_never_revives_a_skipped_prompt(served: Service, name: str) -> None:
    prompts = [f"p/{at}" for at in range(500)]
    runs = {streak: served.create(f"{name}-{streak}", seed=9) for streak in (1, 2, 3)}
    for streak, run in runs.items():
        train(served, run, dict.fromkeys(prompts, streak))
    nested = [kept(served, runs[streak], 4, prompts) for streak in (3, 2, 1)]
    assert nested[0] < nested[1] < nested[2]


def bracket(service: Service, run: str, step: int, odds: dict[str, float], book: DrawBook, cells: int) -> None:
    """Ask at floors of 1/cells, 2/cells, ...: each prompt's number above its own odds is then known to 1/cells."""
    prompts = list(odds)
    for cell in range(1, cells):
        floor = cell / cells
        service.json("PATCH", run, {"min_keep_probability": floor})
        chosen = kept(service, run, step, prompts)
        for prompt, least in odds.items():
            note = book.kept if prompt in chosen else book.skipped
            note((0, step, prompt), max(least, floor))


def test_draws_are_uniform(served: Service, name: str) -> None:
    prompts, cells, book = [f"p/{at}" for at in range(1000)], 32, DrawBook()
    run = served.create(name, seed=23)
    train(served, run, dict.fromkeys(prompts, LONG))
    bracket(served, run, 3, dict.fromkeys(prompts, 0.5**LONG), book, cells)
    counts = [0] * cells
    for prompt in prompts:
        low, high = book.bounds((0, 3, prompt))
        assert high - low == pytest.approx(1 / cells)
        counts[round(low * cells)] += 1
    expected = len(prompts) / cells
    chi2 = sum((count - expected) ** 2 / expected for count in counts)
    # Mean cells - 1 and variance 2 (cells - 1).
    assert abs(chi2 - (cells - 1)) <= SIGMAS * math.sqrt(2 * (cells - 1)), counts


def test_at_least_fills_up_with_those_that_came_closest(served: Service, name: str) -> None:
    prompts, book = [f"p/{at}" for at in range(120)], DrawBook()
    run = served.create(name, seed=31)
    # Keep probabilities of 1/2, 1/4, 1/8 and less: the closest is not the one with the smallest draw.
    streaks = {prompt: 1 + at % 5 for at, prompt in enumerate(prompts)}
    train(served, run, streaks)
    odds = {prompt: 0.5**streak for prompt, streak in streaks.items()}
    bracket(served, run, 6, odds, book, 48)
    served.json("PATCH", run, {"min_keep_probability": 0.01})
    ratios = {p: tuple(bound / odds[p] for bound in book.bounds((0, 6, p))) for p in prompts}
    base = kept(served, run, 6, prompts)
    before = base
    for at_least in [0, len(base), *range(len(base) + 1, 121, 7), 120, 500]:
        answer = served.json(
            "POST", f"{run}/select", {"step": 6, "prompts": prompts, "at_least": at_least, "explain": True}
        )
        chosen = {prompts[at] for at in answer["selected"]}
        assert len(chosen) == max(len(base), min(at_least, len(prompts)))
        assert before <= chosen, "a greater at_least takes nobody out"
        filled = {p for p, d in zip(prompts, answer["decisions"], strict=True) if d["reason"] == "fill"}
        assert filled == chosen - base
        assert answer["selected"] == sorted(answer["selected"])
        assert answer["skipped"]["hard"] == len(prompts) - len(chosen)
        left = set(prompts) - chosen
        for inside in filled:
            for outside in left:
                assert ratios[inside][0] <= ratios[outside][1] + 1e-12, (inside, outside, at_least)
        before = chosen


def test_limit_judges_in_order_until_enough_are_kept(served: Service, name: str) -> None:
    prompts = [f"p/{at}" for at in range(200)]
    run = served.create(name, seed=2)
    train(served, run, dict.fromkeys(prompts, 1))
    whole = served.json("POST", f"{run}/select", {"step": 1, "prompts": prompts})["selected"]
    for limit in [1, 2, 17, len(whole) - 1, len(whole), len(whole) + 1, 200, 5000]:
        answer = served.json("POST", f"{run}/select", {"step": 1, "prompts": prompts, "limit": limit, "explain": True})
        assert answer["selected"] == whole[:limit]
        examined = whole[limit - 1] + 1 if limit <= len(whole) else len(prompts)
        assert answer["examined"] == len(answer["decisions"]) == examined
        assert answer["skipped"] == {"easy": 0, "hard": examined - len(answer["selected"])}
        # The rest, offered again, continues where the first answer stopped.
        rest = served.json("POST", f"{run}/select", {"step": 1, "prompts": prompts[examined:]})["selected"]
        assert answer["selected"] + [examined + at for at in rest] == whole


def test_the_same_question_has_the_same_answer_after_a_restart(private: Callable[..., Service]) -> None:
    service = private()
    prompts = [f"p/{at}" for at in range(300)]
    run = service.create("again", seed=77)
    train(service, run, {prompt: at % 4 for at, prompt in enumerate(prompts)})
    body = {"step": 5, "prompts": prompts, "limit": 150, "at_least": 10, "explain": True}
    first = service.json("POST", f"{run}/select", body)
    state = service.json("GET", run)
    service.kill()
    service.start()
    assert service.json("GET", run) == state
    assert service.json("POST", f"{run}/select", body) == first
    assert service.stop() == 0
    service.start()
    assert service.json("POST", f"{run}/select", body) == first
