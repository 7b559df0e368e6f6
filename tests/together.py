"""Training runs of a small made-up dataset, for tests/test_distributed.py: alone or with torchrun.

    torchrun --nproc_per_node=2 tests/together.py out ddp:whole fsdp:cut:3

runs each in turn: kind of sharding, folder in ``out``, and the update before which it is stopped.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from tiny import SIDE, A, C, H, P, tiny_spec

from worldmodel.distributed import ALONE, Ranks, together
from worldmodel.model import ModelConfig
from worldmodel.objective import ObjectiveConfig
from worldmodel.optim import OptimConfig
from worldmodel.train import TrainConfig, train
from worldmodel.transformer import TransformerConfig
from worldmodel.windows import EpisodeInfo, Windows

MODEL = ModelConfig("test", TransformerConfig(32, 2, 2, 2), patch=8, window=2, chunk=H)


def windows(seed: int = 0) -> Windows:
    """Episodes of 3 to 9 steps; every third is an exploration, from which no plan is learned."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 10, 12)
    frames = int(sum(lengths) + len(lengths))
    arrays = {
        "images": rng.integers(0, 256, (frames, C, SIDE, SIDE, 3), dtype=np.uint8),
        "proprio": rng.normal(size=(frames, P)).astype(np.float32),
        "action": rng.uniform(-1, 1, (frames, A)).astype(np.float32),
        "label": rng.uniform(-1, 1, (frames, A)).astype(np.float32),
        "outcome": rng.integers(0, 2, (frames, 4)).astype(np.float32),
    }
    starts = np.cumsum(lengths + 1) - lengths - 1
    episodes = [
        EpisodeInfo(i, int(length), int(start), True, i, "success", i % 3 != 0)
        for i, (length, start) in enumerate(zip(lengths, starts, strict=True))
    ]
    return Windows(arrays, episodes, 3, H)


def run(
    out: Path, ranks: Ranks = ALONE, sharding: str = "ddp", stop: int | None = None,
    resume: bool = False, steps: int = 7, own_noise: bool = False,
) -> None:  # fmt: skip
    """Train, with rehearsal from the third update on; before update ``stop`` comes a Ctrl-C."""
    config = TrainConfig(
        steps=steps, batch=4, segment=3, log_every=1, validate_every=4, validate_windows=8,
        threads=1, precision="fp32", device="cpu", rehearse=0.5, rehearse_after=2 / steps,
        robot_samples=6, sharding=sharding, own_noise=own_noise,
    )  # fmt: skip
    data = windows()
    sample, updates = data.sample, [0]

    def interrupted(*args):
        updates[0] += 1
        if stop is not None and updates[0] > stop:
            raise KeyboardInterrupt
        return sample(*args)

    data.sample = interrupted
    objective, optim = ObjectiveConfig("self_flow"), OptimConfig(warmup=2, muon=True)
    try:
        train(
            data, windows(1), tiny_spec(), MODEL, objective, optim, config, out, resume, ranks=ranks
        )
    except KeyboardInterrupt:
        if stop is None:
            raise


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with together("cpu") as us:
        for word in sys.argv[2:]:
            kind, name, *rest = word.split(":")
            count = int(rest[0]) if rest else None
            if name == "long":
                run(folder / name, us, kind, steps=1_000_000)
            else:
                run(folder / name, us, kind, count, (folder / name).exists())
    # all is written; torch 2.13's gloo now and then aborts while the interpreter takes itself apart
    # ("terminate called without an active exception"), which says nothing of the training
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
