"""Exports: the whole history, whatever happens to the run meanwhile; and its replay, which folds what counts."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from greso_service.cli.exporting import export
from greso_service.cli.service import Service as Asked
from greso_service.cli.service import ServiceError
from greso_service.core.mark import START, Mark
from greso_service.core.state import RunState
from greso_service.errors import Conflict, NotFound, Unavailable
from greso_service.history import exported
from greso_service.history.base import RunKey
from greso_service.history.exported import ExportError
from greso_service.history.memory import MemoryHistory
from greso_service.runs import Runs
from greso_service.whatif.exported import counting

from ..asgi import over_shared, problem, within  # noqa: TID252
from ..commands import greso  # noqa: TID252
from ..folding import content, fold  # noqa: TID252
from ..servers import GRESO, Service  # noqa: TID252
from ..stores import PassingHistory, Store  # noqa: TID252
from .test_runs_replicas import KEY, replica, report


def payloads_of(text: bytes) -> list[bytes]:
    return list(exported.read(text.splitlines(keepends=True)))


async def exported_of(runs: Runs) -> bytes:
    return b"".join([piece async for piece in await runs.export(KEY)])


async def trained(runs: Runs, steps: int = 3) -> None:
    await runs.create(KEY, {"train_batch_size": 2})
    for step in range(1, steps + 1):
        await report(runs, step, ("easy", [1, 1]), ("hard", [0, 0]), ("both", [0, step % 2]), final=True)


def test_an_export_is_the_history_byte_for_byte(store: Store) -> None:
    async def told() -> None:
        async with store.opened() as history:
            runs = replica(history)
            await trained(runs, 300)  # more than a page
            text = await exported_of(runs)
            assert payloads_of(text) == await whole(history)
            assert await exported_of(replica(history)) == text, "another replica writes the same"
            await runs.close()

    asyncio.run(told())


async def whole(history: Any) -> list[bytes]:
    found: list[bytes] = []
    mark = START
    while page := await history.read(KEY, mark, 1000):
        found += page
        for payload in page:
            mark = mark.then(payload)
    return found


def test_what_is_written_meanwhile_is_not_in_it() -> None:
    async def told() -> None:
        runs = replica(MemoryHistory())
        await trained(runs)
        pieces = await runs.export(KEY)
        text = await anext(pieces)
        await report(runs, 9, ("late", [0, 1]))
        text += b"".join([piece async for piece in pieces])
        assert len(payloads_of(text)) == 4

    asyncio.run(told())


def test_rewinds_stand_in_it_and_a_replay_folds_what_counts() -> None:
    async def told() -> None:
        runs = replica(MemoryHistory())
        await trained(runs, 5)
        await runs.select(KEY, 7, ["easy", "hard"])
        await runs.rewind(KEY, 3)
        await report(runs, 4, ("easy", [0, 1]), ("new", [0, 0]), final=True)
        await runs.rewind(KEY, 4)
        await runs.rewind(KEY, 2)
        await report(runs, 3, ("other", [0, 1]), final=True)
        events = counting(payloads_of(await exported_of(runs)))
        await runs.show(KEY)
        state = runs._live.known(KEY)
        assert state is not None
        made = fold(RunState(events[0]), events[1:])  # type: ignore[arg-type]
        mine, theirs = content(made), content(state)
        differ = {name for name in theirs if mine[name] != theirs[name]}
        assert differ <= {"generation", "past", "since"}, differ
        assert b"new" not in b"".join(getattr(event, "new", [b""])[0] for event in events if getattr(event, "new", []))

    asyncio.run(told())


def test_a_run_that_goes_away_breaks_its_export_off() -> None:
    async def told() -> None:
        runs = replica(MemoryHistory())
        await trained(runs)
        pieces = await runs.export(KEY)
        await anext(pieces)
        await runs.delete(KEY)
        with pytest.raises(Conflict, match="deleted or trimmed"):
            await anext(pieces)
        with pytest.raises(NotFound):
            await runs.export(KEY)

    asyncio.run(told())


# Over HTTP


def test_the_route_streams_and_says_what_it_is() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={"seed": 4})
        answer = await client.get("/v1/runs/r/export")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert answer.headers["content-disposition"] == 'attachment; filename="r.ndjson"'
        assert len(payloads_of(answer.content)) == 1
        problem(await client.get("/v1/runs/none/export"), 404)
        problem(await client.post("/v1/runs/r/export"), 405)

    over_shared(story)


class Failing(PassingHistory):
    """Loses a history that is read from its beginning the second time."""

    def __init__(self) -> None:
        super().__init__(MemoryHistory())
        self.fails = False

    async def read(self, key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
        return None if self.fails and after == START else await self.inner.read(key, after, limit)


def test_an_export_that_fails_on_its_way_is_not_taken_for_whole() -> None:
    history = Failing()

    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={})
        history.fails = True
        # However a transport tells of an answer that breaks off, the text without its last line is refused.
        with pytest.raises((httpx.HTTPError, AssertionError, ExportError)):
            payloads_of((await client.get("/v1/runs/r/export")).content)

    within(story, history)


class Leaving(PassingHistory):
    """Is away from a certain read on."""

    def __init__(self) -> None:
        super().__init__(MemoryHistory())
        self.left = 1_000

    async def read(self, key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
        self.left -= 1
        if self.left < 0:
            raise Unavailable("Redis does not answer: it left")
        return await self.inner.read(key, after, limit)


def test_an_export_that_an_outage_breaks_off_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    history = Leaving()

    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={})
        history.left = 1  # it is caught up with before its events are read
        with pytest.raises((httpx.HTTPError, AssertionError, ExportError)):
            payloads_of((await client.get("/v1/runs/r/export")).content)

    within(story, history)
    [line] = [record for record in caplog.records if "/export" in record.getMessage()]
    assert line.getMessage() == "GET /v1/runs/{run}/export broke off: Redis does not answer: it left"
    assert line.exc_info is None


# The commands


def made(service: Service, run: str) -> None:
    service.json("PUT", f"/v1/runs/{run}", {"policy": "uniform", "group_size": 2, "train_batch_size": 1})
    for step in range(6):
        results = [
            {"prompt": "easy", "rewards": [1, 1]},
            {"prompt": "hard", "rewards": [0, 0]},
            {"prompt": f"both/{step % 2}", "rewards": [0, 1]},
        ]
        service.json(
            "POST", f"/v1/runs/{run}/report", {"step": step, "results": results, "final": True}, f"{run}{step}"
        )


def test_a_run_is_exported_and_replayed(service: Service, run_name: str, tmp_path: Path) -> None:
    made(service, run_name)
    file = tmp_path / "run.ndjson.gz"
    subprocess.run([GRESO, "export", run_name, "-o", file, "--url", service.url], check=True, capture_output=True)
    text = gzip.decompress(file.read_bytes())
    assert text == service.call("GET", f"/v1/runs/{run_name}/export").content
    options = ["--policy", "greso", "--json"]
    piped = subprocess.run(
        f"{GRESO} export {run_name} --url {service.url} | {GRESO} replay - {' '.join(options)}",
        shell=True, check=True, capture_output=True, text=True,
    )  # fmt: skip
    told = json.loads(piped.stdout)
    assert told["log"]["groups"] == 18
    assert told["policies"][0]["skipped_easy"] + told["policies"][0]["skipped_hard"] > 0
    assert told["policies"][0]["effective_lost"] == 0
    assert told["source"] == f"standard input (run {run_name})"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_file_that_is_there_is_kept_unless_force_is_given(service: Service, run_name: str, tmp_path: Path) -> None:
    made(service, run_name)
    file = tmp_path / "run.ndjson"
    file.write_text("another")

    def export(*options: str, to: Path = file) -> tuple[int, str]:
        done = greso("export", run_name, "-o", to, *options, "--url", service.url)
        return done.returncode, done.stderr

    assert export() == (1, f"greso: {file} is there already; give --force to replace it, or another name\n")
    assert file.read_text() == "another"
    assert export("--force")[0] == 0
    assert file.read_bytes() == service.call("GET", f"/v1/runs/{run_name}/export").content
    nowhere = tmp_path / "none" / "run.ndjson"
    assert export(to=nowhere) == (1, f"greso: {nowhere}: No such file or directory\n")
    assert export(to=tmp_path)[1] == f"greso: {tmp_path}: Is a directory\n"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_an_unknown_run_is_one_line_and_leaves_no_file(service: Service, tmp_path: Path) -> None:
    done = greso("export", "no-such-run", "-o", tmp_path / "x", "--url", service.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("greso: there is no run no-such-run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": "greso-history", "version": 1, "run": "r", "events": 0}\n', "cut off behind line 1"),
        ("<html>\n", "line 1 is not JSON"),
    ],
)
def test_a_damaged_export_leaves_no_file(text: str, message: str, tmp_path: Path) -> None:
    with (
        Asked("http://greso", httpx.MockTransport(lambda _: httpx.Response(200, text=text))) as service,
        pytest.raises(ServiceError, match=message),
    ):
        export(service, "r", tmp_path / "r.ndjson")
    assert not list(tmp_path.iterdir())


def test_an_export_of_a_filtered_run_says_so(tmp_path: Path) -> None:
    from greso_service.whatif.read import read  # noqa: PLC0415

    async def told() -> bytes:
        runs = replica(MemoryHistory())
        await runs.create(KEY, {"p_easy": 0.05, "p_hard": 0.05, "train_batch_size": 1})
        for step in range(4):
            await runs.select(KEY, step, ["easy", "hard", "both"])
            await report(runs, step, ("easy", [1, 1]), ("both", [0, 1]), final=True)
        return await exported_of(runs)

    path = tmp_path / "r.ndjson"
    path.write_bytes(asyncio.run(told()))
    [note] = read([str(path)]).notes
    assert note.startswith("The run was filtered itself (policy greso): ")
    path.write_bytes(path.read_bytes().replace(b'"mark":"3-', b'"mark":"4-'))
    with pytest.raises(Exception, match=r"r\.ndjson: line 4 has the mark"):
        read([str(path)])


@pytest.mark.parametrize("shadow", [False, True])
def test_an_export_of_a_run_ranked_by_draws_says_so(shadow: bool, tmp_path: Path) -> None:
    from greso_service.whatif.read import read  # noqa: PLC0415

    async def told() -> bytes:
        runs = replica(MemoryHistory())
        await runs.create(KEY, {"policy": "mopps", "train_batch_size": 1, "cooldown_steps": 0, "shadow": shadow})
        await runs.add_prompts(KEY, [f"p{number}" for number in range(20)])
        for step in range(3):
            drawn = json.loads((await runs.draw(KEY, step, 4)).body)["prompts"]
            await report(runs, step, *((prompt, [0, 1]) for prompt in drawn), final=True)
        return await exported_of(runs)

    path = tmp_path / "r.ndjson"
    path.write_bytes(asyncio.run(told()))
    notes = read([str(path)]).notes
    assert [note.partition(":")[0] for note in notes] == (
        [] if shadow else ["The run was ranked itself (policy mopps)"]
    )
