"""The ring buffer: what is remembered once equals what is computed anew under the same mask."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny import A, B, H, P, tiny_model, tiny_spec

from worldmodel.flow import flow_times, integrate
from worldmodel.inference import (
    denoiser,
    new_memory,
    read_outcomes,
    reader,
    remember_act,
    remember_obs,
    sample_next,
    sample_plan,
)
from worldmodel.leaves import READINGS, Context, Leaves
from worldmodel.masks import window_start
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.transformer import TransformerConfig

STEPS, AT = 9, 0.6  # 3 W steps, and the flow time at which leaves are compared


def story(model: WorldModel) -> tuple[Context, Leaves]:
    """A segment of 3 W steps with a plan and a next frame at every step."""
    g = torch.Generator().manual_seed(3)
    N, Q = model.patches, 3 * 8**2

    def r(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    first = window_start(STEPS, model.config.window).expand(B, STEPS)
    absent = (torch.rand(B, STEPS, generator=g) < 0.3).float()
    context = Context(
        r(B, STEPS, N, Q), r(B, STEPS, P), 0.2 * torch.rand(B, STEPS, generator=g),
        r(B, STEPS, A), absent, first,
    )  # fmt: skip
    return context, Leaves(
        tuple(range(STEPS)), r(B, STEPS, N, Q), r(B, STEPS, P),
        torch.full((B, STEPS, N + 1), AT), context.patches, context.patches[:, 0],
        context.proprio[:, 0],
        r(B, STEPS, 1, H, A), torch.full((B, STEPS, 1, H), AT),
        r(B, STEPS - 1, A), torch.full((B, STEPS - 1), AT),
    )  # fmt: skip


@torch.no_grad()
def remembered(
    model: WorldModel, c: Context, leaves: Leaves, rows: slice = slice(None), begin: int = -1
) -> dict:
    """Every leaf of the story, read from a memory that goes through it step by step, after what
    it takes for step ``begin``."""
    memory = new_memory(model, len(c.patches[rows]))
    memory.step = begin
    memory.clock.fill_(begin)
    found: dict[str, list[torch.Tensor]] = {"plan": [], "patches": [], "change": [], "outcome": []}
    for n in range(STEPS):
        remember_obs(model, memory, c.patches[rows, n], c.proprio[rows, n], c.obs_time[rows, n])
        plan = model.embed_plan(leaves.plan[rows, n, 0], memory.obs)
        found["plan"].append(model.read_action(reader(model, "plan", H, [AT], memory)(plan, AT)))
        found["outcome"].append(read_outcomes(model, memory))
        remember_act(model, memory, c.action[rows, n], c.act_time[rows, n])
        denoise = denoiser(model, memory, leaves.latest[rows, n], [AT])
        noisy = leaves.next_patches[rows, n], leaves.next_change[rows, n]
        patches, change = denoise(*noisy, AT)
        found["patches"].append(patches)
        found["change"].append(change)
    return {name: torch.stack(values, dim=1) for name, values in found.items()}


@pytest.mark.parametrize(("window", "mounted"), [(1, False), (3, False), (3, True)])
def test_cached_equals_uncached_for_three_windows(window: int, mounted: bool) -> None:
    model = tiny_model(window=window, mounted=mounted).eval()
    context, leaves = story(model)
    with torch.no_grad():
        whole, _ = model(context, leaves)
    found = remembered(model, context, leaves)
    close = {"atol": 2e-5, "rtol": 1e-4}
    torch.testing.assert_close(found["plan"], whole.plan[:, :, 0], **close)
    # a camera near the horizon, as some here are, makes much of the last digit
    pictures = close | ({"atol": 5e-3} if mounted else {})
    torch.testing.assert_close(found["patches"], whole.next_patches, **pictures)
    torch.testing.assert_close(found["change"], whole.next_change, **close)
    torch.testing.assert_close(found["outcome"][..., 1], whole.outcome[..., 1], **close)


def test_a_batch_equals_its_members() -> None:
    model = tiny_model().eval()
    context, leaves = story(model)
    together = remembered(model, context, leaves)
    for i in range(B):
        alone = remembered(model, context, leaves, slice(i, i + 1))
        for name, values in alone.items():
            torch.testing.assert_close(values[0], together[name][i], atol=1e-5, rtol=1e-4)


def test_what_is_far_beyond_the_horizon_of_float32_is_as_exact() -> None:
    """Positions only count as differences: step 16,777,217 has no float32 of its own."""
    model = tiny_model().eval()
    context, leaves = story(model)
    near = remembered(model, context, leaves)
    far = remembered(model, context, leaves, begin=2**24)  # a multiple of no window
    for name, values in far.items():
        torch.testing.assert_close(values, near[name], atol=1e-4, rtol=1e-3)


def test_memory_neither_grows_nor_keeps_what_left_the_window() -> None:
    model = tiny_model(window=2).eval()
    N, Q = model.patches, 3 * 8**2
    memory = new_memory(model, 1)
    size, steps = memory.nbytes, torch.zeros(1)
    for n in range(7):
        remember_obs(model, memory, torch.randn(1, N, Q), torch.randn(1, P), steps)
        remember_act(model, memory, torch.randn(1, A), steps)
        assert int(memory.visible.sum()) == min(n + 1, 2) * memory.group
    assert memory.nbytes == size


def test_the_first_observation_outlives_the_window_but_not_a_restart() -> None:
    model = tiny_model(window=2).eval()
    N, Q = model.patches, 3 * 8**2
    memory, steps = new_memory(model, 3), torch.zeros(3)
    seen = [torch.randn(3, N, Q) for _ in range(6)]
    for pictures in seen[:5]:
        remember_obs(model, memory, pictures, torch.randn(3, P), steps)
        remember_act(model, memory, torch.randn(3, A), steps)
    assert torch.equal(memory.first, seen[0])
    latest = [m.clone() for m in memory.maps]
    row = torch.tensor([1])
    part = memory.forgetful(row)
    remember_obs(model, part, seen[5][row], torch.randn(1, P), steps[:1])
    memory.put(row, part)
    assert torch.equal(memory.first[[0, 2]], seen[0][[0, 2]])
    assert torch.equal(memory.first[1], seen[5][1])
    for now, before, first in zip(memory.maps, latest, memory.first_maps, strict=True):
        assert torch.equal(now[[0, 2]], before[[0, 2]])
        assert torch.equal(now[1], first[1])
        assert not torch.equal(now[0], first[0])


def test_samplers_give_plans_in_range_and_observations_of_the_right_shape() -> None:
    model = tiny_model().eval()
    context, _ = story(model)
    seen = context.patches[:, 0], context.proprio[:, 0]
    plan = sample_plan(model, *seen, torch.randn(B, H, A), steps=3)
    assert plan.shape == (B, H, A)
    assert plan.abs().max() <= 1
    memory = new_memory(model, B)
    remember_obs(model, memory, *seen, torch.zeros(B))
    remember_act(model, memory, context.action[:, 0], torch.zeros(B))
    noise = torch.randn(B, model.patches, 192), torch.randn(B, P)
    patches, change = sample_next(model, memory, context.patches[:, 0], noise, steps=2)
    assert patches.shape == (B, model.patches, 192)
    assert change.shape == (B, P)
    outcome = read_outcomes(model, memory)
    assert outcome.shape == (B, len(READINGS))
    assert 0 <= outcome[:, 0].min() <= outcome[:, 0].max() <= 1


def test_a_plan_may_be_longer_than_an_observation() -> None:
    """One small camera: four patches, and a plan of nine actions behind the ring."""
    spec = dataclasses.replace(tiny_spec(), cameras=("front",))
    config = ModelConfig("test", TransformerConfig(32, 2, 2, 2), patch=8, window=2, chunk=9)
    model = WorldModel(spec, config).eval()
    patches, proprio, noise = (torch.randn(B, *s) for s in ((4, 3 * 8**2), (P,), (9, A)))
    assert model.patches == 4
    plan = sample_plan(model, patches, proprio, noise, steps=2)
    torch.testing.assert_close(plan, from_memory(model, patches, proprio, noise, 2))


@pytest.mark.parametrize("steps", [1, 3])
def test_a_plan_without_a_memory_is_the_plan_from_one(steps: int) -> None:
    model = tiny_model().eval()
    context, _ = story(model)
    seen, noise = (context.patches[:, 0], context.proprio[:, 0]), torch.randn(B, H, A)
    plan = sample_plan(model, *seen, noise, steps)
    torch.testing.assert_close(plan, from_memory(model, *seen, noise, steps), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def from_memory(
    model: WorldModel, patches: torch.Tensor, proprio: torch.Tensor, noise: torch.Tensor, steps: int
) -> torch.Tensor:
    """A plan read through the mask of a memory, most of which is empty."""
    memory = new_memory(model, len(noise))
    remember_obs(model, memory, patches, proprio, torch.zeros(len(noise)))
    read = reader(model, "plan", noise.shape[1], flow_times(steps)[:-1], memory)

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        return model.read_action(read(model.embed_plan(x, memory.obs), t))

    return model.action_scale.inverse(integrate(predict, noise, steps)).clamp(-1, 1)
