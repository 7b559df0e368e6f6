"""What is broken on purpose is found, named and survived."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from worldmodel.check import Report, check
from worldmodel.dataset import Dataset
from worldmodel.errors import RunError, UserError

DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-001.mp4"


@pytest.fixture
def copy(toys: Path, tmp_path: Path) -> Path:
    """A dataset that may be damaged."""
    folder = tmp_path / "toys"
    shutil.copytree(toys, folder, ignore=shutil.ignore_patterns("cache"))
    return folder


def serious(report: Report) -> str:
    return "\n".join(str(p) for p in report.problems if p.serious)


def edit(file: Path, column: str, change) -> None:
    """Change one column's values, given and returned as a list."""
    table = pq.read_table(file)
    values = pa.array(change(table[column].to_pylist()), table.schema.field(column).type)
    table = table.set_column(table.column_names.index(column), column, values)
    pq.write_table(table, file)


def put(index: int, value):
    def change(values: list) -> list:
        values[index] = value
        return values

    return change


def test_a_sound_dataset_has_no_errors_and_a_summary(toys: Path) -> None:
    report = check(toys)
    assert report.ok, report.text()
    assert report.summary["episodes"] == 8
    assert "0 errors" in report.text()


def test_a_folder_that_is_none_and_one_that_is_not_finished(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(UserError, match="there is no dataset folder"):
        check(tmp_path / "nowhere")
    (copy / "meta/info.json").unlink()
    assert "the collection was interrupted" in serious(check(copy))


def test_numbers_out_of_order_are_found_with_their_place(copy: Path) -> None:
    edit(copy / DATA, "action", put(3, [0.0, np.nan, 0.0]))
    edit(copy / DATA, "action.executed", put(5, [3.0, 0.0, 0.0]))
    edit(copy / DATA, "timestamp", lambda t: [2 * v for v in t])
    found = serious(check(copy))
    assert "not finite" in found
    assert "dy [0.1 m]" in found
    assert "leaves [-1, 1]" in found
    assert "timestamps of episode 0 leave the 10 Hz grid" in found


def test_files_that_do_not_fit_each_other(copy: Path) -> None:
    edit(copy / EPISODES, "length", put(0, 5))
    assert "expected episode 0" in serious(check(copy))


@pytest.mark.parametrize(("success", "word"), [(True, "succeeds: "), (False, "fails: ")])
def test_episodes_that_all_end_alike_are_warned_of(copy: Path, success: bool, word: str) -> None:
    for file in copy.glob("meta/episodes/*/*.parquet"):
        edit(file, "success", lambda values: [success] * len(values))
    report = check(copy)
    assert f"every one of 8 episodes {word}" in report.text()
    assert "every one" not in serious(report)
    edit(copy / EPISODES, "success", put(0, not success))
    assert "every one" not in check(copy).text()


def test_statistics_of_other_data(copy: Path) -> None:
    file = copy / "meta/worldmodel.json"
    about = json.loads(file.read_text())
    about["spec"]["action_stats"]["mean"][0] = 9.0
    file.write_text(json.dumps(about))
    assert "mean of 'action' is" in serious(check(copy))


def test_a_missing_video_and_a_video_of_too_few_frames(copy: Path) -> None:
    other = copy / "videos/observation.images.front/chunk-000/file-002.mp4"
    shutil.copy(other, copy / VIDEO)  # two episodes where three are needed
    other.unlink()
    found = serious(check(copy))
    assert VIDEO in found
    assert "file-002.mp4" in found


@pytest.mark.parametrize("name", [DATA, EPISODES, VIDEO, "meta/info.json", "meta/worldmodel.json"])
def test_any_damage_is_told_and_nothing_crashes(copy: Path, name: str) -> None:
    file, rng = copy / name, np.random.default_rng(0)
    whole = file.read_bytes()
    damaged = [whole[: int(len(whole) * share)] for share in (0.0, 0.3, 0.9)]
    for _ in range(4):
        flipped = bytearray(whole)
        for at in rng.integers(0, len(whole), 5):
            flipped[at] ^= 0xFF
        damaged.append(bytes(flipped))
    for i, content in enumerate(damaged):
        file.write_bytes(content)
        report = check(copy)
        if i < 3:
            assert not report.ok
            assert Path(name).name in report.text()
        try:
            Dataset(copy)
            opens = True
        except (UserError, RunError):  # any other exception fails the test
            opens = False
        assert i >= 3 or not opens  # a flipped byte may leave a readable file, a cut does not
        shutil.rmtree(copy / "cache", ignore_errors=True)
