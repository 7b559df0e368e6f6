"""Sources that don't fit, are damaged, or of which a conversion was stopped half-way."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
from recordings import TWO, compare, recording, write_frames, write_robomimic

from worldmodel import convert as module
from worldmodel.check import check
from worldmodel.convert import convert
from worldmodel.convert_plan import ConvertConfig
from worldmodel.dataset import Dataset
from worldmodel.errors import UserError


def spoil(path: Path, key: str, change) -> None:
    with h5py.File(path, "r+") as file:
        values = change(file[key][:])
        del file[key]
        file[key] = values


def put_nan(values: np.ndarray) -> np.ndarray:
    values[3, 1] = np.nan
    return values


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("actions", put_nan, r"demo_1, 'actions': 1 values are not finite, the first at step 3"),
        ("obs/robot0_eef_pos", put_nan, "demo_1, 'robot0_eef_pos': 1 values are not finite"),
        ("obs/wrist_image", lambda v: v[:-2], "demo_1: streams of different lengths: .*actions 8"),
        ("actions", lambda v: v[:, :2], "demo_1 has 2 dimensions, x.hdf5 demo_0 has 3"),
        ("obs/wrist_image", lambda v: v.astype(float), "dimensions of proprio|cameras: x.hdf5"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, key: str, change, words: str) -> None:
    file = write_robomimic(tmp_path / "x.hdf5", [recording(k, 8, TWO) for k in range(2)], False)
    spoil(file, f"data/demo_1/{key}", change)
    with pytest.raises(UserError, match=words):
        convert(ConvertConfig(file), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_that_are_not_there_and_rates_that_differ(tmp_path: Path) -> None:
    file = write_robomimic(tmp_path / "x.hdf5", [recording(0, 8, TWO)])
    for config, words in (
        (ConvertConfig(file, cameras=("frnt_image",)), "did you mean 'front_image'"),
        (ConvertConfig(file, proprio=("gripper",)), "proprio: .* has no 'gripper'"),
        (ConvertConfig(file, frequency=10), "got 10 Hz, the source has 20 Hz"),
        (ConvertConfig(file, flip=("top",)), "flip: there is no camera 'top'"),
        (ConvertConfig(file, format="aloha"), "expected observations/images"),
        (ConvertConfig(file, format="frames"), "format=frames wants a folder"),
        (ConvertConfig(tmp_path / "nowhere"), "there is no file or folder"),
    ):
        with pytest.raises(UserError, match=words):
            convert(config, tmp_path / "out")
    other = write_robomimic(tmp_path / "y.hdf5", [recording(0, 8, TWO)], frequency=None)
    with pytest.raises(UserError, match="the source does not say"):
        convert(ConvertConfig(other), tmp_path / "out")
    with pytest.raises(UserError, match=r"got 12.5 Hz, expected a whole number"):
        convert(ConvertConfig(other, frequency=12.5), tmp_path / "out")
    (tmp_path / "z.hdf5").write_bytes(file.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"z\.hdf5 is no HDF5 file, or truncated"):
        convert(ConvertConfig(tmp_path / "z.hdf5"), tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="found no pictures and no films"):
        convert(ConvertConfig(tmp_path / "empty"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("\n3,0.3,", "\n3,0.36,", r"timestamps leave the grid of 10.00 Hz, the first in line 5"),
        ("x [m]", "", "the first line names the columns"),
        ("\n3,", "\n3,0,", r"line 5 has \d+ cells"),
        ("\n3,", "\nthree,", "line 5, column 'frame': got 'three', expected a number"),
        ("\n7,0.7,", "\n7,,", "column 'timestamp' is empty or not finite in 1 rows"),
    ],
)
def test_a_csv_that_is_wrong(tmp_path: Path, old: str, new: str, words: str) -> None:
    folder = write_frames(tmp_path / "source/0", recording(0, 8, TWO))
    file = folder / "numbers.csv"
    text = file.read_text().replace("\r\n", "\n")
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=words):
        convert(ConvertConfig(tmp_path / "source"), tmp_path / "out")


def test_an_action_may_be_empty_in_the_last_row_alone(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "source/0", recording(0, 8, TWO))
    lines = (folder / "numbers.csv").read_text().split("\n")
    cells = lines[4].split(",")
    cells[4] = ""
    lines[4] = ",".join(cells)
    (folder / "numbers.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"column 'action_dx \[m\]' is empty .* line 5"):
        convert(ConvertConfig(tmp_path / "source"), tmp_path / "out")


def test_it_goes_on_after_a_stop_and_nobody_takes_half_of_it_for_a_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = [recording(k, 6, TWO) for k in range(5)]
    file, out = write_robomimic(tmp_path / "x.hdf5", truth), tmp_path / "out"
    monkeypatch.setattr(module, "SHARD_EPISODES", 2)
    whole = ConvertConfig(file)
    written = []

    def stopped(*args):
        written.append(args[2])
        if len(written) == 2:
            raise KeyboardInterrupt
        return write(*args)

    write = module.write_shard
    monkeypatch.setattr(module, "write_shard", stopped)
    with pytest.raises(KeyboardInterrupt):
        convert(whole, out)
    with pytest.raises(UserError, match="run the same `worldmodel data convert` command again"):
        Dataset(out)
    assert "worldmodel data convert" in check(out).text()
    with pytest.raises(UserError, match="holds the dataset of something else"):
        convert(ConvertConfig(file, image_size=(16,)), out)
    convert(whole, out)
    assert written == [0, 1, 1, 2]
    compare(out, truth, ["front_image", "wrist_image"], lost=0)
    convert(whole, tmp_path / "at once")
    for name in ("data/chunk-000/file-000.parquet", "meta/stats.json"):
        assert (out / name).read_bytes() == (tmp_path / "at once" / name).read_bytes()
    again = []
    convert(whole, out, lambda n, text: again.append((n, text)))
    assert again == [(5, "already converted")]


def test_what_is_there_already_is_not_overwritten(tmp_path: Path, toys: Path) -> None:
    copy = Path(shutil.copytree(toys, tmp_path / "copy"))
    file = write_robomimic(tmp_path / "x.hdf5", [recording(0, 6, TWO)])
    with pytest.raises(UserError, match="already holds a dataset"):
        convert(ConvertConfig(file), copy)


def test_a_film_of_a_varying_rate_is_told(tmp_path: Path) -> None:
    frames = recording(0, 12, {"front": (32, 32)}).pictures["front"]
    with av.open(str(tmp_path / "clip.mp4"), "w") as film:
        stream = film.add_stream("libx264", rate=10)
        stream.width = stream.height = 32
        for i, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = i if i < 6 else i + 2
            film.mux(stream.encode(picture))
        film.mux(stream.encode())
    words = r"leave the grid of 10\.00 Hz, the first in picture 6: 0\.3000 s after"
    with pytest.raises(UserError, match=words):
        convert(ConvertConfig(tmp_path), tmp_path / "out")


def test_damaged_files_are_told_and_nothing_crashes(tmp_path: Path) -> None:
    file = write_robomimic(tmp_path / "x.hdf5", [recording(k, 6, TWO) for k in range(2)])
    whole, rng, told = file.read_bytes(), np.random.default_rng(0), 0
    for k in range(25):
        broken = bytearray(whole)
        for at in rng.integers(0, len(whole) // (1 if k % 2 else 8), 40):
            broken[at] ^= 1 << rng.integers(8)
        file.write_bytes(bytes(broken))
        try:
            convert(ConvertConfig(file), tmp_path / f"out{k}")
        except UserError:  # any other exception fails the test
            told += 1
            assert not (tmp_path / f"out{k}/meta/info.json").exists()
    assert told >= 5
