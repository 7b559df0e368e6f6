"""What scripted experts are made of: functions of the present state, and a style per episode.

An expert keeps no clock and no phase: at every step it reads off where things are and moves toward
the sub-goal that follows. So it recovers by itself after a miss, a drop, a push or a tipped can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from envs.controller import hand_down, rotation_vector, yaw_of
from envs.scene import GRIPPER_MAX_OPENING

if TYPE_CHECKING:
    from envs.task import ArmTask

OPEN_ENOUGH = GRIPPER_MAX_OPENING - 0.006  # m, opening with which the fingers may go down
UPRIGHT_GRASP = 0.036  # m above the can's centre; much lower and the hand touches the lid
LOW_GRASP = 0.026  # m above the table, the lowest grasp


@dataclass(frozen=True)
class Style:
    """How one demonstrator moves."""

    speed: float  # largest commanded speed, as a share of 0.3 m/s
    approach: float  # m, height over the grasp from which the hand goes down
    grasp_height: float  # m, added to the height of an upright grasp
    carry_clearance: float  # m under what is carried
    home_offset: np.ndarray  # (2,) m

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Style:
        """Draw a style."""
        return cls(
            speed=float(rng.uniform(0.8, 1.0)),
            approach=float(rng.uniform(0.065, 0.085)),
            grasp_height=float(rng.uniform(-0.004, 0.004)),
            carry_clearance=float(rng.uniform(0.125, 0.145)),
            home_offset=rng.uniform(-0.02, 0.02, 2),
        )


def move(
    env: ArmTask, style: Style, target: np.ndarray, yaw: float, close: bool
) -> np.ndarray:  # fmt: skip
    """The action (7,) that brings the commanded pose nearer to a target (3,) in m and a yaw in rad:
    a proportional step with capped speed."""
    controller, scale = env.controller, env.controller.config
    step = 0.8 * (target - controller.position) / scale.translation
    step *= min(1.0, style.speed / max(float(np.linalg.norm(step)), 1e-9))
    turn = 0.8 * rotation_vector(hand_down(yaw) @ controller.rotation.T) / scale.rotation
    turn *= min(1.0, style.speed / max(float(np.linalg.norm(turn)), 1e-9))
    return np.array([*step, *turn, 1.0 if close else -1.0], np.float32)


def grasp_can(env: ArmTask, style: Style, centre: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Grasp a can with its centre (3,) and axis (3,) there: from above by its upper part, or
    across where it lies."""
    upright = abs(axis[2]) > 0.7
    yaw = 0.0 if upright else nearest_turn(np.arctan2(axis[1], axis[0]), hand_yaw(env))
    grasp = centre.copy()
    grasp[2] += UPRIGHT_GRASP + style.grasp_height if upright else 0.0
    turned = 0.0 if upright else abs(wrap(yaw - yaw_of(env.tcp_rotation)))
    return close_around(env, style, grasp, yaw, turned)


def grasp(env: ArmTask, style: Style, thing: str) -> np.ndarray:
    """Grasp a can, or a block by two of its sides, wherever it is."""
    centre, turn = env.position(thing), env.rotation(thing)
    if env.model.geom(thing).type != mujoco.mjtGeom.mjGEOM_BOX:
        return grasp_can(env, style, centre, turn[:, 2])
    yaw = nearest_turn(yaw_of(turn), hand_yaw(env), np.pi / 2)
    return close_around(env, style, centre, yaw, abs(wrap(yaw - yaw_of(env.tcp_rotation))))


def close_around(
    env: ArmTask, style: Style, grasp: np.ndarray, yaw: float, turned: float = 0.0
) -> np.ndarray:
    """Go above a grasp (3,), down along a funnel as the alignment improves, and close around it;
    ``turned`` (rad) is what the hand's yaw lacks."""
    tcp, command = env.tcp_position, env.controller.position
    grasp[2] = max(grasp[2], LOW_GRASP)
    offset = env.tcp_rotation.T @ (grasp - tcp)  # in the hand: x across the pads, y closing
    around = (
        abs(offset[0]) < 0.010 and abs(offset[1]) < 0.012 and abs(tcp[2] - grasp[2]) < 0.014
        and turned < 0.15
    )  # fmt: skip
    if around:
        return move(env, style, grasp, yaw, close=True)
    away = max(np.hypot(*(grasp - tcp)[:2]), np.hypot(*(grasp - command)[:2])) + 0.06 * turned
    height = style.approach * np.clip((away - 0.008) / 0.03, 0.0, 1.0)
    if env.opening < OPEN_ENOUGH:
        height = style.approach
    target = grasp + np.array([0.0, 0.0, height])
    low = target[2] - tcp[2]
    if low > 0.01:  # beside it and too low: first up, then across
        sideways = np.clip(1.0 - low / 0.05, 0.0, 1.0)
        target[:2] = command[:2] + sideways * (target[:2] - command[:2])
    return move(env, style, target, yaw, close=False)


def descend_before(
    env: ArmTask, style: Style, place: np.ndarray, yaw: float, over: float = 0.12
) -> np.ndarray:
    """Bring a closed hand down to a place (3,) from which to push: across at the height ``over``
    (m), then straight down."""
    tcp, command = env.tcp_position, env.controller.position
    away = max(np.hypot(*(place - tcp)[:2]), np.hypot(*(place - command)[:2]))
    if away < 0.012:
        return move(env, style, place, yaw, close=True)
    height = place[2] + (over - place[2]) * float(np.clip((away - 0.008) / 0.02, 0.0, 1.0))
    return move(env, style, across(env, place, height), yaw, close=True)


def across(env: ArmTask, target: np.ndarray, height: float) -> np.ndarray:
    """A way (3,) to a place that leads there at a safe `height` (m): up first, then sideways."""
    command = env.controller.position
    high = np.clip(1.0 - (height - env.tcp_position[2] - 0.01) / 0.04, 0.0, 1.0)
    return np.append(command[:2] + high * (target[:2] - command[:2]), height)


def gripped(env: ArmTask, thing: str) -> bool:
    """Whether a closing hand has a thing between its pads."""
    return env.closing and env.held(thing)


def hand_yaw(env: ArmTask) -> float:
    """The commanded yaw (rad)."""
    return yaw_of(env.controller.rotation)


def wrap(angle: float) -> float:
    """The angle in [-pi, pi)."""
    return float((angle + np.pi) % (2.0 * np.pi) - np.pi)


def nearest_turn(angle: float, present: float, turn: float = np.pi) -> float:
    """Of angle + k turn the one nearest to `present`, within the hand's reach of +-1.75 rad."""
    nearest = present + (angle - present + turn / 2) % turn - turn / 2
    if abs(nearest) > 1.75:
        nearest -= np.sign(nearest) * turn
    return float(nearest)
