"""A model small enough for tests, its spec, and a segment of made-up data."""

from __future__ import annotations

import torch

from worldmodel.leaves import Context, Leaves
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.objective import Segment
from worldmodel.spec import DataSpec, FeatureStats, Mount
from worldmodel.transformer import TransformerConfig

B, T, M, H, A, P, C, SIDE = 2, 3, 2, 4, 3, 5, 2, 16


def stats(n: int) -> FeatureStats:
    zero, one = (0.0,) * n, (1.0,) * n
    return FeatureStats(mean=zero, std=one, min=zero, max=one, q01=zero, q99=one, count=10)


def tiny_spec(mounted: bool = False) -> DataSpec:
    rays = (0.0, -0.8, -0.4, 0.8, 0.0, 0.0, 0.0, -0.3, 0.9)
    area = (-2.0, -2.0, 2.0, 2.0)
    room = Mount((0.0, 0.0, 2.0), rays, area)
    hand = Mount((0.1, 0.0, 0.5), rays, area, (0, 1, 2), (0, 1, 3), (4, 2, 1))
    return DataSpec(
        env="", env_options={}, cameras=("front", "wrist"), image_size=(SIDE, SIDE),
        proprio_names=tuple(f"p{i}" for i in range(P)),
        action_names=tuple(f"a{i}" for i in range(A)),
        control_frequency=10.0, tasks=("reach",), proprio_stats=stats(P), change_stats=stats(P),
        action_stats=stats(A), mounts={"front": room, "wrist": hand} if mounted else {},
    )  # fmt: skip


def tiny_model(
    seed: int = 0, random_gates: bool = True, window: int = 3, mounted: bool = False
) -> WorldModel:
    torch.manual_seed(seed)
    config = ModelConfig("test", TransformerConfig(32, 3, 2, 2), patch=8, window=window, chunk=H)
    model = WorldModel(tiny_spec(mounted), config)
    if (
        random_gates
    ):  # at initialisation every block is the identity: nothing would depend on anything
        for p in model.parameters():
            if not p.any():
                torch.nn.init.normal_(p, std=0.1)
    return model


def tiny_segment(seed: int = 0, batch: int = B) -> Segment:
    g = torch.Generator().manual_seed(seed)
    # one colour per patch: a picture that few numbers describe
    colours = torch.randint(0, 256, (batch, T + 1, C, 2, 2, 3), dtype=torch.uint8, generator=g)
    images = colours.repeat_interleave(SIDE // 2, -3).repeat_interleave(SIDE // 2, -2)
    plan_mask = torch.ones(batch, T, H, dtype=torch.bool)
    plan_mask[:, -1, 2:] = False
    return Segment(
        images, images[:, 0], torch.randn(batch, P, generator=g),
        torch.randn(batch, T + 1, P, generator=g),
        torch.ones(batch, T, dtype=torch.bool),
        torch.randn(batch, T, A, generator=g), torch.ones(batch, T, dtype=torch.bool),
        torch.randn(batch, T, H, A, generator=g), plan_mask,
        torch.rand(batch, T, 4, generator=g).round(),
    )  # fmt: skip


def inputs(model: WorldModel) -> tuple[Context, Leaves]:
    g = torch.Generator().manual_seed(1)
    N, Q = model.patches, 3 * 8**2

    def r(*shape):
        return torch.randn(*shape, generator=g)

    context = Context(
        r(B, T, N, Q), r(B, T, P), torch.rand(B, T, generator=g), r(B, T, A), torch.zeros(B, T),
        torch.zeros(B, T, dtype=torch.long),
    )  # fmt: skip
    leaves = Leaves(
        (0, 2), r(B, 2, N, Q), r(B, 2, P), torch.rand(B, 2, N + 1, generator=g),
        r(B, 2, N, Q), r(B, N, Q), r(B, P),
        r(B, T, M, H, A), torch.rand(B, T, M, H, generator=g),
        r(B, T - 1, A), torch.rand(B, T - 1, generator=g),
    )  # fmt: skip
    return context, leaves
