"""The dashboard page: the packaged files of `dashboard/`, and nothing else, at `/` and `/dashboard/{file}`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from greso_service.errors import NotFound

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}

# Names of runs and prompts are others' text: the browser itself refuses to parse any text as HTML (trusted types).
_POLICY = """
default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';
form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'
"""

_HEADERS = {
    # The browser asks each time and is answered 304 by the tag: an upgrade is seen at once, at no cost without one.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": " ".join(_POLICY.split()),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def router() -> APIRouter:
    """The routes; the files are read once, here."""
    routes = APIRouter(include_in_schema=False)
    packaged = _packaged()

    @routes.get("/")
    async def page(request: Request) -> Response:
        """The page."""
        return _answer(packaged["index.html"], request)

    @routes.get("/dashboard/{file}")
    async def part(file: str, request: Request) -> Response:
        """One of the files that the page loads."""
        if file not in packaged:
            raise NotFound(f"the page has no file {file!r}")
        return _answer(packaged[file], request)

    return routes


def _packaged() -> dict[str, _File]:
    found = {}
    for entry in files("greso_service").joinpath("dashboard").iterdir():
        media_type = _TYPES.get(entry.name[entry.name.rfind(".") :])
        if media_type is not None:
            content = entry.read_bytes()
            found[entry.name] = _File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return found


def _answer(file: _File, request: Request) -> Response:
    headers = {**_HEADERS, "ETag": file.etag}
    known = request.headers.get("if-none-match", "")
    if file.etag in {tag.strip().removeprefix("W/") for tag in known.split(",")}:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
