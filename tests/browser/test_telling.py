"""What the page says where it knows little: runs not in memory, slow answers, no advice, estimates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from .world import report_only

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page, Route
    from tests.servers import Service

    from .chromium import Tab


def altered(page: Page, path: str, change: Callable[[Any], Any]) -> None:
    """Let the service's answers of this path say something else."""

    def answer(route: Route) -> None:
        told = route.fetch()
        route.fulfill(response=told, json=change(told.json()))

    page.route(f"**{path}", answer)


def test_runs_that_are_not_in_memory_are_named_and_can_be_opened(tab: Tab) -> None:
    names = ["saves", "<b>large</b>"]
    altered(tab.page, "/v1/overview?**", lambda told: {**told, "runs": [], "cold": names})
    page = tab.open()
    expect(page.locator("main")).to_contain_text(f"Not in memory, being read: {', '.join(names)}")
    page.get_by_role("link", name="saves", exact=True).click()
    tab.settled()
    expect(page.get_by_role("heading", level=1)).to_have_text("saves")


def test_what_was_saved_is_an_estimate_with_its_caveat(tab: Tab, watched: Service) -> None:
    estimate = watched.json("GET", "/v1/runs/saves/overview")["saved_estimate"]
    assert estimate < 100_000
    rough = float(f"{estimate:.2g}")
    shown = (f"~{rough:.0f}" if rough < 1000 else f"~{rough / 1000:g}k") if estimate else "0"
    page = tab.open("#/run/saves")
    fact = page.locator(".facts div").filter(has_text="Saved, estimate")
    expect(fact.locator(".figure")).to_have_text(shown)
    expect(fact).to_contain_text("only a run with policy uniform beside this one measures the saving")
    tab.open()
    cell = page.get_by_role("row").filter(has=page.get_by_role("link", name="saves", exact=True))
    expect(cell.locator("[data-label='Saved, estimate']")).to_contain_text(f"{shown} at most ")


@pytest.mark.parametrize(
    ("steps", "said"),
    [(50, "Nothing stands out"), (3, "Too early to say3 steps with groups are complete"), (1, "1 step with groups is")],
)
def test_without_advice_no_more_is_said_than_is_known(tab: Tab, steps: int, said: str) -> None:
    def silent(told: Any) -> Any:
        return {**told, "advice": [], "recent": {**told["recent"], "steps": steps}}

    altered(tab.page, "/v1/runs/saves/overview", silent)
    expect(tab.open("#/run/saves").locator(".advice")).to_contain_text(said)
    expect(tab.page.locator(".advice")).not_to_contain_text("No sign of")


def test_the_advised_change_stands_there_ready_to_copy(tab: Tab, watched: Service) -> None:
    advice = watched.json("GET", "/v1/runs/shaped/overview")["advice"]
    body = next(one["change"] for one in advice if "PATCH" in one["change"]).partition("PATCH /v1/runs/shaped ")[2]
    page = tab.open("#/run/shaped")
    page.get_by_text("How to make this change").click()
    [[field, value]] = json.loads(body).items()
    expect(page.locator("details[open] pre").first).to_have_text(f"client.update_run({field}={value})")
    expect(page.locator("details[open] pre").last).to_contain_text(f"-d '{{\"{field}\":{value}}}'")


def test_parameters_that_move_are_told_with_where_they_are_now(tab: Tab, watched: Service) -> None:
    told = watched.json("GET", "/v1/runs/saves/overview")
    page = tab.open("#/run/saves")
    page.get_by_text("Parameters in force").click()
    expect(page.locator("main")).to_contain_text(f"p_hard0.5 at the start, {told['exploration']['hard']:.2f} now")
    expect(page.locator("main")).to_contain_text("easy_share0.333333p_easy")


def test_a_slow_answer_is_not_told_as_none(tab: Tab) -> None:
    page = tab.page
    page.add_init_script("const wait = AbortSignal.timeout; AbortSignal.timeout = () => wait.call(AbortSignal, 200)")
    tab.open()
    page.route("**/v1/overview?**", lambda _route: None)  # never answers
    banner = page.locator("#banner")
    expect(banner).to_contain_text("The service is still at work. No answer within 15 s.")
    expect(banner).to_contain_text("it reads the runs from their histories first")
    expect(banner).not_to_contain_text("does not answer.")
    page.unroute("**/v1/overview?**")
    page.get_by_role("button", name="Try now").click()
    expect(banner).to_be_empty()


@pytest.mark.parametrize("name", [".", ".."])
def test_a_prompt_of_dots_is_refused_in_words(tab: Tab, name: str) -> None:
    expect(tab.open(f"#/run/saves/prompt/{name}").locator(".refused")).to_contain_text("one or two dots")
    expect(tab.page.locator("#banner")).to_be_empty()


def test_a_run_that_is_deleted_and_made_again_is_shown_again(tab: Tab, watched: Service) -> None:
    tab.expected.append("status of 404")
    page = tab.page
    page.clock.install()
    report_only(watched, "again", 12)
    tab.open("#/run/again")
    expect(page.locator(".plot")).to_have_count(6)
    watched.call("DELETE", "/v1/runs/again")
    page.clock.run_for(4_000)
    expect(page.locator(".refused")).to_contain_text("Not found")
    expect(page.locator(".badge")).to_have_count(0)
    report_only(watched, "again", 2)
    page.clock.run_for(10_000)
    expect(page.locator(".u-legend").last).to_contain_text("step1")
    expect(page.locator(".refused")).to_have_count(0)
    expect(page.locator(".badge")).to_have_text("learning")
    watched.call("DELETE", "/v1/runs/again")
