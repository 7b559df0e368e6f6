"""Flow matching: the path from data to noise, its velocity, the flow times and the samplers.

Convention, everywhere in this project: flow time ``t = 0`` is clean data and ``t = 1`` is noise,

    x_t = (1 - t) x_0 + t eps,    v = dx_t/dt = eps - x_0    [Self-Flow, arXiv 2603.06507, eq. 1-2]

Networks predict the clean data, ``x_hat`` (x-prediction: high-dimensional patches want it, JiT,
arXiv 2511.13720), and the loss is taken in velocity space. Since x_t - x_0 = t v,

    v_hat = (x_t - x_hat) / t         and        |v_hat - v|^2 = |x_hat - x_0|^2 / t^2.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

#: The smallest time by which a velocity is divided: bounds the loss weight at 1 / T_MIN^2.
T_MIN = 0.5


def interpolate(x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """The point x_t on the path from ``x_0`` (t = 0) to ``eps`` (t = 1); ``t`` broadcasts."""
    return x_0 + t * (eps - x_0)


def velocity(x_0: Tensor, eps: Tensor) -> Tensor:
    """The path's velocity dx_t/dt, the same at every t."""
    return eps - x_0


def x_to_velocity(x_hat: Tensor, x_t: Tensor, t: Tensor | float) -> Tensor:
    """The velocity that a prediction ``x_hat`` of the clean data stands for, t > 0."""
    return (x_t - x_hat) / t


def velocity_loss(x_hat: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
    """Elementwise squared error of the velocity, from the prediction of the clean data.

    Below T_MIN it is the error of the data, times a constant: no sampler of few steps goes there,
    and with 1 / t^2 those times alone would make most of the gradient and nearly all of its noise.
    """
    return ((x_hat - x_0) / t.clamp(min=T_MIN)).square()


class TimeDistribution(NamedTuple):
    """p(t): logit-normal, sigmoid(N(shift, scale^2)), with a share ``tail`` of U[late, 1]."""

    shift: float = 0.0
    scale: float = 1.0
    tail: float = 0.0
    late: float = 0.95


def sample_time(shape: tuple[int, ...], p: TimeDistribution, generator: torch.Generator) -> Tensor:
    """Flow times (``shape``) in (0, 1], fp32: bf16 would collapse values near 1."""
    t = torch.sigmoid(p.shift + p.scale * torch.randn(shape, generator=generator))
    late = torch.rand(shape, generator=generator) < p.tail
    tail = p.late + (1 - p.late) * torch.rand(shape, generator=generator)
    return torch.where(late, tail, t)


class DualTime(NamedTuple):
    tau: Tensor  # (..., N) the student's time of each token: s where masked, else t
    tau_min: Tensor  # (..., 1) the teacher's time of the whole leaf: min(t, s)


def dual_time(
    shape: tuple[int, ...], tokens: int, p: TimeDistribution, mask_ratio: float, whole: bool,
    dual: bool, generator: torch.Generator,
) -> DualTime:  # fmt: skip
    """Dual-timestep scheduling [Self-Flow eq. 4-5]: times of ``shape`` leaves of ``tokens`` tokens.

    ``t, s ~ p`` are independent and unsorted. Each token takes ``s`` with probability
    ``mask_ratio``; with ``whole`` one draw decides for all of the leaf's tokens (a Bernoulli mask
    over eight action tokens would mostly be empty). ``dual=False`` is plain flow matching.
    """
    t = sample_time((*shape, 1), p, generator)
    if not dual:
        return DualTime(t.expand(*shape, tokens), t)
    s = sample_time((*shape, 1), p, generator)
    masked = torch.rand((*shape, 1 if whole else tokens), generator=generator) < mask_ratio
    tau = torch.where(masked, s, t).expand(*shape, tokens)
    return DualTime(tau, torch.minimum(t, s))


def flow_times(steps: int) -> list[float]:
    """The ``steps`` + 1 times that a sampler goes through, from noise at 1 to data at 0."""
    return [1.0 - i / steps for i in range(steps + 1)]


def integrate(
    predict: Callable[[Tensor, float], Tensor], x_1: Tensor, steps: int,
    method: Literal["euler", "heun"] = "euler",
) -> Tensor:  # fmt: skip
    """Carry noise ``x_1`` at t = 1 to data at t = 0 along the predicted velocity.

    ``predict(x_t, t)`` returns the clean data x_hat. Heun's last step is Euler's: the velocity at
    t = 0 is not defined by an x-prediction.
    """
    x = x_1
    for t, t_next in itertools.pairwise(flow_times(steps)):
        v = x_to_velocity(predict(x, t), x, t)
        x_euler = x + (t_next - t) * v
        if method == "heun" and t_next > 0:
            v_next = x_to_velocity(predict(x_euler, t_next), x_euler, t_next)
            x_euler = x + (t_next - t) * 0.5 * (v + v_next)
        x = x_euler
    return x
