"""OGBench's cube: one task of its manipulation space, seen, with the oracle that it ships."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.adapters.looks import need, plain
from envs.options import picture_size
from envs.rendering import Renderer

PIP = "'ogbench>=1.1' 'mujoco<4'"
CAMERA = "front_pixels"
TASKS, STEPS = 5, 200


class OGBenchCube(gymnasium.Wrapper):
    """Bring a cube to a place: `cube-single` of OGBench, one of its five tasks, 1 to 5.

    A task has one start, drawn within 1 cm and at any yaw, and one goal, which is not in the
    picture. Control runs at 20 Hz (a UR5e with a Robotiq gripper).

    | what | space |
    |---|---|
    | action | `Box(-1, 1, (5,))`: x, y, z by 0.05 m; yaw by 0.3 rad; gripper by its opening |
    | `front_pixels` | uint8 (h, w, 3), OGBench's camera; the arm is transparent, as there |
    | `proprio` | float32 (12,): joints; effector x, y, z; cos, sin of its yaw; gripper |

    `terminated`, success: the cube within 4 cm of its goal. `truncated`: 200 steps. The reward is
    OGBench's, divided by 200: a return in -1..0.
    """

    control_frequency = 20.0  # Hz
    cameras = (CAMERA,)
    proprio_names = (
        *(f"joint{i + 1} [rad]" for i in range(6)),
        *(f"effector_{axis} [m]" for axis in "xyz"), "cos_yaw [1]", "sin_yaw [1]",
        "gripper [1 closed]",
    )  # fmt: skip
    action_names = (
        "delta_x [0.05 m]", "delta_y [0.05 m]", "delta_z [0.05 m]", "delta_yaw [0.3 rad]",
        "gripper [>0 close, <0 open]",
    )  # fmt: skip

    def __init__(
        self, task: int = 2, image_size: int | Sequence[int] = 64, render_mode: str | None = None
    ) -> None:
        need("ogbench", PIP)
        module = importlib.import_module("ogbench.manipspace.envs.cube_env")

        if task not in range(1, TASKS + 1):
            raise ValueError(f"got task={task!r}, expected 1 to {TASKS}")
        self.cube: Any = module.CubeEnv(
            "single", permute_blocks=False, reward_task_id=task, visualize_info=False
        )
        super().__init__(self.cube)
        self._mode, self.task_name = render_mode, f"cube-single-task{task}"
        self._size = picture_size("image_size", image_size)
        self._renderer: Renderer | None = None
        self._info: dict[str, Any] = {}
        self._limit = np.array([2 * np.pi] * 6 + [2.0] * 3 + [1.0] * 3, np.float32)
        self.observation_space = spaces.Dict({
            CAMERA: spaces.Box(0, 255, (*self._size, 3), np.uint8),
            "proprio": spaces.Box(-self._limit, self._limit),
        })  # fmt: skip
        self.action_space = spaces.Box(-1.0, 1.0, (5,), np.float32)

    @property
    def render_mode(self) -> str | None:
        """`rgb_array`, or None."""
        return self._mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The task's start, shaken a little."""
        _, self._info = self.cube.reset(seed=seed)
        return self._observation(), {"success": False, "outcome": "failure"}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """0.05 s."""
        _, reward, _, _, self._info = self.cube.step(np.asarray(action, np.float64))
        success = bool(self._info["success"])
        outcome = "success" if success else "failure"
        said = {"success": success, "is_success": success, "outcome": outcome}
        return self._observation(), float(reward) / STEPS, success, False, said

    def render(self) -> Any:
        """OGBench's camera, 256 x 256."""
        return self._picture((256, 256))

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self.cube.close()

    def truth(self) -> dict[str, np.ndarray]:
        """Positions (3,) in m of effector, cube and goal."""
        info = self.privileged()
        return {
            "gripper": info["proprio/effector_pos"], "cube": info["privileged/block_0_pos"],
            "goal": info["privileged/target_block_pos"],
        }  # fmt: skip

    def privileged(self) -> dict[str, Any]:
        """What OGBench's oracles read: its info, and the goal, which its tasks don't tell."""
        return {
            **self._info,
            "privileged/target_block": 0,
            "privileged/target_block_pos": self.cube._data.mocap_pos[0].copy(),
            "privileged/target_block_yaw": np.zeros(1),
        }

    def expert(self, np_random: np.random.Generator, mistaken: bool = False) -> OGBenchExpert:
        """OGBench's oracle; a `mistaken` one errs about where the cube is."""
        return OGBenchExpert(self, np_random, mistaken)

    def _observation(self) -> dict[str, np.ndarray]:
        info = self._info
        yaw = info["proprio/effector_yaw"]
        proprio = np.concatenate([
            info["proprio/joint_pos"], info["proprio/effector_pos"], np.cos(yaw), np.sin(yaw),
            info["proprio/gripper_opening"],
        ])  # fmt: skip
        proprio = np.clip(proprio.astype(np.float32), -self._limit, self._limit)
        return {CAMERA: self._picture(self._size), "proprio": proprio}

    def _picture(self, size: tuple[int, int]) -> np.ndarray:
        if self._renderer is None:
            self._renderer = Renderer(plain(self.cube._model), size)
        return self._renderer.images(self.cube._data, (CAMERA,), size)[CAMERA]


class OGBenchExpert:
    """OGBench's Markov oracle for cubes, which believes the cube where it may not be."""

    def __init__(self, env: OGBenchCube, np_random: np.random.Generator, mistaken: bool) -> None:
        module: Any = importlib.import_module("ogbench.manipspace.oracles.markov.cube_markov")

        self.env = env
        self.oracle = module.CubeMarkovOracle(
            env=env.cube, min_norm=float(np_random.uniform(0.3, 0.5))
        )
        self.oracle.reset(None, env.privileged())
        self.offset = np.zeros(3)
        if mistaken:
            self.offset[:2] = np_random.uniform(0.03, 0.08, 2) * np_random.choice([-1, 1], 2)  # m

    def act(self) -> np.ndarray:
        """(5,) in [-1, 1]."""
        info = self.env.privileged()
        info["privileged/block_0_pos"] = info["privileged/block_0_pos"] + self.offset
        return np.asarray(self.oracle.select_action(None, info), np.float32)
