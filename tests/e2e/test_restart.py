"""`greso train` begun anew, or on a run that others have touched: nothing is removed or drawn that should not be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.training import complaint, metrics, train_arguments, write_tiny

from greso_client import Client
from greso_client.trainer import command
from greso_client.trainer.__main__ import main

if TYPE_CHECKING:
    from tests.servers import Service

torch.set_num_threads(1)  # these tensors are small, and waiting threads would take the cores from others

UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was taught nothing yet, and its problems."""
    return write_tiny(tmp_path_factory.mktemp("tiny"), taught=0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls to a service that is away give up at once."""
    monkeypatch.setattr(command, "CALL_SECONDS", 0.3)


def kept(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data", "/nowhere/data.jsonl"], "No such file"),
        (["--model", "/nowhere/model"], "there is no folder"),
        (["--wandb"], "wandb is not installed"),
        (["--url", UNREACHABLE], "is away"),
        (["--spec", "policy=nonsense"], "policy"),
        (["--run", "restarted-other"], "belongs to the run 'restarted'"),
    ],
    ids=["no data", "no model", "no wandb", "no service", "another spec", "another's checkpoints"],
)
@pytest.mark.usefixtures("impatient")
def test_a_restart_that_cannot_begin_removes_nothing(
    begun: Path, service: Service, tiny: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    arguments = train_arguments(tiny, begun, service.url, "restarted", "--steps", "1", "--restart", *more)
    assert said in complaint(capsys, arguments)
    assert kept(begun) == ["step-00000000", "step-00000001"]
    with Client(service.url, run="restarted", strict=True, budget=30.0) as client:
        assert client.state().step == 1


@pytest.fixture(scope="module")
def begun(service: Service, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run `restarted` wrote its first step."""
    out = tmp_path_factory.mktemp("begun")
    assert main(train_arguments(tiny, out, service.url, "restarted", "--steps", "1")) == 0
    return out


def figures(out: Path) -> list[Any]:
    return [[row[name] for name in row if "seconds" not in name and name != "time"] for row in metrics(out)]


@pytest.mark.parametrize("restart", [True, False])
def test_prompts_drawn_by_one_who_reported_nothing_are_drawn_again(
    service: Service, tiny: Path, tmp_path: Path, restart: bool
) -> None:
    fresh, again = (f"{name}-{restart}".lower() for name in ("drawn-never", "drawn-before"))
    assert main(train_arguments(tiny, tmp_path / fresh, service.url, fresh, "--steps", "2")) == 0
    with Client(service.url, run=again, strict=True, budget=30.0) as client:
        client.create_run(group_size=8, train_batch_size=4, rollout_batch_size=8, seed=5)
        client.add_prompts(json.loads(line)["id"] for line in (tiny / "pool.jsonl").read_text().splitlines())
        client.draw(1)
    more = ["--restart"] if restart else []
    assert main(train_arguments(tiny, tmp_path / again, service.url, again, "--steps", "2", *more)) == 0
    assert figures(tmp_path / again) == figures(tmp_path / fresh)


def test_a_trainer_that_was_replaced_saves_nothing(
    service: Service,
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def replaced(step: Any, _: object) -> str:  # between the step's last report and its checkpoint
        with Client(service.url, run="replaced", strict=True, budget=30.0) as client:
            client.create_run(group_size=8, train_batch_size=4, rollout_batch_size=8, seed=5)
            client.rewind(0)
        return f"step {step.number}"

    monkeypatch.setattr("greso_client.trainer.logs.describe", replaced)
    said = complaint(capsys, train_arguments(tiny, tmp_path / "out", service.url, "replaced", "--steps", "1"))
    assert "generation" in said
    assert kept(tmp_path / "out") == ["step-00000000"]


def test_problems_that_are_not_the_runs_are_one_line(
    service: Service, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Client(service.url, run="of-others", strict=True, budget=30.0) as client:
        client.create_run(train_batch_size=4, rollout_batch_size=8, seed=5)
        client.add_prompts(["some/1", "some/2"])
        said = complaint(capsys, train_arguments(tiny, tmp_path / "out", service.url, "of-others"))
        assert "the pool of the run 'of-others' at the service holds 2 prompts, and " in said
        assert "their ids have changed" in said
        assert client.state().pool == 2  # nothing was added to it: that could not be undone
