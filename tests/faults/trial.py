"""One schedule, carried out in a world: traffic and faults side by side, then mended, then judged."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from dataclasses import dataclass, field

from greso_service.history import snapshot
from greso_service.history.base import DEFAULT_TENANT, RunKey
from greso_service.history.codec import CodecError
from greso_service.history.connect import connect
from greso_service.history.redis import RedisHistory
from greso_service.runs import Runs

from ..folding import digest  # noqa: TID252
from . import checker, proxy, reading
from .checker import Violation
from .nursery import send
from .record import Asked, Cut, Told
from .schedule import Fault, Schedule, first_pool
from .traffic import Traffic, asked_again
from .world import World

VIEWS = ("", "/export")  # the state's digest says the rest


@dataclass
class Verdict:
    """What came of a schedule. `acknowledged`: reports; `lost_to_cuts`: what a power cut took that it may take."""

    schedule: Schedule
    wrong: list[Violation] = field(default_factory=list)
    acknowledged: int = 0
    requests: int = 0
    retries: int = 0
    lost_to_cuts: int = 0


async def carry_out(world: World, schedule: Schedule) -> Verdict:
    """Do it, and judge."""
    return await _Trial(world, schedule).run()


class _Trial:
    def __init__(self, world: World, schedule: Schedule) -> None:
        self.world, self.schedule = world, schedule
        self.choose = random.Random(f"trial {schedule.seed}")
        self.traffic = Traffic(world, schedule, self.choose)
        self.cuts: list[Cut] = []
        self.redis_lock = asyncio.Lock()  # one fault at a time stops, kills and starts a process

    async def run(self) -> Verdict:
        world, schedule = self.world, self.schedule
        await self._begin()
        async with asyncio.TaskGroup() as group:
            for fault in schedule.faults:
                group.create_task(self._break(fault))
            group.create_task(self._train())
        await world.heal(schedule.run)
        return await self._judge()

    async def _train(self) -> None:
        await asyncio.gather(*(self.traffic.train(ops) for ops in self.schedule.trainers))
        self.traffic.all_sent()

    async def _begin(self) -> None:
        world = self.world
        created = await world.call(world.replicas[0], self.traffic.path, "PUT", self.schedule.spec)
        created.raise_for_status()
        await self.traffic.train([first_pool()])
        self.traffic.sent = 0

    # Faults

    async def _break(self, fault: Fault) -> None:
        await self.traffic.reaches(fault.after)
        await asyncio.sleep(fault.wait)
        world, replica = self.world, self.world.replicas[fault.replica]
        match fault.kind:
            case kind if kind in proxy.KINDS:
                await self._disturb(fault)
            case "service killed":
                await world.kill_service(replica)
                await asyncio.sleep(fault.seconds / 4)
                await world.start_service(replica)
            case "service frozen":
                await self._freeze(replica.pid, fault.seconds)
            case "Redis frozen":
                await self._freeze(world.pid, 2 * fault.seconds)
            case "Redis killed":
                async with self.redis_lock:
                    if fault.amount < 0.3:
                        await world.rewrite_log()
                    await world.kill_redis()
                    await asyncio.sleep(fault.seconds / 2)
                    await world.start_redis()
            case "out of memory":
                await self._starve(fault)
            case "disk full":
                await self._fill(fault)
            case "power cut":
                await self._cut(fault)
            case "clock jump":
                replica.clock.off = (2 * fault.amount - 1) * 10 ** self.choose.choice((1, 3, 5, 7, 9))
                await asyncio.sleep(fault.seconds)
                replica.clock.off = 0.0

    async def _disturb(self, fault: Fault) -> None:
        chance, times = self.choose.choice(((1.0, 1), (1.0, 2), (1.0, 3), (0.5, 4), (0.2, 10), (1.0, 40)))
        trouble = proxy.Trouble(fault.kind, chance, times, self.choose, 2 * fault.seconds)
        self.world.replicas[fault.replica].proxy.trouble = trouble
        await asyncio.sleep(0.1 + fault.seconds)
        self.world.replicas[fault.replica].proxy.trouble = None

    async def _freeze(self, pid: int, seconds: float) -> None:
        send(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            send(pid, signal.SIGCONT)

    async def _starve(self, fault: Fault) -> None:
        async with self.redis_lock:
            await self.world.configure(maxmemory=1)
            await asyncio.sleep(fault.seconds)
            await self.world.configure(maxmemory=0)

    async def _fill(self, fault: Fault) -> None:
        """With fsync always a Redis that can't write ends itself; with everysec it refuses until it can."""
        world = self.world
        async with self.redis_lock:
            if fault.amount < 0.5:
                await world.configure(appendfsync="everysec")
            world.limit_files(self.choose.randrange(0, 3000))
            await asyncio.sleep(0.1 + fault.seconds)
            world.limit_files(None)
            await world.revive_redis()

    async def _cut(self, fault: Fault) -> None:
        """What a power cut leaves with everysec: the file, cut at any byte behind those that were flushed."""
        world = self.world
        async with self.redis_lock:
            flushed = time.monotonic()
            await world.configure(appendfsync="always")  # which writes out what waits
            kept = world.log_of_redis().stat().st_size
            await world.configure(appendfsync="everysec")
            await asyncio.sleep(fault.seconds)
            killed = time.monotonic()
            await world.kill_redis()
            log = world.log_of_redis()
            os.truncate(log, kept + int(fault.amount * (log.stat().st_size - kept)))
            back = time.monotonic()
            await world.start_redis()
            self.cuts.append(Cut(flushed, killed, back))

    # Judgement

    async def _judge(self) -> Verdict:
        world, traffic, run = self.world, self.traffic, self.schedule.run
        views = await self._views()
        export = views["replica 0"].pop("/export")
        same_export = {"replica 0": {"export": export}, "replica 1": {"export": views["replica 1"].pop("/export")}}
        assert isinstance(export, bytes)
        # The run's creation came without a key; the checker counts it like all others.
        made = Asked(reading.CREATED, "create", {}, whole=True, sent=[0.0], told=[Told(0.0, 201, b"")])
        asked = [made, *traffic.asked.values()]
        read = await reading.read(run, export, asked)
        wrong = [*traffic.wrong, *checker.check(asked, read.happened, self.cuts)]
        if not self.cuts:  # then an answer may be of a state that was lost
            wrong += [Violation("stale answer of no state", name) for name in read.groundless]
        views["a fold of the export"] = {"state": read.digest}
        views["a fresh replica"] = {"state": await self._fresh(wrong)}
        wrong += checker.disagreements(views) + checker.disagreements(same_export)
        gone = checker.lost(asked, read.happened)
        tries = [len(each.sent) for each in traffic.asked.values()]
        for each in traffic.again(gone):
            wrong += await asked_again(traffic, each)
        after = (await world.call(world.replicas[1], f"{traffic.path}/export")).content
        wrong += checker.disagreements({"before": {"history": export}, "asked again": {"history": after}})
        wrong += checker.check(asked, read.happened, self.cuts) if not wrong else []  # with the answers given again
        wrong += [Violation("traceback", text[-3000:]) for text in world.traces()]
        world.forget_logs()
        await world.call(world.replicas[0], traffic.path, "DELETE")
        reports = [each for each in traffic.asked.values() if each.kind == "report"]
        return Verdict(
            self.schedule,
            wrong,
            sum(each.first is not None for each in reports),
            sum(tries),
            sum(tries) - len(tries),
            len(gone),
        )

    async def _views(self) -> dict[str, dict[str, object]]:
        views: dict[str, dict[str, object]] = {}
        for replica in self.world.replicas:
            seen = {path: await self.world.call(replica, self.traffic.path + path) for path in VIEWS}
            seen["state"] = await self.world.call(replica, f"/faults/state/{self.schedule.run}")
            views[f"replica {replica.number}"] = {
                what: answer.content if answer.is_success else answer.status_code for what, answer in seen.items()
            }
            views[f"replica {replica.number}"]["state"] = seen["state"].text
        return views

    async def _fresh(self, wrong: list[Violation]) -> str:
        """The state of a replica that starts now, from Redis's snapshot if there is one, which must be one."""
        history = RedisHistory(connect(f"redis://127.0.0.1:{self.world.port}", 2.0), deadline=5.0)
        runs = Runs(history, idempotency_ttl=86_400, snapshot_every=1_000_000)
        key = RunKey(DEFAULT_TENANT, self.schedule.run)
        try:
            if (kept := await history.load(key)) is not None:
                snapshot.read(kept[1])
        except CodecError as error:
            wrong.append(Violation("unreadable snapshot", str(error)))
        try:
            return await runs.look(key, digest)
        finally:
            await runs.close()
            await history.close()
