"""PlaceCan: put the can into the bin."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.placing import PlaceExpert, Placing
from envs.scene import SceneConfig
from envs.task import ArmTask, Measurement, draw_apart
from envs.things import BIN_HALF, BIN_HEIGHT, CAN_HALF_HEIGHT, CAN_RADIUS, can, open_box

LOW, HIGH = (0.40, -0.22), (0.60, 0.22)  # m, where both may stand at the start
APART = 0.22  # m, between their middles at the start, at least


class PlaceCan(ArmTask):
    """Put the can into the bin and let go [as robosuite's PickPlaceCan].

    Action, observation, arguments and the common parts of the start: see `envs.task.ArmTask`.

    | | |
    |---|---|
    | things | a full can (66 x 120 mm, 0.35 kg) and a yellow bin (0.16 x 0.16 m inside, 45 mm high) |
    | start | both anywhere in x 0.40..0.60, y -0.22..0.22 m, at least 0.22 m apart, can upright |
    | options of `reset` | `can_position`, `bin_position`: (x, y) in m |
    | potential | `envs.placing.Placing.measure`; the goal is the middle of the bin |
    | success, `terminated` | the can is within the bin's walls, standing or lying, its middle less than 0.075 m above the table, let go, for 3 steps |
    | failure, `terminated` | the can has left the table's area |
    | `truncated` | 100 steps |
    | `outcome` | `success`, `not_reached`, `not_grasped`, `dropped`, `not_placed`, `off_table` |
    """  # noqa: E501 (a table's rows)

    task_name = "place_can"
    scene = SceneConfig(things=(open_box(), can()))

    def expert(self, np_random: np.random.Generator) -> PlaceExpert:
        """A scripted expert for the running episode, its style drawn from `np_random`."""
        over = CAN_HALF_HEIGHT + BIN_HEIGHT + 0.04
        return PlaceExpert(self, np_random, "can", self.goal, over=over)

    def goal(self) -> np.ndarray:
        """Where the can's middle (3,) belongs, in m."""
        return self.position("bin") + (0.0, 0.0, CAN_HALF_HEIGHT + 0.006)

    def truth(self) -> dict[str, np.ndarray]:
        """Positions (3,) in m of gripper, can and bin."""
        return {**super().truth(), "can": self.position("can"), "bin": self.position("bin")}

    def _reset_task(self, options: dict[str, Any]) -> None:
        spots = draw_apart(self.np_random, LOW, HIGH, APART, count=2)
        start = self.start_at(options, {"can_position": spots[0], "bin_position": spots[1]})
        self.put("can", [*start["can_position"], CAN_HALF_HEIGHT])
        self.put("bin", start["bin_position"])
        self._placing = Placing(self, "can", CAN_HALF_HEIGHT)

    def _measure(self) -> Measurement:
        offset = self.position("can") - self.position("bin")
        within = np.abs(offset[:2]).max() < BIN_HALF - CAN_RADIUS + 0.008
        return self._placing.measure(self.goal(), bool(within and offset[2] < 0.075))
