"""The HTML report in headless Chromium: no console errors, no network requests, no horizontal
scrolling. Where no browser is installed these tests are skipped.
"""

from pathlib import Path

import pytest

from fsprobe.pages.write import write
from fsprobe.reporting.page import report
from fsprobe.reporting.reading import labels, read_sweep
from tests.support import fake_results
from tests.support.browser import BROWSER, Browser, visit

pytestmark = [
    pytest.mark.slow,  # test_report.py sees scripts and requests in the page, only this scrolling
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH"),
]


@pytest.fixture
def browser(tmp_path):
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """A full report of one folder and one of two, with names that could break a page."""
    root = tmp_path_factory.mktemp("pages")
    one = fake_results.write(
        root / "one",
        n_way=(2, 50),
        k_shot=(1, 5, "full"),
        num_tags=60,
        num_seeds=3,
        tags="all",
        unscored=("t3",),
        rename={"t1": "<b>wide</b>" * 12, "t2": "unbreakable" * 15},
    )
    two = fake_results.write(
        root / "a_rather_long_folder_name_for_a_phone",
        num_seeds=3,
        k_shot=(1, "full"),
        test_clips="tagged",
    )
    for name, paths in (("one", [one]), ("both", [one, two])):
        studies = [
            read_sweep(path, label)
            for path, label in zip(paths, labels([*map(str, paths)]), strict=True)
        ]
        write(report(studies), root / "out" / name)
    return {name: root / "out" / name / "report.html" for name in ("one", "both")}


@pytest.mark.parametrize("name", ["one", "both"])
@pytest.mark.parametrize("width", [400, 1400])
def test_page_opens_clean(browser, pages, name, width):
    evaluate, requests, complaints = visit(browser, pages[name], width)
    assert evaluate("window.innerWidth") == width
    assert evaluate("document.documentElement.scrollWidth") <= width
    assert evaluate(
        "[...document.images].every(i => i.complete && i.naturalWidth > 0 && i.alt.length > 20)"
    )
    assert evaluate("document.images.length") >= 9
    # a long name is broken, so that the numbers beside it stay in sight
    assert evaluate(
        "Math.max(...[...document.querySelectorAll('td:first-child')].map(c => c.offsetWidth))"
    ) < max(width * 0.75, 300)
    assert evaluate("document.querySelectorAll('main > *').length") > 30
    assert requests == [pages[name].as_uri()]
    assert complaints == []


def test_a_page_that_is_not_clean_is_noticed(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        "<!DOCTYPE html><meta name=viewport content='width=device-width'><img src='missing.png'>"
        "<div style='width:900px'>wide</div><script>console.error('oh'); nothing()</script>"
    )
    evaluate, requests, complaints = visit(browser, page, 400)
    assert evaluate("document.documentElement.scrollWidth") > 400
    assert len(requests) == 2 and len(complaints) >= 3
