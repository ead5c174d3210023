"""Greso-Generation on every write, and idempotency keys across rewinds and forks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from .oracle.twin import picture
from .test_oracle_rewind import POOL, SPEC, begun, draw, report, rewind

if TYPE_CHECKING:
    from collections.abc import Callable

    from .oracle.service import Service
    from .oracle.twin import Picture

STALE = "urn:greso:problem:stale-generation"


@dataclass(frozen=True)
class Write:
    """A request that writes and is right in all but its generation; `{run}` in its body is the run's name."""

    method: str
    suffix: str
    body: dict[str, Any] | None
    status: int = 200

    def send(self, service: Service, run: str, generation: int | str | None, key: str | None = None) -> Any:
        name = run.rpartition("/")[2]
        fork = {"run": f"{name}-{self.body['run']}"} if self.body is not None and "run" in self.body else {}
        body = None if self.body is None else self.body | fork
        return service.call(self.method, run + self.suffix, body, key, generation)


RESULTS = [{"prompt": POOL[0], "rewards": [0, 1]}, {"prompt": "new", "rewards": [1, 1]}]
WRITES = {
    "create": Write("PUT", "", SPEC),
    "change": Write("PATCH", "", {"min_keep_probability": 0.3}),
    "pool": Write("PUT", "/pool", {"prompts": ["more"]}),
    "select": Write("POST", "/select", {"step": 4, "prompts": POOL}),
    "draw": Write("POST", "/draw", {"step": 4, "count": 5}),
    "report": Write("POST", "/report", {"step": 4, "results": RESULTS, "final": True}),
    "rewind": Write("POST", "/rewind", {"step": 2}),
    "fork": Write("POST", "/fork", {"run": "fork"}, 201),
    "fork at a step": Write("POST", "/fork", {"run": "fork", "step": 1}, 201),
    "delete": Write("DELETE", "", None, 204),
}
KEYED = [name for name, write in WRITES.items() if write.method == "POST"]


def rewound(service: Service, name: str, times: int = 2) -> str:
    """A run of generation `times` whose step 3 is complete."""
    run = begun(service, name)
    for _ in range(times):
        report(service, run, 3, 4, 4)
        report(service, run, 5, 1, 1)
        rewind(service, run, 0)
    report(service, run, 3, 4, 4)
    return run


def shown(service: Service, run: str) -> Picture:
    """All of the run but the pages of its prompts."""
    return picture(service, run, pages=False)


@pytest.mark.parametrize("write", WRITES)
def test_another_generation_is_refused_and_nothing_changes(served: Service, name: str, write: str) -> None:
    run = rewound(served, name)
    before = shown(served, run)
    for generation in (0, 1, 3, 2**31):
        key = f"key-{generation}" if write in KEYED and generation != 1 else None
        answer = WRITES[write].send(served, run, generation, key)
        assert answer.status_code == 409, answer.text
        problem = answer.json()
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert problem["status"] == 409
        assert f"{generation}" in problem["detail"]
        assert "2" in problem["detail"]
        # A newer one is refused as well, but not because the sender was overtaken.
        assert problem["type"] == STALE or generation > 2
        assert shown(served, run) == before
        assert served.call("GET", f"{run}-fork").status_code == 404
    assert served.json("GET", run)["generation"] == 2
    # A refused request has left no answer under its key either.
    accepted = WRITES[write].send(served, run, 2, "key-0" if write in KEYED else None)
    assert accepted.status_code == WRITES[write].status
    assert accepted.headers.get("Idempotent-Replayed") != "true"


@pytest.mark.parametrize("write", WRITES)
def test_the_runs_generation_and_none_are_accepted(served: Service, name: str, write: str) -> None:
    fenced, plain = rewound(served, name), rewound(served, f"{name}-plain")
    for run, generation in ((fenced, 2), (plain, None)):
        answer = WRITES[write].send(served, run, generation)
        assert answer.status_code == WRITES[write].status, answer.text
        if write == "delete":
            assert served.call("GET", run).status_code == 404
        else:
            assert served.json("GET", run)["generation"] == (3 if write == "rewind" else 2)
    if write != "delete":
        assert shown(served, fenced) == shown(served, plain)


@pytest.mark.parametrize("write", WRITES)
def test_a_malformed_generation_is_refused(served: Service, name: str, write: str) -> None:
    run = rewound(served, name)
    before = shown(served, run)
    for bad in ("", "x", "-1", "+2", "2.0", "2e0", "0x2", "2 2", "2,2", "2_2", "None"):
        answer = WRITES[write].send(served, run, bad)
        assert answer.status_code == 422, f"{bad!r}: {answer.text}"
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/header/greso-generation"]
    # A whole number too great for any run is malformed or another generation, as the service likes.
    assert WRITES[write].send(served, run, "9" * 40).status_code in {409, 422}
    assert shown(served, run) == before


def test_looking_needs_no_generation(served: Service, name: str) -> None:
    run = rewound(served, name)
    for path in (run, f"{run}/steps", f"{run}/prompts", f"{run}/prompts/new", "/v1/runs"):
        plain, fenced = served.call("GET", path), served.call("GET", path, generation=0)
        assert (plain.status_code, plain.content if plain.is_success else None) == (
            fenced.status_code,
            fenced.content if fenced.is_success else None,
        )


def test_every_answer_tells_the_generation(served: Service, name: str) -> None:
    run = rewound(served, name)
    for write in ("create", "change", "select", "draw", "report"):
        assert WRITES[write].send(served, run, None).json()["generation"] == 2, write
    assert WRITES["rewind"].send(served, run, None).json()["generation"] == 3
    assert WRITES["fork"].send(served, run, 3).json()["generation"] == 0
    # A fork has a generation of its own.
    assert served.call("POST", f"{run}-fork/select", {"step": 4, "prompts": []}, generation=3).status_code == 409
    served.json("POST", f"{run}-fork/select", {"step": 4, "prompts": []}, generation=0)


def test_a_deleted_run_made_anew_begins_at_generation_0(served: Service, name: str) -> None:
    run = rewound(served, name)
    served.json("DELETE", run)
    assert WRITES["report"].send(served, run, 2).status_code == 404
    begun(served, name)
    assert served.json("GET", run)["generation"] == 0
    assert WRITES["report"].send(served, run, 2).status_code == 409
    assert WRITES["report"].send(served, run, 0).status_code == 200


# -- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", KEYED)
def test_a_key_repeats_its_answer_whatever_has_happened_since(served: Service, name: str, verb: str) -> None:
    run = rewound(served, name)
    first = WRITES[verb].send(served, run, 2, "the-key")
    assert first.status_code == WRITES[verb].status
    for step in (2, 1, 0):
        rewind(served, run, step)
        before = shown(served, run)
        again = WRITES[verb].send(served, run, 2, "the-key")
        assert again.status_code == first.status_code, again.text
        assert again.content == first.content
        assert again.headers["Idempotent-Replayed"] == "true"
        assert shown(served, run) == before
        assert WRITES[verb].send(served, run, None, "the-key").content == first.content
    if verb.startswith("fork"):
        # The answer is about what was; it makes no second run.
        served.json("DELETE", f"{run}-fork")
        assert WRITES[verb].send(served, run, None, "the-key").content == first.content
        assert served.call("GET", f"{run}-fork").status_code == 404


@pytest.mark.parametrize("verb", KEYED)
def test_a_key_with_another_body_is_refused(served: Service, name: str, verb: str) -> None:
    run = rewound(served, name)
    first = WRITES[verb].send(served, run, None, "k")
    body = WRITES[verb].body
    assert body is not None
    if "run" in body:
        body = body | {"run": f"{name}-fork"}
    others = [body | {"step": step} for step in (0, 3, 70) if body.get("step") != step]
    if "run" in body:
        others += [body | {"run": f"{name}-other"}, body | {"run": name}]
    before = shown(served, run)
    for other in others:
        refused = served.call("POST", run + WRITES[verb].suffix, other, "k")
        assert refused.status_code == 422, f"{other}: {refused.text}"
        assert refused.headers["content-type"].startswith("application/problem+json")
    assert shown(served, run) == before
    assert served.call("GET", f"{run}-other").status_code == 404
    assert WRITES[verb].send(served, run, None, "k").content == first.content


def test_a_key_of_another_verb_is_refused(served: Service, name: str) -> None:
    run = rewound(served, name)
    served.json("POST", f"{run}/rewind", {"step": 2}, "k")
    assert served.call("POST", f"{run}/draw", {"step": 2}, "k").status_code == 422


def test_a_rewind_retried_under_its_key_raises_the_generation_once(served: Service, name: str) -> None:
    run = rewound(served, name)
    with ThreadPoolExecutor(8) as threads:
        sent = [threads.submit(served.call, "POST", f"{run}/rewind", {"step": 3}, "same", 2) for _ in range(24)]
    answers = [each.result() for each in sent]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum(answer.headers.get("Idempotent-Replayed") == "true" for answer in answers) == 23
    assert served.json("GET", run)["generation"] == 3
    # Without the key, or under another, it is another rewind.
    assert rewind(served, run, 3)["generation"] == 4
    assert served.json("POST", f"{run}/rewind", {"step": 3}, "other")["generation"] == 5


def test_a_fork_sent_by_many_under_one_key_is_made_once(served: Service, name: str) -> None:
    run = rewound(served, name)
    body = {"run": f"{name}-new", "step": 2}
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: served.call("POST", f"{run}/fork", body, "same"), range(16)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    with ThreadPoolExecutor(8) as threads:
        others = list(threads.map(lambda _: served.call("POST", f"{run}/fork", body | {"run": f"{name}-2"}), range(16)))
    assert sorted(answer.status_code for answer in others) == [201] + [409] * 15


def test_of_many_fenced_rewinds_one_wins(served: Service, name: str) -> None:
    run = rewound(served, name)
    with ThreadPoolExecutor(8) as threads:
        sent = [
            threads.submit(served.call, "POST", f"{run}/rewind", {"step": at % 3}, f"rewind-{at}", 2)
            for at in range(16)
        ]
    answers = [each.result() for each in sent]
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 15
    assert {answer.json()["type"] for answer in answers if answer.status_code == 409} == {STALE}
    assert served.json("GET", run)["generation"] == 3


def test_keys_replay_after_a_rewind_and_a_restart(private: Callable[..., Service]) -> None:
    service = private()
    run = begun(service, "keys")
    body = {"step": 1, "results": [{"prompt": "p", "rewards": [0, 0]}], "final": True}
    sent = {
        "report": (f"{run}/report", body),
        "rewind": (f"{run}/rewind", {"step": 0}),
        "fork": (f"{run}/fork", {"run": "keys-fork", "step": 0}),
    }
    first = {
        key: service.call("POST", path, content, key, 1 if key == "fork" else 0)
        for key, (path, content) in sent.items()
    }
    assert [answer.status_code for answer in first.values()] == [200, 200, 201]
    draw(service, run, 1)
    before = shown(service, run)
    for end in (service.kill, service.stop):
        end()
        service.start()
        for key, (path, content) in sent.items():
            again = service.call("POST", path, content, key, 0)
            assert (again.status_code, again.content) == (first[key].status_code, first[key].content)
            assert again.headers["Idempotent-Replayed"] == "true"
        assert shown(service, run) == before
        assert service.json("GET", run)["generation"] == 1
