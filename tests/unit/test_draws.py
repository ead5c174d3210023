"""Keyed uniforms and prepared ids. The golden numbers must never change: a replay would decide otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from greso_service.core.draws import MAX_ID_BYTES, IdError, Ids, epoch_key, mix, uniforms

LONG = "é\0漢" * 20


@pytest.mark.parametrize(
    ("prompt", "seed", "step", "draw"),
    [
        ("a", 0, 0, 0.21564323566860566),
        ("dapo/17", 0, 12, 0.9925414500181988),
        ("dapo/17", 1, 12, 0.34207700578405464),
        ("dapo/17", 0, 13, 0.6040207963004094),
        (LONG, 2**63 - 1, 2**53 - 1, 0.6164464920288422),
    ],
)
def test_golden_draws(prompt: str, seed: int, step: int, draw: float) -> None:
    assert uniforms(Ids.of([prompt]).hashes, seed, step).tolist() == [draw]


def test_golden_hashes() -> None:
    hashes = Ids.of(["a", "dapo/17", LONG]).hashes.tolist()
    assert hashes == [4490210150949542640, 17556934088079317291, 12246658054634130032]


@pytest.mark.parametrize(
    ("seed", "epoch", "key"),
    [(0, 0, 13268663514978968273), (0, 1, 17894992172829713362), (2**63 - 1, 10, 16166893022526350056)],
)
def test_golden_epoch_keys(seed: int, epoch: int, key: int) -> None:
    assert epoch_key(seed, epoch) == key


def test_the_mixer_is_the_published_one() -> None:
    # SplitMix64 from state 0 begins so (Vigna's reference code): the finaliser of multiples of the golden gamma.
    gamma = 0x9E3779B97F4A7C15
    states = np.array([gamma, 2 * gamma % 2**64, 3 * gamma % 2**64], np.uint64)
    assert mix(states).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_a_hash_depends_on_the_id_alone_not_on_its_neighbours() -> None:
    short, long = Ids.of(["a", "dapo/17"]), Ids.of(["a", "dapo/17", "x" * 256])
    assert short.words.shape == (2, 1)
    assert long.words.shape == (3, 32)
    assert long.hashes[:2].tolist() == short.hashes.tolist()


@pytest.mark.parametrize(
    "ids",
    [
        ["", "\0", "\0\0"][1:],
        ["a", "a\0", "a\0\0\0\0\0\0\0", "a\0\0\0\0\0\0\0\0"],
        ["12345678", "12345678\0", "123456789"],
        ["é", "e\u0301", "É"],  # composed and decomposed are different prompts
        ["x" * 255, "x" * 256],
    ],
)
def test_ids_that_look_alike_hash_apart(ids: list[str]) -> None:
    assert len(set(Ids.of(ids).hashes.tolist())) == len(ids)


def test_no_two_of_200_000_ids_share_a_hash() -> None:
    hashes = Ids.of([f"dataset/{number}" for number in range(200_000)]).hashes
    assert np.unique(hashes).size == 200_000


@pytest.mark.parametrize("prompt", ["a" * MAX_ID_BYTES, "é" * 128, "漢" * 85 + "a", "\0", " "])
def test_ids_of_1_to_256_bytes_are_taken(prompt: str) -> None:
    ids = Ids.of([prompt])
    assert ids.raw(0) == prompt.encode()
    assert ids.words.tobytes()[: ids.lengths[0]] == prompt.encode()


@pytest.mark.parametrize(
    ("prompts", "row", "detail"),
    [
        (["ok", ""], 1, "has 0"),
        (["a" * 257], 0, "has 257"),
        (["ok", "ok", "é" * 129], 2, "has 258"),
        (["ok", "\ud800"], 1, "surrogate"),
        (["", "\ud800"], 1, "surrogate"),
    ],
)
def test_other_ids_are_refused_with_their_row(prompts: list[str], row: int, detail: str) -> None:
    with pytest.raises(IdError, match=detail) as raised:
        Ids.of(prompts)
    assert raised.value.row == row


def test_no_ids() -> None:
    ids = Ids.of([])
    assert len(ids) == ids.hashes.size == 0
    assert uniforms(ids.hashes, 0, 0).size == 0


@pytest.mark.parametrize("other", [(1, 5), (0, 6)], ids=["seed", "step"])
def test_draws_of_another_seed_or_step_are_unrelated(other: tuple[int, int]) -> None:
    hashes = Ids.of([f"p{number}" for number in range(100_000)]).hashes
    correlation = np.corrcoef(uniforms(hashes, 0, 5), uniforms(hashes, *other))[0, 1]
    assert abs(correlation) < 5 / math.sqrt(100_000)


def test_successive_steps_of_one_prompt_are_unrelated() -> None:
    hashes = Ids.of(["p"]).hashes
    draws = np.concatenate([uniforms(hashes, 3, step) for step in range(20_000)])
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 5 / math.sqrt(20_000)
    assert abs(draws.mean() - 0.5) < 5 / math.sqrt(12 * 20_000)
