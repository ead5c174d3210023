"""A Redis of a test's own, to be broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..servers import RedisServer  # noqa: TID252


@pytest.fixture
def redis_at(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    try:
        yield server.start()
    finally:
        server.close()
