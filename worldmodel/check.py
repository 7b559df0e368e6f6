"""What is wrong with a dataset, in plain words: file, what was found, what to do about it.

Nothing that is broken stops the check: every part is read by itself, and what cannot be read is a
finding like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel import lerobot
from worldmodel.check_findings import AGAIN, Parts, Problem, matrix, some
from worldmodel.check_numbers import frames, statistics, stats_file, values_of
from worldmodel.check_videos import video, video_files
from worldmodel.errors import UserError
from worldmodel.spec import DataSpec

SHORT = 4  # steps; an episode below that holds next to nothing to learn from
OnProgress = Callable[[int, str], None]  # (videos more, what was looked at)


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


def check(path: str | Path, on_progress: OnProgress | None = None) -> Report:
    """Look at every file of the dataset in ``path``; UserError only if there is no such folder."""
    root = Path(path)
    if not root.is_dir():
        raise UserError(f"there is no dataset folder '{path}'; make one with `worldmodel collect`")
    data, problems = Parts(root), []
    begun = lerobot.begun_by(root)
    if begun:
        problems.append(Problem(
            str(lerobot.INFO), "missing: the collection was interrupted",
            f"run the same `worldmodel {begun}` command again, it goes on",
        ))  # fmt: skip
        return Report(root, tuple(problems), {})
    parts: list[tuple[Path, Callable[[Parts], Iterator[Problem]]]] = [
        (lerobot.INFO, _info), (lerobot.SPEC, _spec), (lerobot.TASKS, _tasks),
        (lerobot.EPISODES, _episodes), (Path("data"), frames), (Path("data"), values_of),
        (lerobot.SPEC, statistics), (lerobot.STATS, stats_file),
    ]  # fmt: skip
    for file, part in parts:
        problems += _guarded(file, part, data)
    for file in video_files(data):
        problems += _guarded(Path(file), lambda d, name=file: video(d, name), data)
        if on_progress:
            on_progress(1, file)
    return Report(root, tuple(problems), _summary(data))


def _guarded(file: Path, part: Callable[[Parts], Iterator[Problem]], data: Parts) -> list[Problem]:
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


def _info(data: Parts) -> Iterator[Problem]:
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


def _spec(data: Parts) -> Iterator[Problem]:
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


def _tasks(data: Parts) -> Iterator[Problem]:
    table = lerobot.read_table(data.root / lerobot.TASKS)
    if data.spec is not None and len(table) != len(data.spec.tasks):
        yield Problem(
            str(lerobot.TASKS), f"{len(table)} tasks, expected {len(data.spec.tasks)}", AGAIN
        )


def _episodes(data: Parts) -> Iterator[Problem]:
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
            file, f"{len(short)} episodes have fewer than {SHORT} steps: {some(short)}",
            "look at how they end; windows longer than that leave them out", serious=False,
        )  # fmt: skip
    for what, repair in one_outcome([bool(r.get("success")) for r in rows]):
        yield Problem(file, what, repair, serious=False)


def one_outcome(success: Sequence[bool]) -> Iterator[tuple[str, str]]:
    """What will go wrong, and what helps, where all episodes of a dataset end alike."""
    if len(set(success)) != 1:
        return
    end, reads = ("succeeds", "takes too much") if success[0] else ("fails", "takes nothing")
    yield (
        f"every one of {len(success)} episodes {end}: a model of them {reads} for a success, so "
        "agents trained, policies judged and plans chosen inside it come out wrong",
        "have both kinds, as worldmodel collect explore=0.6 mistaken=0.667 does (plans alone do "
        "without)",
    )


# -- figures --------------------------------------------------------------------------------------


def _summary(data: Parts) -> dict[str, Any]:
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
        apart = matrix(data.frames, "action.executed") - matrix(data.frames, "action")
        summary["executed - wanted"] = f"{np.abs(apart).mean():.4f} on average"
    return summary
