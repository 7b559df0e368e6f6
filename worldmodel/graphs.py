"""The same few hundred kernels again and again, launched as one [CUDA graphs].

A small model's step is bound by the time that a CPU takes to launch its kernels, not by what a GPU
takes to run them. Captured once and replayed, a step costs one launch.
"""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable, Hashable, Iterator

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
        return _workshop(self._device).capture(lambda: self._run(*self._inputs))


class _Workshop:
    """Where graphs are captured: all on one stream and in one pool of memory, for what a pool of a
    graph's own had would be nobody else's once the graph is gone."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._first = self.capture(lambda: torch.zeros(1, device=device))  # the pool lasts with it

    def capture(self, run: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        graph, now = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(now)
        with torch.cuda.stream(self._stream), _no_collection():
            graph.capture_begin(pool=self._pool)
            out = run()
            graph.capture_end()
        now.wait_stream(self._stream)
        return graph, out


@functools.cache
def _workshop(device: torch.device) -> _Workshop:
    return _Workshop(device)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Memory of a GPU that is given back while it records would end the recording."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
