"""The routes that the page is made of, over HTTP: their answers fit the schema, and wrong requests are told where."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx
import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest

from greso_service.api.app import create_app
from greso_service.core.mark import Mark
from greso_service.errors import Unavailable
from greso_service.history.base import Extent, Listed, RunKey
from greso_service.history.memory import MemoryHistory
from greso_service.settings import load

from ..asgi import over_shared, pointers, problem, within  # noqa: TID252
from ..servers import Service  # noqa: TID252
from ..stores import PassingHistory  # noqa: TID252

OPENAPI = create_app(load(), MemoryHistory()).openapi()
STRANGE = "a/b ?#%é\n\"'<script>"


def fits(model: str, content: Any) -> Any:
    """The content, checked against its schema, with no field that the schema lacks."""
    components = OPENAPI["components"]
    jsonschema.validate(content, {"$ref": f"#/components/schemas/{model}", "components": components})
    assert content.keys() <= components["schemas"][model]["properties"].keys()
    return content


async def trained(client: httpx.AsyncClient, run: str = "r", steps: int = 12) -> None:
    """A run of a few prompts, one with a strange name; a third never solved, a third always."""
    assert (await client.put(f"/v1/runs/{run}", json={"train_batch_size": 4, "rollout_batch_size": 8})).is_success
    names = [STRANGE, *(f"p{number}" for number in range(11))]
    await client.put(f"/v1/runs/{run}/pool", json={"prompts": names})
    for step in range(steps):
        drawn = (await client.post(f"/v1/runs/{run}/draw", json={"step": step})).json()["prompts"]
        results = [{"prompt": name, "rewards": [[0, 1], [0, 0], [1, 1]][names.index(name) % 3]} for name in drawn]
        body = {"step": step, "results": results, "final": True}
        assert (await client.post(f"/v1/runs/{run}/report", json=body)).is_success


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def test_each_answer_fits_its_schema() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/empty", json={})
        await trained(client)
        for run in ("r", "empty"):
            fits("RunOverview", await get(client, f"/v1/runs/{run}/overview"))
            fits("Curves", await get(client, f"/v1/runs/{run}/curves"))
            fits("SelectionMap", await get(client, f"/v1/runs/{run}/map"))
        fits("Why", await get(client, f"/v1/runs/r/why/{quote(STRANGE, safe='')}"))
        for row in fits("Overview", await get(client, "/v1/overview"))["runs"]:
            fits("OverviewRow", row)

    over_shared(story)


def test_the_overview_of_a_run_is_its_row_and_more() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await trained(client)
        run, state = await get(client, "/v1/runs/r/overview"), await get(client, "/v1/runs/r")
        [row] = (await get(client, "/v1/overview"))["runs"]
        assert row == {**{name: run[name] for name in row}, "advice": [advice["code"] for advice in run["advice"]]}
        assert run["spec"] == state["spec"]
        assert {name: run[name] for name in state} == state
        assert datetime.fromisoformat(run["active_at"]).tzinfo is not None
        rows = (await get(client, "/v1/runs/r/steps", limit=1000))["steps"]
        groups = [row for row in rows if row["groups"]]
        assert run["recent"]["steps"] == len(groups)
        assert run["recent"]["effective"] == sum(r["effective"] for r in groups) / sum(r["groups"] for r in groups)

    over_shared(story)


def test_pages_of_runs() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        for number in range(5):
            await client.put(f"/v1/runs/r{number}", json={})
        whole = [row["run"] for row in (await get(client, "/v1/overview"))["runs"]]
        assert sorted(whole) == [f"r{number}" for number in range(5)]
        assert whole == [row["run"] for row in (await get(client, "/v1/runs"))["runs"]]
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = await get(client, "/v1/overview", limit=2, **cursor)
            seen += [row["run"] for row in page["runs"]]
            if page["cursor"] is None:
                break
            cursor = {"cursor": page["cursor"]}
        assert seen == whole

    over_shared(story)


class Forgetful(MemoryHistory):
    """Lists a run that is not there any more."""

    async def runs(self, tenant: str) -> list[Listed]:
        return [Listed("gone", 0), *await super().runs(tenant)]


def test_a_run_deleted_since_the_list_was_made_is_left_out() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/here", json={})
        page = await get(client, "/v1/overview")
        assert [row["run"] for row in page["runs"]] == ["here"]

    within(story, Forgetful())


class Away(MemoryHistory):
    """Does not answer."""

    async def runs(self, tenant: str) -> list[Listed]:
        raise Unavailable("Redis does not answer")


def test_while_redis_is_away_the_answer_says_so() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        for path in ("/v1/overview", "/v1/runs/r/overview"):
            answer = await client.get(path)
            assert problem(answer, 503)["detail"] == "Redis does not answer"
            assert int(answer.headers["retry-after"]) >= 1

    within(story, Away())


def test_only_the_runs_of_the_page_are_loaded() -> None:
    asked: set[str] = set()

    class Watched(MemoryHistory):
        async def load(self, key: RunKey) -> Any:
            asked.add(key.run)
            return await super().load(key)

    history = Watched()

    async def made(client: httpx.AsyncClient) -> None:
        for number in range(6):
            await client.put(f"/v1/runs/r{number}", json={})

    async def looked_at(client: httpx.AsyncClient) -> None:
        asked.clear()
        page = await get(client, "/v1/overview", limit=2)
        assert asked == {row["run"] for row in page["runs"]}
        assert len(asked) == 2

    within(made, history)
    within(looked_at, history)


def test_why_and_the_map_agree_with_the_list_of_prompts() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await trained(client)
        listed = (await get(client, "/v1/runs/r/prompts"))["prompts"]
        mapped = (await get(client, "/v1/runs/r/map"))["prompts"]
        extra = {"steps", "what"}
        plain = [{name: prompt[name] for name in prompt if name not in extra} for prompt in mapped]
        assert sorted(plain, key=json.dumps) == sorted(listed, key=json.dumps)
        for prompt in listed:
            told = await get(client, f"/v1/runs/r/why/{quote(prompt['prompt'], safe='')}")
            for name in ("prompt", "kind", "streak", "keep_probability"):
                assert told[name] == prompt[name]
            select = {"step": told["step"], "prompts": [prompt["prompt"]]}
            assert (await client.post("/v1/runs/r/select", json=select)).json()["selected"] == [0] * told["keep"]

    over_shared(story)


@pytest.mark.parametrize(("search", "found"), [("p1", ["p1", "p10"]), ("", None), ("<script>", [STRANGE]), ("P1", [])])
def test_search(search: str, found: list[str] | None) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await trained(client)
        told = [prompt["prompt"] for prompt in (await get(client, "/v1/runs/r/prompts", search=search))["prompts"]]
        if found is None:
            assert len(told) == 12
        else:
            assert sorted(told) == found

    over_shared(story)


LOOKS = ["overview", "curves", "map", "why/p0"]


@pytest.mark.parametrize("look", LOOKS)
def test_there_is_no_such_run(look: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        told = problem(await client.get(f"/v1/runs/none/{look}"), 404)
        assert told["detail"] == "there is no run none; create it with PUT /v1/runs/none"

    over_shared(story)


def test_there_is_no_such_prompt() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={})
        assert "has no prompt 'a/b'" in problem(await client.get("/v1/runs/r/why/a%2Fb"), 404)["detail"]
        for name in ("", "x" * 257):
            assert pointers(problem(await client.get(f"/v1/runs/r/why/{name}"), 422)) == ["/path/prompt"]

    over_shared(story)


@pytest.mark.parametrize(
    ("path", "query", "pointer"),
    [
        ("/v1/overview", {"limit": 0}, "/query/limit"),
        ("/v1/overview", {"limit": 101}, "/query/limit"),
        ("/v1/overview", {"cursor": "nonsense"}, "/query/cursor"),
        ("/v1/runs/r/curves", {"points": 9}, "/query/points"),
        ("/v1/runs/r/curves", {"points": 2001}, "/query/points"),
        ("/v1/runs/r/curves", {"after": -2}, "/query/after"),
        ("/v1/runs/r/map", {"sort": "name"}, "/query/sort"),
        ("/v1/runs/r/map", {"limit": 257}, "/query/limit"),
        ("/v1/runs/r/prompts", {"search": "x" * 257}, "/query/search"),
        ("/v1/runs/-/overview", {}, "/path/run"),
    ],
)
def test_wrong_questions_are_told_where(path: str, query: dict[str, Any], pointer: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.put("/v1/runs/r", json={})
        assert pointers(problem(await client.get(path, params=query), 422)) == [pointer]

    over_shared(story)


def test_a_served_application_answers_the_same(service: Service, run_name: str) -> None:
    service.json("PUT", f"/v1/runs/{run_name}", {"train_batch_size": 1})
    report = {"step": 1, "results": [{"prompt": STRANGE, "rewards": [0, 0]}], "final": True}
    service.json("POST", f"/v1/runs/{run_name}/report", report)
    rows = service.json("GET", "/v1/overview?limit=100")["runs"]
    assert run_name in [row["run"] for row in rows]
    assert service.json("GET", f"/v1/runs/{run_name}/overview")["step"] == 1
    [prompt] = service.json("GET", f"/v1/runs/{run_name}/map")["prompts"]
    assert (prompt["prompt"], prompt["what"]) == (STRANGE, "h")
    assert service.json("GET", f"/v1/runs/{run_name}/why/{quote(STRANGE, safe='')}")["step"] == 2
    assert service.json("GET", f"/v1/runs/{run_name}/curves")["step"] == [1]


class WithUnreadable(PassingHistory):
    """A store in which the history of the run `broken` is of a newer version."""

    async def read(self, key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
        found = await super().read(key, after, limit)
        return [b"\xff" + payload[1:] for payload in found or []] if key.run == "broken" else found


def test_a_run_that_cannot_be_read_does_not_hide_the_others() -> None:
    history = MemoryHistory()

    async def story(client: httpx.AsyncClient) -> None:
        for run in ("r", "broken"):
            await client.put(f"/v1/runs/{run}", json={})

    within(story, history)

    async def look(client: httpx.AsyncClient) -> None:
        answer = await get(client, "/v1/overview")
        assert [row["run"] for row in answer["runs"]] == ["r"]
        assert answer["unreadable"] == ["broken"]

    within(look, WithUnreadable(history))


class WithAway(PassingHistory):
    """A store of which the shard of the run `away` does not answer."""

    async def runs(self, tenant: str) -> list[Listed]:
        rows = await super().runs(tenant)
        return [*(row for row in rows if row.run != "away"), Listed("away", 0, away=True)]

    async def extent(self, key: RunKey) -> Extent | None:
        if key.run == "away":
            raise Unavailable("Redis does not answer")
        return await super().extent(key)

    async def read(self, key: RunKey, after: Mark, limit: int) -> list[bytes] | None:
        if key.run == "away":
            raise Unavailable("Redis does not answer")
        return await super().read(key, after, limit)


def test_a_run_on_a_shard_that_is_away_does_not_hide_the_others() -> None:
    history = MemoryHistory()

    async def story(client: httpx.AsyncClient) -> None:
        for run in ("r", "away"):
            await client.put(f"/v1/runs/{run}", json={})

    within(story, history)

    async def look(client: httpx.AsyncClient) -> None:
        answer = await get(client, "/v1/overview")
        assert [row["run"] for row in answer["runs"]] == ["r"]
        assert (answer["cold"], answer["unreadable"]) == (["away"], [])
        rows = (await get(client, "/v1/runs"))["runs"]
        assert [row["run"] for row in rows] == ["r", "away"]
        assert rows[1]["active_at"] == "1970-01-01T00:00:00+00:00"

    within(look, WithAway(history))
