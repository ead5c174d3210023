"""Every view, clicked through in a real browser, against what the service says over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from .world import report_only

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page
    from tests.servers import Service

    from .chromium import Tab

LONG_STEPS = 301
"""One more than a chart has points: each stands for two steps, and the last for one."""

LETTERS = {
    "v": "effective group",
    "e": "easy group",
    "h": "hard group",
    "u": "undetermined group",
    "x": "skipped as easy",
    "y": "skipped as hard",
}
VIEWS = [
    "#/",
    "#/run/saves",
    "#/run/saves/map",
    "#/run/saves/map?columns=steps&rows=50",
    "#/run/saves/prompts",
    "#/run/saves/prompt/dapo-math%2F0000007",
    "#/run/begun",
    "#/run/empty",
    "#/run/empty/map",
    "#/run/empty/prompts",
    "#/run/hostile/map",
    "#/run/hostile/prompts",
]


def painted(page: Page, selector: str) -> int:
    """How many different colours a canvas shows."""
    count: int = page.eval_on_selector(
        selector,
        """canvas => new Set(new Uint32Array(
            canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size""",
    )
    return count


def test_the_list_says_who_saves_and_how_much(tab: Tab, watched: Service) -> None:
    page = tab.open()
    told = {run["run"]: run for run in watched.json("GET", "/v1/overview")["runs"]}
    rows = page.locator("table.runs tbody tr")
    expect(rows).to_have_count(len(told))
    for run, row in told.items():
        line = rows.filter(has=page.get_by_role("link", name=run, exact=True))
        expect(line.locator(".badge")).to_have_text(row["status"])
        expect(line).to_contain_text(row["headline"])
    assert told["saves"]["status"] in {"saving", "filtering"}
    saves = rows.filter(has=page.get_by_role("link", name="saves", exact=True))
    assert f"{100 * told['saves']['recent']['skip_rate']:.0f}\u202f%" in saves.inner_text()
    assert f"from {100 * told['saves']['first']['effective']:.0f}\u202f%" in saves.inner_text()
    assert f"{told['saves']['totals']['rollouts']:,}" in saves.inner_text()
    expect(page.get_by_role("columnheader", name="Saved, estimate")).to_be_visible()


def test_a_run_says_first_what_to_change(tab: Tab, watched: Service) -> None:
    page = tab.open()
    page.get_by_role("link", name="uniform", exact=True).click()
    tab.settled()
    advice = watched.json("GET", "/v1/runs/uniform/overview")["advice"]
    assert advice[0]["code"] == "policy_uniform"
    shown = page.locator(".advice li")
    expect(shown).to_have_count(len(advice))
    for place, one in enumerate(advice):
        for part in ("title", "detail", "change"):
            expect(shown.nth(place)).to_contain_text(one[part])
    above = page.evaluate("document.querySelector('.advice').getBoundingClientRect().bottom < innerHeight / 2")
    assert above, "the advice is not what one sees first"


def test_the_curves_are_drawn_and_share_a_cursor(tab: Tab, watched: Service) -> None:
    page = tab.open("#/run/saves")
    plots = page.locator(".plot")
    expect(plots).to_have_count(6)
    for place in range(6):
        assert painted(page, f".charts figure:nth-child({place + 1}) canvas") > 10
    last = watched.json("GET", "/v1/runs/saves/curves?points=300")
    skipped = (last["skipped_easy"][-1] + last["skipped_hard"][-1]) / last["examined"][-1]
    assert f"both {100 * skipped:.0f}" in str(plots.nth(0).get_attribute("aria-label"))
    expect(page.locator(".u-legend").nth(5)).to_contain_text("step70")
    plots.nth(1).locator(".u-over").hover(position={"x": 100, "y": 40})
    steps = set(page.locator(".u-legend tr:first-child td").all_inner_texts())
    assert len(steps) == 1
    assert steps != {"70"}


def test_the_curves_are_zoomed_together_and_follow_the_light(tab: Tab) -> None:
    page = tab.open("#/run/saves")
    area = page.locator(".plot .u-over").first
    area.hover(position={"x": 50, "y": 50})
    page.mouse.down()
    area.hover(position={"x": 150, "y": 50})
    page.mouse.up()
    spans = "() => [...document.querySelectorAll('.plot')].map(({plot}) => plot.scales.x.max - plot.scales.x.min)"
    zoomed = page.evaluate(spans)
    assert max(zoomed) < 69 / 2
    assert max(zoomed) - min(zoomed) < 1
    area.dblclick()
    assert page.evaluate(spans) == [69] * 6
    before = page.locator(".charts canvas").first.evaluate("one => one.toDataURL()")
    page.emulate_media(color_scheme="dark")
    expect(page.locator(".plot canvas")).to_have_count(6)
    drawn = "before => document.querySelector('.charts canvas')?.toDataURL() !== before"
    page.wait_for_function(drawn, arg=before)


def test_a_long_run_shows_means_over_several_steps(tab: Tab, watched: Service) -> None:
    report_only(watched, "long", LONG_STEPS)
    page = tab.open("#/run/long")
    expect(page.locator("main")).to_contain_text("Each point stands for 2 steps")
    told = str(page.locator(".plot").nth(4).get_attribute("aria-label"))
    assert "step 300: selected 0, effective 1, train batch size 1" in told
    assert "effective 50\u202f%" in str(page.locator(".plot").nth(3).get_attribute("aria-label"))
    page.locator(".plot").nth(4).focus()
    page.keyboard.press("Home")
    expect(page.locator(".unseen[role=status]")).to_contain_text("step 1: selected 0, effective 1")


def test_the_newest_steps_stand_in_a_table(tab: Tab, watched: Service) -> None:
    page = tab.open("#/run/saves")
    page.get_by_text("The newest steps as a table").click()
    row = watched.json("GET", "/v1/runs/saves/steps?after=69")["steps"][0]
    shown = page.get_by_role("table", name="The newest steps").locator("tbody tr").first.locator("th, td")
    told = [70, row["examined"], *row["skipped"].values(), row["groups"], row["effective"]]
    assert shown.all_inner_texts()[:6] == [str(value) for value in told]


@pytest.mark.parametrize("columns", ["visits", "steps"])
def test_the_selection_map_shows_what_became_of_each_offer(tab: Tab, watched: Service, columns: str) -> None:
    page = tab.open(f"#/run/saves/map?columns={columns}&rows=50&sort=visits")
    told = watched.json("GET", "/v1/runs/saves/map?limit=50&sort=visits")["prompts"]
    assert painted(page, ".map canvas") >= 4
    first = min(step for prompt in told for step in prompt["steps"])
    wide = max(len(prompt["what"]) for prompt in told) if columns == "visits" else 70 - first + 1
    canvas, readout = page.locator(".map canvas"), page.locator(".readout")
    for row in (0, 20, 49):
        prompt = told[row]
        for place in {0, len(prompt["what"]) // 2, len(prompt["what"]) - 1}:
            column = place if columns == "visits" else prompt["steps"][place] - first
            width, height = canvas.evaluate("one => [one.clientWidth, one.clientHeight]")
            canvas.hover(position={"x": (column + 0.5) * width / wide, "y": (row + 0.5) * height / 50})
            expect(readout).to_contain_text(prompt["prompt"])
            expect(readout).to_contain_text(f"step {prompt['steps'][place]}: {LETTERS[prompt['what'][place]]}")
    canvas.click(position={"x": 4, "y": 4})
    expect(page.locator("h2.prompt")).to_have_text(told[0]["prompt"])


def test_the_selection_map_stands_as_a_list_too(tab: Tab, watched: Service) -> None:
    page = tab.open("#/run/saves/map")
    page.get_by_text("The same as a list").click()
    told = watched.json("GET", "/v1/runs/saves/map?limit=256")["prompts"]
    expect(page.locator("ol.plain li")).to_have_count(len(told))
    skips = sum(letter in "xy" for letter in told[0]["what"])
    expect(page.locator("ol.plain li").first).to_contain_text(f"skipped {skips}")


def test_a_finger_reads_a_cell_before_it_opens_the_prompt(open_tab: Callable[..., Tab], watched: Service) -> None:
    page = open_tab(watched.url, viewport={"width": 390, "height": 844}, has_touch=True).open("#/run/saves/map")
    page.locator(".map canvas").tap(position={"x": 2, "y": 2})
    name = watched.json("GET", "/v1/runs/saves/map?limit=1")["prompts"][0]["prompt"]
    expect(page.locator(".readout")).to_contain_text(f"{name} \u00b7 offer 1")
    page.locator(".readout a").tap()
    expect(page.locator("h2.prompt")).to_have_text(name)


def test_prompts_are_filtered_sorted_searched_and_paged(tab: Tab, watched: Service) -> None:
    page = tab.open("#/run/saves/prompts")
    names = page.locator("table .name")

    def wanted(query: str) -> list[str]:
        return [row["prompt"] for row in watched.json("GET", f"/v1/runs/saves/prompts?limit=50{query}")["prompts"]]

    expect(names).to_have_text(wanted(""))
    page.get_by_role("link", name="Next 50").click()
    cursor = watched.json("GET", "/v1/runs/saves/prompts?limit=50")["cursor"]
    expect(names).to_have_text(wanted(f"&cursor={cursor}"))
    page.go_back()
    expect(names).to_have_text(wanted(""))
    page.get_by_label("Kind").select_option("easy")
    expect(names).to_have_text(wanted("&kind=easy"))
    page.get_by_label("Sort by").select_option("visits")
    expect(names).to_have_text(wanted("&kind=easy&sort=visits"))
    page.get_by_label("Kind").select_option("")
    page.get_by_label("Search").fill("00123")
    expect(names).to_have_text(["dapo-math/0000123"])
    page.get_by_label("Search").fill("nowhere")
    expect(page.locator("main")).to_contain_text("No prompt has this in its id")


def test_a_prompt_says_why_it_is_skipped(tab: Tab, watched: Service) -> None:
    page = tab.open("#/run/saves/prompts?kind=hard")
    name = page.locator("table .name").first.inner_text()
    page.locator("table tbody tr").first.locator("td").last.click(force=True)  # a row is one link
    why = watched.json("GET", f"/v1/runs/saves/why/{quote(name, safe='')}")
    known = watched.json("GET", f"/v1/runs/saves/prompts/{quote(name, safe='')}")
    expect(page.locator("h2.prompt")).to_have_text(name)
    expect(page.locator(".why")).to_contain_text(why["sentence"])
    expect(page.locator(".facts")).to_contain_text(f"{known['streak']}")
    groups = page.get_by_role("table", name="Recent groups").locator("tbody tr")
    expect(groups).to_have_count(len(known["groups"]))
    expect(groups.first).to_contain_text(known["groups"][0]["outcome"])
    page.go_back()
    expect(page.get_by_label("Kind")).to_have_value("hard")


def test_what_is_not_there_is_said(tab: Tab) -> None:
    tab.expected += ["status of 404", "status of 422"]
    for address in ("#/run/nope", "#/run/%3Cimg%20src=x%3E", "#/run/saves/prompt/nope"):
        expect(tab.open(address).locator(".refused")).to_contain_text("Not found")
    for address in ("#/nope", "#/run", "#/run/saves/nope", "#/run/%E0%A4%A", "#/run/saves/map/more"):
        expect(tab.open(address).get_by_role("heading")).to_contain_text("no such page")


@pytest.mark.parametrize(
    "look",
    [
        {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark", "has_touch": True},
        {"viewport": {"width": 768, "height": 1024}},
        {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark", "reduced_motion": "reduce"},
    ],
    ids=["phone", "tablet", "desktop"],
)
def test_every_view_fits_its_screen_and_can_be_read(
    open_tab: Callable[..., Tab], watched: Service, look: dict[str, object]
) -> None:
    tab = open_tab(watched.url, **look)
    for address in VIEWS:
        page = tab.open(address)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{address} is {wide} pixels too wide"
        assert not (faint := page.evaluate(TOO_FAINT)), f"{address}: {faint}"


# Text whose contrast against what lies behind it is below 4.5 (WCAG 2.1 AA).
TOO_FAINT = """() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(".unseen, option")) continue;
    const [a, b] = [parts(getComputedStyle(element).color), behind(element)].map(light).sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) found.push(`${element.tagName} "${element.textContent.slice(0, 20)}" ${contrast.toFixed(2)}`);
  }
  return found.join(", ");
}"""
