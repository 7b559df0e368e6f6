"""Does a closing hand hold inside what it holds in MuJoCo?

    worldmodel collect env=pick_can policy=runs/train/few keep=all teach=false out=data/acted
    python docs/grips.py --data data/acted --checkpoints pick_can_world --films runs/grips

A dataset of what policies did, hits and misses, has many moments at which the hand closes. From the
real observation some steps before each, the model imagines what the recorded actions lead to; it
holds a can where the fingers stay open by more than HELD after AFTER closed steps. Prints for each
checkpoint how many holds are imagined of the grips that hold, and of those that close on nothing
(Wilson 95 %); how far off the can is when the hand closes, and how much nearer to the hand it is
than the real one (medians, bootstrap 95 %), both read off pictures by the state probe.
With ``--films`` the first grips that are taken for holds are shown: real above, imagined below.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange

from worldmodel import checkpoint
from worldmodel.dataset import Dataset
from worldmodel.errors import UserError
from worldmodel.jobs import open_dataset
from worldmodel.log import Progress
from worldmodel.metrics import median_interval, wilson
from worldmodel.model import WorldModel
from worldmodel.probe import StateProbe, load_probe
from worldmodel.rollout import Imagination, RolloutConfig, generators_from, placed
from worldmodel.runs import hardware
from worldmodel.shipped import CHECKPOINTS, find_checkpoint
from worldmodel.spec import check_compatible
from worldmodel.video import side_by_side, upscale, write_mp4

AFTER = 8  # steps that the hand is closed when it is judged
HELD = 0.02  # m that the fingers are open around a can; 0 around nothing
OPENING, CAN, TCP = "gripper_opening [m]", "can", slice(0, 3)
BATCH = 64
FILMS = 8
COLUMNS = (
    "checkpoint",
    "steps before",
    "holds of those that hold",
    "of those on nothing",
    "can off [mm]",
    "nearer to the hand by, on nothing [mm]",
)


class Grips(NamedTuple):
    """N moments of a dataset at which the hand has just closed, and what came of them."""

    frame: np.ndarray  # (N,) int, the observation at which the closing is decided
    holds: np.ndarray  # (N,) bool


class Imagined(NamedTuple):
    """What a model makes of them."""

    holds: np.ndarray  # (N,) bool
    off: np.ndarray  # (N,) mm, of the can when the hand closes
    nearer: np.ndarray  # (N,) mm, by which it is nearer to the hand than the real one
    films: np.ndarray  # uint8 (N, before + AFTER, C, h, w, 3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="dataset that no checkpoint saw")
    parser.add_argument("--last", type=int, default=0, help="its last so many episodes; 0: all")
    parser.add_argument("--checkpoints", nargs="+", default=["pick_can_world"])
    parser.add_argument("--before", nargs="+", type=int, default=[3, 8, 14], help="env steps")
    parser.add_argument("--flow-steps", type=int, default=1, help="K")
    parser.add_argument("--films", type=Path, help="folder for films of false holds")
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    dataset, probe = open_dataset(a.data), load_probe(CHECKPOINTS / "pick_can_probe")[0]
    grips = find(dataset, max(a.before), a.last)
    print(
        f"{a.data}: {len(grips.frame)} grips, {grips.holds.sum()} hold; K = {a.flow_steps}; "
        f"{hardware()['processor']}"
    )
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    sampler = RolloutConfig(flow_steps=a.flow_steps)
    for name in a.checkpoints:
        model = placed(checkpoint.load(find_checkpoint(name)).model, sampler)
        check_compatible(dataset.spec, model.spec)
        for before in a.before:
            found = dream(model, probe, dataset, grips, before, sampler)
            print(row(name, before, grips.holds, found), flush=True)
            if a.films:
                show(a.films / f"{Path(name).name}_{before}.mp4", dataset, grips, before, found)


def find(dataset: Dataset, before: int, last: int = 0) -> Grips:
    """All grips of the ``last`` episodes (0: of all): AFTER closed steps after more than
    ``before`` open ones. UserError where there are none."""
    opening = dataset.spec.proprio_names.index(OPENING)
    action, proprio = dataset.stream("action"), dataset.stream("proprio")
    frames = []
    for e in dataset.episodes[-last:]:
        closed = action[e.start : e.start + e.length, -1] > 0
        for n in range(before + 1, e.length - AFTER + 1):
            if closed[n : n + AFTER].all() and not closed[n - before - 1 : n].any():
                frames.append(e.start + n)
    if not frames:
        raise UserError(f"{dataset.path}: no hand closes there after {before} steps; "
                        "collect longer episodes, or choose a smaller --before")  # fmt: skip
    frame = np.array(frames)
    return Grips(frame, proprio[frame + AFTER, opening] > HELD)


def dream(
    model: WorldModel, probe: StateProbe, dataset: Dataset, grips: Grips, before: int,
    sampler: RolloutConfig,
) -> Imagined:  # fmt: skip
    """Each grip imagined from ``before`` steps before."""
    images, proprio, action = (dataset.stream(s) for s in ("images", "proprio", "action"))
    opening, parts = dataset.spec.proprio_names.index(OPENING), []
    with Progress("imagine", total=len(grips.frame), unit="grips") as bar:
        for at in range(0, len(grips.frame), BATCH):
            closing = grips.frame[at : at + BATCH]
            first, real = closing - before, probe.read(images[closing])[CAN]
            world = Imagination(
                model, torch.from_numpy(images[first]), torch.from_numpy(proprio[first]),
                generators=generators_from(at, len(first)), config=sampler,
            )  # fmt: skip
            film, width = [], np.empty(0)
            for n in range(before + AFTER):
                seen, pose = world.step(torch.from_numpy(action[first + n]).clamp(-1, 1))
                film.append(seen.numpy())
                width = pose[:, opening].numpy()
            can, hand = probe.read(film[before - 1])[CAN], proprio[closing, TCP]
            distance = [np.linalg.norm(x - hand, axis=1) for x in (real, can)]
            parts.append(
                Imagined(
                    width > HELD,
                    1000 * np.linalg.norm(can - real, axis=1),
                    1000 * (distance[0] - distance[1]),
                    np.stack(film, axis=1),
                )
            )
            bar.advance(len(closing))
    return Imagined(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def row(name: str, before: int, holds: np.ndarray, found: Imagined) -> str:
    """A line of the table."""
    cells = [name, str(before)]
    for these in (holds, ~holds):
        n, k = int(these.sum()), int(found.holds[these].sum())
        low, high = wilson(k, n) if n else (0.0, 1.0)
        cells.append(f"{k} of {n} [{low:.2f}, {high:.2f}]")
    for values in (found.off, found.nearer[~holds]):
        middle, low, high = median_interval(values) if len(values) else (np.nan,) * 3
        cells.append(f"{middle:.1f} [{low:.1f}, {high:.1f}]")
    return f"| {' | '.join(cells)} |"


def show(file: Path, dataset: Dataset, grips: Grips, before: int, found: Imagined) -> None:
    """The first false holds next to one another: each camera, real above imagined."""
    images, columns = dataset.stream("images"), []
    for i in np.flatnonzero(found.holds & ~grips.holds)[:FILMS]:
        first = grips.frame[i] - before
        real = images[first + 1 : first + 1 + before + AFTER]
        both = np.stack([real, found.films[i]], axis=2)  # (n, C, 2, h, w, 3)
        columns.append(upscale(rearrange(both, "n c k h w x -> n (c k h) w x"), 2))
    if columns:
        file.parent.mkdir(parents=True, exist_ok=True)
        frames = side_by_side(columns, height=columns[0].shape[1])
        write_mp4(file, frames, dataset.spec.control_frequency)


if __name__ == "__main__":
    main()
