"""A server under measurement: the real application, plus a route that echoes its body."""

from __future__ import annotations

import sys

import uvicorn
from fastapi import Request, Response

from greso_service.api.app import create_app
from greso_service.settings import load


def main(redis_url: str, port: int) -> None:
    """Serve until killed."""
    app = create_app(load({"redis_url": redis_url}))

    @app.post("/echo", response_model=None)
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/json")

    uvicorn.run(app, port=port, log_level="warning", access_log=False, server_header=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
