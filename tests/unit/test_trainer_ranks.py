"""Several processes: two real ones over gloo do what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import two_ranks
from tests.servers import free_port

from greso_client.trainer.ranks import ALONE, Ranks

pytestmark = pytest.mark.slow  # two more processes load torch

torch.set_num_threads(1)  # these tensors are small, and waiting threads would take the cores from others

PATIENCE = 240.0  # seconds; two imports of torch take eight on an idle core


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What two ranks, started as torchrun starts them, have to tell."""
    folder = tmp_path_factory.mktemp("ranks")
    peers = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.two_ranks", str(folder)],
            env={**os.environ, **peers, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=Path(__file__).parents[2],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_two_ranks_make_the_update_of_one(told: list[Any]) -> None:
    first, second = (each["update"] for each in told)
    one = two_ranks.update(ALONE)
    assert first == second  # to the bit: else the ranks would drift apart
    assert all(clipped > 0 and kl > 0 for _, _, clipped, kl, _ in one["updates"])
    for here, there in zip(one["updates"], first["updates"], strict=True):
        assert there == pytest.approx(here, rel=1e-3, abs=1e-5)
    for name, values in one["weights"].items():
        torch.testing.assert_close(torch.tensor(first["weights"][name]), torch.tensor(values), atol=2e-4, rtol=1e-3)


def test_rank_0_asks_and_all_roll_out_their_share(told: list[Any]) -> None:
    first, second = (each["collect"] for each in told)
    assert first["asked"] == [["a", "c"], ["d"]]
    assert second["asked"] == [["b"], []]
    # "b" failed on the second rank; the rest comes back in the prompts' order.
    assert first["groups"] == [["a", "a by 0"], ["c", "c by 0"], ["d", "d by 0"]]
    assert first["failed"] == second["failed"] == 1
    assert first["effective"] == second["effective"] == [["a", "a by 0"], ["d", "d by 0"]]
    assert (second["step"], second["groups"]) == (7, [])


@pytest.mark.parametrize("bad_rank", [0, 1])
def test_what_stops_one_rank_stops_all_with_its_reason(told: list[Any], bad_rank: int) -> None:
    for each in told:
        assert f"rank {bad_rank} could not roll out: the engine died" in each["fail"][bad_rank]


def test_rewards_that_fail_on_any_rank_are_counted_on_all(told: list[Any]) -> None:
    assert [each["failures"] for each in told] == [[2, 4], [2, 4]]


def test_a_rank_that_ends_is_told_to_the_others(told: list[Any]) -> None:
    assert "another rank has ended" in told[0]["lonely"]


def test_alone_nothing_is_exchanged() -> None:
    assert Ranks.join().size == 1
    assert not torch.distributed.is_initialized()
    assert list(ALONE.share("abc")) == ["a", "b", "c"]
    assert ALONE.first
    item = object()
    assert ALONE.broadcast(item) is item
    assert ALONE.gather(item) == [item]
    ALONE.leave()
