"""Every command of the documentation is run against a real `greso serve`, and its answer compared with the one shown.

The blocks of `sh` and `python` of a page are run in order; a page begins with a service without runs. A block of `json`
or `text` right behind one is what it prints. Blocks that can't be run here stand in ELSEWHERE with what runs them.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.servers import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ADDRESS = "127.0.0.1:8080"
PAGES = [str(page.relative_to(ROOT)) for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
RUN, SHOWN = {"sh", "python"}, {"json", "text"}
SECONDS = 60

# What a page leaves to its reader, so that its Python can run: a task of six prompts, two of them not worth a rollout.
READER = """
questions = {"q1": "1+1", "q2": "2+2", "q3": "3+3", "q4": "4+4", "easy": "0", "hard": "?"}
steps = 3
def sample(prompts, count): return [[f"{prompt}/{number}" for number in range(count)] for prompt in prompts]
def score(prompt, response):
    return {"easy": 1.0, "hard": 0.0}.get(prompt, float(response[-1] in "02468"))
def generate(prompt, n): return [f"{prompt}/{number}" for number in range(n)]
def grade(response): return score("q", response)
def train(groups): assert groups, "nothing to train on"
def batches(): return [list(questions)] * steps
def evaluate(): return 0.5
"""


@dataclass(frozen=True)
class Covered:
    """What runs a block that this test doesn't: a file, and words that stand in it."""

    file: str
    words: str


ELSEWHERE = {
    ("README.md", "make demo\nmake test"): [Covered("Makefile", "greso demo"), Covered(".ci/run", "make test")],
    # Hours and minutes of training; the same command with other sizes is run there.
    (
        "docs/results.md",
        "greso bench-rl --seeds 1 2 3 4 5 --arms grpo dynamic greso greso-1 adaptive --jobs 2 --out bench-5",
    ): [Covered("tests/e2e/test_compare.py", '"bench-rl"')],
    (
        "docs/policies.md",
        "greso bench-rl --seeds 1 2 3 4 5 --arms grpo dynamic greso irt irt-1 p_mixed mopps band --out bench-irt",
    ): [Covered("tests/e2e/test_compare.py", '"bench-rl"')],
    (
        "docs/results.md",
        "greso bench-rl --set hidden=768 --set layers=8 --set heads=12 --set warm_limit=1 --set held_out=50"
        " --set samples=1 \\\n    --arms grpo --seeds 1 --steps 3 --out bench-57",
    ): [Covered("tests/e2e/test_compare.py", '"bench-rl"')],
    ("docs/security.md", "greso serve --keys-file keys.json"): [
        Covered("tests/integration/test_keys_served.py", 'start_service("--keys", str(path))')
    ],
    (
        "docs/policies.md",
        "greso bench-rl --seeds 1 2 3 4 5 --arms grpo dynamic greso irt --rollouts 100000 --set broken=0.0"
        " --out bench-learnable\ngreso bench-rl --seeds 1 2 3 4 5 --arms grpo dynamic greso irt --rollouts 100000"
        " --set pool=600 --out bench-small\ngreso bench-rl --seeds 1 2 3 4 5 --arms grpo greso irt --rollouts 100000"
        " --set pool=20000 --out bench-large\ngreso bench-rl --seeds 1 2 3 4 5 --arms grpo dynamic greso irt"
        " --rollouts 60000 --set broken=0.9 --out bench-exhaust",
    ): [Covered("tests/e2e/test_compare.py", '"bench-rl"')],
    ("docs/quickstart.md", "make serve"): [
        Covered("Makefile", "greso serve"),
        Covered("tests/servers.py", '"serve", "--port"'),
    ],
}

# Pages whose blocks all need what is not installed here.
PAGES_ELSEWHERE = {
    "docs/deploy.md": [Covered("tests/deploy/test_deploy_docs.py", '"deploy.md"')],
    "docs/trainer.md": [Covered("tests/e2e/test_trainer_docs.py", '"trainer.md"')],
    "docs/vllm.md": [Covered("tests/vllm/documented.py", "vllm.md")],
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, the line it begins at, and what it is shown to print."""

    language: str
    text: str
    line: int
    shown: str | None


def blocks(page: str) -> list[Block]:
    """The blocks of a page in order."""
    text = (ROOT / page).read_text()
    found = list(FENCE.finditer(text))
    shown: dict[int, str] = {}
    for before, block in itertools.pairwise(found):
        if block[1] in SHOWN and not text[before.end() : block.start()].strip():
            shown[before.start()] = block[2]
    return [
        Block(block[1], block[2], text[: block.start()].count("\n") + 1, shown.get(block.start())) for block in found
    ]


def commands(page: str) -> list[Block]:
    """The blocks of a page to be run here."""
    if page in PAGES_ELSEWHERE:
        return []
    return [block for block in blocks(page) if block.language in RUN and (page, block.text.strip()) not in ELSEWHERE]


@pytest.fixture(scope="module")
def own_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    started = Service(tmp_path_factory.mktemp("docs"))
    try:
        yield started.start()
    finally:
        started.close()


@pytest.fixture
def empty(own_service: Service) -> Service:
    for run in own_service.json("GET", "/v1/runs?limit=1000")["runs"]:
        own_service.call("DELETE", f"/v1/runs/{run['run']}")
    return own_service


STAND_IN = f"""#!{sys.executable} -IS
import sys, urllib.error, urllib.request
method, headers, content, url = "GET", {{}}, None, None
words = iter(sys.argv[1:])
for word in words:
    if word == "-X": method = next(words)
    elif word == "-H": name, _, value = next(words).partition(":"); headers[name] = value.strip()
    elif word in ("-d", "--data-binary"):
        given = next(words)
        content = sys.stdin.buffer.read() if given == "@-" else given.encode()
    elif word.startswith("-"): sys.exit(f"the stand-in for curl does not know {{word}}")
    else: url = word
try:
    answer = urllib.request.urlopen(urllib.request.Request(url, content, headers, method=method), timeout=30)
except urllib.error.HTTPError as error:
    answer = error
sys.stdout.write(answer.read().decode())
"""
"""What stands for curl on a machine without it, with the few options that the pages use."""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A directory for PATH: the `greso` under test."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "greso").symlink_to(BIN / "greso")
    (folder / "python").symlink_to(sys.executable)
    return folder


def add_stand_in_for_curl(folder: Path) -> None:
    script = folder / "curl"
    script.write_text(STAND_IN)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


def run(block: Block, service: Service, tools: Path, home: Path) -> str:
    """What a block prints; it must succeed."""
    text = block.text.replace(ADDRESS, f"127.0.0.1:{service.port}").replace(".venv/bin/", f"{BIN}/")
    if block.language == "python":
        command, text = [sys.executable, "-W", "error", "-"], READER + text
    else:
        command = ["sh", "-eu"]
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOME": str(home),
        "GRESO_URL": f"http://127.0.0.1:{service.port}",
    }
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=SECONDS, cwd=home, env=environment, check=False
    )
    assert done.returncode == 0, f"line {block.line}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.replace(f"127.0.0.1:{service.port}", ADDRESS)


def documents(text: str) -> list[Any]:
    """All JSON values of a text, one after another."""
    values, decoder, at = [], json.JSONDecoder(), 0
    while rest := text[at:].lstrip():
        value, length = decoder.raw_decode(rest)
        values.append(value)
        at = len(text) - len(rest) + length
    return values


def agree(shown: Any, told: Any) -> bool:
    """Whether an answer is as shown; "..." stands for anything."""
    if shown == "...":
        return True
    if isinstance(shown, dict) and isinstance(told, dict):
        return shown.keys() == told.keys() and all(agree(shown[name], told[name]) for name in shown)
    if isinstance(shown, list) and isinstance(told, list):
        return len(shown) == len(told) and all(map(agree, shown, told))
    return bool(shown == told) and isinstance(shown, bool) == isinstance(told, bool)


def check(block: Block, told: str) -> None:
    """The output of a block against what is shown, and against errors that are not shown."""
    try:
        answers = documents(told)
    except json.JSONDecodeError:
        assert block.shown is None or lines(block.shown) == lines(told), f"line {block.line} printed\n{told}"
        return
    if block.shown is None:
        assert not [answer for answer in answers if "urn:greso:problem" in str(answer)], f"line {block.line}: {told}"
    else:
        assert agree(documents(block.shown), answers), f"line {block.line} printed\n{told}"


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


WITH_COMMANDS = [page for page in PAGES if commands(page)]
FAST = ("README.md", "docs/quickstart.md")


@pytest.mark.parametrize(
    "page", [page if page in FAST else pytest.param(page, marks=pytest.mark.slow) for page in WITH_COMMANDS]
)
def test_every_command_of_a_page_does_what_the_page_says(
    page: str, empty: Service, tools: Path, tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        add_stand_in_for_curl(tools)
    for block in commands(page):
        check(block, run(block, empty, tools, tmp_path))


def test_the_stand_in_for_curl_does_the_same(empty: Service, tools: Path, tmp_path: Path) -> None:
    add_stand_in_for_curl(tools)
    for block in commands("docs/api.md"):
        check(block, run(block, empty, tools, tmp_path))


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_forgotten(page: str) -> None:
    for block in blocks(page):
        assert block.language in RUN | SHOWN, f"{page} line {block.line}: say sh, python, json or text behind the fence"
        if block.language == "text":
            assert not re.search(r"^(\$ |curl |make |pip )", block.text, re.MULTILINE), f"{page} line {block.line}"


def test_what_is_run_elsewhere_is_still_there() -> None:
    for page, text in ELSEWHERE:
        assert text in {block.text.strip() for block in blocks(page)}, f"{page} has no block {text!r} any more"
    for places in [*ELSEWHERE.values(), *PAGES_ELSEWHERE.values()]:
        for covered in places:
            assert covered.words in (ROOT / covered.file).read_text(), f"{covered.file} has no {covered.words} any more"


def test_a_wrong_answer_would_be_noticed(empty: Service) -> None:
    told = httpx.get(f"http://127.0.0.1:{empty.port}/v1/runs").text
    good = Block("sh", "", 1, '{"runs": [], "cursor": null}')
    check(good, told)
    with pytest.raises(AssertionError, match="printed"):
        check(Block("sh", "", 1, '{"runs": [], "cursor": "x"}'), told)
    with pytest.raises(AssertionError, match="urn:greso"):
        check(Block("sh", "", 1, None), httpx.get(f"http://127.0.0.1:{empty.port}/v1/runs/none").text)
