"""What the page tells of domains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from tests.servers import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .chromium import Tab


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a run of two domains and prompts without one."""
    running = Service(tmp_path_factory.mktemp("domains"))
    try:
        running.start()
        running.json("PUT", "/v1/runs/mixed", {"rollout_batch_size": 8, "domains": {"math": {"quota": 0.25}}})
        prompts = [{"prompt": f"{name}{n}", "domain": name} for name in ("math", "code") for n in range(8)]
        running.json("PUT", "/v1/runs/mixed/pool", {"prompts": [*prompts, *(f"rest{n}" for n in range(8))]})
        for step in range(3):
            drawn = running.json("POST", "/v1/runs/mixed/draw", {"step": step})["prompts"]
            results = [{"prompt": prompt, "rewards": [1, int(prompt[0] == "m")]} for prompt in drawn]
            running.json("POST", "/v1/runs/mixed/report", {"step": step, "results": results, "final": True})
        running.json("PUT", "/v1/runs/plain", {})
        yield running
    finally:
        running.close()


def test_domains_stand_side_by_side(mixed: Service, open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(mixed.url)
    page = tab.open("#/run/mixed")
    table = page.get_by_role("table", name="Domains")
    expect(table.locator("thead")).to_contain_text(
        "DomainPoolShare of drawsSelectedPart of allSkip rateGroupsEffective"
    )
    math = table.get_by_role("row").filter(has=page.get_by_role("rowheader", name="math"))
    expect(math).to_contain_text("25\u202f%")
    expect(table.locator("tbody tr")).to_have_count(3)
    expect(table.locator("tbody tr").last).to_contain_text("none")
    expect(table).to_have_count(1)
    page = tab.open("#/run/plain")
    expect(page.locator("main")).to_contain_text("Figures")
    expect(page.get_by_role("table", name="Domains")).to_have_count(0)
