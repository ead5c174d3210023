"""Work that is begun at once: most of what could have to wait does not, and then needs no time-out of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Begun(Generic[T]):
    """Work that has gone as far as it could without waiting; its errors come where they arise.

    `work`: a coroutine, or what steps as one. `done`: whether that was all; `value` is then what came of it. If not, it
    has to be awaited next, for the rest: what it waits for is given away to nobody else meanwhile.
    """

    __slots__ = ("_steps", "_waits_for", "done", "value")

    value: T

    def __init__(self, work: Awaitable[T]) -> None:
        self._steps: Any = work.__await__()
        self.done = False
        try:
            self._waits_for = self._steps.send(None)
        except StopIteration as end:
            self.done, self.value = True, end.value

    def __await__(self) -> Generator[Any, Any, T]:
        """Go on, in the task in which it was begun."""
        while not self.done:
            try:
                step = partial(self._steps.send, (yield self._waits_for))
            except BaseException as error:  # noqa: BLE001  # a cancellation, too, belongs to the work
                step = partial(self._steps.throw, error)
            try:
                self._waits_for = step()
            except StopIteration as end:
                self.done, self.value = True, end.value
            finally:
                del step  # it holds the error, whose traceback holds this frame
        return self.value
