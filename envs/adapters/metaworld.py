"""Meta-World: one of its tasks, seen, with the policy that the package ships for it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.adapters.looks import need, plain
from envs.options import one_of, picture_size
from envs.rendering import Renderer

PIP = "'metaworld>=3,<4' packaging 'mujoco==3.3.0'"
STEPS, REPEAT = 500, 4  # of Meta-World's steps of 12.5 ms
UPSIDE_DOWN = "corner"  # the cameras whose name begins so show the room on its head


class MetaWorld(gymnasium.Wrapper):
    """One task of Meta-World v3, `task="reach-v3"`, with the goal in view.

    Control runs at 20 Hz: an action is held for four of Meta-World's steps. The goal and the
    objects are drawn anew from the seed at every reset, from the task's whole range.

    | what | space |
    |---|---|
    | action | `Box(-1, 1, (4,))`: the hand's x, y, z, each up to 0.04 m a step; gripper effort |
    | each of `cameras` | uint8 (h, w, 3); `corner`, `corner2`, `corner3`, `topview`, ... |
    | `proprio` | float32 (4,): the hand's x, y, z in m; the gripper's opening, 0..1 |

    `terminated`: Meta-World's own success. `truncated`: 125 steps (its limit of 500). The reward is
    the sum of Meta-World's over the four steps, divided by 5000: a return in 0..1.
    """

    control_frequency = 20.0  # Hz
    proprio_names = ("hand_x [m]", "hand_y [m]", "hand_z [m]", "gripper_opening [1]")
    action_names = ("delta_x [0.04 m]", "delta_y [0.04 m]", "delta_z [0.04 m]", "gripper [effort]")

    def __init__(
        self, task: str = "reach-v3", cameras: Sequence[str] = ("corner",),
        image_size: int | Sequence[int] = 64, render_mode: str | None = None,
    ) -> None:  # fmt: skip
        need("metaworld", PIP)
        env_dict: Any = importlib.import_module("metaworld.env_dict")
        policies: Any = importlib.import_module("metaworld.policies")

        one_of("task", task, sorted(env_dict.ALL_V3_ENVIRONMENTS))
        self.sawyer: Any = env_dict.ALL_V3_ENVIRONMENTS[task]()
        super().__init__(self.sawyer)
        self._mode = render_mode
        self.sawyer._partially_observable = False  # its policies read the goal
        self.sawyer.__dict__.pop("sawyer_observation_space", None)  # cached, with the goal at 0
        self.sawyer._freeze_rand_vec, self.sawyer.seeded_rand_vec = False, True
        self.sawyer._set_task_called = True
        self.task_name, self.cameras = task, tuple(cameras)
        self._make_policy = policies.ENV_POLICY_MAP[task]
        self._size = picture_size("image_size", image_size)
        known = [self.sawyer.model.camera(i).name for i in range(self.sawyer.model.ncam)]
        for name in self.cameras:
            one_of("cameras", name, known)
        self._renderer = Renderer(plain(self.sawyer.model), self._size)
        boxes: dict[str, spaces.Space] = {
            name: spaces.Box(0, 255, (*self._size, 3), np.uint8) for name in self.cameras
        }
        low = np.array([-1.0, -0.5, -0.5, 0.0], np.float32)
        high = np.array([1.0, 1.5, 1.5, 1.0], np.float32)
        boxes["proprio"] = spaces.Box(low, high)
        self.observation_space = spaces.Dict(boxes)
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        self._state = np.zeros(39)

    @property
    def render_mode(self) -> str | None:
        """`rgb_array`, or None."""
        return self._mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Draw goal and objects."""
        if seed is not None:
            self.sawyer.seed(seed)
        self._state, _ = self.sawyer.reset()
        return self._observation(), {"success": False, "outcome": "failure"}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Hold the action for 0.05 s, or until the task is done."""
        total, success, over = 0.0, False, False
        for _ in range(REPEAT):
            self._state, reward, _, over, info = self.sawyer.step(np.asarray(action, np.float32))
            total, success = total + float(reward), bool(info["success"])
            if success or over:
                break
        outcome = "success" if success else "failure"
        said = {"success": success, "is_success": success, "outcome": outcome}
        return self._observation(), total / (10 * STEPS), success, bool(over), said

    def render(self) -> Any:
        """The first camera, 256 x 256."""
        return self._pictures(self.cameras[:1], (256, 256))[self.cameras[0]]

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()
        self.sawyer.close()

    def truth(self) -> dict[str, np.ndarray]:
        """Positions (3,) in m of hand, first object and goal."""
        hand, thing, goal = self._state[:3], self._state[4:7], self._state[-3:]
        return {"gripper": hand.copy(), "object": thing.copy(), "goal": goal.copy()}

    def expert(self, np_random: np.random.Generator, mistaken: bool = False) -> MetaWorldExpert:
        """Meta-World's own policy; a `mistaken` one errs about where object and goal are."""
        return MetaWorldExpert(self, self._make_policy(), np_random, mistaken)

    @property
    def state(self) -> np.ndarray:
        """What Meta-World's policies read, (39,)."""
        return self._state

    def _observation(self) -> dict[str, np.ndarray]:
        proprio = self._state[:4].astype(np.float32)
        return {**self._pictures(self.cameras, self._size), "proprio": proprio}

    def _pictures(self, cameras: tuple[str, ...], size: tuple[int, int]) -> dict[str, np.ndarray]:
        found = self._renderer.images(self.sawyer.data, cameras, size)
        return {
            name: np.ascontiguousarray(x[::-1]) if name.startswith(UPSIDE_DOWN) else x
            for name, x in found.items()
        }


class MetaWorldExpert:
    """A policy of Meta-World, on states in which object and goal may be displaced."""

    def __init__(
        self, env: MetaWorld, policy: Any, np_random: np.random.Generator, mistaken: bool
    ) -> None:
        self.env, self.policy = env, policy
        self.offset = np.zeros(39)
        if mistaken:
            for start in (4, 36):
                self.offset[start : start + 2] = np_random.uniform(-0.12, 0.12, 2)  # m

    def act(self) -> np.ndarray:
        """(4,) in [-1, 1]."""
        action = self.policy.get_action(self.env.state + self.offset)
        return np.clip(np.asarray(action, np.float32), -1.0, 1.0)
