"""The page about a sweep, in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from elastic_hydra.cli.main import main
from tests.helpers.browser import Browser, Page, chromium, open_browser
from tests.report.sweeps import write_sweep

pytest.importorskip("plotly")

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(900),  # a busy machine takes long to draw ten thousand jobs
    pytest.mark.skipif(chromium() is None, reason="there is no Chromium here"),
]

ROWS = "document.querySelectorAll('#jobs tbody tr').length"
FIRST = "document.querySelector('#jobs tbody tr').innerText"
SHOWN = "document.querySelector('#shown').textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("browser") / "profile") as opened:
        try:
            opened.ask("Browser.getVersion")
        except ConnectionError as error:
            pytest.skip(f"Chromium does not start here: {error}")
        yield opened


def page_about(folder: Path, jobs: int, slots: int) -> Path:
    page = folder / "report.html"
    assert main(["report", str(write_sweep(folder / "sweep", jobs, slots)), "-o", str(page)]) == 0
    return page


def test_one_job_is_shown(browser: Browser, tmp_path: Path) -> None:
    with browser.page(page_about(tmp_path, 1, slots=1)) as page:
        assert_shown(page, 1)
        assert page.evaluate("document.querySelectorAll('#values .main-svg').length") == 0  # nothing was swept


def test_twenty_jobs_are_shown_sorted_and_searched(browser: Browser, tmp_path: Path) -> None:
    click = (
        "[...document.querySelectorAll('#jobs th button')].find((head) => head.textContent.startsWith('value')).click()"
    )
    search = "(query.value = '{}', query.dispatchEvent(new Event('input')))"
    with browser.page(page_about(tmp_path, 20, slots=4), dark=True) as page:
        assert_shown(page, 20)
        assert page.evaluate("[...document.querySelectorAll('#values > div')].map((made) => made.dataset.name)") == [
            "lr",
            "width",
            "optimizer",
        ]
        page.evaluate(click)
        values = page.evaluate(
            "[...document.querySelectorAll('#jobs tbody tr')].map((row) => row.cells[2].textContent)"
        )
        numbers = [float(value) for value in values if value]
        assert numbers == sorted(numbers)
        assert values[len(numbers) :] == [""] * (20 - len(numbers))  # those without a value come last
        page.evaluate(click)
        assert page.evaluate(FIRST).split("\t")[2].strip() == f"{max(numbers):.6g}"
        page.evaluate(search.format("failed optimizer=sgd"))
        shown = page.evaluate("[...document.querySelectorAll('#jobs tbody tr')].map((row) => row.innerText)")
        assert shown
        assert all("failed" in row and "sgd" in row for row in shown)
        page.evaluate(search.format("no such thing"))
        assert page.evaluate(SHOWN) == "0 of 20 jobs"
        assert page.complaints() == []


def assert_shown(page: Page, jobs: int) -> None:
    """Check that a page has shown all that it shows by itself, without complaints and without a network."""
    assert page.complaints() == []
    assert page.requests() == []
    assert page.evaluate("document.documentElement.dataset.shown") == "yes"
    assert page.evaluate(ROWS) == jobs
    assert page.evaluate(SHOWN) == ("1 job" if jobs == 1 else f"{jobs} jobs")
    assert page.evaluate("document.querySelectorAll('#timeline .bars .point').length") >= 2 * jobs


def test_a_sweep_of_ten_thousand_jobs_is_paged_and_drawn_with_few_elements(browser: Browser, tmp_path: Path) -> None:
    file = page_about(tmp_path, 10_000, slots=16)
    assert file.stat().st_size < 5e6
    with browser.page(file) as page:
        assert page.complaints() == []
        assert page.evaluate(SHOWN) == "1 to 50 of 10000 jobs"
        page.evaluate("next.click()")
        assert page.evaluate(SHOWN) == "51 to 100 of 10000 jobs"
        assert page.evaluate("document.querySelectorAll('*').length") < 10_000
        assert page.evaluate("timeline.data.map((trace) => trace.type)") == ["scatter"] * 3
        # A part of the time is small enough for a bar with a text for each stretch.
        page.evaluate("""(() => {
            const [from, to] = timeline.layout.xaxis.range;
            Plotly.relayout("timeline", {"xaxis.range[0]": from, "xaxis.range[1]": from + (to - from) / 20});
        })()""")
        while page.evaluate("timeline.data[0].type") != "bar":
            assert page.complaints() == []
        assert 0 < page.evaluate("timeline.data[0].x.length") < 3000
