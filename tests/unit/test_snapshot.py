"""A folded state <-> bytes."""

from __future__ import annotations

import gc
import itertools
import json
import random
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from greso_service.core.events import Forked, Patched, Rewound, Span
from greso_service.core.fold import fold as fold_one
from greso_service.core.fold import rewound
from greso_service.core.mark import START, Mark
from greso_service.core.state import RunState
from greso_service.history import snapshot
from greso_service.history.codec import CodecError

from ..folding import content, draw, mixed, pool, rates, report, run, select  # noqa: TID252


def grown_state() -> RunState:
    state = run(seed=3, train_batch_size=20, streak_rule="same_kind", hard_max_mean=0.2, exploration_bounds=[0.1, 0.8])
    pool(state, [f"pool/{number}" for number in range(500)])
    choose = random.Random(5)
    for step in range(12):
        drawn = draw(state, step, 60)["prompts"]
        groups = [(prompt, [choose.random() < 0.3 for _ in range(choose.randrange(9))]) for prompt in drawn]
        report(state, step, [*groups, ("é\0漢" * 20, [0.1 * step, 1])], final=step % 3 == 0)
    select(state, 12, ["new", "pool/0", "pool/499"], limit=2)
    report(state, 3, mixed(1, 1, 1, "late"))
    pool(state, ["told"], rates([0.5]))
    rewound(state, Rewound(9, 4, (Span(START, Mark(7, 2**32 - 1), 9),)), Mark(31, 5))
    return state


STATES = {"new": run, "grown": grown_state}


def kept(state: RunState) -> bytes:
    return snapshot.Frozen(state).encode()


@pytest.mark.parametrize("name", STATES)
def test_a_snapshot_holds_the_whole_state(name: str) -> None:
    state = STATES[name]()
    again = snapshot.decode(kept(state))
    assert content(again) == content(state)
    assert (again.past, again.since) == (state.past, state.since)


def test_a_state_read_back_goes_on_like_the_first() -> None:
    state = grown_state()
    again = snapshot.decode(kept(state))
    for each in (state, again):
        pool(each, ["more", "pool/3"])
        drawn = draw(each, 20, 30)["prompts"]
        report(each, 20, [(prompt, [1, 0]) for prompt in drawn[:10]] + [(drawn[0], [0, 0])])
        select(each, 21, [f"pool/{number}" for number in range(400)])
    assert content(again) == content(state)
    assert kept(again) == kept(state)


def test_freezing_takes_a_copy() -> None:
    state = grown_state()
    frozen, before = snapshot.Frozen(state), kept(state)
    report(state, 30, mixed(5, 5, 5))
    pool(state, ["another"])
    select(state, 3, ["a"])
    assert frozen.encode() == before


def test_a_thread_reads_what_was_frozen_while_the_fold_goes_on() -> None:
    state, prompts = run(), [f"{number}" for number in range(100_000)]
    pool(state, prompts)
    report(state, 0, [(prompt, [1, 0]) for prompt in prompts[:60_000]])
    frozen, before = snapshot.Frozen(state), kept(state)
    with ThreadPoolExecutor(1) as thread:
        encoded = thread.submit(frozen.encode)
        for step in itertools.count(1):
            chosen = prompts[step % 100 :: 100]
            report(state, step, [(prompt, [0, 0]) for prompt in chosen])
            if encoded.done() and step > 100:
                break
    assert encoded.result() == before
    assert kept(state) != before


def test_what_nobody_reads_any_more_is_kept_no_longer() -> None:
    state = grown_state()
    frozen = snapshot.Frozen(state)
    stills = state.stills
    del frozen
    gc.collect()
    assert [still() for still in stills] == [None], "no more than that changes: a thread may be folding"
    again = snapshot.Frozen(state)
    assert len(state.stills) == 1
    assert state.stills[0]() is again._still


def test_beside_a_snapshot_a_change_of_the_spec_keeps_what_it_touches_only() -> None:
    """All rows of a large run would hold up the event loop, where it is folded."""
    state = run(audit_share=1.0)
    pool(state, [f"{number}" for number in range(50)])
    report(state, 0, [(f"{number}", [0, 0]) for number in range(40)], final=True)
    select(state, 1, [f"{number}" for number in range(10)])
    audited = np.flatnonzero(state.prompts.audited)
    assert 0 < audited.size < 20
    frozen, before = snapshot.Frozen(state), kept(state)
    fold_one(state, Patched({"p_easy": 0.3}))
    fold_one(state, Forked("another", 0))
    assert frozen._still._before == []
    fold_one(state, Patched({"reward_tolerance": 0.1}))
    [(rows, _)] = frozen._still._before
    assert rows.tolist() == audited.tolist()
    assert frozen.encode() == before


def test_equal_states_have_equal_snapshots() -> None:
    assert kept(grown_state()) == kept(grown_state())


@pytest.mark.parametrize("version", [0, 1, 2, 255])
def test_other_versions_are_refused(version: int) -> None:
    with pytest.raises(CodecError, match="version 4"):
        snapshot.decode(bytes([version]) + kept(run())[1:])


def test_a_snapshot_cut_off_anywhere_is_refused() -> None:
    whole = kept(grown_state())
    for size in [*range(0, len(whole), 97), len(whole) - 1]:
        with pytest.raises(CodecError):
            snapshot.decode(whole[:size])


def test_a_changed_byte_is_refused_or_means_nothing() -> None:
    state = grown_state()
    whole = kept(state)
    for place in range(0, len(whole), 131):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        try:
            read = snapshot.decode(bytes(damaged))
        except CodecError:
            continue
        assert content(read) == content(state), place  # a bit of padding


def header_of(whole: bytes) -> tuple[dict[str, object], bytes]:
    inner = zlib.decompress(whole[1:])
    [length] = struct.unpack_from("<I", inner)
    return json.loads(inner[4 : 4 + length]), inner[4 + length :]


def with_header(header: object, arrays: bytes) -> bytes:
    text = json.dumps(header).encode()
    return whole_of(struct.pack("<I", len(text)) + text + arrays)


def whole_of(inner: bytes) -> bytes:
    return bytes([snapshot.VERSION]) + zlib.compress(inner)


@pytest.mark.parametrize("missing", ["spec", "progress", "cursor", "totals", "generation", "arrays"])
def test_a_header_that_lacks_something_is_refused(missing: str) -> None:
    header, arrays = header_of(kept(grown_state()))
    del header[missing]
    with pytest.raises(CodecError):
        snapshot.decode(with_header(header, arrays))


@pytest.mark.parametrize(
    "inner", [b"", b"\0", b"\xff\xff\xff\xff", struct.pack("<I", 2) + b"[]", struct.pack("<I", 4) + b"null"]
)
def test_nonsense_is_refused(inner: bytes) -> None:
    with pytest.raises(CodecError):
        snapshot.decode(whole_of(inner))


def test_arrays_shorter_than_the_header_says_are_refused() -> None:
    header, arrays = header_of(kept(grown_state()))
    with pytest.raises(CodecError):
        snapshot.decode(with_header(header, arrays[:-100]))


def test_prompts_not_visited_take_little_room() -> None:
    state = run()
    pool(state, [f"{number}" for number in range(20_000)])
    whole = kept(state)
    header, _ = header_of(whole)
    assert header["arrays"]["groups_codes"][1] == [0, 8]  # type: ignore[index]
    assert len(whole) < 20_000 * 20
    assert np.array_equal(snapshot.decode(whole).pool[:20_000], np.arange(20_000))


# Of a trimmed history the snapshot is all that is left of the events before it: every later service must read it.

BASE = Path(__file__).with_name("golden") / "base-4.snapshot"


def kept_for_ever() -> RunState:
    """The state that the golden bytes were made of."""
    state = run(seed=3, train_batch_size=4, policy="irt", audit_share=0.5, target_zero_variance="auto")
    pool(state, [f"pool/{number}" for number in range(30)], rates([0.5, 0.25]), domains=["math", "code", "", "math"])
    for step in range(6):
        drawn = draw(state, step, 8)["prompts"]
        report(state, step, [(prompt, [0, number % 3 > 0]) for number, prompt in enumerate(drawn)], final=step % 2 == 0)
    select(state, 6, ["new", "pool/0", "é\0漢"], limit=2)
    report(state, 3, mixed(1, 1, 1, "late"))
    rewound(state, Rewound(5, 2, (Span(START, Mark(7, 2**32 - 1), 5),)), Mark(31, 5))
    return state


def test_a_base_of_an_earlier_service_is_read() -> None:
    state, written_ms = snapshot.read(BASE.read_bytes())
    assert written_ms == 1_764_000_000_123
    assert (state.created.seed, state.spec.policy, state.spec.audit_share) == (3, "irt", 0.5)
    assert (state.generation, state.past, state.since) == (2, (Span(START, Mark(7, 2**32 - 1), 5),), Mark(31, 5))
    assert state.table.texts([0, 29]) == ["pool/0", "pool/29"]
    assert (state.table.size, state.pool_size, state.progress.step) == (33, 30, 5)
    assert (state.totals.groups, state.totals.rollouts, state.totals.effective) == (51, 102, 31)
    assert [(domain.name, domain.pooled) for domain in state.domains] == [("", 27), ("math", 2), ("code", 1)]
    assert state.steps.rows["groups"].tolist() == [8] * 6 + [0]
    assert [int(row["step"]) for row in state.recent(int(state.pool[0]))] != []
    pool(state, ["more"])
    report(state, 6, [(prompt, [1, 0]) for prompt in draw(state, 6, 5)["prompts"]])


def test_the_base_that_is_kept_is_one_of_this_version() -> None:
    """With a new version comes a new file; the old ones stay, and are read."""
    assert BASE.read_bytes()[0] == snapshot.VERSION
    again = snapshot.read(snapshot.Frozen(snapshot.decode(BASE.read_bytes()), 5).encode())[0]
    assert content(again) == content(snapshot.decode(BASE.read_bytes()))
    assert set(content(again)) == set(content(kept_for_ever()))
