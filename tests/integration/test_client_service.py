"""The client against the real service: every call, both shells, and each code block of the client's page."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from greso_client import (
    AsyncClient,
    Client,
    ConflictError,
    Group,
    InvalidRequestError,
    NotFoundError,
    Rollout,
    StepProgress,
    ZeroVariance,
)
from greso_client import _answers as answers
from greso_client._io import run

from ..e2e.oracle.service import Service  # noqa: TID252 - tests are no installed package

MIXED, EASY, HARD = [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]
PAGE = Path(__file__).parents[2] / "docs" / "client.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
NAMES = itertools.count(1)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    service = Service(tmp_path_factory.mktemp("client"))
    try:
        yield f"http://127.0.0.1:{service.start().port}"
    finally:
        service.close()


@pytest.fixture
def client(url: str, tmp_path: Path) -> Iterator[Client]:
    # A generous budget: these tests are about answers, and the machine may be busy.
    with Client(url, run=f"client-{next(NAMES)}", spool=tmp_path / "spool.jsonl", budget=20.0, strict=True) as client:
        yield client


def test_creating_is_idempotent_and_another_spec_is_refused_with_the_difference(client: Client) -> None:
    created = client.create_run(train_batch_size=4, seed=5)
    assert (created.spec["train_batch_size"], created.spec["seed"], created.spec["group_size"]) == (4, 5, 8)
    assert client.create_run(train_batch_size=4, seed=5) == created
    with pytest.raises(ConflictError, match="seed"):
        client.create_run(train_batch_size=4, seed=6)


def test_a_field_out_of_range_or_unknown_is_refused_with_its_pointer(client: Client) -> None:
    for spec, pointer in (({"train_batch_size": 0}, "/train_batch_size"), ({"no_such_field": 1}, "/no_such_field")):
        with pytest.raises(InvalidRequestError) as caught:
            client.create_run(**spec)
        assert [error.pointer for error in caught.value.problem.errors] == [pointer]


def test_a_run_that_does_not_exist(client: Client) -> None:
    for call in (client.state, client.steps, lambda: client.select(0, ["a"]), lambda: client.report(0, [])):
        with pytest.raises(NotFoundError):
            call()


def test_select_and_report_by_hand(client: Client) -> None:
    client.create_run(train_batch_size=2, rollout_batch_size=4)
    first = client.report(0, [Group("a", MIXED), Group("b", EASY), Group("c", HARD), Group("d", [1.0])])
    assert (first.effective, first.zero_variance, first.undetermined) == ([0], ZeroVariance(1, 1), 1)
    assert first.step == StepProgress(0, 3, 1, 1, complete=False)
    choice = client.select(0, ["a", "b", "c", "d", "new"], explain=True)
    assert choice.decisions is not None
    assert [decision.keep_probability for decision in choice.decisions] == [1.0, 0.5, 0.5, 1.0, 1.0]
    assert [decision.keep for decision in choice.decisions] == [index in choice.selected for index in range(5)]
    assert (choice.degraded, choice.stale, choice.examined) == (False, False, 5)
    assert client.report(0, [], final=True).step.complete
    row = client.steps()[0]
    assert (row.step, row.groups, row.effective, row.rollouts, row.complete) == (0, 3, 1, 7, True)
    assert client.steps(after=0) == []
    prompt = client.prompt("b")
    assert (prompt.streak, prompt.kind, prompt.mean, prompt.last_step) == (1, "easy", 1.0, 0)
    assert [(group.count, group.outcome) for group in prompt.groups] == [(2, "easy")]
    assert client.state().totals.rollouts == 7


@pytest.mark.parametrize("prompt", ["a/b", "..", ".", "ä ?#%2F+", "/", "x" * 256, "a//b/", "a\n", "x\ny", "\n"])
def test_a_prompt_of_any_characters_is_found_again(client: Client, prompt: str) -> None:
    client.create_run()
    client.add_prompts([prompt])
    client.report(0, [Group(prompt, HARD)])
    assert client.prompt(prompt).prompt == prompt
    assert client.prompt(prompt).streak == 1


def test_the_pool_is_walked_and_collected_to_the_end(client: Client) -> None:
    client.create_run(train_batch_size=8, rollout_batch_size=16)
    assert client.add_prompts(f"p{index}" for index in range(64)).pool == 64
    chance = random.Random(1)

    def roll_out(prompts: list[str]) -> list[Rollout[str]]:
        return [Rollout(MIXED if chance.random() < 0.4 else HARD, prompt) for prompt in prompts]

    for step in range(6):
        got = client.collect(step, roll_out)
        assert got.complete
        assert len(got.effective) >= 8
        assert all(group.prompt == group.data for group in got.groups)
    totals = client.state().totals
    assert totals.skipped.hard > 0
    rows = client.steps()
    assert [row.complete for row in rows] == [True] * 6
    assert sum(row.rollouts for row in rows) == totals.rollouts


def test_candidates_are_selected_and_collected_to_the_end(client: Client) -> None:
    client.create_run(train_batch_size=8, rollout_batch_size=16)
    chance = random.Random(2)
    pool = [f"p{index}" for index in range(40)]

    def stream() -> Iterator[str]:
        while True:
            yield from chance.sample(pool, len(pool))

    def roll_out(prompts: list[str]) -> list[Rollout[None]]:
        return [Rollout(MIXED if int(prompt[1:]) % 3 == 0 else HARD, None) for prompt in prompts]

    prompts = stream()
    for step in range(8):
        got = client.collect(step, roll_out, prompts=prompts)
        assert got.complete, got.reason
        assert {int(group.prompt[1:]) % 3 for group in got.effective} == {0}
    assert client.state().totals.skipped.hard > 20


@pytest.mark.parametrize("walk", ["draw", "select"])
def test_a_pool_of_useless_prompts_ends_every_step(client: Client, walk: str) -> None:
    client.create_run(train_batch_size=4, rollout_batch_size=8, min_keep_probability=0.0, p_hard=0.05)
    pool = [f"p{index}" for index in range(8)]
    client.add_prompts(pool)
    reasons = []
    for step in range(12):
        candidates = None if walk == "draw" else itertools.cycle(pool)
        got = client.collect(step, lambda prompts: [Rollout(HARD, None) for _ in prompts], candidates, max_rounds=3)
        assert got.effective == []
        reasons.append(got.reason)
    assert set(reasons) == {"no_candidates", "max_rounds"} or set(reasons) == {"no_candidates"}
    assert [row.complete for row in client.steps()] == [True] * 12


def test_a_trainer_that_resumes_without_rewinding_is_told(client: Client) -> None:
    client.create_run(train_batch_size=2)
    client.report(9, [Group("a", MIXED)])
    got = client.collect(3, lambda prompts: [Rollout(MIXED, None) for _ in prompts], prompts=["a"])
    assert got.reason == "late"


def test_a_replayed_report_counts_once(client: Client, url: str) -> None:
    client.create_run()
    request = client._core._requests.report(0, [Group("a", HARD)], False)
    first, _ = run(client._core._contact.ask(request, answers.reported))
    again, _ = run(client._core._contact.ask(request, answers.reported))
    assert first == again
    assert client.state().totals.groups == 1


def test_a_deleted_run_is_gone(client: Client) -> None:
    client.create_run()
    client.delete_run()
    with pytest.raises(NotFoundError):
        client.state()


def test_an_empty_pool_is_a_conflict(client: Client) -> None:
    client.create_run()
    with pytest.raises(ConflictError, match="pool"):
        client.draw(0)


def test_two_hundred_thousand_prompts_go_into_the_pool(client: Client) -> None:
    client.create_run()
    assert client.add_prompts(f"dapo/{index}" for index in range(200_000)).pool == 200_000
    assert len(client.draw(0, 1024).prompts) == 1024


def test_the_async_client(url: str, tmp_path: Path) -> None:
    async def roll_out(prompts: list[str]) -> list[Rollout[int]]:
        await asyncio.sleep(0)
        return [Rollout(MIXED, index) for index in range(len(prompts))]

    async def main() -> None:
        async with AsyncClient(url, run="async", spool=tmp_path / "s", budget=20.0, strict=True) as client:
            await client.create_run(train_batch_size=4, rollout_batch_size=8)
            await client.add_prompts([f"p{index}" for index in range(20)])
            got = await client.collect(0, roll_out)
            assert (got.complete, [group.data for group in got.effective]) == (True, list(range(8)))
            await asyncio.gather(*(client.report(1, [Group(f"p{n}", HARD)]) for n in range(16)))
            assert (await client.state()).totals.groups == 24
            assert (await client.prompt("p0")).visits >= 1
            assert len(await client.steps()) == 2
            assert (await client.update_run(train_batch_size=5)).spec["train_batch_size"] == 5
            await client.delete_run()

    asyncio.run(main())


def test_the_page_has_the_blocks_it_is_known_for() -> None:
    assert len(BLOCKS) == 10
    assert len(BLOCKS[0].strip().splitlines()) <= 14


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.sub(r"\W+", "-", block.strip().splitlines()[-1]))
def test_every_block_of_the_page_runs(block: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRESO_URL", url)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    trained: list[Any] = []
    chance = random.Random(3)
    namespace = {
        "generate": lambda _, n: [chance.random() for _ in range(n)],
        "grade": lambda response: float(response < 0.1),
        "train": trained.append,
        "__name__": "page",
    }
    exec(compile(block.replace("http://127.0.0.1:8080", url), str(PAGE), "exec"), namespace)
    if "train(" in block:
        assert [len(batch) >= 32 for batch in trained] == [True] * 3


def test_every_option_of_the_client_is_in_the_table_of_the_page() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", PAGE.read_text().split("## Calls")[0], re.MULTILINE)
    assert documented == list(inspect.signature(Client).parameters)


def test_every_call_of_the_client_is_in_the_table_of_the_page() -> None:
    rows = PAGE.read_text().split("## Calls")[1].split("\n\n")[1]
    documented = set(
        re.findall(r"`(\w+)(?:\([^`]*\))?`(?=[,| ])", "\n".join(row.split("|")[1] + "|" for row in rows.splitlines()))
    )
    assert documented == {name for name in vars(Client) if not name.startswith("_")}


def test_reports_of_a_run_that_could_not_be_created_yet_outlive_their_process(url: str, tmp_path: Path) -> None:
    run, spool = f"client-{next(NAMES)}", tmp_path / "spool"
    with socket.socket() as nobody, Client(_closed(nobody), run=run, budget=0.2, spool=spool) as away:
        away.create_run(train_batch_size=4)
        assert away.report(0, [Group("a", HARD)]).degraded
    with Client(url, run=run, spool=spool, budget=20.0) as back:
        back.create_run(train_batch_size=4)
        back.flush()
        assert back.state().totals.groups == 1
        assert back.counters.refused == 0


def _closed(unused: socket.socket) -> str:
    unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
    return f"http://127.0.0.1:{unused.getsockname()[1]}"
