"""What is wrong with the numbers of a dataset: columns, ranges, timestamps, statistics."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from worldmodel import lerobot
from worldmodel.check_findings import AGAIN, Parts, Problem, matrix, rounded, where
from worldmodel.dataset_writer import teaches_actions
from worldmodel.spec import FeatureStats

LARGE_RETURN = 10.0  # beyond which the loss of the outcome leaf grows past the others
#: a column of the data -> the spec's names of its dimensions, and what a dimension is called
VECTORS = {"observation.state": "proprio_names", "action": "action_names"}


def frames(data: Parts) -> Iterator[Problem]:
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


def values_of(data: Parts) -> Iterator[Problem]:
    if data.frames is None or data.spec is None or data.rows is None or data.info is None:
        return
    acting = np.ones(len(data.frames), bool)
    acting[[r["dataset_to_index"] - 1 for r in data.rows]] = False
    for column, attribute in (*VECTORS.items(), ("action.executed", "action_names")):
        names, x = getattr(data.spec, attribute), matrix(data.frames, column)
        if x.shape[1] != len(names):
            yield Problem("data", f"'{column}' has {x.shape[1]} dimensions, the spec names "
                          f"{len(names)}", "collect again")  # fmt: skip
            continue
        bad = np.argwhere(~np.isfinite(x))
        if len(bad):
            place = f"{where(data.rows, bad[0][0])}, dimension '{names[bad[0][1]]}'"
            what = f"'{column}' has {len(bad)} values that are not finite, the first in {place}"
            yield Problem("data", what, "drop that episode or collect again")
            continue
        if column != "observation.state":
            outside = np.abs(x).max(1) > 1 + 1e-6
            if outside.any():
                row = int(np.flatnonzero(outside)[0])
                far = f"{np.abs(x[row]).max():.3g} in {where(data.rows, row)}"
                what = f"'{column}' leaves [-1, 1] in {int(outside.sum())} frames, as by {far}"
                yield Problem("data", what, "scale the actions to [-1, 1]")
            yield from _saturated(column, names, x[acting])
        for name in (n for n, s in zip(names, x.std(0), strict=True) if s < 1e-6):
            what, repair = f"'{column}': '{name}' never changes", "fine if nothing moves it"
            yield Problem("data", what, f"{repair}, else look at the sensor", serious=False)
    yield from _returns(data.rows, data.frames["next.reward"].to_numpy())
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
    apart = np.abs(matrix(data.frames, "action.executed") - matrix(data.frames, "action"))[acting]
    if (apart.max(1) > 0.5).mean() > 0.5:
        yield Problem("data", "executed and demonstrated actions differ by more than 0.5 in "
                      f"{100 * (apart.max(1) > 0.5).mean():.0f} % of the steps",
                      "collect with less action_noise", serious=False)  # fmt: skip


def _returns(rows: list[dict], reward: np.ndarray) -> Iterator[Problem]:
    """Returns are learned as they are: large ones leave little of the loss to all else."""
    ends = [(r["dataset_from_index"], r["dataset_to_index"] - 1) for r in rows]
    most = max((abs(float(reward[a:b].sum())) for a, b in ends), default=0.0)
    if most > LARGE_RETURN:
        what = f"an episode's rewards add up to {most:.3g}, which would outweigh the other losses"
        repair = f"collect with env.adapt.reward_scale={1 / most:.1g}"
        yield Problem("data", what, repair, serious=False)


def _saturated(column: str, names: tuple[str, ...], x: np.ndarray) -> Iterator[Problem]:
    for name, values in zip(names, x.T, strict=True):
        share = max((values >= 0.999).mean(), (values <= -0.999).mean())
        if share > 0.9 and values.std() > 1e-6:
            what = f"'{column}': '{name}' is at its limit in {100 * share:.0f} % of the steps"
            yield Problem("data", what, "a larger action scale may be needed", serious=False)


def statistics(data: Parts) -> Iterator[Problem]:
    """The spec's statistics, with which a model normalises, against the data."""
    if data.frames is None or data.spec is None or data.rows is None:
        return
    acting = np.ones(len(data.frames), bool)
    acting[[r["dataset_to_index"] - 1 for r in data.rows]] = False
    learned = np.repeat(teaches_actions(data.rows), [r["length"] for r in data.rows])
    proprio, label = (matrix(data.frames, name) for name in ("observation.state", "action"))
    for column, stats, values in (
        ("observation.state", data.spec.proprio_stats, proprio),
        (
            "change of observation.state",
            data.spec.change_stats,
            np.diff(proprio, axis=0)[acting[:-1]],
        ),
        ("action", data.spec.action_stats, label[acting & learned]),
    ):
        if stats is None:
            yield Problem(str(lerobot.SPEC), f"no statistics of '{column}'", "collect again")
            continue
        true = FeatureStats.of(values)
        for name in ("mean", "std", "min", "max", "q01", "q99"):
            got, want = np.array(getattr(stats, name)), np.array(getattr(true, name))
            if got.shape != want.shape or not np.allclose(got, want, rtol=1e-3, atol=1e-4):
                yield Problem(
                    str(lerobot.SPEC), f"{name} of '{column}' is {rounded(got)}, the data give "
                    f"{rounded(want)}", "the data were changed after the statistics: collect again",
                )  # fmt: skip
                break


def stats_file(data: Parts) -> Iterator[Problem]:
    stats = lerobot.read_json(data.root / lerobot.STATS)
    if data.frames is None:
        return
    for column in VECTORS:
        got = np.asarray(stats.get(column, {}).get("mean", []), float)
        if got.shape != (matrix(data.frames, column).shape[1],):
            yield Problem(str(lerobot.STATS), f"no mean of '{column}' in its dimensions", AGAIN)
