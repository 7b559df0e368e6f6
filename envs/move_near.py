"""MoveNear: bring the can next to the block."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.placing import PlaceExpert, Placing
from envs.scene import SceneConfig
from envs.task import ArmTask, Measurement, draw_apart
from envs.things import BLOCK_HALF, CAN_HALF_HEIGHT, block, can

LOW, HIGH = (0.40, -0.22), (0.62, 0.22)  # m, where both may stand at the start
APART = 0.20  # m, between them at the start, at least
NEAR = 0.12  # m, between their middles, in the end
BESIDE = 0.105  # m, where the expert puts it
MOVED = 0.05  # m, that the block may have been pushed


class MoveNear(ArmTask):
    """Move the can to within 0.12 m of the block, without pushing that away [as SIMPLER's
    google_robot_move_near].

    Action, observation, arguments and the common parts of the start: see `envs.task.ArmTask`.

    | | |
    |---|---|
    | things | a full can (66 x 120 mm, 0.35 kg) and a blue block (40 mm, 0.10 kg) |
    | start | both anywhere in x 0.40..0.62, y -0.22..0.22 m, at least 0.20 m apart, can upright |
    | options of `reset` | `can_position`, `block_position`: (x, y) in m |
    | potential | `envs.placing.Placing.measure`; the goal is 0.105 m from the block, toward the can |
    | success, `terminated` | the can stands upright on the table, its middle within 0.12 m of the block's (horizontally), let go, for 3 steps; the block has moved by less than 0.05 m |
    | failure, `terminated` | the can has left the table's area |
    | `truncated` | 100 steps |
    | `outcome` | `success`, `not_reached`, `not_grasped`, `dropped`, `not_placed`, `off_table` |
    """  # noqa: E501 (a table's rows)

    task_name = "move_near"
    scene = SceneConfig(things=(block(), can()))

    def expert(self, np_random: np.random.Generator) -> PlaceExpert:
        """A scripted expert for the running episode, its style drawn from `np_random`."""
        return PlaceExpert(self, np_random, "can", self.goal, over=0.16)

    def goal(self) -> np.ndarray:
        """Where the can's middle (3,) belongs, in m: beside the block, on the side that it is on."""
        there, here = self.position("block")[:2], self.position("can")[:2]
        away = here - there
        return np.append(there + BESIDE * away / max(np.linalg.norm(away), 1e-6), CAN_HALF_HEIGHT)

    def truth(self) -> dict[str, np.ndarray]:
        """Positions (3,) in m of gripper, can and block."""
        return {**super().truth(), "can": self.position("can"), "block": self.position("block")}

    def _reset_task(self, options: dict[str, Any]) -> None:
        spots = draw_apart(self.np_random, LOW, HIGH, APART, count=2)
        drawn = {"can_position": spots[0], "block_position": spots[1]}
        start = self.start_at(options, drawn)
        yaw = float(self.np_random.uniform(-np.pi, np.pi))
        self.put("can", [*start["can_position"], CAN_HALF_HEIGHT])
        self.put("block", [*start["block_position"], BLOCK_HALF], yaw)
        self._block_start = start["block_position"]
        self._placing = Placing(self, "can", CAN_HALF_HEIGHT)

    def _measure(self) -> Measurement:
        position, target = self.position("can"), self.position("block")
        stands = abs(position[2] - CAN_HALF_HEIGHT) < 0.006 and self.rotation("can")[2, 2] > 0.95
        near = float(np.hypot(*(position - target)[:2])) <= NEAR
        kept = float(np.hypot(*(target[:2] - self._block_start))) < MOVED
        return self._placing.measure(self.goal(), stands and near and kept)
