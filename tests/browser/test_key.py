"""The page of a service that wants a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from tests.keys import KeyFile
from tests.servers import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .chromium import Chromium, Tab


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, KeyFile]]:
    """A service with keys, and a run of one tenant."""
    folder = tmp_path_factory.mktemp("locked")
    keys = KeyFile(folder / "keys.json")
    writer = keys.add("team-a", "write")
    running = Service(folder, "--keys-file", str(keys.path))
    try:
        running.start()
        headers = {"Authorization": f"Bearer {writer}"}
        assert running.http.put("/v1/runs/theirs", json={}, headers=headers).status_code == 201
        yield running, keys
    finally:
        running.close()


def test_a_key_is_asked_for_used_kept_and_forgotten(
    chromium: Chromium, open_tab: Callable[..., Tab], locked: tuple[Service, KeyFile]
) -> None:
    service, keys = locked
    reader = keys.add_and_wait(service, "team-a", "read")
    tab: Tab = open_tab(service.url)
    tab.expected.append("401")
    page = tab.open()
    form, runs = page.locator("[data-code=key_wanted]"), page.locator("table.runs")
    expect(form).to_be_visible()
    expect(page.get_by_label("Key")).to_be_focused()
    expect(page.locator("#forget")).to_be_hidden()

    page.get_by_label("Key").fill("greso_wrong")
    page.get_by_role("button", name="Use it").click()
    expect(form.locator(".reason")).to_contain_text("there is no such key")

    page.get_by_label("Key").fill(f"  {reader} ")  # as it is copied
    page.keyboard.press("Enter")
    expect(runs).to_contain_text("theirs")
    expect(form).to_have_count(0)
    expect(page.locator("#metrics")).to_be_hidden()
    assert reader not in page.url
    page.get_by_role("link", name="theirs").click()
    expect(page.locator("main")).to_contain_text('-H "Authorization: Bearer $GRESO_API_KEY"')
    assert reader not in page.content()
    page.go_back()

    page.reload()
    expect(runs).to_contain_text("theirs")  # the tab knows it still
    page.locator("#forget").click()
    expect(form).to_be_visible()
    expect(page.get_by_text("theirs")).to_have_count(0)

    page.reload()
    expect(form).to_be_visible()
    assert page.evaluate("sessionStorage.length + localStorage.length + document.cookie.length") == 0


def test_a_key_of_another_tenant_shows_none_of_the_runs(
    chromium: Chromium, open_tab: Callable[..., Tab], locked: tuple[Service, KeyFile]
) -> None:
    service, keys = locked
    other = keys.add_and_wait(service, "team-b", "admin")
    tab: Tab = open_tab(service.url)
    tab.expected.append("401")
    page = tab.open("#/run/theirs")
    page.get_by_label("Key").fill(other)
    page.keyboard.press("Enter")
    tab.expected.append("404")
    expect(page.locator("main")).to_contain_text("there is no run theirs")


def test_a_service_without_keys_asks_for_none(tab: Tab) -> None:
    page = tab.open()
    expect(page.locator("table.runs")).to_be_visible()
    expect(page.locator("[data-code=key_wanted]")).to_have_count(0)
    expect(page.locator("#forget")).to_be_hidden()
    expect(page.locator("#metrics")).to_be_visible()
