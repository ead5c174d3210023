"""Programs that end with the one that started them, however that ended: it holds their standard input open."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

STOP_SECONDS = 15.0  # the service finishes its requests and stops its Redis


def hold(command: Sequence[str], *, stdout: IO[bytes] | int, stderr: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start a Python module of ours, ``["greso_service", "serve"]``, that ends when this process does."""
    # A setting from outside, GRESO_REDIS_URL above all, would send the runs somewhere else.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRESO_")}
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", __name__, *command],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        start_new_session=True,  # a Ctrl-C in the terminal is for the holder, which then stops what it holds
    )


def let_go(process: subprocess.Popen[bytes]) -> None:
    """Stop a held program, by force when it does not stop in time."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def last_words(log: Path) -> str:
    """Return the last line that is not blank of what a program printed."""
    said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return said[-1] if said else "it printed nothing"


def _end_with_holder() -> None:
    # os.read, not sys.stdin: the interpreter can't end while another thread is inside the latter.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    import runpy

    threading.Thread(target=_end_with_holder, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
