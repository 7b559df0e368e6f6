"""docs/grips.py: which moments it takes for grips; a demonstration's can is held inside."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_tables import script

from worldmodel.cli import main
from worldmodel.errors import UserError


def told(closed: list[int], opening: float) -> SimpleNamespace:
    """A dataset of two episodes, the first of three open steps."""
    action = np.append(np.full(4, -1.0), np.where(closed, 1.0, -1.0))
    streams = {
        "action": np.append(action, -1.0)[:, None],
        "proprio": np.full((len(action) + 1, 1), opening),
    }
    return SimpleNamespace(
        path="data/told",
        spec=SimpleNamespace(proprio_names=("gripper_opening [m]",)),
        episodes=[
            SimpleNamespace(start=0, length=3),
            SimpleNamespace(start=4, length=len(closed)),
        ],
        stream=streams.__getitem__,
    )


@pytest.mark.parametrize(
    ("closed", "frames"),
    [
        ([0] * 4 + [1] * 8, [8]),
        ([0] * 4 + [1] * 8 + [0] * 4 + [1] * 9, [8, 20]),
        ([0] * 4 + [1] * 7 + [0] * 4 + [1] * 8, [19]),  # the first opens again too early
        ([0] * 4 + [1] * 8 + [0] * 3 + [1] * 8, [8]),  # the second was open for too short a time
        ([0] * 3 + [1] * 8, []),
    ],
)
def test_a_grip_follows_open_steps_and_lasts(
    closed: list[int], frames: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    grips = script("grips", monkeypatch)
    for opening, holds in ((0.05, True), (0.001, False)):
        dataset = told(closed, opening)
        if not frames:
            with pytest.raises(UserError, match="smaller --before"):
                grips.find(dataset, before=3)
            continue
        found = grips.find(dataset, before=3)
        assert found.frame.tolist() == frames
        assert found.holds.tolist() == [holds] * len(frames)


def test_what_a_demonstration_holds_is_held_inside(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grips, data = script("grips", monkeypatch), tmp_path / "data"
    main(["collect", "env=pick_can", "env.pose=upright", "episodes=3", "workers=1", "burst=0",
          "action_noise=0", "seed=1000003", f"out={data}"])  # fmt: skip
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["grips.py", "--data", str(data), "--before", "3"])
    grips.main()
    *_, line = capsys.readouterr().out.splitlines()
    _, name, before, held, empty, off, _, _ = line.split("|")
    assert (name.strip(), before.strip()) == ("pick_can_world", "3")
    assert held.strip().startswith("3 of 3")
    assert empty.strip().startswith("0 of 0")
    assert float(off.split()[0]) < 20.0
