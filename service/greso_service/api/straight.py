"""Routes that a trainer calls each step: past FastAPI's way to their parameters, which takes as long as an answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from greso_service.api.access import Needs, needed
from greso_service.core.limits import RUN

_NAME: Final = re.compile(RUN)


class Straight(APIRoute):
    """A route whose function takes `run`, `tenant` and `request`, and gives a response.

    What else may be in a request, and a name that no run has, goes FastAPI's way, which says what is wrong with it.
    """

    endpoint: Callable[..., Awaitable[Response]]

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        scope = needed(self)
        assert scope is not None, f"{path} has no parameter for its scope"  # noqa: S101 - a mistake in the code
        self._needs = Needs(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that was matched."""
        run = scope["path_params"]["run"]
        if scope["query_string"] or scope["method"] not in (self.methods or ()) or not _NAME.fullmatch(run):
            await super().handle(scope, receive, send)
            return
        response = await self.endpoint(run=run, tenant=self._needs.tenant(scope), request=Request(scope, receive, send))
        await response(scope, receive, send)
