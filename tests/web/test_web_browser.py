"""The page of `onecopy web` in Chromium: what it shows, names as text, no errors, two sizes.

It needs Chromium with its driver (Debian: ``apt install chromium chromium-driver``) and selenium
(``pip install 'onecopy[test-browser]'``). With ``ONECOPY_SCREENSHOTS=folder`` it keeps pictures.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from children import eventually, start

import onecopy as oc

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SCRIPT = Path(sys.executable).with_name("onecopy")
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture
def driver():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    service = shutil.which("chromedriver")
    if program is None or service is None:
        pytest.skip("there is no Chromium with its driver here")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(service))
    yield driver
    driver.quit()


@pytest.fixture
def url():
    with subprocess.Popen([SCRIPT, "web"], stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().split()[1]
        process.send_signal(signal.SIGINT)
        process.wait(60)


def text_of(driver, place):
    return driver.execute_script("return document.querySelector(arguments[0]).innerText", place)


def shows(driver, place, words):
    eventually(lambda: words in text_of(driver, place), f"{words!r} in {place}")


def choose(driver, name):
    script = """
        const place = document.getElementById("pools");
        const option = [...place.options].find((each) => each.text === arguments[0]);
        if (!option) return false;
        place.value = option.value;
        place.dispatchEvent(new Event("change"));
        return true;
    """
    eventually(lambda: driver.execute_script(script, name), f"pool {name!r} in the list")


def errors(driver):
    return [each for each in driver.get_log("browser") if each["level"] in {"SEVERE", "WARNING"}]


def dress(driver, size, theme):
    width, height = SIZES[size]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def works(name):
    """A member that publishes pictures, holds frames and waits."""
    import numpy as np

    pool = oc.Pool.open(name)
    live, jobs = pool.stream("live"), pool.queue("jobs", maxsize=8)
    picture = np.mgrid[0:480, 0:640][1].astype(np.uint8)
    frames = pool.frames("cam0", (480, 640, 3), count=4)
    held = [frames.acquire() for _ in range(3)]
    live.publish(picture)
    for number in range(5):
        jobs.put(number)
    with pool.lock("index"):
        pool.event("stop").wait()
    del held


@contextlib.contextmanager
def busy(name):
    with oc.Pool.create(name, size="64MiB") as pool:
        child = start("fork", works, name)
        with oc.observe(name) as observer:
            eventually(
                lambda: any(each.waits for each in observer.snapshot().processes),
                "the member to wait",
            )
        yield pool
        child.end()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_a_pool_is_shown(driver, url, size, theme):
    with busy("factory"), oc.Pool.create("other", size="4MiB"):
        dress(driver, size, theme)
        driver.get(url)
        choose(driver, "factory")
        shows(driver, "#queues", "jobs")
        shows(driver, "#streams", "live")
        shows(driver, "#frames", "1 of 4")
        shows(driver, "#locks", "index")
        shows(driver, "#processes", "event 'stop'")
        shows(driver, "#why-body", "event 'stop', which is not set")
        shows(driver, "#legend", "cam0")
        eventually(
            lambda: driver.execute_script("return document.querySelectorAll('canvas').length") == 2,
            "two charts",
        )
        assert "token" not in driver.current_url
        wide = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert driver.execute_script(wide)
        keep(driver, f"{size}-{theme}")
        driver.refresh()  # the tab keeps the token and the pool
        shows(driver, "#queues", "jobs")
        choose(driver, "other")
        shows(driver, "#flow-empty", "no queue and no stream")
        shows(driver, "#frames", "This pool has no frame pool.")
        assert errors(driver) == []


def test_the_map_of_the_memory(driver, url):
    with busy("factory") as pool:
        held = pool.zeros(26 << 20, "u1")  # more than the frames have
        driver.get(url)
        choose(driver, "factory")
        shows(driver, "#legend", "cam0")
        shows(driver, "#map-said", "Each part is 128.0 KiB")
        colours = """
            return [...document.getElementById("map").children].map((each) =>
                each.className || each.style.background)"""
        by_thing = driver.execute_script(colours)
        assert 256 < len(by_thing) <= 512
        assert "free" in by_thing
        assert len(set(by_thing)) >= 3  # the frames, what only this process holds, free
        driver.execute_script("document.getElementById('by-process').click()")
        by_process = driver.execute_script(colours)
        assert by_process != by_thing
        assert [each == "free" for each in by_process] == [each == "free" for each in by_thing]
        point = """
            const cell = document.getElementById("map").children[arguments[0]];
            cell.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));"""
        driver.execute_script(point, by_thing.index("free"))
        shows(driver, "#map-said", "free.")
        large = max(set(by_process) - {"free"}, key=by_process.count)
        driver.execute_script(point, by_process.index(large) + 2)
        shows(driver, "#map-said", f"kept by nothing; held by {os.getpid()}")
        assert errors(driver) == []
        del held


def keep(driver, name):
    folder = os.environ.get("ONECOPY_SCREENSHOTS")
    if folder:
        driver.save_screenshot(f"{folder}/{name}.png")


def test_hostile_names_are_text(driver, url):
    with oc.Pool.create("odd", size="16MiB") as pool:
        kept = [
            pool.queue(HOSTILE),
            pool.stream(HOSTILE),
            pool.lock(HOSTILE),
            pool.event("a\nb\x1b"),
        ]
        kept[2].acquire()
        pool[HOSTILE] = 1
        driver.get(url)
        for place in ("#queues", "#streams", "#locks", "#legend", "#picture-body select"):
            shows(driver, place, HOSTILE)
        shows(driver, "#locks", r"a\nb\x1b")
        assert driver.title == "odd – onecopy"  # noqa: RUF001 - the page's dash
        assert driver.execute_script("return document.querySelectorAll('td img').length") == 0
        assert errors(driver) == []
        kept[2].release()


def test_a_picture_after_joining(driver, url):
    with busy("factory") as pool:
        driver.get(url)
        shows(driver, "#picture-body", "Join the pool")
        assert pool.stats().processes == 2
        press = "document.querySelector('#picture-body button.main').click()"
        driver.execute_script(press)
        shows(driver, "#picture-body", "uint8, shape (480, 640)")
        size = """
            const image = document.querySelector("#picture-body img");
            return [image.naturalWidth, image.naturalHeight];
        """
        eventually(lambda: driver.execute_script(size) == [480, 360], "the picture")
        assert pool.stats().processes == 3
        keep(driver, "picture")
        assert text_of(driver, "#picture-body select") == "live\ncam0"
        choose = """
            const place = document.querySelector("#picture-body select");
            place.selectedIndex = 1;
            place.dispatchEvent(new Event("change"));
        """
        driver.execute_script(choose)  # a frame pool, of which a process holds frames
        shows(driver, "#picture-body", "perhaps half written: float64, shape (480, 640, 3)")
        alternative = "return document.querySelector('#picture-body img').alt"
        eventually(
            lambda: driver.execute_script(alternative) == "Newest picture of the frame pool cam0",
            "the picture of a frame",
        )
        driver.execute_script("document.querySelectorAll('#picture-body button')[1].click()")
        eventually(lambda: pool.stats().processes == 2, "the server to leave")
        assert errors(driver) == []


def test_a_pool_that_ends_and_a_server_that_ends(driver, url):
    with oc.Pool.create("brief", size="4MiB"):
        driver.get(url)
        shows(driver, "#processes", "alive")
    shows(driver, "#problem", "There is no pool")
    shows(driver, "#status", "Cannot be shown")
    with oc.Pool.create("brief", size="4MiB"):
        shows(driver, "#status", "Live")
        assert not driver.execute_script("return document.getElementById('problem').innerText")


def test_a_wrong_token_is_said(driver, url):
    driver.get(url.split("#", maxsplit=1)[0])
    shows(driver, "#problem", "open the URL that `onecopy web` printed")
    driver.get(url.split("=", maxsplit=1)[0] + "=wrong")
    shows(driver, "#problem", "The token is wrong")
    driver.get(url)
    shows(driver, "#problem", "There is no pool yet")


def test_the_keyboard_reaches_everything(driver, url):
    with busy("factory"):
        driver.get(url)
        shows(driver, "#queues", "jobs")
        script = """
            const bare = [...document.querySelectorAll("button, select, input")].filter((each) =>
                each.offsetParent && !each.labels?.length && !each.textContent.trim()
                && !each.getAttribute("aria-label"));
            return bare.map((each) => each.outerHTML);
        """
        assert driver.execute_script(script) == []  # each control has a name
        from selenium.webdriver.common.keys import Keys

        seen = set()
        for _ in range(12):
            driver.switch_to.active_element.send_keys(Keys.TAB)
            seen.add(
                driver.execute_script(
                    "const e = document.activeElement; return e.id || e.className || e.type"
                )
            )
        assert {"pools", "pause", "series", "main"} <= seen
