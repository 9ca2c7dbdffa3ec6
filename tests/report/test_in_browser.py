"""The page in a real Chromium, where one is installed (`CHROME_BIN` or on the path): what no parser can tell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from refusalctl.report.make import make_report
from tests.report.browser import Browser, installed
from tests.report.test_page import a_world, add_controls, add_verdicts

PROGRAM = installed()
pytestmark = [
    pytest.mark.xdist_group("browser"),  # one browser for all
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed; CHROME_BIN names one"),
]
VIEWS = [(1280, False), (1280, True), (390, False), (390, True)]
LANDS = """
[...document.querySelectorAll('a[href^="#"]')].map(a => a.getAttribute('href').slice(1))
  .filter(id => !document.getElementById(id))
"""
REPEATED = """
[...document.querySelectorAll('[id]')].map(e => e.id).filter((id, i, all) => all.indexOf(id) !== i)
"""
WIDER = """
[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, svg, pre') &&
  e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.tagName + '.' + e.className)
"""
FINDINGS = """
axe.run({resultTypes: ['violations']}).then(found => found.violations
  .filter(v => ['serious', 'critical'].includes(v.impact))
  .map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.target.join(' ')).join(', ')))
"""


def axe() -> str | None:
    """The source of axe-core: of the file that `AXE_JS` names, or of the one in the package axe-core-python."""
    if given := os.environ.get("AXE_JS"):
        return Path(given).read_text(encoding="utf-8")
    found = find_spec("axe_core_python")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).with_name("axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world, matrix = a_world(tmp_path_factory.mktemp("shown") / "store")

    def change(value: dict[str, Any]) -> None:
        add_verdicts(value)
        add_controls(value)

    changed = world.changed(matrix, change)
    return make_report(world.bench, [changed], geometry=False).path / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path_factory.mktemp("profile")) as found:
        yield found


def open_all(browser: Browser) -> None:
    """Fold everything out, so that what is hidden is measured too."""
    browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    browser.value("document.querySelectorAll('section').forEach(s => s.style.contentVisibility = 'visible')")


@pytest.mark.parametrize(("width", "dark"), VIEWS)
def test_nothing_overflows_and_the_console_is_clean(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    assert browser.value("document.documentElement.scrollWidth") <= width
    open_all(browser)
    assert browser.value(WIDER) == []
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.messages == []
    colours = browser.value("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    light = [sum(map(int, each[4:-1].split(","))) / 3 for each in colours]
    assert (light[0] < light[1]) == dark


def test_every_inner_link_lands_and_ids_are_unique(browser: Browser, page: Path) -> None:
    browser.open(page, width=1280)
    assert browser.value("document.querySelectorAll('a[href^=\"#\"]').length") > 20
    assert browser.value(LANDS) == []
    assert browser.value(REPEATED) == []


def test_answer_matrix_and_figure_stand_beside_each_other_above_the_fold(browser: Browser, page: Path) -> None:
    browser.open(page, width=1280, height=900)
    box = "(e => [e.left, e.top, e.right, e.bottom])(document.querySelector('{}').getBoundingClientRect())"
    lines, matrix, figure = (browser.value(box.format(each)) for each in (".lines", ".heat", ".drawn svg"))
    assert lines[2] <= matrix[0]  # beside each other
    assert abs(lines[1] - matrix[1]) < 20
    assert max(lines[3], matrix[3], figure[3]) <= 900
    heights = browser.value("[...document.querySelectorAll('.target > summary')].map(e => e.offsetHeight)")
    assert len(heights) == 3
    assert max(heights) < 40  # one line each


def test_a_phone_reads_answer_then_matrix_then_figure(browser: Browser, page: Path) -> None:
    browser.open(page, width=390)
    tops = [
        browser.value(f"document.querySelector('{each}').getBoundingClientRect().top")
        for each in (".lines", ".heat", ".drawn svg")
    ]
    assert tops == sorted(tops)


@pytest.mark.parametrize(("width", "dark"), VIEWS)
def test_axe_finds_nothing_serious(browser: Browser, page: Path, width: int, dark: bool) -> None:
    source = axe()
    if source is None:
        pytest.skip("axe-core is not installed; AXE_JS names its file")
    browser.open(page, width=width, dark=dark)
    open_all(browser)
    browser.value(source + "; 0")
    assert browser.value("axe.run({resultTypes: ['passes']}).then(found => found.passes.length)") > 10  # it looked
    assert browser.value(FINDINGS) == []
