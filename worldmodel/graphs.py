"""The same few hundred kernels again and again, launched as one [CUDA graphs].

A small model's step is bound by the time that a CPU takes to launch its kernels, not by what a GPU
takes to run them. Captured once and replayed, a step costs one launch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor


class Replayed:
    """``run(*inputs)``, on a GPU captured when it comes to a ``place`` for the second time, and
    replayed from then on; elsewhere simply run.

    For that ``run`` must change tensors in place only, return a new one, wait for nothing on the
    CPU, and depend on nothing else but its ``place``. What it does in Python besides, such as
    counting, is not replayed, and is the caller's to do.
    """

    def __init__(self, run: Callable[..., Tensor], device: torch.device) -> None:
        self._run, self._device = run, device
        self._inputs: list[Tensor] = []
        self._seen: set[Hashable] = set()
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    def __call__(self, place: Hashable, *inputs: Tensor) -> Tensor:
        if self._device.type != "cuda":
            return self._run(*inputs)
        if not self._inputs:
            self._inputs = [x.clone() for x in inputs]
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given)
        if place not in self._seen:  # libraries set themselves up in the first run
            self._seen.add(place)
            return self._run(*self._inputs)
        if place not in self._graphs:
            self._graphs[place] = self._capture()
        graph, out = self._graphs[place]
        graph.replay()
        return out.clone()  # the next replay writes into it

    def _capture(self) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(self._device)
        now = torch.cuda.current_stream(self._device)
        stream.wait_stream(now)
        with torch.cuda.stream(stream):
            graph.capture_begin()
            out = self._run(*self._inputs)
            graph.capture_end()
        now.wait_stream(stream)
        return graph, out
