"""`greso serve`: everything in the right order, one process, stopped cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
import time
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, NoReturn

import typer
import uvicorn

from greso_service import misspelt
from greso_service.access import tls
from greso_service.access.preflight import IN_THE_CLEAR, WITH_TLS, keys_in_the_clear
from greso_service.cli.connections import Connections
from greso_service.errors import StartupError
from greso_service.history.embedded import EmbeddedRedis
from greso_service.preflight import look, require_usable
from greso_service.settings import without_password
from greso_service.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from fastapi import FastAPI

    from greso_service.settings import Settings

log = logging.getLogger(__name__)

LEVELS = {"warning": logging.WARNING, "error": logging.ERROR}
BACKLOG = 2048  # connections the kernel queues; uvicorn's own default
GRACE_SECONDS = 10  # for the requests being answered when the service is told to stop
MOST_FILES = 65_536  # open at once, connections included; the limit that processes get by default is often 1,024
# When Python looks for cycles: by default behind 700 new objects, and then it looks again and again at all that the
# requests in flight have brought. With 32 of 1,024 prompts at once an answer took a quarter more processor time.
LOOK_FOR_CYCLES = (50_000, 20, 20)
UNREAD_SECONDS = 120  # that a connection lives whose other end takes nothing of what waits for it


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        StartupError: the port is taken, the data directory is in use, or Redis is not usable.
    """
    logs.configure(settings.log_level, settings.log_format)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    for name, fix in misspelt.variables():
        log.warning("%s is set but is no setting; %s", name, fix)
    tls.require(settings)
    if keys_in_the_clear(settings):
        log.warning("tls %s; %s", IN_THE_CLEAR, WITH_TLS)
    _allow_files()
    with contextlib.ExitStack() as cleanup:
        listeners = [cleanup.enter_context(contextlib.closing(listen(settings.host, settings.port)))]
        if settings.metrics_port is not None:
            own = listen(settings.metrics_host, settings.metrics_port, "metrics-")
            listeners.append(cleanup.enter_context(contextlib.closing(own)))
            settings = settings.model_copy(update={"metrics_port": own.getsockname()[1]})
        store = "redis " + without_password(settings.redis_url or "")
        if settings.redis_url is None:
            meanwhile = partial(import_module, "greso_service.api.app")
            embedded = EmbeddedRedis(settings.data_dir, settings.redis_server, settings.redis_fsync, meanwhile)
            cleanup.enter_context(embedded)
            settings = settings.model_copy(update={"redis_url": embedded.url})
            store = f"data {settings.data_dir}"
        findings = look(settings)
        require_usable(findings)
        for finding in findings:
            if finding.level != "ok":
                log.log(LEVELS[finding.level], "redis %s: %s", finding.subject, finding)
        from greso_service.api.app import create_app  # noqa: PLC0415  # slow; a refusal need not wait for it

        server = next(finding.found for finding in findings if finding.subject == "version")
        said = [*_places(settings, listeners), store, server]
        Server(create_app(settings), " | ".join(said), settings).run(sockets=listeners)


def _places(settings: Settings, listeners: list[socket.socket]) -> Iterator[str]:
    urls = [address(listener, tls=settings.tls_cert is not None) for listener in listeners]
    yield f"greso {version('greso')} at {urls[0]}"
    if settings.docs:
        yield f"docs {urls[0]}/docs"
    if len(urls) > 1:
        yield f"metrics {urls[1]}/metrics"
    if settings.keys_file is not None:
        yield f"keys {settings.keys_file}"


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):  # then it is as it was
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _stop(*_: object) -> NoReturn:
    # Raised where the program stands, it unwinds through the embedded Redis, which is stopped on the way. While
    # serving, uvicorn has the signals, and passes them on to here when the last request is answered.
    raise SystemExit(0)


class Server(uvicorn.Server):
    """Says where it serves once it does."""

    def __init__(self, app: FastAPI, announcement: str, settings: Settings) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            lifespan="on",
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
        )
        super().__init__(config)
        self.announcement = announcement
        self.drain = settings.drain
        self.health = app.state.health
        self.watched = Connections()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print the announcement."""
        await super().startup(sockets)
        # What is there by now stays: without it a full collection, of which a load has several a second, looks at
        # thousands of objects instead of hundreds of thousands.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*LOOK_FOR_CYCLES)
        if self.started:
            typer.echo(self.announcement)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: look at the connections now and then; whether to stop."""
        if counter % 10 == 0:
            self.watched.look(list(self.server_state.connections))
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, without waiting for readers that were given up and don't even take what was sent before.

        Not before those who send requests had time to see that readiness is red.
        """
        until = time.monotonic() + self.drain
        while time.monotonic() < until and not self.force_exit:
            await asyncio.sleep(0.1)
            await self.on_tick(0)
        for connection in list(self.server_state.connections):
            if (transport := getattr(connection, "transport", None)) and transport.is_closing():
                transport.abort()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; connections that are still open see readiness go red at once."""
        self.health.draining = True
        super().handle_exit(sig, frame)


def listen(host: str, port: int, which: str = "") -> socket.socket:
    """A socket that listens, so that a taken port is found before anything is started.

    `which`: what the options of its address begin with.

    Raises:
        StartupError: naming the address and what is wrong with it.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartupError(f"can't listen on {host}: {error.strerror}; correct --{which}host") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartupError(
            f"can't listen on {host} port {port}: {error.strerror};"
            f" give another with --{which}port (0 picks a free one)"
        ) from None
    return listener


def address(listener: socket.socket, *, tls: bool = False) -> str:
    """The URL at which a listening socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"{'https' if tls else 'http'}://" + (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
