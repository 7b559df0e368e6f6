"""What others recorded becomes a dataset of ours, number for number and frame for frame."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from recordings import (
    TWO,
    compare,
    read_independently,
    recording,
    write_aloha,
    write_frames,
    write_robomimic,
)

from worldmodel.check import check
from worldmodel.convert import convert
from worldmodel.convert_plan import ConvertConfig, scaled_name, scales
from worldmodel.dataset import Dataset
from worldmodel.errors import UserError
from worldmodel.takes import Take


@pytest.mark.parametrize("follows", [True, False])
def test_robomimic(tmp_path: Path, follows: bool) -> None:
    truth = [recording(k, 9 + k, TWO) for k in range(12)]  # demo_10 comes after demo_9
    file = write_robomimic(tmp_path / "image.hdf5", truth, follows)
    summary = convert(ConvertConfig(file), tmp_path / "out")
    assert summary["episodes"] == 12
    compare(tmp_path / "out", truth, ["front_image", "wrist_image"], lost=0 if follows else 1)
    spec = Dataset(tmp_path / "out").spec
    assert (spec.control_frequency, spec.tasks, spec.env) == (20.0, ("PickPlaceCan",), "")
    assert spec.proprio_names == tuple(f"robot0_eef_pos {i}" for i in range(3))
    for e in Dataset(tmp_path / "out").episodes:  # the last reward counts, whatever is left out
        assert (e.success, e.outcome, e.demonstration, e.known) == (True, "success", True, True)
    frames = pq.read_table(tmp_path / "out/data/chunk-000/file-000.parquet")
    exists = frames["next.exists"].to_numpy()
    assert frames["next.reward"].to_numpy()[exists].sum() == 12
    assert frames["next.terminated"].to_numpy()[exists].sum() == 12


@pytest.mark.parametrize("compress", [False, True])
def test_aloha(tmp_path: Path, compress: bool) -> None:
    truth = [recording(k, 8 + k, TWO, reach=2.5) for k in range(11)]
    folder = write_aloha(tmp_path / "aloha", truth, compress)
    with pytest.raises(UserError, match=r"add frequency=… .*ALOHA records at 50 Hz"):
        convert(ConvertConfig(folder), tmp_path / "out")
    summary = convert(ConvertConfig(folder, frequency=50, success="end"), tmp_path / "out")
    compare(tmp_path / "out", truth, ["front", "wrist"], lost=1, scale=2.5)
    spec = Dataset(tmp_path / "out").spec
    assert spec.action_names == tuple(f"action {i} [2.5]" for i in range(3))
    assert spec.proprio_names == tuple(f"qpos {i}" for i in range(4))
    about = json.loads((tmp_path / "out/meta/worldmodel.json").read_text())["collect"]
    assert about["action_scale"] == [2.5] * 3
    assert any("'action 0 [1]' by 2.5, 'action 1" in note for note in summary["notes"])
    assert any("swap_colours" in note for note in summary["notes"]) == compress
    assert all(e.success for e in Dataset(tmp_path / "out").episodes)


@pytest.mark.parametrize("kind", ["png", "mjpeg"])
def test_folders_of_pictures_with_csv(tmp_path: Path, kind: str) -> None:
    truth = [recording(k, 7 + k, TWO, reach=0.04) for k in range(3)]
    for k, e in enumerate(truth):
        write_frames(tmp_path / f"source/take {9 + k}", e, kind=kind)  # 9, 10, 11
    summary = convert(ConvertConfig(tmp_path / "source", task="push"), tmp_path / "out")
    compare(tmp_path / "out", truth, ["front", "wrist"], lost=0, scale=0.04)
    spec = Dataset(tmp_path / "out").spec
    assert spec.control_frequency == 10
    assert spec.proprio_names == ("x [m]", "y [m]")
    assert spec.action_names == ("dx [0.04 m]", "dy [0.04 m]", "grip [0.04]")
    assert spec.tasks == ("push",)
    assert [e.outcome for e in Dataset(tmp_path / "out").episodes] == ["success"] * 3
    assert summary["success_rate"] == 1


def test_films_without_actions_and_episodes_with_and_without(tmp_path: Path) -> None:
    from worldmodel.lerobot import write_video

    truth = [recording(k, 7, {"front": (32, 32)}) for k in range(3)]
    clips = tmp_path / "clips"
    for k, e in enumerate(truth):
        write_video(clips / f"clip_{k}.mp4", iter(e.pictures["front"]), 10.0)
    summary = convert(ConvertConfig(clips), tmp_path / "films")
    dataset = Dataset(tmp_path / "films")
    assert [(e.length, e.known, e.demonstration) for e in dataset.episodes] == [
        (7, False, False)
    ] * 3
    assert dataset.spec.cameras == ("camera",)
    assert (dataset.spec.P, dataset.spec.A, dataset.spec.control_frequency) == (1, 1, 10.0)
    assert (
        np.abs(dataset.stream("images")[:8, 0].astype(int) - truth[0].pictures["front"]).mean() < 3
    )
    assert any("3 of 3 episodes have no actions" in note for note in summary["notes"])
    assert check(tmp_path / "films").ok

    mixed = tmp_path / "mixed"
    write_frames(mixed / "0", truth[0])
    write_frames(mixed / "1", truth[1], actions=False)
    (mixed / "2").mkdir()
    shutil.copy(clips / "clip_2.mp4", mixed / "2/front.mp4")
    with pytest.raises(UserError, match=r"2 has none, 0 has \['x \[m\]', 'y \[m\]'\]"):
        convert(ConvertConfig(mixed), tmp_path / "out")
    shutil.rmtree(mixed / "2")
    convert(ConvertConfig(mixed, success="end", plans="success"), tmp_path / "out")
    known, silent = Dataset(tmp_path / "out").episodes
    assert (known.known, known.demonstration) == (True, True)
    assert (silent.known, silent.demonstration) == (False, False)
    assert check(tmp_path / "out").ok
    # statistics of actions are those of the actions that are known
    spec = Dataset(tmp_path / "out").spec
    assert np.allclose(spec.action_stats.mean, truth[0].action.mean(0), atol=1e-5)


# -- choices ---------------------------------------------------------------------------------------


def test_cameras_are_chosen_turned_and_brought_to_one_size(tmp_path: Path) -> None:
    sizes = {"front": (32, 48), "wrist": (64, 64), "top": (40, 40)}
    truth = [recording(0, 6, sizes)]
    file = write_robomimic(tmp_path / "x.hdf5", truth)
    with pytest.raises(UserError, match=r"32 x 48.*'top_image' has 40 x 40.*image_size=96"):
        convert(ConvertConfig(file), tmp_path / "out")
    chosen = ("wrist_image", "front_image")
    config = ConvertConfig(file, cameras=chosen, image_size=(32,), flip=("front_image",),
                           swap_colours=True, proprio=("robot0_joint_pos", "object"))  # fmt: skip
    convert(config, tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    assert dataset.spec.cameras == chosen
    assert dataset.spec.proprio_names == ("robot0_joint_pos 0", "robot0_joint_pos 1", "object")
    images = dataset.stream("images").astype(float)
    wrist = truth[0].pictures["wrist"][..., ::-1].reshape(7, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(images[:, 0] - wrist).mean() < 1.5
    front = truth[0].pictures["front"][:, ::-1, :, ::-1].astype(float)
    halves = front.reshape(7, 32, 16, 3, 3)  # 48 columns to 32: a pixel covers one and a half
    left = (halves[:, :, :, 0] + 0.5 * halves[:, :, :, 1]) / 1.5
    right = (0.5 * halves[:, :, :, 1] + halves[:, :, :, 2]) / 1.5
    assert np.abs(images[:, 1] - np.stack([left, right], 3).reshape(7, 32, 32, 3)).mean() < 1.5


def test_a_filter_key_and_a_number_of_episodes(tmp_path: Path) -> None:
    truth = [recording(k, 6 + k, TWO) for k in range(3)]
    file = write_robomimic(tmp_path / "x.hdf5", truth)
    convert(ConvertConfig(file, filter="train"), tmp_path / "train")
    assert [e.length for e in Dataset(tmp_path / "train").episodes] == [6, 8]
    convert(ConvertConfig(file, episodes=2), tmp_path / "two")
    assert [e.length for e in Dataset(tmp_path / "two").episodes] == [6, 7]
    with pytest.raises(UserError, match=r"has no 'trian'; did you mean 'train'"):
        convert(ConvertConfig(file, filter="trian"), tmp_path / "x")


def test_a_dataset_may_have_several_tasks(tmp_path: Path) -> None:
    (tmp_path / "libero").mkdir()
    for k, words in enumerate(("close the drawer", "open the drawer", "close the drawer")):
        write_robomimic(tmp_path / f"libero/task_{k}.hdf5", [recording(k, 6, TWO)], says=words)
    convert(ConvertConfig(tmp_path / "libero"), tmp_path / "out")
    assert Dataset(tmp_path / "out").spec.tasks == ("close the drawer", "open the drawer")
    stored = read_independently(tmp_path / "out")
    assert [e["row"]["tasks"] for e in stored] == [
        ["close the drawer"], ["open the drawer"], ["close the drawer"]
    ]  # fmt: skip
    assert [{f["task_index"] for f in e["frames"]} for e in stored] == [{0}, {1}, {0}]
    assert check(tmp_path / "out").ok
    for k, words in enumerate(("push\n", None)):
        folder = write_frames(tmp_path / f"source/{k}", recording(k, 6, TWO))
        if words:
            (folder / "task.txt").write_text(words)
    convert(ConvertConfig(tmp_path / "source"), tmp_path / "two")
    assert Dataset(tmp_path / "two").spec.tasks == ("push", "source")


def test_dense_rewards_say_nothing_of_success(tmp_path: Path) -> None:
    dense = np.linspace(0.1, 0.7, 6)
    file = write_robomimic(tmp_path / "x.hdf5", [recording(0, 6, TWO)], rewards=dense.tolist())
    summary = convert(ConvertConfig(file), tmp_path / "out")
    (e,) = Dataset(tmp_path / "out").episodes
    assert (e.success, e.outcome) == (False, "unknown")
    assert any("whether it succeeds is not told in 1 episodes" in n for n in summary["notes"])


def take(action: np.ndarray | None) -> Take:
    return Take("x", 3, {}, lambda camera: iter(()), np.zeros((4, 1)), action, np.zeros(3), None)


def test_actions_are_scaled_where_they_leave_the_range_or_hardly_move() -> None:
    action = np.array(
        [[0.5, -3.14159, 0.002, 0.0], [-1.0, 1.0, -0.0013, 0.0], [0.2, 2.0, 0.0, 0.0]]
    )
    scale = scales([take(action), take(None), take(-action / 2)])
    assert scale.tolist() == [1.0, 3.15, 0.002, 1.0]
    assert np.abs(action / scale).max() <= 1
    assert scales([take(None)]).tolist() == [1.0]
    assert scaled_name("dx [m]", 0.05) == "dx [0.05 m]"
    assert scaled_name("dx [0.1 m]", 2.0) == "dx [0.2 m]"
    assert scaled_name("grip [1]", 3.5) == "grip [3.5]"
    assert scaled_name("grip", 3.5) == "grip [3.5]"
    assert scaled_name("dx [m]", 1.0) == "dx [m]"
