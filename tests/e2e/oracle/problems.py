"""Refusals: what every one must look like, and that it changed nothing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import httpx

    from .service import Service

JSON = "application/json"


def problem(answer: httpx.Response, *statuses: int, pointers: Collection[str] = ()) -> dict[str, Any]:
    """Check that an answer is an RFC 9457 problem with one of the statuses, pointing at one of `pointers`."""
    assert answer.status_code in statuses, f"{answer.status_code}, not {statuses}: {answer.text[:2000]}"
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json", answer.headers
    told = answer.json()
    assert isinstance(told, dict)
    for name in ("type", "title", "detail", "instance"):
        assert isinstance(told.get(name), str), f"{name} is no string: {told}"
        assert told[name], f"{name} is empty: {told}"
    assert told["status"] == answer.status_code
    if pointers:
        found = [error["pointer"] for error in told["errors"]]
        assert set(found) & set(pointers), f"points at {found}, not at {list(pointers)}: {told}"
        assert all(isinstance(error["detail"], str) and error["detail"] for error in told["errors"]), told
    return told


def picture(service: Service, run: str) -> list[Any]:
    """All that can be seen of a run."""
    views = [run, f"{run}/steps?limit=1000", f"{run}/prompts?limit=1000"]
    return [service.json("GET", view) for view in views]


@contextmanager
def untouched(service: Service, run: str) -> Iterator[None]:
    """Nothing done inside changes anything that can be seen of the run."""
    before = picture(service, run)
    yield
    assert picture(service, run) == before, "a refused request changed the run"


def send(service: Service, method: str, path: str, raw: bytes, media: str | None = JSON) -> httpx.Response:
    """A request with exactly these bytes."""
    headers = {} if media is None else {"Content-Type": media}
    return service.http.request(method, path, content=raw, headers=headers)
