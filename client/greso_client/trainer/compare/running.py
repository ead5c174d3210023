"""What both commands, `greso demo` and `greso bench-rl`, need to run and to stop well."""

import contextlib
import importlib.util
import signal
from collections.abc import Iterator
from typing import NoReturn


class MachineError(Exception):
    """A package or a device that training needs is missing; the message says what to do."""


def require_packages(command: str) -> None:
    """Raise `MachineError` when one of the trainer's packages is missing, which the command needs."""
    for name in ("torch", "transformers", "numpy", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            install = "run in the checkout: pip install '.[trainer]'"
            raise MachineError(f"{command} needs {name}, which is not installed; {install}")


def require_device(name: str) -> None:
    """Raise `MachineError` when torch can't train on the device of this name."""
    if name == "cpu":
        return  # not worth loading torch for
    import torch  # noqa: PLC0415 - takes seconds

    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise MachineError(
            f"torch can't use the device {name} ({reason}); take --config cpu, or try the code out with "
            "--set device=cpu and small sizes"
        ) from None


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM and a closed terminal unwind like Ctrl-C, so that what was started is stopped then too."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    previous = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
