"""Draws are uniform, and a matter of seed, step and id alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service.core.draws import Ids, uniforms

from ..folding import report, run, select  # noqa: TID252

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
FORMS = {
    "short numbers": lambda number: f"{number}",
    "padded": lambda number: f"{number:020d}",
    "path": lambda number: f"dataset/split-{number % 7}/{number}",
    "long": lambda number: "x" * 200 + str(number),
    "one character": lambda number: chr(0x4E00 + number),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("seed", "step"), [(0, 0), (1, 0), (0, 1), (2**63 - 1, 10_000)])
def test_draws_are_uniform(form: str, seed: int, step: int) -> None:
    count, cells = 20_000, 100
    draws = uniforms(Ids.of([FORMS[form](number) for number in range(count)]).hashes, seed, step)
    assert draws.min() >= 0
    assert draws.max() < 1
    observed = np.histogram(draws, cells, (0, 1))[0]
    chi_square = float(((observed - count / cells) ** 2 / (count / cells)).sum())
    assert abs(chi_square - (cells - 1)) < 5 * math.sqrt(2 * (cells - 1))
    assert abs(draws.mean() - 0.5) < 5 / math.sqrt(12 * count)


@pytest.mark.parametrize("z", [1, 2, 4, 8])
def test_candidates_are_kept_as_often_as_their_keep_probability_says(z: int) -> None:
    count = 20_000
    state = run(train_batch_size=10**6)
    prompts = [f"p{number}" for number in range(count)]
    for _ in range(z):
        report(state, 0, [(prompt, [0, 0]) for prompt in prompts])
    keep = max(0.5**z, 0.01)
    kept = len(select(state, 1, prompts)["selected"])
    assert abs(kept - keep * count) < 5 * math.sqrt(count * keep * (1 - keep))


@given(st.lists(ids, min_size=1, max_size=30), st.integers(0, 2**63 - 1), st.integers(0, 2**53 - 1), st.randoms())
def test_a_draw_does_not_depend_on_the_other_candidates(
    prompts: list[str], seed: int, step: int, choose: np.random.Generator
) -> None:
    draws = dict(zip(prompts, uniforms(Ids.of(prompts).hashes, seed, step).tolist(), strict=True))
    shuffled = list(prompts)
    choose.shuffle(shuffled)
    part = shuffled[: len(shuffled) // 2 + 1]
    assert uniforms(Ids.of(part).hashes, seed, step).tolist() == [draws[prompt] for prompt in part]
    for prompt in part[:3]:
        assert uniforms(Ids.of([prompt]).hashes, seed, step).tolist() == [draws[prompt]]


@given(st.permutations([f"p{number}" for number in range(40)]), st.integers(0, 100))
def test_a_select_keeps_the_same_prompts_in_any_order(order: list[str], step: int) -> None:
    state = run(seed=11, train_batch_size=1000)
    report(state, 0, [(f"p{number}", [0, 0] if number % 2 else [1, 1]) for number in range(30)] * 2)
    kept = {order[place] for place in select(state, step, order)["selected"]}
    in_order = sorted(order)
    assert kept == {in_order[place] for place in select(state, step, in_order)["selected"]}
