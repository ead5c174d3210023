"""A process in which the service is loaded already and which forks: a killed service is back in a tenth of a second.

What is forked runs `greso serve` as its users do, but for two things. Its wall clock can be moved (`Clock`), and it
tells a run's state, to the bit, at `/faults/state/{run}`. All is killed when whoever started the nursery is gone.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from struct import pack, pack_into, unpack_from
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from greso_service.core.state import RunState

ROOT = Path(__file__).parents[2]


class Clock:
    """A file that says by how many seconds a process's wall clock is off."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(pack("d", 0.0))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 0)

    @property
    def off(self) -> float:
        """Seconds by which it is off."""
        return float(unpack_from("d", self._shared)[0])

    @off.setter
    def off(self, seconds: float) -> None:
        pack_into("d", self._shared, 0, seconds)


class Nursery:
    """The process, as who starts it sees it. Its children are known by their process ids."""

    def __init__(self) -> None:
        paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        # No threads of numpy's libraries: a process with threads must not fork.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the parent, which then closes it
        )
        self._order(None)

    def serve(self, settings: dict[str, Any], clock: Path, log: Path) -> int:
        """Start a service; its process id."""
        return self._order({"settings": settings, "clock": str(clock), "log": str(log)})

    def run(self, command: list[str], folder: Path, log: Path) -> int:
        """Start a program; its process id."""
        return self._order({"command": command, "folder": str(folder), "log": str(log)})

    def _order(self, order: dict[str, Any] | None) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if order is not None:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the nursery has ended"
        return int(answer)

    def close(self) -> None:
        """Kill all that was started, and end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def lives(pid: int) -> bool:
    """Whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def send(pid: int, number: int) -> None:
    """Send a signal, if the process is there."""
    assert pid > 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def main() -> None:
    """Take orders until there are none; then kill everything that came of them."""
    off: list[Clock] = []
    real = time.time
    time.time = lambda: real() + (off[0].off if off else 0.0)
    # Only now: what is loaded takes the clock that it finds.
    from tests.folding import digest  # noqa: PLC0415

    from greso_service.api import app as module  # noqa: PLC0415
    from greso_service.cli import serving  # noqa: PLC0415
    from greso_service.runs import Runs  # noqa: PLC0415
    from greso_service.settings import load  # noqa: PLC0415

    made: list[Runs] = []
    app: Any = module  # two of its names are replaced here
    create = app.create_app

    class Kept(Runs):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    def creating(*args: Any, **options: Any) -> Any:
        built = create(*args, **options)
        built.add_middleware(_Tap, made[-1], digest)
        return built

    app.Runs, app.create_app = Kept, creating

    def become(order: dict[str, Any]) -> NoReturn:
        _detach(Path(order["log"]))
        if "command" in order:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file at its limit is an error to be handled, not a death
            os.chdir(order["folder"])
            os.execvp(order["command"][0], order["command"])
        off.append(Clock(Path(order["clock"])))
        try:
            serving.serve(load(order["settings"]))
        except SystemExit:
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - it ends here
            print(f"{type(error).__name__}: {error}", flush=True)  # noqa: T201
        os._exit(1)

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: the dead are gone at once
    print(0, flush=True)  # noqa: T201
    for line in sys.stdin.buffer:
        pid = os.fork()
        if not pid:
            become(json.loads(line))
        print(pid, flush=True)  # noqa: T201
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _detach(log: Path) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing, output = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for wanted, there in enumerate((nothing, output, output)):
        os.dup2(there, wanted)


class _Tap:
    """ASGI middleware that tells the digest of a run's state."""

    def __init__(self, inner: Any, runs: Any, digest: Any) -> None:
        self.inner, self.runs, self.digest = inner, runs, digest

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        _, found, run = scope.get("path", "").partition("/faults/state/")
        if not found:
            await self.inner(scope, receive, send)
            return
        from greso_service.errors import Unavailable  # noqa: PLC0415
        from greso_service.history.base import DEFAULT_TENANT, RunKey  # noqa: PLC0415

        def look(state: RunState) -> str:
            return str(self.digest(state))

        status = 200
        try:
            told = await self.runs.look(RunKey(DEFAULT_TENANT, run), look)
        except Unavailable as error:
            status, told = 503, str(error)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": told.encode()})


if __name__ == "__main__":
    main()
