"""`greso tail` and `greso import`: against a real service, in a terminal, in a pipe, and with the service away."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from greso_service.cli import tailing
from greso_service.cli.importing import import_
from greso_service.cli.service import Service as Asked
from greso_service.cli.service import ServiceError
from greso_service.cli.tailing import Stream, sentence

from ..commands import greso  # noqa: TID252
from ..servers import GRESO, Service, eventually, free_port  # noqa: TID252
from .test_top import Terminal

REPORT = {"step": 3, "results": [{"prompt": "a", "rewards": [0, 1]}, {"prompt": "b", "rewards": [1, 1]}], "final": True}


def lived(service: Service, run: str) -> None:
    service.json("PUT", f"/v1/runs/{run}", {"train_batch_size": 1, "group_size": 2})
    service.json("PUT", f"/v1/runs/{run}/pool", {"prompts": ["a", {"prompt": "c", "pass_rate": 0.5}]})
    service.json("POST", f"/v1/runs/{run}/draw", {"step": 3, "count": 2})
    service.json("POST", f"/v1/runs/{run}/report", REPORT)
    service.json("POST", f"/v1/runs/{run}/select", {"step": 4, "prompts": ["a", "x"]})
    service.json("PATCH", f"/v1/runs/{run}", {"policy": "irt"})
    service.json("POST", f"/v1/runs/{run}/rewind", {"step": 3})


# Lines


def test_each_event_is_a_line(service: Service, run_name: str) -> None:
    lived(service, run_name)
    done = greso("tail", run_name, "--no-follow", "--url", service.url)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split(maxsplit=4) for line in done.stdout.splitlines()]
    assert [row[2:] for row in rows] == [
        ["1", "created", "policy greso, groups of 2, 1 effective groups a step, seed 0"],
        ["2", "pooled", "2 prompts join the pool, 2 new"],
        ["3", "priors", "1 prompts with something known beforehand"],
        ["4", "selected", "step 3 (draw): 2 of 2 selected"],
        ["5", "reported", "step 3: 2 groups, 1 of them mixed, 4 rollouts, mean reward 0.75, 1 new prompts, final"],
        ["6", "selected", "step 4: 2 of 2 selected"],
        ["7", "patched", 'policy = "irt"'],
        ["8", "rewound", "back to step 3, generation 1"],
    ]
    assert "\x1b" not in done.stdout
    service.json("POST", f"/v1/runs/{run_name}/fork", {"run": f"{run_name}-b", "step": 3})
    done = greso("tail", f"{run_name}-b", "-n", 1, "--no-follow", "--url", service.url)
    assert done.stdout.endswith(f"forked    begins as {run_name} was when step 3 completed\n")


def test_as_json_with_ids_to_go_on_with(service: Service, run_name: str) -> None:
    lived(service, run_name)
    done = greso("tail", run_name, "--after", 0, "--no-follow", "--json", "--url", service.url)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["number"] for row in rows] == list(range(1, 9))
    assert rows[4] | {"at": ""} == rows[4] | {"event": "reported", "groups": 2, "at": ""}
    rest = greso("tail", run_name, "--after", rows[5]["id"], "--no-follow", "--json", "--url", service.url)
    assert [json.loads(line) for line in rest.stdout.splitlines()] == rows[6:]
    last = greso("tail", run_name, "-n", 2, "--no-follow", "--json", "--url", service.url)
    assert last.stdout == rest.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-run"], "greso: there is no run no-such-run"),
        (["no-such-run", "--after", "x"], "greso: --after: must be the id of an event"),
    ],
)
def test_what_is_refused_is_one_line(service: Service, arguments: list[str], message: str) -> None:
    done = greso("tail", *arguments, "--url", service.url)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(message)


def test_without_a_service_it_is_one_line() -> None:
    done = greso("tail", "run", "--url", f"http://127.0.0.1:{free_port()}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "start it with `greso serve`" in done.stderr


def test_what_a_newer_service_says_is_shown_as_it_is() -> None:
    assert sentence("merged", {"number": 4, "at": "x", "with": "another"}) == '{"with": "another"}'
    assert sentence("reported", {"number": 4, "groups": {}}) == '{"groups": {}}'
    assert sentence("joined", {"joined": 6, "new_domains": ["a", "b"]}) == "6 prompts join domains, new: a b"
    assert sentence("joined", {"joined": 6, "new_domains": []}) == "6 prompts join domains"
    assert sentence("rewound", {"step": 1000, "generation": 2}) == "back to step 1,000, generation 2"


# Following


@pytest.fixture
def following(service: Service) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def follow(*arguments: object, url: str = "") -> subprocess.Popen[str]:
        command = [str(GRESO), "tail", *map(str, arguments), "--url", url or service.url]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield follow
    for process in started:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_it_follows_and_ctrl_c_ends_it_quietly(
    service: Service, run_name: str, following: Callable[..., subprocess.Popen[str]]
) -> None:
    service.json("PUT", f"/v1/runs/{run_name}", {})
    process = following(run_name)
    assert "created" in line_of(process)
    for step in range(3):
        service.json("POST", f"/v1/runs/{run_name}/report", {**REPORT, "step": step})
        assert f"step {step}: 2 groups" in line_of(process)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 0


def test_it_waits_for_a_service_that_is_away_and_misses_nothing(
    start_service: Callable[..., Service], following: Callable[..., subprocess.Popen[str]]
) -> None:
    service = start_service()
    service.json("PUT", "/v1/runs/run", {})
    process = following("run", "-n", 1, "--json", url=service.url)
    assert process.stderr is not None
    assert json.loads(line_of(process))["event"] == "created"
    service.json("POST", "/v1/runs/run/report", {**REPORT, "step": 1})
    assert json.loads(line_of(process))["step"] == 1
    service.signal(signal.SIGTERM)
    assert service.process is not None
    assert service.process.wait(30) == 0
    assert process.stderr.readline().endswith("; waiting for it\n")
    service.start()
    service.json("POST", "/v1/runs/run/report", {**REPORT, "step": 2})
    service.json("POST", "/v1/runs/run/report", {**REPORT, "step": 3})
    assert [json.loads(line_of(process))["step"] for _ in range(2)] == [2, 3]
    service.call("DELETE", "/v1/runs/run")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("greso: there is no run run")


def test_it_goes_on_where_it_can_when_it_was_overtaken_by_a_trim(
    start_service: Callable[..., Service], following: Callable[..., subprocess.Popen[str]]
) -> None:
    service = start_service("--keep-steps", "2", "--snapshot-every", "4")
    service.json("PUT", "/v1/runs/run", {})
    process = following("run", "--json", url=service.url)
    assert process.stderr is not None
    assert json.loads(line_of(process))["number"] == 1
    process.send_signal(signal.SIGSTOP)
    service.kill()
    service.start()
    steps = iter(range(1000))

    def oldest() -> int:
        service.json("POST", "/v1/runs/run/report", {**REPORT, "step": next(steps)})
        try:
            answer = service.call("GET", "/v1/runs/run/events?follow=false")
        except httpx.RemoteProtocolError:  # trimmed while it was read
            return 0
        if answer.status_code == 503:  # trimmed again and again before it was read: to be asked again
            return 0
        return int(json.loads(answer.text.partition("data: ")[2].partition("\n")[0])["number"])

    eventually(lambda: oldest() > 10, 30.0)
    process.send_signal(signal.SIGCONT)
    first = json.loads(line_of(process))
    said = [process.stderr.readline() for _ in range(2)]
    assert said[-1] == f"events 2 to {first['number'] - 1} were trimmed before they came here; it goes on behind\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_in_a_terminal_it_has_colours(service: Service, run_name: str) -> None:
    lived(service, run_name)
    environment = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    with Terminal("tail", run_name, "--url", service.url, environment=environment) as terminal:
        terminal.shows("\x1b[1;31mrewound", "generation 1")
        service.json("POST", f"/v1/runs/{run_name}/report", {**REPORT, "step": 9})
        terminal.shows("step 9: 2 groups")
        terminal.press(b"\x03")
        assert terminal.left() == 0
    assert "Abort" not in terminal.written


def test_a_reader_that_has_enough_ends_it_quietly(service: Service, run_name: str) -> None:
    lived(service, run_name)
    for form in ("", "--json"):
        done = subprocess.run(
            f"{GRESO} tail {run_name} {form} --no-follow --url {service.url} | head -n 1",
            shell=True, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert (done.stdout.count("\n"), done.stderr) == (1, "")


def answers(*told: Any) -> Callable[[httpx.Request], httpx.Response]:
    """Answers one after another; an exception is raised."""
    left = list(told)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Last-Event-ID", ""))
        now = left.pop(0)
        if isinstance(now, Exception):
            raise now
        assert isinstance(now, httpx.Response)
        return now

    asked: list[str] = []
    answer.asked = asked  # type: ignore[attr-defined]
    return answer


def text(content: str) -> httpx.Response:
    return httpx.Response(200, text=content)


BEGIN, ONE, TWO = "retry: 2000\nid: 3-3\n\n", "id: 4-4\nevent: pooled\ndata: {}\n\n", "id: 5-5\ndata: {}\n\n"


def test_a_stream_goes_on_behind_the_last_whole_event(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tailing, "PAUSE", 0.0)
    answer = answers(
        text(BEGIN + ":\n\n"),
        text(BEGIN + ONE + TWO[:10]),
        httpx.ReadTimeout("silent"),
        httpx.Response(503, json={"detail": "Redis is away"}),
        text(TWO),
        httpx.Response(409, json={"detail": "made anew"}),
        text(BEGIN),
    )
    with Asked("http://greso", httpx.MockTransport(answer)) as service:
        events = Stream(service, "run", {"last": 0}, follow=True).events()
        assert [next(events)[0] for _ in range(2)] == ["4-4", "5-5"]
        with pytest.raises(ServiceError, match="made anew"):
            next(events)
    assert answer.asked == ["", "3-3", "4-4", "4-4", "4-4", "5-5", ""]  # type: ignore[attr-defined]
    assert capsys.readouterr().err.count("waiting for it") == 1, "an outage is one line"


def test_a_trim_is_told_once_and_another_history_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tailing, "PAUSE", 0.0)
    gone = httpx.Response(409, json={"detail": "is not there any more"})
    answer = answers(
        text(BEGIN + ONE),
        gone,
        httpx.Response(503, json={"detail": "Redis is away"}),
        text("retry: 2000\nid: 8-8\n\nid: 9-9\ndata: {}\n\n"),
        gone,
        text(BEGIN),
    )
    with Asked("http://greso", httpx.MockTransport(answer)) as service:
        events = Stream(service, "run", {"last": 1}, follow=True).events()
        assert [next(events)[0] for _ in range(2)] == ["4-4", "9-9"]
        assert "events 5 to 8 were trimmed before they came here" in capsys.readouterr().err
        with pytest.raises(ServiceError, match="is not there any more"):
            next(events)
    assert answer.asked == ["", "4-4", "", "", "9-9", ""]  # type: ignore[attr-defined]


def test_one_that_does_not_follow_is_asked_once() -> None:
    answer = answers(text(BEGIN + ONE), httpx.ReadTimeout("silent"))
    with Asked("http://greso", httpx.MockTransport(answer)) as service:
        assert len(list(Stream(service, "run", {"last": 5}, follow=False).events())) == 1
        with pytest.raises(ServiceError, match="silent"):
            list(Stream(service, "run", {"last": 5}, follow=False).events())


# Import


def test_a_run_moves_from_file_to_run(service: Service, run_name: str, tmp_path: Path) -> None:
    lived(service, run_name)
    file = tmp_path / "run.ndjson.gz"
    assert greso("export", run_name, "-o", file, "--url", service.url).returncode == 0
    content = gzip.decompress(file.read_bytes())
    other = f"{run_name}-again"
    done = greso("import", file, other, "--url", service.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{other} is as {file} has it: step 3, generation 1, 2 groups, 3 prompts\n"
    again = greso("import", "-", other, "--url", service.url, stdin=file.read_bytes())
    assert (again.returncode, again.stdout) == (0, f"{other} is there already, with this very history\n")
    service.call("DELETE", f"/v1/runs/{run_name}")
    done = greso("import", "-", "--url", service.url, stdin=content)
    assert done.stdout.startswith(f"{run_name} is as standard input has it")
    assert service.call("GET", f"/v1/runs/{run_name}/export").content == content


def test_a_file_that_is_no_export_says_so(service: Service, run_name: str, tmp_path: Path) -> None:
    lived(service, run_name)
    export = service.call("GET", f"/v1/runs/{run_name}/export").content
    cases = [
        (b"", None, "is no export of a run; `greso export RUN -o FILE` writes one"),
        (b"{}\n", None, "is no export of a run"),
        (gzip.compress(b"x" * 2**20), None, "is no export of a run"),
        (b"\x1f\x8bnot", "nowhere", "damaged or cut off"),
        (gzip.compress(export)[:-20], "nowhere", "damaged or cut off"),
        (b"{}\n", "nowhere", "^line 1 is not the manifest"),
        (export[: export.rindex(b"{")], "nowhere", "^the export is cut off behind line 9: its last line"),
        (export.replace(b'"mark":"3-', b'"mark":"4-'), "nowhere", "^line 4 has the mark"),
    ]
    file = tmp_path / "export"
    with Asked(service.url) as asked:
        for content, run, message in cases:
            file.write_bytes(content)
            with pytest.raises(ServiceError, match=message):
                import_(asked, str(file), run)
    assert service.call("GET", "/v1/runs/nowhere").status_code == 404
    done = greso("import", tmp_path / "none", "--url", service.url)
    assert (done.returncode, done.stderr) == (1, f"greso: {tmp_path / 'none'}: No such file or directory\n")
