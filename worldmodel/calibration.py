"""Is what the outcome leaf says true? Its chances against what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from worldmodel.leaves import READINGS
from worldmodel.metrics import calibration_error, pearson, roc_auc, wilson
from worldmodel.outcomes import Verdicts
from worldmodel.recording import Recording


def granted(outcomes: np.ndarray) -> bool:
    """Whether an episode with these readings (T, 5) counts as a success."""
    verdicts = Verdicts(1)
    for row in torch.from_numpy(outcomes):
        read = verdicts.read(row[None])
        if read.success[0]:
            return True
        if read.ended[0]:
            return False
    return False


def figures(
    outcomes: Sequence[np.ndarray], recordings: Sequence[Recording],
    believed: Sequence[bool] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """How good the readings (T, 5) are, step by step and as verdicts on whole episodes; of those
    that are not ``believed`` (None: all are) none counts as a success."""
    read = dict(zip(READINGS, np.concatenate(outcomes).T, strict=True))
    success, terminated, reward = (
        np.concatenate([getattr(r, name) for r in recordings])
        for name in ("success", "terminated", "reward")
    )
    verdict = np.array([granted(o) for o in outcomes])
    if believed is not None:
        verdict &= np.array(believed)
    truth = np.array([bool(r.success[-1]) for r in recordings])
    kinds: dict[str, list[int]] = {}
    for r, yes in zip(recordings, verdict, strict=True):
        count = kinds.setdefault(r.outcome, [0, 0])
        count[0] += 1
        count[1] += bool(yes)
    result: dict[str, Any] = {
        "steps": len(success), "episodes": len(recordings), "successes": int(truth.sum()),
        "success_auc": roc_auc(read["success"], success),
        "success_ece": calibration_error(read["success"], success),
        "termination_auc": roc_auc(read["terminated"], terminated),
        "termination_ece": calibration_error(read["terminated"], terminated),
        "reward_correlation": pearson(read["reward"], reward),
        # without the bonus, beside which all other rewards are small
        "reward_correlation_before_success": pearson(read["reward"][~success], reward[~success]),
        "reward_mae": float(np.abs(read["reward"] - reward).mean()),
        "same_verdict": float((verdict == truth).mean()),
        "granted": {kind: {"episodes": n, "granted": k} for kind, (n, k) in kinds.items()},
    }  # fmt: skip
    for name, among in (("true_positive", truth), ("false_positive", ~truth)):
        if among.any():
            n, k = int(among.sum()), int(verdict[among].sum())
            result[f"{name}_rate"] = (k / n, *wilson(k, n))
    return result
