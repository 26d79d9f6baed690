"""The page of `lshfm report` in a real browser: nothing on its console, no request, tables sort, pictures are there."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import TINY, Run

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if not all(programs):
        pytest.skip("no chromium with its driver: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


@pytest.mark.slow
@pytest.mark.usefixtures("has_run")
def test_the_page_in_a_browser(run: Run, tmp_path: Path, browser: Any) -> None:
    run("mimic", *TINY[1:], "teacher=a", "student=resnet8", "loss=l2", "epochs=2", "name=m")
    run("train", *TINY, "name=alone", "epochs=1", "seed=1", "dataset.num_eval=64")
    run("report", "outputs", "out=r.html")
    browser.get((tmp_path / "r.html").as_uri())
    assert [line for line in browser.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []
    assert requests(browser) == []

    pictures = browser.execute_script(
        "return [...document.images].map(i => [i.complete, i.naturalWidth])"
        ".concat([...document.querySelectorAll('figure svg')].map(s => [true, s.getBoundingClientRect().height]))"
    )
    assert len(pictures) > 15
    assert all(done and size > 50 for done, size in pictures), pictures
    clipped = "return [...document.querySelectorAll('figure svg [clip-path]')].filter(e => !document.getElementById("
    assert browser.execute_script(f"{clipped}e.getAttribute('clip-path').slice(5, -1))).length") == 0
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))

    check_sorting(browser)
    check_themes(browser)
    for width in (390, 1600):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})  # fmt: skip
        root = "document.documentElement"
        assert browser.execute_script(f"return {root}.scrollWidth - {root}.clientWidth") == 0  # nothing sticks out
    assert requests(browser) == []


def requests(browser: Any) -> list[str]:
    """Addresses of all that the page has asked for, itself and what lies in it aside; not what the browser asks for."""
    told = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [each["params"] for each in told if each["method"] == "Network.requestWillBeSent"]
    asked = [each["request"]["url"] for each in sent if each["documentURL"].endswith("r.html")]
    return [url for url in asked if not url.startswith(("file:", "data:"))]


def check_sorting(browser: Any) -> None:
    """A heading's button turns the order of numbers round, by keyboard too; what has no value comes last."""
    from selenium.webdriver.common.keys import Keys

    table = browser.find_element("css selector", "#classes table")
    button = table.find_elements("css selector", "thead button")[1]
    read = "return [...arguments[0].tBodies[0].rows].map(r => parseFloat(r.cells[1].textContent))"
    button.send_keys(Keys.ENTER)
    down = browser.execute_script(read, table)
    button.send_keys(Keys.SPACE)
    up = browser.execute_script(read, table)
    known = [value for value in down if value is not None]
    assert len(known) > 3
    assert known == sorted(known, reverse=True)
    assert [value for value in up if value is not None] == sorted(known)
    assert [head.get_attribute("aria-sort") for head in table.find_elements("css selector", "thead th")][
        1
    ] == "ascending"


def check_themes(browser: Any) -> None:
    """The button changes the ground and the letters in drawings; both can be read on it."""
    ground = "return getComputedStyle(document.body).backgroundColor"
    letters = "return getComputedStyle(document.querySelector('figure svg text')).fill"
    light = browser.execute_script(ground), browser.execute_script(letters)
    browser.find_element("id", "theme").click()
    dark = browser.execute_script(ground), browser.execute_script(letters)
    assert light[0] != dark[0]
    assert light[1] != dark[1]
    for paper, ink in (light, dark):
        assert contrast(paper, ink) > 4.5


def contrast(first: str, second: str) -> float:
    """As WCAG 2 defines it, of two rgb(...)."""

    shares = []
    for colour in (first, second):
        parts = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        shares.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(shares) / min(shares)
