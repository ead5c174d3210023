"""Without a mouse: everything is reached, the focus is seen, and nothing that refreshes takes it away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.servers import Service

    from .chromium import Tab

MOST = 60

# Whether what has the focus, or its row of a table, is outlined. The body is where the round starts.
OUTLINED = """() => {
  const active = document.activeElement;
  const styles = [active, active.closest("tr")].filter((one) => one).map((one) => getComputedStyle(one));
  return active === document.body
    || styles.some((style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2);
}"""


def tab_to(page: Page, selector: str, key: str = "Tab") -> None:
    """Press Tab until the focus is there; each stop on the way must show that it has the focus."""
    for _ in range(MOST):
        page.keyboard.press(key)
        seen = page.evaluate(OUTLINED)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            assert seen, f"the focus on {selector} can't be seen"
            return
        assert seen, f"the focus on {page.evaluate('document.activeElement.outerHTML')} can't be seen"
    raise AssertionError(f"{selector} was not reached in {MOST} steps")


def focused(page: Page) -> str:
    """The text of what has the focus."""
    text: str = page.evaluate("document.activeElement.textContent")
    return text


def test_from_the_list_to_a_prompt_and_back(tab: Tab) -> None:
    page = tab.open()
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    tab_to(page, 'a[href="#/run/saves"]')
    page.keyboard.press("Enter")
    tab.settled()
    assert focused(page) == "saves", "the focus goes to the heading of what was opened"
    tab_to(page, '.tabs a[href="#/run/saves/prompts"]')
    page.keyboard.press("Enter")
    tab.settled()
    tab_to(page, "table a.whole")
    name = focused(page)
    page.keyboard.press("Enter")
    expect(page.locator("h2.prompt")).to_have_text(name)
    tab_to(page, "p.crumbs a")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Kind")).to_be_visible()


def test_searching_keeps_the_focus(tab: Tab) -> None:
    page = tab.open("#/run/saves/prompts")
    tab_to(page, "input[type=search]")
    page.keyboard.type("0001")
    expect(page.locator("table .name").first).to_contain_text("0001")
    page.keyboard.type("23")
    expect(page.locator("table .name")).to_have_text(["dapo-math/0000123"])
    assert page.evaluate("document.activeElement.value") == "000123"
    tab_to(page, "select")
    page.keyboard.press("ArrowDown")
    page.wait_for_url("**kind=new**")
    assert page.evaluate("document.activeElement.matches('select')")


def test_paging_takes_the_focus_to_the_new_page(tab: Tab) -> None:
    page = tab.open("#/run/saves/prompts")
    first = page.locator("table .name").first.inner_text()
    tab_to(page, "a[rel=next]", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("table .name").first).not_to_have_text(first)
    page.wait_for_function("document.activeElement.getAttribute('role') === 'status'")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('table a.whole')")


def test_the_map_is_walked_with_the_arrows(tab: Tab, watched: Service) -> None:
    page = tab.open("#/run/saves/map?rows=50")
    told = watched.json("GET", "/v1/runs/saves/map?limit=50")["prompts"]
    tab_to(page, "canvas")
    expect(page.locator(".readout")).to_contain_text(told[0]["prompt"])
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    expect(page.locator(".readout")).to_contain_text(f"{told[2]['prompt']} \u00b7 offer 2, step {told[2]['steps'][1]}")
    page.keyboard.press("PageDown")
    page.keyboard.press("Home")
    expect(page.locator(".readout")).to_contain_text(f"{told[12]['prompt']} \u00b7 offer 1")
    page.keyboard.press("Enter")
    expect(page.locator("h2.prompt")).to_have_text(told[12]["prompt"])


def test_the_curves_are_read_with_the_arrows(tab: Tab, watched: Service) -> None:
    page = tab.open("#/run/saves")
    told = watched.json("GET", "/v1/runs/saves/curves?points=300")
    tab_to(page, ".plot")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".unseen[role=status]")).to_contain_text(f"Skipped candidates, step {told['step'][1]}: easy")
    tab_to(page, ".plot")
    tab_to(page, ".plot")
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".unseen[role=status]")).to_contain_text(
        f"Exploration probabilities, step {told['step'][-2]}: p easy {told['p_easy'][-2]:.2f}, p hard"
    )
