"""Prompts for the pool with what is known of them beforehand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from greso_client import InvalidRequestError, NotFoundError, PoolPrompt
from greso_client._core import Core
from greso_client._io import run

from .doubles import FakeService, problem


def sent(service: FakeService) -> list[Any]:
    """The bodies of the uploads, with the lines of a body as a list."""
    uploads = [request for request in service.requests if request.url.path.endswith("/pool")]
    return [
        json.loads(upload.content)
        if upload.headers["content-type"] == "application/json"
        else [json.loads(line) for line in upload.content.splitlines()]
        for upload in uploads
    ]


def test_rates_go_with_their_prompts(core: Core, service: FakeService) -> None:
    size = run(core.add_prompts(["a", PoolPrompt("b", 0.25), PoolPrompt("c", 1, samples=16), PoolPrompt("d")]))
    assert (size.added, size.pool, size.priors, size.degraded) == (4, 4, 2, False)
    told = [{"prompt": "b", "pass_rate": 0.25}, {"prompt": "c", "pass_rate": 1.0, "samples": 16}]
    assert sent(service) == [["a", *told, {"prompt": "d"}]]


def test_domains_go_with_their_prompts(core: Core, service: FakeService) -> None:
    run(core.add_prompts([PoolPrompt("a", domain="math"), PoolPrompt("b", 0.5, domain="c.1-x"), "c"]))
    assert sent(service) == [[
        {"prompt": "a", "domain": "math"}, {"prompt": "b", "pass_rate": 0.5, "domain": "c.1-x"}, "c",
    ]]  # fmt: skip


def test_numbers_of_numpy_are_taken(core: Core, service: FakeService) -> None:
    run(core.add_prompts([PoolPrompt("a", np.float32(0.5), np.int64(3))]))  # type: ignore[arg-type]
    assert sent(service) == [[{"prompt": "a", "pass_rate": 0.5, "samples": 3}]]


def test_another_run_gives_all_that_it_has(core: Core, service: FakeService) -> None:
    service.elsewhere = ["a", "b"]
    size = run(core.add_prompts(from_run="old"))
    assert (size.added, size.priors) == (2, 2)
    assert sent(service) == [{"from_run": "old"}]


def test_another_run_tells_of_named_prompts_in_parts(
    core: Core, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greso_client._requests.POOL_PART", 2)
    service.elsewhere = ["a", "c"]
    size = run(core.add_prompts(["a", PoolPrompt("b", 0.5), "c"], from_run="old"))
    assert (size.added, size.pool, size.priors) == (3, 3, 3)
    assert sent(service) == [
        {"from_run": "old", "prompts": ["a", {"prompt": "b", "pass_rate": 0.5}]},
        {"from_run": "old", "prompts": ["c"]},
    ]


def test_an_import_that_takes_long_is_waited_for(core: Core, service: FakeService) -> None:
    core._io.takes = 30.0  # type: ignore[attr-defined]
    service.elsewhere = ["a"]
    assert not run(core.add_prompts(from_run="old")).degraded


def test_a_run_that_is_not_there_raises(core: Core, service: FakeService) -> None:
    service.script.append(problem(404, "there is no run old"))
    with pytest.raises(NotFoundError, match="no run old"):
        run(core.add_prompts(from_run="old"))


@pytest.mark.parametrize("from_run", [None, "old"])
def test_while_the_service_is_away_everything_is_remembered(
    core: Core, service: FakeService, from_run: str | None
) -> None:
    service.down = True
    size = run(core.add_prompts([PoolPrompt("a", 0.5), "b"], from_run))
    assert (size.added, size.pool, size.degraded, size.priors) == (2, 2, True, 0)
    assert sorted(run(core.draw(0)).prompts) == ["a", "b"]
    service.down = False
    core._io.time += 60  # type: ignore[attr-defined]
    assert not run(core.draw(0)).degraded
    told = [{"prompt": "a", "pass_rate": 0.5}, "b"]
    assert sent(service)[-1] == (told if from_run is None else {"from_run": "old", "prompts": told})


@pytest.mark.parametrize(
    ("prompts", "from_run", "pointer"),
    [
        (None, None, "/prompts"),
        ("abc", None, "/prompts"),
        (PoolPrompt("a"), None, "/prompts"),
        (["a", ""], None, "/prompts/1"),
        (["a", 7], None, "/prompts/1"),
        (["a", {"prompt": "b"}], None, "/prompts/1"),
        ({"c": 0.4}, None, "/prompts"),
        ([PoolPrompt("")], None, "/prompts/0/prompt"),
        ([PoolPrompt("a", -0.1)], None, "/prompts/0/pass_rate"),
        ([PoolPrompt("a", 1.1)], "old", "/prompts/0/pass_rate"),
        ([PoolPrompt("a", math.nan)], None, "/prompts/0/pass_rate"),
        ([PoolPrompt("a", "0.4")], None, "/prompts/0/pass_rate"),  # type: ignore[arg-type]
        (["b", PoolPrompt("a", "half")], None, "/prompts/1/pass_rate"),  # type: ignore[arg-type]
        ([PoolPrompt("a", True)], None, "/prompts/0/pass_rate"),
        ([PoolPrompt("a", [1])], "old", "/prompts/0/pass_rate"),  # type: ignore[arg-type]
        ([PoolPrompt("a", 10**400)], None, "/prompts/0/pass_rate"),
        ([PoolPrompt("a", 0.5, True)], None, "/prompts/0/samples"),
        ([PoolPrompt("a", 0.5, 8.0)], None, "/prompts/0/samples"),  # type: ignore[arg-type]
        ([PoolPrompt("a", 0.5, "8")], None, "/prompts/0/samples"),  # type: ignore[arg-type]
        ([PoolPrompt("a", 0.5, 0)], None, "/prompts/0/samples"),
        ([PoolPrompt("a", 0.5, 65_536)], None, "/prompts/0/samples"),
        ([PoolPrompt("a", samples=8)], None, "/prompts/0/samples"),
        ([PoolPrompt("a", domain="")], None, "/prompts/0/domain"),
        (["b", PoolPrompt("a", domain="x" * 65)], None, "/prompts/1/domain"),
        ([PoolPrompt("a", domain=7)], None, "/prompts/0/domain"),  # type: ignore[arg-type]
        (["a"], "", "/from_run"),
        (None, "a/b", "/from_run"),
    ],
    ids=str,
)
def test_what_could_never_be_accepted_is_refused_here(
    core: Core, service: FakeService, prompts: Any, from_run: Any, pointer: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        run(core.add_prompts(prompts, from_run))
    assert [error.pointer for error in refused.value.problem.errors] == [pointer]
    assert not service.requests


@pytest.mark.parametrize("prompts", [{"c": 0.4}, [{"prompt": "c", "pass_rate": 0.4}]], ids=str)
def test_rates_in_a_mapping_are_told_where_they_belong(core: Core, prompts: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"PoolPrompt\(prompt, pass_rate"):
        run(core.add_prompts(prompts))
