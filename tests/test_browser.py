"""The page of `worldmodel play` in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from worldmodel.report import Report
from worldmodel.video import write_mp4

playwright = pytest.importorskip(
    "playwright.sync_api", reason="no Playwright: python -m pip install playwright"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The command itself, with the shipped checkpoint."""
    out = tmp_path_factory.mktemp("play")
    command = [sys.executable, "-m", "worldmodel", "play", "open=false", "port=0", f"out={out}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"http\S+", line):
            yield found[0]
            break
    else:
        pytest.fail("".join(lines))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as p:
        started = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(address: str, browser) -> Iterator:
    """The page, connected; it may not have written a word to the console in the end."""
    opened = browser.new_page(viewport={"width": 1200, "height": 860}, bypass_csp=True)
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(address)
    opened.wait_for_function("window.play.now && play.connected", timeout=30_000)
    yield opened
    opened.close()
    assert said == []


def test_a_report_sorts_tells_values_and_plays(browser, tmp_path: Path) -> None:
    film = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    write_mp4(tmp_path / "a.mp4", film, 10)
    report = Report("A report").table(["who", "share"], [["b", "0.5 [0.1, 0.9]"], ["a", "12"]])
    report.chart({"loss": ([0, 10, 20], [1.0, 5.0, 2.0])}, x_label="step")
    report.video(tmp_path / "a.mp4", "clip").write(tmp_path / "report.html")
    page, said = browser.new_page(bypass_csp=True), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"file://{tmp_path}/report.html")

    def column(i: int) -> list[str]:
        cells = f"[...document.querySelectorAll('td:nth-child({i})')]"
        return page.evaluate(f"{cells}.map(cell => cell.innerText)")

    page.click("th:nth-child(1)")
    assert column(1) == ["a", "b"]
    page.click("th:nth-child(2)")
    assert column(2) == ["0.5 [0.1, 0.9]", "12"]
    page.click("th:nth-child(2)")
    assert column(2) == ["12", "0.5 [0.1, 0.9]"]
    box = page.locator("svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    assert page.inner_text("#read").split("\n") == ["at 10", "loss: 5"]
    page.wait_for_function("document.querySelector('video').readyState >= 2", timeout=10_000)
    page.close()
    assert said == []


def start(page, seed: int) -> None:
    page.evaluate(f"begin({{ do: 'start', seed: {seed} }})")
    page.wait_for_function(f"play.step === 0 && play.now.seed === {seed}", timeout=30_000)


def gripper(page) -> dict[str, list[float]]:
    """Side -> position in m, from proprioception."""
    return {k: v[:3] for k, v in page.evaluate("play.now.gripper").items()}


@pytest.mark.parametrize(
    ("key", "axis", "sign"),
    [("ArrowRight", 1, 1), ("ArrowUp", 0, -1), ("q", 2, 1), ("e", 2, -1)],
)
def test_a_held_key_moves_the_gripper_in_both_worlds(page, key: str, axis: int, sign: int) -> None:
    start(page, 3)
    before = gripper(page)
    page.keyboard.down(key)
    page.wait_for_function("play.step >= 6", timeout=60_000)
    page.keyboard.up(key)
    after = gripper(page)
    for side in ("imagined", "real"):
        moved = [sign * (b - a) for a, b in zip(before[side], after[side], strict=True)]
        assert moved[axis] > 0.03, (side, moved)
        assert moved[axis] == max(map(abs, moved))
    page.keyboard.press("p")
    assert page.evaluate("play.running") is False


def test_from_a_key_to_the_picture_it_takes_little_more_than_the_model(
    page, record_property
) -> None:
    start(page, 4)
    page.select_option("#pace", "0")
    page.evaluate("""() => {
        play.latencies = []; play.takes = [];
        const shown = show;
        show = moment => {
            if (moment.model_ms) play.takes.push(moment.model_ms + moment.simulator_ms);
            return shown(moment);
        };
    }""")
    page.keyboard.down("ArrowRight")
    page.wait_for_function("play.latencies.length >= 25", timeout=60_000)
    page.keyboard.up("ArrowRight")
    page.evaluate("run(false)")
    latency = float(np.median(page.evaluate("play.latencies")))
    takes = page.evaluate("play.takes")
    record_property("ms from a key to the picture, median", round(latency, 1))
    print(f"{latency:.0f} ms from a key to the picture; both worlds {np.median(takes):.0f} ms")
    assert len(takes) >= 25
    assert latency < 1.5 * np.median(takes) + 60


def test_drivers_rewinding_saving_and_coming_back(page) -> None:
    start(page, 5)
    page.select_option("#pace", "0")
    page.select_option("#driver", "expert")
    page.wait_for_function("play.step >= 8", timeout=60_000)
    page.select_option("#driver", "policy")
    page.wait_for_function("play.step >= 12 && play.now.driver === 'policy'", timeout=60_000)
    page.click("#run")
    page.wait_for_function("!play.running")
    page.evaluate("rewind(4)")
    page.wait_for_function("play.step === 4", timeout=30_000)
    assert page.evaluate("play.past.map(row => row[0])") == [0, 1, 2, 3, 4]
    page.click("#forth")
    page.wait_for_function("play.step === 5", timeout=30_000)
    page.click("#save")
    page.wait_for_function("document.querySelector('#status').textContent.includes('Saved')")
    film = re.search(r"Saved (\S+\.mp4)", page.text_content("#status"))
    assert film is not None
    assert Path(film[1]).stat().st_size > 1000
    page.reload()  # a dropped connection: the game waits where it was
    page.wait_for_function("window.play.now && play.step === 5", timeout=30_000)
    assert page.evaluate("play.past.length") == 6


def test_the_page_holds_its_layout_and_is_drawn(page) -> None:
    start(page, 7)
    before = page.evaluate("document.querySelector('.strips').getBoundingClientRect().top")
    page.select_option("#pace", "0")
    page.keyboard.down("ArrowDown")
    page.wait_for_function("play.step >= 5", timeout=60_000)
    page.keyboard.up("ArrowDown")
    page.keyboard.press("p")
    after = page.evaluate("document.querySelector('.strips').getBoundingClientRect().top")
    assert abs(after - before) < 1
    colours = page.evaluate("""[...document.querySelectorAll('.views canvas')].map(canvas => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return new Set(data).size;
    })""")
    assert len(colours) == 4
    assert min(colours) > 20
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        ink, paper = page.evaluate(
            "['color', 'backgroundColor'].map(k => getComputedStyle(document.body)[k])"
        )
        light = [sum(map(int, re.findall(r"\d+", c)[:3])) for c in (ink, paper)]
        assert (light[0] > light[1]) == (scheme == "dark")
