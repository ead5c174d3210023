"""The fencing token: the generation of the run that this client believes to work on."""

from __future__ import annotations

import dataclasses
import threading

from greso_client._requests import Request


class Fence:
    """Stamps writes with a run's generation, so that the service refuses them once another trainer rewound the run.

    A generation is only learnt once: a trainer thought dead must not pick up the new one by looking. Safe between
    threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._generation: int | None = None

    @property
    def generation(self) -> int | None:
        """The token; None until an answer of the run said it."""
        return self._generation

    def learn(self, generation: int) -> None:
        """Take what an answer says, if nothing is known yet."""
        with self._lock:
            if self._generation is None:
                self._generation = generation

    def take_over(self, generation: int) -> None:
        """Take what the answer to a deliberate start of a trainer says, whatever was known."""
        with self._lock:
            self._generation = generation

    def stamp(self, request: Request) -> Request:
        """The request with the token as it is now."""
        return dataclasses.replace(request, generation=self._generation)
