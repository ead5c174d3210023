"""The client against the real service: going back to a step, branching off, and who may write afterwards."""

from __future__ import annotations

import asyncio
import itertools
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from greso_client import AsyncClient, Client, ConflictError, FencedError, Group, Rollout, UnavailableError

from ..e2e.oracle.service import Service  # noqa: TID252 - tests are no installed package

MIXED, HARD = [0.0, 1.0], [0.0, 0.0]
SPEC: dict[str, Any] = {"train_batch_size": 6, "rollout_batch_size": 12, "seed": 3}
NAMES = itertools.count(1)
Steps = list[list[str]]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    service = Service(tmp_path_factory.mktemp("rewind"))
    try:
        yield f"http://127.0.0.1:{service.start().port}"
    finally:
        service.close()


@pytest.fixture
def run() -> str:
    return f"rewind-{next(NAMES)}"


def make(url: str, run: str, **more: Any) -> Client:
    # A generous budget: these tests are about answers, and the machine may be busy.
    return Client(url, run=run, **({"budget": 20.0, "strict": True} | more))


def train(client: Client, first: int, last: int) -> Steps:
    """The prompts rolled out in each of the steps; what a prompt earns depends on nothing but prompt and step."""
    done: Steps = []
    for step in range(first, last + 1):

        def roll_out(prompts: list[str], step: int = step) -> list[Rollout[None]]:
            lucky = [zlib.crc32(f"{prompt} at {step}".encode()) % 10 < 4 for prompt in prompts]
            return [Rollout(MIXED if is_lucky else HARD, None) for is_lucky in lucky]

        got = client.collect(step, roll_out)
        assert got.complete, got.reason
        done.append([group.prompt for group in got.groups])
    return done


def begin(client: Client) -> None:
    client.create_run(**SPEC)
    client.add_prompts(f"p{index}" for index in range(40))


def test_a_resumed_trainer_chooses_what_an_uninterrupted_one_did(url: str, run: str) -> None:
    with make(url, run) as first, make(url, run) as second:
        begin(first)
        whole = train(first, 0, 9)
        before = [row for row in first.steps() if row.step <= 5]
        begin(second)
        second.report(5, [], final=True)
        state = second.rewind(5)
        assert (state.generation, state.step, second.generation) == (1, 5, 1)
        assert state.totals.groups == sum(map(len, whole[:6]))
        assert second.steps() == before
        assert train(second, 6, 9) == whole[6:]
        assert second.state().totals.skipped.hard > 0


@pytest.mark.parametrize("reported", [False, True])
def test_who_numbers_steps_from_one_begins_anew_with_step_zero(url: str, run: str, reported: bool) -> None:
    with make(url, run) as client:
        begin(client)
        fresh = client.state()
        first = train(client, 1, 4) if reported else [client.draw(1).prompts]
        client.report(0, [], final=True)
        state = client.rewind(0)
        assert (state.step, state.pool, state.totals, state.generation) == (0, fresh.pool, fresh.totals, 1)
        assert (train(client, 1, 4) if reported else [client.draw(1).prompts]) == first


@pytest.mark.parametrize("first_step", [0, 1])
def test_a_trainer_that_resumes_without_rewinding_is_told_for_each_step_and_warned_once(
    url: str, run: str, first_step: int, caplog: pytest.LogCaptureFixture
) -> None:
    def collected(client: Client, *steps: int) -> list[str]:
        client.create_run(train_batch_size=2, rollout_batch_size=2)
        client.add_prompts(f"p{index}" for index in range(40))
        return [client.collect(step, lambda prompts: [Rollout(MIXED, None) for _ in prompts]).reason for step in steps]

    with make(url, run) as first, make(url, run) as joins, make(url, run) as resumes, make(url, run) as rewinds:
        assert collected(first, *range(first_step, 4)) == ["complete"] * (4 - first_step)
        first.report(4, [Group("p0", HARD)])
        assert collected(joins, 4, 5) == ["complete"] * 2
        assert not caplog.text
        # Each has the very counts that the service has of the step: 2 groups, 2 of them effective.
        assert collected(resumes, first_step, 3, 5, 6) == ["late", "late", "late", "complete"]
        assert caplog.text.count("calls client.rewind(step) first") == 1
        rewinds.rewind(4)
        assert collected(rewinds, 5, 6) == ["complete"] * 2
        assert caplog.text.count("calls client.rewind(step) first") == 1


def test_a_trainer_taken_for_dead_changes_nothing_any_more(url: str, run: str) -> None:
    with make(url, run) as dead, make(url, run) as alive:
        begin(dead)
        train(dead, 0, 3)
        begin(alive)
        alive.rewind(2)
        known = alive.state()
        writes: tuple[Callable[[], object], ...] = (
            lambda: dead.report(4, [Group("p0", MIXED)]),
            lambda: dead.draw(4),
            lambda: dead.select(4, ["p0"]),
            lambda: dead.add_prompts(["new"]),
            lambda: dead.update_run(train_batch_size=2),
            lambda: dead.rewind(1),
            lambda: dead.fork(f"{run}-fork"),
            dead.delete_run,
        )
        for write in writes:
            with pytest.raises(FencedError, match="must stop"):
                write()
            assert dead.state() == known == alive.state()
        train(alive, 3, 4)


def test_a_step_that_has_not_completed_is_refused_with_the_newest_that_has(url: str, run: str) -> None:
    with make(url, run) as client:
        begin(client)
        train(client, 0, 3)
        client.report(4, [Group("p0", MIXED)])
        with pytest.raises(ConflictError, match="step 3 is the newest"):
            client.rewind(4)
        with pytest.raises(ConflictError, match="step 3 is the newest"):
            client.fork(f"{run}-fork", 4)
        assert (client.generation, client.state().generation) == (0, 0)


def test_a_fork_goes_on_as_its_run_did_and_leaves_it_alone(url: str, run: str) -> None:
    with make(url, run) as client, make(url, f"{run}-fork") as branch, make(url, f"{run}-now") as now:
        begin(client)
        whole = train(client, 0, 9)
        known = client.state()
        assert client.fork(f"{run}-fork", 5).run == f"{run}-fork"
        assert client.fork(f"{run}-now").totals == known.totals
        with pytest.raises(ConflictError):
            client.fork(f"{run}-fork", 5)
        assert train(branch, 6, 9) == whole[6:]
        assert (branch.generation, now.state().step) == (0, 9)
        assert client.state() == known
        train(client, 10, 10)


class LosesAnswers(httpx.HTTPTransport):
    """The service gets every request; while `losing`, its answers get lost."""

    losing = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if self.losing:
            response.read()
            response.close()
            raise httpx.ReadError("the answer was lost", request=request)
        return response


def test_a_rewind_whose_answer_was_lost_is_asked_again_and_counts_once(url: str, run: str) -> None:
    transport = LosesAnswers()
    with make(url, run, transport=transport, budget=2.0) as client:
        begin(client)
        train(client, 0, 3)
        transport.losing = True
        with pytest.raises(UnavailableError):
            client.rewind(2)
        transport.losing = False
        assert client.rewind(2).generation == client.state().generation == client.generation == 1
        train(client, 3, 3)


def test_reports_left_in_the_spool_are_there_before_the_run_goes_back(url: str, run: str, tmp_path: Path) -> None:
    more = {"strict": False, "spool": tmp_path / "spool"}
    transport = LosesAnswers()
    with make(url, run, budget=0.5, transport=transport, **more) as killed:
        begin(killed)
        train(killed, 0, 3)
        transport.losing = True
        answer = killed.report(4, [Group(f"p{index}", MIXED) for index in range(6)])
        assert answer.degraded
        assert killed.report(5, [Group("p0", MIXED)]).degraded
    with make(url, run, **more) as resumed:
        begin(resumed)
        assert resumed.rewind(4).totals.groups >= 6
        assert resumed.counters.delivered == 2
        assert [row.step for row in resumed.steps()] == [0, 1, 2, 3, 4]
        assert train(resumed, 5, 5)


def test_reports_spooled_by_a_trainer_taken_for_dead_are_put_aside(url: str, run: str, tmp_path: Path) -> None:
    class Down(httpx.HTTPTransport):
        down = False

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if self.down:
                raise httpx.ConnectError("nobody listens", request=request)
            return super().handle_request(request)

    transport = Down()
    spool = tmp_path / "spool"
    with make(url, run, budget=0.5, transport=transport, strict=False, spool=spool) as dead, make(url, run) as alive:
        begin(dead)
        train(dead, 0, 3)
        transport.down = True
        assert dead.report(4, [Group("p0", MIXED)]).degraded
        begin(alive)
        alive.rewind(3)
        transport.down = False
        assert dead.flush(within=20.0)
        assert (dead.counters.refused, dead.counters.delivered) == (1, 0)
        assert "must stop" in Path(f"{spool}.refused").read_text()
        assert alive.state().totals.groups == sum(row.groups for row in alive.steps())
        assert [row.step for row in alive.steps()] == [0, 1, 2, 3]


def test_the_async_client_goes_back_and_branches_off(url: str, run: str) -> None:
    async def main() -> None:
        async with (
            AsyncClient(url, run=run, budget=20.0, strict=True) as dead,
            AsyncClient(url, run=run, budget=20.0, strict=True) as client,
        ):
            await dead.create_run(train_batch_size=1)
            await client.create_run(train_batch_size=1)
            for step in range(3):
                await client.report(step, [Group("a", MIXED)])
            assert (await client.rewind(1)).generation == client.generation == 1
            assert (await client.fork(f"{run}-fork", 0)).totals.groups == 1
            with pytest.raises(FencedError):
                await dead.report(2, [Group("a", MIXED)])
            assert (await client.report(2, [Group("a", MIXED)])).step.complete

    asyncio.run(main())
