"""Do actions matter? From one start, many action sequences, imagined and simulated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from worldmodel.disturbance import grippers
from worldmodel.model import WorldModel
from worldmodel.probe import StateProbe
from worldmodel.recording import Recording, replay
from worldmodel.rollout import Imagination, RolloutConfig, generators_from

MOVED = 0.02  # m, a displacement whose direction counts


@dataclass(frozen=True)
class BranchConfig:
    starts: int = field(default=16, metadata={"help": "starts, each in the midst of an episode"})
    branches: int = field(default=16, metadata={"help": "action sequences from each start"})
    length: int = field(default=10, metadata={"help": "steps of each sequence"})


def sequences(config: BranchConfig, names: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """(branches, length, A) smooth random motions, a gripper open or closed throughout."""
    n, L, A = config.branches, config.length, len(names)
    motion = np.zeros((n, L, A))
    x = rng.normal(size=(n, A))
    for k in range(L):
        x = 0.9 * x + 0.44 * rng.normal(size=(n, A))
        motion[:, k] = 0.7 * x
    motion[..., [name.startswith("delta_r") for name in names]] *= 0.3  # the hand keeps its aim
    motion[..., grippers(names)] = rng.choice([-1.0, 1.0], size=(n, 1, 1))
    return np.clip(motion, -1.0, 1.0).astype(np.float32)


def branch(
    env: Any, model: WorldModel, probe: StateProbe, recordings: Sequence[Recording],
    config: BranchConfig, sampler: RolloutConfig, seed: int,
    on_progress: Callable[[int, str], None],
) -> dict[str, Any]:  # fmt: skip
    """Displacements after each sequence, imagined (read by the probe) against simulated (true)."""
    rng = np.random.default_rng(seed)
    start, true, dreamt = ({name: [] for name in probe.positions} for _ in range(3))  # m
    for s in range(config.starts):
        story = recordings[s % len(recordings)]
        n = int(rng.integers(0, len(story)))
        plans = sequences(config, model.spec.action_names, rng)
        ends = []
        for actions in plans:
            lived = replay(env, model.spec, story.seed, np.concatenate([story.action[:n], actions]))
            ends.append({name: lived.truth[name][-1] for name in probe.positions})
        many = (len(plans), 1, 1, 1, 1)
        world = Imagination(
            model, torch.from_numpy(np.tile(story.images[n], many)),
            torch.from_numpy(np.tile(story.proprio[n], (len(plans), 1))),
            generators=generators_from(seed + s, len(plans), model.grid.device), config=sampler,
        )  # fmt: skip
        for k in range(config.length):
            world.step(torch.from_numpy(plans[:, k]))
        found = probe.read(world.show().cpu().numpy())
        for name in probe.positions:
            start[name].append(story.truth[name][n])
            true[name].append(np.stack([e[name] for e in ends]))
            dreamt[name].append(found[name])
        on_progress(1, f"branches of seed {story.seed}")
    other = np.roll(np.arange(config.branches), 1)
    result: dict[str, Any] = {"starts": config.starts, "branches": config.branches,
                              "length": config.length}  # fmt: skip
    for name in probe.positions:
        begin = np.stack(start[name])[:, None]  # (starts, 1, 3)
        t, d = np.stack(true[name]) - begin, np.stack(dreamt[name]) - begin
        result[name] = compare(t, d)
        result[f"{name}, actions shuffled"] = compare(t, d[:, other])
    hand, *things = probe.positions
    for name in things:
        gaps = [np.stack(x[hand]) - np.stack(x[name]) for x in (true, dreamt)]
        result[f"{hand} to {name}"] = regret(*(np.linalg.norm(g, axis=-1) for g in gaps))
    return result


def regret(true: np.ndarray, dreamt: np.ndarray) -> dict[str, float]:
    """Choosing the branch with the smallest imagined distance: (starts, branches) in m.

    How much nearer the truly best branch would have come, and what a random choice loses.
    """
    rows = np.arange(len(true))
    best = true.min(axis=1)
    return {
        "top1_regret_mm": float(1000 * (true[rows, dreamt.argmin(axis=1)] - best).mean()),
        "random_regret_mm": float(1000 * (true.mean(axis=1) - best).mean()),
    }


def compare(true: np.ndarray, dreamt: np.ndarray) -> dict[str, float]:
    """Figures of displacements (starts, branches, 3) in m."""
    wrong = 1000 * np.linalg.norm(dreamt - true, axis=-1)
    # what the start has in common is not the actions' doing
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (true, dreamt))
    moved = np.linalg.norm(true, axis=-1) > MOVED
    cosine = (true * dreamt).sum(-1) / (
        np.linalg.norm(true, axis=-1) * np.linalg.norm(dreamt, axis=-1) + 1e-12
    )
    degrees = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return {
        "error_mm": float(np.median(wrong)),
        "correlation": float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum() + 1e-12)),
        "direction_deg": float(np.median(degrees[moved])) if moved.any() else float("nan"),
        "moved": int(moved.sum()),
    }
