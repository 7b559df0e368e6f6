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
AHEAD = np.array([0.05, 0.0, 0.0])  # m, into the cabinet
MOVED = 0.02  # m of it, from which on the drawer counts as moved


class Sliding:
    """A cabinet's drawer, and how far it is to come: what both tasks have in common."""

    def __init__(
        self, env: ArmTask, options: dict[str, Any], opening: tuple[float, float]
    ) -> None:  # fmt: skip
        """Draw a start with the env's generator; ``opening`` (m), least and most."""
        rng, self.env = env.np_random, env
        place, drawn = rng.uniform(CABINET_LOW, CABINET_HIGH), rng.uniform(*opening)
        start = env.start_at(options, {"cabinet_position": place, "opening": drawn})
        env.put("cabinet", start["cabinet_position"])
        env.data.joint("drawer").qpos = start["opening"]
        self.began, self.reached = float(start["opening"]), False

    @property
    def travel(self) -> float:
        """How far the drawer is open, in m."""
        return float(self.env.data.joint("drawer").qpos[0])

    def judge(self, missing: float, place: np.ndarray) -> Measurement:
        """``missing`` (m): travel to the goal; ``place`` (3,): where the hand belongs."""
        reach = float(np.linalg.norm(place - self.env.tcp_position))
        self.reached |= reach < REACHED
        success = missing <= 0.0
        come = 1.0 - float(np.clip(missing / DRAWER_TRAVEL, 0.0, 1.0))
        potential = 0.3 * (1.0 - float(np.tanh(5.0 * reach))) + 0.7 * come
        moved = abs(self.travel - self.began) > MOVED
        outcome = "success" if success else "part_way" if moved else "not_moved"
        if not (success or moved or self.reached):
            outcome = "not_reached"
        return Measurement(1.0 if success else potential, success, False, outcome)


class OpenDrawer(ArmTask):
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
    scene = SceneConfig(things=(cabinet(),))

    def expert(self, np_random: np.random.Generator) -> OpenExpert:
        """A scripted expert for the running episode, its style drawn from `np_random`."""
        return OpenExpert(self, np_random)

    def grasp(self) -> np.ndarray:
        """Where to grasp the knob (3,), in m."""
        return self.position("drawer") + np.array([-KNOB_REACH, 0.0, KNOB_HEIGHT])

    def truth(self) -> dict[str, np.ndarray]:
        """Positions (3,) in m of gripper and the drawer's front."""
        return {**super().truth(), "drawer": self.position("drawer")}

    def _reset_task(self, options: dict[str, Any]) -> None:
        self.sliding = Sliding(self, options, (0.0, 0.0))

    def _measure(self) -> Measurement:
        return self.sliding.judge(OPEN - self.sliding.travel, self.grasp())


class CloseDrawer(ArmTask):
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
    scene = SceneConfig(things=(cabinet(),))

    def expert(self, np_random: np.random.Generator) -> CloseExpert:
        """A scripted expert for the running episode, its style drawn from `np_random`."""
        return CloseExpert(self, np_random)

    def end(self) -> np.ndarray:
        """Where the closed hand pushes (3,), in m: before the knob's end."""
        return self.position("drawer") + np.array([-0.060 - 0.015, 0.0, KNOB_HEIGHT])

    def truth(self) -> dict[str, np.ndarray]:
        """Positions (3,) in m of gripper and the drawer's front."""
        return {**super().truth(), "drawer": self.position("drawer")}

    def _reset_task(self, options: dict[str, Any]) -> None:
        self.sliding = Sliding(self, options, (0.08, DRAWER_TRAVEL))

    def _measure(self) -> Measurement:
        return self.sliding.judge(self.sliding.travel - SHUT, self.end())


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
            return move(env, self.style, end + AHEAD, 0.0, close=True)
        return descend_before(env, self.style, end - 0.7 * AHEAD, 0.0)
