"""The History protocol: an append-only log of opaque payloads per run, with compare-and-append and idempotency keys.

Every event has a `Mark`: its number in the run and a checksum chained over all payloads up to it. Two histories with
the same mark hold the same events, so an append that names the mark it follows either continues exactly the history
that the caller has folded, or does nothing. That one rule makes retries, replicas and lost replies safe.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from greso_service.core.mark import Mark

DEFAULT_TENANT: Final = "default"
"""Without keys there is one tenant."""


class RunKey(NamedTuple):
    """A run's full name."""

    tenant: str
    run: str


@dataclass(frozen=True, slots=True)
class Once:
    """An idempotency key with what it stands for: the request's digest, the answer to give again, its life in seconds.

    `digest` has 32 bytes.
    """

    key: str
    digest: bytes
    answer: bytes
    ttl: int


@dataclass(frozen=True, slots=True)
class Appended:
    """The payloads are in the history, now or since an earlier try of the same append."""

    mark: Mark


@dataclass(frozen=True, slots=True)
class Moved:
    """Nothing was appended: the history does not end at the mark that the append named."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Nothing was appended: the idempotency key was used before, by a request with this digest, answered so."""

    digest: bytes
    answer: bytes


@dataclass(frozen=True, slots=True)
class Listed:
    """A run of a tenant and when it was last written to, in milliseconds since 1970; 0 where that can't be told.

    `away`: it is on a shard of a cluster that does not answer.
    """

    run: str
    active_ms: int
    away: bool = False


class Usage(NamedTuple):
    """Memory of the store, in bytes: what is used, and the most that may be."""

    used: int
    limit: int


class Extent(NamedTuple):
    """What of a run's history is there: the events behind `base` (`START`: all of them), up to `end`."""

    base: Mark
    end: Mark


class Base(NamedTuple):
    """What stands in the place of a history's oldest events: the snapshot of what they make, up to `mark`."""

    mark: Mark
    snapshot: bytes


class Draft(Protocol):
    """The history of a run to be: nobody sees it before it is finished, and it is gone some minutes after it was
    extended last. Methods raise `Unavailable` as those of `History` do.
    """

    async def read(self, after: Mark, limit: int) -> list[bytes] | None:
        """See `History.read`."""
        ...

    async def extend(self, payloads: Sequence[bytes]) -> None:
        """Add payloads at the end, of any number and size; with none it is kept for some minutes more."""
        ...

    async def finish(self, *, at_ms: int, once: Once | None = None) -> Appended | Moved | Seen:
        """Make it the history of its run: all of it, or nothing if the run exists with another history (`Moved`).

        A used idempotency key of the run wins. Call it once, or again after `Unavailable`.
        """
        ...

    async def abandon(self) -> None:
        """Forget it."""
        ...


class Readable(Protocol):
    """Where histories can be read."""

    async def read(self, key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
        """See `History.read`."""
        ...

    async def base(self, key: RunKey) -> Base | None:
        """See `History.base`."""
        ...

    def where(self, key: RunKey) -> str:
        """What the store calls the log of a run, for people who have to look."""
        ...


class History(Readable, Protocol):
    """Stores the histories of runs.

    Every method raises `Unavailable` when the store does not answer in time or can't write; after that an append may
    or may not have happened, and repeating the very same append finds out without doing it twice. It raises
    `Unreadable` when what the store has is not what was written to it, and has done nothing then.
    """

    async def append(
        self,
        key: RunKey,
        after: Mark,
        payloads: Sequence[bytes],
        *,
        at_ms: int,
        once: Once | None = None,
        base: Mark | None = None,
    ) -> Appended | Moved | Seen:
        """Append all payloads behind `after`, all or none, and keep `once` with them.

        A used idempotency key wins over a moved history. An append with `after=START` creates the run.
        `base`: given with a rewind, which goes back to what is behind this base; `Moved` if the run has another.
        """
        ...

    async def read(self, key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
        """At most `limit` payloads behind `after`, oldest first; None when the history does not contain `after`.

        Fewer may come than there are, to keep a reply small; none only when there are none.
        A run that does not exist has an empty history that contains only `START`; one that was trimmed begins at its
        base and does not contain `START`.
        """
        ...

    async def extent(self, key: RunKey) -> Extent | None:
        """From where to where the history goes; None when there is no such run."""
        ...

    async def mark_at(self, key: RunKey, number: int) -> Mark | None:
        """The mark of the event of this number; None when the history does not hold it."""
        ...

    async def base(self, key: RunKey) -> Base | None:
        """What the history begins with, if its oldest events were trimmed."""
        ...

    async def trim(self, key: RunKey, base: Base, *, before: Mark, end: Mark) -> bool:
        """Put the base in the place of all events up to its mark, all at once; snapshots from before it are removed.

        Only if the run has the base `before` (`START`: none) still, contains `base.mark` and `end`, and was not rewound
        since `end`; else nothing happens, and False is answered.
        """
        ...

    async def begin(
        self,
        key: RunKey,
        payloads: AsyncIterator[Sequence[bytes]],
        *,
        at_ms: int,
        once: Once | None = None,
        base: Base | None = None,
    ) -> Appended | Moved | Seen:
        """Create a run with a whole history, of any length: all of it, or nothing if the run exists (`Moved`).

        With a `base`, the payloads are what comes behind it.

        A used idempotency key of the run wins. What `payloads` raises is raised, and nothing has happened then.
        """
        ...

    def draft(self, key: RunKey, base: Base | None = None) -> Draft:
        """A history to be written bit by bit, and read meanwhile, that becomes the run's when it is finished.

        With a `base` it begins behind that.
        """
        ...

    async def recall(self, key: RunKey, name: str) -> Seen | None:
        """What an idempotency key stands for; None if it was not used or is forgotten."""
        ...

    async def remember(self, key: RunKey, once: Once) -> None:
        """Keep an idempotency key of a run that exists, for what was done elsewhere; one in use stays as it is."""
        ...

    async def confirm(self, key: RunKey) -> None:
        """Return when all that was written of a run until now is kept as well as what is written now."""
        ...

    async def save(self, key: RunKey, mark: Mark, snapshot: bytes) -> None:
        """Keep a snapshot of the state folded up to `mark`, in place of an earlier one."""
        ...

    async def load(self, key: RunKey) -> tuple[Mark, bytes] | None:
        """The snapshot kept last, if there is one."""
        ...

    async def drop(self, key: RunKey, at: Mark | None = None) -> bool:
        """Remove everything of a run, idempotency keys included.

        False when there was no such run or, if `at` is given, its history does not end there; then nothing is removed.
        """
        ...

    async def runs(self, tenant: str) -> list[Listed]:
        """The tenant's runs, newest activity first; those last of which it can't be told."""
        ...

    async def ping(self) -> None:
        """Return when the store answers."""
        ...

    async def usage(self) -> Usage | None:
        """The store's memory; None where it can't be known."""
        ...

    async def close(self) -> None:
        """Release connections; no other call may follow."""
        ...
