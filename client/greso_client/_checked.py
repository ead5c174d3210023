"""What callers give, checked before anything is sent.

What is wrong in a way that JSON can't carry, or that would stay hidden in the spool while the service is away, is
refused here, with the same error and pointer that the service would answer with. Everything else is the service's to
judge.
"""

from __future__ import annotations

import contextlib
import math
import operator
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from greso_client._errors import invalid
from greso_client._types import Group, PoolPrompt, Seconds

# The newest step of all (the contract's limit): JSON's integers end here (2**53 - 1).
MOST_STEP = 9_007_199_254_740_991
# Responses that a pass rate can have been measured on (the contract's limit).
MOST_SAMPLES = 65_535
# Seconds that one report can say (the contract's limit).
MOST_SECONDS = 1e9
# Types of rewards that need no second look.
_NUMBERS = {int, float, bool}
_FLOATS, _LISTS, _TEXTS, _GROUPS = {float}, {list}, {str}, {Group}
_DOMAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WITH_RATE = "name a prompt with its pass rate or domain by PoolPrompt(prompt, pass_rate, domain=...)"


def checked_step(step: int) -> int:
    """The step as an int (numpy's integers too), from 0 to `MOST_STEP`."""
    number = checked_whole(step, "/step", 0)
    if number > MOST_STEP:
        raise invalid("/step", f"{number} must be at most {MOST_STEP}")
    return number


def checked_prompts(prompts: Iterable[str]) -> list[str]:
    """Prompt ids as a list: strings of 1 to 256 UTF-8 bytes."""
    if isinstance(prompts, str):
        raise invalid("/prompts", "one string was given where a list of prompt ids is wanted")
    checked = _listed(prompts, "/prompts", "prompt ids")
    if not _plain_ids(checked):
        for index, prompt in enumerate(checked):
            _check_prompt(prompt, f"/prompts/{index}")
    return checked


def checked_items(prompts: Iterable[str | PoolPrompt]) -> list[str | PoolPrompt]:
    """Prompts for the pool as a list: ids, or ids with a pass rate in [0, 1] (of numpy's kinds, too)."""
    if isinstance(prompts, str | PoolPrompt):
        raise invalid("/prompts", "one prompt was given where a list of them is wanted")
    if isinstance(prompts, Mapping) and any(isinstance(value, int | float) for value in prompts.values()):
        raise invalid("/prompts", f"a mapping was given where a list is wanted; {_WITH_RATE}")
    checked: list[str | PoolPrompt] = []
    for index, item in enumerate(_listed(prompts, "/prompts", "prompts")):
        pointer = f"/prompts/{index}"
        if isinstance(item, PoolPrompt):
            _check_prompt(item.prompt, f"{pointer}/prompt")
            checked.append(_checked_item(item, pointer))
        elif isinstance(item, Mapping):
            raise invalid(pointer, f"a mapping is no prompt; {_WITH_RATE}")
        else:
            _check_prompt(item, pointer)
            checked.append(item)
    return checked


def _checked_item(item: PoolPrompt, pointer: str) -> PoolPrompt:
    domain: Any = item.domain
    if domain is not None and not (isinstance(domain, str) and _DOMAIN.fullmatch(domain)):
        raise invalid(f"{pointer}/domain", f"{domain!r} must match {_DOMAIN.pattern}")
    if item.pass_rate is None:
        if item.samples is not None:
            raise invalid(f"{pointer}/samples", "says nothing without a pass_rate")
        return item
    rate = _number(item.pass_rate, f"{pointer}/pass_rate")
    samples = None if item.samples is None else checked_whole(item.samples, f"{pointer}/samples", 1)
    if not 0 <= rate <= 1:
        raise invalid(f"{pointer}/pass_rate", f"{rate} must be in [0, 1]")
    if samples is not None and samples > MOST_SAMPLES:
        raise invalid(f"{pointer}/samples", f"{samples} must be at most {MOST_SAMPLES}")
    return PoolPrompt(item.prompt, rate, samples, item.domain)


def checked_groups(groups: Iterable[Group]) -> list[Group]:
    """Groups with their rewards as lists of finite floats (from numpy arrays and tensors too)."""
    checked, listed = [], _listed(groups, "/results", "groups")
    if _plain_groups(listed):
        return listed
    for index, group in enumerate(listed):
        try:
            prompt, given = group.prompt, group.rewards
        except AttributeError:
            raise invalid(f"/results/{index}", f"must be a Group(prompt, rewards), not {_kind(group)}") from None
        _check_prompt(prompt, f"/results/{index}/prompt")
        checked.append(Group(prompt, _rewards(given, f"/results/{index}/rewards")))
    return checked


def _plain_groups(groups: list[Any]) -> bool:
    """Whether all are what most are: plain ids with lists of finite floats. Looked at as a whole, many times faster."""
    if not _GROUPS.issuperset(map(type, groups)) or not _plain_ids([group.prompt for group in groups]):
        return False
    rewards = [group.rewards for group in groups]
    if not _LISTS.issuperset(map(type, rewards)):
        return False
    every = list(chain.from_iterable(rewards))
    return _FLOATS.issuperset(map(type, every)) and math.isfinite(sum(every))


def _plain_ids(prompts: list[Any]) -> bool:
    """Whether all are ASCII strings of a good length; if not, they may be good all the same."""
    if not _TEXTS.issuperset(map(type, prompts)) or not "".join(prompts).isascii():
        return False
    lengths = set(map(len, prompts))
    return not lengths or 1 <= min(lengths) <= max(lengths) <= 256


def _rewards(given: Any, pointer: str) -> list[float]:
    """Rewards as finite floats. The usual ones are looked at as a whole, others one by one."""
    rewards = given if type(given) is list else _plain(given, pointer)
    if _NUMBERS.issuperset(map(type, rewards)):
        try:
            floats = list(map(float, rewards))
        except OverflowError:
            floats = [math.inf]
        if math.isfinite(sum(floats)):  # one that is not makes the sum such a one; if they only add up to it, see below
            return floats
    return [_finite(reward, f"{pointer}/{place}") for place, reward in enumerate(rewards)]


def _plain(given: Any, pointer: str) -> list[Any]:
    listed: Any = given.tolist() if hasattr(given, "tolist") else given  # of an array or tensor, all at once
    if isinstance(listed, Mapping):
        raise invalid(pointer, f"must be a list of numbers, not {_kind(given)}")
    return _listed(listed, pointer, "numbers")


def _finite(value: Any, pointer: str) -> float:
    number = float(value) if isinstance(value, bool) else _number(value, pointer)
    if not math.isfinite(number):
        raise invalid(pointer, f"{number} is not a finite number")
    return number


def _listed(values: Any, pointer: str, what: str) -> list[Any]:
    """What can be iterated over as a list; a text is none, although it can."""
    if not isinstance(values, str | bytes | bytearray):
        with contextlib.suppress(TypeError):
            values = iter(values)
        if isinstance(values, Iterator):
            return list(values)
    raise invalid(pointer, f"must be a list of {what}, not {_kind(values)}")


def checked_seconds(seconds: Seconds | None) -> Seconds | None:
    """Seconds as floats from 0 to `MOST_SECONDS`."""
    if seconds is None:
        return None
    if not isinstance(seconds, Seconds):
        raise invalid("/seconds", f"must be Seconds(rollout, update), not {_kind(seconds)}")
    checked = Seconds(_number(seconds.rollout, "/seconds/rollout"), _number(seconds.update, "/seconds/update"))
    for name, value in (("rollout", checked.rollout), ("update", checked.update)):
        if not 0 <= value <= MOST_SECONDS:
            raise invalid(f"/seconds/{name}", f"{value} must be from 0 to {MOST_SECONDS:g}")
    return checked


def _number(value: Any, pointer: str) -> float:
    """A number of any kind (numpy's and tensors' too) as a float; a text or a truth value is none."""
    if not isinstance(value, str | bytes | bytearray | bool):
        try:
            return float(value)
        except OverflowError:
            raise invalid(pointer, "is too large for a finite number") from None
        except (TypeError, ValueError):
            pass
    raise invalid(pointer, f"must be a number, not {_kind(value)}")


def checked_whole(value: Any, pointer: str, least: int) -> int:
    """A whole number of any kind as an int, `least` or more; a truth value is none."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise invalid(pointer, f"must be a whole number, not {_kind(value)}")
    if number < least:
        raise invalid(pointer, f"{number} must be {least} or more")
    return number


def checked_flag(value: Any, pointer: str) -> bool:
    """A truth value (numpy's and tensors' too), and nothing that only counts as one."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) in {"bool", "torch.bool"}:
        return bool(value)
    raise invalid(pointer, f"must be true or false, not {_kind(value)}")


def _kind(value: object) -> str:
    return type(value).__name__


def _check_prompt(prompt: object, pointer: str) -> None:
    if not isinstance(prompt, str):
        raise invalid(pointer, f"a prompt id is a string, not {_kind(prompt)}")
    try:
        size = len(prompt.encode())
    except UnicodeEncodeError as error:
        raise invalid(pointer, "a prompt id must be valid Unicode") from error
    if not 1 <= size <= 256:
        raise invalid(pointer, f"a prompt id has 1 to 256 UTF-8 bytes, not {size}")
