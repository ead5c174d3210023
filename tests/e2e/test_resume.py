"""A training that is killed goes on as if it had never been: same prompts, same rewards, same losses to the bit."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.servers import eventually
from tests.training import Training, metrics, steps_done, train_arguments, write_tiny

from greso_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers import Service

pytestmark = pytest.mark.slow

STEPS = 16
PATIENCE = 240.0  # seconds for something that takes ten on an idle machine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def training(tmp_path: Path, tiny: Path, service: Service) -> Iterator[Callable[..., Training]]:
    """Makes trainings of `STEPS` steps with a checkpoint every four, named by their run."""
    made: list[Training] = []

    def make(run: str, *more: str) -> Training:
        arguments = ("--steps", str(STEPS), "--checkpoint-every", "4", *more)
        made.append(Training(tmp_path / run, train_arguments(tiny, tmp_path / run, service.url, run, *arguments)))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny: Path, service: Service) -> Training:
    """A training that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    arguments = train_arguments(tiny, out, service.url, "whole", "--steps", str(STEPS), "--checkpoint-every", "4")
    whole = Training(out, arguments).start()
    assert whole.wait(PATIENCE) == 0, whole.said()
    return whole


def learnt(out: Path) -> list[tuple[Any, ...]]:
    """What the trainer recorded of each step that does not depend on the clock."""
    timeless = [name for name in metrics(out)[0] if not name.endswith("_seconds") and name != "time"]
    return [tuple((name, row.get(name)) for name in timeless) for row in metrics(out)]


def chosen(service: Service, tiny: Path, run: str) -> dict[str, Any]:
    """What the service recorded: of each prompt the steps it was rolled out in and what it earned; of each step all."""
    ids = [json.loads(line)["id"] for line in (tiny / "pool.jsonl").read_text().splitlines()]
    with Client(service.url, run=run, strict=True, budget=30.0) as client:
        state = client.state()
        return {
            "prompts": [client.prompt(prompt) for prompt in ids],
            "steps": client.steps(limit=1000),
            "totals": state.totals,
            "exploration": state.exploration,
            "epoch": state.epoch,
        }


def require_equal(one: Training, other: Training, service: Service, tiny: Path) -> None:
    run, expected = other.folder.name, chosen(service, tiny, "whole")
    assert chosen(service, tiny, run) == expected
    assert expected["epoch"] > 0
    assert expected["totals"].skipped.easy + expected["totals"].skipped.hard > 0  # else the filter was never at work
    assert learnt(other.folder) == learnt(one.folder)
    assert len(learnt(one.folder)) == STEPS
    assert sum(any(name == "greso_trainer_loss" and value for name, value in row) for row in learnt(one.folder)) > 8
    final = [each.folder / "checkpoints" / f"step-{STEPS:08d}" / "model" / "model.safetensors" for each in (one, other)]
    assert final[0].read_bytes() == final[1].read_bytes()


@pytest.mark.parametrize("killed_at", [[2], [5, 9, 13]], ids=["before the first checkpoint", "thrice"])
def test_killed_and_started_again_it_ends_as_if_nothing_had_been(
    uninterrupted: Training, training: Callable[..., Training], service: Service, tiny: Path, killed_at: list[int]
) -> None:
    run = training("killed-" + "-".join(map(str, killed_at)))
    for step in killed_at:
        run.start()
        eventually(lambda step=step: steps_done(run.folder) >= step or run.ended(), PATIENCE, run.said)  # type: ignore[misc]
        assert not run.ended(), run.said()
        run.kill()
    run.start()
    assert run.wait(PATIENCE) == 0, run.said()
    require_equal(uninterrupted, run, service, tiny)
    with Client(service.url, run=run.folder.name, strict=True, budget=30.0) as client:
        assert client.state().generation == len(killed_at)


def test_killed_in_the_middle_of_a_checkpoint_it_goes_on_from_the_one_before(
    uninterrupted: Training, training: Callable[..., Training], service: Service, tiny: Path
) -> None:
    run = training("killed-writing").start()
    eventually(lambda: bool(list(run.folder.glob("checkpoints/.partial-step-00000008*"))), PATIENCE, run.said)
    run.kill()
    # If the kill came too late this time, put what it would have left there: a folder without its last file.
    if (run.folder / "checkpoints" / "step-00000008").exists():
        (run.folder / "checkpoints" / "step-00000008").rename(run.folder / "checkpoints" / ".partial-step-00000008")
        (run.folder / "checkpoints" / ".partial-step-00000008" / "trainer.json").unlink()
    assert not (run.folder / "checkpoints" / "step-00000008").exists()
    run.start()
    assert run.wait(PATIENCE) == 0, run.said()
    assert "from step 5 to" in run.said()
    assert not list(run.folder.glob("checkpoints/.partial*"))
    require_equal(uninterrupted, run, service, tiny)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_ends_its_step_writes_a_checkpoint_and_says_how_to_go_on(
    uninterrupted: Training,
    training: Callable[..., Training],
    service: Service,
    tiny: Path,
    number: signal.Signals,
) -> None:
    run = training(f"asked-{number.name}").start()
    eventually(lambda: steps_done(run.folder) >= 5 or run.ended(), PATIENCE, run.said)
    run.signal(number)
    assert run.wait(PATIENCE) == 130, run.said()
    stopped_after = steps_done(run.folder)
    assert f"stopped after step {stopped_after}; the same command goes on" in run.said()
    assert (run.folder / "checkpoints" / f"step-{stopped_after:08d}").is_dir()
    run.start()
    assert run.wait(PATIENCE) == 0, run.said()
    assert f"from step {stopped_after + 1} to {STEPS}" in run.said()
    require_equal(uninterrupted, run, service, tiny)


def test_a_trainer_taken_for_dead_is_stopped_in_one_line_and_spoils_nothing(
    uninterrupted: Training, training: Callable[..., Training], service: Service, tiny: Path
) -> None:
    run = training("frozen")
    run.arguments.remove("--strict")  # a call that was under way when it froze has no time left: that is an outage
    state = ("env", f"XDG_STATE_HOME={run.folder / 'state'}")  # what it spools then stays with the test
    run.start(*state)
    eventually(lambda: steps_done(run.folder) >= 6 or run.ended(), PATIENCE, run.said)
    run.signal(signal.SIGSTOP)
    second = Training(run.folder, run.arguments)
    second.log = run.folder / "second.log"
    second.start(*state)
    try:
        assert second.wait(PATIENCE) == 0, second.said()
    finally:
        second.close()
    run.signal(signal.SIGCONT)
    assert run.wait(PATIENCE) == 1, run.said()
    last = run.said().strip().splitlines()[-1]
    assert last.startswith("greso train: ")
    assert "generation" in last
    # The woken one may have appended its last step to the log; the service took nothing of it.
    assert chosen(service, tiny, "frozen") == chosen(service, tiny, "whole")


def test_a_run_without_its_checkpoints_is_not_begun_over_unasked(
    uninterrupted: Training, training: Callable[..., Training], service: Service, tiny: Path
) -> None:
    run = training("lost", "--checkpoint-every", "100").start()
    eventually(lambda: steps_done(run.folder) >= 3 or run.ended(), PATIENCE, run.said)
    run.kill()
    (run.folder / "checkpoints").rename(run.folder / "elsewhere")
    run.start()
    assert run.wait(PATIENCE) == 1
    last = run.said().strip().splitlines()[-1]
    assert "holds no checkpoint of it; give another --run, the right --checkpoint-dir, or --restart" in last
    run.arguments.append("--restart")
    run.start()
    assert run.wait(PATIENCE) == 0, run.said()
    require_equal(uninterrupted, run, service, tiny)
