"""The lines of a spool: JSON, the first with the file's identity, each other one a request that is due or done."""

from __future__ import annotations

import json
import uuid
from typing import Any

from greso_client._requests import Request

DUE, DONE = b'{"due":1,', b'{"due":0,'
FLAG = DUE.index(b"1")


def written(request: Request, at: float, ahead: bool) -> bytes:
    """The line for a request kept at wall-clock second `at`, `ahead` of its run or not."""
    record = {"at": at, "key": request.key, "method": request.method, "path": request.path, "ahead": ahead}
    record |= {"generation": request.generation, "type": request.content_type}
    if request.unsure:
        record["unsure"] = True
    record["body"] = (request.body or b"").decode()
    return DUE + json.dumps(record, separators=(",", ":")).encode()[1:] + b"\n"


def header() -> bytes:
    """The first line of a new file."""
    return json.dumps({"greso_spool": 1, "id": uuid.uuid4().hex}).encode() + b"\n"


def identity_of(line: bytes) -> str:
    """What a first line says."""
    try:
        return str(json.loads(line)["id"])
    except (ValueError, KeyError, TypeError):
        return ""


def request_of(line: bytes) -> tuple[Request, float, bool] | None:
    """The request in a line, when it was kept and whether ahead of its run; None when the line is damaged."""
    try:
        record: dict[str, Any] = json.loads(line)
        # Spools of release 0.1 have no generation.
        generation = record.get("generation")
        method, path, key = record["method"], record["path"], record["key"]
        if not (method == "POST" and path.startswith("/v1/runs/") and isinstance(key, str) and key):
            return None  # without its key it could count twice
        request = Request(
            method, path, record["body"].encode(), record["type"], key,
            None if generation is None else int(generation), unsure=bool(record.get("unsure")),
        )  # fmt: skip
        return request, float(record["at"]), bool(record["ahead"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
