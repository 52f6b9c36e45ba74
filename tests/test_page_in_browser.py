"""Pages in a real browser, headless: no errors, a click sorts, charts show what is pointed at."""

import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import page_made_up as made_up
import pytest

from ar_net_jax.reporting.page.render import write_page

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = shutil.which("chromium") or (own if Path(own).exists() else None)
        if path is None:
            pytest.skip("no Chromium: apt-get install chromium, or playwright install chromium")
        # Its sandbox does without root, which containers often run as.
        with playwright.chromium.launch(executable_path=path, args=["--no-sandbox"]) as started:
            yield started


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    made_up.write_history(folder)
    write_page(folder / "report.html", made_up.made_up_page(folder))
    return folder / "report.html"


class _Tab:
    """A page that is open, with what it complained of and asked for."""

    def __init__(self, browser: Any, path: Path, width: int) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._hear)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def scroll_through(self) -> None:
        for top in range(0, self.page.evaluate("document.body.scrollHeight"), 500):
            self.page.evaluate(f"scrollTo(0, {top})")
            self.page.wait_for_timeout(150)


@pytest.mark.parametrize("width", [1280, 420])
def test_it_shows_all_without_errors_or_network(browser: Any, page_file: Path, width: int) -> None:
    tab = _Tab(browser, page_file, width)
    tab.scroll_through()
    tab.page.wait_for_timeout(500)
    assert tab.faults == []
    assert [url for url in tab.asked if not url.startswith("data:")] == [page_file.as_uri()]
    assert tab.page.evaluate("window.hit") is None
    # Nothing stands out to the right, and every chart was drawn.
    assert tab.page.evaluate("document.documentElement.scrollWidth") == width
    heights = tab.page.eval_on_selector_all(
        ".plot", "places => places.map(p => p.firstElementChild?.offsetHeight ?? 0)"
    )
    assert len(heights) == 5 and min(heights) > 200
    tab.page.close()


def test_a_click_sorts_and_a_second_one_turns_round(browser: Any, page_file: Path) -> None:
    tab = _Tab(browser, page_file, 1280)
    table = tab.page.locator("table").first

    def column(number: int) -> list[str]:
        return table.locator(f"tbody tr > :nth-child({number})").all_text_contents()

    head = table.get_by_role("button", name="mAP (%)")
    head.click()
    assert column(2) == ["71.0", "70.0", "65.5", "60.0"]
    head.click()
    assert column(2) == ["60.0", "65.5", "70.0", "71.0"]
    table.get_by_role("button", name="Method").click()
    names = [row.method for row in made_up.ROWS]
    assert column(1) == [names[0], names[3], names[2], names[1]]
    assert table.locator("tfoot th").inner_text() == "Chance"
    assert tab.faults == []
    tab.page.close()


def test_a_mark_tells_what_it_is_and_the_key_hides_it(browser: Any, page_file: Path) -> None:
    tab = _Tab(browser, page_file, 1280)
    plot = tab.page.locator(".plot").first
    plot.scroll_into_view_if_needed()
    tab.page.wait_for_timeout(800)
    box = plot.bounding_box()
    told = ""
    # The pointer goes over the chart until a mark answers.
    for x in range(60, int(box["width"]) - 40, 12):
        for y in range(50, int(box["height"]) - 60, 12):
            tab.page.mouse.move(box["x"] + x, box["y"] + y)
            told = tab.page.evaluate(_TOOLTIP)
            if "71.0" in told:
                break
        if "71.0" in told:
            break
    assert made_up.MARKUP in told and tab.page.evaluate("window.hit") is None
    button = tab.page.locator(".key button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    hidden = "Bokeh.documents.flatMap(d => [...d.all_models]).filter(m => m.visible === false)"
    names = tab.page.evaluate(f"{hidden}.map(m => m.name).filter(name => name)")
    assert names and set(names) == {f"line:{made_up.MARKUP}"}
    assert tab.faults == []
    tab.page.close()


def test_it_loads_within_seconds(browser: Any, page_file: Path) -> None:
    times = []
    for _ in range(5):
        tab = _Tab(browser, page_file, 1280)
        entry = "performance.getEntriesByType('navigation')[0].loadEventStart"
        times.append(tab.page.evaluate(entry))
        tab.page.close()
    # On two quiet cores it is under one; others may be at work on this machine.
    assert statistics.median(times) < 5000


# Text of the tooltips, which Bokeh puts into shadow trees.
_TOOLTIP = """
() => {
  const found = []
  const visit = root => {
    for (const element of root.querySelectorAll("*")) {
      if (element.classList.contains("bk-Tooltip") || element.tagName === "DIV" &&
          element.shadowRoot && element.shadowRoot.querySelector(".bk-tooltip-content"))
        found.push(element.shadowRoot ? element.shadowRoot.textContent : element.textContent)
      if (element.shadowRoot) visit(element.shadowRoot)
    }
  }
  visit(document)
  return found.join(" ")
}
"""
