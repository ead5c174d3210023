"""RecentGroups against lists: whatever is put in comes out, however its arrays widen and are swept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service.core import recent
from greso_service.core.recent import GROUP_ROW, RECENT, SAID_ROW, RecentGroups

PROMPTS = 5
NUMBERS = st.floats(width=64, allow_nan=True, allow_infinity=False)
SAID = st.tuples(NUMBERS, NUMBERS, NUMBERS, st.integers(0, 65_535), st.integers(0, 3))
PUTS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**53 - 1]),
        st.dictionaries(st.integers(0, PROMPTS - 1), SAID, min_size=1),
    ),
    max_size=40,
)


def put(groups: RecentGroups, kept: list[list[bytes]], step: int, said: dict[int, tuple[float, ...]]) -> None:
    """Put a group of each prompt into both."""
    index = np.array(list(said), np.int64)
    visits = np.array([len(kept[prompt]) for prompt in said], np.int32)
    groups.put(index, visits, step, np.array(list(said.values()), SAID_ROW))
    for prompt, one in said.items():
        kept[prompt].append(np.array([(step, *one)], GROUP_ROW).tobytes())


def copied(groups: RecentGroups, prompts: int) -> dict[str, np.ndarray]:
    """As a snapshot holds them."""
    by_prompt = {name: array[:prompts].copy() for name, array in groups.by_prompt.items()}
    return {**by_prompt, "said": groups.said.copy()}


def told(groups: RecentGroups, kept: list[list[bytes]]) -> list[list[bytes]]:
    """The last groups of each prompt, oldest first."""
    rows = groups.of(np.arange(len(kept)))
    counts = [range(max(len(own) - RECENT, 0), len(own)) for own in kept]
    return [[rows[prompt, place % RECENT].tobytes() for place in count] for prompt, count in enumerate(counts)]


@pytest.mark.parametrize("room", [1, recent._ROOM], ids=["swept all the time", "never swept"])
@pytest.mark.parametrize("looked_up", [2, recent._LOOKED_UP])
@given(puts=PUTS)
def test_what_is_put_comes_out(room: int, looked_up: int, puts: list[tuple[int, dict[int, tuple[float, ...]]]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recent, "_ROOM", room)
        patch.setattr(recent, "_LOOKED_UP", looked_up)
        groups, kept = RecentGroups(), [list[bytes]() for _ in range(PROMPTS)]
        groups.grow(PROMPTS)
        for step, said in puts:
            put(groups, kept, step, said)
        assert told(groups, kept) == [own[-RECENT:] for own in kept]
        packed = copied(groups, PROMPTS)
        again = RecentGroups.unpacked(PROMPTS, np.arange(PROMPTS), packed)
        assert again.of(np.arange(PROMPTS)).tobytes() == groups.of(np.arange(PROMPTS)).tobytes()


def test_graded_rewards_widen_the_codes_and_are_swept() -> None:
    prompts, rounds = 1_000, 200
    groups, kept = RecentGroups(), [list[bytes]() for _ in range(prompts)]
    groups.grow(prompts)
    for number in range(rounds):
        put(groups, kept, number, {one: (number + one / prompts, 0.0, 1.0, 8, 1) for one in range(prompts)})
    assert told(groups, kept) == [own[-RECENT:] for own in kept]
    assert groups.size < prompts * rounds / 2


def test_what_is_loaded_often_does_not_grow() -> None:
    prompts, most = 20_000, 0
    groups = RecentGroups()
    groups.grow(prompts)
    for visit in range(100):
        index = np.arange(visit * 3_000, (visit + 1) * 3_000) % prompts
        said = np.zeros(index.size, SAID_ROW)
        said["mean"], said["count"] = np.random.default_rng(visit).random(index.size), 8
        groups.put(index, np.full(index.size, visit * 3_000 // prompts, np.int32), visit, said)
        groups = RecentGroups.unpacked(prompts, np.arange(prompts), copied(groups, prompts))
        most = max(most, groups.size)
    assert most < 1.5 * (RECENT * prompts + 3_000)


def test_right_or_wrong_rewards_are_kept_once() -> None:
    groups = RecentGroups()
    groups.grow(10_000)
    for visit in range(RECENT):
        said = np.zeros(10_000, SAID_ROW)
        said["mean"], said["high"], said["count"] = np.arange(10_000) % 9 / 8, 1, 8
        groups.put(np.arange(10_000), np.full(10_000, visit, np.int32), visit, said)
    assert groups.size == 1 + 9
    assert sum(array.nbytes for array in copied(groups, 10_000).values()) < 10_000 * RECENT * 6 + 1_000
