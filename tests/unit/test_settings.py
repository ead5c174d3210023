"""Settings: where each value comes from, and what a wrong one answers."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import ValidationError

from greso_service.errors import StartupError
from greso_service.history.connect import parse
from greso_service.settings import ENV_PREFIX, Settings, is_loopback, load, variable, without_password


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def test_an_option_wins_over_a_variable_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().port == 8080
    monkeypatch.setenv("GRESO_PORT", "1234")
    assert load().port == 1234
    assert load({"port": "4321"}).port == 4321


def test_an_empty_variable_is_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRESO_PORT", "")
    assert load().port == 8080


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("port", "70000", "--port is '70000'; give a whole number from 0 to 65,535"),
        ("port", "eighty", "--port is 'eighty'; give a whole number from 0 to 65,535"),
        ("max_rewards", "1", "--max-rewards is '1'; give a whole number from 2 to 65,535"),
        ("idempotency_ttl", "3600", "--idempotency-ttl is '3600'; give a whole number from 86,400 to 2,592,000"),
        ("redis_timeout", "nan", "--redis-timeout is 'nan'; give a number from 0.01 to 60"),
        ("deadline", "inf", "--deadline is 'inf'; give a number from 0.05 to 60"),
        ("durability", "replicas:0", "--durability is 'replicas:0'; give `redis`, or `replicas:N` with N from 1 to 99"),
        ("log_format", "xml", "--log-format is 'xml'; give `text` or `json`"),
        ("allow_unauthenticated", "perhaps", "--allow-unauthenticated is 'perhaps'; give `true` or `false`"),
    ],
)
def test_a_wrong_value_is_one_line_with_the_option_the_value_and_what_is_allowed(
    name: str, value: str, message: str
) -> None:
    with pytest.raises(StartupError) as refusal:
        load({name: value})
    assert str(refusal.value) == message


@pytest.mark.parametrize("url", ["redis://a", "redis+sentinel://a/main", "redis+cluster://a"])
def test_replicas_are_waited_for_in_every_redis_that_may_have_some(url: str) -> None:
    assert load({"redis_url": url, "durability": "replicas:2"}).durability == "replicas:2"
    with pytest.raises(StartupError, match=r"^--durability replicas:2 waits for replicas, which the embedded Redis"):
        load({"durability": "replicas:2"})


def test_a_wrong_variable_is_named_as_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRESO_MAX_IN_FLIGHT", "0")
    with pytest.raises(StartupError, match=r"^GRESO_MAX_IN_FLIGHT is '0'; give a whole number from 1 to 10,000$"):
        load()


def test_a_wrong_url_is_refused_without_showing_its_password() -> None:
    with pytest.raises(StartupError, match=r"redis\+cluster://") as refusal:
        load({"redis_url": "http://user:secret@host"})
    assert "secret" not in str(refusal.value)
    assert "user" in str(refusal.value)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(StartupError, match="there is no setting prot"):
        load({"prot": 1})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org"])
def test_without_keys_only_loopback_is_listened_on(host: str) -> None:
    with pytest.raises(StartupError, match=r"without keys greso listens on loopback only, not on .*--allow-unauth"):
        load({"host": host})
    assert load({"host": host, "allow_unauthenticated": "true"}).host == host


def test_keys_and_everybody_are_not_let_in_at_once() -> None:
    with pytest.raises(StartupError, match="--allow-unauthenticated lets everybody in; give one of them"):
        load({"keys_file": "keys.json", "allow_unauthenticated": "true"})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org"])
def test_with_keys_any_address_is_listened_on(host: str) -> None:
    assert load({"host": host, "keys_file": "keys.json"}).host == host


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tls_cert": "c"}, "--tls-cert and --tls-key go together; give both, or none for plain HTTP"),
        ({"tls_key": "k"}, "--tls-cert and --tls-key go together; give both, or none for plain HTTP"),
        (
            {"metrics": "false", "metrics_port": "9464"},
            "--metrics-port gives the metrics a port, and --no-metrics closes them; give one of them",
        ),
        (
            {"port": "9464", "metrics_port": "9464"},
            "--metrics-port is 9464 and so is --port; give another, or leave it out",
        ),
        ({"metrics_port": "x"}, "--metrics-port is 'x'; give a whole number from 0 to 65,535"),
        (
            {"allowed_hosts": "http://a"},
            "--allowed-hosts is 'http://a'; give host names without ports, with commas between, or `*`",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(StartupError) as refusal:
        load(settings)
    assert str(refusal.value) == message


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_is_known_by_every_name(host: str) -> None:
    assert is_loopback(host)
    assert load({"host": host}).host == host


def test_the_data_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert load().data_dir == tmp_path / ".local/state/greso"
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    assert load().data_dir == tmp_path / ".local/state/greso"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert load().data_dir == tmp_path / "state/greso"


def test_paths_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load({"data_dir": "~/here"}).data_dir == tmp_path / "here"
    monkeypatch.chdir(tmp_path)
    assert load({"data_dir": "there"}).data_dir == tmp_path / "there"


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError):
        load().port = 1


def test_every_number_has_a_range_and_every_setting_a_help_text() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        if field.annotation in {int, float}:
            low, high = sorted(type(bound).__name__ for bound in field.metadata if type(bound).__name__ in {"Ge", "Le"})
            assert (low, high) == ("Ge", "Le"), name


def test_variables_have_the_prefix() -> None:
    assert variable("max_prompts") == f"{ENV_PREFIX}MAX_PROMPTS" == "GRESO_MAX_PROMPTS"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:secret@host", "redis://:***@host"),
        ("redis://user:secret@host/1", "redis://user:***@host/1"),
        ("redis://user:se/cr@et@host", "redis://user:***@host"),
        ("redis+sentinel://h:1/s?sentinel_password=secret", "redis+sentinel://h:1/s"),
        ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
    assert load({"redis_url": url}).listed()["redis_url"] == shown
    assert "secret" not in repr(load({"redis_url": url}))


@pytest.mark.parametrize(
    ("url", "user", "db"),
    [
        ("redis://host:6379/2", None, 2),
        ("rediss://ops@host/2?ssl_cert_reqs=none", "ops", 2),
        ("unix:///run/redis.sock?db=2", None, 2),
        ("redis+sentinel://ops@a,b:26380/mymaster/2?sentinel_password=other", "ops", 2),
        ("redis+cluster://a,b", None, 0),
    ],
)
@pytest.mark.parametrize("password", ["plain", "a b&c=d#e/f?g%h@i:j+k", "päss", " spaces stay "])
def test_the_password_of_a_file_reaches_every_kind_of_redis(
    url: str, user: str | None, db: int, password: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(password + "\n")
    settings = load({"redis_url": url, "redis_password_file": str(file)})
    assert settings.redis_url is not None
    at = parse(settings.redis_url)
    assert (at.login.get("password"), at.login.get("username"), at.db) == (password, user, db)
    shown = f"{settings.listed()} {settings!r}"
    assert password not in shown
    assert quote(password, safe="") not in shown


@pytest.mark.parametrize("url", ["redis://:secret@host", "redis://host?password=secret"])
def test_a_password_is_given_once(url: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("other")
    with pytest.raises(StartupError, match="give one of them") as refusal:
        load({"redis_url": url, "redis_password_file": str(tmp_path / "password")})
    assert "secret" not in str(refusal.value)


def test_a_password_file_that_is_of_no_use_says_so(tmp_path: Path) -> None:
    def refusal(path: Path, **more: str) -> str:
        with pytest.raises(StartupError) as refused:
            load({"redis_password_file": str(path), **more})
        return str(refused.value)

    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n")
    binary.write_bytes(b"\xff\xfe")
    assert "No such file" in refusal(tmp_path / "none", redis_url="redis://host")
    assert "is empty" in refusal(empty, redis_url="redis://host")
    assert "not UTF-8" in refusal(binary, redis_url="redis://host")
    assert "goes with --redis-url" in refusal(empty)
