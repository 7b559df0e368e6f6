"""What makes an episode go wrong a little, so that the data contain recoveries.

As in DART (Laskey et al., 2017): the noisy action is executed, the clean one is the label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from worldmodel.collect import CollectConfig


class Disturbance:
    """From the wanted action to the executed one, for one episode.

    Correlated noise (AR(1), 0.7) of a level drawn per episode, and at times a push of LENGTH steps,
    in which the gripper may also flip. The last dimension is taken for the gripper and gets no
    noise; of an arm's 7 actions those that tilt the hand (3 and 4) get a third.
    """

    LENGTH = 4

    def __init__(self, A: int, config: CollectConfig, rng: np.random.Generator) -> None:
        self.rng = rng
        self.level = rng.uniform(0, config.action_noise)
        self.start = int(rng.integers(3, 30)) if rng.random() < config.burst else None
        self.push = 0.9 * rng.normal(size=A)
        self.weight = np.ones(A)
        if A == 7:
            self.weight[3:5] = 0.33
        self.weight[-1] = 0.0
        self.noise = np.zeros(A)

    def __call__(self, wanted: np.ndarray, step: int) -> np.ndarray:
        """The action to execute, in [-1, 1]."""
        self.noise = 0.7 * self.noise + 0.71 * self.rng.normal(size=len(wanted))
        added = self.level * self.noise
        executed = wanted.copy()
        if self.start is not None and self.start <= step < self.start + self.LENGTH:
            added = added + self.push
            if self.rng.random() < 0.2:
                executed[-1] = -executed[-1]
        return np.clip(executed + self.weight * added, -1.0, 1.0).astype(np.float32)
