"""Elementary functions that give the same bits on every processor.

numpy's own `exp` and `power` take the widest instructions that a processor has and round differently with each. What
a state is folded with must not, so these are made of additions, multiplications and divisions, which IEEE 754 fixes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", np.float32, np.float64)

_LOG2_E: Final = 1.4426950408889634
_LN2_HIGH: Final = 0.693145751953125  # 15 bits, so that its product with a small whole number is exact in float32, too
_LN2_LOW: Final = 1.4286068203094173e-06


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a float type is handled. `series`: exp's on +-ln 2 / 2, the coefficients of its highest powers first; that of
    the next one is below the type's last bit.

    `largest`: arguments beyond are taken for this: far from overflow, and as good as infinite for a probability.
    `bias`, `shift`: of the exponent in the type's bits.
    """

    series: tuple[Any, ...]
    largest: float
    integer: type[np.signedinteger[Any]]
    bias: int
    shift: int


def _series(number: Any, terms: int) -> tuple[Any, ...]:
    return tuple(number(1 / math.factorial(term)) for term in range(terms, 0, -1))


_KINDS: Final = {
    np.dtype(np.float32): _Kind(_series(np.float32, 7), 80.0, np.int32, 127, 23),
    np.dtype(np.float64): _Kind(_series(np.float64, 13), 700.0, np.int64, 1023, 52),
}


def exp(x: NDArray[F]) -> NDArray[F]:
    """e ** x, right to the last bit or two; an x beyond +-80 (float32) or +-700 (float64) counts as that."""
    number: Any = x.dtype.type
    kind = _KINDS[x.dtype]
    if x.size and (x.min() < -kind.largest or x.max() > kind.largest):  # rare, and dearer than to look
        x = np.clip(x, number(-kind.largest), number(kind.largest))
    # In place from here on: fresh memory costs more than the arithmetic.
    twos: Any = x * number(_LOG2_E)
    np.rint(twos, out=twos)
    rest: Any = twos * number(_LN2_HIGH)
    np.subtract(x, rest, out=rest)
    series: Any = twos * number(_LN2_LOW)
    rest -= series
    highest, *lower = kind.series
    np.multiply(rest, highest, out=series)
    for coefficient in lower:
        series += coefficient
        series *= rest
    series += number(1)
    exponent = twos.astype(kind.integer)
    exponent += kind.integer(kind.bias)
    exponent <<= kind.integer(kind.shift)
    series *= exponent.view(x.dtype)
    result: NDArray[F] = series
    return result


def logistic(x: NDArray[F]) -> NDArray[F]:
    """1 / (1 + e ** -x)."""
    return 1 / (1 + exp(-x))  # type: ignore[return-value]  # numpy's stubs widen


def powers(base: NDArray[F], exponent: NDArray[Any]) -> NDArray[F]:
    """base ** exponent, element by element, for whole exponents from 0 on, by repeated squaring.

    If all are 1 it is `base` itself.
    """
    most = int(exponent.max(initial=0))
    if most == exponent.min(initial=most):  # as the sizes of groups mostly are
        return power(base, most)
    result = np.ones_like(base)
    for bit in range(most.bit_length()):
        result = np.where(exponent >> bit & 1, result * base, result)
        base = base * base
    return result


def power(base: NDArray[F], exponent: int) -> NDArray[F]:
    """base ** exponent, for a whole exponent from 0 on, by repeated squaring; for 1 it is `base` itself."""
    result: NDArray[F] | None = None
    shared = True  # `base` is the caller's, or the result
    while exponent:
        if exponent & 1:
            result, shared = (base, True) if result is None else (result * base, shared)
        exponent >>= 1
        if exponent:
            base = np.multiply(base, base, out=None if shared else base)
            shared = False
    return np.ones_like(base) if result is None else result
