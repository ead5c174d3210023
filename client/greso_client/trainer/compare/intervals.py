"""How sure a figure is that was measured with a few seeds.

Arms are compared in pairs: in one seed both start from the same weights and data, so what the seed alone decides
cancels. A seed gives one ratio (or difference); ratios are averaged as logarithms (2x and 0.5x average to 1x).

The interval is the bootstrap's in the form that is honest for 3 to 5 seeds: the standard error of the mean over
resampled seeds, times sqrt(n / (n - 1)), times Student's t ("t with bootstrap standard error" in Hesterberg, "What
Teachers Should Know About the Bootstrap", arXiv 1411.5279). For a mean that standard error has a closed form,
s / sqrt(n): nothing is left to the luck of resampling, and the interval is the paired t interval of the log-ratios. It
assumes that they are roughly normal over seeds, which five seeds can't check.

The plain percentile bootstrap stands beside it and decides nothing: with 3 seeds it never reaches beyond the lowest and
the highest of the 3, so it misses the truth every fourth time at least; BCa has the same limit.
"""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Student's t, 97.5 % quantiles for 1, 2, ... degrees of freedom (any table; the tests integrate the density).
T_975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
)  # fmt: skip
RESAMPLES = 2_000  # moves an end of the percentile interval by a few hundredths of its width
RESAMPLING_SEED = 20_250_603  # the same data give the same figures


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over `n` seeds and its 95 % interval, None with a single seed.

    `percentile`: the plain percentile bootstrap's interval, too narrow at these n; for comparison only.
    """

    n: int
    mean: float
    interval: tuple[float, float] | None
    percentile: tuple[float, float] | None

    def above(self, value: float) -> bool:
        """Whether the whole interval lies above the value."""
        return self.interval is not None and self.interval[0] > value

    def below(self, value: float) -> bool:
        """Whether the whole interval lies below the value."""
        return self.interval is not None and self.interval[1] < value


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean of one value a seed and its 95 % interval. Raises ValueError without a value, or with NaN."""
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"finite numbers, at least one, are needed: {list(values)}")
    n, mean = len(values), statistics.fmean(values)
    if n == 1:
        return Interval(n, mean, None, None)
    error = statistics.stdev(values) / math.sqrt(n)
    reach = T_975[min(n - 1, len(T_975)) - 1] * error  # beyond the table: its last one, a little wide
    return Interval(n, mean, (mean - reach, mean + reach), _percentile(values))


def ratio_interval(ratios: Sequence[float]) -> Interval:
    """Return the geometric mean of one ratio a seed and its 95 % interval. Raises ValueError if one isn't positive."""
    if min(ratios, default=0) <= 0:
        raise ValueError(f"ratios must be positive, at least one: {list(ratios)}")
    logs = mean_interval([math.log(ratio) for ratio in ratios])
    return Interval(logs.n, math.exp(logs.mean), _exp(logs.interval), _exp(logs.percentile))


def _exp(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    return ends and (math.exp(ends[0]), math.exp(ends[1]))


def _percentile(values: Sequence[float]) -> tuple[float, float]:
    draw = random.Random(RESAMPLING_SEED)  # noqa: S311 - statistics, no secret
    means = sorted(sum(draw.choices(values, k=len(values))) / len(values) for _ in range(RESAMPLES))
    return means[round(0.025 * RESAMPLES)], means[round(0.975 * RESAMPLES) - 1]
