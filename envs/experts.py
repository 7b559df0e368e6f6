"""PickCan's scripted experts: one that knows how, and one that errs about where the can is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from envs.controller import yaw_of
from envs.skills import Style, grasp_can, move
from envs.things import CAN_HALF_HEIGHT, CAN_RADIUS

if TYPE_CHECKING:
    from envs.pick_can import PickCan


class PickCanExpert:
    """Reaches above the can, goes down, closes, lifts and brings the can home."""

    def __init__(self, env: PickCan, np_random: np.random.Generator) -> None:
        self.env = env
        self.style = Style.draw(np_random)

    def act(self) -> np.ndarray:
        """The action float32 (7,) for the environment's present state."""
        env = self.env
        in_the_air = env.clearance > 0.01 and env.opening > 0.05
        if env.closing and (env.held("can") or in_the_air):
            return self._carry()
        return grasp_can(env, self.style, *self.seen())

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
        return move(env, style, target, yaw_of(env.controller.rotation), close=True)


class MistakenExpert(PickCanExpert):
    """The same, wrong about where the can is: half of the time by a centimetre or two and some
    degrees, as a policy is that has learned nearly enough, so that it takes the can, or just not;
    a quarter of the time by more, so that it closes beside the can, pushes it, tips it or holds it
    by the rim; and else altogether, so that its motion tells nothing of the can. It lifts an empty
    hand, and after every attempt errs anew.
    """

    NEAR = 0.012, 0.4  # m and rad, standard deviations of the smallest errors
    ERROR = 0.02, 0.09  # m, least and most of the middle ones; the open hand spans 0.08 m

    def __init__(self, env: PickCan, np_random: np.random.Generator) -> None:
        super().__init__(env, np_random)
        self.np_random = np_random
        self._err()

    def _err(self) -> None:
        rng, env = self.np_random, self.env
        how = rng.random()
        if how < 0.5:
            place, turn = self.NEAR
            self.believed = env.can_position + place * rng.normal(size=3)
            self.believed_axis = _turned(env.can_axis, turn * rng.normal())
        elif how < 0.75:
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
            action = grasp_can(self.env, self.style, *self.seen())
            self.closed += self.closed > 0 or action[6] > 0
            self.tried += 1
            return action
        self.closed += 1
        if self.env.held("can"):
            return self._carry()
        command = self.env.controller.position
        risen = np.clip((self.env.tcp_position[2] - 0.08) / 0.05, 0.0, 1.0)
        target = np.append(command[:2] + risen * (self.env.home - command[:2]), 0.2)
        return move(self.env, self.style, target, yaw_of(self.env.controller.rotation), close=True)

    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """What it takes to be the can's centre (3,), in m, and axis; the truth once it lifts it."""
        if self.closed > self.patience:
            return super().seen()
        return self.believed, self.believed_axis


def _turned(axis: np.ndarray, angle: float) -> np.ndarray:
    """The axis (3,) turned about the vertical by an angle in rad."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([cos * axis[0] - sin * axis[1], sin * axis[0] + cos * axis[1], axis[2]])


def _direction(rng: np.random.Generator) -> np.ndarray:
    """A unit vector (2,), any direction equally likely."""
    angle = rng.uniform(-np.pi, np.pi)
    return np.array([np.cos(angle), np.sin(angle)])
