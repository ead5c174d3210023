"""Comparing an answer with what the law demands, naming every place where they part."""

from __future__ import annotations

import math
from typing import Any

# Both sides compute in double precision; anything beyond rounding is a difference.
TOLERANCE = 1e-9


class OneOf:
    """A value that the law leaves open, with every reading of it."""

    def __init__(self, *readings: Any) -> None:
        nested = (reading.readings if isinstance(reading, OneOf) else (reading,) for reading in readings)
        self.readings: tuple[Any, ...] = tuple(reading for inner in nested for reading in inner)

    def __repr__(self) -> str:
        return f"one of {list(self.readings)}"


def differences(expected: Any, actual: Any, where: str = "") -> list[str]:
    """Where `actual` is not `expected`; an object may have more members than expected, a list may not."""
    if isinstance(expected, OneOf):
        fits = any(not differences(reading, actual, where) for reading in expected.readings)
        return [] if fits else [f"{where or '/'}: {actual!r} is not {expected!r}"]
    if isinstance(expected, dict):
        if not isinstance(actual, dict):
            return [f"{where or '/'}: {actual!r} is not an object"]
        missing = [f"{where}/{name}: missing" for name in expected if name not in actual]
        there = [name for name in expected if name in actual]
        inside = [differences(expected[name], actual[name], f"{where}/{name}") for name in there]
        return missing + [line for lines in inside for line in lines]
    if isinstance(expected, list):
        if not isinstance(actual, list) or len(actual) != len(expected):
            return [f"{where or '/'}: {actual!r} is not {expected!r}"]
        pairs = enumerate(zip(expected, actual, strict=True))
        return [line for at, (left, right) in pairs for line in differences(left, right, f"{where}/{at}")]
    return [] if same(expected, actual) else [f"{where or '/'}: {actual!r} is not {expected!r}"]


def same(expected: Any, actual: Any) -> bool:
    """Equality of two JSON scalars: numbers to TOLERANCE, integers and booleans exactly."""
    if isinstance(expected, bool) or isinstance(actual, bool) or expected is None or actual is None:
        return expected is actual
    if isinstance(expected, int) and isinstance(actual, int):
        return expected == actual
    if isinstance(expected, (int, float)) and isinstance(actual, (int, float)):
        return math.isclose(expected, actual, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(expected == actual)


def check(expected: Any, actual: Any, what: str) -> None:
    """Fail with every difference when `actual` is not what the law demands."""
    found = differences(expected, actual)
    assert not found, f"{what}:\n  " + "\n  ".join(found)
