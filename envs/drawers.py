"""OpenDrawer and CloseDrawer: pull a drawer by its knob, push it shut."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.scene import SceneConfig
from envs.skills import Style, close_around, descend_before, gripped, move
from envs.task import ArmTask, Measurement
from envs.things import DRAWER_TRAVEL, KNOB_HEIGHT, KNOB_REACH, cabinet

CABINET_LOW, CABINET_HIGH = (0.58, -0.18), (0.64, 0.18)  # m, the middle of its front
REACHED = 0.04  # m, from the TCP to where the knob is grasped
OPEN, SHUT = 0.12, 0.01  # m, of the drawer's travel
MOVED = 0.02  # m of it, from which on the drawer counts as moved


class _Drawer(ArmTask):
    """What both have in common: a cabinet, and how far its drawer is to come."""

    scene = SceneConfig(things=(cabinet(),))
    start_opening = 0.0, 0.0  # m, least and most

    @property
    def travel(self) -> float:
        """How far the drawer is open, in m."""
        return float(self.data.joint("drawer").qpos[0])

    def grasp(self) -> np.ndarray:
        """Where to grasp the knob (3,), in m."""
        return self.position("drawer") + (-KNOB_REACH, 0.0, KNOB_HEIGHT)

    def truth(self) -> dict[str, np.ndarray]:
        """Positions (3,) in m of gripper and the drawer's front."""
        return {**super().truth(), "drawer": self.position("drawer")}

    def _reset_task(self, options: dict[str, Any]) -> None:
        rng = self.np_random
        place, opening = rng.uniform(CABINET_LOW, CABINET_HIGH), rng.uniform(*self.start_opening)
        start = self.start_at(options, {"cabinet_position": place, "opening": opening})
        self.put("cabinet", start["cabinet_position"])
        self.data.joint("drawer").qpos = start["opening"]
        self._began, self._reached = float(start["opening"]), False

    def _judge(self, missing: float, reach: float) -> Measurement:
        """``missing`` (m): travel to the goal; ``reach`` (m): from TCP to where the hand belongs."""
        self._reached |= reach < REACHED
        success = missing <= 0.0
        come = 1.0 - float(np.clip(missing / DRAWER_TRAVEL, 0.0, 1.0))
        potential = 0.3 * (1.0 - float(np.tanh(5.0 * reach))) + 0.7 * come
        moved = abs(self.travel - self._began) > MOVED
        outcome = "success" if success else "part_way" if moved else "not_moved"
        if not (success or moved or self._reached):
            outcome = "not_reached"
        return Measurement(1.0 if success else potential, success, False, outcome)


class OpenDrawer(_Drawer):
    """Pull the drawer open by its knob [as SIMPLER's google_robot_open_drawer].

    Action, observation, arguments and the common parts of the start: see `envs.task.ArmTask`.

    | | |
    |---|---|
    | things | a low cabinet whose drawer comes out toward the robot by up to 0.15 m |
    | start | cabinet's front at x 0.58..0.64, y -0.18..0.18 m, drawer shut |
    | options of `reset` | `cabinet_position`: (x, y) in m; `opening` in m |
    | potential | 0.3 reach (1 - tanh(5 d), d from TCP to the knob in m) + 0.7 of the way to 0.12 m; 1 on success |
    | success, `terminated` | the drawer is open by at least 0.12 m |
    | `truncated` | 100 steps |
    | `outcome` | `success`, `not_reached`, `not_moved` (reached the knob), `part_way` |
    """  # noqa: E501 (a table's rows)

    task_name = "open_drawer"

    def expert(self, np_random: np.random.Generator) -> OpenExpert:
        """A scripted expert for the running episode, its style drawn from `np_random`."""
        return OpenExpert(self, np_random)

    def _measure(self) -> Measurement:
        reach = float(np.linalg.norm(self.grasp() - self.tcp_position))
        return self._judge(OPEN - self.travel, reach)


class CloseDrawer(_Drawer):
    """Push the open drawer shut [as SIMPLER's google_robot_close_drawer].

    Action, observation, arguments and the common parts of the start: see `envs.task.ArmTask`.

    | | |
    |---|---|
    | things | a low cabinet whose drawer comes out toward the robot by up to 0.15 m |
    | start | cabinet's front at x 0.58..0.64, y -0.18..0.18 m, drawer open by 0.08..0.15 m |
    | options of `reset` | `cabinet_position`: (x, y) in m; `opening` in m |
    | potential | 0.3 reach (1 - tanh(5 d), d from TCP to the knob's end in m) + 0.7 of the way to 0.01 m; 1 on success |
    | success, `terminated` | the drawer is open by at most 0.01 m |
    | `truncated` | 100 steps |
    | `outcome` | `success`, `not_reached`, `not_moved` (reached the knob), `part_way` |
    """  # noqa: E501 (a table's rows)

    task_name = "close_drawer"
    start_opening = 0.08, DRAWER_TRAVEL

    def expert(self, np_random: np.random.Generator) -> CloseExpert:
        """A scripted expert for the running episode, its style drawn from `np_random`."""
        return CloseExpert(self, np_random)

    def _measure(self) -> Measurement:
        reach = float(np.linalg.norm(self.end() - self.tcp_position))
        return self._judge(self.travel - SHUT, reach)

    def end(self) -> np.ndarray:
        """Where the closed hand pushes (3,), in m: before the knob's end."""
        return self.position("drawer") + (-0.060 - 0.015, 0.0, KNOB_HEIGHT)


class OpenExpert:
    """Grasps the knob from above and pulls it toward the robot."""

    def __init__(self, env: OpenDrawer, np_random: np.random.Generator) -> None:
        self.env, self.style = env, Style.draw(np_random)

    def act(self) -> np.ndarray:
        """The action float32 (7,) for the environment's present state."""
        env, knob = self.env, self.env.grasp()
        if gripped(env, "knob"):
            target = np.array([env.tcp_position[0] - 0.06, knob[1], knob[2]])
            return move(env, self.style, target, 0.0, close=True)
        return close_around(env, self.style, knob, 0.0)


class CloseExpert:
    """Goes down before the knob with a closed hand and pushes."""

    def __init__(self, env: CloseDrawer, np_random: np.random.Generator) -> None:
        self.env, self.style = env, Style.draw(np_random)

    def act(self) -> np.ndarray:
        """The action float32 (7,) for the environment's present state."""
        env, end = self.env, self.env.end()
        ahead = end[0] - env.tcp_position[0]  # m, 0 where the hand touches
        beside = abs(env.tcp_position[1] - end[1])
        if ahead > -0.015 and beside < 0.010 and abs(env.tcp_position[2] - end[2]) < 0.018:
            return move(env, self.style, end + (0.05, 0.0, 0.0), 0.0, close=True)
        return descend_before(env, self.style, end - (0.035, 0.0, 0.0), 0.0)
