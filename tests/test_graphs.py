"""Imagined steps that a GPU can replay: everything stays in its place, and nothing depends on the
CPU's counting but the ring's slot."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from test_train import FakeWindows
from tiny import SIDE, A, C, P, tiny_model
from torch import Tensor

from worldmodel.distributed import Ranks
from worldmodel.memory import Memory
from worldmodel.objective import Segment
from worldmodel.rehearsal import Stage
from worldmodel.rollout import Imagination, RolloutConfig, generators_from

B = 3
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def begin(device: str, noise: float = 0.05, precision="fp32") -> Imagination:
    torch.manual_seed(0)
    model = tiny_model(window=3).eval().to(device)
    images = torch.randint(0, 256, (B, C, SIDE, SIDE, 3), dtype=torch.uint8)
    return Imagination(
        model, images, torch.randn(B, P), generators=generators_from(0, B),
        config=RolloutConfig(flow_steps=2, context_noise=noise, precision=precision),
    )  # fmt: skip


def kept(memory: Memory) -> Iterator[Tensor]:
    """What goes on from step to step."""
    yield from (part for cache in memory.caches for part in cache)
    yield from (memory.visible, memory.obs, memory.proprio, memory.first, memory.first_proprio)
    yield from (*memory.maps, *memory.first_maps, memory.clock)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_what_is_kept_stays_in_its_place(noise: float) -> None:
    world = begin("cpu", noise)
    tensors = [*kept(world.memory), world.latest, world._proprio]
    before = [x.data_ptr() for x in tensors]
    clones = [x.clone() for x in tensors]
    for n in range(5):
        world.step(torch.rand(B, A) if n % 2 else None)
    world.restart(torch.tensor([1]).numpy(), *(x[:1] for x in (world.show(), world.proprio)))
    now = [*kept(world.memory), world.latest, world._proprio]
    assert [x.data_ptr() for x in now] == before
    changed = [not torch.equal(x, y) for x, y in zip(now, clones, strict=True)]
    assert sum(changed) == len(changed)  # the first observation too, by the restart
    assert int(world.memory.clock) == world.memory.step == 5


def test_what_was_returned_does_not_change_with_the_next_step() -> None:
    world = begin("cpu")
    images, proprio = world.step(torch.rand(B, A))
    copies, latest = (images.clone(), proprio.clone()), world.proprio
    world.step(torch.rand(B, A))
    assert torch.equal(images, copies[0])
    assert torch.equal(proprio, copies[1])
    assert torch.equal(latest, copies[1])


@gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_replayed_steps_are_those_of_a_world_without_graphs(precision: str) -> None:
    """Over several turns of the ring, across a restart, with and without actions."""
    graphs, plain = begin("cuda", precision=precision), begin("cuda", precision=precision)
    plain._advanced._device = plain._read._device = torch.device("cpu")
    assert not plain._advanced._graphs
    g = torch.Generator().manual_seed(1)
    for n in range(14):
        action = None if n in (4, 10) else torch.rand(B, A, generator=g)
        ours, theirs = graphs.step(action), plain.step(action)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a.float(), b.float(), atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(graphs.outcomes(), plain.outcomes(), atol=1e-3, rtol=1e-3)
        if n == 8:
            start = torch.randint(0, 256, (1, C, SIDE, SIDE, 3), dtype=torch.uint8, generator=g)
            for world in (graphs, plain):
                world.restart(torch.tensor([1]).numpy(), start, torch.zeros(1, P))
    assert len(graphs._advanced._graphs) == graphs.memory.window


@gpu
def test_dreams_replayed_are_those_without_graphs_while_weights_change() -> None:
    torch.manual_seed(0)
    model = tiny_model(window=3).eval().to("cuda").requires_grad_(False)
    windows, g = FakeWindows(), torch.Generator()
    replayed, plain = Stage(model, 4), Stage(model, 4, Ranks(0, 2, own_noise=True))
    for n in range(4):
        batch = Segment.of(windows.get(np.arange(n, n + 4), length=7), torch.device("cuda"))
        ours, theirs = (s.dream(batch, 2, g.manual_seed(n)) for s in (replayed, plain))
        assert (ours.int() - theirs.int()).abs().max() <= 1
        assert (ours[:, 1:] != batch.images[:, 1:]).any()
        for weight in model.parameters():
            weight.mul_(1.1)
    assert replayed._steps[2]._graphs
    assert not plain._steps[2]._graphs
