"""The loop that the service is measured against decides by the rule."""

from __future__ import annotations

import pytest
from tests.bench.loop import Loop

NEW, MIXED, HARD, EASY = [("math", number) for number in range(4)]


def loop(base: float, groups: int) -> Loop:
    """With so many groups of each prompt but the new one; the mixed one was hard before."""
    made = Loop(base)
    for _ in range(groups):
        made.report(HARD, [0.0] * 8)
        made.report(EASY, [1.0] * 8)
        made.report(MIXED, [0.0] * 8)
    made.report(MIXED, [0.0] * 4 + [1.0] * 4)
    return made


@pytest.mark.parametrize(("base", "groups", "kept"), [(1.0, 3, 1.0), (0.5, 1, 0.5), (0.5, 2, 0.25), (0.5, 20, 0.01)])
@pytest.mark.parametrize("prompt", [HARD, EASY])
def test_zero_variance_prompts_are_kept_by_their_streak(
    prompt: tuple[str, int], base: float, groups: int, kept: float
) -> None:
    indices, log = loop(base, groups).select([prompt] * 4000)
    assert len(log) == 4000
    assert len(indices) / 4000 == pytest.approx(kept, abs=0.04)


def test_others_are_kept_always() -> None:
    indices, log = loop(0.0, 3).select([NEW, MIXED] * 100)
    assert indices == list(range(200))
    assert log[:2] == [("math_0", 2), ("math_1", 2)]
