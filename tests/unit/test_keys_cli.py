"""`greso keys`, and the key of the commands that ask a service."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from greso_service.access import key_file
from greso_service.access.keys import KeysError
from greso_service.cli import app
from greso_service.cli.service import Service, ServiceError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GRESO_KEYS_FILE", "GRESO_API_KEY", "GRESO_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "keys.json"


def keys(file: Path, *arguments: str) -> tuple[str, str]:
    """What `greso keys` says on standard output and on standard error."""
    ended = CliRunner().invoke(app, ["keys", *arguments, "--keys-file", str(file)])
    if ended.exception is not None:
        raise ended.exception
    return ended.stdout, ended.stderr


def test_a_key_is_shown_once_and_known_from_then_on(file: Path) -> None:
    said, about = keys(file, "add", "--tenant", "team-a", "--name", "trainer", "--expires", "90d")
    assert f"{file} was not there: it is a new file, and this key alone opens a service that reads it" in about
    token = said.strip()
    assert re.fullmatch(r"greso_[\w-]{43}", token)
    assert said == f"{token}\n"  # nothing else, so that it can go to a file
    assert token not in about
    assert "of tenant team-a for write, until" in about
    ring, _ = key_file.read(file)
    [key] = ring.keys
    assert ring.find(token) is key
    assert (key.name, key.tenant, key.scopes) == ("trainer", "team-a", ["write"])
    assert key.expires is not None
    assert abs(key.expires - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=10)
    for listed in (keys(file, "list")[0], keys(file, "list", "--json")[0]):
        assert token not in listed
        assert key.sha256 not in listed


def test_keys_are_listed_and_revoked(file: Path) -> None:
    keys(file, "add", "--tenant", "a", "--name", "trainer", "--scopes", "read,write")
    assert "new file" not in keys(file, "add", "--tenant", "b", "--scopes", "admin")[1]
    both = json.loads(keys(file, "list", "--json")[0])["keys"]
    assert [(key["tenant"], key["scopes"], key["expired"]) for key in both] == [
        ("a", ["read", "write"], False),
        ("b", ["admin"], False),
    ]
    assert both[1]["name"] == both[1]["id"]
    assert [key["tenant"] for key in json.loads(keys(file, "list", "--json", "--tenant", "b")[0])["keys"]] == ["b"]
    table = keys(file, "list")[0].splitlines()
    assert table[0].split() == ["id", "name", "tenant", "scopes", "created", "expires"]
    assert table[1].split()[1:5] == ["trainer", "a", "read,", "write"]
    said, _ = keys(file, "revoke", "trainer")
    assert said == f"key {both[0]['id']} (trainer) of tenant a is revoked\n"
    assert "trainer" not in keys(file, "list")[0]
    keys(file, "revoke", both[1]["id"])
    assert keys(file, "list")[0] == "no keys\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "--tenant", "a/b"], "tenant is 'a/b'; give 1 to 64 letters"),
        (["add", "--tenant", "a", "--scopes", "root"], "give one or more of read, write, admin, each once"),
        (["add", "--tenant", "a", "--scopes", ""], "give one or more of read, write, admin, each once"),
        (["add", "--tenant", "a", "--expires", "soon"], "--expires is 'soon'; give a span as 12h or 90d"),
        (["add", "--tenant", "a", "--expires", "2020-01-01"], "--expires is '2020-01-01', which is over"),
        (["add", "--tenant", "a", "--expires", "9999-12-31T23:59:59-23:59"], "which is past the end of all calendars"),
        (["add", "--tenant", "a", "--name", "0123abcd"], "name is '0123abcd', which looks like the id of a key"),
        (["revoke", "x"], "there is no "),
        (["list"], "No such file or directory"),
    ],
)
def test_what_can_not_be_is_one_line_and_changes_nothing(file: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(KeysError) as refused:
        keys(file, *arguments)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not file.exists()


@pytest.mark.parametrize(
    ("text", "hours"), [("12h", 12), ("2d", 48), ("2999-01-31", None), ("2999-01-31T12:00Z", None)]
)
def test_a_time_is_given_as_a_span_or_a_date(file: Path, text: str, hours: int | None) -> None:
    keys(file, "add", "--tenant", "a", "--expires", text)
    [key] = key_file.read(file)[0].keys
    assert key.expires is not None
    if hours is None:
        assert key.expires == datetime.fromisoformat(text).replace(tzinfo=UTC)
    else:
        assert abs(key.expires - datetime.now(UTC) - timedelta(hours=hours)) < timedelta(minutes=10)


def test_the_file_may_stand_in_the_environment_and_must_be_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = CliRunner().invoke(app, ["keys", "list"])
    assert isinstance(ended.exception, KeysError)
    assert "give --keys-file FILE, or set GRESO_KEYS_FILE" in str(ended.exception)
    monkeypatch.setenv("GRESO_KEYS_FILE", str(file))
    assert CliRunner().invoke(app, ["keys", "add", "--tenant", "a"]).exit_code == 0
    assert len(key_file.read(file)[0].keys) == 1


# The commands that ask a service


def asked(status: int = 200, **options: Path) -> tuple[Service, list[str | None]]:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(status, json={"detail": "there is no such key; it may have been revoked"})

    return Service("http://greso", httpx.MockTransport(answer), key_file=options.get("key_file")), seen


def test_the_key_comes_from_the_environment_or_a_file_which_wins(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service, seen = asked()
    service.get("v1", "runs")
    monkeypatch.setenv("GRESO_API_KEY", "of-the-environment")
    service, also = asked()
    service.get("v1", "runs")
    file.write_text("of-the-file\n")
    service, too = asked(key_file=file)
    service.get("v1", "runs")
    assert seen + also + too == [None, "Bearer of-the-environment", "Bearer of-the-file"]


def test_a_refusal_says_where_the_key_comes_from(file: Path) -> None:
    service, _ = asked(401)
    with pytest.raises(ServiceError, match=r"there is no such key.*set GRESO_API_KEY to a valid key, or give --api-"):
        service.get("v1", "runs")
    service, _ = asked(403)
    with pytest.raises(ServiceError, match=r"^there is no such key; it may have been revoked$"):
        service.get("v1", "runs")


def test_a_key_that_is_of_no_use_is_refused_and_not_shown(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServiceError, match=r"--api-key-file .* can't be read: No such file"):
        asked(key_file=file)
    file.write_text("\n")
    with pytest.raises(ServiceError, match="is empty; put the key into it"):
        asked(key_file=file)
    monkeypatch.setenv("GRESO_API_KEY", "sec ret")
    with pytest.raises(ServiceError, match="must be visible ASCII characters on one line") as refused:
        asked()
    assert "sec" not in str(refused.value)
