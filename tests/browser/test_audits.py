"""What the page tells of audits, shadow runs and policies that rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from tests.servers import Service

from .world import World, questions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .chromium import Tab

SMALL = {"train_batch_size": 16, "rollout_batch_size": 32}


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a run of each way to audit."""
    running = Service(tmp_path_factory.mktemp("policies"))
    try:
        running.start()
        World(running, "shadow", questions(200), 1).create(shadow=True, **SMALL).train(20, 2)
        World(running, "audited", questions(200), 2).create(audit_share=0.3, **SMALL).train(20, 4)
        ranked = World(running, "ranked", questions(300), 3)
        ranked.create(policy="irt", exploration_share=0.3, cooldown_steps=1, **SMALL).train(30, 2)
        yield running
    finally:
        running.close()


def test_a_shadow_run_tells_what_it_would_have_saved_and_lost(policies: Service, open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(policies.url)
    page = tab.open("#/run/shadow")
    expect(page.locator("main")).to_contain_text("policy greso in shadow mode")
    expect(page.locator(".badge")).to_have_text("off")
    expect(page.locator("main")).to_contain_text("Effective yield")
    expect(page.locator("main")).not_to_contain_text("Saved, estimate")
    section = page.get_by_role("region", name="Audit")
    expect(section.get_by_role("heading")).to_have_text("Shadow mode")
    for term in ("False skips, hard", "Kept by the policy", "Would have been saved", "Effective groups lost"):
        expect(section.locator(".facts")).to_contain_text(term)
    expect(section).to_contain_text("with 95\u202f% certainty")


def test_an_audited_run_tells_its_false_skips(policies: Service, open_tab: Callable[..., Tab]) -> None:
    hard = policies.json("GET", "/v1/runs/audited")["audit"]["hard"]
    assert hard["groups"] > 10
    section = open_tab(policies.url).open("#/run/audited").get_by_role("region", name="Audit")
    fact = section.locator(".facts div").filter(has_text="False skips, hard")
    expect(fact).to_contain_text(f"of {hard['groups']} groups taught; ")


def test_a_ranking_is_told_by_rank(policies: Service, open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(policies.url)
    page = tab.open()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="ranked", exact=True))
    expect(row.locator("[data-label='Skipped']")).to_contain_text("ranked")
    page = tab.open("#/run/ranked")
    expect(page.get_by_role("region", name="Audit")).to_contain_text("Taken by rank")
    expect(page.locator(".plot")).to_have_count(4)
    page = tab.open("#/run/ranked/prompts")
    expect(page.locator("thead")).to_contain_text("ScoreExpected pass rate")
    page.locator("tbody a").first.click()
    tab.settled()
    expect(page.locator(".why")).to_contain_text("The model expects a pass rate of")
    expect(page.locator(".facts")).to_contain_text("Rank")
    assert "p_easy" not in page.locator("main").inner_text()
