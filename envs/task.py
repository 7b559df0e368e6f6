"""The base of every task: a Panda at a table as a Gymnasium environment.

A task fills in `_reset_task` and `_measure` and offers an `expert`; spaces, cameras, control and
the checks of the input are here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np

from envs.controller import (
    Controller,
    ControllerConfig,
    hand_down,
    rotation_matrix,
    rotation_vector,
)
from envs.options import one_of, picture_size, some_of
from envs.randomize import RANDOMISATIONS, Randomiser
from envs.rendering import Renderer
from envs.scene import GRIPPER_MAX_OPENING, TABLE_X, TABLE_Y, SceneConfig, build_model

CAMERAS = ("front", "wrist")
VIEWS = ("viewer", *CAMERAS)
REWARDS = ("dense", "sparse")

ACTION_NAMES = (
    "delta_x [0.03 m]", "delta_y [0.03 m]", "delta_z [0.03 m]",
    "delta_rx [0.20 rad]", "delta_ry [0.20 rad]", "delta_rz [0.20 rad]",
    "gripper [>0 close, <0 open]",
)  # fmt: skip
_PROPRIO: tuple[tuple[str, float, float], ...] = (  # name, low, high
    *((f"tcp_{axis} [m]", -2.0, 2.0) for axis in "xyz"),
    *((f"hand_{column}_{axis} [1]", -1.01, 1.01) for column in "xy" for axis in "xyz"),
    ("gripper_opening [m]", -0.01, 0.09),
    *((f"commanded_minus_tcp_{axis} [m]", -1.0, 1.0) for axis in "xyz"),
    *((f"commanded_minus_hand_r{axis} [rad]", -3.15, 3.15) for axis in "xyz"),
    ("gripper_command [1 close, -1 open]", -1.0, 1.0),
    *((f"joint{i + 1} [rad]", -3.8, 3.8) for i in range(7)),
)
_LOW = np.array([low for _, low, _ in _PROPRIO], np.float32)
_HIGH = np.array([high for _, _, high in _PROPRIO], np.float32)


@dataclass(frozen=True)
class Measurement:
    """What a task says about its present state."""

    potential: float  # in [0, 1], how far the task has come; its change is the dense reward
    success: bool
    failed: bool  # the task can no longer be done
    outcome: str  # the verdict, were the episode to end now


class ArmTask(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """A Franka Panda at a table's edge, two cameras, control at 10 Hz (dt = 0.1 s, physics 5 ms).

    What all tasks have in common; a task's docstring tells its things, reward, end and start. World
    frame: origin at the robot's base on the table top, x away from the robot, z up. SI units.

    ## Action: `Box(-1, 1, (7,), float32)`

    | i | name | 1.0 stands for |
    |---|---|---|
    | 0-2 | delta of the commanded TCP position, world x, y, z | 0.03 m (0.3 m/s) |
    | 3-5 | delta of the commanded orientation, rotation vector about world x, y, z | 0.20 rad |
    | 6 | gripper: > 0 closes, < 0 opens, 0 keeps the last command | 20 N a finger |

    The commanded pose adds up the deltas. It stays inside the workspace (x 0.24..0.72, y -0.34..
    0.34, z 0.016..0.36 m; tilt up to 0.6 rad, yaw within +-1.9 rad) and at most 0.06 m and 0.5 rad
    ahead of the real one. Values beyond [-1, 1] are clipped; NaN raises `ValueError`.

    ## Observation: `Dict`

    | key | space | what |
    |---|---|---|
    | `front` | uint8 (h, w, 3) | fixed camera opposite the robot, about 10 mm a pixel at 64 |
    | `wrist` | uint8 (h, w, 3) | camera on the hand, sees fingertips and what is between them |
    | `proprio` | float32 (24,) | below; names and units in `proprio_names` |

    | i | `proprio` | unit |
    |---|---|---|
    | 0-2 | TCP position x, y, z | m |
    | 3-8 | hand's x axis and y axis in the world (6-D orientation) | 1 |
    | 9 | distance between the finger pads, 0..0.08 | m |
    | 10-12 | commanded minus real TCP position | m |
    | 13-15 | commanded minus real orientation, rotation vector | rad |
    | 16 | gripper's command, 1 close, -1 open | 1 |
    | 17-23 | joint angles | rad |

    ## Reward

    `reward="sparse"`: 1 on the step that succeeds, else 0. `"dense"`: the change of a potential in
    [0, 1] that the task states, plus 1 on success. `info` has both at every step, `success` =
    `is_success` (bool), and `outcome`, the verdict if the episode ended now.

    ## Start

    Hand: pointing down, x 0.36..0.56, y -0.18..0.18, z 0.20..0.27 m, yaw +-0.3 rad, gripper open;
    the rest as the task tells. All from the seed; `reset(options=...)` sets by hand what it names.

    ## Arguments

    | name | default | values |
    |---|---|---|
    | `reward` | `"sparse"` | `"sparse"`, `"dense"` |
    | `image_size` | 64 | pixels, or (h, w), 16 to 1024 |
    | `cameras` | `("front", "wrist")` | any of these; `()` renders nothing |
    | `randomize` | `()` | any of `"colour"`, `"light"`, `"camera"`, drawn at every reset |
    | `render_mode` | None | `"rgb_array"` |
    | `render_size`, `render_camera` | 512, `"viewer"` | size; `"viewer"`, `"front"`, `"wrist"` |
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's form)
    control_frequency = 10.0  # Hz
    proprio_names = tuple(name for name, _, _ in _PROPRIO)
    action_names = ACTION_NAMES
    task_name = ""
    scene = SceneConfig()
    #: a key -> the action's index that it moves, and which way; 0: back and forth. As seen from the
    #: front camera, which looks at the robot
    keys: ClassVar[dict[str, tuple[int, float]]] = {
        "ArrowUp": (0, -1.0), "ArrowDown": (0, 1.0), "ArrowLeft": (1, -1.0), "ArrowRight": (1, 1.0),
        "w": (0, -1.0), "s": (0, 1.0), "a": (1, -1.0), "d": (1, 1.0), "q": (2, 1.0),
        "e": (2, -1.0), "z": (5, 1.0), "c": (5, -1.0), " ": (6, 0.0),
    }  # fmt: skip

    def __init__(
        self,
        reward: str = "sparse",
        image_size: int | Sequence[int] = 64,
        cameras: Sequence[str] = CAMERAS,
        randomize: Sequence[str] = (),
        render_mode: str | None = None,
        render_size: int | Sequence[int] = 512,
        render_camera: str = "viewer",
    ) -> None:
        self.reward_kind = one_of("reward", reward, REWARDS)
        self.cameras = some_of("cameras", cameras, CAMERAS)
        self.randomize = some_of("randomize", randomize, RANDOMISATIONS)
        self.image_size = picture_size("image_size", image_size)
        self.render_size = picture_size("render_size", render_size)
        self.render_camera = one_of("render_camera", render_camera, VIEWS)
        if render_mode is not None:
            one_of("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.render_mode = render_mode

        scene = self.scene
        self.model = build_model(scene)
        self.data = mujoco.MjData(self.model)
        self.controller = Controller(build_model(scene, arm_only=True), ControllerConfig())
        self.closing = False  # the gripper's command
        self._randomiser = Randomiser(self.model)
        self._renderer: Renderer | None = None
        self._substeps = round(1.0 / self.control_frequency / scene.timestep)
        self._tcp = self.model.site("tcp").id
        self._fingers = [int(self.model.joint(f"finger{n}").qposadr[0]) for n in (1, 2)]
        self._potential = 0.0
        self._ready = False

        boxes: dict[str, gymnasium.Space[Any]] = {
            name: gymnasium.spaces.Box(0, 255, (*self.image_size, 3), np.uint8)
            for name in self.cameras
        }
        boxes["proprio"] = gymnasium.spaces.Box(_LOW, _HIGH, dtype=np.float32)
        self.observation_space: gymnasium.Space[Any] = gymnasium.spaces.Dict(boxes)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (len(ACTION_NAMES),), np.float32)

    @property
    def mounts(self) -> dict[str, dict[str, tuple[float, ...]]]:
        """Calibration of the cameras, in the words of `worldmodel.spec.Mount`; none where
        `randomize` moves them."""
        if "camera" in self.randomize:
            return {}
        (h, w), found = self.image_size, {}
        for name in self.cameras:
            camera, turn = self.model.camera(name), np.zeros(9)
            mujoco.mju_quat2Mat(turn, camera.quat)
            right, up, back = turn.reshape(3, 3).T
            half = np.tan(np.radians(camera.fovy[0]) / 2)
            rays = np.stack([right * half * w / h, -up * half, -back], axis=1)
            found[name] = {
                "offset": tuple(camera.pos.tolist()), "rays": tuple(rays.ravel().tolist()),
                "area": (TABLE_X[0] - 0.05, TABLE_Y[0] - 0.1, TABLE_X[1] + 0.15, TABLE_Y[1] + 0.1),
            }  # fmt: skip
        if "wrist" in found:  # its frame is the hand's, whose origin proprioception tells as TCP
            offset = self.model.camera("wrist").pos - self.model.site("tcp").pos
            frame = {"position": (0, 1, 2), "x_axis": (3, 4, 5), "y_axis": (6, 7, 8)}
            found["wrist"] |= {"offset": tuple(offset.tolist()), **frame}
        return found

    # What a task fills in ------------------------------------------------------------------------

    def _reset_task(self, options: dict[str, Any]) -> None:
        """Place the task's objects (into `self.data.qpos`) with `self.np_random`."""
        raise NotImplementedError

    def expert(self, np_random: np.random.Generator) -> Any:
        """A scripted expert for the running episode, with `act() -> action (7,)`."""
        raise NotImplementedError

    def _measure(self) -> Measurement:
        """Judge the state that was just reached; called once after every step."""
        raise NotImplementedError

    # Gymnasium -----------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Draw a new start; see the task's docstring for `options`."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self._randomiser.apply(self.randomize, self.np_random)
        position, yaw = self._draw_start()
        self.data.qpos[:7] = self.controller.reset(position, hand_down(yaw))
        self.data.qpos[self._fingers] = GRIPPER_MAX_OPENING / 2
        self.data.ctrl[:7], self.data.ctrl[7] = self.data.qpos[:7], GRIPPER_MAX_OPENING
        self.closing = False
        self._reset_task(dict(options or {}))
        mujoco.mj_forward(self.model, self.data)
        measured = self._measure()
        self._potential = measured.potential
        self._ready = True
        return self._observation(), self._info(measured, dense=0.0)

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Play one action for 0.1 s."""
        if not self._ready:
            raise RuntimeError("step was called before reset; call env.reset(seed=...) first")
        action = self._checked(action)
        if action[6] != 0.0:
            self.closing = bool(action[6] > 0.0)
        self._play(action)
        measured = self._measure()
        dense = measured.potential - self._potential + float(measured.success)
        self._potential = measured.potential
        reward = dense if self.reward_kind == "dense" else float(measured.success)
        ended = measured.success or measured.failed
        return self._observation(), reward, ended, False, self._info(measured, dense)

    def frame(self, camera: str, size: int | Sequence[int]) -> np.ndarray:
        """A picture of the present state, uint8 (h, w, 3), from `viewer`, `front` or `wrist`."""
        one_of("camera", camera, VIEWS)
        return self._pictures((camera,), picture_size("size", size))[camera]

    def render(self) -> np.ndarray | None:
        """A frame of `render_camera` in `render_size`, or None without `render_mode`."""
        if self.render_mode is None:
            return None
        return self.frame(self.render_camera, self.render_size)

    def close(self) -> None:
        """Free the renderer; the environment may be reset and used again."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    # State, for tasks and experts ----------------------------------------------------------------

    @property
    def tcp_position(self) -> np.ndarray:
        """Position (3,) in m of the point between the finger pads."""
        return self.data.site_xpos[self._tcp].copy()

    @property
    def tcp_rotation(self) -> np.ndarray:
        """Rotation (3, 3) of the hand."""
        return self.data.site_xmat[self._tcp].reshape(3, 3).copy()

    @property
    def opening(self) -> float:
        """Distance between the finger pads in m."""
        return float(self.data.qpos[self._fingers].sum())

    def position(self, name: str) -> np.ndarray:
        """Position (3,) in m of a thing of the scene, or of a part of it."""
        return self.data.xpos[self.model.body(name).id].copy()

    def rotation(self, name: str) -> np.ndarray:
        """Rotation (3, 3) of a thing of the scene."""
        return self.data.xmat[self.model.body(name).id].reshape(3, 3).copy()

    def touching(self, name: str) -> set[str]:
        """Names of the shapes that touch the shape of this name."""
        geom, pairs = self.model.geom(name).id, self.data.contact.geom[: self.data.ncon]
        met = pairs[(pairs == geom).any(axis=1)]
        return {self.model.geom(int(i)).name for i in met.ravel() if i != geom}

    def held(self, name: str) -> bool:
        """True while both finger pads touch the shape of this name."""
        return {"pad1", "pad2"} <= self.touching(name)

    def put(self, name: str, position: Sequence[float] | np.ndarray, yaw: float = 0.0) -> None:
        """Put a thing at a position (2,) or (3,) in m, upright and turned by `yaw` (rad): before
        the physics, for `_reset_task`. Without a height a thing stays at its own."""
        body, quat, turned = self.model.body(name), np.empty(4), rotation_matrix(
            np.array([0.0, 0.0, yaw])
        )  # fmt: skip
        mujoco.mju_mat2Quat(quat, turned.ravel())
        if body.jntnum[0]:  # loose: what its joint says; else the model itself
            start = int(self.model.jnt_qposadr[body.jntadr[0]])
            self.data.qpos[start : start + len(position)] = position
            self.data.qpos[start + 3 : start + 7] = quat
        else:
            body.pos[: len(position)], body.quat[:] = position, quat

    def start_at(self, options: dict[str, Any], drawn: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """`drawn` with what reset's `options` set by hand; `ValueError` for an unknown option, or
        one of another shape than what it replaces."""
        found = {name: np.asarray(value, float) for name, value in drawn.items()}
        for name, value in options.items():
            one_of("reset option", name, tuple(found))
            given = np.asarray(value, float)
            if given.shape != found[name].shape or not np.isfinite(given).all():
                raise ValueError(
                    f"got {name}={value}, expected numbers of shape {found[name].shape}, in m"
                )
            found[name] = given
        return found

    def truth(self) -> dict[str, np.ndarray]:
        """What a judge of imagined frames wants to know: positions (3,) in m, and flags (bool)."""
        return {"gripper": self.tcp_position}

    # Internals -----------------------------------------------------------------------------------

    def _draw_start(self) -> tuple[np.ndarray, float]:
        """A start pose of the hand above the workspace: position (3,) in m and yaw in rad."""
        rng = self.np_random
        position = rng.uniform((0.36, -0.18, 0.20), (0.56, 0.18, 0.27))
        return position, float(rng.uniform(-0.3, 0.3))

    def _checked(self, action: np.ndarray) -> np.ndarray:
        """The action as float64 clipped to [-1, 1]; `ValueError` for a wrong shape or NaN."""
        values = np.asarray(action, dtype=np.float64)
        if values.shape != self.action_space.shape:
            raise ValueError(
                f"got an action of shape {values.shape}, expected {self.action_space.shape}: "
                f"{', '.join(self.action_names)}; pass one action per step, not a batch or a chunk"
            )
        if not np.isfinite(values).all():
            bad = [self.action_names[i] for i in np.flatnonzero(~np.isfinite(values))]
            raise ValueError(
                f"got an action with NaN or infinity in {', '.join(bad)}, expected finite numbers "
                "in [-1, 1]; nothing was stepped. Check the policy's output"
            )
        return np.clip(values, -1.0, 1.0)

    def _play(self, action: np.ndarray) -> None:
        """Run the physics of one step, with joint targets interpolated over it."""
        data, start = self.data, self.controller.joints.copy()
        target = self.controller.move(action[:6], self.tcp_position, self.tcp_rotation)
        path = start + np.linspace(0.0, 1.0, self._substeps + 1)[1:, None] * (target - start)
        data.ctrl[7] = 0.0 if self.closing else GRIPPER_MAX_OPENING
        for joints in path:
            data.ctrl[:7] = joints
            mujoco.mj_step(self.model, data)
        mujoco.mj_kinematics(self.model, data)  # mj_step leaves poses one substep behind
        mujoco.mj_camlight(self.model, data)

    def _observation(self) -> dict[str, np.ndarray]:
        position, rotation = self.tcp_position, self.tcp_rotation
        proprio = np.concatenate([
            position, rotation[:, 0], rotation[:, 1], [self.opening],
            self.controller.position - position,
            rotation_vector(self.controller.rotation @ rotation.T),
            [1.0 if self.closing else -1.0], self.data.qpos[:7],
        ])  # fmt: skip
        pictures = self._pictures(self.cameras, self.image_size) if self.cameras else {}
        return {**pictures, "proprio": np.clip(proprio.astype(np.float32), _LOW, _HIGH)}

    def _pictures(self, cameras: tuple[str, ...], size: tuple[int, int]) -> dict[str, np.ndarray]:
        if self._renderer is None:
            self._renderer = Renderer(self.model, size)
        return self._renderer.images(self.data, cameras, size)

    def _info(self, measured: Measurement, dense: float) -> dict[str, Any]:
        return {
            "success": measured.success,
            "is_success": measured.success,
            "outcome": measured.outcome,
            "reward_dense": dense,
            "reward_sparse": float(measured.success),
        }


def on_table(position: np.ndarray) -> bool:
    """Whether a point's x and y are above the table."""
    x, y = float(position[0]), float(position[1])
    return TABLE_X[0] < x < TABLE_X[1] and TABLE_Y[0] < y < TABLE_Y[1]


def draw_apart(
    rng: np.random.Generator, low: Sequence[float], high: Sequence[float], apart: float, count: int
) -> list[np.ndarray]:
    """Places (2,) in m from `low` to `high`, any two at least `apart`."""
    while True:
        places = rng.uniform(low, high, (count, 2))
        gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)
        if (gaps + apart * np.eye(count) >= apart).all():
            return list(places)
