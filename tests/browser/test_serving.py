"""How the page's files are served, and that they are all there."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Service

    from .chromium import Tab

FOLDER = files("greso_service").joinpath("dashboard")
NAMES = sorted(entry.name for entry in FOLDER.iterdir())
TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml", "txt": "text/plain"}
FIRST_VIEW_BYTES = 300_000


def test_the_first_view_is_small(open_tab: Callable[..., Tab], watched: Service) -> None:
    tab = open_tab(watched.url)
    tab.open()
    tab.page.wait_for_load_state("networkidle")
    assert len(tab.sizes) > 10
    assert sum(tab.sizes) < FIRST_VIEW_BYTES, f"the first view takes {sum(tab.sizes):,} bytes"


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_served_as_it_is(service: Service, name: str) -> None:
    answer = service.http.get(f"/dashboard/{name}")
    assert answer.status_code == 200
    assert answer.content == FOLDER.joinpath(name).read_bytes()
    assert answer.headers["Content-Type"].startswith(TYPES[name.rpartition(".")[2]])
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_an_upgrade_is_seen_and_what_is_known_is_not_sent_again(service: Service) -> None:
    first = service.http.get("/")
    assert first.headers["Cache-Control"] == "no-cache"
    again = service.http.get("/", headers={"If-None-Match": f'"other", {first.headers["ETag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert service.http.get("/", headers={"If-None-Match": '"older"'}).status_code == 200
    weak = service.http.get("/", headers={"If-None-Match": f"W/{first.headers['ETag']}"})
    assert weak.status_code == 304


@pytest.mark.parametrize(
    "path", ["..%2Fsettings.py", "..%2F..%2Fpyproject.toml", "%2Fetc%2Fpasswd", "nope.js", "", "index.html%00", "../x"]
)
def test_nothing_else_is_served(service: Service, path: str) -> None:
    answer = service.http.get(f"/dashboard/{path}")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_all_that_the_page_loads_is_packaged_and_announced() -> None:
    page = FOLDER.joinpath("index.html").read_text()
    named = set(re.findall(r'"/dashboard/([^"]+)"', page))
    assert named <= set(NAMES)
    modules = {name for name in NAMES if name.endswith(".js") and not name.endswith(".min.js")}
    assert modules <= named, "a module that is not preloaded costs a round trip"
    for name in modules:
        imported = set(re.findall(r'from "\./([^"]+)"', FOLDER.joinpath(name).read_text()))
        assert imported <= modules


def test_no_name_of_another_host_stands_in_our_files() -> None:
    ours = [name for name in NAMES if not name.startswith("uPlot")]
    for name in ours:
        hosts = set(re.findall(r"https?://[^\s\"'`]+", FOLDER.joinpath(name).read_text()))
        assert hosts <= {"http://www.w3.org/2000/svg"}, name


def test_no_text_is_parsed_as_html() -> None:
    parses = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function")
    for name in NAMES:
        if name.endswith(".js"):
            assert not parses.search(FOLDER.joinpath(name).read_text()), name


# Of the npm package uplot, version 1.6.32.
UPLOT = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


def test_uplot_is_what_its_author_published_with_its_licence() -> None:
    for name, digest in UPLOT.items():
        assert hashlib.sha256(FOLDER.joinpath(name).read_bytes()).hexdigest() == digest
    licence = FOLDER.joinpath("uPlot-LICENSE.txt").read_text()
    assert "MIT" in licence
    assert "Leon Sorokin" in licence
