"""Progress in plain lines, and a metric log that survives kills."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from worldmodel.errors import UserError
from worldmodel.files import atomic, write_json
from worldmodel.log import MetricLog, Progress, duration, read_metrics


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_tell_count_rate_and_time_left():
    out = io.StringIO()
    with Progress("collect", 4, unit="episodes", every=0.0, stream=out) as bar:
        bar.advance(1, text="success 1.00")
        bar.advance(1)
    first, second, third, last = out.getvalue().splitlines()
    assert first == "collect: 4 episodes"
    assert second.startswith("collect 1/4 (25%)  ")
    assert "episodes/s" in second
    assert "left  success 1.00" in second
    assert third.endswith("success 1.00")
    assert last.startswith("collect 2/4 (50%)")


def test_plain_lines_keep_their_distance():
    out = io.StringIO()
    with Progress("train", 1000, every=60, stream=out) as bar:
        for _ in range(1000):
            bar.advance()
    assert len(out.getvalue().splitlines()) == 2


def test_a_run_that_goes_on_says_so_and_counts_its_own_rate():
    out = io.StringIO()
    with Progress("train", 10, done=9, stream=out) as bar:
        bar.advance()
    assert "going on from 9" in out.getvalue()
    assert "train 10/10 (100%)" in out.getvalue()


def test_a_terminal_gets_a_bar():
    out = Terminal()
    with Progress("demo", 2, stream=out) as bar:
        bar.advance(2, text="success 1.00")
    assert "demo" in out.getvalue()
    assert "2/2" in out.getvalue()


def test_durations():
    assert [duration(s) for s in (0, 75, 3725)] == ["0:00", "1:15", "1:02:05"]


def test_new_keys_become_columns(tmp_path: Path):
    log = MetricLog(tmp_path)
    log.write(1, {"loss": 2.0})
    log.write(2, {"loss": 1.0, "cosine": 0.5})
    log.write(3, {"loss": 0.5})
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "step,loss,cosine", "1,2.0,", "2,1.0,0.5", "3,0.5,",
    ]  # fmt: skip
    assert read_metrics(tmp_path)[1] == {"step": 2, "loss": 1.0, "cosine": 0.5}


def test_resuming_drops_what_came_after_the_checkpoint_and_a_half_written_line(tmp_path: Path):
    log = MetricLog(tmp_path)
    for step in (1, 2, 3):
        log.write(step, {"loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    log = MetricLog(tmp_path, resume_step=2)
    log.write(3, {"loss": 30.0})
    assert [row["loss"] for row in read_metrics(tmp_path)] == [1.0, 2.0, 30.0]
    assert (tmp_path / "metrics.csv").read_text().splitlines()[-1] == "3,30.0"
    MetricLog(tmp_path)
    assert read_metrics(tmp_path) == []


def test_tensorboard_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if it were missing
    with pytest.raises(UserError, match=r"pip install 'worldmodel\[log\]'"):
        MetricLog(tmp_path, tensorboard=True)


def test_nothing_is_left_of_a_file_whose_writing_failed(tmp_path: Path):
    target = tmp_path / "result.json"
    target.write_text(json.dumps({"old": 1}))
    try:
        with atomic(target) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")
    except OSError:
        pass
    assert json.loads(target.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_json_has_null_for_a_figure_that_there_is_not(tmp_path: Path):
    figures = {"mm": (1.5, float("nan")), "deep": [{"r": float("inf")}], "n": 3, "name": "é"}
    write_json(tmp_path / "result.json", figures)
    written = json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)
    assert written == {"mm": [1.5, None], "deep": [{"r": None}], "n": 3, "name": "é"}
