"""Checkpoints: the model, the optimiser and where the run was, complete or not there at all.

One folder a checkpoint, ``step-00000040``: ``model/`` as Hugging Face loads it, ``optimizer.pt``, and ``trainer.json``,
which says what the training was and how large each file is. It is written under another name, flushed to the disk and
renamed: what has its right name is whole, whenever the process was killed. No random state is in it: the seed of
every rollout follows from the step (`loop.round_seed`), and the service keeps which prompts come next.
"""

import contextlib
import json
import logging
import os
import pickle
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from greso_client.trainer.grpo import Learner

logger = logging.getLogger(__name__)

FORMAT = 1
PARTIAL = ".partial-"
_NAME = re.compile(r"step-(\d{8,})")


class CheckpointError(Exception):
    """A checkpoint can't be written or read. The message is one line and says what to do."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint: of step `step` of the run `run`; `about` is what `save` was told.

    `model`: the folder of model and tokenizer; None for the start, which is the model that the training was given.
    """

    path: Path
    step: int
    run: str
    about: Mapping[str, Any]

    @property
    def model(self) -> Path | None:
        """The folder to load model and tokenizer from."""
        folder = self.path / "model"
        return folder if folder.is_dir() else None

    def restore(self, learner: Learner) -> None:
        """Put the optimiser and its schedule back; the learner's model must be the one from `model`.

        Raises `CheckpointError`.
        """
        path = self.path / "optimizer.pt"
        try:
            state = torch.load(path, map_location=learner.model.device, weights_only=True)
            learner.load_state_dict(state)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).partition("\n")[0]
            raise CheckpointError(
                f"{path} is damaged or of another model ({reason}); remove {self.path} to go on from an older one"
            ) from error


class Checkpoints:
    """The checkpoints of one run in one folder."""

    def __init__(self, folder: Path, run: str, *, keep: int = 2) -> None:
        """Keep the newest `keep` ones."""
        self.folder = folder
        self._run = run
        self._keep = keep

    def newest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, None when there is none; clear away half-written ones.

        Raises `CheckpointError` when it is another run's, `OSError`.
        """
        for left in self.folder.glob(PARTIAL + "*"):
            shutil.rmtree(left)
        for step, path, written in reversed(self._found()):
            if written is None:
                logger.warning("%s is damaged and left out: files are missing or have not their size", path)
                continue
            if not self._owns(written):
                raise CheckpointError(
                    f"{path} belongs to the run {written['run']!r}, not to {self._run!r}; give --run {written['run']} "
                    "to go on with it, or another --checkpoint-dir"
                )
            return Checkpoint(path, step, written["run"], written["about"])
        return None

    def clear(self) -> None:
        """Remove the run's checkpoints; damaged ones and those of other runs stay."""
        for _, path, written in self._found():
            if written is not None and self._owns(written):
                shutil.rmtree(path)

    def start(self, about: Mapping[str, Any]) -> None:
        """Note that the run has begun, with the model as it was given: a checkpoint of step 0 without weights."""
        with self._written(0, about):
            pass

    def save(
        self,
        step: int,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        learner: Learner,
        about: Mapping[str, Any],
    ) -> Path:
        """Write a checkpoint of a finished step, then remove what is older than the newest `keep` whole ones.

        Raises `CheckpointError` when it can't be written, a full disk for one; those before it are then still there.
        """
        with self._written(step, about) as folder:
            model.save_pretrained(folder / "model")
            tokenizer.save_pretrained(folder / "model")
            # A file of ours: torch's own writer turns a full disk into an error that doesn't say so.
            with (folder / "optimizer.pt").open("wb") as file:
                torch.save(learner.state_dict(), file)
        found = [one for one in self._found() if one[2] is None or self._owns(one[2])]
        kept = [number for number, _, written in found if written is not None][-self._keep :]
        for number, path, _ in found:
            if number < kept[0]:
                shutil.rmtree(path, ignore_errors=True)
        return self._path(step)

    def _found(self) -> list[tuple[int, Path, dict[str, Any] | None]]:
        """Return step, folder and trainer.json of each checkpoint, the oldest first; None for a damaged one's."""
        matches = [(_NAME.fullmatch(path.name), path) for path in self.folder.glob("step-*")]
        return sorted(((int(match[1]), path, _whole(path)) for match, path in matches if match), key=lambda one: one[0])

    def _owns(self, written: Mapping[str, Any]) -> bool:
        return bool(written["run"] == self._run)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    @contextlib.contextmanager
    def _written(self, step: int, about: Mapping[str, Any]) -> Iterator[Path]:
        """Give a folder to write into that becomes the step's checkpoint, if all goes well."""
        path = self._path(step)
        partial = self.folder / (PARTIAL + path.name)
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            sizes = {str(file.relative_to(partial)): file.stat().st_size for file in _files(partial)}
            written = {"format": FORMAT, "step": step, "run": self._run, "about": about, "files": sizes}
            (partial / "trainer.json").write_text(json.dumps(written, indent=1) + "\n")
            for each in [*partial.rglob("*"), partial]:  # folders too: the files' names are in them
                _flush(each)
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
            _flush(self.folder)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch raises RuntimeError for what it can't write
            shutil.rmtree(partial, ignore_errors=True)
            reason = str(error).partition("\n")[0]
            raise CheckpointError(
                f"no checkpoint of step {step} could be written to {self.folder}: {reason}; make room there or give "
                "another --checkpoint-dir"
            ) from error


def _whole(path: Path) -> dict[str, Any] | None:
    """Return what trainer.json says, None unless every file that it names is there in its size."""
    try:
        written: dict[str, Any] = json.loads((path / "trainer.json").read_text())
        sizes = {name: (path / name).stat().st_size for name in written["files"]}
        whole = written["format"] == FORMAT and sizes == written["files"] and {"run", "about"} <= written.keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return written if whole else None


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
