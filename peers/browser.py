"""Chromium without a window, driven over WebDriver, and watched for complaints."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from peers.contract import ROOT
from peers.network import wait_until
from peers.tools import require

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--hide-scrollbars",
)
WIDE, PHONE = (1280, 900), (360, 740)  # pixels
SECONDS = 30.0
AXE = ROOT / "peers" / "npm" / "node_modules" / "axe-core" / "axe.min.js"


class Browser:
    """One browser with a profile of its own."""

    def __init__(self, folder: Path, shots: Path, *arguments: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = require("chromium", "chromium")
        for argument in (*ARGUMENTS, *arguments, f"--user-data-dir={folder / 'profile'}"):
            options.add_argument(argument)
        # The CA is made for the test: what the certificates say is tested elsewhere.
        options.accept_insecure_certs = True
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = require("chromedriver", "chromium-driver")
        env = {**os.environ, "HOME": str(folder)}
        service = webdriver.ChromeService(driver, env=env)
        self.driver = webdriver.Chrome(options=options, service=service)
        self._shots = shots
        self.size(WIDE)

    def size(self, pixels: tuple[int, int]) -> None:
        """What the page has, exactly: a window would have a least width."""
        width, height = pixels
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def open(self, host: str, path: str = "/", password: str | None = None) -> None:
        """
        Go to a page.

        @param password: Log in first; later addresses do without it.
        """
        if password is not None:
            self.driver.get(f"https://admin:{password}@{host}/static/icon.svg")
        self.driver.get(f"https://{host}{path}")

    def find(self, css: str, seconds: float = SECONDS) -> WebElement:
        """One element, when it is there."""
        wait_until(lambda: bool(self.all(css)), seconds, css)
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        """All that are there now."""
        return list(self.driver.find_elements(By.CSS_SELECTOR, css))

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script of the test's."""
        return self.driver.execute_script(script, *arguments)

    def text(self, css: str) -> str:
        """What an element says, or nothing while there is none."""
        found = self.run("return document.querySelector(arguments[0])?.textContent", css)
        return str(found or "")

    def wait_for(self, css: str, part: str, seconds: float = SECONDS) -> float:
        """Wait until an element says something; how long it took."""
        return wait_until(lambda: part in self.text(css), seconds, f"{part} in {css}")

    # by keyboard

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, css: str, most: int = 60) -> None:
        """Press the tabulator until an element has the focus."""
        for _ in range(most):
            self.press(Keys.TAB)
            if self.run("return document.activeElement.matches(arguments[0])", css):
                return
        raise AssertionError(f"{css} is not reached by keyboard")

    def fill(self, css: str, text: str) -> None:
        """Go to a field by keyboard, and type over what it holds."""
        self.tab_to(css)
        select = webdriver.ActionChains(self.driver)
        select.key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL).perform()
        self.press(Keys.DELETE)
        if text:
            self.press(text)

    # what is looked at

    def shot(self, name: str) -> None:
        """Write a picture of the whole page."""
        measure = "return [document.documentElement.clientWidth,document.body.scrollHeight]"
        width, height = self.run(measure)
        self.size((width, min(max(height, 400), 2_400)))
        self._shots.mkdir(parents=True, exist_ok=True)
        picture = Image.open(BytesIO(self.driver.get_screenshot_as_png()))
        # 64 colours are enough for letters, and keep the repository small.
        picture.convert("RGB").quantize(64).save(self._shots / f"{name}.png", optimize=True)
        self.size(WIDE if width > PHONE[0] else PHONE)

    def prefer(self, **features: str) -> None:
        """What the person likes, such as C{color_scheme="dark"}; nothing else."""
        wanted = [
            {"name": f"{'' if name == 'forced_colors' else 'prefers-'}{name}".replace("_", "-"),
             "value": value}
            for name, value in features.items()
        ]  # fmt: skip
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})

    def violations(self) -> list[str]:
        """What axe-core finds wrong with the page as it is now, of any impact."""
        source = AXE.read_text()
        self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": source})
        script = """
            const done = arguments[0];
            axe.run(document, {resultTypes: ["violations"]}).then(({violations}) => done(
                violations.map(({id, impact, nodes}) =>
                    `${id} (${impact}): ${nodes.map(node => node.html)}`)
            ), (error) => done([String(error)]));
        """
        found: list[str] = self.driver.execute_async_script(script)
        return found

    def assert_accessible(self, name: str) -> None:
        """Nothing is wrong with it, light and dark, on a phone and on a desk."""
        for scheme in ("dark", "light"):
            self.prefer(color_scheme=scheme)
            for size in (PHONE, WIDE):
                self.size(size)
                # Colours are judged when they have stopped changing.
                still = "return document.getAnimations().every(a => a.playState !== 'running'"
                still += " || a.effect.getComputedTiming().iterations === Infinity)"
                wait_until(lambda: bool(self.run(still)), SECONDS, "stillness")  # noqa: B023
                wrong = self.violations()
                assert not wrong, f"{name}, {scheme}, {size}: {wrong}"
                assert not self.scrolls_sideways(), (name, scheme, size)

    def scrolls_sideways(self) -> bool:
        """Whether the page is wider than what shows it."""
        return bool(
            self.run(
                "const e = document.documentElement; return e.scrollWidth > e.clientWidth"
                " || [...document.querySelectorAll('body *')].some(x => !x.matches('.skip, .away')"
                " && x.getBoundingClientRect().right > e.clientWidth + 1"
                " && getComputedStyle(x).position !== 'absolute')"
            )
        )

    def complaints(self) -> list[str]:
        """What the console says since it was asked last: errors, and what the policy stopped."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def unexpected(self, *statuses: int) -> list[str]:
        """The same without answers of these statuses, which a test wanted."""
        wanted = tuple(f"status of {status}" for status in statuses)
        return [one for one in self.complaints() if not any(part in one for part in wanted)]


def shots_folder() -> Path:
    """Where pictures go: below C{build}, or where C{CMS_SCREENSHOTS} says."""
    named = os.environ.get("CMS_SCREENSHOTS")
    return Path(named).resolve() if named else ROOT / "build" / "screenshots"


@contextmanager
def browsing(folder: Path, *arguments: str) -> Iterator[Browser]:
    """A browser, which is ended with all its processes."""
    browser = Browser(folder, shots_folder(), *arguments)
    try:
        yield browser
    finally:
        browser.driver.quit()
