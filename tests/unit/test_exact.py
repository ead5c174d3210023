"""exp, logistic and power: right to the last bits, at the extremes too, from exactly rounded operations alone."""

from __future__ import annotations

import ast
import inspect
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from greso_service.core import difficulty, exact, thompson

KINDS: dict[Any, float] = {np.float32: 80.0, np.float64: 700.0}
RNG = np.random.default_rng(7)


def ulps(found: Any, right: Any) -> float:
    """The largest error in units of the last place of the right values (longdouble)."""
    kind = found.dtype.type
    spacing = np.spacing(np.abs(right).astype(kind)).astype(np.longdouble)
    return float((np.abs(found.astype(np.longdouble) - right) / spacing).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("span", [1e-6, 0.35, 1.0, 10.0, 80.0])
def test_exp_is_right_to_two_units_in_the_last_place(kind: Any, span: float) -> None:
    x = RNG.uniform(-span, span, 100_000).astype(kind)
    assert ulps(exact.exp(x), np.exp(x.astype(np.longdouble))) <= 2


def test_exp_of_doubles_over_their_whole_range() -> None:
    x = RNG.uniform(-700, 700, 100_000)
    assert ulps(exact.exp(x), np.exp(x.astype(np.longdouble))) <= 2


@pytest.mark.parametrize("kind", KINDS)
def test_exp_where_the_series_begins_anew(kind: Any) -> None:
    """Halves of ln 2: there the rest is largest and changes its sign."""
    halves = np.arange(-100, 101, dtype=np.longdouble) * (np.log(np.longdouble(2)) / 2)
    near = halves.astype(kind)
    x = np.concatenate([near, np.nextafter(near, kind(np.inf)), np.nextafter(near, kind(-np.inf))])
    assert ulps(exact.exp(x), np.exp(x.astype(np.longdouble))) <= 2


@pytest.mark.parametrize("kind", KINDS)
def test_exp_at_named_places(kind: Any) -> None:
    found = exact.exp(np.array([0.0, -0.0, 1.0, -1.0, 1e-40], kind))
    assert found[:2].tolist() == [1.0, 1.0]
    assert found[4] == 1
    assert found[2:4].tolist() == pytest.approx([math.e, 1 / math.e], rel=2 * float(np.finfo(kind).eps))


@pytest.mark.parametrize("kind", KINDS)
def test_exp_beyond_its_range_is_that_of_the_end(kind: Any) -> None:
    end = KINDS[kind]
    [high, low, at_high, at_low] = exact.exp(np.array([np.inf, -np.inf, end, -end], kind))
    assert (high, low) == (at_high, at_low)
    assert 0 < low < high < np.finfo(kind).max
    huge = np.finfo(kind).max
    assert exact.exp(np.array([huge, -huge], kind)).tolist() == [high, low]


@pytest.mark.parametrize("kind", KINDS)
def test_exp_rises(kind: Any) -> None:
    x = np.sort(RNG.uniform(-KINDS[kind], KINDS[kind], 200_000).astype(kind))
    found = exact.exp(x)
    # Beside a step of one bit the result may fall by one: the error is that large.
    assert (found[1:] >= found[:-1] * (1 - 4 * np.finfo(kind).eps)).all()
    apart = np.arange(-KINDS[kind], KINDS[kind], 1e-3, dtype=kind)
    assert (np.diff(exact.exp(apart)) > 0).all()


@pytest.mark.parametrize("function", [exact.exp, exact.logistic, lambda x: exact.power(x, 3)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (2, 3), (3, 0)])
def test_shapes_and_types_stay_and_the_argument_does(function: Any, kind: Any, shape: tuple[int, ...]) -> None:
    x = RNG.normal(0, 300, shape).astype(kind)
    before = x.copy()
    found = function(x)
    assert found.shape == shape
    assert found.dtype == kind
    assert (x == before).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_does_not_depend_on_its_neighbours(kind: Any) -> None:
    """Vector instructions take what stands together, and the last few alone; the bits are the same."""
    x = RNG.normal(0, 3, 1000).astype(kind)
    x[500] = 1e4  # far outside
    for function in (exact.exp, exact.logistic, lambda x: exact.power(exact.logistic(x), 13)):
        whole = function(x)
        alone = np.concatenate([function(x[at : at + 1]) for at in range(x.size)])
        assert whole.tobytes() == alone.tobytes()
        assert function(x[::-1])[::-1].tobytes() == whole.tobytes(), "nor on how the memory runs"


@pytest.mark.parametrize("kind", KINDS)
def test_logistic(kind: Any) -> None:
    x = np.concatenate([RNG.normal(0, 8, 100_000), [0, 30, -30, 1e9, -1e9, np.inf, -np.inf]]).astype(kind)
    found = exact.logistic(x)
    near = np.abs(x) <= KINDS[kind] - 1
    right = 1 / (1 + np.exp(-x[near].astype(np.longdouble)))
    assert ulps(found[near], right) <= 4
    assert found.min() > 0
    assert found.max() <= 1
    assert exact.logistic(np.zeros(1, kind)) == 0.5
    apart = np.arange(-10, 10, 1e-2, dtype=kind)
    assert (np.diff(exact.logistic(apart)) > 0).all()
    both = exact.logistic(apart) + exact.logistic(-apart)
    assert np.abs(both - 1).max() <= 2 * np.finfo(kind).eps


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 7, 8, 9, 64, 65_535])
def test_power(kind: Any, exponent: int) -> None:
    base = np.concatenate([RNG.uniform(0, 1, 2000), RNG.uniform(0.999, 1, 2000), [0.0, 1.0]]).astype(kind)
    found = exact.power(base, exponent)
    exactly = exponent < 100  # longer fractions take too long
    right = np.array([float(Fraction(float(b)) ** exponent) if exactly else float(b) ** exponent for b in base])
    # Each of at most 2 log2(exponent) products rounds, and what they are made of doubles the errors before.
    assert found.astype(np.float64) == pytest.approx(
        right.astype(np.float64), rel=max(exponent, 1) * float(np.finfo(kind).eps), abs=float(np.finfo(kind).tiny)
    )
    assert ((found >= 0) & (found <= 1)).all()
    assert found[-1] == 1
    assert found[-2] == (exponent == 0)


def test_power_of_small_whole_numbers_is_exact() -> None:
    assert exact.power(np.array([0.0, 1.0, 2.0, 3.0, -2.0]), 9).tolist() == [0.0, 1.0, 512.0, 19683.0, -512.0]


EXACT = {
    "abs", "any", "array", "clip", "concatenate", "dtype", "empty", "max", "maximum", "min", "minimum", "ones_like",
    "rint", "sqrt", "where", "zeros", "add", "divide", "multiply", "subtract", "finfo",
    "float32", "float64", "int32", "int64", "uint64", "signedinteger",
}  # fmt: skip


@pytest.mark.parametrize("module", [exact, difficulty, thompson])
def test_numpy_is_asked_for_exactly_rounded_operations_only(module: Any) -> None:
    tree = ast.parse(inspect.getsource(module))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np"
    }
    assert used <= EXACT, "numpy's transcendental functions and sums round differently with the processor"
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    methods = {function.attr for function in called if isinstance(function, ast.Attribute)}
    assert not methods & {"sum", "mean", "dot", "prod", "cumsum", "std", "var"}
    powers = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)]
    assert all(isinstance(node.left, ast.Constant) for node in powers), "of numbers only"
