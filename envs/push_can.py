"""PushCan: push the standing can onto the mark."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.scene import SceneConfig
from envs.skills import Style, descend_before, hand_yaw, move
from envs.task import ArmTask, Measurement, on_table
from envs.things import CAN_HALF_HEIGHT, CAN_RADIUS, can, mark

LOW, HIGH = (0.40, -0.18), (0.58, 0.18)  # m, where can and mark may be at the start
WAY = (0.12, 0.24)  # m, from the can to the mark at the start
ON_MARK = 0.035  # m, between their middles, in the end
MARK_RADIUS = 0.05  # m
REST_STEPS = 3
BEHIND = CAN_RADIUS + 0.016  # m, from the can's axis to the TCP of a hand that touches it
PUSH_HEIGHT = 0.085  # m, of the TCP: the hand stays above the can, and the can does not tip
SLIDE = 0.25  # friction against the table: below radius over pushing height, or it would tip


class PushCan(ArmTask):
    """Push the can along the table until it stands on the mark.

    Action, observation, arguments and the common parts of the start: see `envs.task.ArmTask`.

    | | |
    |---|---|
    | things | a full can (66 x 120 mm, 0.35 kg, friction on the table 0.25) and a green mark (0.05 m radius) |
    | start | both within x 0.40..0.58, y -0.18..0.18 m, 0.12..0.24 m apart, can upright |
    | options of `reset` | `can_position`, `mark_position`: (x, y) in m |
    | potential | 0.3 reach (1 - tanh(5 d), d from TCP to can in m) + 0.7 nearness (1 - tanh(5 d), d from can to mark); 1 while it stands on it |
    | success, `terminated` | the can stands on the table, its middle within 0.035 m of the mark's, for 3 steps; it was not lifted by more than 0.01 m |
    | failure, `terminated` | the can has left the table's area |
    | `truncated` | 100 steps |
    | `outcome` | `success`, `not_reached`, `not_moved`, `part_way`, `tipped`, `lifted`, `off_table` |
    """  # noqa: E501 (a table's rows)

    task_name = "push_can"
    scene = SceneConfig(things=(mark("mark", MARK_RADIUS), can(slide=SLIDE)))

    def expert(self, np_random: np.random.Generator) -> PushExpert:
        """A scripted expert for the running episode, its style drawn from `np_random`."""
        return PushExpert(self, np_random)

    def truth(self) -> dict[str, np.ndarray]:
        """Positions (3,) in m of gripper, can and mark."""
        return {**super().truth(), "can": self.position("can"), "mark": self.position("mark")}

    def _reset_task(self, options: dict[str, Any]) -> None:
        rng = self.np_random
        while True:
            place, goal = rng.uniform(LOW, HIGH, (2, 2))
            if WAY[0] <= np.linalg.norm(goal - place) <= WAY[1]:
                break
        start = self.start_at(options, {"can_position": place, "mark_position": goal})
        self.put("can", [*start["can_position"], CAN_HALF_HEIGHT])
        self.put("mark", start["mark_position"])
        self._began, self._rest = start["can_position"], 0
        self._reached = self._lifted = False

    def _measure(self) -> Measurement:
        place, tcp = self.position("can"), self.tcp_position
        reach = float(np.linalg.norm(place - tcp))
        far = float(np.hypot(*(self.position("mark") - place)[:2]))
        upright = self.rotation("can")[2, 2] > 0.95
        self._reached |= reach < 2 * CAN_RADIUS
        self._lifted |= bool(upright and place[2] > CAN_HALF_HEIGHT + 0.01)
        there = bool(far <= ON_MARK and upright and not self._lifted)
        self._rest = self._rest + 1 if there else 0
        success = self._rest >= REST_STEPS
        failed = not success and not on_table(place)
        potential = 0.3 * (1.0 - float(np.tanh(5.0 * reach)))
        potential += 0.7 * (1.0 - float(np.tanh(5.0 * far)))
        words = {
            "success": success, "off_table": failed, "lifted": self._lifted, "tipped": not upright,
            "part_way": bool(np.hypot(*(place[:2] - self._began)) > 0.02),
            "not_moved": self._reached,
        }  # fmt: skip
        outcome = next((word for word, so in words.items() if so), "not_reached")
        return Measurement(1.0 if there else potential, success, failed, outcome)


class PushExpert:
    """Goes down behind the can, seen from the mark, and pushes it there through its middle."""

    def __init__(self, env: PushCan, np_random: np.random.Generator) -> None:
        self.env, self.style = env, Style.draw(np_random)

    def act(self) -> np.ndarray:
        """The action float32 (7,) for the environment's present state."""
        env, tcp = self.env, self.env.tcp_position
        place = env.position("can")
        way = env.position("mark")[:2] - place[:2]
        left = float(np.linalg.norm(way))
        ahead = way / max(left, 1e-6)
        offset = place[:2] - tcp[:2]
        along = float(offset @ ahead)  # m, by which the hand is behind the can
        beside = float(np.linalg.norm(offset - along * ahead))
        spot = place[:2] - (BEHIND + 0.025) * ahead
        behind = along > BEHIND - 0.012 and beside < 0.45 * along
        if behind and along < BEHIND + 0.06 and abs(tcp[2] - PUSH_HEIGHT) < 0.02:
            if left < 0.012:  # there: stay
                return move(env, self.style, tcp, hand_yaw(env), close=True)
            target = place[:2] - BEHIND * ahead + min(left, 0.03) * ahead
            return move(env, self.style, np.append(target, PUSH_HEIGHT), 0.0, close=True)
        return descend_before(env, self.style, np.append(spot, PUSH_HEIGHT), 0.0, over=0.17)
