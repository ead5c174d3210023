"""A run that is gone, and a machine that has no threads, no name for the service, or a spec with nonsense in it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from greso_client import Client, Group, NotFoundError
from greso_client._core import Core
from greso_client._io import run

from .doubles import ClockIO, FakeService, make_core, problem

GROUPS = [Group("a", [0.0, 1.0])]


def gone(core: Core, service: FakeService) -> None:
    run(core.create_run({}))
    run(core.report(0, GROUPS))
    service.exists = False


def test_a_run_that_is_gone_is_an_outage_that_says_what_to_do(
    core: Core, service: FakeService, io: ClockIO, caplog: pytest.LogCaptureFixture
) -> None:
    gone(core, service)
    assert run(core.select(1, ["a"])).degraded
    assert run(core.report(1, GROUPS)).degraded
    assert run(core.report(2, GROUPS)).degraded
    assert "the run is gone" in caplog.text
    assert "create_run()" in caplog.text
    assert "is back" not in caplog.text
    assert not run(core.flush())
    io.time += 3600
    assert run(core.report(3, GROUPS)).degraded
    service.exists = True  # somebody brought the store back
    io.time += 3600
    assert not run(core.report(4, GROUPS)).degraded
    assert [step for step, _ in service.reported()] == [0, 1, 2, 3, 4]
    counters = core.counts.snapshot()
    assert (counters.delivered, counters.refused) == (3, 0)


def test_a_run_that_is_gone_and_made_anew_begins_without_the_reports_of_the_old_one(
    core: Core, service: FakeService, io: ClockIO
) -> None:
    gone(core, service)
    assert run(core.report(1, GROUPS)).degraded
    io.time += 60
    assert not run(core.create_run({})).degraded
    assert not run(core.report(0, GROUPS)).degraded
    assert [step for step, _ in service.reported()] == [0, 0]
    assert core.counts.snapshot().refused == 1


def test_a_strict_client_is_told_that_its_run_is_gone(strict_core: Core, service: FakeService) -> None:
    gone(strict_core, service)
    for call in (strict_core.select(1, ["a"]), strict_core.report(1, GROUPS)):
        with pytest.raises(NotFoundError):
            run(call)


def test_a_trainer_that_starts_again_for_a_run_that_is_gone_is_told_and_loses_no_report(
    io: ClockIO, service: FakeService, spool_path: Path
) -> None:
    service.down = True
    run(make_core(io, spool_path).report(0, GROUPS))
    service.down, service.exists = False, False
    core = make_core(io, spool_path)
    with pytest.raises(NotFoundError):
        run(core.report(1, GROUPS))
    with pytest.raises(NotFoundError):
        run(core.flush())
    service.exists = True
    assert run(core.flush())
    assert service.reported() == [(0, ["a"])]


def test_reports_of_another_run_that_is_gone_do_not_hold_up_a_shared_spool(
    io: ClockIO, service: FakeService, spool_path: Path
) -> None:
    service.down = True
    run(make_core(io, spool_path).report(0, GROUPS))
    io.time += 60
    spool_path.write_text(spool_path.read_text().replace("/v1/runs/test/", "/v1/runs/deleted/"))
    service.down = False
    service.script.append(problem(404, "there is no run deleted"))
    core = make_core(io, spool_path)
    assert not run(core.report(1, GROUPS)).degraded
    assert core.counts.snapshot().refused == 1


# This machine


def test_a_spec_with_nonsense_in_it_does_not_stop_a_training_without_the_service(
    core: Core, service: FakeService
) -> None:
    service.down = True
    run(core.create_run({"train_batch_size": "many", "rollout_batch_size": -4, "safety_factor": None, "x": "y"}))
    run(core.add_prompts(["a", "b"]))
    assert len(run(core.draw(0)).prompts) == 2
    assert run(core.report(0, GROUPS)).step.missing == 255


def test_no_thread_to_be_had_is_an_outage(
    client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    assert client.select(0, ["a"]).degraded
    monkeypatch.undo()
    assert client.flush()


@pytest.mark.parametrize("host", ["no-such-host.invalid", f"{'a' * 70}.example", "a..example"])
def test_a_name_that_leads_nowhere_is_an_outage(host: str, spool_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(f"http://{host}", run="test", budget=0.3, spool=spool_path) as client:
        assert client.select(0, ["a"]).degraded
        assert client.report(0, GROUPS).degraded
        assert client.counters.spooled == 1
