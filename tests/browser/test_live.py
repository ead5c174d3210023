"""The page while things happen: runs come, the service goes and comes back, nobody looks. The tests move the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from .world import World, questions

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page
    from tests.servers import Service

    from .chromium import Chromium, Tab

POLL_MS = 3_000


@pytest.fixture
def tab(chromium: Chromium, open_tab: Callable[..., Tab], watched: Service) -> Tab:
    """A tab in a profile of its own, as time stops for a whole profile."""
    opened: Tab = chromium.do(open_tab, watched.url)
    return opened


def stop_time(page: Page) -> None:
    """From now on time passes only as the test lets it."""
    page.clock.install(time=0)
    page.clock.pause_at(1000)


def hide(page: Page, *, hidden: bool) -> None:
    """Put the tab in the background, or back to the front."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_runs_come_and_the_service_goes_and_comes_back(
    start_service: Callable[..., Service], open_tab: Callable[..., Tab]
) -> None:
    service = start_service()
    tab = open_tab(service.url)
    page = tab.page
    stop_time(page)
    tab.open()
    expect(page.locator(".teach")).to_contain_text(f"greso demo --quick --url {service.url}")

    world = World(service, "new", questions(100)).create(train_batch_size=8, rollout_batch_size=16)
    world.train(1)
    page.clock.run_for(POLL_MS)
    expect(page.get_by_role("link", name="new", exact=True)).to_be_visible()
    expect(page.locator(".teach")).to_have_count(0)
    page.get_by_role("link", name="new", exact=True).click()
    expect(page.locator(".lead")).not_to_be_empty()
    expect(page.locator("main")).to_contain_text("Step 1,")
    world.train(1)
    page.clock.run_for(POLL_MS)
    expect(page.locator("main")).to_contain_text("Step 2,")
    expect(page.locator(".u-legend").last).to_contain_text("step2")

    service.kill()
    tab.expected.append("ERR_CONNECTION_REFUSED")
    for seconds in (3, 6, 12):
        page.clock.run_for(1000 * max(seconds // 2, 3))
        expect(page.locator("#banner")).to_contain_text(f"Next try in {seconds} s.")
    assert page.locator("#banner").get_attribute("aria-live") == "polite"
    expect(page.locator("#banner")).to_contain_text("It can't be reached.")
    expect(page.locator("main")).to_contain_text("Step 2,")  # the last that was known
    service.start()
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#banner")).to_be_empty()
    expect(page.locator("#pulse")).to_have_text("Live")
    world.train(1)
    page.clock.run_for(POLL_MS)
    expect(page.locator("main")).to_contain_text("Step 3,")

    for number in range(20):
        service.json("PUT", f"/v1/runs/newer-{number}", {})
    tab.open()
    expect(page.locator("tbody tr")).to_have_count(20)
    page.get_by_role("link", name="Older runs").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.get_by_role("link", name="new", exact=True)).to_be_visible()
    page.get_by_role("link", name="Newest runs").click()
    expect(page.locator("tbody tr").first).to_contain_text("newer-19")

    page.get_by_role("link", name="newer-3", exact=True).focus()
    service.json("POST", "/v1/runs/newer-3/report", {"step": 1, "results": [], "final": True})
    page.clock.run_for(POLL_MS)
    expect(page.locator("tbody tr").first).to_contain_text("newer-3")
    assert page.evaluate("document.activeElement.textContent") == "newer-3", "what moves takes its focus along"


def test_nobody_looks_nothing_is_asked(tab: Tab) -> None:
    page = tab.page
    stop_time(page)
    tab.open("#/run/saves")
    expect(page.locator("#pulse")).to_have_text("Live")
    hide(page, hidden=True)
    asked = len(tab.requests)
    page.clock.run_for(20 * POLL_MS)
    expect(page.locator("#pulse")).to_have_text("Paused")
    assert len(tab.requests) == asked
    with page.expect_request("**/v1/runs/saves/overview"):
        hide(page, hidden=False)
    expect(page.locator("#pulse")).to_have_text("Live")


def test_an_idle_run_is_asked_for_little(tab: Tab) -> None:
    page = tab.page
    stop_time(page)
    tab.open("#/run/saves")
    tab.requests.clear()
    for _ in range(3):
        with page.expect_response("**/v1/runs/saves/overview"):
            page.clock.run_for(POLL_MS)
    assert {url.rpartition("/")[2] for url in tab.requests} == {"overview"}, "the curves are as they were"


@pytest.mark.parametrize("address", ["#/", "#/run/saves"])
def test_a_store_that_is_away_is_told_in_its_words(tab: Tab, address: str) -> None:
    page = tab.page
    stop_time(page)
    tab.open(address)
    tab.expected.append("status of 503")
    told = '{"status": 503, "detail": "Redis did not answer within 0.5 s; try again"}'
    page.route("**/v1/**", lambda route: route.fulfill(status=503, content_type="application/problem+json", body=told))
    page.clock.run_for(POLL_MS)
    expect(page.locator("#banner")).to_contain_text("Redis did not answer within 0.5 s; try again")
    page.unroute("**/v1/**")
    page.clock.run_for(POLL_MS)
    expect(page.locator("#banner")).to_be_empty()
