"""One episode in memory, aligned as below; images stay uint8.

n            0        1        2              T
images       o_0 ───► o_1 ───► o_2 ─── … ───► o_T      T+1 entries, as proprio
action           a_0      a_1      …  a_{T-1}          T entries; a_n leads from o_n to o_{n+1}
reward           r_0      r_1      …  r_{T-1}          earned by a_n, read off o_{n+1}
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldmodel.errors import UserError


@dataclass(frozen=True)
class Episode:
    """What happened in one episode of T steps."""

    images: dict[str, np.ndarray]  # camera -> uint8 (T+1, h, w, 3)
    proprio: np.ndarray  # float32 (T+1, P)
    action: np.ndarray  # float32 (T, A) as executed
    label: np.ndarray  # float32 (T, A) as the demonstrator wanted it: the target of a plan
    reward: np.ndarray  # float32 (T,)
    terminated: np.ndarray  # bool (T,)
    truncated: np.ndarray  # bool (T,)
    success: np.ndarray  # bool (T,)
    task: str
    seed: int
    outcome: str
    known: bool = True  # False: nobody recorded the actions, zeros stand in their place

    def __post_init__(self) -> None:
        T = len(self.action)
        if T < 1:
            raise UserError(f"episode with seed {self.seed}: got no step, expected at least one")
        lengths = {"proprio": T + 1, "label": T, "reward": T} | dict.fromkeys(
            ("terminated", "truncated", "success"), T
        )
        for name, expected in lengths.items():
            if len(getattr(self, name)) != expected:
                found = len(getattr(self, name))
                raise UserError(
                    f"episode with seed {self.seed}: {name} has {found} entries, "
                    f"expected {expected} for {T} actions"
                )
        for name, frames in self.images.items():
            if frames.dtype != np.uint8 or frames.ndim != 4 or len(frames) != T + 1:
                raise UserError(
                    f"episode with seed {self.seed}: camera '{name}' is {frames.dtype} "
                    f"{frames.shape}, expected uint8 ({T + 1}, h, w, 3)"
                )
        for name in ("proprio", "action", "label", "reward"):
            bad = np.flatnonzero(~np.isfinite(getattr(self, name)).reshape(-1, 1).all(axis=1))
            if bad.size:
                step = int(bad[0] // max(1, getattr(self, name)[0].size))
                raise UserError(
                    f"episode with seed {self.seed}: {name} is not finite at step {step}; "
                    "the env or the policy is broken"
                )

    def __len__(self) -> int:
        return len(self.action)

    @property
    def succeeded(self) -> bool:
        return bool(self.success[-1])
