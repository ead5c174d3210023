"""The asyncio client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx

from greso_client._client import BUDGET, SPOOL_BYTES
from greso_client._collect import Session
from greso_client._core import Core
from greso_client._io import AsyncioIO
from greso_client._options import Options
from greso_client._types import (
    Collected,
    Counters,
    Drawn,
    Group,
    PoolPrompt,
    PoolSize,
    Reported,
    Rollout,
    Seconds,
    Selection,
)
from greso_client._version import __version__
from greso_client._views import PromptState, RunState, StepRow

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same arguments, calls, answers and promises, awaited. For one event loop.

    ::

        async with AsyncClient("http://127.0.0.1:8080", run="my-run") as client:
            step = await client.collect(1, roll_out)    # async def roll_out(prompts): ...
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        run: str,
        api_key: str | None = None,
        strict: bool = False,
        budget: float = BUDGET,
        spool: Path | str | Literal[False] | None = None,
        spool_bytes: int = SPOOL_BYTES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        options = Options.make(url, run, api_key, strict, budget, spool, spool_bytes)
        self._io = AsyncioIO(httpx.AsyncClient(**options.http(__version__), transport=transport))
        self._core = Core(self._io, run, options)

    async def create_run(self, **spec: Any) -> RunState:
        """See `Client.create_run`."""
        return await self._core.create_run(spec)

    async def update_run(self, **changes: Any) -> RunState:
        """See `Client.update_run`."""
        return await self._core.update_run(changes)

    async def add_prompts(
        self, prompts: Iterable[str | PoolPrompt] | None = None, from_run: str | None = None
    ) -> PoolSize:
        """See `Client.add_prompts`."""
        return await self._core.add_prompts(prompts, from_run)

    async def select(
        self, step: int, prompts: Sequence[str], limit: int | None = None, at_least: int = 0, explain: bool = False
    ) -> Selection:
        """See `Client.select`."""
        return await self._core.select(step, prompts, limit, at_least, explain)

    async def draw(self, step: int, count: int | None = None) -> Drawn:
        """See `Client.draw`."""
        return await self._core.draw(step, count)

    async def report(
        self, step: int, groups: Iterable[Group], final: bool = False, seconds: Seconds | None = None
    ) -> Reported:
        """See `Client.report`."""
        return await self._core.report(step, groups, final, seconds)

    async def collect(
        self,
        step: int,
        rollout: Callable[[list[str]], Awaitable[Sequence[Rollout[T] | None]]],
        prompts: Iterable[str] | None = None,
        max_rounds: int = 10,
        offer: int = 1,
        *,
        update_seconds: float = 0.0,
    ) -> Collected[T]:
        """See `Client.collect`; `rollout` is awaited."""
        return await Session(
            self._core, step, rollout, prompts, max_rounds, offer=offer, update_seconds=update_seconds
        ).run()

    async def state(self) -> RunState:
        """See `Client.state`."""
        return await self._core.state()

    async def steps(
        self, after: int | None = None, limit: int | None = None, domain: str | None = None
    ) -> list[StepRow]:
        """See `Client.steps`."""
        return await self._core.steps(after, limit, domain)

    async def prompt(self, prompt: str) -> PromptState:
        """See `Client.prompt`."""
        return await self._core.prompt(prompt)

    async def delete_run(self) -> None:
        """See `Client.delete_run`."""
        await self._core.delete_run()

    async def rewind(self, step: int) -> RunState:
        """See `Client.rewind`."""
        return await self._core.rewind(step)

    async def fork(self, run: str, step: int | None = None) -> RunState:
        """See `Client.fork`."""
        return await self._core.fork(run, step)

    async def flush(self, within: float | None = None) -> bool:
        """See `Client.flush`."""
        return await self._core.flush(within)

    @property
    def generation(self) -> int | None:
        """See `Client.generation`."""
        return self._core.generation

    @property
    def counters(self) -> Counters:
        """What happened since this client was made."""
        return self._core.counts.snapshot()

    async def close(self) -> None:
        """See `Client.close`."""
        try:
            await self._core.finish()
        finally:
            await self._io.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
