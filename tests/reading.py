"""Opens a report as its reader would: in a browser, which may not complain of anything."""

from __future__ import annotations

import shutil
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def read_report(file: Path) -> None:
    """Fails where the page says anything on the console, or its videos and charts are not there.

    Does nothing where there is no browser: the page's text is tested elsewhere.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return
    if CHROMIUM is None:
        return
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        said: list[str] = []
        for scheme in ("light", "dark"):
            page = browser.new_page(color_scheme=scheme, bypass_csp=True)
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.goto(f"file://{file}")
            ready = "[...document.querySelectorAll('video')].every(v => v.readyState >= 1)"
            page.wait_for_function(ready, timeout=20_000)
            assert page.locator("h1").inner_text()
            wide = "document.documentElement.scrollWidth <= window.innerWidth"
            assert page.evaluate(wide), "the page is wider than the window"
            for chart in page.locator("svg").all():
                box = chart.bounding_box()
                assert box is not None
                assert box["height"] > 40
        browser.close()
        assert said == []
