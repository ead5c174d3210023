"""A server under measurement: the real application, served as `greso serve` does, plus a route that echoes its body."""

from __future__ import annotations

import sys

from fastapi import Request, Response

from greso_service.api.app import create_app
from greso_service.cli.serving import Server, listen
from greso_service.settings import load


def main(redis_url: str, port: int) -> None:
    """Serve until killed."""
    settings = load({"redis_url": redis_url, "port": port})
    app = create_app(settings)

    @app.post("/echo", response_model=None)
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/json")

    Server(app, "under measurement", settings).run(sockets=[listen(settings.host, settings.port)])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
