"""Fixtures for the tests of the client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from greso_client import Client
from greso_client._core import Core

from .doubles import ClockIO, FakeService, make_core


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GRESO_URL", "GRESO_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def io(service: FakeService) -> ClockIO:
    return ClockIO(service)


@pytest.fixture
def spool_path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "spool.jsonl"


@pytest.fixture
def core(io: ClockIO, spool_path: Path) -> Core:
    return make_core(io, spool_path)


@pytest.fixture
def strict_core(io: ClockIO, spool_path: Path) -> Core:
    return make_core(io, spool_path, strict=True)


@pytest.fixture
def client(service: FakeService, spool_path: Path) -> Iterator[Client]:
    with Client("http://service", run="test", spool=spool_path, transport=httpx.MockTransport(service)) as client:
        yield client
