"""PlaceInDrawer: put the block into the open drawer."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.placing import PlaceExpert, Placing
from envs.scene import SceneConfig
from envs.task import ArmTask, Measurement
from envs.things import (
    BLOCK_HALF,
    CABINET_HEIGHT,
    DRAWER_FLOOR,
    DRAWER_INNER,
    block,
    cabinet,
)

CABINET_LOW, CABINET_HIGH = (0.60, -0.08), (0.64, 0.08)  # m, the middle of its front
OPENING = (0.13, 0.15)  # m, of the drawer at the start
LOW, HIGH = (0.30, -0.22), (0.37, 0.22)  # m, where the block may lie
DROP = 0.075  # m above the table, where the expert lets the block go: the hand has no room below


class PlaceInDrawer(ArmTask):
    """Put the block into the drawer, which stands open, and let go [as SIMPLER's
    google_robot_place_in_closed_drawer, but for the opening].

    Action, observation, arguments and the common parts of the start: see `envs.task.ArmTask`.

    | | |
    |---|---|
    | things | a low cabinet whose drawer (0.19 x 0.18 m inside) opens toward the robot; a blue block (40 mm, 0.10 kg) |
    | start | cabinet's front at x 0.60..0.64, y -0.08..0.08 m, drawer open by 0.13..0.15 m; block anywhere in x 0.30..0.37, y -0.22..0.22 m at any yaw |
    | options of `reset` | `block_position`, `cabinet_position`: (x, y) in m; `opening` in m |
    | potential | `envs.placing.Placing.measure`; the goal is the middle of what is open of the drawer |
    | success, `terminated` | the block is within the drawer's walls, on its floor, let go, for 3 steps |
    | failure, `terminated` | the block has left the table's area |
    | `truncated` | 100 steps |
    | `outcome` | `success`, `not_reached`, `not_grasped`, `dropped`, `not_placed`, `off_table` |
    """  # noqa: E501 (a table's rows)

    task_name = "place_in_drawer"
    scene = SceneConfig(things=(cabinet(), block()))

    def expert(self, np_random: np.random.Generator) -> PlaceExpert:
        """A scripted expert for the running episode, its style drawn from `np_random`."""
        return PlaceExpert(self, np_random, "block", self.goal, over=CABINET_HEIGHT + 0.05)

    def goal(self) -> np.ndarray:
        """Where the block's middle (3,) is to be let go, in m."""
        front = self.position("drawer")
        shut = float(self.position("cabinet")[0])
        return np.array([(front[0] + 0.010 + shut) / 2, front[1], DROP])

    def truth(self) -> dict[str, np.ndarray]:
        """Positions (3,) in m of gripper, block and the drawer's front."""
        return {
            **super().truth(), "block": self.position("block"), "drawer": self.position("drawer")
        }  # fmt: skip

    def _reset_task(self, options: dict[str, Any]) -> None:
        rng = self.np_random
        drawn = {
            "cabinet_position": rng.uniform(CABINET_LOW, CABINET_HIGH),
            "block_position": rng.uniform(LOW, HIGH), "opening": rng.uniform(*OPENING),
        }  # fmt: skip
        start = self.start_at(options, drawn)
        self.put("cabinet", start["cabinet_position"])
        self.data.joint("drawer").qpos = start["opening"]
        yaw = float(rng.uniform(-np.pi, np.pi))
        self.put("block", [*start["block_position"], BLOCK_HALF], yaw)
        self._placing = Placing(self, "block", BLOCK_HALF)

    def _measure(self) -> Measurement:
        offset = self.position("block") - self.position("drawer")
        deep, wide = DRAWER_INNER
        within = 0.010 < offset[0] < 0.010 + 2 * deep and abs(offset[1]) < wide
        low = offset[2] < DRAWER_FLOOR + 2 * BLOCK_HALF
        return self._placing.measure(self.goal(), bool(within and low))
