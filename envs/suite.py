"""ManipulationSuite: all tasks behind one Gymnasium env, told by proprioception which it is."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np

from envs import TASKS
from envs.options import one_of, some_of
from envs.task import CAMERAS, ArmTask


class ManipulationSuite(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """One of several tasks at every reset; a policy for all of them is judged in one table.

    Action, observation and arguments are those of `envs.task.ArmTask`, but that `proprio` ends with
    one number per task, 1 for the task that is asked for and 0 for the others [as Meta-World's
    multi-task benchmarks tell it].

    | | |
    |---|---|
    | `tasks` | which ones `proprio` tells apart, in this order; all eight by default |
    | `only` | which of them a reset asks for, all by default |
    | start | seed s asks for the task `only[s % len(only)]`, and is that task's start of seed s |
    | options of `reset` | `task`: its name; the others go to the task |
    | `info` | as the task's, and `task` |
    | `truncated` | 100 steps |
    """

    metadata = ArmTask.metadata
    control_frequency = ArmTask.control_frequency
    action_names = ArmTask.action_names
    keys = ArmTask.keys

    def __init__(
        self,
        tasks: Sequence[str] = tuple(TASKS),
        only: Sequence[str] = (),
        reward: str = "sparse",
        image_size: int | Sequence[int] = 64,
        cameras: Sequence[str] = CAMERAS,
        randomize: Sequence[str] = (),
        render_mode: str | None = None,
        render_size: int | Sequence[int] = 512,
        render_camera: str = "viewer",
    ) -> None:
        self.task_names = some_of("tasks", tasks, tuple(TASKS))
        if not self.task_names:
            raise ValueError(f"got no tasks, expected some of {', '.join(TASKS)}")
        self.asked = some_of("only", only, self.task_names) or self.task_names
        self._arguments = {
            "reward": reward, "image_size": image_size, "cameras": cameras,
            "randomize": randomize, "render_mode": render_mode, "render_size": render_size,
            "render_camera": render_camera,
        }  # fmt: skip
        self._made: dict[str, ArmTask] = {}
        self.task = self._task(self.task_names[0])
        self.render_mode, self.cameras = self.task.render_mode, self.task.cameras
        self.proprio_names = (
            *self.task.proprio_names, *(f"task_{name} [1]" for name in self.task_names),
        )  # fmt: skip
        seen: Any = self.task.observation_space
        felt, more = seen["proprio"], np.zeros(len(self.task_names), np.float32)
        low, high = np.append(felt.low, more), np.append(felt.high, more + 1)
        self.observation_space: gymnasium.Space[Any] = gymnasium.spaces.Dict(
            {**seen, "proprio": gymnasium.spaces.Box(low, high, dtype=np.float32)}
        )
        self.action_space = self.task.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The start that the seed names; see the class for `options`."""
        super().reset(seed=seed)
        options = dict(options or {})
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        name = options.pop("task", self.asked[seed % len(self.asked)])
        self.task = self._task(one_of("task", name, self.task_names))
        obs, info = self.task.reset(seed=seed, options=options)
        return self._told(obs), {**info, "task": name}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Play one action for 0.1 s."""
        obs, reward, terminated, truncated, info = self.task.step(action)
        return self._told(obs), reward, terminated, truncated, {**info, "task": self.task_name}

    @property
    def task_name(self) -> str:
        """The task that is asked for now."""
        return self.task.task_name

    @property
    def mounts(self) -> dict[str, dict[str, tuple[float, ...]]]:
        """Calibration of the cameras; all tasks have the same."""
        return self.task.mounts

    def expert(self, np_random: np.random.Generator) -> Any:
        """The running task's scripted expert."""
        return self.task.expert(np_random)

    def truth(self) -> dict[str, np.ndarray]:
        """The running task's."""
        return self.task.truth()

    def frame(self, camera: str, size: int | Sequence[int]) -> np.ndarray:
        """A picture of the present state, as `ArmTask.frame`."""
        return self.task.frame(camera, size)

    def render(self) -> np.ndarray | None:
        """A frame of `render_camera` in `render_size`, or None without `render_mode`."""
        return self.task.render()

    def close(self) -> None:
        """Free the renderers; the environment may be reset and used again."""
        for task in self._made.values():
            task.close()

    def _task(self, name: str) -> ArmTask:
        if name not in self._made:
            module, _, kind = TASKS[name].partition(":")
            self._made[name] = getattr(import_module(module), kind)(**self._arguments)
        return self._made[name]

    def _told(self, obs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The observation with which task it is."""
        told = np.array([name == self.task_name for name in self.task_names], np.float32)
        return {**obs, "proprio": np.append(obs["proprio"], told)}
