"""What is wrong with a dataset, in plain words: file, what was found, what to do about it.

Nothing that is broken stops the check: every part is read by itself, and what cannot be read is a
finding like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from worldmodel import lerobot
from worldmodel.errors import UserError
from worldmodel.spec import DataSpec, FeatureStats

AGAIN = "collect or copy that file again"
SHORT = 4  # steps; an episode below that holds next to nothing to learn from
FROZEN = 8  # identical frames in a row, while proprio moves, that are worth a word
BLACK, FLAT = 2.0, 1.0  # mean and standard deviation of a picture, of 255
#: a column of the data -> the spec's names of its dimensions, and what a dimension is called
VECTORS = {"observation.state": "proprio_names", "action": "action_names"}
OnProgress = Callable[[int, str], None]  # (videos more, what was looked at)


@dataclass(frozen=True)
class Problem:
    """One finding; ``serious`` ones make a dataset unfit for training, the others want a look."""

    file: str  # within the dataset
    what: str  # got, expected
    repair: str
    serious: bool = True

    def __str__(self) -> str:
        return f"{'ERROR' if self.serious else 'note '} {self.file}: {self.what}; {self.repair}"


@dataclass(frozen=True)
class Report:
    path: Path
    problems: tuple[Problem, ...]
    summary: dict[str, Any]

    @property
    def ok(self) -> bool:
        return not any(p.serious for p in self.problems)

    def text(self) -> str:
        """The findings, the serious ones first, then the figures."""
        found = sorted(self.problems, key=lambda p: not p.serious)
        serious = sum(p.serious for p in found)
        verdict = f"{self.path}: {serious} errors, {len(found) - serious} notes"
        lines = [f"  {key:<18} {value}" for key, value in self.summary.items()]
        return "\n".join([verdict, *(f"  {p}" for p in found), *lines])


@dataclass
class _Data:
    """What could be read so far; None where it could not."""

    root: Path
    info: dict[str, Any] | None = None
    spec: DataSpec | None = None
    rows: list[dict[str, Any]] | None = None
    frames: pa.Table | None = None


def check(path: str | Path, on_progress: OnProgress | None = None) -> Report:
    """Look at every file of the dataset in ``path``; UserError only if there is no such folder."""
    root = Path(path)
    if not root.is_dir():
        raise UserError(f"there is no dataset folder '{path}'; make one with `worldmodel collect`")
    data, problems = _Data(root), []
    if not (root / lerobot.INFO).exists() and (root / "collect.json").exists():
        problems.append(Problem(
            str(lerobot.INFO), "missing: the collection was interrupted",
            "run the same `worldmodel collect` command again, it goes on",
        ))  # fmt: skip
        return Report(root, tuple(problems), {})
    parts: list[tuple[Path, Callable[[_Data], Iterator[Problem]]]] = [
        (lerobot.INFO, _info), (lerobot.SPEC, _spec), (lerobot.TASKS, _tasks),
        (lerobot.EPISODES, _episodes), (Path("data"), _frames), (Path("data"), _values),
        (lerobot.SPEC, _statistics), (lerobot.STATS, _stats_file),
    ]  # fmt: skip
    for file, part in parts:
        problems += _guarded(file, part, data)
    for file in _videos(data):
        problems += _guarded(Path(file), lambda d, name=file: _video(d, name), data)
        if on_progress:
            on_progress(1, file)
    return Report(root, tuple(problems), _summary(data))


def _guarded(file: Path, part: Callable[[_Data], Iterator[Problem]], data: _Data) -> list[Problem]:
    """The findings of one part. A flipped byte can put any value anywhere, so any error is one."""
    found: list[Problem] = []
    try:
        found.extend(part(data))
    except UserError as error:
        found.append(Problem(_relative(str(error), data.root, file), str(error), AGAIN))
    except Exception as error:
        what = f"its content makes no sense ({type(error).__name__}: {error})"
        found.append(Problem(str(file), what, AGAIN))
    return found


def _relative(message: str, root: Path, otherwise: Path) -> str:
    """The file that a message begins with, within the dataset."""
    first = message.split(" ", 1)[0].rstrip(":")
    return str(Path(first).relative_to(root)) if first.startswith(f"{root}/") else str(otherwise)


# -- meta -----------------------------------------------------------------------------------------


def _info(data: _Data) -> Iterator[Problem]:
    info = lerobot.read_json(data.root / lerobot.INFO)
    if info.get("codebase_version") != lerobot.VERSION:
        yield Problem(
            str(lerobot.INFO),
            f"version {info.get('codebase_version')}, expected {lerobot.VERSION}",
            "convert it with lerobot's own converter",
        )  # fmt: skip
    fps = info.get("fps")
    if not isinstance(fps, int | float) or not 0 < fps < 10_000:
        yield Problem(str(lerobot.INFO), f"fps is {fps!r}, expected a positive number", AGAIN)
        return
    for key in ("data_path", "video_path"):
        str(info[key]).format(video_key="", chunk_index=0, file_index=0)
    data.info = info


def _spec(data: _Data) -> Iterator[Problem]:
    about = lerobot.read_json(data.root / lerobot.SPEC)
    if "spec" not in about:
        yield Problem(str(lerobot.SPEC), "has no 'spec'", AGAIN)
        return
    data.spec = DataSpec.from_json(about["spec"])
    fps = data.info["fps"] if data.info else None
    if fps is not None and abs(fps - data.spec.control_frequency) > 1e-6:
        yield Problem(
            str(lerobot.INFO), f"{fps} frames/s, the env ran at {data.spec.control_frequency} Hz",
            "frames and actions would drift apart: collect again with the right frequency",
        )  # fmt: skip


def _tasks(data: _Data) -> Iterator[Problem]:
    table = lerobot.read_table(data.root / lerobot.TASKS)
    if data.spec is not None and len(table) != len(data.spec.tasks):
        yield Problem(
            str(lerobot.TASKS), f"{len(table)} tasks, expected {len(data.spec.tasks)}", AGAIN
        )


def _episodes(data: _Data) -> Iterator[Problem]:
    file, rows = str(lerobot.EPISODES), lerobot.read_table(data.root / lerobot.EPISODES).to_pylist()
    if not rows:
        yield Problem(file, "no episodes", "collect again")
        return
    start = 0
    for i, row in enumerate(rows):
        place = row["dataset_from_index"], row["dataset_to_index"]
        if row["episode_index"] != i or place != (start, start + row["length"]):
            yield Problem(
                file,
                f"row {i} is episode {row['episode_index']}, frames {place[0]} to {place[1]}; "
                f"expected episode {i}, frames {start} to {start + row['length']}", AGAIN,
            )  # fmt: skip
            return
        start += row["length"]
    data.rows = rows
    for key, got in (("total_episodes", len(rows)), ("total_frames", start)):
        if data.info is not None and data.info.get(key) != got:
            yield Problem(
                str(lerobot.INFO), f"{key} is {data.info.get(key)}, the episodes give {got}", AGAIN
            )
    short = [r["episode_index"] for r in rows if r["length"] - 1 < SHORT]
    if short:
        yield Problem(
            file, f"{len(short)} episodes have fewer than {SHORT} steps: {_some(short)}",
            "look at how they end; windows longer than that leave them out", serious=False,
        )  # fmt: skip


# -- numbers --------------------------------------------------------------------------------------


def _frames(data: _Data) -> Iterator[Problem]:
    files = sorted(f for f in (data.root / "data").rglob("*.parquet") if f.name[0] != ".")
    if data.rows is not None and data.info is not None:
        expected = {
            data.root / data.info["data_path"].format(
                chunk_index=r["data/chunk_index"], file_index=r["data/file_index"]
            )
            for r in data.rows
        }  # fmt: skip
        for file in sorted(expected - set(files)):
            yield Problem(str(file.relative_to(data.root)), "missing", AGAIN)
    tables = [lerobot.read_table(file) for file in files]
    if not tables:
        return
    frames = pa.concat_tables(tables)
    wanted = sum(r["length"] for r in data.rows) if data.rows is not None else len(frames)
    if len(frames) != wanted:
        yield Problem("data", f"{len(frames)} frames, the episodes have {wanted}", AGAIN)
        return
    missing = {"observation.state", "timestamp", *lerobot.STEPS} - set(frames.column_names)
    if missing:
        yield Problem("data", f"columns {sorted(missing)} are missing", "collect again")
        return
    data.frames = frames


def _values(data: _Data) -> Iterator[Problem]:
    if data.frames is None or data.spec is None or data.rows is None or data.info is None:
        return
    acting = np.ones(len(data.frames), bool)
    acting[[r["dataset_to_index"] - 1 for r in data.rows]] = False
    for column, attribute in (*VECTORS.items(), ("action.executed", "action_names")):
        names, x = getattr(data.spec, attribute), _matrix(data.frames, column)
        if x.shape[1] != len(names):
            yield Problem("data", f"'{column}' has {x.shape[1]} dimensions, the spec names "
                          f"{len(names)}", "collect again")  # fmt: skip
            continue
        bad = np.argwhere(~np.isfinite(x))
        if len(bad):
            where = f"{_where(data.rows, bad[0][0])}, dimension '{names[bad[0][1]]}'"
            what = f"'{column}' has {len(bad)} values that are not finite, the first in {where}"
            yield Problem("data", what, "drop that episode or collect again")
            continue
        if column != "observation.state":
            outside = np.abs(x).max(1) > 1 + 1e-6
            if outside.any():
                row = int(np.flatnonzero(outside)[0])
                far = f"{np.abs(x[row]).max():.3g} in {_where(data.rows, row)}"
                what = f"'{column}' leaves [-1, 1] in {int(outside.sum())} frames, as by {far}"
                yield Problem("data", what, "scale the actions to [-1, 1]")
            yield from _saturated(column, names, x[acting])
        for name in (n for n, s in zip(names, x.std(0), strict=True) if s < 1e-6):
            what, repair = f"'{column}': '{name}' never changes", "fine if nothing moves it"
            yield Problem("data", what, f"{repair}, else look at the sensor", serious=False)
    step = data.frames["timestamp"].to_numpy().astype(np.float64)
    fps = data.info["fps"]
    for i, row in enumerate(data.rows):
        got = step[row["dataset_from_index"] : row["dataset_to_index"]]
        off = np.abs(got - np.arange(len(got)) / fps) > 0.2 / fps
        if off.any():
            n = int(np.flatnonzero(off)[0])
            what = f"timestamps of episode {i} leave the {fps} Hz grid at frame {n}: "
            what += f"{got[n]:.4f} s, expected {n / fps:.4f} s"
            yield Problem("data", what, "frames were lost, or fps is wrong: collect again")
            break
    apart = np.abs(_matrix(data.frames, "action.executed") - _matrix(data.frames, "action"))[acting]
    if (apart.max(1) > 0.5).mean() > 0.5:
        yield Problem("data", "executed and demonstrated actions differ by more than 0.5 in "
                      f"{100 * (apart.max(1) > 0.5).mean():.0f} % of the steps",
                      "collect with less action_noise", serious=False)  # fmt: skip


def _saturated(column: str, names: tuple[str, ...], x: np.ndarray) -> Iterator[Problem]:
    for name, values in zip(names, x.T, strict=True):
        share = max((values >= 0.999).mean(), (values <= -0.999).mean())
        if share > 0.9 and values.std() > 1e-6:
            what = f"'{column}': '{name}' is at its limit in {100 * share:.0f} % of the steps"
            yield Problem("data", what, "a larger action scale may be needed", serious=False)


def _statistics(data: _Data) -> Iterator[Problem]:
    """The spec's statistics, with which a model normalises, against the data."""
    if data.frames is None or data.spec is None or data.rows is None:
        return
    acting = np.ones(len(data.frames), bool)
    acting[[r["dataset_to_index"] - 1 for r in data.rows]] = False
    shown = np.zeros(len(data.frames), bool)
    for r in data.rows:
        shown[r["dataset_from_index"] : r["dataset_to_index"]] = r["demonstration"]
    proprio, label = (_matrix(data.frames, name) for name in ("observation.state", "action"))
    for column, stats, values in (
        ("observation.state", data.spec.proprio_stats, proprio),
        (
            "change of observation.state",
            data.spec.change_stats,
            np.diff(proprio, axis=0)[acting[:-1]],
        ),
        ("action", data.spec.action_stats, label[acting & shown if shown.any() else acting]),
    ):
        if stats is None:
            yield Problem(str(lerobot.SPEC), f"no statistics of '{column}'", "collect again")
            continue
        true = FeatureStats.of(values)
        for name in ("mean", "std", "min", "max", "q01", "q99"):
            got, want = np.array(getattr(stats, name)), np.array(getattr(true, name))
            if got.shape != want.shape or not np.allclose(got, want, rtol=1e-3, atol=1e-4):
                yield Problem(
                    str(lerobot.SPEC), f"{name} of '{column}' is {_round(got)}, the data give "
                    f"{_round(want)}", "the data were changed after the statistics: collect again",
                )  # fmt: skip
                break


def _stats_file(data: _Data) -> Iterator[Problem]:
    stats = lerobot.read_json(data.root / lerobot.STATS)
    if data.frames is None:
        return
    for column in VECTORS:
        got = np.asarray(stats.get(column, {}).get("mean", []), float)
        if got.shape != (_matrix(data.frames, column).shape[1],):
            yield Problem(str(lerobot.STATS), f"no mean of '{column}' in its dimensions", AGAIN)


# -- pictures -------------------------------------------------------------------------------------


def _videos(data: _Data) -> list[str]:
    """The video files that episodes lie in; all that are there if that is not known."""
    if data.rows is None or data.spec is None or data.info is None:
        found = (data.root / "videos").rglob("*.mp4")
        return sorted(str(f.relative_to(data.root)) for f in found if f.name[0] != ".")
    return sorted({_video_file(data, r, c) for r in data.rows for c in data.spec.cameras})


def _video_file(data: _Data, row: dict[str, Any], camera: str) -> str:
    key = lerobot.video_key(camera)
    place = {k: row[f"videos/{key}/{k}"] for k in ("chunk_index", "file_index")}
    return (data.info or {})["video_path"].format(video_key=key, **place)


def _video(data: _Data, name: str) -> Iterator[Problem]:
    """One file: does it decode, is every frame there, does it show anything, does it move?"""
    if data.rows is None or data.spec is None or data.info is None:
        for _ in lerobot.read_video(data.root / name):
            pass
        return
    parts = []  # first frame in the video, row of the episode
    for camera in data.spec.cameras:
        first = f"videos/{lerobot.video_key(camera)}/from_timestamp"
        parts += [(round(row[first] * data.info["fps"]), row)
                  for row in data.rows if _video_file(data, row, camera) == name]  # fmt: skip
    shape, count, before = (*data.spec.image_size, 3), 0, None
    dark, flat, still = [], [], []
    for frame in lerobot.read_video(data.root / name):
        if frame.shape != shape:
            yield Problem(name, f"frame {count} is {frame.shape}, expected {shape}", AGAIN)
            return
        dark.append(frame.mean() < BLACK)
        flat.append(frame.reshape(-1, 3).std(0).max() < FLAT)
        still.append(before is not None and np.array_equal(frame, before))
        before, count = frame, count + 1
    wanted = max(first + row["length"] for first, row in parts)
    if count != wanted:
        yield Problem(name, f"{count} frames, the episodes in it have {wanted}", AGAIN)
        return
    state = None if data.frames is None else _matrix(data.frames, "observation.state")
    for label, marks in (("black", dark), ("of one colour", flat)):
        if any(marks):
            n = marks.index(True)
            what = f"{sum(marks)} of {count} frames are {label}, the first is frame {n}"
            yield Problem(name, what, "look at camera and rendering backend, collect again")
            return
    frozen = [row["episode_index"] for first, row in parts if _frozen(still, first, row, state)]
    if frozen:
        what = f"the picture stands still for {FROZEN} steps or more while proprio changes, in "
        repair = "fine if nothing of that is in view, else look at the camera"
        yield Problem(name, f"{what}episodes {_some(frozen)}", repair, serious=False)


def _frozen(still: list[bool], first: int, row: dict[str, Any], state: np.ndarray | None) -> bool:
    if state is None:
        return False
    moved = np.abs(np.diff(state[row["dataset_from_index"] : row["dataset_to_index"]], axis=0))
    run = 0
    for n in range(1, row["length"]):
        run = run + 1 if still[first + n] and moved[n - 1].max() > 1e-3 else 0
        if run >= FROZEN:
            return True
    return False


# -- figures --------------------------------------------------------------------------------------


def _summary(data: _Data) -> dict[str, Any]:
    if data.rows is None:
        return {}
    steps = np.array([r["length"] - 1 for r in data.rows])
    low, middle, high = np.quantile(steps, [0.05, 0.5, 0.95])
    summary: dict[str, Any] = {
        "episodes": len(steps), "steps": int(steps.sum()),
        "steps per episode": f"{steps.min()} to {steps.max()}, 5 % {low:.0f}, median {middle:.0f}, "
        f"95 % {high:.0f}",
    }  # fmt: skip
    if all("success" in r and "outcome" in r for r in data.rows):
        summary["success"] = round(float(np.mean([bool(r["success"]) for r in data.rows])), 4)
        summary["outcomes"] = dict(Counter(str(r["outcome"]) for r in data.rows).most_common())
    if data.frames is not None:
        apart = _matrix(data.frames, "action.executed") - _matrix(data.frames, "action")
        summary["executed - wanted"] = f"{np.abs(apart).mean():.4f} on average"
    return summary


def _matrix(frames: pa.Table, column: str) -> np.ndarray:
    """A column of lists as float64 (n, d)."""
    flat = frames[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(frames), -1).astype(np.float64)


def _where(rows: list[dict[str, Any]], frame: int) -> str:
    row = next(r for r in rows if r["dataset_from_index"] <= frame < r["dataset_to_index"])
    return f"episode {row['episode_index']}, step {frame - row['dataset_from_index']}"


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (" …" if len(numbers) > 5 else "")


def _round(values: np.ndarray) -> list[float]:
    return [round(float(v), 4) for v in values]
