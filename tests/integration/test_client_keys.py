"""The client against a real service with keys: one that is taken away in the middle of a training, and given back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from greso_client import Client, Collected, ForbiddenError, Group, Rollout
from greso_service.access import key_file
from greso_service.access.keys import Keyring

from ..keys import KeyFile, bearer  # noqa: TID252 - tests are no installed package
from ..servers import Service, eventually  # noqa: TID252

MIXED = [0.0, 1.0]
STEPS = range(1, 9)
LOST = range(3, 6)  # the steps in whose rollouts the service takes no key


@dataclass
class Keys:
    """A service with keys, and its file of them."""

    service: Service
    file: KeyFile

    def settle(self, key: str, *, good: bool) -> None:
        """Wait until the service goes by the file."""
        wanted = 200 if good else 401
        eventually(lambda: self.service.http.get("/v1/runs", headers=bearer(key)).status_code == wanted)

    def client(self, key: str, run: str, spool: Path, *, strict: bool = False) -> Client:
        return Client(self.service.url, run=run, api_key=key, spool=spool, budget=20.0, strict=strict)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    folder = tmp_path_factory.mktemp("keys")
    file = KeyFile(folder / "keys.json")
    file.add("team", "read")
    service = Service(folder, "--keys-file", str(file.path))
    try:
        service.start()
        yield Keys(service, file)
    finally:
        service.close()


def good_key(keys: Keys, name: str) -> str:
    key = keys.file.add("team", "write", name=name)
    keys.settle(key, good=True)
    return key


def roll_out(prompts: list[str]) -> list[Rollout[None]]:
    return [Rollout(MIXED, None) for _ in prompts]


def begin(client: Client) -> None:
    client.create_run(train_batch_size=4, rollout_batch_size=4)
    client.add_prompts(f"p{index}" for index in range(100))


def test_a_training_outlives_its_key_and_loses_nothing_when_it_is_back(
    keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, spool = good_key(keys, "outlived"), tmp_path / "spool"
    whole = keys.file.path.read_bytes()
    with keys.client(key, "outlived", spool) as client:
        begin(client)
        got: list[Collected[None]] = []
        for step in STEPS:

            def in_the_middle(prompts: list[str], step: int = step) -> list[Rollout[None]]:
                if step == LOST.start:
                    keys.file.revoke("outlived")
                    keys.settle(key, good=False)
                if step == LOST.stop:
                    keys.file.path.write_bytes(whole)
                    keys.settle(key, good=True)
                    assert client.flush()  # or the pause of the breaker would have to be waited for
                return roll_out(prompts)

            got.append(client.collect(step, in_the_middle))
        assert [each.reason for each in got] == ["complete"] * len(STEPS)
        assert [each.step for each in got if each.degraded] == [*LOST, LOST.stop]
        assert client.counters.spooled == client.counters.delivered == len(LOST)
        assert [(row.step, row.effective, row.complete) for row in client.steps()] == [(s, 4, True) for s in STEPS]
        assert client.state().totals.groups == sum(len(each.groups) for each in got)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "refuses the API key (401 Unauthorized: " in errors[0]
    assert key not in caplog.text
    assert not spool.exists()


def test_the_next_trainer_with_a_good_key_delivers_what_is_left(keys: Keys, tmp_path: Path) -> None:
    run, spool = "left", tmp_path / "spool"
    key = good_key(keys, run)
    with keys.client(key, run, spool) as client:
        begin(client)
        client.report(1, [Group("p1", MIXED)] * 4)
        keys.file.revoke(run)
        keys.settle(key, good=False)
        assert client.report(2, [Group("p2", MIXED)] * 4).degraded
        with pytest.raises(ForbiddenError, match="no such key"):
            client.state()
        assert client.counters.spooled == 1
    with keys.client(key, run, spool) as still, pytest.raises(ForbiddenError):
        still.create_run()
    with keys.client(good_key(keys, f"{run}-2"), run, spool) as resumed:
        begin(resumed)
        assert resumed.collect(3, roll_out).complete
        assert [(row.step, row.effective) for row in resumed.steps()] == [(1, 4), (2, 4), (3, 4)]
        assert resumed.counters.delivered == 1
    assert not spool.exists()


def test_a_strict_trainer_whose_key_goes_is_told_and_keeps_no_report(keys: Keys, tmp_path: Path) -> None:
    run, spool = "strict", tmp_path / "spool"
    key = good_key(keys, run)
    with keys.client(key, run, spool, strict=True) as client:
        begin(client)
        keys.file.revoke(run)
        keys.settle(key, good=False)
        with pytest.raises(ForbiddenError, match="no such key"):
            client.report(1, [Group("p1", MIXED)] * 4)
        assert client.counters.spooled == client.counters.dropped == 0
    assert not spool.exists()


def test_a_key_that_expires_is_as_one_that_is_revoked(keys: Keys, tmp_path: Path) -> None:
    key = good_key(keys, "short")

    def expired(ring: Keyring) -> Keyring:
        ring, mine = ring.without("short")
        return ring.with_key(mine.model_copy(update={"expires": datetime.now(UTC)}))

    with keys.client(key, "short", tmp_path / "spool") as client:
        begin(client)
        assert client.collect(1, roll_out).complete
        key_file.change(keys.file.path, expired)
        keys.settle(key, good=False)
        assert client.collect(2, roll_out).degraded
        assert client.counters.spooled == 1


def test_a_key_without_the_scope_raises_at_the_first_write(keys: Keys, tmp_path: Path) -> None:
    with keys.client(good_key(keys, "admin"), "scoped", tmp_path / "a") as client:
        begin(client)
        with pytest.raises(ForbiddenError, match="scope admin"):
            client.rewind(1)
        assert client.collect(1, roll_out).complete
    looker = keys.file.add_and_wait(keys.service, "team", "read")
    with keys.client(looker, "scoped", tmp_path / "b") as client:
        assert client.state().step == 1
        with pytest.raises(ForbiddenError, match="scope write"):
            client.collect(2, roll_out)
        assert not (tmp_path / "b").exists()
