"""The report in a real browser: figures are drawn, the table sorts and filters, a point shows its trial."""

import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import PATIENCE
from tests.tune_jobs.report.runs import HOSTILE, trials
from tune_jobs.record.codes import Ending, Status
from tune_jobs.record.folder import RunFolder
from tune_jobs.report.writing import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MakeRun = Callable[..., RunFolder]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (420, 1280)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: `apt-get install chromium`"),
]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    quiet = [
        "--disable-gpu", "--disable-software-rasterizer", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]  # fmt: skip
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def window(browser: "Browser") -> "Page":
    """Return the only window: a new one costs a second of processor time."""
    page = browser.new_page(reduced_motion="reduce")
    page.context.set_offline(True)
    return page


@pytest.fixture
def open_report(window: "Page") -> "Iterator[Callable[..., Page]]":
    """Open a report from the disk without a network, and fail at the end if the console has an error."""
    complaints: list[str] = []
    listeners: dict[str, Callable[[Any], None]] = {
        "pageerror": lambda error: complaints.append(str(error)),
        "console": lambda said: complaints.append(said.text) if said.type == "error" else None,
        "requestfailed": lambda request: complaints.append(request.url),
    }

    def opened(path: Path, width: int = 1280, scheme: Any = "light") -> "Page":
        window.set_viewport_size({"width": width, "height": 900})
        window.emulate_media(color_scheme=scheme)
        window.goto(path.as_uri())
        window.wait_for_selector("html[data-drawn]", timeout=PATIENCE * 1000)
        return window

    for name, listener in listeners.items():
        window.on(name, listener)  # type: ignore[call-overload]  # one overload for each name
    yield opened
    window.evaluate("localStorage.clear()")
    window.mouse.move(0, 0)
    for name, listener in listeners.items():
        window.remove_listener(name, listener)
    assert complaints == []


def order(page: "Page") -> list[str]:
    """Return the ids of the trials in the table, from the top, without those that are filtered out."""
    texts: list[str] = page.eval_on_selector_all(
        "#trials-table tbody tr:not([hidden])", "rows => rows.map(row => row.cells[0].textContent.trim())"
    )
    return texts


def click_head(page: "Page", name: str) -> None:
    page.locator(f"#trials-table th button:text-is('{name}')").click()


@pytest.mark.parametrize("count", [1, 1000])
def test_every_figure_is_drawn_and_the_page_is_no_wider_than_the_window(
    make_run: MakeRun, open_report: "Callable[..., Page]", count: int
) -> None:
    """The page is loaded in the narrow window, and the window is then made wide."""
    path = write_report(make_run(trials(count), changes={"scheduler/grace_epochs": 2}).path)
    narrow, wide = WIDTHS
    page = open_report(path, narrow)
    assert_every_figure_is_drawn(page, narrow)
    page.set_viewport_size({"width": wide, "height": 900})
    page.wait_for_function(
        "wide => document.querySelector('.figure .main-svg').getBoundingClientRect().width > wide", arg=narrow
    )
    assert_every_figure_is_drawn(page, wide)


def assert_every_figure_is_drawn(page: "Page", width: int) -> None:
    figures = page.locator(".figure")
    assert figures.count() == int(page.get_attribute("html", "data-drawn") or 0) > 0
    for place in range(figures.count()):
        box = figures.nth(place).locator(".main-svg").first.bounding_box()
        assert box is not None
        assert box["width"] > 200
        assert box["height"] > 100
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("status", [Status.FAILED, Status.INTERRUPTED])
def test_a_run_in_which_nothing_succeeded_has_a_page(
    make_run: MakeRun, open_report: "Callable[..., Page]", status: Status
) -> None:
    run = make_run([{"losses": [math.nan], "status": status}, {"status": status}], ending=Ending.INTERRUPTED)
    page = open_report(write_report(run.path))
    assert page.inner_text("#winner h2") == "The best so far"
    assert len(order(page)) == 2


def test_the_table_sorts_both_ways_and_a_click_on_a_row_draws_the_curve_of_its_trial(
    make_run: MakeRun, open_report: "Callable[..., Page]"
) -> None:
    losses = [12.0, 11.0, 10.0]
    run = make_run(
        [
            {"losses": [0.5], "configuration": {"lr": 1e-3, "optimizer": "sgd", "momentum": 0.5}},
            {"losses": losses, "configuration": {"lr": 0.5, "optimizer": "adam"}},
            {"losses": [2.0], "configuration": {"lr": 0.02, "optimizer": "sgd", "momentum": 0.1}},
        ]
    )
    page = open_report(write_report(run.path))
    click_head(page, "val_loss")
    assert order(page) == ["0000", "0002", "0001"]
    click_head(page, "val_loss")
    assert order(page) == ["0001", "0002", "0000"]
    click_head(page, "lr")
    assert order(page) == ["0000", "0002", "0001"]
    click_head(page, "optimizer")
    assert order(page)[0] == "0001"
    click_head(page, "momentum")  # rows without a value come last in both directions
    assert order(page) == ["0002", "0000", "0001"]
    click_head(page, "momentum")
    assert order(page) == ["0000", "0002", "0001"]
    page.click("#trial-1")
    page.wait_for_function(
        "() => document.getElementById('learning-curves').data.some((trace) => trace.name === 'chosen')"
    )
    chosen = page.evaluate(
        "() => document.getElementById('learning-curves').data.find((trace) => trace.name === 'chosen').y"
    )
    assert chosen == losses


def test_text_can_be_read_in_the_light_and_the_table_filters_by_words_and_by_state(
    make_run: MakeRun, open_report: "Callable[..., Page]"
) -> None:
    page = open_report(write_report(make_run(trials(40)).path))
    assert_text_can_be_read(page, "light")
    assert len(order(page)) == 40
    page.fill("#search", "nan epoch")
    assert order(page) == ["0006", "0013", "0020", "0027", "0034"]
    assert page.inner_text("#shown") == "5 of 40"
    page.select_option("#state", "completed")
    assert order(page) == []
    page.fill("#search", "")
    states = page.eval_on_selector_all(
        "#trials-table tbody tr:not([hidden])", "rows => rows.map(row => row.dataset.state)"
    )
    assert set(states) == {"completed"}


def test_a_point_under_the_mouse_shows_its_trial_and_a_click_finds_it(
    make_run: MakeRun, open_report: "Callable[..., Page]"
) -> None:
    run = make_run([{"losses": [0.9, 0.5, 0.25], "configuration": {"lr": 0.125, "batch_size": 8}}])
    page = open_report(write_report(run.path))
    curve = page.locator("#learning-curves")
    curve.scroll_into_view_if_needed()
    place = page.evaluate(
        """() => {
            const holder = document.getElementById("learning-curves"), box = holder.getBoundingClientRect();
            const {xaxis, yaxis} = holder._fullLayout;
            return [box.x + xaxis._offset + xaxis.d2p(2), box.y + yaxis._offset + yaxis.d2p(0.5)];
        }"""
    )
    page.mouse.move(*place, steps=5)
    page.wait_for_selector("#learning-curves .hoverlayer .hovertext")
    assert "trial 0, epoch 2: 0.5" in (page.text_content("#learning-curves .hoverlayer") or "")
    told = page.inner_text("#learning-curves-section .chosen")
    assert told == "trial 0000, completed: lr=0.125 batch_size=8"
    page.mouse.click(*place)
    page.wait_for_selector("#trial-0.marked")


def test_text_of_figures_can_be_read_in_the_dark(
    make_run: MakeRun, open_report: "Callable[..., Page]"
) -> None:
    page = open_report(write_report(make_run(trials(3)).path), scheme="dark")
    assert_text_can_be_read(page, "dark")


def assert_text_can_be_read(page: "Page", scheme: str) -> None:
    """Check the contrast in the colours of the system, which are those of `scheme`, and in the others."""

    def brightness(colour: str) -> float:
        return sum(map(float, colour.removeprefix("rgb(").removesuffix(")").split(","))) / 3

    def contrast() -> float:
        page_colour = page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor")
        text = page.evaluate("getComputedStyle(document.querySelector('#learning-curves .xtick text')).fill")
        return abs(brightness(page_colour) - brightness(text))

    dark = brightness(page.evaluate("getComputedStyle(document.body).backgroundColor")) < 128
    assert dark == (scheme == "dark")
    assert contrast() > 120
    page.click("#theme")
    page.wait_for_function(f"document.documentElement.dataset.theme !== '{scheme}'")
    page.wait_for_timeout(300)
    assert contrast() > 120


def test_text_of_a_run_is_never_run_as_code(make_run: MakeRun, open_report: "Callable[..., Page]") -> None:
    changes = {
        "model": {"name": "mine:make"},
        "search/space/model.x": {"values": [HOSTILE, "b"]},
        "search/space/optimizer": ...,
        "search/space/momentum": ...,
    }
    run = make_run(
        [
            {"losses": [0.5], "configuration": {"lr": 0.1, "model.x": HOSTILE}, "reason": HOSTILE},
            {"losses": [0.4], "configuration": {"lr": 0.2, "model.x": "b"}},
            {"status": Status.FAILED, "configuration": {"lr": 0.2, "model.x": "b"}, "reason": HOSTILE},
        ],
        changes=changes,
    )
    page = open_report(write_report(run.path))
    page.hover("#slice-1 .main-svg >> nth=0")
    page.wait_for_timeout(300)
    assert page.title() != "taken"
    assert page.locator("img[src='x']").count() == 0
