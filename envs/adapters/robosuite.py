"""robosuite's Lift and Can with a Panda, as Gymnasium envs, with an expert of our own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.adapters.looks import need, plain
from envs.options import one_of, picture_size
from envs.rendering import Renderer

PIP = "'robosuite==1.5.2' 'mujoco==3.9.0'"
TASKS = {"Lift": "cube", "PickPlaceCan": "Can"}  # robosuite's name -> its object
STEP, TURN = 0.05, 0.5  # m and rad, what the action 1 stands for in robosuite's OSC_POSE
ABOVE, CLEAR = 0.10, 1.10  # m: over an object before it is grasped; height at which it is carried
STEPS = 200
CLOSING, LETTING_GO = 8, 12  # steps in which the fingers get hold; in which they let go, and rise

_NAMES = (
    *(f"hand_{axis} [m]" for axis in "xyz"),
    *(f"hand_{column}_{axis} [1]" for column in "xy" for axis in "xyz"),
    "gripper_opening [m]",
    *(f"joint{i + 1} [rad]" for i in range(7)),
)


class Robosuite(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """`task="Lift"`: the cube 4 cm off the table. `task="PickPlaceCan"`: the can in its bin.

    robosuite 1.5's own scene, robot (Panda), controller (OSC_POSE, 20 Hz) and success; the pictures
    are drawn from its model without shadows, upright, so that it needs no rendering of its own.

    | what | space |
    |---|---|
    | action | `Box(-1, 1, (7,))`: x, y, z by 0.05 m; rotation vector by 0.5 rad; > 0 closes |
    | each of `cameras` | uint8 (h, w, 3): `agentview`, `frontview`, `robot0_eye_in_hand`, ... |
    | `proprio` | float32 (17,): hand x, y, z; its x and y axes; opening; joint angles |

    `terminated`, success: robosuite's own. `truncated`: 200 steps. The reward is robosuite's,
    shaped, divided by 200: a return in 0..1.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (Gymnasium's form)
    control_frequency = 20.0  # Hz
    proprio_names = _NAMES
    action_names = (
        *(f"delta_{axis} [{STEP} m]" for axis in "xyz"),
        *(f"delta_r{axis} [{TURN} rad]" for axis in "xyz"),
        "gripper [>0 close, <0 open]",
    )

    def __init__(
        self, task: str = "Lift", cameras: Sequence[str] = ("agentview", "robot0_eye_in_hand"),
        image_size: int | Sequence[int] = 64, render_mode: str | None = None,
    ) -> None:  # fmt: skip
        one_of("task", task, tuple(TASKS))
        need("robosuite", PIP, (3, 10), "robosuite 1.5.2 calls what later ones changed")
        # what Numba compiles in a process that renders may make every picture the same
        if "numba" in sys.modules and not sys.modules["numba"].config.DISABLE_JIT:
            raise RuntimeError(
                "numba was imported before the env was made, and what it compiles may make every "
                "picture the same; make the env first, or set NUMBA_DISABLE_JIT=1"
            )
        os.environ["NUMBA_DISABLE_JIT"] = "1"
        robosuite: Any = importlib.import_module("robosuite")
        self.suite: Any = robosuite.make(
            task, robots="Panda", has_renderer=False, has_offscreen_renderer=False,
            use_camera_obs=False, reward_shaping=True, control_freq=round(self.control_frequency),
            ignore_done=True, hard_reset=False,
        )  # fmt: skip
        self.task_name, self.render_mode = task, render_mode
        self.cameras, self._size = tuple(cameras), picture_size("image_size", image_size)
        model = plain(self.suite.sim.model._model)
        known = [model.camera(i).name for i in range(model.ncam)]
        for name in self.cameras:
            one_of("cameras", name, known)
        self._renderer = Renderer(model, self._size, hidden=(0,))  # 0: shapes for collisions
        boxes: dict[str, spaces.Space] = {
            name: spaces.Box(0, 255, (*self._size, 3), np.uint8) for name in self.cameras
        }
        self._limit = np.array([2.0] * 3 + [1.01] * 6 + [0.1] + [3.8] * 7, np.float32)
        boxes["proprio"] = spaces.Box(-self._limit, self._limit)
        self.observation_space = spaces.Dict(boxes)
        self.action_space = spaces.Box(-1.0, 1.0, (7,), np.float32)
        self._state: dict[str, Any] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Draw the object's place and the arm's pose, both by robosuite, from the seed."""
        super().reset(seed=seed)
        if seed is not None:  # in place: its samplers hold the same generator
            self.suite.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        self._state = self.suite.reset()
        return self._observation(), {"success": False, "outcome": "failure"}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """0.05 s."""
        self._state, reward, _, _ = self.suite.step(np.asarray(action, np.float64))
        success = bool(self.suite._check_success())
        outcome = "success" if success else "failure"
        said = {"success": success, "is_success": success, "outcome": outcome}
        return self._observation(), float(reward) / STEPS, success, False, said

    def render(self) -> Any:
        """The first camera, 256 x 256."""
        return self._pictures(self.cameras[:1], (256, 256))[self.cameras[0]]

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()

    # State, for the expert and for judging -------------------------------------------------------

    @property
    def hand(self) -> np.ndarray:
        """Position (3,) in m of the point between the fingertips."""
        return np.array(self._state["robot0_eef_pos"])

    @property
    def rotation(self) -> np.ndarray:
        """Rotation (3, 3) of the hand."""
        site = self.suite.robots[0].eef_site_id["right"]
        return np.array(self.suite.sim.data.site_xmat[site]).reshape(3, 3)

    @property
    def thing(self) -> np.ndarray:
        """Position (3,) in m of cube or can."""
        return np.array(self._state[f"{TASKS[self.task_name]}_pos"])

    @property
    def thing_yaw(self) -> float:
        """Angle of the object about the vertical in rad."""
        x, y, z, w = self._state[f"{TASKS[self.task_name]}_quat"]
        return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))

    @property
    def opening(self) -> float:
        """Distance between the fingertips in m."""
        left, right = self._state["robot0_gripper_qpos"]
        return float(left - right)

    @property
    def goal(self) -> np.ndarray:
        """Where the object is carried, (3,) in m: over its bin, or up."""
        if self.task_name == "Lift":
            return np.array([*self.thing[:2], CLEAR])
        return np.array([*self.suite.target_bin_placements[self.suite.object_id][:2], 0.93])

    def truth(self) -> dict[str, np.ndarray]:
        """Positions (3,) in m of hand and object."""
        return {"gripper": self.hand, "object": self.thing}

    def expert(self, np_random: np.random.Generator, mistaken: bool = False) -> RobosuiteExpert:
        """Grasps, lifts, and carries; a `mistaken` one errs about where the object is."""
        return RobosuiteExpert(self, np_random, mistaken)

    def _observation(self) -> dict[str, np.ndarray]:
        rotation = self.rotation
        proprio = np.concatenate([
            self.hand, rotation[:, 0], rotation[:, 1], [self.opening],
            self._state["robot0_joint_pos"],
        ])  # fmt: skip
        proprio = np.clip(proprio.astype(np.float32), -self._limit, self._limit)
        return {**self._pictures(self.cameras, self._size), "proprio": proprio}

    def _pictures(self, cameras: tuple[str, ...], size: tuple[int, int]) -> dict[str, np.ndarray]:
        return self._renderer.images(self.suite.sim.data._data, cameras, size)


class RobosuiteExpert:
    """Above the object, down, close, up, over the goal, open; and again where it slips."""

    def __init__(self, env: Robosuite, np_random: np.random.Generator, mistaken: bool) -> None:
        self.env = env
        self.speed = float(np_random.uniform(0.8, 1.0))
        self.offset = np.zeros(3)
        if mistaken:
            angle = np_random.uniform(-np.pi, np.pi)
            self.offset[:2] = np_random.uniform(0.03, 0.09) * np.array(
                [np.cos(angle), np.sin(angle)]
            )
        self.closed = 0  # steps since the fingers began to close
        self.letting_go = 0  # steps that remain of that

    def act(self) -> np.ndarray:
        """(7,) in [-1, 1]."""
        env = self.env
        hand, thing = env.hand, env.thing + self.offset
        gap = thing - hand
        level = float(np.linalg.norm(gap[:2]))
        if self.letting_go:
            self.letting_go -= 1
            up = 0.0 if self.letting_go > LETTING_GO - 4 else 0.1
            return self._toward(hand + np.array([0.0, 0.0, up]), closes=False)
        if self.closed and (np.linalg.norm(gap) > 0.04 or env.opening < 0.01):
            self.closed = 0  # it has slipped away, or there was nothing
        if not self.closed:
            low = hand[2] - thing[2] < 0.06 and level < 0.03
            above = 0.0 if low or level < 0.012 else ABOVE
            target = thing + np.array([0.0, 0.0, above])
            self.closed = int(level < 0.012 and abs(gap[2]) < 0.012)
            return self._toward(target, closes=bool(self.closed), turns=True)
        self.closed += 1
        if self.closed < CLOSING:
            return self._toward(thing, closes=True)
        goal = env.goal
        if np.linalg.norm(goal[:2] - hand[:2]) > 0.03:
            high = hand[2] > CLEAR - 0.06
            target = np.array([*(goal[:2] if high else hand[:2]), CLEAR])
            return self._toward(target, closes=True)
        if env.task_name != "Lift" and hand[2] < goal[2] + 0.03:
            self.closed, self.letting_go = 0, LETTING_GO
        return self._toward(goal, closes=not self.letting_go)

    def _toward(self, target: np.ndarray, closes: bool, turns: bool = False) -> np.ndarray:
        """The action that goes there, turned to the object's sides where asked."""
        action = np.zeros(7)
        action[:3] = self.speed * (target - self.env.hand) / STEP
        if turns and self.env.task_name == "Lift":  # a cube's sides come every quarter turn
            x = self.env.rotation[:, 0]
            wrong = self.env.thing_yaw - np.arctan2(x[1], x[0])
            action[5] = ((wrong + np.pi / 4) % (np.pi / 2) - np.pi / 4) / TURN
        action[6] = 1.0 if closes else -1.0
        return np.clip(action, -1.0, 1.0).astype(np.float32)
