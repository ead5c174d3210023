"""Groups of servers for the tests of this folder, and a line for each failover that a trainer went through."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..servers import Service, eventually  # noqa: TID252
from .cluster import Cluster
from .group import Group
from .sentinels import Sentinels

WAITED = "a trainer waited"


@pytest.fixture(scope="session")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Group]]:
    """One group of each kind, started when a test first asks for it, and healed whenever one does."""
    kinds: dict[str, Callable[..., Group]] = {"sentinel": Sentinels, "cluster": Cluster}
    started: dict[str, Group] = {}

    def group(kind: str) -> Group:
        if kind not in started:
            started[kind] = kinds[kind](tmp_path_factory.mktemp(kind))
            started[kind].start()
        started[kind].heal()
        return started[kind]

    yield group
    for each in started.values():
        each.close()


@pytest.fixture(scope="session")
def services(
    groups: Callable[[str], Group], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Service]]:
    """One service for each group and set of options, never restarted: it must come through every failover."""
    started: dict[tuple[str, ...], Service] = {}
    common = ("--snapshot-every", "4")  # so that there are some, older and newer than what is lost

    def service(kind: str, *options: str) -> Service:
        if (kind, *options) not in started:
            new = Service(tmp_path_factory.mktemp("service"), "--redis-url", groups(kind).url, *common, *options)
            started[(kind, *options)] = new
            return new.start()
        eventually(started[(kind, *options)].ready, 30)
        return started[(kind, *options)]

    yield service
    for each in started.values():
        each.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how long each failover held up a trainer."""
    reports = itertools.chain.from_iterable(terminalreporter.stats.get(kind, []) for kind in ("passed", "failed"))
    lines = [
        f"{value:22} {report.nodeid.rpartition('::')[2]}"
        for report in reports
        for name, value in getattr(report, "user_properties", [])
        if name == WAITED and report.when == "call"
    ]
    if lines:
        terminalreporter.section("longest time that one select and report took a trainer; acknowledged reports lost")
        terminalreporter.write_line("\n".join(sorted(lines)))
