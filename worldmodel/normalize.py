"""The inverse pairs between what the env speaks and what the model sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Dimensions that (almost) never move are not blown up to unit variance.
MIN_STD = 0.05
#: The same for changes in a step, which are small.
MIN_CHANGE_STD = 0.001


def images_to_float(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [-1, 1]; the only place where this happens."""
    return images.float().div_(127.5).sub_(1.0)


def float_to_images(x: Tensor) -> Tensor:
    """float in [-1, 1] -> uint8, rounded and clipped; inverse of :func:`images_to_float`."""
    return x.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


class Affine(nn.Module):
    """Normalisation to zero mean and unit variance per dimension, and back."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], min_std: float = MIN_STD
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).clamp(min=min_std))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def inverse(self, x: Tensor) -> Tensor:
        return x * self.std + self.mean
