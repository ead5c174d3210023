"""What ends soon: what is told of it, by a service's log and its metrics."""

from __future__ import annotations

import asyncio
import math
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.keys import KeyFile
from tests.servers import certificate

from greso_service.access import tls
from greso_service.access.endings import Endings
from greso_service.access.watched import WatchedKeys
from greso_service.settings import Settings, load

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    file = KeyFile(tmp_path / "keys.json")
    file.add("team-a", "admin", name="for-ever")
    return file


def with_certificate(folder: Path, days: int) -> Settings:
    cert, key = certificate(folder, days)
    return load({"tls_cert": cert, "tls_key": key})


def test_nothing_ends_where_nothing_has_an_end(keys: KeyFile) -> None:
    for watched in (None, WatchedKeys(keys.path)):
        endings = Endings(load(), watched)
        assert (endings.key(), endings.certificate()) == (math.inf, math.inf)
        assert list(endings.warnings(NOW)) == []


def test_the_first_good_key_counts_also_one_that_comes_later(keys: KeyFile) -> None:
    keys.add("team-a", "read", name="year", expires=NOW + 365 * DAY)
    keys.add("team-a", "read", name="over", expires=NOW - DAY)
    watched = WatchedKeys(keys.path)
    endings = Endings(load(), watched)
    assert endings.key() == (NOW + 365 * DAY).timestamp()
    assert list(endings.warnings(NOW)) == []
    keys.add("team-b", "read", name="week", expires=NOW + 7 * DAY)
    watched.look()
    assert endings.key() == (NOW + 7 * DAY).timestamp()
    [line] = endings.warnings(NOW)
    assert "(week) of tenant team-b on" in line


@pytest.mark.parametrize(("days", "told"), [(13, "ends on"), (-1, "is over since")])
def test_a_certificate_is_told_of_before_its_end_and_after_it(tmp_path: Path, days: int, told: str) -> None:
    endings = Endings(with_certificate(tmp_path, days), None)
    assert abs(endings.certificate() - (NOW + days * DAY).timestamp()) < 600
    [line] = endings.warnings(NOW)
    assert line.startswith(f"the certificate {told} ")


def test_a_certificate_that_an_authority_signed_has_an_end_too(tmp_path: Path) -> None:
    authority, secret = certificate(tmp_path, 90)
    cert, key, request = (tmp_path / name for name in ("leaf.pem", "leaf-key.pem", "leaf.csr"))
    ask = ["openssl", "req", "-newkey", "ec", "-nodes", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=leaf"]
    sign = ["openssl", "x509", "-req", "-in", request, "-CA", authority, "-CAkey", secret, "-days", "40", "-out", cert]
    for command in ([*ask, "-keyout", key, "-out", request], sign):
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
    ends = tls.ends(load({"tls_cert": cert, "tls_key": key}))
    assert ends is not None
    assert abs(ends - NOW - 40 * DAY) < timedelta(minutes=10)


def test_what_is_no_certificate_has_no_end(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    cert.write_text("")
    assert tls.ends(load({"tls_cert": cert, "tls_key": key})) is None
    assert tls.ends(load()) is None


def test_it_is_in_the_log_at_once(keys: KeyFile, caplog: pytest.LogCaptureFixture) -> None:
    keys.add("team-b", "read", name="week", expires=NOW + 7 * DAY)

    async def look() -> None:
        reminding = asyncio.create_task(Endings(load(), WatchedKeys(keys.path)).remind())
        await asyncio.sleep(0)
        reminding.cancel()

    asyncio.run(look())
    [record] = caplog.records
    assert "(week) of tenant team-b on" in record.getMessage()
