"""Where the model runs and in which number format; detected, not assumed."""

from __future__ import annotations

import ctypes
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch

from worldmodel.errors import UserError

if TYPE_CHECKING:
    from worldmodel.model import WorldModel


def pick_device(name: str) -> torch.device:
    """``auto`` is the GPU when there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device: got '{name}', expected auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device=cuda: this torch sees no GPU; use device=cpu, or install a CUDA build of torch "
            "(worldmodel doctor shows what is here)"
        )
    return device


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 products are fast here: GPUs since Ampere, CPUs with AMX or AVX512-BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def keep_freed_memory() -> None:
    """Ask the C library to keep what is freed for what comes next, up to 2 GiB of it.

    By default glibc maps every block beyond 32 MiB anew, and the system clears its pages one by
    one: an eighth to a fifth of an update of `small`, where it could be told (docs/log.md).
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return  # other systems and C libraries have their own ways
    TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # malloc.h
    libc.mallopt(MMAP_THRESHOLD, 2**30)  # a block so large is still mapped by itself
    libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def generator_on(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """The CPU ``generator`` itself, or, for a GPU, one there that it seeds: much noise is drawn
    where it is used, for a CPU takes longer to draw it than a GPU to use it up."""
    if device.type == "cpu":
        return generator
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.Generator(device).manual_seed(seed)


def channels_last(model: WorldModel) -> WorldModel:
    """The model with its convolutions' weights as its pictures lie in memory: else every use copies
    them. Not for training: FSDP refuses them."""
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def uses_bf16(device: torch.device, precision: str) -> bool:
    """Whether ``precision`` (auto, fp32, bf16) asks for bf16 there."""
    return precision == "bf16" or (precision == "auto" and has_bf16(device))


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """bf16 autocast as ``precision`` asks (auto, fp32, bf16)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(device, precision))
