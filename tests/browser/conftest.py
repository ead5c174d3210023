"""A service with runs to look at, and a real Chromium to look with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.servers import Service

from .chromium import DESKTOP, Chromium, Tab
from .world import HOSTILE, World, questions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Pages, and runs to look at, take long to make: tests of them are slow ones, but for those of the key."""
    for item in items:
        names = set(getattr(item, "fixturenames", ()))
        if "chromium" in names and "locked" not in names:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Tests that use the browser run on its thread, see `Chromium`."""
    if "chromium" not in pyfuncitem.fixturenames:
        return None
    given = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    browser = pyfuncitem.funcargs["chromium"]
    assert isinstance(browser, Chromium)
    browser.do(pyfuncitem.obj, **given)
    return True


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """One browser for the session."""
    browser = Chromium()
    yield browser
    browser.close()


@pytest.fixture
def open_tab(chromium: Chromium) -> Iterator[Callable[..., Tab]]:
    """Opens tabs at a service, each in a profile of its own; afterwards nothing may have gone wrong in any."""
    opened: list[Tab] = []

    def opening(origin: str, **options: Any) -> Tab:
        tab = Tab(chromium.context(**{"viewport": DESKTOP, **options}).new_page(), origin)
        opened.append(tab)
        return tab

    yield opening
    for tab in opened:
        chromium.do(tab.page.context.close)
    for tab in opened:
        tab.check()


@pytest.fixture
def tab(chromium: Chromium, watched: Service) -> Iterator[Tab]:
    """A tab at the service with the runs; afterwards nothing may have gone wrong in it."""
    opened: Tab = chromium.do(lambda: Tab(chromium.page(), watched.url))
    yield opened
    chromium.do(opened.page.close)
    opened.check()


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a run of each sort."""
    running = Service(tmp_path_factory.mktemp("watched"))
    try:
        running.start()
        tiny, small = ({"train_batch_size": size, "rollout_batch_size": 2 * size} for size in (8, 24))
        World(running, "uniform", questions(200), 2).create(policy="uniform", **small).train(8)
        World(running, "begun", questions(2000), 3).create(**small).train(4)
        World(running, "hostile", [*HOSTILE, *questions(40)], 4).create(**tiny).train(15)
        World(running, "shaped", questions(60), 5, bonus=0.1).create(**tiny).train(25)
        running.json("PUT", "/v1/runs/empty", {})
        World(running, "saves", questions(400), 1, learning=0.01).create(**small).train(70)
        yield running
    finally:
        running.close()
