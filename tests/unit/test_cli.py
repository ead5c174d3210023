"""The command line without a service: options, help, one-line errors, what is imported, generated documentation."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
import typer.main

from greso_service.cli import app, deleting, looking, reference, run, time_travel
from greso_service.cli.service import Service, ServiceError
from greso_service.settings import Settings, default_text, option, variable

DOCS = Path(__file__).parents[2] / "docs"
GROUP = typer.main.get_group(app)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of `greso <arguments>`, run in this process."""
    monkeypatch.setattr(sys, "argv", ["greso", *arguments])
    with pytest.raises(SystemExit) as end:
        run()
    return int(end.value.code or 0)


# Options and help


@pytest.mark.parametrize("command", ["serve", "check"])
def test_each_setting_is_one_option_with_its_variable_and_default(command: str) -> None:
    options = {each.name: each for each in GROUP.commands[command].params if each.name not in {"help", "strict"}}
    assert list(options) == list(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        assert option(name) in options[name].opts
        text = getattr(options[name], "help", "")
        assert field.description is not None
        assert field.description in text
        assert variable(name) in text
        assert f"default: {default_text(field)}" in text


def test_every_command_shows_examples() -> None:
    assert set(GROUP.commands) == {
        "serve",
        "check",
        "demo",
        "train",
        "bench-rl",
        "runs",
        "show",
        "top",
        "rewind",
        "fork",
        "delete",
        "tail",
        "export",
        "import",
        "replay",
        "keys",
        "openapi",
    }
    inner = {f"keys {name}": command for name, command in getattr(GROUP.commands["keys"], "commands", {}).items()}
    assert set(inner) == {"keys add", "keys list", "keys revoke"}
    for name, command in [*GROUP.commands.items(), *inner.items()]:
        assert f"greso {name}" in (command.help or "").partition("Examples:")[2]


@pytest.mark.parametrize("name", reference.GENERATED)
def test_the_documentation_is_current(name: str) -> None:
    path = DOCS / name
    assert path.read_text() == reference.refreshed(path), "run: python -m greso_service.cli.reference docs"


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"greso {version('greso')}\n"


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_help_does_not_wait_for_heavy_imports() -> None:
    ended = python(
        "import sys; from greso_service.__main__ import main; sys.argv = ['greso', '--help']\n"
        "try: main()\n"
        "finally: print(sorted({'fastapi', 'uvicorn', 'redis', 'numpy', 'torch', 'httpx', 'rich'} & set(sys.modules)))"
    )
    assert ended.stdout.endswith("\n[]\n"), ended.stdout + ended.stderr


def test_without_the_service_extra_one_line_says_what_to_install() -> None:
    ended = python("import sys; sys.modules['typer'] = None; from greso_service.__main__ import main; main()")
    assert ended.returncode == 1
    assert ended.stderr == (
        "greso: the service needs typer, which is not installed; run in the checkout: pip install '.[service]'\n"
    )


@pytest.mark.parametrize("package", ["torch", "rich"])
def test_without_the_trainer_extra_one_line_says_what_to_install(package: str) -> None:
    ended = python(
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['greso', 'demo']\n"
        "from greso_service.__main__ import main; main()"
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    said, install = ended.stderr, "run in the checkout: pip install '.[trainer]'"
    assert said.endswith(f": the demo needs {package}, which is not installed; {install}\n"), said
    assert said.count("\n") == 1


def test_a_wrong_setting_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "serve", "--port", "70000") == 1
    assert capsys.readouterr().err == "greso: --port is '70000'; give a whole number from 0 to 65,535\n"


def test_the_openapi_description_needs_no_redis(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "openapi") == 0
    assert "/v1/runs/{run}/select" in json.loads(capsys.readouterr().out)["paths"]


# Looking at a running service


def answering(status: int, content: str) -> Service:
    return Service("http://greso", httpx.MockTransport(lambda _: httpx.Response(status, text=content)))


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (422, '{"detail": "/query/page_size: is wrong; /path/run: too"}', "--page-size: is wrong; RUN: too"),
        (404, '{"title": "Not found", "detail": "there is no run x"}', "there is no run x"),
        (503, '{"title": "Unavailable"}', "Unavailable"),
        (200, "<html>", "http://greso answers, but not as greso does; give another --url"),
        (200, "[]", "http://greso answers, but not as greso does; give another --url"),
    ],
)
def test_a_refusal_is_told_in_the_services_words(status: int, content: str, message: str) -> None:
    with answering(status, content) as service, pytest.raises(ServiceError) as refusal:
        service.get("v1", "runs", "x")
    assert str(refusal.value) == message


def test_a_service_that_is_away_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "runs", "--url", "http://127.0.0.1:1") == 1
    said = capsys.readouterr().err
    assert said.startswith("greso: no service answers at http://127.0.0.1:1 (")
    assert said.endswith("start it with `greso serve`, or give another --url\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "http://host:port"])
def test_a_url_that_is_none_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert call(monkeypatch, "runs", "--url", url) == 1
    assert "give --url http://host:port" in capsys.readouterr().err


def test_names_are_encoded_in_paths() -> None:
    asked: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path)
        return httpx.Response(200, json={})

    with Service("http://greso/", httpx.MockTransport(answer)) as service:
        service.get("v1", "runs", "r", "prompts", "a/b ?#%é")
    assert asked == [b"/v1/runs/r/prompts/a%2Fb%20%3F%23%25%C3%A9"]


def test_the_latest_steps_are_shown_with_the_one_at_work(capsys: pytest.CaptureFixture[str]) -> None:
    totals = {"examined": 0, "skipped": {"easy": 0, "hard": 0}, "zero_variance": {"easy": 0, "hard": 0}}
    totals |= dict.fromkeys(("groups", "effective", "undetermined", "rollouts", "rollouts_avoided"), 0)
    state: dict[str, Any] = {"run": "r", "step": 100, "prompts": 0, "epoch": 0, "generation": 0, "totals": totals}
    state |= {"spec": {"policy": "greso"}, "exploration": {"easy": 0.5, "hard": 0.5}}

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/steps"):
            return httpx.Response(200, json=state)
        after, limit = (int(request.url.params[name]) for name in ("after", "limit"))
        return httpx.Response(200, json={"steps": [{"step": number} for number in range(after + 1, 102)][:limit]})

    with Service("http://greso", httpx.MockTransport(answer)) as service:
        looking.show_run(service, "r", 3, as_json=True)
    assert [row["step"] for row in json.loads(capsys.readouterr().out)["steps"]] == [99, 100, 101]


# Time travel


def asked_of(answers: dict[str, Any], asked: list[tuple[str, str, Any]]) -> Service:
    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        asked.append((request.method, request.url.path, body))
        return httpx.Response(200, json=answers[request.method])

    return Service("http://greso", httpx.MockTransport(answer))


def test_a_rewind_tells_what_was_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    before = {"step": 520, "generation": 0, "totals": {"groups": 5_000}}
    after = {"step": 400, "generation": 1, "totals": {"groups": 3_800}}
    asked: list[tuple[str, str, Any]] = []
    with asked_of({"GET": before, "POST": after}, asked) as service:
        time_travel.rewind(service, "r", 400, yes=True)
    assert asked[1] == ("POST", "/v1/runs/r/rewind", {"step": 400})
    assert capsys.readouterr().out.startswith("r is back at step 400, generation 1: 1,200 groups forgotten.")


def test_a_rewind_at_a_terminal_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {"step": 520, "generation": 0, "totals": {"groups": 5_000}}
    asked: list[tuple[str, str, Any]] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(typer, "confirm", refuse := Refuses())
    with asked_of({"GET": before}, asked) as service, pytest.raises(typer.Abort):
        time_travel.rewind(service, "r", 400, yes=False)
    assert [method for method, _, _ in asked] == ["GET"]
    assert refuse.questions == ["r is at step 520 with 5,000 groups; forget all that came after step 400?"]


def test_a_rewind_with_nobody_to_ask_wants_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, Any]] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    with asked_of({"GET": {}}, asked) as service, pytest.raises(ServiceError, match="--yes"):
        time_travel.rewind(service, "r", 400, yes=False)
    assert [method for method, _, _ in asked] == ["GET"]


class Refuses:
    """Answers every question with no."""

    def __init__(self) -> None:
        self.questions: list[str] = []

    def __call__(self, question: str, abort: bool) -> None:
        self.questions.append(question)
        assert abort
        raise typer.Abort


def test_a_deletion_asks_first_and_wants_yes_where_nobody_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {"step": 520, "generation": 0, "totals": {"groups": 5_000}}
    asked: list[tuple[str, str, Any]] = []
    monkeypatch.setattr(typer, "confirm", refuse := Refuses())
    with asked_of({"GET": state, "DELETE": {}}, asked) as service:
        monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
        with pytest.raises(ServiceError, match="--yes"):
            deleting.delete(service, "r", yes=False)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        with pytest.raises(typer.Abort):
            deleting.delete(service, "r", yes=False)
        assert {method for method, _, _ in asked} == {"GET"}
        deleting.delete(service, "r", yes=True)
    assert refuse.questions == ["r is at step 520 with 5,000 groups; delete it for good?"]
    assert asked[-1] == ("DELETE", "/v1/runs/r", None)
    assert capsys.readouterr().out == "r is deleted\n"


@pytest.mark.parametrize(("step", "when"), [(None, "now"), (4, "when step 4 completed")])
def test_a_fork_tells_where_it_begins(capsys: pytest.CaptureFixture[str], step: int | None, when: str) -> None:
    made = {"step": 4, "prompts": 9, "totals": {"groups": 16}}
    asked: list[tuple[str, str, Any]] = []
    with asked_of({"POST": made}, asked) as service:
        time_travel.fork(service, "r", "s", step)
    assert asked == [("POST", "/v1/runs/r/fork", {"run": "s"} | ({} if step is None else {"step": 4}))]
    assert capsys.readouterr().out == f"s begins as r was {when}: step 4, 16 groups, 9 prompts\n"
