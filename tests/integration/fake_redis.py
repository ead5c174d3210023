"""A server that speaks just enough of Redis's protocol to say what it is: for versions that can't be had any more."""

from __future__ import annotations

import socketserver
import threading
from typing import Self


class FakeRedis:
    """Answers INFO with the given fields, CONFIG GET with nothing, everything else with `reply`. A context manager."""

    def __init__(self, reply: str = "+PONG", **info: str) -> None:
        text = "".join(f"{name}:{value}\r\n" for name, value in info.items())

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while first := self.rfile.readline():
                    command, *_ = [self._argument() for _ in range(int(first[1:]))]
                    answers = {b"INFO": f"${len(text)}\r\n{text}", b"CONFIG": "*0", b"CLIENT": "+OK"}
                    self.wfile.write(f"{answers.get(command.upper(), reply)}\r\n".encode())

            def _argument(self) -> bytes:
                self.rfile.readline()
                return self.rfile.readline().strip()

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"redis://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
