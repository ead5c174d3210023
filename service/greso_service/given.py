"""What a write comes with beside its content: an idempotency key, and the generation that it was made for."""

from __future__ import annotations

from dataclasses import dataclass

from greso_service.answers import Answer
from greso_service.core.state import RunState
from greso_service.errors import Conflict, KeyReused, StaleGeneration
from greso_service.history.base import RunKey, Seen


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A request's idempotency key and the digest (32 bytes) of what it asks."""

    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Given:
    """What a write came with beside its content. `generation`: of the run as the writer knows it."""

    once: Idempotency | None = None
    generation: int | None = None


BARE = Given()


def fence(key: RunKey, state: RunState, given: Given) -> None:
    """Refuse a write that knows another generation of the run. Raises `StaleGeneration` and `Conflict`."""
    if given.generation is None or given.generation == state.generation:
        return
    numbers = f"run {key.run} is at generation {state.generation}, the request says {given.generation}"
    if given.generation < state.generation:
        raise StaleGeneration(f"{numbers}: it was rewound since; only the trainer that rewound it may go on")
    raise Conflict(
        f"{numbers}: it was made anew, or its store has lost the rewind; start the trainer again from its checkpoint"
    )


def replayed(once: Idempotency | None, seen: Seen) -> Answer:
    """The first answer to a key, again. Raises `KeyReused` if the first request was another."""
    if once is not None and seen.digest != once.digest:
        raise KeyReused(f"Idempotency-Key {once.key} was used before with another request")
    return Answer(seen.answer, replayed=True)
