"""Gymnasium's Pendulum, seen: swing a rod up and hold it there. No robot, one action."""

from __future__ import annotations

import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import PendulumEnv

# pygame draws into memory here: it shall look for neither a screen nor a sound card
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

REWARD = 1000.0  # what Gymnasium's is divided by: what a model reads off are returns of about 1
TORQUE = 2.0  # N m, what the action 1 stands for
G, MASS, LENGTH = 10.0, 1.0, 1.0  # m/s^2, kg, m: PendulumEnv's own
TOP = MASS * G * LENGTH / 2  # J, energy of the rod at rest on top, its pivot being the zero
UPRIGHT, SLOW = 0.2, 1.0  # rad and rad/s, within which the rod counts as held
HOLD_STEPS = 10


class Pendulum(gymnasium.Wrapper):
    """`Pendulum-v1` as a task for a model that looks: the angle is in the picture alone.

    Control runs at 20 Hz; physics, reward (divided by 1000) and pictures (500 x 500) are
    Gymnasium's.

    | what | space |
    |---|---|
    | action | `Box(-1, 1, (1,))`, torque in units of 2 N m, counterclockwise |
    | `pixels` | uint8 (500, 500, 3), what `render()` shows; an arrow is the last torque |
    | `proprio` | float32 (1,), angular velocity, -8..8 rad/s |

    The rod starts at any angle with up to 1 rad/s. `terminated`, success: within 0.2 rad of upright
    and slower than 1 rad/s in 10 consecutive steps. `truncated`: 120 steps (`TimeLimit`). `info`
    has `success`, `is_success`, and `outcome`: `success`, `swung` (was up, did not stay), or
    `not_up`.
    """

    control_frequency = 20.0  # Hz
    cameras = ("pixels",)
    proprio_names = ("angular_velocity [rad/s]",)
    action_names = ("torque [2 N m]",)
    task_name = "pendulum"

    def __init__(self, render_mode: str | None = "rgb_array") -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"got render_mode={render_mode!r}, expected 'rgb_array'")
        self.pendulum = PendulumEnv(render_mode="rgb_array", g=G)
        super().__init__(self.pendulum)
        self.observation_space = spaces.Dict({
            "pixels": spaces.Box(0, 255, (500, 500, 3), np.uint8),
            "proprio": spaces.Box(-8.0, 8.0, (1,), np.float32),
        })  # fmt: skip
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._held, self._up = 0, False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Any angle, up to 1 rad/s."""
        self.pendulum.reset(seed=seed, options=options)
        self._held, self._up = 0, False
        return self._observation(), self._info()

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """0.05 s with this torque."""
        torque = TORQUE * np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        _, reward, _, _, _ = self.pendulum.step(torque)
        near = abs(self.angle) < UPRIGHT and abs(self.velocity) < SLOW
        self._held = self._held + 1 if near else 0
        self._up |= abs(self.angle) < UPRIGHT
        info = self._info()
        return self._observation(), float(reward) / REWARD, info["success"], False, info

    @property
    def angle(self) -> float:
        """Angle from upright in rad, -pi..pi, counterclockwise."""
        return float((self.pendulum.state[0] + np.pi) % (2 * np.pi) - np.pi)

    @property
    def velocity(self) -> float:
        """Angular velocity in rad/s."""
        return float(self.pendulum.state[1])

    def truth(self) -> dict[str, np.ndarray]:
        """Where the rod's free end is, (3,) in m, and whether it points up."""
        tip = LENGTH * np.array([-np.sin(self.angle), np.cos(self.angle), 0.0])
        return {"tip": tip, "up": np.array(abs(self.angle) < UPRIGHT)}

    def expert(self, np_random: np.random.Generator, mistaken: bool = False) -> PendulumExpert:
        """An expert for the running episode; a `mistaken` one errs about the angle."""
        return PendulumExpert(self, np_random, mistaken)

    def _observation(self) -> dict[str, np.ndarray]:
        proprio = np.array([np.clip(self.velocity, -8.0, 8.0)], np.float32)
        return {"pixels": np.asarray(self.pendulum.render()), "proprio": proprio}

    def _info(self) -> dict[str, Any]:
        success = self._held >= HOLD_STEPS
        outcome = "success" if success else "swung" if self._up else "not_up"
        return {"success": success, "is_success": success, "outcome": outcome}


class PendulumExpert:
    """Pumps energy until there is enough to stand on top [Astrom and Furuta 2000], then holds."""

    def __init__(self, env: Pendulum, np_random: np.random.Generator, mistaken: bool) -> None:
        self.env = env
        self.gain = float(np_random.uniform(0.7, 1.3))  # N m per J
        self.wrong = 0.0  # rad
        if mistaken:
            self.wrong = float(np_random.uniform(0.4, 1.2) * np_random.choice([-1.0, 1.0]))

    def act(self) -> np.ndarray:
        """(1,) in [-1, 1]."""
        angle, speed = self.env.angle + self.wrong, self.env.velocity
        angle = (angle + np.pi) % (2 * np.pi) - np.pi
        if abs(angle) < 0.5 and abs(speed) < 2.5:
            torque = -(12.0 * angle + 3.0 * speed)
        else:
            energy = MASS * LENGTH**2 / 6 * speed**2 + TOP * np.cos(angle)
            way = np.sign(speed) if abs(speed) > 0.05 else 1.0
            torque = way * self.gain * np.clip(TOP - energy, -TORQUE, TORQUE) * 2.0
        return np.clip([torque / TORQUE], -1.0, 1.0).astype(np.float32)
