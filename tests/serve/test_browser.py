"""Pages in headless Chromium, on a phone and on a desk: nothing is wider than the window, no script fails, and the model
answers a click.

It needs chromium, its driver and the package selenium, which CI does not install; without them this file is skipped.
"""

import contextlib
import shutil
import threading
import time

import pytest
import uvicorn
from report_study import SIZES, fill, fill_images
from serving import FAMILIES, LIMITS, fresh_run
from tiny_workdir import image_workdir
from underway_study import begin

import scaling
from scaling import report
from scaling.serve.app import make_app
from scaling.serve.live_app import make_live_app
from scaling.study.watching import Watcher

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")),
                                                   reason="there is no chromium with a driver")]
WIDTHS = (390, 1280)


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@contextlib.contextmanager
def served(app):
    """The address of an app that a thread serves."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def until(ready, seconds=60):
    """What `ready` gives, once it is something."""
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.05)
    return found


def look(browser, url, width, ready="return document.readyState === 'complete'"):
    """Opens a page at a width and checks that it fits and that nothing failed."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600})
    browser.get(url)
    until(lambda: browser.execute_script(ready))
    fits(browser, width)


def fits(browser, width):
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    wide = browser.execute_script("""return [...document.querySelectorAll("body *")].filter(each => {
        for (let box = each.parentElement; box; box = box.parentElement)
            if (getComputedStyle(box).overflowX !== "visible") return false;
        const {left, right} = each.getBoundingClientRect();
        return right > innerWidth + 1 && right - left > 0 && !each.closest("svg");
    }).map(each => each.outerHTML.slice(0, 120))""")
    assert not wide
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("make", [fill, fill_images])
def test_a_report_fits(browser, make, width, tmp_path):
    make(tmp_path)
    look(browser, report.write(tmp_path).absolute().as_uri(), width)
    assert browser.execute_script("return document.querySelectorAll('svg').length") > 3


@pytest.mark.parametrize("width", WIDTHS)
def test_the_live_page_of_a_sweep_fits(browser, width, tmp_path):
    begin(tmp_path, finished=lambda run: run["params_non_embedding"] < SIZES[1])
    with served(make_live_app(Watcher(tmp_path, wait=True), seconds=1e6)) as url:
        look(browser, url, width)
        assert "under way" in browser.title or "under way" in browser.find_element("tag name", "body").text


@pytest.mark.parametrize("width", WIDTHS)
def test_the_model_answers_a_click(browser, width):
    run = fresh_run(FAMILIES["transformer"])
    with served(make_app(run, LIMITS)) as url:
        look(browser, url, width, f"return document.title.includes('{run.fingerprint}')")
        browser.find_element("id", "prompt").send_keys("def ")
        for name, value in (("max_tokens", 12), ("seed", 7), ("temperature", 0.9)):
            browser.execute_script(f"document.getElementById('{name}').value = {value}")
        browser.find_element("id", "go").click()
        [text] = run.generate(["def "], tokens=12, temperature=0.9, seed=7)
        until(lambda: not browser.find_element("id", "go").get_attribute("disabled"))
        assert browser.execute_script("return document.getElementById('out').textContent").endswith(text)
        fits(browser, width)


def test_images_are_drawn_on_a_click(browser, tmp_path):
    with served(make_app(scaling.restore(image_workdir(tmp_path)), LIMITS)) as url:
        look(browser, url, WIDTHS[0], "return document.getElementById('go').textContent === 'Draw'")
        browser.find_element("id", "prompt").send_keys("A")
        browser.execute_script("document.getElementById('n').value = 3")
        browser.find_element("id", "go").click()
        until(lambda: len(browser.find_elements("css selector", "#out img")) == 3)
        assert browser.execute_script("return [...document.querySelectorAll('#out img')].every(x => x.complete)")
        fits(browser, WIDTHS[0])
