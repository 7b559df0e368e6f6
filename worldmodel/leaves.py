"""What goes into the model and what comes out of it, as named tensors.

Letters: B batch, T env steps, J of them with a next frame, M plan leaves per step, H chunk,
A action, P proprioception, N patches per observation (all cameras), Q numbers per patch, D width.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

#: what the outcome leaf reads at o_n, in this order
OUTCOMES: tuple[str, ...] = ("success", "reward", "terminated", "value")
#: and what is read there of an imagined observation: whether it has strayed from what would be
READINGS: tuple[str, ...] = (*OUTCOMES, "strayed")


class Context(NamedTuple):
    """The clean (or nearly clean) past, normalised."""

    patches: Tensor  # (B, T, N, Q)
    proprio: Tensor  # (B, T, P)
    obs_time: Tensor  # (B, T) flow time of each observation, 0 = clean
    action: Tensor  # (B, T, A) executed actions (noise where absent)
    act_time: Tensor  # (B, T) 0 = known, 1 = absent
    first: Tensor  # (B, T) first step visible from each step


class Leaves(NamedTuple):
    """Noisy tokens to be denoised, normalised, and their flow times.

    Of the next proprioception the *change* since o_n is denoised, in units of its own spread: to be
    right within a hundredth of a step's motion is another thing than within a hundredth of the
    workspace, and errors do not add up to a drift.
    """

    next_steps: tuple[int, ...]  # the J steps n whose o_{n+1} is denoised
    next_patches: Tensor  # (B, J, N, Q)
    next_change: Tensor  # (B, J, P)
    next_time: Tensor  # (B, J, N + 1)
    latest: Tensor  # (B, J, N, Q) o_n, clean, which the prediction may copy from
    first: Tensor  # (B, N, Q) an earlier observation, clean, likewise
    first_proprio: Tensor  # (B, P) proprioception then
    plan: Tensor  # (B, T, M, H, A)
    plan_time: Tensor  # (B, T, M, H)
    inverse: Tensor  # (B, T - 1, A)
    inverse_time: Tensor  # (B, T - 1)


class Prediction(NamedTuple):
    """Clean data x_hat as predicted for every leaf, and the outcome read-out."""

    next_patches: Tensor  # (B, J, N, Q)
    next_change: Tensor  # (B, J, P)
    body: Tensor  # (B, J, N, Q) what the robot's expected pose alone lets one see
    plan: Tensor  # (B, T, M, H, A)
    inverse: Tensor  # (B, T - 1, A)
    outcome: Tensor  # (B, T, 4) logit, reward, logit, value: OUTCOMES


class Features(NamedTuple):
    """Hidden states of the noisy leaves, for the representation loss."""

    next: Tensor  # (B, J, N + 1, D)
    plan: Tensor  # (B, T, M H, D)
