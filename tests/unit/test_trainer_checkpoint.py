"""Checkpoints: whole or not there, of the right run, and the training goes on from them bit for bit."""

from __future__ import annotations

import copy
import json
import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tests.training import SUMS, TOKENIZER, tiny_model

from greso_client.trainer.checkpoint import Checkpoint, CheckpointError, Checkpoints
from greso_client.trainer.engine import Sampling
from greso_client.trainer.grpo import Learner, ScoredGroup
from greso_client.trainer.model import ModelError, load_model, load_tokenizer, prompt_encoder
from greso_client.trainer.torch_engine import TorchEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

torch.set_num_threads(1)  # these tensors are small, and waiting threads would take the cores from others

START = tiny_model()
ENCODE = prompt_encoder(TOKENIZER)


def groups() -> list[ScoredGroup]:
    prompts = [ENCODE(text) for text in ("12+34=", " 1+ 2=", "99+ 1=")]
    sampled = TorchEngine(START, TOKENIZER).generate(prompts, 4, Sampling(SUMS.answer_tokens, seed=0))
    return [ScoredGroup(prompt, group, [1.0, 0.0, 0.0, 1.0]) for prompt, group in zip(prompts, sampled, strict=True)]


GROUPS = groups()


def learner() -> Learner:
    return Learner(copy.deepcopy(START), learning_rate=1e-3)


def save(checkpoints: Checkpoints, step: int, trained: Learner | None = None) -> Path:
    trained = trained or learner()
    return checkpoints.save(step, trained.model, TOKENIZER, trained, {"step": step})


def loaded(checkpoint: Checkpoint | None) -> Learner:
    assert checkpoint is not None
    assert checkpoint.model is not None
    again = Learner(load_model(checkpoint.model, device="cpu"), learning_rate=1e-3)
    checkpoint.restore(again)
    return again


def test_a_training_goes_on_from_its_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    straight = learner()
    updates = [straight.update(GROUPS) for _ in range(2)]
    save(Checkpoints(tmp_path, "r"), 2, straight)
    updates += [straight.update(GROUPS) for _ in range(3)]

    checkpoint = Checkpoints(tmp_path, "r").newest()
    again = loaded(checkpoint)
    assert [again.update(GROUPS) for _ in range(3)] == updates[2:]
    for one, other in zip(straight.model.parameters(), again.model.parameters(), strict=True):
        assert one.equal(other)
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.run, checkpoint.about) == (2, "r", {"step": 2})


def test_model_and_tokenizer_load_as_hugging_face_ones(tmp_path: Path) -> None:
    path = save(Checkpoints(tmp_path, "r"), 3)
    assert load_tokenizer(path / "model")("12+34=")["input_ids"] == ENCODE("12+34=")
    weights = load_model(path / "model", device="cpu").state_dict()
    assert all(weights[name].equal(value) for name, value in START.state_dict().items())


def test_the_newest_is_found_and_only_as_many_are_kept_as_asked(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "r", keep=2)
    assert checkpoints.newest() is None
    checkpoints.start({})
    for step in (9, 10, 100):
        save(checkpoints, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 100
    checkpoints.clear()
    assert checkpoints.newest() is None


def test_a_damaged_checkpoint_costs_no_whole_one_its_place(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "r", keep=1)
    save(checkpoints, 50)
    (save(Checkpoints(tmp_path, "r"), 100) / "optimizer.pt").unlink()
    saved = save(checkpoints, 60)  # gone on from 50
    assert saved.is_dir()
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 60
    save(checkpoints, 101)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000101"]


def test_clearing_leaves_what_is_not_the_runs(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path, "mine"), 1)
    save(Checkpoints(tmp_path, "yours"), 2)
    Checkpoints(tmp_path, "yours").clear()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    save(Checkpoints(tmp_path, "yours", keep=1), 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000003"]


@pytest.mark.parametrize(
    "text", ["[]", "3", '{"format": 1}', '{"format": 1, "files": []}', '{"format": 1, "files": {}}']
)
def test_a_trainer_json_that_is_something_else_is_a_damaged_checkpoint(tmp_path: Path, text: str) -> None:
    (save(Checkpoints(tmp_path, "r"), 1) / "trainer.json").write_text(text)
    assert Checkpoints(tmp_path, "r").newest() is None


@pytest.mark.parametrize("how", ["zeros", "another model's"])
def test_an_optimizer_that_cannot_be_read_is_one_line(tmp_path: Path, how: str) -> None:
    path = save(Checkpoints(tmp_path, "r"), 1)
    if how == "zeros":
        (path / "optimizer.pt").write_bytes(bytes((path / "optimizer.pt").stat().st_size))
    else:
        small = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
        torch.save({"optimizer": small.state_dict(), "schedule": {}}, path / "optimizer.pt")
    checkpoint = Checkpoint(path, 1, "r", {})
    with pytest.raises(CheckpointError, match=r"optimizer.pt is damaged or of another model") as said:
        checkpoint.restore(learner())
    assert "\n" not in str(said.value)


def test_a_model_file_that_is_cut_is_one_line(tmp_path: Path) -> None:
    path = save(Checkpoints(tmp_path, "r"), 1) / "model"
    os.truncate(path / "model.safetensors", 1000)
    with pytest.raises(ModelError, match="no causal language model can be loaded from") as said:
        load_model(path, device="cpu")
    assert "\n" not in str(said.value)


def test_the_start_is_a_checkpoint_without_a_model(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "r").start({"some": "thing"})
    checkpoint = Checkpoints(tmp_path, "r").newest()
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.model, checkpoint.about) == (0, None, {"some": "thing"})


@pytest.mark.parametrize("lost", ["trainer.json", "optimizer.pt", "model/model.safetensors"])
@pytest.mark.parametrize("how", ["missing", "cut"])
def test_a_damaged_checkpoint_is_never_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lost: str, how: str
) -> None:
    checkpoints = Checkpoints(tmp_path, "r")
    save(checkpoints, 1)
    file = save(checkpoints, 2) / lost
    if how == "missing":
        file.unlink()
    else:
        os.truncate(file, file.stat().st_size // 2)
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 1
    assert "step-00000002 is damaged and left out" in caplog.text


def test_what_a_killed_writer_left_is_never_loaded_and_cleared_away(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "r")
    save(checkpoints, 1)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / ".partial-step-00000002")
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_another_runs_checkpoints_are_refused(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path, "mine"), 1)
    with pytest.raises(CheckpointError, match="belongs to the run 'mine', not to 'yours'; give --run mine"):
        Checkpoints(tmp_path, "yours").newest()


def test_folders_that_are_none_of_ours_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "step-final").mkdir()
    (tmp_path / "notes").mkdir()
    checkpoints = Checkpoints(tmp_path, "r", keep=1)
    for step in (1, 2):
        save(checkpoints, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "step-00000002", "step-final"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 KiB: one checkpoint of the tiny model fits, another doesn't."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small file system; the test with a limit on file sizes runs everywhere")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_the_checkpoints_before_it_stay(small_disk: Path) -> None:
    checkpoints = Checkpoints(small_disk, "r")
    save(checkpoints, 1)
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 2 could be written to .*No space left") as full:
        save(checkpoints, 2)
    assert "make room there or give another --checkpoint-dir" in str(full.value)
    assert "\n" not in str(full.value)
    assert [path.name for path in small_disk.iterdir()] == ["step-00000001"]
    assert [loaded(checkpoints.newest()).update(GROUPS)] == [learner().update(GROUPS)]


@pytest.mark.parametrize("limit", [2_000, 100_000, 200_000], ids=["tokenizer", "model", "optimizer"])
def test_whatever_file_does_not_fit_nothing_half_written_is_left(tmp_path: Path, limit: int) -> None:
    checkpoints = Checkpoints(tmp_path, "r")
    trained = learner()
    trained.update(GROUPS)
    save(checkpoints, 1, trained)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(CheckpointError, match="no checkpoint of step 2 could be written"):
            save(checkpoints, 2, trained)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_trainer_json_says_what_the_training_was(tmp_path: Path) -> None:
    path = save(Checkpoints(tmp_path, "r"), 7)
    written = json.loads((path / "trainer.json").read_text())
    assert (written["format"], written["step"], written["run"], written["about"]) == (1, 7, "r", {"step": 7})
    assert written["files"].keys() >= {"optimizer.pt", "model/model.safetensors", "model/tokenizer.json"}
