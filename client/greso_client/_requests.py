"""Requests of the v1 contract, built without any I/O from what `_checked` has looked at."""

from __future__ import annotations

import dataclasses
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from greso_client._checked import checked_flag, checked_whole
from greso_client._errors import SettingsError, invalid
from greso_client._types import Group, PoolPrompt, Seconds

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

# A pool upload is cut into parts that stay far below the contract's limits (32 MiB, 1,000,000 prompts) and that the
# service takes within one call's time budget.
POOL_PART = 50_000


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
            body["limit"] = checked_whole(limit, "/limit", 0)
        if least := checked_whole(at_least, "/at_least", 0):
            body["at_least"] = least
        if checked_flag(explain, "/explain"):
            body["explain"] = True
        return _post(f"{self.path}/select", body)

    def draw(self, step: int, count: int | None) -> Request:
        """POST for prompts from the pool."""
        body = {"step": step} if count is None else {"step": step, "count": checked_whole(count, "/count", 0)}
        return _post(f"{self.path}/draw", body)

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
