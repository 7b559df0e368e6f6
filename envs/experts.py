"""Scripted experts: functions of the present state, with a style drawn once per episode.

An expert keeps no clock and no phase: at every step it reads off where things are and moves toward
the sub-goal that follows. So it recovers by itself after a miss, a drop, a push or a tipped can. A
mistaken one shows how grasps fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from envs.controller import hand_down, rotation_vector, yaw_of
from envs.scene import CAN_HALF_HEIGHT, CAN_RADIUS, GRIPPER_MAX_OPENING

if TYPE_CHECKING:
    from envs.pick_can import PickCan

OPEN_ENOUGH = GRIPPER_MAX_OPENING - 0.006  # m, opening with which the fingers may go down
UPRIGHT_GRASP = 0.036  # m above the can's centre; much lower and the hand touches the lid


@dataclass(frozen=True)
class Style:
    """How one demonstrator moves."""

    speed: float  # largest commanded speed, as a share of 0.3 m/s
    approach: float  # m, height over the grasp from which the hand goes down
    grasp_height: float  # m, added to the height of an upright grasp
    carry_clearance: float  # m under the can at home
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


class PickCanExpert:
    """Reaches above the can, goes down, closes, lifts and brings the can home."""

    def __init__(self, env: PickCan, np_random: np.random.Generator) -> None:
        self.env = env
        self.style = Style.draw(np_random)

    def act(self) -> np.ndarray:
        """The action float32 (7,) for the environment's present state."""
        env = self.env
        in_the_air = env.clearance > 0.01 and env.opening > 0.05
        if env.closing and (env.held or in_the_air):
            return self._carry()
        return self._grasp()

    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """Where it takes the can's centre to be (3,), in m, and its axis to point, (3,)."""
        return self.env.can_position, self.env.can_axis

    def _carry(self) -> np.ndarray:
        """Lift the held can, then bring it home; sideways only as far as it is off the table."""
        env, style = self.env, self.style
        tcp, can = env.tcp_position, self.seen()[0]
        target = tcp.copy()
        target[2] = style.carry_clearance + tcp[2] - env.clearance
        sideways = np.clip((env.clearance - 0.005) / 0.04, 0.0, 1.0)
        goal = env.home + style.home_offset + tcp[:2] - can[:2]
        command = env.controller.position
        target[:2] = command[:2] + sideways * (goal - command[:2])
        return self._action(target, yaw_of(env.controller.rotation), close=True)

    def _grasp(self) -> np.ndarray:
        """Go above the can, down along a funnel as the alignment improves, and close around it."""
        env, style = self.env, self.style
        tcp, command = env.tcp_position, env.controller.position
        can, axis = self.seen()
        upright = abs(axis[2]) > 0.7
        command_yaw = yaw_of(env.controller.rotation)
        yaw = 0.0 if upright else _nearest_half_turn(np.arctan2(axis[1], axis[0]), command_yaw)
        grasp = can.copy()
        grasp[2] += UPRIGHT_GRASP + style.grasp_height if upright else 0.0
        grasp[2] = max(grasp[2], 0.026)

        offset = env.tcp_rotation.T @ (grasp - tcp)  # in the hand: x across the pads, y closing
        turned = 0.0 if upright else abs(_wrap(yaw - yaw_of(env.tcp_rotation)))
        around = (
            abs(offset[0]) < 0.010 and abs(offset[1]) < 0.012 and abs(tcp[2] - grasp[2]) < 0.014
            and turned < 0.15
        )  # fmt: skip
        if around:
            return self._action(grasp, yaw, close=True)

        away = max(np.hypot(*(grasp - tcp)[:2]), np.hypot(*(grasp - command)[:2])) + 0.06 * turned
        height = style.approach * np.clip((away - 0.008) / 0.03, 0.0, 1.0)
        if env.opening < OPEN_ENOUGH:
            height = style.approach
        target = grasp + np.array([0.0, 0.0, height])
        low = target[2] - tcp[2]
        if low > 0.01:  # beside the can and too low: first up, then across
            sideways = np.clip(1.0 - low / 0.05, 0.0, 1.0)
            target[:2] = command[:2] + sideways * (target[:2] - command[:2])
        return self._action(target, yaw, close=False)

    def _action(self, target: np.ndarray, yaw: float, close: bool) -> np.ndarray:
        """Proportional step of the commanded pose toward the target, with capped speed."""
        controller = self.env.controller
        scale = controller.config
        move = 0.8 * (target - controller.position) / scale.translation
        move *= min(1.0, self.style.speed / max(float(np.linalg.norm(move)), 1e-9))
        turn = 0.8 * rotation_vector(hand_down(yaw) @ controller.rotation.T) / scale.rotation
        turn *= min(1.0, self.style.speed / max(float(np.linalg.norm(turn)), 1e-9))
        return np.array([*move, *turn, 1.0 if close else -1.0], np.float32)


class MistakenExpert(PickCanExpert):
    """The same, wrong about where the can is: half of the time by centimetres, so that it closes
    beside the can, pushes it, tips it or holds it by the rim, half of the time altogether, so that
    its motion tells nothing of the can. It lifts an empty hand, and after every attempt errs anew.
    """

    ERROR = 0.02, 0.09  # m, least and most of the small errors; the open hand spans 0.08 m

    def __init__(self, env: PickCan, np_random: np.random.Generator) -> None:
        super().__init__(env, np_random)
        self.np_random = np_random
        self._err()

    def _err(self) -> None:
        rng, env = self.np_random, self.env
        if rng.random() < 0.5:
            error = np.append(rng.uniform(*self.ERROR) * _direction(rng), rng.normal(0, 0.008))
            self.believed, self.believed_axis = env.can_position + error, env.can_axis
        else:
            upright = rng.random() < 0.5
            place = rng.uniform(*env.can_area)
            self.believed = np.append(place, CAN_HALF_HEIGHT if upright else CAN_RADIUS)
            lying = np.append(_direction(rng), 0.0)
            self.believed_axis = np.array([0.0, 0.0, 1.0]) if upright else lying
        self.patience = int(rng.integers(3, 9))  # steps from closing to lifting
        self.lift = int(rng.integers(4, 20))  # steps
        self.closed = self.tried = 0

    def act(self) -> np.ndarray:
        """The action float32 (7,) for the environment's present state."""
        if self.closed > self.patience + self.lift or self.tried > 40:
            self._err()
        if self.closed <= self.patience:
            action = self._grasp()
            self.closed += self.closed > 0 or action[6] > 0
            self.tried += 1
            return action
        self.closed += 1
        if self.env.held:
            return self._carry()
        command = self.env.controller.position
        risen = np.clip((self.env.tcp_position[2] - 0.08) / 0.05, 0.0, 1.0)
        target = np.append(command[:2] + risen * (self.env.home - command[:2]), 0.2)
        return self._action(target, yaw_of(self.env.controller.rotation), close=True)

    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """What it takes to be the can's centre (3,), in m, and axis; the truth once it lifts it."""
        if self.closed > self.patience:
            return super().seen()
        return self.believed, self.believed_axis


def _direction(rng: np.random.Generator) -> np.ndarray:
    """A unit vector (2,), any direction equally likely."""
    angle = rng.uniform(-np.pi, np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _wrap(angle: float) -> float:
    """The angle in [-pi, pi)."""
    return float((angle + np.pi) % (2.0 * np.pi) - np.pi)


def _nearest_half_turn(angle: float, present: float) -> float:
    """Of angle + k pi the one nearest to `present`, within the hand's reach of +-1.75 rad."""
    nearest = present + (angle - present + np.pi / 2) % np.pi - np.pi / 2
    if abs(nearest) > 1.75:
        nearest -= np.sign(nearest) * np.pi
    return float(nearest)
