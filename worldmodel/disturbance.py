"""What makes an episode go wrong: a little in a demonstration, thoroughly in an exploration.

A demonstration is disturbed as in DART (Laskey et al., 2017): the noisy action is executed, the
clean one is the label, so that the data contain recoveries. An exploration shows what else can
happen (misses, pushes, empty grasps, drops, idling): a model that has only seen success imagines
only success.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from worldmodel.collect import CollectConfig


class Executor(Protocol):
    """From the wanted action (A,) at a step to the executed one, both in [-1, 1]."""

    def __call__(self, wanted: np.ndarray, step: int) -> np.ndarray: ...


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


class Exploration:
    """From the wanted action to the executed one, for one exploratory episode.

    Phases of 4 to 15 steps, drawn anew when one ends: ``follow`` the wanted action with strong
    noise, ``wander`` along smooth random motion, ``contrary``, as wanted with the gripper (the last
    dimension) inverted, and ``idle``. Whoever acts brings the robot near the objects; the phases
    make it fail there.
    """

    PHASES = ("follow", "wander", "contrary", "idle")
    SHARES = (0.45, 0.30, 0.18, 0.07)

    def __init__(self, A: int, rng: np.random.Generator) -> None:
        self.rng, self.A, self.ends, self.phase = rng, A, 0, ""
        self.weight = np.ones(A)
        if A == 7:
            self.weight[3:5] = 0.33  # hands that point far from the work show little
        self.weight[-1] = 0.0

    def __call__(self, wanted: np.ndarray, step: int) -> np.ndarray:
        """The action to execute, in [-1, 1]."""
        rng = self.rng
        if step >= self.ends:
            self.phase = str(rng.choice(self.PHASES, p=self.SHARES))
            self.ends = step + int(rng.integers(4, 16))
            self.level = rng.uniform(0.0, 0.6)
            self.noise = rng.normal(size=self.A)
            self.grip = rng.choice([-1.0, 1.0])
        self.noise = 0.85 * self.noise + 0.53 * rng.normal(size=self.A)  # unit variance
        if self.phase == "follow":
            executed = wanted + self.weight * self.level * self.noise
        elif self.phase == "wander":
            executed = self.weight * 0.7 * self.noise
            executed[-1] = self.grip
        elif self.phase == "contrary":
            executed = wanted + self.weight * 0.3 * self.noise
            executed[-1] = -wanted[-1]
        else:
            executed = np.zeros(self.A)
        return np.clip(executed, -1.0, 1.0).astype(np.float32)
