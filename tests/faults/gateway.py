"""Something between a client and its service that misbehaves: for each request it does what the test says.

It stands for a proxy, another program on the port, a network: a real socket that real bytes come from.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx

Behaviour = Callable[["Passing"], None]
MANY = 200 * 1024 * 1024


class Passing:
    """One request on its way."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: bytes, gateway: Gateway) -> None:
        self._handler = handler
        self.body = body
        self._gateway = gateway
        self.method, self.path = handler.command, handler.path
        self.given_up = gateway.given_up
        self.drop: frozenset[str] = frozenset()

    def forward(self) -> httpx.Response:
        """What the service says; it has done what was asked."""
        drop = {"host", "content-length", "connection", "accept-encoding", *self.drop}
        headers = {name: value for name, value in self._handler.headers.items() if name.lower() not in drop}
        return self._gateway.http.request(self.method, self.path, content=self.body, headers=headers)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer; the connection goes on."""
        lines = {"content-type": "application/json", "content-length": str(len(body))}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = [f"HTTP/1.1 {status} Whatever\r\n", *(f"{name}: {value}\r\n" for name, value in lines.items()), "\r\n"]
        self._handler.connection.sendall("".join(head).encode() + body)

    def raw(self, *pieces: bytes) -> None:
        """Bytes of any kind; the connection ends after them."""
        self._handler.close_connection = True
        self._handler.connection.sendall(b"".join(pieces))

    def reset(self) -> None:
        """End the connection as a crashed machine does."""
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self._handler.close_connection = True

    def wait(self, seconds: float) -> bool:
        """Whether the gateway was given up within so long."""
        return self.given_up.wait(seconds)


class Gateway:
    """A context manager. `behaviour` does what is done with each request; None passes it on and its answer back."""

    def __init__(self, service_url: str, port: int = 0) -> None:
        self.behaviour: Behaviour | None = None
        self.requests: list[str] = []
        self.given_up = threading.Event()
        self.http = httpx.Client(base_url=service_url, timeout=60.0, trust_env=False)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def passed(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                passing = Passing(self, body, outer)
                outer.requests.append(f"{self.command} {self.path}")
                (outer.behaviour or honest)(passing)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = passed  # noqa: N815 - the base class looks for these

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Quiet(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.given_up.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.http.close()


def honest(passing: Passing) -> None:
    """As if it were not there."""
    response = passing.forward()
    passing.answer(response.status_code, response.content, content_type=response.headers.get("content-type", ""))


# What never reaches the service


def page(status: int) -> Behaviour:
    """A page of a proxy."""
    return lambda passing: passing.answer(status, b"<html><h1>no", content_type="text/html")


def says(value: Any, status: int = 200) -> Behaviour:
    """JSON, but another program's."""
    return lambda passing: passing.answer(status, json.dumps(value).encode())


def later(status: int, after: str) -> Behaviour:
    """Come again, it says, in so long."""
    return lambda passing: passing.answer(status, b"busy", content_type="text/plain", retry_after=after)


def empty(passing: Passing) -> None:
    passing.answer(200)


def reset(passing: Passing) -> None:
    passing.reset()


def redirect_to_itself(passing: Passing) -> None:
    passing.answer(307, location=passing.path)


def nested(passing: Passing) -> None:
    passing.answer(200, b"[" * 200_000)


def other_language(passing: Passing) -> None:
    passing.raw(b"SSH-2.0-OpenSSH_9.6\r\n")


def bomb(passing: Passing) -> None:
    """Some 200 KB that unpack to 200 MB."""
    passing.answer(200, BOMB, content_encoding="gzip")


BOMB = gzip.compress(b"0" * MANY, 1)


def endless(passing: Passing) -> None:
    """As much as the client takes."""
    passing.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    with contextlib.suppress(OSError):
        while not passing.given_up.is_set():
            passing.raw(b" " * 65536)


# What reaches it, while the answer does not come back


def swallowed(passing: Passing) -> None:
    """Done, and the connection is reset instead of the answer."""
    passing.forward()
    passing.reset()


def half(passing: Passing) -> None:
    """Done, and half of the answer comes."""
    said = passing.forward().content
    passing.raw(f"HTTP/1.1 200 OK\r\ncontent-length: {len(said)}\r\n\r\n".encode(), said[: len(said) // 2])


def cut(passing: Passing) -> None:
    """Done, and the answer is complete as HTTP, but half of its JSON."""
    said = passing.forward().content
    passing.answer(200, said[: len(said) // 2])


def emptied(passing: Passing) -> None:
    """Done, and the answer's body gets lost."""
    passing.forward()
    passing.answer(200)


def replaced(passing: Passing) -> None:
    """Done, and a page comes instead of the answer."""
    passing.forward()
    passing.answer(502, b"<html>", content_type="text/html")


def of_other_types(passing: Passing) -> None:
    """Done, and every number in the answer has become a text."""
    said = json.loads(passing.forward().content, parse_int=str, parse_float=str)
    passing.answer(200, json.dumps(said).encode())


def slow(passing: Passing) -> None:
    """Done, and the answer comes when nobody waits any more."""
    said = passing.forward()
    passing.wait(2.0)
    with contextlib.suppress(OSError):
        passing.answer(said.status_code, said.content)


def trickled(passing: Passing) -> None:
    """Done, and the answer comes a byte at a time."""
    said = passing.forward().content
    with contextlib.suppress(OSError):
        passing.raw(f"HTTP/1.1 200 OK\r\ncontent-length: {len(said)}\r\n\r\n".encode())
        for byte in said:
            passing.raw(bytes([byte]))
            if passing.wait(0.25):
                return


BEFORE: dict[str, Behaviour] = {
    "a page with 200": page(200),
    "a page with 400": page(400),
    "a page with 401": page(401),
    "a page with 403": page(403),
    "a page with 404": page(404),
    "a page with 409": page(409),
    "a page with 413": page(413),
    "a page with 500": page(500),
    "another program": says({"status": "ok"}),
    "another program's error": says({"message": "no route matched"}, 404),
    "a list": says([1, 2]),
    "null": says(None),
    "empty": empty,
    "reset": reset,
    "a redirect to itself": redirect_to_itself,
    "nested without end": nested,
    "another language": other_language,
    "a bomb": bomb,
    "endless": endless,
    "503 for a while": later(503, "30"),
    "503 until 2999": later(503, "Fri, 01 Jan 2999 00:00:00 GMT"),
    "503 for ever": later(503, "inf"),
    "503 until never": later(503, "Mon, 99 Foo 0000 99:99:99 +9999"),
    "429 for a while": later(429, "30"),
    "429 for less than nothing": later(429, "-1e999"),
    "429 for nan": later(429, "nan"),
}
AFTER: dict[str, Behaviour] = {
    "swallowed": swallowed,
    "half": half,
    "cut": cut,
    "emptied": emptied,
    "replaced": replaced,
    "of other types": of_other_types,
}
SLOW: dict[str, Behaviour] = {"slow": slow, "trickled": trickled}
