"""How draws are divided among domains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import EVEN

from greso_service.core import quotas
from greso_service.core.controller import Progress
from greso_service.core.domains import Domain
from greso_service.core.spec import RunSpec


def spec(**domains: float) -> RunSpec:
    return RunSpec.of({"domains": {name: {"quota": quota} for name, quota in domains.items()}})


@pytest.mark.parametrize(
    ("quota", "pools", "shares"),
    [
        ({"a": 0.25}, [100, 10, 290], [75 / 390, 0.25, 0.75 * 290 / 390]),  # the others share the rest by size
        ({"a": 0.25, "b": 0.75}, [100, 10, 290], [0, 0.25, 0.75]),
        ({"a": 0.2, "b": 0.2}, [0, 10, 10], [0, 0.5, 0.5]),  # nobody is left to take the rest
        ({"a": 1.0}, [100, 10, 290], [0, 1, 0]),
        ({"a": 0.0}, [0, 10, 0], [0, 0, 0]),
        ({"elsewhere": 0.5}, [20, 10, 10], [0.5, 0.25, 0.25]),  # a domain that has no prompts yet
    ],
)
def test_shares(quota: dict[str, float], pools: list[int], shares: list[float]) -> None:
    domains = [Domain(name, Progress(EVEN), pooled) for name, pooled in zip(["", "a", "b"], pools, strict=True)]
    assert quotas.shares(spec(**quota), domains) == pytest.approx(shares)


def test_a_run_without_quotas_is_not_divided() -> None:
    assert not quotas.in_force(RunSpec.of({"domains": {"a": {"target_zero_variance": 0.1}}}))
    assert quotas.in_force(spec(a=0.0))


def divided(count: int, share: list[float], due: list[float] | None = None, room: list[int] | None = None) -> list[int]:
    size = len(share)
    numbers, _ = quotas.divided(count, np.array(share), np.array(due or [0.0] * size), np.array(room or [10**6] * size))
    listed: list[int] = numbers.tolist()
    return listed


def test_what_a_domain_has_not_got_the_others_give() -> None:
    assert divided(100, [0.5, 0.3, 0.2]) == [50, 30, 20]
    assert divided(100, [0.5, 0.3, 0.2], room=[10, 1000, 1000]) == [10, 54, 36]
    assert divided(100, [0.5, 0.5, 0.0], room=[10, 20, 1000]) == [10, 20, 0]
    assert divided(0, [0.5, 0.5]) == [0, 0]


def test_more_than_a_prompt_is_never_due() -> None:
    """Whatever a history says: it would be worked off one by one."""
    for due in (1e15, -1e15):
        numbers = divided(8, [0.5, 0.5], [due, 0.0])
        assert sum(numbers) == 8
        assert max(numbers) <= 5


def test_what_is_due_comes_first() -> None:
    assert divided(1, [0.5, 0.5], [-0.5, 0.5]) == [0, 1]
    assert divided(1, [0.5, 0.5], [0.5, -0.5]) == [1, 0]


@pytest.mark.parametrize("numbers", [[6, 6], [9, 3], [1, 0, 11], [5, 4, 3, 2, 1], [0, 0], [40]])
def test_each_beginning_of_a_draw_has_its_mix(numbers: list[int]) -> None:
    of = np.repeat(np.arange(len(numbers)), numbers)
    order = quotas.mixed(numbers)
    assert sorted(order.tolist()) == list(range(sum(numbers)))
    for first in range(1, sum(numbers) + 1):
        there = np.bincount(of[order[:first]], minlength=len(numbers))
        assert (np.abs(there - first * np.array(numbers) / sum(numbers)) <= 1.5).all()


shares = st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any)


@given(shares, st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_shares_are_kept_in_the_long_run(weights: list[int], counts: list[int]) -> None:
    share = np.array(weights) / sum(weights)
    due, given_ = np.zeros(share.size), np.zeros(share.size, np.int64)
    for count in counts:
        numbers, due = quotas.divided(count, share, due, np.full(share.size, 10**6))
        assert numbers.sum() == count
        assert (numbers >= 0).all()
        given_ += numbers
    assert (np.abs(given_ - share * sum(counts)) <= 1 + 1e-6).all()


@given(st.data(), shares)
def test_a_draw_is_full_if_the_domains_with_a_share_have_enough(data: st.DataObject, weights: list[int]) -> None:
    share = np.array(weights) / sum(weights)
    room = np.array(data.draw(st.lists(st.integers(0, 9), min_size=share.size, max_size=share.size)))
    count = data.draw(st.integers(0, 60))
    numbers, due = quotas.divided(count, share, np.zeros(share.size), room)
    assert (numbers <= room).all()
    assert numbers.sum() == min(count, room[share > 0].sum())
    assert not due[share == 0].any()
