"""The fake service behind a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from .doubles import FakeService


class Server:
    """`FakeService` behind a socket. `misbehave` takes over a connection: it gets the raw socket."""

    def __init__(self, service: FakeService) -> None:
        self.service = service
        self.connections = 0
        self.misbehave: Callable[[socket.socket], None] | None = None
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                outer.connections += 1

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if outer.misbehave is not None:
                    outer.misbehave(self.connection)
                    self.close_connection = True
                    return
                request = httpx.Request(self.command, f"http://x{self.path}", headers=dict(self.headers), content=body)
                with lock:
                    response = outer.service(request)
                self.send_response(response.status_code)
                self.send_header("Content-Length", str(len(response.content)))
                self.send_header("Content-Type", response.headers.get("content-type", "text/plain"))
                self.end_headers()
                self.wfile.write(response.content)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - the base class looks for these

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
