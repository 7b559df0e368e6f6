"""The pictures of the page in the README: python docs/screenshots.py

Starts `worldmodel play`, lets the model's policy drive for two seconds, and takes the page in light
and in dark. Needs Chromium and `python -m pip install 'worldmodel[play]' playwright`.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-m", "worldmodel", "play", "open=false", "port=0", "seed=7"]


def main() -> None:
    process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = next(found[0] for line in process.stdout if (found := re.search(r"http\S+", line)))
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 760}, bypass_csp=True)
        page.goto(address)
        page.wait_for_function("window.play.now")
        page.select_option("#driver", "policy")
        page.wait_for_function("play.step >= 18", timeout=120_000)
        page.click("#run")
        page.wait_for_function("!play.running")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.evaluate("strips()")
            page.screenshot(path=HERE / f"play-{scheme}.png")
        browser.close()
    process.terminate()
    process.wait()


if __name__ == "__main__":
    main()
