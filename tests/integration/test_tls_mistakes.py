"""What is wrong with TLS between a client or a command and the service is said in one line that says what to change."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from greso_client import AsyncClient, Client, GresoError, SettingsError, UnavailableError
from greso_client.trainer.compare.service import ServiceError, require_service

from ..commands import greso  # noqa: TID252
from ..servers import Service, certificate  # noqa: TID252 - tests are no installed package


@dataclass
class Pair:
    """A service with TLS and one without; `cert`: the first one's certificate, signed by itself."""

    tls: int
    plain: int
    cert: Path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = certificate(folder)
    secret, plain = Service(folder / "tls", "--tls-cert", str(cert), "--tls-key", str(key)), Service(folder / "plain")
    secret.http.close()
    trusting = ssl.create_default_context(cafile=str(cert))
    secret.http = httpx.Client(base_url=f"https://127.0.0.1:{secret.port}", verify=trusting, trust_env=False)
    try:
        secret.start()
        plain.start()
        yield Pair(secret.port, plain.port, cert)
    finally:
        secret.close()
        plain.close()


def blocking(url: str, *, strict: bool) -> None:
    with Client(url, run="r", strict=strict, spool=False, budget=4.0) as client:
        client.select(1, ["p"])


def awaited(url: str, *, strict: bool) -> None:
    async def main() -> None:
        async with AsyncClient(url, run="r", strict=strict, spool=False, budget=4.0) as client:
            await client.select(1, ["p"])

    asyncio.run(main())


@dataclass(frozen=True)
class Mistake:
    """`of`: the URL of a pair; `trusts`: SSL_CERT_FILE, "its" for the right one."""

    of: Callable[[Pair], str]
    said: str
    trusts: str | None = None


MISTAKES = {
    "unknown": Mistake(
        lambda pair: f"https://127.0.0.1:{pair.tls}",
        "certificate can't be verified: self-signed certificate; "
        "SSL_CERT_FILE must name the file with the authority that signed it (it is not set)",
    ),
    "another name": Mistake(
        lambda pair: f"https://127.1:{pair.tls}", "give the URL by a name that the certificate has", trusts="its"
    ),
    "no TLS spoken here": Mistake(
        lambda pair: f"http://127.0.0.1:{pair.tls}",
        "without sending a response; if it speaks TLS, the URL begins with https://",
    ),
    "no TLS there": Mistake(
        lambda pair: f"https://127.0.0.1:{pair.plain}", "should the URL begin with http:// and not https://?"
    ),
}


@pytest.fixture(params=MISTAKES)
def mistake(request: pytest.FixtureRequest, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Mistake:
    found = MISTAKES[request.param]
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    if found.trusts is not None:
        monkeypatch.setenv("SSL_CERT_FILE", str(pair.cert))
    return found


@pytest.mark.parametrize("ask", [blocking, awaited])
def test_a_client_says_what_is_wrong(
    pair: Pair, mistake: Mistake, ask: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    url = mistake.of(pair)
    with pytest.raises(UnavailableError) as caught:
        ask(url, strict=True)
    assert mistake.said in str(caught.value)
    assert "\n" not in str(caught.value)
    ask(url, strict=False)
    told = caplog.records[0]
    assert mistake.said in told.getMessage()
    assert "\n" not in told.getMessage()
    if url.startswith("https"):
        assert told.levelno == logging.ERROR
        assert "can't be talked to" in told.getMessage()
        assert "greso serve" not in told.getMessage()


def test_a_folder_of_authorities_that_lacks_this_one_is_named(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with pytest.raises(UnavailableError, match=f"it is not set, SSL_CERT_DIR is {tmp_path}"):
        blocking(f"https://127.0.0.1:{pair.tls}", strict=True)


def command(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return greso(*arguments, env={"GRESO_URL": url})


def test_a_command_says_what_is_wrong_in_one_line(pair: Pair, mistake: Mistake) -> None:
    url = mistake.of(pair)
    ended = command(url, "runs")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert mistake.said in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ("greso serve" in ended.stderr) == url.startswith("http:"), "a service that is there need not be started"


def test_who_trusts_the_certificate_is_answered(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pair.cert))
    with Client(f"https://127.0.0.1:{pair.tls}", run="r", strict=True) as client:
        client.create_run()
    require_service(f"https://127.0.0.1:{pair.tls}")
    assert command(f"https://127.0.0.1:{pair.tls}", "runs").returncode == 0


# A file of authorities that is none


UNREADABLE = {
    "no file": "can't be read: No such file or directory",
    "no certificates": "has no certificate in it (PEM)",
    "a folder": "can't be read: Is a directory",
}


@pytest.fixture(params=UNREADABLE)
def unreadable(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "none.pem"
    if request.param == "no certificates":
        path.write_text("nothing")
    elif request.param == "a folder":
        path.mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return f"SSL_CERT_FILE={path} {UNREADABLE[request.param]}"


def test_the_file_is_named_by_clients_commands_and_trainers(unreadable: str) -> None:
    url = "https://127.0.0.1:9"
    for made in (Client, AsyncClient):
        with pytest.raises(ValueError, match="SSL_CERT_FILE") as caught:
            made(url, run="r")
        assert str(caught.value) == unreadable
        assert isinstance(caught.value, SettingsError)
        assert isinstance(caught.value, GresoError)
    with pytest.raises(ServiceError, match="SSL_CERT_FILE"):
        require_service(url)
    ended = command(url, "runs")
    assert (ended.returncode, ended.stderr) == (1, f"greso: {unreadable}\n")


def test_without_tls_nobody_looks_at_it(unreadable: str, pair: Pair) -> None:
    with Client(f"http://127.0.0.1:{pair.plain}", run="plain", strict=True) as client:
        client.create_run()
    with Client("http://service.invalid", run="plain", budget=1.0, spool=False) as client:
        assert client.select(1, ["p"]).degraded
    require_service(f"http://127.0.0.1:{pair.plain}")
