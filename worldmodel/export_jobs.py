"""The command that exports a policy: its words are dataclasses by now (see worldmodel.jobs)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from worldmodel.env_config import env_of, make_env
from worldmodel.files import atomic
from worldmodel.jobs import CheckpointOptions, write_table
from worldmodel.log import progress
from worldmodel.policy_config import load_policy
from worldmodel.shipped import find_checkpoint

if TYPE_CHECKING:
    from policies.base import Policy
    from worldmodel.export import ExportConfig, Observations
    from worldmodel.spec import DataSpec

FILE = "policy.onnx"


@dataclass(frozen=True)
class ExportOptions(CheckpointOptions):
    starts: str = field(
        default="",
        metadata={
            "help": "dataset folder with real observations ('': those in the checkpoint, else "
            "the simulator's)"
        },
    )


def run_export(folder: Path, options: ExportOptions, config: ExportConfig) -> None:
    from worldmodel.export import (
        OPSET,
        TOLERANCE,
        check,
        needs_extra,
        random_observations,
        time_plans,
        write_onnx,
    )

    needs_extra()
    place = find_checkpoint(options.checkpoint)
    policy = load_policy(place, config.flow_steps)
    spec = policy.model.spec
    with progress("export", total=4) as bar:
        real, whence = real_observations(
            policy, spec, Path(options.starts) if options.starts else place, config.observations
        )
        random = random_observations(spec, config.observations)
        bar.advance(1, "writing the graph, which takes a minute")
        begun = time.monotonic()
        with atomic(folder / FILE) as path:
            write_onnx(policy.model, policy.flow_steps, path)
            took = time.monotonic() - begun
            bar.advance(1, "comparing")
            errors = check(policy, path, random, real)
        bar.advance(1, "timing")
        times = time_plans(policy, folder / FILE, real, config)
        bar.advance(1)
    H, A = policy.model.config.chunk, spec.A
    inputs = {k: ["B", *spec.image_size, 3] for k in spec.cameras}
    inputs |= {"proprio": ["B", spec.P], "noise": ["B", H, A]}
    result = {
        "checkpoint": options.checkpoint, "file": FILE, "bytes": (folder / FILE).stat().st_size,
        "opset": OPSET, "flow_steps": policy.flow_steps, "inputs": inputs,
        "outputs": {"plan": ["B", H, A]}, **errors, "tolerance": TOLERANCE,
        "random_observations": len(random["proprio"]), "real_observations": len(real["proprio"]),
        "real_from": whence, **times, "threads": config.threads, "export_s": took,
    }  # fmt: skip
    write_table("The policy as ONNX", result, folder)
    print(f"policy: {folder / FILE}")


def real_observations(
    policy: Policy, spec: DataSpec, place: Path, n: int
) -> tuple[Observations, str]:
    """At most n observations: first ones beside a checkpoint or in a dataset at ``place``, else
    those that the policy meets in its env. And where they are from."""
    from worldmodel.checkpoint import WEIGHTS
    from worldmodel.starts import FILE as STARTS
    from worldmodel.starts import load_starts

    if (place / STARTS).exists() or not (place / WEIGHTS).exists() or not spec.env:
        starts = load_starts(place, spec)
        images = {k: starts.images[:n, i] for i, k in enumerate(spec.cameras)}
        return images | {"proprio": starts.proprio[:n]}, str(place)
    env = make_env(env_of(spec))
    seen: list[dict[str, np.ndarray]] = []
    try:
        while len(seen) < n:
            obs, over = env.reset(seed=len(seen))[0], False
            policy.reset([len(seen)])
            while not over and len(seen) < n:
                seen.append({k: np.asarray(obs[k]) for k in [*spec.cameras, "proprio"]})
                action = policy.act({k: v[None] for k, v in seen[-1].items()})[0]
                obs, _, terminated, truncated, _ = env.step(action)
                over = terminated or truncated
    finally:
        env.close()
    return {k: np.stack([o[k] for o in seen]) for k in seen[0]}, spec.env
