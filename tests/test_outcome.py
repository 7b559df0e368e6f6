"""docs/outcome.py: only what is read off the outcome token changes, and it is then true."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_tables import script

from worldmodel import checkpoint
from worldmodel.errors import UserError
from worldmodel.leaves import OUTCOMES, READINGS
from worldmodel.shipped import find_checkpoint


def test_what_is_fitted_is_true_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = script("outcome", monkeypatch)
    g = torch.Generator().manual_seed(0)
    episodes, length = 200, 25
    feature = 3.0 + 0.1 * torch.randn(episodes * length, 8, generator=g)
    weight = torch.tensor([9.0, -5.0, 0, 0, 4.0, 0, 0, 0])
    chance = ((feature - 3.0) @ weight - 2.0).sigmoid()
    drawn = [torch.rand(len(feature), n, generator=g) for n in (2, len(outcome.EVENTS) - 2)]
    event = torch.cat(drawn, dim=1) < chance[:, None]
    seeds, lengths = list(range(outcome.SEED, outcome.SEED + episodes)), [length] * episodes
    read = torch.full((len(feature), len(READINGS)), 0.3)
    seen = outcome.Seen(feature.half(), read, event, seeds, lengths, ["success"] * episodes)
    layer = torch.nn.Linear(8, len(OUTCOMES)).requires_grad_(False)
    model = SimpleNamespace(read_outcome=layer, doubt=torch.zeros(9))
    old = layer.weight.clone()
    outcome.fit(model, {"imagined": seen}, ["strayed"])
    assert torch.equal(layer.weight, old)
    assert (outcome.reread(model, seen)[:, -1] - chance).abs().mean() < 0.02
    model.doubt.zero_()
    outcome.fit(model, {"imagined": seen}, ["success", "terminated"])
    assert not model.doubt.any()
    for row, name in enumerate(OUTCOMES):
        assert torch.equal(layer.weight[row], old[row]) is (name not in outcome.EVENTS)
    again = outcome.reread(model, seen)
    assert (again[:, 0] - chance).abs().mean() < 0.02
    real = seen._replace(event=event * torch.tensor([True, True, False]))
    assert torch.equal(outcome.reread(model, real)[:, -1], read[:, -1])
    again[:, -1] = read[:, -1]
    before, after = outcome.figures(seen, read), outcome.figures(seen, again)
    assert after["cross_entropy"] < 0.8 * before["cross_entropy"]
    assert after["calibration_error"] < 0.03 < 0.1 < before["calibration_error"]
    assert after["granted"]["success"][1] == episodes // 5


def test_a_checkpoint_reads_outcomes_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = script("outcome", monkeypatch)
    monkeypatch.setattr(outcome, "PART", 25)
    monkeypatch.setattr(outcome, "STEPS", 3)
    words = ["outcome.py", "--checkpoint", "pick_can_tiny", "--out", str(tmp_path)]
    words += ["--episodes", "25", "--imagined", "25"]
    monkeypatch.setattr(sys, "argv", words)
    outcome.main()
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    for way in ("real", "imagined"):
        before, after = (result[when][way]["cross_entropy"] for when in ("before", "after"))
        assert after < max(before, 1e-3)  # nothing succeeds in three steps
    old = checkpoint.load(find_checkpoint("pick_can_tiny")).model.state_dict()
    for name, value in checkpoint.load(tmp_path / "checkpoint").model.state_dict().items():
        fitted = name == "doubt" or name.startswith("read_outcome.")
        assert torch.equal(value, old[name]) is not fitted, name

    capsys.readouterr()
    outcome.main()  # what was seen is not seen again
    assert "from before" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*words, "--checkpoint", "pick_can_world"])
    with pytest.raises(UserError, match="something else"):
        outcome.main()
