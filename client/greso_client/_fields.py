"""Fields of an answer, each of the kind that the contract says: what anything else on that port may send stops here."""

from __future__ import annotations

import itertools
import math
import operator
from typing import Any

Json = dict[str, Any]


def whole(body: Json, name: str) -> int:
    """A whole number. As the others, raises KeyError without the field, TypeError when it is of another kind."""
    value = body[name]
    if type(value) is not int:
        raise _wrong(name, value, "a whole number")
    return value


def number(body: Json, name: str) -> float:
    """A finite number."""
    value = body[name]
    if type(value) not in {int, float} or not math.isfinite(value):
        raise _wrong(name, value, "a finite number")
    return float(value)


def number_or_none(body: Json, name: str) -> float | None:
    """A finite number, or null."""
    return None if body[name] is None else number(body, name)


def text(body: Json, name: str) -> str:
    """A string."""
    value = body[name]
    if not isinstance(value, str):
        raise _wrong(name, value, "a text")
    return value


def flag(body: Json, name: str) -> bool:
    """A truth value."""
    value = body[name]
    if not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    return value


def inner(body: Json, name: str) -> Json:
    """An object."""
    value = body[name]
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object")
    return value


def rows(body: Json, name: str) -> list[Json]:
    """A list of objects."""
    value = body[name]
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise _wrong(name, value, "a list of objects")
    return value


def texts(body: Json, name: str) -> list[str]:
    """A list of strings."""
    value = body[name]
    if not isinstance(value, list) or not {str}.issuperset(map(type, value)):
        raise _wrong(name, value, "a list of texts")
    return value


def indices(body: Json, name: str) -> list[int]:
    """A list of indices, ascending from 0 or more, each once."""
    value = body[name]
    if not isinstance(value, list) or not {int}.issuperset(map(type, value)):
        raise _wrong(name, value, "a list of whole numbers")
    if value and (value[0] < 0 or not all(map(operator.lt, value, itertools.islice(value, 1, None)))):
        raise ValueError(f"{name} are not ascending indices")
    return value


def _wrong(name: str, value: object, wanted: str) -> TypeError:
    return TypeError(f"{name} is {value!r:.40}, not {wanted}")
