"""Requests of the v1 contract, built and checked without any I/O.

What is wrong in a way that JSON can't carry, or that would stay hidden in the spool while the service is away, is
refused here, with the same error and pointer that the service would answer with. Everything else is the service's to
judge.
"""

from __future__ import annotations

import dataclasses
import json
import math
import operator
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from greso_client._errors import SettingsError, invalid
from greso_client._types import Group, PoolPrompt, Seconds

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

# A pool upload is cut into parts that stay far below the contract's limits (32 MiB, 1,000,000 prompts) and that the
# service takes within one call's time budget.
POOL_PART = 50_000
# Responses that a pass rate can have been measured on (the contract's limit).
MOST_SAMPLES = 65_535
# Seconds that one report can say (the contract's limit).
MOST_SECONDS = 1e9
_DOMAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WITH_RATE = "name a prompt with its pass rate or domain by PoolPrompt(prompt, pass_rate, domain=...)"


@dataclass(frozen=True, slots=True)
class Request:
    """One request, the same on each attempt but for `news`. `key`: its idempotency key, on every POST. `generation`: of
    the run, as whoever writes believes it to be (the fencing token); None where it isn't known or nothing is written.
    `news`: what this attempt tells the service of the client (`Greso-Client`), most often nothing. `unsure`: a report
    with seconds that may have been counted without an answer, so that it must not come under another key.
    """

    method: str
    path: str
    body: bytes | None = None
    content_type: str = "application/json"
    key: str | None = None
    generation: int | None = None
    news: str = ""
    unsure: bool = False


def _post(path: str, body: Mapping[str, Any]) -> Request:
    return Request("POST", path, _json(body), key=uuid.uuid4().hex)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


class RunRequests:
    """Every request about one run."""

    def __init__(self, run: str) -> None:
        if not RUN_NAME.fullmatch(run):
            raise SettingsError(
                f"run {run!r} must match {RUN_NAME.pattern}: letters, digits, '.', '_' and '-', at most 128"
            )
        self.path = f"/v1/runs/{run}"

    def create(self, spec: Mapping[str, Any]) -> Request:
        """PUT the run."""
        return Request("PUT", self.path, _spec(spec))

    def update(self, changes: Mapping[str, Any]) -> Request:
        """PATCH its tunables."""
        return Request("PATCH", self.path, _spec(changes))

    def state(self) -> Request:
        """GET spec and state."""
        return Request("GET", self.path)

    def delete(self) -> Request:
        """DELETE the run."""
        return Request("DELETE", self.path)

    def rewind(self, step: int) -> Request:
        """POST the step to go back to."""
        return _post(f"{self.path}/rewind", {"step": step})

    def fork(self, run: str, step: int | None) -> Request:
        """POST for a new run that begins at the end of a step."""
        return _post(f"{self.path}/fork", {"run": run} if step is None else {"run": run, "step": step})

    def pool(self, prompts: Sequence[str | PoolPrompt]) -> Iterator[Request]:
        """PUT prompts into the pool: NDJSON, in parts."""
        for start in range(0, max(len(prompts), 1), POOL_PART):
            lines = "".join(json.dumps(_item(prompt)) + "\n" for prompt in prompts[start : start + POOL_PART])
            yield Request("PUT", f"{self.path}/pool", lines.encode(), "application/x-ndjson")

    def pool_from(self, run: str, prompts: Sequence[str | PoolPrompt] | None) -> Iterator[Request]:
        """PUT prompts, or all that another run has, into the pool with what that run knows of them: JSON, in parts."""
        if not RUN_NAME.fullmatch(run):
            raise invalid("/from_run", f"{run!r} must match {RUN_NAME.pattern}")
        if prompts is None:
            yield Request("PUT", f"{self.path}/pool", _json({"from_run": run}))
            return
        for start in range(0, max(len(prompts), 1), POOL_PART):
            items = [_item(prompt) for prompt in prompts[start : start + POOL_PART]]
            yield Request("PUT", f"{self.path}/pool", _json({"from_run": run, "prompts": items}))

    def select(self, step: int, prompts: Sequence[str], limit: int | None, at_least: int, explain: bool) -> Request:
        """POST the candidates of a step."""
        body: dict[str, Any] = {"step": step, "prompts": prompts}
        if limit is not None:
            body["limit"] = limit
        if at_least:
            body["at_least"] = at_least
        if explain:
            body["explain"] = True
        return _post(f"{self.path}/select", body)

    def draw(self, step: int, count: int | None) -> Request:
        """POST for prompts from the pool."""
        return _post(f"{self.path}/draw", {"step": step} if count is None else {"step": step, "count": count})

    def report(self, step: int, groups: Sequence[Group], final: bool, seconds: Seconds | None = None) -> Request:
        """POST what groups earned; `groups` as `checked_groups` gives them, `seconds` as `checked_seconds`."""
        results = [{"prompt": group.prompt, "rewards": group.rewards} for group in groups]
        body: dict[str, Any] = {"step": step, "results": results}
        if final:
            body["final"] = True
        if seconds is not None:
            body["seconds"] = {"rollout": seconds.rollout, "update": seconds.update}
        return _post(f"{self.path}/report", body)

    def steps(self, after: int | None, limit: int | None, domain: str | None = None) -> Request:
        """GET the recorded steps."""
        query = {"after": after, "limit": limit, "domain": domain}
        text = urlencode({name: value for name, value in query.items() if value is not None})
        return Request("GET", f"{self.path}/steps" + (f"?{text}" if text else ""))

    def prompt(self, prompt: str) -> Request:
        """GET one prompt."""
        # A path segment of dots would be taken for "here" or "up", so it is escaped although its characters are
        # harmless.
        name = prompt.replace(".", "%2E") if prompt in {".", ".."} else quote(prompt, safe="")
        return Request("GET", f"{self.path}/prompts/{name}")


def _item(prompt: str | PoolPrompt) -> str | dict[str, Any]:
    if isinstance(prompt, str):
        return prompt
    fields: dict[str, Any] = {"prompt": prompt.prompt, "pass_rate": prompt.pass_rate, "samples": prompt.samples}
    fields["domain"] = prompt.domain
    return {name: value for name, value in fields.items() if value is not None}


def _spec(fields: Mapping[str, Any]) -> bytes:
    try:
        return _json(fields)
    except (TypeError, ValueError) as error:
        raise invalid("", f"the fields of a run must be plain, finite JSON values: {error}") from error


def checked_step(step: int) -> int:
    """The step as an int (numpy's integers too), refused when negative."""
    try:
        number = operator.index(step)
    except TypeError:
        raise invalid("/step", f"{step!r} must be a whole number") from None
    if number < 0:
        raise invalid("/step", f"{number} must be 0 or more")
    return number


def checked_prompts(prompts: Iterable[str]) -> list[str]:
    """Prompt ids as a list: strings of 1 to 256 UTF-8 bytes."""
    if isinstance(prompts, str):
        raise invalid("/prompts", "one string was given where a list of prompt ids is wanted")
    checked = list(prompts)
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
    for index, item in enumerate(prompts):
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
    samples = None if item.samples is None else _whole(item.samples, f"{pointer}/samples")
    if not 0 <= rate <= 1:
        raise invalid(f"{pointer}/pass_rate", f"{rate} must be in [0, 1]")
    if samples is not None and not 1 <= samples <= MOST_SAMPLES:
        raise invalid(f"{pointer}/samples", f"{samples} must be 1 to {MOST_SAMPLES}")
    return PoolPrompt(item.prompt, rate, samples, item.domain)


def checked_groups(groups: Iterable[Group]) -> list[Group]:
    """Groups with their rewards as lists of finite floats (from numpy arrays and tensors too)."""
    checked = []
    for index, group in enumerate(groups):
        _check_prompt(group.prompt, f"/results/{index}/prompt")
        rewards = [float(reward) for reward in group.rewards]
        for place, reward in enumerate(rewards):
            if not math.isfinite(reward):
                raise invalid(f"/results/{index}/rewards/{place}", f"{reward} is not a finite number")
        checked.append(Group(group.prompt, rewards))
    return checked


def checked_seconds(seconds: Seconds | None) -> Seconds | None:
    """Seconds as floats from 0 to `MOST_SECONDS`."""
    if seconds is None:
        return None
    checked = Seconds(_number(seconds.rollout, "/seconds/rollout"), _number(seconds.update, "/seconds/update"))
    for name, value in (("rollout", checked.rollout), ("update", checked.update)):
        if not 0 <= value <= MOST_SECONDS:
            raise invalid(f"/seconds/{name}", f"{value} must be from 0 to {MOST_SECONDS:g}")
    return checked


def without_seconds(request: Request) -> Request:
    """The request as a service takes it that knows no `seconds`: another body, so under another key, always the same.

    Any other request is returned as it is.
    """
    if not request.path.endswith("/report") or request.body is None or b'"seconds":' not in request.body:
        return request
    body = json.loads(request.body)
    if body.pop("seconds", None) is None:  # a prompt's name says it
        return request
    key = uuid.uuid5(uuid.NAMESPACE_OID, f"{request.key} without seconds").hex
    return dataclasses.replace(request, body=_json(body), key=key)


def _number(value: Any, pointer: str) -> float:
    """A number of any kind (numpy's and tensors' too) as a float; a text or a truth value is none."""
    if not isinstance(value, str | bytes | bytearray | bool):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise invalid(pointer, f"must be a number, not {type(value).__name__}")


def _whole(value: Any, pointer: str) -> int:
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise invalid(pointer, f"must be a whole number, not {type(value).__name__}")


def _check_prompt(prompt: object, pointer: str) -> None:
    if not isinstance(prompt, str):
        raise invalid(pointer, f"a prompt id is a string, not {type(prompt).__name__}")
    try:
        size = len(prompt.encode())
    except UnicodeEncodeError as error:
        raise invalid(pointer, "a prompt id must be valid Unicode") from error
    if not 1 <= size <= 256:
        raise invalid(pointer, f"a prompt id has 1 to 256 UTF-8 bytes, not {size}")
