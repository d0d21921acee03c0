"""Make the pictures of `onecopy web` in the guide: programs share a pool, and Chromium shows it.

Usage: python tools/web_picture.py docs/pictures

It needs Chromium with its driver, and the extras `web` and `test-browser`. It writes web.webp (a
whole page) and web-phone.png (dark).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

SECONDS = 45  # until the charts show something
LIMIT = 60.0

START = """
import itertools, random, time
import numpy as np
import onecopy as oc
pool = oc.Pool("factory", size="128MiB")
"""
PROGRAMS = {
    "camera.py": """
frames, live = pool.frames("cam0", (480, 640, 3), "u1", count=24), pool.stream("live")
jobs = pool.queue("jobs", maxsize=64)
pool["calibration"] = np.ones((2000, 2000))
rows, columns = np.mgrid[0:480, 0:640]
for number in itertools.count():
    with frames.lend() as frame:
        frame[..., 0] = columns * 255 // 640
        frame[..., 1] = rows * 255 // 480
        x, y = 320 + 200 * np.cos(number / 30), 240 + 140 * np.sin(number / 20)
        frame[(columns - x) ** 2 + (rows - y) ** 2 < 60**2] = 250, 240, 40
        live.publish(frame)
        jobs.put({"id": number, "image": frame})
    time.sleep(random.uniform(0.01, 0.03))
""",
    "detector.py": """
jobs, results = pool.queue("jobs", maxsize=64), pool.queue("results", maxsize=1024)
depth = pool.stream("depth")
for job in jobs:
    with pool.lock("index"):
        depth.publish(job["image"][::4, ::4, 0].astype("f4"))
    results.put((job["id"], float(job["image"].mean())))
    time.sleep(random.uniform(0.005, 0.03))
""",
    "viewer.py": """
seen = []
for frame in pool.stream("live").subscribe():
    seen = [*seen[-4:], frame]
""",
    "recorder.py": """
for number, mean in pool.queue("results", maxsize=1024):
    time.sleep(0.01)
""",
    "logger.py": """
pool.event("stop").wait()
""",
}


def eventually(condition: Any, what: str) -> None:
    """Wait for something that the page shows."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain for {what}")
        time.sleep(0.05)


def browser() -> Any:
    """Start Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "google-chrome"
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    return webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))


def dress(driver: Any, width: int, height: int, theme: str) -> None:
    """Set the size of the page, and dark or light colours."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def take(driver: Any, url: str, folder: Path) -> None:
    """Take both pictures."""

    def text(place: str) -> str:
        found: str = driver.execute_script(
            "return document.querySelector(arguments[0]).innerText", place
        )
        return found

    dress(driver, 1280, 900, "light")
    driver.get(url)
    eventually(lambda: "cam0" in text("#legend"), "the memory")
    driver.execute_script("document.querySelector('#picture-body button.main').click()")
    shown = "return document.querySelectorAll('#picture img').length"
    eventually(lambda: driver.execute_script(shown) == 1, "a picture")
    driver.execute_script(
        "const place = document.querySelector('#picture-body select');"
        "place.value = [...place.options].find((each) => each.text === 'live').value;"
        "place.dispatchEvent(new Event('change'));"
    )
    time.sleep(SECONDS)
    height = driver.execute_script("return document.documentElement.scrollHeight")
    dress(driver, 1280, height, "light")
    time.sleep(3)  # the page draws its charts again
    whole = folder / "web.png"
    driver.save_screenshot(str(whole))
    Image.open(whole).save(folder / "web.webp", quality=80, method=6)
    whole.unlink()
    dress(driver, 390, 844, "dark")
    time.sleep(3)
    driver.execute_script("window.scrollTo(0, 0)")
    driver.save_screenshot(str(folder / "web-phone.png"))


def start(command: list[str], place: str) -> Any:
    """Start a program in the folder, which is the directory of its pools too."""
    return subprocess.Popen(
        command,
        cwd=place,
        env=dict(os.environ, ONECOPY_DIR=place),
        stdout=subprocess.PIPE,
        text=True,
    )


def main() -> int:
    """Write the pictures."""
    if len(sys.argv) != 2:
        sys.stderr.write(f"{__doc__}")
        return 2
    started: list[Any] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        driver = browser()
        try:
            for name, program in PROGRAMS.items():
                Path(place, name).write_text(START + program, encoding="utf-8")
                for _ in range(2 if name == "viewer.py" else 1):
                    command = [sys.executable, name]
                    started.append(start(command, place))
            command = [str(Path(sys.executable).with_name("onecopy")), "web", "factory"]
            deadline = time.monotonic() + LIMIT
            while not Path(place, "factory.pool").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            started.append(start(command, place))
            url = started[-1].stdout.readline().split()[1]
            take(driver, url, Path(sys.argv[1]))
            started[-1].send_signal(signal.SIGINT)
        finally:
            driver.quit()
            for each in started:
                each.kill()
                each.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
