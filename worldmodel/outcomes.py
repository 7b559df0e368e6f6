"""What the outcome leaf says of imagined observations, in the words of an environment."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from worldmodel.leaves import READINGS

SMALL = 0.1  # chances below this don't add up over an episode


class Outcomes(NamedTuple):
    """Of N worlds at one step, each (N,)."""

    success: np.ndarray  # bool, has happened, more likely than not
    ended: np.ndarray  # bool, success included
    success_probability: np.ndarray  # float32, of its happening at this very step
    termination_probability: np.ndarray  # float32
    reward_sparse: np.ndarray  # float32, 1 on success
    reward_dense: np.ndarray  # float32
    value: np.ndarray  # float32, discounted return of the data's behaviour from here
    strayed: np.ndarray  # bool, what is imagined is, more likely than not, no longer what would be

    def info(self) -> dict[str, np.ndarray]:
        """As a vector environment's ``info``."""
        row = self._asdict()
        del row["ended"]
        return {**row, "is_success": self.success}


class Verdicts:
    """Who has succeeded and whose episode is over, from the chances read at every step.

    The steps that the model sees may leave open whether the task is done now or a step later (as
    when something has to be held for longer than its window): it then reads a chance p at each.
    An event has happened once that is more likely than not, 1 - prod (1 - p) > 1/2.

    Nor does anything that happens count once what is imagined has strayed from what would really
    be, more likely than not at any step: where a model does not know, it must not promise (as the
    halt state in the pessimistic MDP of [Kidambi et al. 2020, arXiv 2005.05951]).
    """

    def __init__(self, rows: int) -> None:
        self._pending = {name: np.ones(rows) for name in ("success", "terminated")}
        self._strayed = np.zeros(rows, bool)

    def read(self, outcomes: Tensor) -> Outcomes:
        """From :meth:`worldmodel.rollout.Imagination.outcomes` (N, 5), once a step."""
        columns = outcomes.float().cpu().numpy().T
        read = dict(zip(READINGS, columns, strict=True))
        self._strayed |= read["strayed"] > 0.5
        for name, left in self._pending.items():
            left *= 1.0 - np.where((read[name] < SMALL) | self._strayed, 0.0, read[name])
        success, ended = (self._pending[n] < 0.5 for n in ("success", "terminated"))
        return Outcomes(
            success, success | ended, read["success"], read["terminated"],
            success.astype(np.float32), read["reward"], read["value"], self._strayed.copy(),
        )  # fmt: skip

    def forget(self, rows: np.ndarray) -> None:
        """These rows begin anew."""
        for left in self._pending.values():
            left[rows] = 1.0
        self._strayed[rows] = False
