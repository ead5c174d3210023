"""The pictures of docs/dashboard.md, of the runs of a service that runs: python -m tests.browser.screenshots URL RUN

They show what `greso demo --url URL` leaves behind: a small model trained twice, with dynamic sampling and with greso.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .chromium import Chromium, Tab

if TYPE_CHECKING:
    from playwright.sync_api import ViewportSize

DOCS = Path(__file__).parents[2] / "docs"
SIZES: dict[str, ViewportSize] = {
    "runs": {"width": 1000, "height": 480},
    "run": {"width": 1000, "height": 1340},
    "map": {"width": 1000, "height": 800},
}


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshots", description=__doc__)
    parser.add_argument("url", help="where the service answers")
    parser.add_argument("run", help="the run to show")
    asked = parser.parse_args()
    chromium = Chromium()
    try:
        for name, address in {
            "runs": "",
            "run": f"run/{asked.run}",
            "map": f"run/{asked.run}/map?rows=50&sort=visits",
        }.items():
            chromium.do(take, chromium, asked.url, f"#/{address}", DOCS / f"dashboard-{name}.png", viewport=SIZES[name])
    finally:
        chromium.close()


def take(chromium: Chromium, url: str, address: str, to: Path, **options: Any) -> None:
    """One picture of what a screen of that size shows."""
    tab = Tab(chromium.context(**options).new_page(), url)
    tab.open(address)
    tab.page.wait_for_load_state("networkidle")
    tab.page.screenshot(path=to)
    tab.check()


if __name__ == "__main__":
    main()
