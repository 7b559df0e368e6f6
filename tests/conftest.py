"""A toy world that needs no simulator, and a small dataset of it."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from worldmodel.collect import CollectConfig, collect


class ToyEnv(gymnasium.Env):
    """A square is pushed to the middle; success ends the episode, as does the clock."""

    cameras = ("front", "wrist")
    proprio_names = ("x [m]", "y [m]", "gripper [1]")
    action_names = ("dx [0.1 m]", "dy [0.1 m]", "gripper [1]")
    task_name = "push"

    def __init__(self, size=(18, 22), frequency=10.0, pause=0.0, limit=30) -> None:
        self.size, self.control_frequency, self.pause, self.limit = size, frequency, pause, limit
        self.observation_space = spaces.Dict(
            {
                **{c: spaces.Box(0, 255, (*size, 3), np.uint8) for c in self.cameras},
                "proprio": spaces.Box(-2, 2, (3,), np.float32),
            }
        )
        self.action_space = spaces.Box(-1, 1, (3,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.grip, self.n = self.np_random.uniform(-1, 1, 2), -1.0, 0
        return self._obs(), self._info()

    def step(self, action):
        time.sleep(self.pause)
        self.place = np.clip(self.place + 0.1 * action[:2], -1, 1)
        self.grip, self.n = float(action[2]), self.n + 1
        done = self._info()["success"]
        return self._obs(), float(done), done, self.n >= self.limit, self._info()

    def _info(self):
        good = bool(np.abs(self.place).max() < 0.1)
        return {
            "success": good,
            "is_success": good,
            "outcome": "success" if good else "out_of_time",
        }

    def _obs(self):
        h, w = self.size
        row, column = ((self.place + 1) / 2 * (h - 6, w - 6)).astype(int)
        front = np.full((h, w, 3), (60, 90, 120), np.uint8)
        front[row : row + 6, column : column + 6] = (220, 40, 40)
        proprio = np.array([*self.place, self.grip], np.float32)
        return {"front": front, "wrist": front[::-1] // 2 + 40, "proprio": proprio}


class ToyPolicy:
    """Walks to the middle, but where a seed is divisible by ``lazy`` it stays where it is; the
    first time, or with 1 every time."""

    def __init__(self, env: gymnasium.Env, lazy: int = 0) -> None:
        self.lazy = lazy

    def reset(self, seeds, mask=None):
        again = seeds[0] > 10**6 and self.lazy > 1
        self.stay = bool(self.lazy) and not again and seeds[0] % self.lazy == 0

    def act(self, obs):
        toward = np.clip(-10 * obs["proprio"][:, :2], -0.8, 0.8) * (not self.stay)
        return np.concatenate([toward, np.ones((len(toward), 1))], axis=1).astype(np.float32)


def collect_toys(
    out: Path, pause: float = 0.0, lazy: int = 0, config: CollectConfig | None = None,
    make_mistaken=None,
):  # fmt: skip
    """A dataset of toys in ``out``; returns the summary."""
    config = config or CollectConfig(episodes=8, seed=100, workers=2, per_file=3)
    env, policy = partial(ToyEnv, pause=pause), partial(ToyPolicy, lazy=lazy)
    return collect(env, policy, config, out, make_mistaken=make_mistaken)


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished dataset of eight episodes; copy it before changing it."""
    out = tmp_path_factory.mktemp("toys") / "toys"
    collect_toys(out)
    return out
