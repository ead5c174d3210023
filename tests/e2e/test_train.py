"""`greso train` from outside: to a trained model, on several processes, on a full disk, and bad input."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.servers import free_port
from tests.training import SUMS, Training, complaint, metrics, train_arguments, write_tiny

from greso_client import Client
from greso_client.trainer import command
from greso_client.trainer.__main__ import main
from greso_client.trainer.engine import Sampling
from greso_client.trainer.model import load_model, load_tokenizer, prompt_encoder
from greso_client.trainer.torch_engine import TorchEngine

if TYPE_CHECKING:
    from tests.servers import Service

torch.set_num_threads(1)  # these tensors are small, and waiting threads would take the cores from others

PATIENCE = 300.0  # seconds for something that takes ten on an idle machine
UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was taught nothing yet, and its problems."""
    return write_tiny(tmp_path_factory.mktemp("tiny"), taught=0)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is right now and then."""
    return write_tiny(tmp_path_factory.mktemp("taught"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls to a service that is away give up at once."""
    monkeypatch.setattr(command, "CALL_SECONDS", 0.3)


def data(folder: Path, *rows: Any) -> str:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def row(question: str, **more: Any) -> dict[str, Any]:
    return {"prompt": question, "answer": "1", **more}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "data.jsonl: the file holds no problem"),
        ([row("1+1="), {"prompt": "1+2="}], "data.jsonl:2: no field 'answer'"),
        ([row("1+1="), row("1+2="), row("1+1=")], "1 ids stand more than once"),
        ([row("1" * 40)] * 1, "each of the 1 prompts is longer than the 6 tokens that the context leaves"),
    ],
    ids=["empty", "a bad line", "duplicate ids", "too long"],
)
def test_bad_problems_are_one_line(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[Any], said: str
) -> None:
    arguments = train_arguments(tiny, tmp_path / "out", UNREACHABLE, "r", "--data", data(tmp_path, *rows))
    assert said in complaint(capsys, arguments)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data", "/nowhere/data.jsonl"], "No such file or directory: '/nowhere/data.jsonl'"),
        (["--model", "/nowhere/model"], "there is no folder /nowhere/model; "),
        (["--chat"], "the tokenizer has no chat template; leave --chat out"),
        (["--resume"], "there is no checkpoint in "),
        (["--wandb"], "wandb is not installed; run: pip install wandb"),
        (["--engine", "vllm-http", "--engine-url", UNREACHABLE], "127.0.0.1:9"),
        ([], f"the service at {UNREACHABLE} is away"),
    ],
    ids=["no data", "no model", "no template", "no checkpoint", "no wandb", "no engine", "no service"],
)
@pytest.mark.usefixtures("impatient")
def test_what_is_missing_is_one_line(
    service: Service, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    url = service.url if "--wandb" in more else UNREACHABLE
    assert said in complaint(capsys, train_arguments(tiny, tmp_path / "out", url, "missing", *more))


def test_a_file_that_got_more_problems_goes_on(
    service: Service, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (tiny / "pool.jsonl").read_text().splitlines()
    for count in (20, 30):
        less = data(tmp_path, *map(json.loads, rows[:count]))
        assert (
            main(
                train_arguments(
                    tiny, tmp_path / "out", service.url, "grows", "--data", less, "--steps", str(count // 10 - 1)
                )
            )
            == 0
        )
    with Client(service.url, run="grows", strict=True, budget=30.0) as client:
        assert client.state().pool == 30


def test_memory_that_runs_out_is_one_line(
    service: Service,
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation")

    toss = itertools.cycle([0.0, 1.0])
    monkeypatch.setattr("greso_client.trainer.prepare.exact_match", lambda *_: next(toss))
    monkeypatch.setattr("greso_client.trainer.grpo.Learner.update", full)
    said = complaint(capsys, train_arguments(tiny, tmp_path / "out", service.url, "memory", "--steps", "1"))
    assert "memory ran out; lower --micro-batch" in said


def test_a_reward_whose_package_is_missing_is_one_line(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "math_verify" else object())
    arguments = train_arguments(tiny, tmp_path / "out", UNREACHABLE, "r", "--reward", "math")
    assert "math-verify is not installed; run in the checkout: pip install" in complaint(capsys, arguments)


def test_another_spec_is_one_line(
    service: Service, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Client(service.url, run="of-another-spec", strict=True, budget=30.0) as client:
        client.create_run(train_batch_size=5, rollout_batch_size=8, seed=5)
    assert "train_batch_size" in complaint(
        capsys, train_arguments(tiny, tmp_path / "out", service.url, "of-another-spec")
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "x.jsonl"], "--model and --data go together"),
        (["--steps", "0"], "'0' is not a whole number from 1 on"),
        (["--seed", "-1"], "is not a whole number from 0 on"),
        (["--spec", "policy"], "'policy' is not NAME=VALUE"),
        (["--resume", "--restart"], "--resume and --restart contradict each other"),
        (["--engine", "magic"], "invalid choice: 'magic'"),
        (["--temperature", "0"], "'0' is not a number above 0"),
        (["--temperature", "-1"], "'-1' is not a number from 0 on"),
        (["--learning-rate", "nan"], "'nan' is not a number from 0 on"),
        (["--learning-rate", "inf"], "'inf' is not a number from 0 on"),
        (["--kl", "-1"], "'-1' is not a number from 0 on"),
        (["--clip-low", "-3"], "'-3' is not a number from 0 on"),
    ],
)
def test_wrong_options_are_refused_in_words(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "examples:" in said
    assert "torchrun" in said


def test_a_training_ends_with_a_model_and_its_figures(
    service: Service, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    more = ["--steps", "3", "--eval-data", str(tiny / "held.jsonl"), "--evaluate-every", "2", "--checkpoint-every", "2"]
    arguments = train_arguments(tiny, out, service.url, "whole-training", *more)
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "on 30 problems of" in said
    assert "done; the model is in" in said
    assert ["greso_trainer_accuracy" in figures for figures in metrics(out)] == [False, True, True]
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["step-00000002", "step-00000003"]
    with Client(service.url, run="whole-training", strict=True, budget=30.0) as client:
        state = client.state()
        assert (state.step, state.pool, state.spec["seed"]) == (3, 30, 5)
        assert state.totals.rollouts == metrics(out)[-1]["greso_rollouts_total"]
    model = out / "checkpoints" / "step-00000003" / "model"
    engine = TorchEngine(load_model(model, device="cpu"), load_tokenizer(model))
    prompt = prompt_encoder(load_tokenizer(model))("12+34=")
    assert len(engine.generate([prompt], 2, Sampling(SUMS.answer_tokens))[0]) == 2

    assert main(arguments) == 0
    assert "whole-training is at step 3 already; give more --steps" in capsys.readouterr().out


@pytest.mark.usefixtures("impatient")
def test_a_training_goes_on_without_the_service_unless_told_otherwise(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    out = tmp_path / "out"
    arguments = train_arguments(tiny, out, UNREACHABLE, "alone", "--steps", "2")
    arguments.remove("--strict")
    assert main(arguments) == 0
    assert "service away" in capsys.readouterr().out
    assert [figures["step"] for figures in metrics(out)] == [1, 2]


def test_prompts_too_long_are_left_out_and_said(
    service: Service, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(f"{i:>2}+ 1=") for i in range(12)] + [row("1" * 9), row("2" * 7)]
    more = ["--data", data(tmp_path, *rows), "--steps", "1"]
    assert main(train_arguments(tiny, tmp_path / "out", service.url, "some-long", *more)) == 0
    assert "2 problems are left out: their prompts are too long for the context" in capsys.readouterr().out
    with Client(service.url, run="some-long", strict=True, budget=30.0) as client:
        assert client.state().pool == 12


@pytest.mark.slow
def test_on_two_processes_it_trains_one_model(service: Service, taught: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = train_arguments(taught, out, service.url, "two-ranks", "--steps", "5", "--checkpoint-every", "3")
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port()),
    ]
    arguments[arguments.index("--run")] = "--run-name"  # torchrun has options that begin with --run
    training = Training(tmp_path, arguments)
    try:
        for steps in ("5", "7"):  # the second time it goes on from step 5
            training.run(
                ["env", "OMP_NUM_THREADS=1", *torchrun, "-m", "greso_client.trainer", *arguments, "--steps", steps],
                tmp_path,
            )
            assert training.wait(PATIENCE) == 0, training.said()
    finally:
        training.close()
    assert [figures["step"] for figures in metrics(out)] == [1, 2, 3, 4, 5, 6, 7]
    assert training.said().count("done; the model is in") == 2  # said by one rank only
    with Client(service.url, run="two-ranks", strict=True, budget=30.0) as client:
        state = client.state()
        assert state.totals.rollouts == metrics(out)[-1]["greso_rollouts_total"]
        assert (state.step, state.generation) == (7, 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="prlimit is of Linux; where that lacks it the test fails")
def test_a_full_disk_is_said_at_each_checkpoint_and_the_training_goes_on(
    service: Service, taught: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = train_arguments(taught, out, service.url, "full-disk", "--steps", "6", "--checkpoint-every", "2")
    training = Training(out, arguments)
    try:
        training.start("prlimit", "--fsize=100000")  # no file may be larger: metrics.jsonl isn't, the model is
        assert training.wait(PATIENCE) == 1, training.said()  # the trained model is lost: that is no success
    finally:
        training.close()
    lines = training.said().splitlines()
    assert [f"no checkpoint of step {step} could be written" in training.said() for step in (2, 4, 6)] == [True] * 3
    assert sum(line.startswith("greso train: ") for line in lines) == 3
    assert "Traceback" not in training.said()
    assert len(metrics(out)) == 6
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000000"]
