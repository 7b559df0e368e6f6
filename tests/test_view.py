"""The page about a dataset shows what is in it, whoever wrote it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import encoded

from worldmodel.browse import frames_of, open_library, pictures, ranges
from worldmodel.chart import histogram
from worldmodel.check import check
from worldmodel.convert import convert
from worldmodel.convert_plan import ConvertConfig
from worldmodel.dataset import Dataset
from worldmodel.errors import UserError
from worldmodel.pictures import decode, read_picture, resize
from worldmodel.view import ViewConfig, view

LENGTHS = (7, 5, 9)


def scene(episode: int, n: int) -> np.ndarray:
    """A picture that tells episode and frame by its colours."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24], picture[24:] = 40 + 60 * episode, 30 + 20 * n
    return picture


def foreign(root: Path, state: np.ndarray | None = None) -> Path:
    """A dataset as lerobot's own recorder lays it out: several files of each kind, names in a dict,
    half the colour resolution, one camera as pictures in the tables, and nothing of ours."""
    actions = np.random.default_rng(0).normal(size=(sum(LENGTHS), 2)).astype(np.float32) * 40
    state = actions * 2 if state is None else state
    start, rows = 0, []
    for e, n in enumerate(LENGTHS):
        file = e // 2  # two episodes in the first file, one in the second
        here = slice(start, start + n)
        rows.append({
            "episode_index": e, "tasks": [f"task {file}"], "length": n,
            "data/chunk_index": 0, "data/file_index": file,
            "dataset_from_index": start, "dataset_to_index": start + n,
            "videos/observation.images.top/chunk_index": 0,
            "videos/observation.images.top/file_index": file,
            "videos/observation.images.top/from_timestamp": LENGTHS[0] / 5 if e == 1 else 0.0,
            "videos/observation.images.top/to_timestamp": 0.0,
            "stats/action/mean": [0.0, 0.0],
            "frames": {
                "action": actions[here].tolist(), "observation.state": state[here].tolist(),
                "matrix": [[[1.0, 2.0], [3.0, 4.0]]] * n, "words": ["go"] * n,
                "observation.image": [
                    {"bytes": encoded(scene(e, i), "png"), "path": None} for i in range(n)
                ],
                "timestamp": [i / 5 for i in range(n)], "frame_index": list(range(n)),
                "episode_index": [e] * n, "index": list(range(start, start + n)),
                "task_index": [file] * n,
            },
        })  # fmt: skip
        start += n
    for file, part in enumerate((rows[:2], rows[2:])):
        columns = {k: [v for r in part for v in r["frames"][k]] for k in part[0]["frames"]}
        path = root / f"data/chunk-000/file-{file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        path = root / f"videos/observation.images.top/chunk-000/file-{file:03d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as film:
            stream = film.add_stream("libx264", rate=5)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for r in part:
                for i in range(r["length"]):
                    picture = scene(r["episode_index"], i)
                    film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            film.mux(stream.encode())
        path = root / f"meta/episodes/chunk-000/file-{file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([{k: v for k, v in r.items() if k != "frames"}
                                             for r in part]), path)  # fmt: skip
    pq.write_table(
        pa.table({"task_index": [0, 1], "task": ["task 0", "task 1"]}), root / "meta/tasks.parquet"
    )
    info = {
        "codebase_version": "v3.0", "robot_type": "so101", "fps": 5, "total_episodes": 3,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {
            "observation.images.top": {"dtype": "video", "shape": [48, 64, 3], "names": None},
            "observation.image": {"dtype": "image", "shape": [48, 64, 3], "names": None},
            "action": {"dtype": "float32", "shape": [2], "names": {"motors": ["pan", "lift"]}},
            "observation.state": {"dtype": "float32", "shape": [2], "names": ["pan", "lift"]},
            "matrix": {"dtype": "float32", "shape": [2, 2], "names": None},
            "words": {"dtype": "string", "shape": [1], "names": None},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        },
    }  # fmt: skip
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


def test_pictures_and_numbers_of_a_foreign_dataset(tmp_path: Path) -> None:
    library = open_library(foreign(tmp_path / "set"))
    assert [row["length"] for row in library.rows] == list(LENGTHS)
    for row in library.rows:
        e, n = row["episode_index"], row["length"]
        truth = np.stack([scene(e, i) for i in range(n)])
        stored = np.stack([*pictures(library, row, "observation.image")])
        assert np.array_equal(stored, truth)
        filmed = np.stack([*pictures(library, row, "observation.images.top")])
        assert filmed.shape == truth.shape
        assert np.abs(filmed.astype(int) - truth).mean() < 6  # the next frame is 20 away
        frames = frames_of(library, row, ["action", "words", "frame_index"])
        assert frames.keys() == {"action", "frame_index"}
        assert frames["frame_index"][:, 0].tolist() == list(range(n))


def test_statistics_are_those_of_all_frames_and_what_is_not_finite_is_counted(tmp_path) -> None:
    state = np.random.default_rng(1).normal(loc=1e4, size=(sum(LENGTHS), 2))
    state[3, 1] = np.nan
    found = ranges(open_library(foreign(tmp_path / "set", state)))
    good = np.delete(state, 3, axis=0)
    r = found["observation.state"]
    assert (r.broken, r.count) == (1, len(good))
    for got, want in ((r.low, good.min(0)), (r.high, good.max(0)), (r.mean, good.mean(0)),
                      (r.std, good.std(0))):  # fmt: skip
        assert np.allclose(got, want, rtol=1e-9)
    assert found["matrix"].mean.tolist() == [1, 2, 3, 4]
    assert "words" not in found


def videos_in(page: str) -> list[np.ndarray]:
    found = []
    for data in re.findall(r"data:video/mp4;base64,([^\"]+)", page):
        with av.open(io.BytesIO(base64.b64decode(data))) as film:
            found.append(np.stack([f.to_ndarray(format="rgb24") for f in film.decode(video=0)]))
    return found


def test_the_page_is_whole_and_says_what_is_there(tmp_path: Path) -> None:
    result = view(foreign(tmp_path / "set"), ViewConfig(show=2, seconds=1.2), tmp_path / "page")
    page = (tmp_path / "page/report.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)  # nothing is fetched
    assert (result["episodes"], result["frames"], result["fps"]) == (3, 21, 5.0)
    assert result["streams"]["action"]["dimensions"] == 2
    films = videos_in(page)
    assert len(films) == 4  # episodes 0 and 2, two cameras each
    assert all(len(f) == 6 for f in films)
    assert abs(float(films[3][0, :100].mean()) - 160) < 5  # the upper half of episode 2
    for word in ("so101", "task 0", "task 1", ">pan<", ">lift<", "6 of 7 frames", "2 x 2"):
        assert word in page, word
    assert page.count("<polyline") == 8  # two dimensions of two streams, twice


def test_ours_with_success_and_without_actions(toys: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(toys, tmp_path / "copy"))
    file = copy / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    i = table.column_names.index("actions_known")
    silent = pa.array([False] + [True] * 7)
    pq.write_table(table.set_column(i, "actions_known", silent), file)
    view(copy, ViewConfig(show=1), tmp_path / "page", notes=["look at <this>"])
    page = (tmp_path / "page/report.html").read_text()
    assert "The actions of this episode are not known." in page
    assert "<b>100.0 %</b><span>success</span>" in page
    assert "<b>1</b><span>without actions</span>" in page
    assert "look at &lt;this&gt;" in page
    assert "dx [0.1 m]" in page


def test_what_is_no_dataset_or_broken_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no dataset folder"):
        view(tmp_path / "nowhere", ViewConfig(), tmp_path)
    root = foreign(tmp_path / "set")
    film = root / "videos/observation.images.top/chunk-000/file-001.mp4"
    whole = film.read_bytes()
    film.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"file-001\.mp4 is truncated or corrupt|has \d pictures"):
        view(root, ViewConfig(), tmp_path)
    film.write_bytes(whole)
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps({**info, "codebase_version": "v2.1"}))
    with pytest.raises(UserError, match=r"LeRobotDataset v2\.1, expected v3\.0"):
        view(root, ViewConfig(), tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_histogram_counts_every_value_once() -> None:
    values = [1.0, 1.1, 1.2, 5.0, 9.0, 9.0, float("nan")]
    svg = histogram(values, x_label="s", y_label="<n>")
    counts = [int(n) for n in re.findall(r"<title>[^<]*: (\d+)</title>", svg)]
    assert sum(counts) == 6
    assert counts[0] == 3
    assert counts[-1] == 2
    assert "&lt;n&gt;" in svg
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" fill', svg)]
    assert max(heights) == heights[0]
    assert "rect" in histogram([4.0, 4.0])
    assert "No values" in histogram([])


# -- pictures --------------------------------------------------------------------------------------


def test_resizing_takes_the_mean_of_what_a_pixel_covers() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)
    small = picture.reshape(4, 3, 5, 4, 3).astype(float).mean((1, 3))
    assert np.abs(resize(picture, (4, 5)) - small).max() <= 0.51
    assert np.array_equal(resize(picture, (24, 40)), picture.repeat(2, 0).repeat(2, 1))
    assert resize(picture, (12, 20)) is picture
    odd = resize(picture, (7, 9))
    assert abs(odd.mean() - picture.mean()) < 1


def test_black_white_and_colours_survive_decoding(tmp_path: Path) -> None:
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:16, :24], picture[:16, 24:], picture[16:, :24] = 255, (220, 40, 30), (20, 60, 200)
    assert np.array_equal(decode(encoded(picture, "png"), "x"), picture)
    seen = decode(encoded(picture) + b"\0" * 9, "x").astype(int)
    assert np.abs(seen - picture)[[4, 4, 28, 28], [4, 40, 4, 40]].max() <= 3
    with pytest.raises(UserError, match="x: got bytes b'nope'"):
        decode(b"nope", "x")
    (tmp_path / "x.png").write_bytes(encoded(picture, "png")[:60])
    with pytest.raises(UserError, match=r"x\.png is truncated or corrupt"):
        read_picture(tmp_path / "x.png")


# -- as a source ----------------------------------------------------------------------------------


def test_a_foreign_dataset_becomes_ours(tmp_path: Path) -> None:
    root = foreign(tmp_path / "set")
    library = open_library(root)
    convert(ConvertConfig(root, cameras=("top", "observation.image")), tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    assert [e.length for e in dataset.episodes] == [n - 1 for n in LENGTHS]
    spec = dataset.spec
    assert (spec.control_frequency, spec.tasks) == (5.0, ("task 0", "task 1"))
    assert spec.proprio_names == ("pan", "lift")
    scale = [float(re.fullmatch(r"(?:pan|lift) \[([\d.]+)\]", n)[1]) for n in spec.action_names]
    for row, e in zip(library.rows, dataset.episodes, strict=True):
        true = frames_of(library, row, ["action", "observation.state"])
        stored = dataset.stream("action")[e.start : e.start + e.length] * scale
        assert np.allclose(stored, true["action"][:-1], rtol=1e-5)
        state = dataset.stream("proprio")[e.start : e.start + e.length + 1]
        assert np.allclose(state, true["observation.state"], rtol=1e-6)
        truth = np.stack([scene(e.index, i) for i in range(e.length + 1)])[:, None]
        images = dataset.stream("images")[e.start : e.start + e.length + 1]
        assert np.abs(images.astype(int) - truth).mean() < 5
    assert check(tmp_path / "out").ok


def test_ours_converted_again_keeps_its_numbers(toys, tmp_path: Path) -> None:
    convert(ConvertConfig(toys), tmp_path / "out")
    first, second = Dataset(toys), Dataset(tmp_path / "out")
    assert [e.length for e in second.episodes] == [e.length for e in first.episodes]
    assert np.array_equal(first.stream("proprio"), second.stream("proprio"))
    assert np.array_equal(first.stream("label"), second.stream("label"))
    assert [e.success for e in first.episodes] == [e.success for e in second.episodes]
