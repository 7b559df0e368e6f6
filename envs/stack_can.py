"""StackCan: put the red can onto the blue one."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.placing import PlaceExpert, Placing
from envs.scene import SceneConfig
from envs.task import ArmTask, Measurement, draw_apart
from envs.things import CAN_HALF_HEIGHT, can

LOW, HIGH = (0.40, -0.22), (0.60, 0.22)  # m, where both may stand at the start
APART = 0.18  # m, between their middles at the start, at least
OVER = 0.025  # m, horizontally between their middles, in the end


class StackCan(ArmTask):
    """Stack the red can on the blue one and let go.

    Action, observation, arguments and the common parts of the start: see `envs.task.ArmTask`.

    | | |
    |---|---|
    | things | two full cans (66 x 120 mm, 0.35 kg): `can` is red, `lower` blue |
    | start | both anywhere in x 0.40..0.60, y -0.22..0.22 m, at least 0.18 m apart, upright |
    | options of `reset` | `can_position`, `lower_position`: (x, y) in m |
    | potential | `envs.placing.Placing.measure`; the goal is 0.12 m above the blue can's middle |
    | success, `terminated` | the red can stands on the blue one, upright, their middles within 0.025 m horizontally, let go, for 3 steps |
    | failure, `terminated` | the red can has left the table's area |
    | `truncated` | 100 steps |
    | `outcome` | `success`, `not_reached`, `not_grasped`, `dropped`, `not_placed`, `off_table` |
    """  # noqa: E501 (a table's rows)

    task_name = "stack_can"
    scene = SceneConfig(things=(can("lower", material="block"), can()))

    def expert(self, np_random: np.random.Generator) -> PlaceExpert:
        """A scripted expert for the running episode, its style drawn from `np_random`."""
        return PlaceExpert(self, np_random, "can", self.goal, over=3 * CAN_HALF_HEIGHT + 0.04)

    def goal(self) -> np.ndarray:
        """Where the red can's middle (3,) belongs, in m."""
        return self.position("lower") + (0.0, 0.0, 2 * CAN_HALF_HEIGHT)

    def truth(self) -> dict[str, np.ndarray]:
        """Positions (3,) in m of gripper and cans."""
        return {**super().truth(), "can": self.position("can"), "lower": self.position("lower")}

    def _reset_task(self, options: dict[str, Any]) -> None:
        spots = draw_apart(self.np_random, LOW, HIGH, APART, count=2)
        start = self.start_at(options, {"can_position": spots[0], "lower_position": spots[1]})
        for name in ("can", "lower"):
            self.put(name, [*start[f"{name}_position"], CAN_HALF_HEIGHT])
        self._placing = Placing(self, "can", CAN_HALF_HEIGHT)

    def _measure(self) -> Measurement:
        offset = self.position("can") - self.position("lower")
        above = abs(offset[2] - 2 * CAN_HALF_HEIGHT) < 0.006
        upright = self.rotation("can")[2, 2] > 0.95
        over = float(np.hypot(*offset[:2])) < OVER
        return self._placing.measure(self.goal(), bool(above and upright and over))
