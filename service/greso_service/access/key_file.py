"""The file of the keys: read whole, changed whole, by one at a time."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from greso_service.access.keys import Keyring, KeysError, loads

MODE = 0o600  # of a new file


def read(path: Path) -> tuple[Keyring, os.stat_result]:
    """The keys in a file, and what the file was when they were read. Raises `KeysError`."""
    try:
        with path.open("rb") as file:
            return loads(file.read()), os.fstat(file.fileno())
    except KeysError as error:
        raise KeysError(f"the keys in {path} can't be read: {error}") from None
    except OSError as error:
        raise KeysError(f"the keys in {path} can't be read: {error.strerror}") from None


def change(path: Path, edit: Callable[[Keyring], Keyring]) -> None:
    """Put what `edit` makes of the keys into the file, which need not be there before. Raises `KeysError`.

    Who reads the file meanwhile, or after a crash, finds the keys of before or those of after, never a part. A file
    keeps its mode, owner and group, so that a service of another user can go on reading it; who may not see to that
    changes nothing.
    """
    path = path.resolve()  # a link stays one
    try:
        with _alone(path.parent):
            before, stat = read(path) if path.exists() else (Keyring(), None)
            _replace(path, edit(before).dumps().encode(), stat)
    except OSError as error:
        raise KeysError(f"the keys in {path} can't be changed: {error.strerror}") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder, which leaves no file behind; two changes at once would lose one of them."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)  # the new name is on the disk
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes, like: os.stat_result | None) -> None:
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if like is None:
                os.fchmod(descriptor, MODE)
            else:
                _give(descriptor, like, path)
                os.fchmod(descriptor, like.st_mode & 0o777)
            os.fsync(descriptor)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _give(descriptor: int, like: os.stat_result, path: Path) -> None:
    """Let the file belong to whom the one of before belongs to. Only root may give files away."""
    made = os.fstat(descriptor)
    if (made.st_uid, made.st_gid) == (like.st_uid, like.st_gid):
        return
    try:
        os.fchown(descriptor, like.st_uid, like.st_gid)
    except PermissionError:
        raise KeysError(
            f"the keys in {path} can't be changed: the file is of user {like.st_uid} and group {like.st_gid}, and would"
            " not be readable for them any more; do it as that user, or as root"
        ) from None
