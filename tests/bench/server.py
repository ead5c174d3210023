"""A server under measurement: the real application on a Redis of its own, plus a route that echoes its body."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from fastapi import Request, Response

from greso_service.api.app import create_app
from greso_service.history.embedded import EmbeddedRedis
from greso_service.settings import load


def main(data_dir: Path, port: int) -> None:
    """Serve until killed."""
    with EmbeddedRedis(data_dir) as redis:
        app = create_app(load({"redis_url": redis.url}))

        @app.post("/echo", response_model=None)
        async def echo(request: Request) -> Response:
            return Response(await request.body(), media_type="application/json")

        uvicorn.run(app, port=port, log_level="warning", access_log=False, server_header=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
