"""Trainers: they ask over HTTP, hop between replicas, ask again until they are answered, die; all of it is recorded."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx
import orjson

from .checker import Violation
from .record import Asked, Told
from .schedule import Op, Schedule
from .world import PATIENCE, Replica, World

METHODS = {"pool": "PUT"}  # the others are POST
AWAY = 503


@dataclass
class Traffic:
    """What goes on in one run. `sent`: requests so far; `wrong`: answers that nobody should get."""

    world: World
    schedule: Schedule
    choose: random.Random
    asked: dict[str, Asked] = field(default_factory=dict)
    sent: int = 0
    wrong: list[Violation] = field(default_factory=list)
    _reached: list[tuple[int, asyncio.Event]] = field(default_factory=list)

    @property
    def path(self) -> str:
        """Of the run."""
        return f"/v1/runs/{self.schedule.run}"

    async def reaches(self, count: int) -> None:
        """Wait until so many requests were sent."""
        event = asyncio.Event()
        self._reached.append((count, event))
        self._count(0)
        await event.wait()

    def _count(self, more: int = 1) -> None:
        self.sent += more
        for count, event in self._reached:
            if self.sent >= count:
                event.set()

    def all_sent(self) -> None:
        """Let those go on who wait for more requests than there are."""
        self._count(1_000_000)

    async def train(self, ops: Iterable[Op]) -> None:
        """One trainer: its requests in order, each until it is answered."""
        for op in ops:
            asked = self.asked.setdefault(op.id, Asked(op.id, op.kind, op.body))
            if op.dies is not None:
                await self._die(op, asked, op.dies)
                if not op.again:
                    continue
            await self.until_answered(asked)

    async def until_answered(self, asked: Asked, *, stale: bool = True) -> Told:
        """Ask until there is an answer; a `stale` selection is one, unless told otherwise."""
        give_up, pause = time.monotonic() + PATIENCE, 0.01
        while time.monotonic() < give_up:
            told = await self.ask(asked, self.choose.choice(self.world.replicas))
            if told is not None and told.status != AWAY and (stale or not told.stale):
                return told
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.2)
        raise TimeoutError(f"{asked.id} is not answered within {PATIENCE:g} s")

    async def ask(self, asked: Asked, replica: Replica) -> Told | None:
        """One try; None if there was no answer."""
        asked.whole, sent = True, time.monotonic()
        asked.sent.append(sent)
        self._count()
        try:
            answer = await self.world.http.request(
                METHODS.get(asked.kind, "POST"),
                f"{replica.url}{self.path}/{asked.kind}",
                content=orjson.dumps(asked.body),
                headers={"Content-Type": "application/json", "Idempotency-Key": asked.id},
            )
        except httpx.TransportError:
            return None
        replayed = answer.headers.get("idempotent-replayed") == "true"
        told = Told(time.monotonic(), answer.status_code, answer.content, replayed, sent)
        asked.told.append(told)
        # A rewind to a step that is not complete is refused, and must then have no effect.
        if told.status not in {200, AWAY} and (told.status, asked.kind) != (409, "rewind"):
            self.wrong.append(Violation(f"answered {told.status}", f"{asked.id}: {told.body.decode()[:300]}"))
        return told

    async def _die(self, op: Op, asked: Asked, dies: float) -> None:
        """Send a request, or a part of it, and be gone: the kernel ends the connection of a killed client so."""
        body = orjson.dumps(op.body)
        replica = self.choose.choice(self.world.replicas)
        head = (
            f"POST {self.path}/{op.kind} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: {op.id}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        request = head.encode() + body
        part = request if dies >= 1.0 else request[: int(dies * len(request))]
        asked.whole = len(part) == len(request)
        asked.sent.append(time.monotonic())
        self._count()
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", replica.port)
            writer.write(part)
            await asyncio.sleep(max(dies - 1.0, 0.0) / 10)
            writer.transport.abort() if self.choose.random() < 0.5 else writer.close()

    def again(self, lost: set[str]) -> list[Asked]:
        """Requests that were acknowledged, of each kind at most two, to ask again for."""
        kinds: dict[str, list[Asked]] = {}
        for asked in self.asked.values():
            if asked.first and asked.id not in lost:
                kinds.setdefault(asked.kind, []).append(asked)
        return [asked for of in kinds.values() for asked in self.choose.sample(of, min(len(of), 2))]


async def asked_again(traffic: Traffic, asked: Asked) -> list[Violation]:
    """Ask once more under the same key: the first answer must come, as such."""
    told = await traffic.until_answered(asked, stale=False)
    if not told.replayed:
        return [Violation("done again", asked.id)]
    return []
