"""Bringing a thing somewhere and letting go: what the tasks that do so have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from envs.skills import OPEN_ENOUGH, Style, across, grasp, gripped, hand_yaw, move
from envs.task import Measurement, on_table

if TYPE_CHECKING:
    from envs.task import ArmTask

REACHED = 0.05  # m, from the TCP to where a thing is grasped, or to its middle
LIFTED = 0.02  # m above where it lay
REST_STEPS = 3  # that a thing has to stay in its place, let go


class Placing:
    """Judges whether a thing has been brought to its place; keeps what has been so far."""

    def __init__(self, env: ArmTask, thing: str, height: float) -> None:
        """``height`` (m) is that of the thing's middle where it stands at the start."""
        self.env, self.thing, self.height = env, thing, height
        self.reached = self.lifted = False
        self.rest = 0

    def measure(self, goal: np.ndarray, there: bool) -> Measurement:
        """``goal`` (3,) is where the thing's middle belongs, ``there`` whether it lies as it should.

        Potential: 0.3 reach (1 - tanh(5 d), d from TCP to thing in m) + 0.2 held + 0.5 nearness
        (1 - tanh(5 d), d from thing to goal); 1 once it is in its place, let go.
        """
        env, position = self.env, self.env.position(self.thing)
        held = env.held(self.thing)
        reach = float(np.linalg.norm(position - env.tcp_position))
        self.reached |= reach < REACHED
        self.lifted |= held and position[2] - self.height > LIFTED
        placed = there and not {"pad1", "pad2", "hand"} & env.touching(self.thing)
        self.rest = self.rest + 1 if placed else 0
        success = self.rest >= REST_STEPS
        failed = not success and not on_table(position)
        near = 1.0 - float(np.tanh(5.0 * np.linalg.norm(position - goal)))
        potential = 0.3 * (1.0 - float(np.tanh(5.0 * reach))) + 0.2 * held + 0.5 * near
        if placed:
            potential = 1.0
        return Measurement(potential, success, failed, self._outcome(success, failed, held))

    def _outcome(self, success: bool, failed: bool, held: bool) -> str:
        if success:
            return "success"
        if failed:
            return "off_table"
        if self.lifted:
            return "not_placed" if held else "dropped"
        return "not_grasped" if self.reached else "not_reached"


class PlaceExpert:
    """Grasps a can or a block, carries it at a safe height, puts it down, lets go and goes up."""

    def __init__(
        self, env: ArmTask, np_random: np.random.Generator, thing: str,
        goal: Callable[[], np.ndarray], over: float,
    ) -> None:  # fmt: skip
        """``goal`` tells where the thing's middle (3,) is to be let go; ``over`` (m) is the height
        of its middle on the way."""
        self.env, self.thing, self.goal, self.over = env, thing, goal, over
        self.style = Style.draw(np_random)

    def act(self) -> np.ndarray:
        """The action float32 (7,) for the environment's present state."""
        env, goal = self.env, self.goal()
        offset = goal - env.position(self.thing)  # (3,)
        far = float(np.hypot(*offset[:2]))
        arrived = far < 0.03 and offset[2] > -0.03
        if gripped(env, self.thing):
            if far < 0.012 and offset[2] > -0.012:
                return move(env, self.style, env.controller.position, hand_yaw(env), close=False)
            return self._carry(offset, far)
        if arrived and not env.closing:
            target = env.tcp_position.copy()
            if env.opening > OPEN_ENOUGH - 0.004:
                target[2] += 0.06
            return move(env, self.style, target, hand_yaw(env), close=False)
        return grasp(env, self.style, self.thing)

    def _carry(self, offset: np.ndarray, far: float) -> np.ndarray:
        """Up, across and down, so that the held thing comes to where it is missing by ``offset``."""
        env = self.env
        safe = self.over + float(env.tcp_position[2] - env.position(self.thing)[2])
        target = env.tcp_position + offset
        if far > 0.02:
            near = np.clip((far - 0.02) / 0.03, 0.0, 1.0)
            target = across(env, target, max(float(target[2] + near * (safe - target[2])), 0.0))
        return move(env, self.style, target, hand_yaw(env), close=True)
