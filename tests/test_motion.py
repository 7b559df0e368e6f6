"""docs/motion.py: only what is known of the robot's own motion changes, and for the better."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from test_tables import script

from worldmodel import checkpoint
from worldmodel.shipped import find_checkpoint


def test_the_robots_motion_is_trained_on_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    motion = script("motion", monkeypatch)
    spoilt = checkpoint.load(find_checkpoint("pick_can_tiny"))
    spoilt.model.motion[-1].bias[0] += 0.3  # it always goes too far
    checkpoint.save(tmp_path / "spoilt", spoilt.model, spoilt.about)
    words = ["motion.py", "--checkpoint", str(tmp_path / "spoilt"), "--out", str(tmp_path / "out")]
    words += ["--episodes", "8", "--tests", "24", "--updates", "40"]
    monkeypatch.setattr(sys, "argv", words)
    motion.main()
    result = json.loads((tmp_path / "out/result.json").read_text(encoding="utf-8"))
    for kind in ("demonstrations", "mistakes", "explorations"):
        before, after = (result[when][kind]["whole"][0] for when in ("before", "after"))
        assert after < 0.7 * before
    learned = checkpoint.load(tmp_path / "out/checkpoint")
    assert learned.about["motion"] == {"episodes": 8, "updates": 40}
    for name, value in learned.model.state_dict().items():
        same = torch.equal(value, spoilt.model.state_dict()[name])
        assert same is not name.startswith("motion."), name

    capsys.readouterr()
    motion.main()  # what was acted out is not acted out again
    assert "from before" in capsys.readouterr().err
    assert json.loads((tmp_path / "out/result.json").read_text(encoding="utf-8")) == result
