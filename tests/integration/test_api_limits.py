"""Limits, overload and failures of the service itself; each with its own settings or History."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from greso_service.errors import Unavailable
from greso_service.history.base import Listed
from greso_service.history.memory import MemoryHistory

from ..asgi import over_shared, pointers, problem, within  # noqa: TID252
from ..stores import PassingHistory  # noqa: TID252

JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}


def state(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


async def in_pieces(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/v1/runs/r/pool", "/v1/runs/r/report", "/v1/runs/r/select", "/v1/runs/other"])
def test_a_body_over_the_limit_is_413(path: str, chunked: bool) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={})
        method = "POST" if path.endswith(("report", "select")) else "PUT"
        content = b" " * 2047 + b"{}"
        answer = await client.request(method, path, content=in_pieces(content) if chunked else content, headers=JSON)
        assert "max_body_bytes (2048)" in problem(answer, 413)["detail"]
        assert [run["run"] for run in state(await client.get("/v1/runs"))["runs"]] == ["r"]

    within(story, max_body_bytes=2048)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_as_large_as_the_limit_is_taken(chunked: bool) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        content = b" " * 2046 + b"{}"
        answer = await client.put("/v1/runs/r", content=in_pieces(content) if chunked else content, headers=JSON)
        assert answer.status_code == 201

    within(story, max_body_bytes=2048)


def test_each_list_has_a_limit_that_is_named_and_nothing_is_applied_over_it() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={})
        before = state(await client.get("/v1/runs/r"))
        report: dict[str, Any] = {"step": 0, "results": [{"prompt": "a", "rewards": []}] * 4}
        groups: dict[str, Any] = {"step": 0, "results": [{"prompt": "a", "rewards": [0] * n} for n in (2, 3)]}
        named = "4 entries; max_prompts is 3, set by --max-prompts or GRESO_MAX_PROMPTS"
        over = [
            ("POST", "select", {"step": 0, "prompts": ["a"] * 4}, "/prompts", named),
            ("POST", "report", report, "/results", "4 entries; max_prompts is 3"),
            ("POST", "report", groups, "/results/1/rewards", "3 entries; max_rewards is 2"),
            ("PUT", "pool", {"prompts": ["a"] * 6}, "/prompts", "6 entries; max_pool_upload is 5"),
        ]
        for method, verb, body, where, text in over:
            answer = problem(await client.request(method, f"/v1/runs/r/{verb}", json=body), 422)
            assert pointers(answer) == [where]
            assert text in answer["detail"]
        lines = problem(await client.put("/v1/runs/r/pool", content=b'"a"\n' * 6, headers=NDJSON), 422)
        assert pointers(lines) == [""]
        assert "max_pool_upload is 5" in lines["detail"]
        assert state(await client.get("/v1/runs/r")) == before

    within(story, max_prompts=3, max_rewards=2, max_pool_upload=5)


def test_lists_as_long_as_their_limits_are_taken() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={})
        state(await client.post("/v1/runs/r/select", json={"step": 0, "prompts": ["a"] * 3}))
        results = [{"prompt": "a", "rewards": [0] * 2}] * 3
        state(await client.post("/v1/runs/r/report", json={"step": 0, "results": results}))
        assert state(await client.put("/v1/runs/r/pool", json={"prompts": ["a"] * 5})) == {"added": 1, "pool": 1}

    within(story, max_prompts=3, max_rewards=2, max_pool_upload=5)


def test_the_largest_groups_that_settings_allow() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={"group_size": 65_535})
        results = [{"prompt": "a", "rewards": [0] * 65_534 + [1]}]
        answer = await client.post("/v1/runs/r/report", json={"step": 0, "results": results})
        assert state(answer)["effective"] == [0]
        assert state(await client.get("/v1/runs/r/prompts/a"))["groups"][0]["count"] == 65_535

    within(story, max_rewards=65_535)


class Gate(MemoryHistory):
    """Lets nothing through until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.full = asyncio.Event()
        self.waiting = 0

    async def runs(self, tenant: str) -> list[Listed]:
        self.waiting += 1
        if self.waiting == 3:
            self.full.set()
        await self.open.wait()
        return await super().runs(tenant)


def test_overload_is_503_before_the_body_is_read() -> None:
    gate = Gate()

    async def story(client: httpx.AsyncClient) -> None:
        busy = [asyncio.create_task(client.get("/v1/runs")) for _ in range(3)]
        await asyncio.wait_for(gate.full.wait(), 10)
        read = False

        async def body() -> AsyncIterator[bytes]:
            nonlocal read
            read = True
            yield b"{}"

        answer = await client.put("/v1/runs/r", content=body(), headers=JSON)
        content = problem(answer, 503)
        assert "max_in_flight (3)" in content["detail"]
        assert int(answer.headers["retry-after"]) >= 1
        assert not read
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200, f"{path} is looked at in an overload"
        gate.open.set()
        assert [task.status_code for task in await asyncio.gather(*busy)] == [200] * 3
        assert (await client.put("/v1/runs/r", json={})).status_code == 201
        assert b"greso_requests_refused_total 1.0" in (await client.get("/metrics")).content

    within(story, gate, max_in_flight=3)


class Broken(PassingHistory):
    """Fails as nobody foresaw."""

    async def runs(self, tenant: str) -> list[Listed]:
        raise ZeroDivisionError("secret inner detail")


def test_an_unforeseen_failure_is_500_with_the_request_id_of_its_log(caplog: pytest.LogCaptureFixture) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        answer = await client.get("/v1/runs", headers={"X-Request-Id": "trace-17"})
        content = problem(answer, 500)
        assert content["instance"] == "trace-17"
        assert "secret" not in answer.text
        assert "ZeroDivisionError" in content["detail"]
        metrics = (await client.get("/metrics")).text
        assert 'greso_requests_total{method="GET",route="/v1/runs",status="500"} 1.0' in metrics
        assert (await client.get("/livez")).status_code == 200

    with caplog.at_level(logging.ERROR):
        within(story, Broken(MemoryHistory()))
    [record] = [record for record in caplog.records if record.exc_info]
    assert "GET /v1/runs failed" in record.getMessage()


class Away(PassingHistory):
    """A store that can be switched off."""

    away = False

    def _check(self) -> None:
        if self.away:
            raise Unavailable("Redis does not answer: test", 1.5)

    async def append(self, *args: Any, **kwargs: Any) -> Any:
        self._check()
        return await super().append(*args, **kwargs)

    async def read(self, *args: Any) -> Any:
        self._check()
        return await super().read(*args)

    async def recall(self, *args: Any) -> Any:
        self._check()
        return await super().recall(*args)

    async def load(self, *args: Any) -> Any:
        self._check()
        return await super().load(*args)

    async def runs(self, tenant: str) -> list[Listed]:
        self._check()
        return await super().runs(tenant)

    async def drop(self, *args: Any) -> Any:
        self._check()
        return await super().drop(*args)


def test_while_the_store_is_away_select_is_stale_and_all_else_503() -> None:
    store = Away(MemoryHistory())

    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={})
        await client.put("/v1/runs/r/pool", json={"prompts": ["a"]})
        results = [{"prompt": f"p{number}", "rewards": [0, 0]} for number in range(50)]
        await client.post("/v1/runs/r/report", json={"step": 0, "results": results})
        asked = {"step": 1, "prompts": [f"p{number}" for number in range(60)], "explain": True}
        fresh = state(await client.post("/v1/runs/r/select", json=asked))
        before = state(await client.get("/v1/runs/r"))
        store.away = True
        stale = state(await client.post("/v1/runs/r/select", json=asked))
        assert (fresh.pop("stale"), stale.pop("stale")) == (False, True)
        assert stale == fresh, "the same question gets the same answer"
        refused = [
            client.put("/v1/runs/new", json={}),
            client.patch("/v1/runs/r", json={"train_batch_size": 3}),
            client.put("/v1/runs/r/pool", json={"prompts": ["b"]}),
            client.post("/v1/runs/r/draw", json={"step": 0}),
            client.post("/v1/runs/r/report", json={"step": 0, "results": results}),
            client.delete("/v1/runs/r"),
            client.get("/v1/runs/r"),
            client.get("/v1/runs"),
            client.post("/v1/runs/unknown/select", json=asked),
        ]
        for request in refused:
            answer = await request
            assert "Redis does not answer" in problem(answer, 503)["detail"]
            assert answer.headers["retry-after"] == "2"
            again = state(await client.post("/v1/runs/r/select", json=asked))
            assert again == stale | {"stale": True}, "whoever else asks in vain, select goes on answering"
        assert pointers(problem(await client.post("/v1/runs/r/select", json={"step": 0, "prompts": [""]}), 422)) == [
            "/prompts/0"
        ]
        store.away = False
        assert state(await client.get("/v1/runs/r")) == before

    within(story, store)


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-123", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("", False)]
)
def test_request_ids(given: str, kept: bool) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        answer = await client.get("/nothing", headers={"X-Request-Id": given})
        content = problem(answer, 404)
        assert (content["instance"] == given) == kept
        assert re.fullmatch(r"[!-~]{1,128}", content["instance"])

    over_shared(story)


def test_request_ids_are_given_to_every_answer_and_differ() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        paths = ["/livez", "/version", "/v1/runs", "/nothing", "/openapi.json", "/docs", "/metrics"]
        given = [(await client.get(path)).headers["x-request-id"] for path in paths]
        assert len(set(given)) == len(given)

    over_shared(story)


def test_metrics_count_what_was_done_and_name_no_prompt() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/a-run", json={"exploration_bounds": [0, 1], "p_hard": 0, "min_keep_probability": 0})
        results = [
            {"prompt": f"p{number}", "rewards": rewards} for number, rewards in enumerate([[0, 1], [1, 1], [0, 0], [1]])
        ]
        await client.post("/v1/runs/a-run/report", json={"step": 0, "results": results})
        await client.post("/v1/runs/a-run/select", json={"step": 1, "prompts": ["p0", "p2", "new"]})
        await client.get("/v1/runs/a-run/prompts/p0")
        text = (await client.get("/metrics")).text
        for line in (
            'greso_groups_total{outcome="effective",run="a-run"} 1.0',
            'greso_groups_total{outcome="easy",run="a-run"} 1.0',
            'greso_groups_total{outcome="hard",run="a-run"} 1.0',
            'greso_groups_total{outcome="undetermined",run="a-run"} 1.0',
            'greso_rollouts_total{run="a-run"} 7.0',
            'greso_prompts_examined_total{run="a-run"} 3.0',
            'greso_prompts_selected_total{run="a-run"} 2.0',
            'greso_prompts_skipped_total{kind="hard",run="a-run"} 1.0',
            'greso_rollouts_avoided_total{run="a-run"} 8.0',
            "greso_store_up 1.0",
            'greso_requests_total{method="POST",route="/v1/runs/{run}/report",status="200"} 1.0',
        ):
            assert line in text.splitlines(), line
        assert "p0" not in text

    within(story)


def test_a_replayed_report_is_counted_once() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={})
        body = {"step": 0, "results": [{"prompt": "a", "rewards": [0, 1]}]}
        for _ in range(3):
            state(await client.post("/v1/runs/r/report", json=body, headers={"Idempotency-Key": "k"}))
        assert 'greso_rollouts_total{run="r"} 2.0' in (await client.get("/metrics")).text

    within(story)


def test_readiness_names_each_component() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        answer = await client.get("/readyz")
        assert state(answer)["ready"] is True
        assert set(answer.json()["components"]) == {"redis", "service", "writes"}

    within(story)


def test_a_service_that_was_not_started_is_alive_but_not_ready() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        assert (await client.get("/livez")).json() == {"alive": True}
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["components"]["redis"] == {"ok": False, "detail": "not asked yet"}

    over_shared(story)


def test_a_long_report_and_its_pages() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={"train_batch_size": 1000})
        groups = [(f"p{number:03d}", [0, 0] if number % 3 else [0, 1]) for number in range(250)]
        for step in range(3):
            results = [{"prompt": name, "rewards": rewards} for name, rewards in groups[: 250 - 50 * step]]
            await client.post("/v1/runs/r/report", json={"step": step, "results": results})
        for sort in ("streak", "last_step", "mean", "visits"):
            seen: list[Any] = []
            query: dict[str, Any] = {"sort": sort, "limit": 37}
            while True:
                page = state(await client.get("/v1/runs/r/prompts", params=query))
                assert len(page["prompts"]) == 37 or page["cursor"] is None
                seen += page["prompts"]
                if page["cursor"] is None:
                    break
                query["cursor"] = page["cursor"]
            assert sorted(row["prompt"] for row in seen) == [name for name, _ in groups]
            values = [row[sort] for row in seen]
            assert values == sorted(values, reverse=True)
        hard = state(await client.get("/v1/runs/r/prompts", params={"kind": "hard", "limit": 1000}))["prompts"]
        assert {row["prompt"] for row in hard} == {name for name, rewards in groups if rewards == [0, 0]}
        p_hard = state(await client.get("/v1/runs/r"))["exploration"]["hard"]
        assert {row["streak"]: row["keep_probability"] for row in hard} == {z: p_hard**z for z in (1, 2, 3)}

    within(story)


def test_only_what_was_done_for_a_run_gives_it_a_label() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        told = {"Greso-Client": "degraded=2"}
        for method, path in (("GET", "/v1/runs/ghost"), ("GET", "/v1/runs/ghost/"), ("GET", '/v1/runs/a"%0Ab/')):
            assert not (await client.request(method, path, headers=told)).is_success
        await client.put("/v1/runs/real", json={}, headers=told)
        text = (await client.get("/metrics")).text
        assert 'greso_client_degraded_answers_total{run="real"} 2.0' in text
        assert 'greso_client_degraded_answers_total{run="other"} 4.0' in text
        assert "ghost" not in text

    within(story)
