"""The intervals: that they are what they are said to be, and as wide as a few seeds deserve."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_client.trainer.compare.intervals import T_975, mean_interval, ratio_interval

EXPERIMENTS = 400


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greso_client.trainer.compare.intervals.RESAMPLES", 200)


def t_below(value: float, freedom: int, pieces: int = 4000) -> float:
    """The probability that Student's t is below a positive value, by Simpson's rule over its density."""

    def density(x: float) -> float:
        return float((1 + x * x / freedom) ** (-(freedom + 1) / 2))

    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    width = value / pieces
    inner = sum((4 if i % 2 else 2) * density(i * width) for i in range(1, pieces))
    return 0.5 + scale * width / 3 * (density(0) + inner + density(value))


@pytest.mark.parametrize("freedom", range(1, len(T_975) + 1))
def test_the_table_holds_the_quantiles_of_student_s_t(freedom: int) -> None:
    assert t_below(T_975[freedom - 1], freedom) == pytest.approx(0.975, abs=5e-6)


def misses(n: int, form: str, truth: float = 0.3) -> float:
    """How often the interval of n normal log-ratios around `truth` misses it."""
    draw = random.Random(n)
    missed = 0
    for _ in range(EXPERIMENTS):
        found = ratio_interval([math.exp(draw.gauss(truth, 0.2)) for _ in range(n)])
        low, high = getattr(found, form)
        missed += not low <= math.exp(truth) <= high
    return missed / EXPERIMENTS


@pytest.mark.parametrize("n", [3, 5])
def test_the_interval_misses_the_truth_every_twentieth_time_also_with_few_seeds(n: int) -> None:
    assert misses(n, "interval") == pytest.approx(0.05, abs=0.03)  # 0.03: nearly three standard errors


def test_the_percentile_bootstrap_would_miss_it_every_fourth_time_with_three_seeds() -> None:
    assert misses(3, "percentile") > 0.2


def test_the_standard_error_is_the_bootstrap_s_corrected_for_few_values() -> None:
    values = [0.1, 0.5, 0.3, 0.9, 0.2]
    draw = random.Random(1)
    n = len(values)
    means = [statistics.fmean(draw.choices(values, k=n)) for _ in range(20_000)]
    error = statistics.pstdev(means) * math.sqrt(n / (n - 1))
    found = mean_interval(values)
    assert found.interval is not None
    assert (found.interval[1] - found.mean) / T_975[n - 2] == pytest.approx(error, rel=0.02)


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=6))
def test_a_ratio_and_its_inverse_say_the_same(ratios: list[float]) -> None:
    one, other = ratio_interval(ratios), ratio_interval([1 / ratio for ratio in ratios])
    assert one.interval is not None
    assert other.interval is not None
    assert one.mean == pytest.approx(1 / other.mean)
    assert one.interval == pytest.approx((1 / other.interval[1], 1 / other.interval[0]))
    assert one.interval[0] <= one.mean * (1 + 1e-12)
    assert one.interval[1] >= one.mean * (1 - 1e-12)


def test_twice_and_half_average_to_one() -> None:
    assert ratio_interval([2, 0.5]).mean == pytest.approx(1)


def test_one_seed_has_no_interval_and_so_shows_nothing() -> None:
    found = ratio_interval([5.0])
    assert found.mean == pytest.approx(5)
    assert [found.interval, found.percentile] == [None, None]
    assert not found.above(1)
    assert not found.below(1)


def test_an_interval_that_touches_a_value_is_neither_above_nor_below_it() -> None:
    found = ratio_interval([1.0, 1.0, 1.0])
    assert found.interval == pytest.approx((1, 1))
    assert not found.above(1)
    assert not found.below(1)


def test_the_same_values_give_the_same_interval() -> None:
    assert ratio_interval([1.2, 1.4, 1.1]) == ratio_interval([1.2, 1.4, 1.1])


def test_more_seeds_than_the_table_has_take_its_last_quantile() -> None:
    values = [float(i % 2) for i in range(30)]
    found = mean_interval(values)
    assert found.interval is not None
    reach = T_975[-1] * statistics.stdev(values) / math.sqrt(30)
    assert found.interval[1] - found.mean == pytest.approx(reach)


@pytest.mark.parametrize("ratios", [[], [0.0], [1.0, -1.0], [math.nan], [math.inf]])
def test_what_is_no_ratio_is_refused(ratios: list[float]) -> None:
    with pytest.raises(ValueError, match=r"needed|positive"):
        ratio_interval(ratios)
