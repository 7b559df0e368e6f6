"""What the outcome leaf says of an imagined observation, in the words of an environment."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from worldmodel.model import OUTCOMES


class Outcomes(NamedTuple):
    """Of N worlds, each (N,)."""

    success: np.ndarray  # bool, more likely than not
    ended: np.ndarray  # bool, success included
    success_probability: np.ndarray  # float32
    termination_probability: np.ndarray  # float32
    reward_sparse: np.ndarray  # float32, 1 on success
    reward_dense: np.ndarray  # float32
    value: np.ndarray  # float32, discounted return of the data's behaviour from here

    @classmethod
    def of(cls, outcomes: Tensor) -> Outcomes:
        """From :meth:`worldmodel.rollout.Imagination.outcomes` (N, 4)."""
        columns = outcomes.float().cpu().numpy().T
        read = dict(zip(OUTCOMES, columns, strict=True))
        success = read["success"] > 0.5
        return cls(
            success, success | (read["terminated"] > 0.5), read["success"], read["terminated"],
            success.astype(np.float32), read["reward"], read["value"],
        )  # fmt: skip

    def info(self) -> dict[str, np.ndarray]:
        """As a vector environment's ``info``."""
        row = self._asdict()
        del row["ended"]
        return {**row, "is_success": self.success}
