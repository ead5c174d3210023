"""Whatever stands in a list, a string or a number of a request: refused with the place, or taken; never half applied.

Requests are made wrong in one place, from good ones. The state before a refused request is the state behind it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from greso_service.api.app import create_app
from greso_service.history.memory import MemoryHistory
from greso_service.settings import load

from ..asgi import client_of, pointers, problem  # noqa: TID252

APP = create_app(load(), MemoryHistory())
JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
GOOD: dict[str, tuple[str, Any]] = {
    "create": ("PUT /v1/runs/new", {"exploration_bounds": [0.1, 0.9], "domains": {"math": {"quota": 0.5}}, "seed": 3}),
    "change": ("PATCH /v1/runs/r", {"train_batch_size": 9, "domains": {"code": {"easy_share": 0.5}}}),
    "select": (
        "POST /v1/runs/r/select",
        {"step": 1, "prompts": ["a", "b"], "limit": 1, "at_least": 1, "explain": True},
    ),
    "pool": ("PUT /v1/runs/r/pool", {"prompts": ["z", {"prompt": "y", "pass_rate": 0.5, "samples": 3, "domain": "d"}]}),
    "carry": ("PUT /v1/runs/r/pool", {"from_run": "s", "prompts": ["a"]}),
    "draw": ("POST /v1/runs/r/draw", {"step": 1, "count": 2}),
    "report": (
        "POST /v1/runs/r/report",
        {
            "step": 1,
            "results": [{"prompt": "a", "rewards": [0, 1.5]}, {"prompt": "b", "rewards": []}],
            "final": False,
            "seconds": {"rollout": 1.5, "update": 0},
        },
    ),
    "rewind": ("POST /v1/runs/r/rewind", {"step": 0}),
    "fork": ("POST /v1/runs/r/fork", {"run": "new", "step": 0}),
}


class Raw:
    """What stands in a body as it is, be it JSON or not."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Raw({self.text[:60]!r})"


NASTY = [
    Raw(text)
    for text in (
        "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 5000, "-0", "1.0", "0.1e1", "01", "+1", "0x1",
        "9007199254740993", "18446744073709551616", "-1", '"\\ud800"', '"\\udfff\\ud800"', '"\\u0000"', '"\x00"',
        '"\x1f"',
        '"\\x"', '"', "'a'", "[" * 300 + "]" * 300, "[" * 100_000, '{"a":' * 300 + "0" + "}" * 300, "{}", "[]", "[[]]",
        "null", "true", "false", '""', '"' + "x" * 257 + '"', '"' + "x" * 100_000 + '"', '"\u202e"', '"\ufeff"', "{}{}",
        '{"a":1,"a":2}', '{"prompt":"a","prompt":"b"}', '{"prompt":"a","rewards":[0],"rewards":[1]}', "1 2", "", ",",
        "[1,]", "/**/1", '"a" "b"', "undefined", '"__proto__"', '{"__proto__":{}}', '"1"', '"NaN"', '"%00"', '"../x"',
    )
]  # fmt: skip
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([2**53, 2**63, 2**64, 10**400])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3)
)


def places(body: Any, pointer: str = "") -> Iterator[str]:
    """The JSON pointers of everything in a body, itself included."""
    yield pointer
    if isinstance(body, dict):
        for name, value in body.items():
            yield from places(value, f"{pointer}/{name}")
    elif isinstance(body, list):
        for row, value in enumerate(body):
            yield from places(value, f"{pointer}/{row}")


PLACES = [(name, place) for name, (_, body) in GOOD.items() for place in places(body)]


def with_at(body: Any, pointer: str, value: Any, at: str = "") -> str:
    """The body as JSON, with another value in a place."""
    if at == pointer:
        return value.text if isinstance(value, Raw) else json.dumps(value)
    if isinstance(body, dict):
        members = (f"{json.dumps(name)}:{with_at(own, pointer, value, f'{at}/{name}')}" for name, own in body.items())
        return "{" + ",".join(members) + "}"
    if isinstance(body, list):
        return "[" + ",".join(with_at(own, pointer, value, f"{at}/{row}") for row, own in enumerate(body)) + "]"
    return json.dumps(body)


async def begin(client: httpx.AsyncClient) -> None:
    for run in ("r", "s"):
        assert (await client.put(f"/v1/runs/{run}", json={"train_batch_size": 4})).status_code == 201
        assert (await client.put(f"/v1/runs/{run}/pool", json={"prompts": ["a", "b", "c"]})).status_code == 200
        results = [{"prompt": "a", "rewards": [0, 1]}]
        report = {"step": 0, "results": results, "final": True}
        assert (await client.post(f"/v1/runs/{run}/report", json=report)).status_code == 200


async def seen(client: httpx.AsyncClient) -> bytes:
    """All that there is: the histories themselves."""
    runs = sorted(row["run"] for row in (await client.get("/v1/runs")).json()["runs"])
    return b"".join([(await client.get(f"/v1/runs/{run}/export")).content for run in runs])


async def taken_or_refused(
    client: httpx.AsyncClient, call: str, content: bytes, headers: dict[str, str]
) -> httpx.Response:
    """The answer, checked to be a success or a problem that changed nothing."""
    method, _, path = call.partition(" ")
    before = await seen(client)
    answer = await client.request(method, path, content=content, headers=headers)
    if answer.status_code < 300:
        json.loads(answer.content, parse_constant=lambda text: pytest.fail(f"{text} in an answer"))
        return answer
    assert answer.status_code in (400, 404, 409, 413, 422), answer.text
    content_of = problem(answer, answer.status_code)
    if answer.status_code in (400, 422):
        assert pointers(content_of), "it says where"
    assert await seen(client) == before, "nothing was applied"
    return answer


def told(story: Any) -> None:
    """Tell a story to a client of an application with the runs `r` and `s`."""

    async def whole() -> None:
        async with client_of(APP) as client:
            await begin(client)
            try:
                await story(client)
            finally:
                for run in (await client.get("/v1/runs")).json()["runs"]:
                    await client.delete(f"/v1/runs/{run['run']}")

    asyncio.run(whole())


@pytest.mark.parametrize("name", GOOD)
def test_the_requests_are_good_as_they_are(name: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        call, body = GOOD[name]
        answer = await taken_or_refused(client, call, json.dumps(body).encode(), JSON)
        assert answer.is_success, answer.text

    told(story)


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_one_nasty_value_in_any_place(name: str) -> None:
    call, body = GOOD[name]

    async def story(client: httpx.AsyncClient) -> None:
        for place in places(body):
            for value in NASTY:
                content = with_at(body, place, value).encode("utf-8", "surrogatepass")
                answer = await taken_or_refused(client, call, content, JSON)
                if answer.is_success:
                    for run in ("r", "new"):
                        await client.delete(f"/v1/runs/{run}")
                    await client.delete("/v1/runs/s")
                    await begin(client)
                elif answer.status_code == 422:
                    # What is wrong stands there or above: a list of the wrong length, fields that contradict.
                    assert all(related(where, place) for where in pointers(answer.json())), (value, answer.text)

    told(story)


def related(where: str, place: str) -> bool:
    """Whether a fault's place is that which was made wrong, in it, around it, or beside it and contradicted."""
    above = place.rpartition("/")[0]
    return place.startswith(where) or where.startswith((place, above))


@given(st.sampled_from(PLACES), values | st.sampled_from(NASTY))
@example(("report", "/results"), [{"prompt": "a", "rewards": [0]}] * 300)
@example(("pool", "/prompts"), ["same"] * 5000)
@example(("select", "/prompts"), [""])
def test_any_value_in_any_place(where: tuple[str, str], value: Any) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        call, body = GOOD[where[0]]
        content = with_at(body, where[1], value).encode("utf-8", "surrogatepass")
        await taken_or_refused(client, call, content, JSON)

    told(story)


@given(st.sampled_from(sorted(GOOD)), st.binary(max_size=200) | st.text().map(str.encode))
def test_any_bytes_as_a_body(name: str, content: bytes) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await taken_or_refused(client, GOOD[name][0], content, JSON)

    told(story)


lines = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.text(max_size=20).map(lambda text: json.dumps(text).encode()),
        st.sampled_from(NASTY[:24] + NASTY[30:]).map(lambda raw: raw.text.encode("utf-8", "surrogatepass")),
        st.fixed_dictionaries(
            {"prompt": st.text(min_size=1, max_size=9)},
            optional={"pass_rate": st.floats(), "samples": st.integers(), "domain": st.text(max_size=3)},
        ).map(lambda item: json.dumps(item).encode()),
    ),
    max_size=6,
)


@given(lines, st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"", "\u2028".encode()]), st.booleans())
def test_any_lines_as_a_pool(some: list[bytes], between: bytes, at_the_end: bool) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        content = between.join(some) + between * at_the_end
        await taken_or_refused(client, "PUT /v1/runs/r/pool", content, NDJSON)

    told(story)


@given(st.text(max_size=300), st.sampled_from(["prompts", "why"]))
@example("\ud800", "prompts")
@example("\x00", "why")
@example("." * 300, "why")
def test_any_id_to_look_at(prompt: str, what: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        segment = quote(prompt.encode("utf-8", "surrogatepass"), safe="").replace(".", "%2E")
        answer = await client.get(f"/v1/runs/r/{what}/{segment}")
        assert answer.status_code in (200, 404, 422), answer.text
        if answer.status_code != 200:
            problem(answer, answer.status_code)

    told(story)


PARAMETERS = {
    "/v1/runs": ("limit", "cursor"),
    "/v1/overview": ("limit", "cursor"),
    "/v1/runs/r/steps": ("after", "limit", "domain"),
    "/v1/runs/r/prompts": ("kind", "sort", "limit", "cursor", "search", "domain"),
    "/v1/runs/r/curves": ("after", "points"),
    "/v1/runs/r/map": ("sort", "limit"),
    "/v1/runs/r/events": ("after", "last", "full"),
}


@given(
    st.sampled_from([(path, name) for path, names in PARAMETERS.items() for name in names]),
    st.text(max_size=50) | st.integers().map(str) | st.floats().map(str) | st.just("9" * 5000),
)
def test_any_parameter_of_a_look(place: tuple[str, str], value: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        follow = "&follow=false" if place[0].endswith("/events") else ""
        query = f"{place[1]}={quote(value.encode('utf-8', 'surrogatepass'))}{follow}"
        answer = await client.get(f"{place[0]}?{query}")
        if answer.status_code != 200:
            assert answer.status_code in (409, 422), answer.text
            assert pointers(problem(answer, answer.status_code)) or answer.status_code == 409

    told(story)
