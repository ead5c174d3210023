"""What is said to those for whom there is no place: it is said so often that its parts are made once."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import orjson
from starlette.types import Send

from greso_service.api import problems
from greso_service.errors import Overloaded
from greso_service.settings import set_by

_LENGTH: Final = b"content-length"


class Refusal(NamedTuple):
    """An answer without what is each request's own. `why`: its detail; `body`: as JSON, but for the `instance`."""

    why: str
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    async def __call__(self, request_id: str, send: Send, *, close: bool) -> None:
        """Answer the request of this id; `close`: whoever has more to ask is to look for another replica."""
        body = self.body + orjson.dumps(request_id) + b"}"
        headers = [*self.headers, (_LENGTH, b"%d" % len(body)), (b"x-request-id", request_id.encode())]
        if close:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@lru_cache(maxsize=1024)
def refusal(places: int, most: int) -> Refusal:
    """The answer when so many requests are worked on; `most`: may be, as the operator has set it."""
    limit = f"max_in_flight ({most})"
    why = limit if places == most else f"{places} (so many are answered in time; {limit} is the most)"
    error = Overloaded(f"more than {why} requests at once, {set_by('max_in_flight')}; try again")
    answer = problems.of(error)
    content = orjson.loads(bytes(answer.body))
    content.pop("instance")
    body = orjson.dumps(content)[:-1] + b',"instance":'
    headers = [(name, value) for name, value in answer.raw_headers if name != _LENGTH]
    return Refusal(str(error), answer.status_code, headers, body)
