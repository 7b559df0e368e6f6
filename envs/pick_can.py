"""PickCan: pick the soda can up and bring it to the home point near the robot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from envs.experts import MistakenExpert, PickCanExpert
from envs.options import one_of, positive
from envs.scene import TABLE_X, TABLE_Y, SceneConfig
from envs.task import ArmTask, Measurement, on_table
from envs.things import CAN_HALF_HEIGHT, CAN_RADIUS, can, mark

POSES = ("upright", "lying", "mixed")
CAN_LOW, CAN_HIGH = (0.40, -0.25), (0.65, 0.25)  # m, where the can may stand at the start
HOME = (0.36, 0.0)  # m
LIFT = 0.10  # m, clearance under the can that counts as lifted
HOME_RADIUS = 0.08  # m
HOLD_STEPS = 5
REACHED = 0.05  # m, from the TCP to the can's axis
IN_HAND = 0.01  # m, clearance under the can from which on it counts as in the hand
GRASPED = 0.03  # m, clearance under the can that counts as grasped


class PickCan(ArmTask):
    """Lift a soda can (66 x 120 mm, 0.35 kg) by 0.10 m and bring it to the home point.

    Action, observation and the hand's start: see `envs.task.ArmTask`.

    ## Reward

    | `reward=` | each step | return |
    |---|---|---|
    | `"sparse"` | 1 on the step that succeeds, else 0 | 0 or 1 |
    | `"dense"` | change of the potential, plus 1 on success | in [-1, 2] |

    Potential in [0, 1] = 0.3 reach (1 - tanh(5 d), d from TCP to can in m) + 0.2 held between the
    pads + 0.25 clearance / 0.10 m + 0.25 nearness to home (while lifted). `info` has both rewards.

    ## End of an episode

    - `terminated`, success: the can's lowest point is at least 0.10 m above the table and its
      centre within 0.08 m (horizontally) of home (0.36, 0.0), in 5 consecutive steps.
    - `terminated`, failure: the can has left the table's area.
    - `truncated`: 100 steps (Gymnasium's `TimeLimit`).

    `info` at reset and every step: `success` = `is_success` (bool), `reward_dense`,
    `reward_sparse`, and `outcome`, the verdict if the episode ended now: `success`; `not_reached`
    (never within 0.05 m of the can); `not_grasped` (reached, never 0.03 m off the table);
    `dropped` (lifted, then lost); `not_delivered` (in the air, not at home for long enough);
    `off_table`.

    ## Start

    Can: anywhere in x 0.40..0.65, y -0.25..0.25 m; upright or lying at any yaw. Hand: pointing
    down, x 0.36..0.56, y -0.18..0.18, z 0.20..0.27 m, yaw +-0.3 rad, gripper open. All from the
    seed. `reset(options={"can_position": (x, y), "can_pose": "lying", "can_yaw": 0.5})` sets any of
    these by hand (m; `"upright"` or `"lying"`; rad).

    ## Arguments

    | name | default | values |
    |---|---|---|
    | `pose` | `"mixed"` | `"upright"`, `"lying"`, `"mixed"` (half each) |
    | `reward` | `"sparse"` | `"sparse"`, `"dense"` |
    | `image_size` | 64 | pixels, or (h, w), 16 to 1024 |
    | `cameras` | `("front", "wrist")` | any of these; `()` renders nothing |
    | `randomize` | `()` | any of `"colour"`, `"light"`, `"camera"`, drawn at every reset |
    | `can_mass`, `can_friction`, `grip_force` | 0.35 kg, 0.8, 20 N | positive numbers |
    | `render_mode` | None | `"rgb_array"` |
    | `render_size`, `render_camera` | 512, `"viewer"` | size; `"viewer"`, `"front"`, `"wrist"` |

    ## Version history

    v0: first version.
    """

    task_name = "pick_can"
    home = np.array(HOME)  # m
    can_area = CAN_LOW, CAN_HIGH  # m, where it may stand at the start

    def __init__(
        self,
        pose: str = "mixed",
        reward: str = "sparse",
        image_size: int | Sequence[int] = 64,
        cameras: Sequence[str] = ("front", "wrist"),
        randomize: Sequence[str] = (),
        can_mass: float = 0.35,
        can_friction: float = 0.8,
        grip_force: float = 20.0,
        render_mode: str | None = None,
        render_size: int | Sequence[int] = 512,
        render_camera: str = "viewer",
    ) -> None:
        self.pose = one_of("pose", pose, POSES)
        mass, friction = positive("can_mass", can_mass), positive("can_friction", can_friction)
        self.scene = SceneConfig(
            things=(mark("home", HOME_RADIUS, HOME), can(mass=mass, friction=friction)),
            grip_force=positive("grip_force", grip_force),
        )
        super().__init__(
            reward, image_size, cameras, randomize, render_mode, render_size, render_camera
        )
        self._can_qpos = int(self.model.joint("can").qposadr[0])

    def expert(self, np_random: np.random.Generator, mistaken: bool = False) -> PickCanExpert:
        """A scripted expert for the running episode, its style drawn from `np_random`; a `mistaken`
        one errs about where the can is."""
        return (MistakenExpert if mistaken else PickCanExpert)(self, np_random)

    @property
    def can_position(self) -> np.ndarray:
        """Centre of the can (3,) in m."""
        return self.position("can")

    @property
    def can_axis(self) -> np.ndarray:
        """Unit vector (3,) along the can."""
        return self.rotation("can")[:, 2]

    @property
    def clearance(self) -> float:
        """Height in m of the can's lowest point above the table."""
        up = min(1.0, abs(float(self.can_axis[2])))
        below = CAN_HALF_HEIGHT * up + CAN_RADIUS * float(np.sqrt(1.0 - up * up))
        return float(self.can_position[2]) - below

    def truth(self) -> dict[str, np.ndarray]:
        """Positions (3,) in m of gripper and can; whether the can is in the hand, off the table."""
        in_hand = self.held("can") and self.clearance > IN_HAND
        return {**super().truth(), "can": self.can_position, "in hand": np.array(in_hand)}

    def count(self, pictures: dict[str, np.ndarray]) -> int:
        """How many cans a person would see in pictures (h, w, 3) like this env's: 0, 1 or 2.

        For judging imagined ones. Red pixels of the front camera that lie further apart than what
        the hand and the white band can hide are two cans; none in any camera is no can.
        """
        red = {name: _red(picture) for name, picture in pictures.items()}
        least = 6 * (red["front"].size / 64**2)  # pixels
        if all(mask.sum() < least for mask in red.values()):
            return 0
        reach = max(1, round(5 * red["front"].shape[0] / 64))
        return 2 if _clusters(red["front"], reach, least) > 1 else 1

    def _reset_task(self, options: dict[str, Any]) -> None:
        rng, data = self.np_random, self.data
        spot = rng.uniform(CAN_LOW, CAN_HIGH)
        yaw = float(rng.uniform(-np.pi, np.pi))
        lying = bool(rng.random() < 0.5) if self.pose == "mixed" else self.pose == "lying"
        unknown = set(options) - {"can_position", "can_pose", "can_yaw"}
        if unknown:
            one_of("reset option", sorted(unknown)[0], ("can_position", "can_pose", "can_yaw"))
        if "can_pose" in options:
            lying = one_of("can_pose", options["can_pose"], POSES[:2]) == "lying"
        spot = np.asarray(options.get("can_position", spot), float)
        yaw = float(options.get("can_yaw", yaw))
        if spot.shape != (2,) or not np.isfinite([*spot, yaw]).all() or not on_table(spot):
            raise ValueError(
                f"got can_position={spot.tolist()}, can_yaw={yaw}, expected (x, y) in m on the "
                f"table (x {TABLE_X}, y {TABLE_Y}) and an angle in rad"
            )
        turn, lay, quat = np.empty(4), np.array([1.0, 0.0, 0.0, 0.0]), np.empty(4)
        mujoco.mju_axisAngle2Quat(turn, np.array([0.0, 0.0, 1.0]), yaw)
        if lying:  # the can's axis points along x, then turns by the yaw
            mujoco.mju_axisAngle2Quat(lay, np.array([0.0, 1.0, 0.0]), np.pi / 2)
        mujoco.mju_mulQuat(quat, turn, lay)
        start = self._can_qpos
        data.qpos[start : start + 2] = spot
        data.qpos[start + 2] = CAN_RADIUS if lying else CAN_HALF_HEIGHT
        data.qpos[start + 3 : start + 7] = quat
        self._reached = self._lifted = False
        self._steps_at_home = 0

    def _measure(self) -> Measurement:
        can, clearance, held = self.can_position, self.clearance, self.held("can")
        offset = can - self.tcp_position
        axis = self.can_axis
        along = np.clip(offset @ axis, -CAN_HALF_HEIGHT, CAN_HALF_HEIGHT)
        distance = float(np.linalg.norm(offset - along * axis))
        from_home = float(np.hypot(*(can[:2] - self.home)))
        self._reached |= distance < REACHED
        self._lifted |= held and clearance > GRASPED
        at_home = clearance >= LIFT and from_home <= HOME_RADIUS
        self._steps_at_home = self._steps_at_home + 1 if at_home else 0
        success = self._steps_at_home >= HOLD_STEPS
        failed = not success and not on_table(can)

        height = float(np.clip(clearance / LIFT, 0.0, 1.0)) if held else 0.0
        near = 1.0 - float(np.tanh(5.0 * max(0.0, from_home - HOME_RADIUS)))
        potential = 0.3 * (1.0 - float(np.tanh(5.0 * distance)))
        potential += 0.2 * held + 0.25 * height + 0.25 * height * near
        return Measurement(potential, success, failed, self._outcome(success, failed, clearance))

    def _outcome(self, success: bool, failed: bool, clearance: float) -> str:
        if success:
            return "success"
        if failed:
            return "off_table"
        if self._lifted:
            return "not_delivered" if clearance > GRASPED else "dropped"
        return "not_grasped" if self._reached else "not_reached"


def _red(picture: np.ndarray) -> np.ndarray:
    """(h, w) bool, the pixels in the can's colour."""
    r, g, b = picture.astype(int).transpose(2, 0, 1)
    return (r > 80) & (2 * r > 3 * g) & (2 * r > 3 * b)


def _clusters(mask: np.ndarray, reach: int, least: float) -> int:
    """How many groups of at least `least` True pixels lie more than 2 `reach` apart."""
    left, found = mask.copy(), 0
    while left.any():
        group = np.zeros_like(mask)
        group[tuple(np.argwhere(left)[0])] = True
        size = 0
        while group.sum() > size:
            size = group.sum()
            near = group.copy()
            for _ in range(2 * reach):
                wide = np.pad(near, 1)
                near = wide[1:-1, 1:-1] | wide[:-2, 1:-1] | wide[2:, 1:-1]
                near |= wide[1:-1, :-2] | wide[1:-1, 2:]
            group = near & left
        left &= ~group
        found += size >= least
    return found
