"""The report in a real browser: Debian's Chromium, headless."""

import base64
import re
import shutil
import subprocess
import time

import pandas as pd
import pytest
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import Select, WebDriverWait

from analysis.questions.pareto import pareto
from analysis.report import gather, report_html
from analysis.report.material import material_of
from rewind_ray.store.ledger import Ledger
from tests.analysis.conftest import row, table
from tests.analysis.report.test_report import HOSTILE, store, sweep_stages

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,  # half a minute together
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver isn't there"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def chrome(folder):
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def rows():
    """2 networks, 3 seeds; accuracies all different, some points beaten by others."""
    found = []
    for network, gain in (("resnet20", 0), ("vgg16", 0.01)):
        for seed in range(3):
            mine = {"network": network, "seed": seed, "baseline_id": f"{network}-{seed}"}
            for method, sign in (("finetune", -1), ("weight_rewind", 1), ("lr_rewind", 2)):
                for place, density in enumerate((0.5, 0.25, 0.1, 0.05)):
                    for t in (10, 20, 30):
                        wave = ((7 * place + 3 * t + 5 * sign) % 11) / 400
                        accuracy = 0.85 + gain + wave + seed / 300 + t / 5000 - place / 200
                        found.append(
                            row(
                                stage_id=f"{network}-{method}-{density}-{t}-{seed}",
                                method=method,
                                density=density,
                                retrain_epochs=t,
                                test_accuracy=accuracy,
                                val_accuracy=accuracy - 0.01,
                                **mine,
                            )
                        )
    return table(found)


@pytest.fixture(scope="module")
def path(folder, rows):
    return written(folder / "report.html", report_html(material_of(rows, "rows.csv")))


def written(path, html):
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture
def page(chrome, path):
    """Freshly loaded, wide and light."""
    look(chrome, 1440, "light")
    return opened(chrome, path)


def look(chrome, width, scheme):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def opened(chrome, path):
    chrome.get(path.as_uri())
    ready = "return document.documentElement.dataset.ready !== undefined"
    WebDriverWait(chrome, 10).until(lambda driver: driver.execute_script(ready))
    return chrome


def one(page, selector):
    return page.find_element("css selector", selector)


def every(page, selector):
    return page.find_elements("css selector", selector)


def click(page, element):
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def choose(page, selector, value):
    Select(one(page, selector)).select_by_visible_text(value)


def cells(page, title):
    """The texts of a column of the table of points."""
    heads = [head.text.strip() for head in every(page, ".points thead th")]
    number = heads.index(title) + 1
    script = (
        "return [...document.querySelectorAll('.points tbody tr > :nth-child(' + arguments[0] + "
        "')')].map(cell => cell.textContent)"
    )
    return page.execute_script(script, number)


def marks(page, chart, selector=".mark"):
    """How many, figure by figure."""
    script = (
        "return [...document.querySelectorAll(`[data-chart=${arguments[0]}] figure`)]"
        ".map(figure => figure.querySelectorAll(arguments[1]).length)"
    )
    return page.execute_script(script, chart, selector)


# Loading


def test_it_loads_at_once_without_errors_or_requests(page):
    assert page.get_log("browser") == []
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    timing = "return performance.getEntriesByType('navigation')[0].domComplete"
    assert page.execute_script(timing) < 3000  # ms; 200 on an idle machine


def test_hostile_names_do_not_run(chrome, folder, rows):
    hostile = rows.assign(network=f"net{HOSTILE}", method=f"way{HOSTILE}", variant=HOSTILE)
    hostile["stage_id"] += HOSTILE
    hostile = hostile.drop_duplicates(["density", "retrain_epochs", "seed"])
    html = report_html(material_of(hostile, f"{HOSTILE}.csv"))
    page = opened(chrome, written(folder / "hostile.html", html))
    show_first_mark(page)
    assert f"way{HOSTILE}" in one(page, "#tip").text
    assert f"net{HOSTILE}" in one(page, "h1").text
    assert HOSTILE in one(page, "#tip code").text
    assert page.execute_script("return window.ran") is None
    assert page.get_log("browser") == []


# Charts


def show_first_mark(page):
    """By keyboard."""
    chart = one(page, "[data-chart=frontier] figure svg")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    time.sleep(0.2)  # a scroll hides what is shown
    page.execute_script("arguments[0].focus()", chart)
    ActionChains(page).send_keys(Keys.ARROW_RIGHT).perform()


@pytest.mark.parametrize("axis", ["compression ratio", "theoretical speedup"])
def test_the_frontier_is_that_of_pareto(page, rows, axis):
    name = {"compression ratio": "compression_ratio"}.get(axis, "speedup")
    choose(page, "[data-chart=frontier] select", axis)
    expected = pareto(rows, "method", (name, "test_accuracy")).groupby("network")["nondominated"]
    assert marks(page, "frontier") == list(expected.size())
    assert marks(page, "frontier", ".mark:not(.hollow)") == list(expected.sum())
    assert 0 < expected.sum().sum() < expected.size().sum()


def test_pointing_at_a_mark_tells_its_stages(page, rows):
    chart = one(page, "[data-chart=frontier] figure svg")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    time.sleep(0.2)
    offset = page.execute_script(
        "const mark = arguments[0].querySelector('.mark.c1').getBoundingClientRect();"
        "const box = arguments[0].getBoundingClientRect();"
        "return [mark.x + mark.width / 2 - box.x - box.width / 2,"
        " mark.y + mark.height / 2 - box.y - box.height / 2].map(Math.round)",
        chart,
    )
    ActionChains(page).move_to_element_with_offset(chart, *offset).perform()
    told = one(page, "#tip").text
    assert "weight rewinding · 2.00×" in told and "resnet20" in told
    chosen = re.search(r"retraining\s+(\d+) epochs", told)
    at = rows.query("network == 'resnet20' and method == 'weight_rewind' and density == 0.5")
    mine = at[at["retrain_epochs"] == int(chosen[1])]
    assert len(mine) == 3
    for stage_id, seed, accuracy in mine[["stage_id", "seed", "test_accuracy"]].values:
        assert f"{stage_id} seed {seed}, {100 * accuracy:.2f} %" in told
    low, middle, high = (
        f"{100 * value:.2f}" for value in mine["test_accuracy"].quantile([0, 0.5, 1])
    )
    assert f"{middle} % ({low}–{high}, n = 3)" in told
    ActionChains(page).move_to_element(one(page, "h2")).perform()
    assert not one(page, "#tip").is_displayed()


def test_keys_step_through_the_marks_and_escape_ends_it(page):
    show_first_mark(page)
    first = one(page, "#tip").text
    ActionChains(page).send_keys(Keys.ARROW_RIGHT).perform()
    assert one(page, "#tip").text not in ("", first)
    ActionChains(page).send_keys(Keys.ARROW_LEFT).perform()
    assert one(page, "#tip").text == first
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert not one(page, "#tip").is_displayed()


def test_a_click_on_a_method_hides_it_everywhere(page):
    lines = len(cells(page, "method"))
    for place in ("frontier", "cost"):
        assert sum(marks(page, place, ".mark.c0")) > 0
    (chip,) = (chip for chip in every(page, ".chip") if chip.text == "fine-tuning")
    click(page, chip)
    assert chip.get_attribute("aria-pressed") == "false"
    for place in ("frontier", "cost"):
        assert sum(marks(page, place, ".mark.c0")) == 0
        assert sum(marks(page, place, ".mark.c1")) > 0
    assert "fine-tuning" not in cells(page, "method")
    click(page, chip)
    assert len(cells(page, "method")) == lines


def test_shift_click_leaves_one_method_only(page):
    (chip,) = (chip for chip in every(page, ".chip") if chip.text == "weight rewinding")
    ActionChains(page).key_down(Keys.SHIFT).click(chip).key_up(Keys.SHIFT).perform()
    assert set(cells(page, "method")) == {"weight rewinding"}
    click(page, one(page, ".bulk button"))
    assert set(cells(page, "method")) == {
        "fine-tuning",
        "weight rewinding",
        "learning-rate rewinding",
    }


def test_a_network_can_be_left_out(page):
    assert len(marks(page, "frontier")) == 2
    (box,) = (box for box in every(page, ".box") if box.text == "vgg16")
    click(page, box)
    assert len(marks(page, "frontier")) == 1
    assert set(cells(page, "network")) == {"resnet20"}


def test_a_seed_shows_its_own_accuracies(page, rows):
    choose(page, "#filters .choice select", "seed 1")
    mine = rows[rows["seed"] == 1].set_index(["network", "density", "method", "retrain_epochs"])
    expected = [f"{100 * accuracy:.2f}" for accuracy in mine["test_accuracy"]]
    click(page, one(page, "[data-chart=table] .text"))
    assert sorted(cells(page, "accuracy")) == sorted(expected)
    assert marks(page, "frontier", ".bar") == [0, 0]


def test_accuracies_shown_can_be_narrowed(page):
    choose(page, "#filters .choice:last-child select", "1 point")
    assert "Below the accuracies shown" in one(page, "[data-chart=frontier] .note").text
    choose(page, "#filters .choice:last-child select", "all")
    assert one(page, "[data-chart=frontier] .note").text == ""


def test_search_costs_stand_side_by_side_by_compression(page):
    titles = [caption.text for caption in every(page, "[data-chart=cost] figcaption")]
    ratios = ("2.00×", "4.00×", "10.0×", "20.0×")
    assert titles == [f"{name} · {ratio}" for name in ("resnet20", "vgg16") for ratio in ratios]
    choose(page, "[data-chart=cost] .level select", "10.0×")
    assert marks(page, "cost") == [9, 9]  # 3 methods, 3 retraining times


# The table


def test_the_table_sorts_both_ways(page):
    click(page, one(page, "[data-chart=table] .text"))
    (head,) = (head for head in every(page, ".points thead th") if head.text.strip() == "accuracy")
    for way, reverse in (("ascending", False), ("descending", True)):
        click(page, head.find_element("css selector", "button"))
        assert head.get_attribute("aria-sort") == way
        values = [float(text) for text in cells(page, "accuracy")]
        assert len(values) == 72
        assert values == sorted(values, reverse=reverse)
    assert every(page, "[aria-sort]") == [head]


def test_the_table_is_searched_and_shown_by_pages(page):
    assert len(cells(page, "method")) == 50
    click(page, one(page, "[data-chart=table] .text"))
    assert len(cells(page, "method")) == 72
    one(page, "[data-chart=table] input").send_keys("VGG rewinding 10.0")
    assert set(cells(page, "network")) == {"vgg16"}
    assert set(cells(page, "compression")) == {"10.0×"}
    assert set(cells(page, "method")) == {"weight rewinding", "learning-rate rewinding"}
    assert one(page, "[data-chart=table] [role=status]").text == "6 of 6 points."


def test_the_download_holds_the_points_that_are_shown(page, rows, folder):
    downloads = folder / "downloads"
    allowed = {"behavior": "allow", "downloadPath": str(downloads)}
    page.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
    one(page, "[data-chart=table] input").send_keys("vgg16")
    click(page, one(page, "[data-chart=table] .choices > button"))
    WebDriverWait(page, 10).until(lambda _: (downloads / "points.csv").exists())
    got = pd.read_csv(downloads / "points.csv")
    kept = rows[rows["network"] == "vgg16"]
    medians = kept.groupby(["method", "density", "retrain_epochs"])["test_accuracy"].median()
    got = got.set_index(["method", "density", "retrain_epochs"]).sort_index()
    pd.testing.assert_series_equal(got["test_accuracy"], medians, rtol=1e-5, check_index_type=False)
    assert sorted(" ".join(got["stage_ids"]).split()) == sorted(kept["stage_id"])
    assert page.get_log("browser") == []


# Looks


def brightness(page, selector, quality):
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    colour = page.execute_script(script, selector, quality)
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_system_and_can_be_switched(chrome, path, scheme):
    look(chrome, 1440, scheme)
    page = opened(chrome, path)
    for dark in (scheme == "dark", scheme != "dark"):
        paper, ink = (brightness(page, "body", name) for name in ("backgroundColor", "color"))
        letters = brightness(page, ".letters text", "fill")
        assert (paper < 50) == (ink > 200) == dark
        assert abs(letters - paper) > 80
        click(page, one(page, "#theme"))


@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1440, 2560])
def test_nothing_sticks_out_at_any_width(chrome, path, width):
    look(chrome, width, "light")
    page = opened(chrome, path)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    widths = page.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(svg => svg.clientWidth)"
    )
    assert len(widths) > 3 and min(widths) >= min(260, width - 40) and max(widths) <= width


def test_charts_follow_the_width_of_the_window(page):
    figure = one(page, "[data-chart=frontier] figure")
    look(page, 500, "light")
    resized = "return document.querySelector('figure svg').viewBox.baseVal.width"
    WebDriverWait(page, 5).until(lambda driver: driver.execute_script(resized) <= 480)
    assert not every(page, ".filters[open]")
    look(page, 1440, "light")
    WebDriverWait(page, 5).until(lambda driver: every(driver, ".filters[open]"))
    assert figure is not None


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="pdftotext isn't there")
def test_it_prints_every_section_on_light_paper(chrome, path, folder):
    look(chrome, 1440, "dark")
    page = opened(chrome, path)
    titles = [heading.text for heading in every(page, "h2")]
    printed = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    pdf = folder / "report.pdf"
    pdf.write_bytes(base64.b64decode(printed))
    text = subprocess.run(
        ["pdftotext", "-layout", str(pdf), "-"], capture_output=True, text=True, check=True
    ).stdout
    for title in titles:
        assert title in text
    assert "compression ratio" in text and "20.0×" in text
    for word in ("Download CSV", "Only lines with", "show more", "Shift-click"):
        assert word not in text
    assert 2 <= text.count("\f") <= 10
    dark_paper = page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert dark_paper == {} and brightness(page, "body", "backgroundColor") == 255


# A sweep under way


@pytest.fixture(scope="module")
def sweep(folder):
    ledger = Ledger(str(folder / "storage"))
    *done, last = sweep_stages()
    for stage in done:
        store(ledger, stage, stage.train_epochs, row)
    store(ledger, last, 2)
    stages = {stage.stage_id: [stage.train_epochs] for stage in sweep_stages()}
    ledger.write_sweep("quick", {"command": ["compare"], "stages": stages})
    return written(folder / "sweep.html", report_html(gather(ledger.uri)))


def test_learning_curves_and_progress_are_shown(chrome, sweep):
    look(chrome, 1440, "light")
    page = opened(chrome, sweep)
    assert "rows are there; 1 stage begun" in one(page, "#summary .warning").text
    titles = [caption.text for caption in every(page, "[data-chart=curves] figcaption")]
    # 2.00× is the first step of the iterative chains
    ratios = ("2.00×", "5.00×", "10.0×")
    assert titles == ["iterative", *(f"one-shot · {ratio}" for ratio in ratios)]
    # the dense network, and a line a method
    assert marks(page, "curves", ".line") == [2, 2, 3, 3]
    choose(page, "[data-chart=curves] select", "learning rate")
    assert marks(page, "curves", ".line") == [2, 2, 3, 3]
    assert page.get_log("browser") == []


def test_pointing_at_a_curve_tells_the_epoch(chrome, sweep):
    page = opened(chrome, sweep)
    chart = one(page, "[data-chart=curves] figure svg")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    time.sleep(0.2)
    page.execute_script("arguments[0].focus()", chart)
    ActionChains(page).send_keys(Keys.ARROW_LEFT).perform()  # the last
    told = one(page, "#tip").text
    # seed 0 has all three levels, 12 epochs after dense training; accuracy_at says 0.84
    assert "learning-rate rewinding" in told
    assert "84.00" in told and "12 after dense training, level 3" in told
