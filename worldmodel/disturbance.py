"""What makes an episode go wrong: a little in a demonstration, thoroughly in an exploration.

A demonstration is disturbed as in DART (Laskey et al., 2017): the noisy action is executed, the
clean one is the label, so that the data contain recoveries. An exploration shows what else can
happen (misses, pushes, empty grasps, drops, idling): a model that has only seen success imagines
only success. Where a student leads for a while and the expert says what to do, as in DAgger (Ross
et al., 2011), the data contain the way out of that student's own mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from worldmodel.collect import CollectConfig


class Executor(Protocol):
    """From the wanted action (A,) at a step to the executed one, both in [-1, 1]."""

    def __call__(self, wanted: np.ndarray, step: int) -> np.ndarray: ...


def grippers(names: Sequence[str]) -> np.ndarray:
    """(A,) bool, the actions that open and close a gripper: those whose name begins so."""
    return np.array([name.startswith("gripper") for name in names])


def noisiness(names: Sequence[str]) -> np.ndarray:
    """(A,) how much of the noise each action gets: a gripper none, and a third what tilts the hand
    (delta_rx, delta_ry), which sees little when it points far from the work."""
    tilts = np.array([name.startswith(("delta_rx", "delta_ry")) for name in names])
    return np.where(grippers(names), 0.0, np.where(tilts, 0.33, 1.0))


class Disturbance:
    """From the wanted action to the executed one, for one episode.

    Correlated noise (AR(1), 0.7) of a level drawn per episode, and at times a push of LENGTH steps,
    in which a gripper may also flip. A gripper gets no noise, what tilts a hand a third: see
    :func:`grippers` and :func:`noisiness`.
    """

    LENGTH = 4

    def __init__(
        self, names: Sequence[str], config: CollectConfig, rng: np.random.Generator
    ) -> None:
        self.rng, A = rng, len(names)
        self.level = rng.uniform(0, config.action_noise)
        self.start = int(rng.integers(3, 30)) if rng.random() < config.burst else None
        self.push = 0.9 * rng.normal(size=A)
        self.grips, self.weight = grippers(names), noisiness(names)
        self.noise = np.zeros(A)

    def __call__(self, wanted: np.ndarray, step: int) -> np.ndarray:
        """The action to execute, in [-1, 1]."""
        self.noise = 0.7 * self.noise + 0.71 * self.rng.normal(size=len(wanted))
        added = self.level * self.noise
        executed = wanted.copy()
        if self.start is not None and self.start <= step < self.start + self.LENGTH:
            added = added + self.push
            if self.rng.random() < 0.2:
                executed[self.grips] *= -1
        return np.clip(executed + self.weight * added, -1.0, 1.0).astype(np.float32)


def stretch(rng: np.random.Generator) -> range:
    """The steps of an episode in which a student leads: 10 to 50, from one of the first 20 on."""
    start = int(rng.integers(0, 20))
    return range(start, start + int(rng.integers(10, 51)))


class Exploration:
    """From the wanted action to the executed one, for one exploratory episode.

    Phases of 4 to 15 steps, drawn anew when one ends: ``follow`` the wanted action with strong
    noise, ``wander`` along smooth random motion, ``contrary``, as wanted with the gripper inverted
    (all of the action where there is none), and ``idle``. Whoever acts brings the robot near the
    objects; the phases make it fail there.
    """

    PHASES = ("follow", "wander", "contrary", "idle")
    SHARES = (0.45, 0.30, 0.18, 0.07)

    def __init__(self, names: Sequence[str], rng: np.random.Generator) -> None:
        self.rng, self.A, self.ends, self.phase = rng, len(names), 0, ""
        self.grips, self.weight = grippers(names), noisiness(names)
        self.contrary = self.grips if self.grips.any() else np.ones(self.A, bool)

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
            executed[self.grips] = self.grip
        elif self.phase == "contrary":
            executed = wanted + self.weight * 0.3 * self.noise
            executed[self.contrary] -= 2 * wanted[self.contrary]
        else:
            executed = np.zeros(self.A)
        return np.clip(executed, -1.0, 1.0).astype(np.float32)
