"""Names of prompts are text, whatever they contain."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from playwright.sync_api import expect

from .world import HOSTILE

if TYPE_CHECKING:
    from tests.servers import Service

    from .chromium import Tab


def test_names_are_text_and_nothing_else(tab: Tab, watched: Service) -> None:
    page = tab.open("#/run/hostile/prompts?sort=last_step")
    shown = set(page.locator("table .name").evaluate_all("all => all.map(one => one.textContent)"))
    page.get_by_role("link", name="Next 50").click()
    expect(page.get_by_role("link", name="First page")).to_be_visible()
    shown |= set(page.locator("table .name").evaluate_all("all => all.map(one => one.textContent)"))
    assert set(HOSTILE) <= shown
    for name in HOSTILE:
        tab.open(f"#/run/hostile/prompt/{quote(name, safe='')}")
        assert page.locator("h2.prompt .name").evaluate("one => one.textContent") == name
        assert page.title() != "owned"
        expect(page.locator(".why")).to_contain_text("step")
    assert page.locator("main script, main img").count() == 0


def test_the_browser_itself_refuses_to_parse_text_as_html(tab: Tab) -> None:
    page = tab.open()
    tab.expected.append("TrustedHTML")
    parsing = "() => { try { document.body.innerHTML = '<b>x</b>'; return false } catch { return true } }"
    assert page.evaluate(parsing)
