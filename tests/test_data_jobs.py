"""From a recording of someone else's to a trained model, by the words of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from recordings import recording, write_frames, write_robomimic
from test_train import MODEL

from worldmodel import checkpoint, cli
from worldmodel.convert import convert
from worldmodel.convert_plan import ConvertConfig
from worldmodel.dataset import Dataset
from worldmodel.log import read_metrics
from worldmodel.objective import ObjectiveConfig
from worldmodel.optim import OptimConfig
from worldmodel.train import TrainConfig, train
from worldmodel.train_report import write_report


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_convert_check_and_view(folder: Path, capsys: pytest.CaptureFixture) -> None:
    truth = [recording(k, 9, {"front": (48, 64)}) for k in range(3)]
    write_robomimic(folder / "my can.hdf5", truth)
    words = ["data", "convert", "source='my can.hdf5'", "image_size=32", "task='lift the can'"]
    assert cli.main(words) == 0
    out = folder / "data/my_can"
    result = json.loads((out / "result.json").read_text())
    assert (result["format"], result["episodes"], result["steps"]) == ("robomimic", 3, 27)
    assert "camera 'front_image': 48 x 64 became 32 x 32" in result["notes"]
    page = (out / "report.html").read_text()
    assert "48 x 64 became 32 x 32" in page
    assert page.count("<video") == 3
    about = json.loads((out / "run.json").read_text())
    assert about["command"][1:3] == ["data", "convert"]
    assert "image_size" in (out / "config.yaml").read_text()
    said = capsys.readouterr().out
    assert "note: camera 'front_image': 48 x 64 became 32 x 32" in said
    assert "dataset: data/my_can, 3 episodes, 27 steps" in said
    assert cli.main(words) == 0  # again: nothing to do

    assert cli.main(["data", "check", "data=data/my_can"]) == 0
    assert cli.main(["data", "view", "data=data/my_can", "show=1", "out=page"]) == 0
    assert (folder / "page/report.html").read_text().count("<video") == 1
    found = json.loads((folder / "page/result.json").read_text())
    assert found["tasks"] == ["lift the can"]
    assert found["streams"]["action"]["max"][0] == pytest.approx(0.9)


def test_what_is_wrong_ends_with_two_and_leaves_no_dataset(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    write_robomimic(folder / "can.hdf5", [recording(0, 9, {"front": (32, 32)})])
    assert cli.main(["data", "convert", "source=can.hdf5", "cameras=[frnt_image]"]) == 2
    assert "did you mean 'front_image'" in capsys.readouterr().err
    assert not (folder / "data/can/meta").exists()
    assert cli.main(["data", "convert", "source=can.hdf5", "image_size=8"]) == 2
    assert "expected 96 or [h, w]" in capsys.readouterr().err
    assert cli.main(["data", "convert", "source=can.hdf5"]) == 0  # in the same folder
    assert cli.main(["data", "view", "data=nowhere"]) == 2


@pytest.mark.parametrize("silent", [(1, 2), (0, 1, 2, 3)])
def test_a_dataset_with_videos_without_actions_trains(folder: Path, silent: tuple) -> None:
    for k in range(4):
        e = recording(k, 12, {"front": (16, 16), "wrist": (16, 16)})
        write_frames(folder / f"source/{k}", e, actions=k not in silent)
    convert(ConvertConfig(folder / "source"), folder / "out")
    dataset = Dataset(folder / "out")
    windows, held_out = dataset.windows(3, MODEL.chunk, range(3)), dataset.windows(3, 4, [3])
    config = TrainConfig(
        steps=8, batch=6, segment=3, log_every=1, validate_every=4, validate_windows=6, threads=1,
        precision="fp32", device="cpu", rehearse=0.5, rehearse_after=0.4, rehearse_steps=5,
        robot_samples=8,
    )  # fmt: skip
    result = train(windows, held_out, dataset.spec, MODEL, ObjectiveConfig(),
                   OptimConfig(warmup=2), config, folder / "run")  # fmt: skip
    rows = read_metrics(folder / "run")
    assert result.steps == len(rows) == 8
    for row in rows:
        assert all(np.isfinite(v) for v in row.values())
        assert row["loss_next"] > 0
    learned = len(silent) < 4
    assert any(row["loss_plan"] > 0 for row in rows) == learned
    assert any(row["loss_inverse"] > 0 for row in rows) == learned
    assert all("loss_motion" in row for row in rows) == learned
    trained = checkpoint.load(folder / "run/checkpoint").model
    assert all(torch.isfinite(p).all() for p in trained.parameters())
    write_report(folder / "run", trained, held_out, "mixed")
    assert "Held-out frames" in (folder / "run/report.html").read_text()
