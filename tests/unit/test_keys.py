"""Keys: how they are made, found and written down, and what becomes of their file."""

from __future__ import annotations

import json
import os
import stat
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greso_service.access import key_file
from greso_service.access.keys import PREFIX, SCOPES, Key, Keyring, KeysError, Scope, digest, loads, made
from greso_service.access.watched import WatchedKeys
from greso_service.errors import StartupError

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)


def new(tenant: str = "t", *scopes: Scope, name: str | None = None, expires: datetime | None = None) -> tuple[Key, str]:
    return made(tenant=tenant, scopes=scopes or ["read"], name=name, now=NOW, expires=expires)


# Keys


def test_a_key_is_256_random_bits_and_only_its_digest_is_kept() -> None:
    key, token = new()
    assert token.startswith(PREFIX)
    assert len(token) == len(PREFIX) + 43  # of 6 bits each
    assert key.sha256 == digest(token)
    assert token not in Keyring([key]).dumps()
    assert len({new()[1] for _ in range(100)}) == 100


def test_a_key_is_found_by_itself_alone() -> None:
    pairs = [new() for _ in range(5)]
    ring = Keyring([key for key, _ in pairs])
    for key, token in pairs:
        assert ring.find(token) is key
        for wrong in (token[:-1], token + "A", token.lower() + "!", key.sha256, key.id, key.name, "", " " + token):
            assert ring.find(wrong) is None


@given(st.text())
def test_no_text_is_a_key_by_accident(text: str) -> None:
    key, _ = new()
    assert Keyring([key]).find(text) is None


@pytest.mark.parametrize(
    ("scopes", "widest"), [(["read"], "read"), (["admin", "read"], "admin"), (["read", "write"], "write")]
)
def test_the_widest_scope_counts(scopes: list[Scope], widest: str) -> None:
    assert new("t", *scopes)[0].scope == widest


def test_a_key_expires_at_its_time_in_any_zone() -> None:
    until = (NOW + timedelta(hours=1)).astimezone(timezone(timedelta(hours=5)))
    key, _ = new(expires=until)
    assert not key.expired(NOW + timedelta(minutes=59))
    assert key.expired(NOW + timedelta(hours=1))
    assert not new()[0].expired(datetime.max.replace(tzinfo=UTC))


@pytest.mark.parametrize("tenant", ["a", "A.b_c-9", "t" * 64])
def test_tenants_have_safe_names(tenant: str) -> None:
    assert new(tenant)[0].tenant == tenant


@pytest.mark.parametrize("tenant", ["", "a/b", "a}b", "{a", "a:b", "-a", ".", "..", "a b", "a\n", "é", "t" * 65, "a*"])
def test_other_tenants_are_refused(tenant: str) -> None:
    with pytest.raises(KeysError, match=r"^tenant is .*; give 1 to 64 letters"):
        new(tenant)


def test_other_names_and_scopes_are_refused() -> None:
    with pytest.raises(KeysError, match=r"^name is 'a b'; give 1 to 64"):
        new(name="a b")
    wrong: Any = "root"
    for scopes in ([wrong], ["read", "read"]):
        with pytest.raises(KeysError, match=r"give one or more of read, write, admin, each once"):
            new("t", *scopes)


# The text of the file


def test_what_is_written_is_read() -> None:
    ring = Keyring([new("a", *SCOPES)[0], new("b", name="x", expires=NOW)[0]])
    assert loads(ring.dumps()).keys == ring.keys
    assert loads(Keyring().dumps()).keys == ()
    assert json.loads(ring.dumps())["version"] == 1


def one(**changes: Any) -> str:
    key = {**json.loads(new(name="n")[0].model_dump_json()), **changes}
    return json.dumps({"version": 1, "keys": [{name: value for name, value in key.items() if value != "left out"}]})


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "the whole"),
        ("{", "the whole"),
        ("[]", "the whole"),
        ('{"version": 1}', "/keys"),
        ('{"version": 2, "keys": []}', "/version"),
        ('{"version": 1, "keys": [], "more": 1}', "/more"),
        (one(tenant="a/b"), "/keys/0/tenant"),
        (one(tenant="left out"), "/keys/0/tenant"),
        (one(scopes=[]), "/keys/0/scopes"),
        (one(scopes=["root"]), "/keys/0/scopes/0"),
        (one(sha256="x"), "/keys/0/sha256"),
        (one(sha256="A" * 64), "/keys/0/sha256"),
        (one(id="1"), "/keys/0/id"),
        (one(created="2026-12-01T00:00:00"), "/keys/0/created"),
        (one(expires="soon"), "/keys/0/expires"),
        (one(key="greso_secret"), "/keys/0/key"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_its_place_and_not_repeated(text: str, place: str) -> None:
    with pytest.raises(KeysError) as refused:
        loads(text)
    assert str(refused.value).startswith(f"{place}: ")
    assert "greso_secret" not in str(refused.value)


def test_a_key_stands_in_the_file_once() -> None:
    key = json.loads(new()[0].model_dump_json())
    other = {**key, "id": "00000000"}
    with pytest.raises(KeysError, match=r"^/keys/1/id: is that of /keys/0, too$"):
        loads(json.dumps({"version": 1, "keys": [key, key]}))
    with pytest.raises(KeysError, match=r"^/keys/1/sha256: is that of /keys/0, too$"):
        loads(json.dumps({"version": 1, "keys": [key, other]}))


@given(st.binary(max_size=200))
def test_garbage_is_refused(content: bytes) -> None:
    with pytest.raises(KeysError):
        loads(content)


# The file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def add(path: Path, key: Key) -> None:
    key_file.change(path, lambda ring: ring.with_key(key))


def test_a_new_file_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    path, before = tmp_path / "keys.json", os.umask(0)
    try:
        add(path, new()[0])
    finally:
        os.umask(before)
    assert mode(path) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["keys.json"]  # no draft, no lock


def test_a_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "real" / "keys.json", tmp_path / "keys.json"
    path.parent.mkdir()
    add(path, new()[0])
    path.chmod(0o640)
    link.symlink_to(path)
    add(link, new()[0])
    assert link.is_symlink()
    assert mode(path) == 0o640
    assert len(key_file.read(link)[0].keys) == 2


def test_a_change_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    add(path, new()[0])
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeysError, match="No space left on device"):
        add(path, new()[0])
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["keys.json"]


def test_a_broken_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("{")
    with pytest.raises(KeysError, match=r"keys\.json can't be read: the whole: "):
        add(path, new()[0])
    assert path.read_text() == "{"


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="No such file or directory"):
        add(tmp_path / "none" / "keys.json", new()[0])


def test_of_many_changes_at_once_none_is_lost(tmp_path: Path) -> None:
    path, keys = tmp_path / "keys.json", [new()[0] for _ in range(20)]
    threads = [threading.Thread(target=add, args=(path, key)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.id for key in key_file.read(path)[0].keys} == {key.id for key in keys}


def test_a_key_goes_by_its_id_or_by_a_name_that_only_it_has() -> None:
    first, second, third = new("a", name="same")[0], new("b", name="same")[0], new("b", name="other")[0]
    ring = Keyring([first, second, third])
    assert ring.without("other")[1] is third
    assert ring.without("same", "b")[1] is second
    assert ring.without(first.id)[0].keys == (second, third)
    with pytest.raises(KeysError, match=rf"2 keys are named 'same'; give the id of one: {first.id}, {second.id}"):
        ring.without("same")
    with pytest.raises(KeysError, match="there is no key 'none'"):
        ring.without("none")
    with pytest.raises(KeysError, match="there is no key"):
        ring.without(first.id, "b")


def test_an_id_goes_before_a_name_that_looks_like_it() -> None:
    first, second = new()[0], new()[0]
    named = second.model_copy(update={"name": first.id})
    assert Keyring([named, first]).without(first.id)[1] is first


def test_a_file_that_its_reader_would_lose_is_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    add(path, new()[0])
    real = key_file.read

    def refused(*_: object) -> None:
        raise PermissionError

    def of_another(path: Path) -> tuple[Keyring, os.stat_result]:
        ring, found = real(path)
        return ring, os.stat_result([*found[:4], found.st_uid + 1, *found[5:10]])

    monkeypatch.setattr(os, "fchown", refused)
    add(path, new()[0])  # one's own file needs nothing of that
    before = path.read_bytes()
    monkeypatch.setattr(key_file, "read", of_another)
    with pytest.raises(KeysError, match="would not be readable for them any more; do it as that user, or as root"):
        add(path, new()[0])
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["keys.json"]


# Watching it


def test_keys_come_and_go_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    (old, token), (rotated, following) = new(), new()
    add(path, old)
    watched = WatchedKeys(path)
    add(path, rotated)
    assert watched.ring.find(following) is None
    watched.look()
    assert watched.ring.find(token)  # two valid at once
    assert watched.ring.find(following)
    key_file.change(path, lambda ring: ring.without(old.id)[0])
    watched.look()
    assert watched.ring.find(token) is None
    assert watched.ring.find(following)
    key_file.change(path, lambda ring: ring.without(rotated.id)[0])
    watched.look()
    assert watched.ring.keys == ()  # the last one is revoked like any other


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"version": 1, "keys": [{}]}'])
def test_a_broken_file_keeps_the_keys_read_last_and_is_told(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    key, token = new()
    add(path, key)
    whole = path.read_bytes()
    watched = WatchedKeys(path)
    path.write_bytes(content)
    watched.look()
    assert watched.ring.find(token)
    assert "the 1 keys read last stay in force" in caplog.text
    assert caplog.records[-1].levelname == "ERROR"
    caplog.clear()
    path.write_bytes(whole)
    add(path, new()[0])
    watched.look()
    assert len(watched.ring.keys) == 2
    assert key.sha256 not in caplog.text


def test_a_file_that_is_gone_keeps_the_keys_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys.json"
    key, token = new()
    add(path, key)
    watched = WatchedKeys(path)
    path.unlink()
    watched.look()
    assert watched.ring.find(token)
    assert "No such file or directory; the 1 keys read last stay in force" in caplog.text


def test_a_file_that_has_not_changed_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    add(path, new()[0])
    watched = WatchedKeys(path)
    monkeypatch.setattr(key_file, "read", lambda _: pytest.fail("read"))
    watched.look()


def test_a_service_does_not_start_without_its_keys(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"No such file.*make a first key with `greso keys add --keys-file "):
        WatchedKeys(tmp_path / "keys.json")
    (tmp_path / "keys.json").write_text("{}")
    with pytest.raises(StartupError, match="/version: "):
        WatchedKeys(tmp_path / "keys.json")
