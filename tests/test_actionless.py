"""Videos without actions teach what follows, and nothing about actions."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from test_train import FakeWindows
from tiny import H, M, tiny_model, tiny_segment

from worldmodel.dataset import Dataset
from worldmodel.model import WorldModel
from worldmodel.objective import ObjectiveConfig, Segment, self_flow_loss
from worldmodel.rehearsal import Stage
from worldmodel.representation import representation_head
from worldmodel.windows import Windows


def with_unknown(rows: list[int]) -> Segment:
    batch = tiny_segment()
    known = batch.known.clone()
    known[rows] = False
    return batch._replace(known=known)


def other_actions(batch: Segment, rows: list[int]) -> Segment:
    action, plan = batch.action.clone(), batch.plan.clone()
    action[rows] += 3.0
    plan[rows] -= 5.0
    return batch._replace(action=action, plan=plan)


def learn(model: WorldModel, batch: Segment, name: str = "self_flow", absent: float = 0.5):
    """Loss, what is logged, and the gradients."""
    model = copy.deepcopy(model)
    config = ObjectiveConfig(name=name, plans=M, cut=0.0, absent_action=absent)
    torch.manual_seed(0)
    head, teacher = representation_head(32), copy.deepcopy(model)
    g = torch.Generator().manual_seed(0)
    loss, metrics = self_flow_loss(model, head, teacher, batch, config, g)
    loss.backward()
    return loss.detach(), metrics, {k: p.grad for k, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["flow", "self_flow"])
def test_the_loss_and_its_gradient_ignore_what_stands_where_no_action_is_known(name: str) -> None:
    model, batch = tiny_model(), with_unknown([0])
    loss, _, grads = learn(model, batch, name)
    again, _, same = learn(model, other_actions(batch, [0]), name)
    assert torch.equal(loss, again)
    for key, grad in grads.items():
        assert grad is None or (torch.isfinite(grad).all() and torch.equal(grad, same[key])), key
    # of the other episodes' actions it does depend
    assert not torch.equal(loss, learn(model, other_actions(batch, [1]), name)[0])


def test_videos_alone_teach_frames_but_neither_plans_nor_which_action_led_there() -> None:
    model = tiny_model()
    batch = with_unknown(list(range(len(tiny_segment().action))))
    loss, metrics, grads = learn(model, batch)
    assert torch.isfinite(loss)
    assert metrics["loss_plan"] == metrics["loss_inverse"] == 0
    assert metrics["loss_next"] > 0
    assert all(grad is None or torch.isfinite(grad).all() for grad in grads.values())
    assert not grads["read_action.weight"].any()
    assert any(g is not None and g.any() for k, g in grads.items() if k.startswith("paint."))


def test_an_unknown_action_is_an_absent_one() -> None:
    model, every = tiny_model(), list(range(len(tiny_segment().action)))
    _, unknown, _ = learn(model, with_unknown(every), absent=0.0)
    _, absent, _ = learn(model, tiny_segment(), absent=1.0)
    _, known, _ = learn(model, tiny_segment(), absent=0.0)
    for name in ("loss_next", "loss_change", "loss_outcome"):
        # not to the bit: how rows are summed depends on the processor
        torch.testing.assert_close(unknown[name], absent[name], rtol=1e-6, atol=0.0)
        assert abs(unknown[name] - known[name]) > 1e-5 * known[name]


def test_dreams_go_on_without_unknown_actions() -> None:
    model = tiny_model().eval()
    batch = Segment.of(FakeWindows().get(np.arange(3), length=4), torch.device("cpu"))
    known = batch.known.clone()
    known[0] = False
    batch = batch._replace(known=known)

    def pictures(batch: Segment) -> torch.Tensor:
        return Stage(model, 3).dream(batch, 2, torch.Generator().manual_seed(0))

    first = pictures(batch)
    assert torch.equal(first, pictures(other_actions(batch, [0])))
    assert not torch.equal(first, pictures(other_actions(batch, [1])))
    assert not torch.equal(first[0], pictures(batch._replace(known=torch.ones_like(known)))[0])


def unknown_in(dataset: Dataset, numbers: set[int], length: int = 3) -> Windows:
    arrays = {k: dataset.stream(k) for k in ("images", "proprio", "action", "label", "outcome")}
    episodes = [e._replace(known=e.index not in numbers) for e in dataset.episodes]
    return Windows(arrays, episodes, length, H)


def test_windows_say_which_actions_are_known_and_the_robot_learns_from_those_alone(toys) -> None:
    dataset, rng = Dataset(toys), np.random.default_rng(0)
    windows = unknown_in(dataset, {0, 3, 4})
    batch = windows.get(np.arange(len(windows)))
    sizes = [e.length - 3 + 2 for e in dataset.episodes]
    expected = np.repeat([e.index not in {0, 3, 4} for e in dataset.episodes], sizes)
    assert np.array_equal(batch.known, np.repeat(expected[:, None], 3, axis=1))
    assert not batch.plan_mask[~expected].any()
    assert batch.plan_mask[expected, 0, 0].all() == batch.exists[expected, 0].all()
    share = windows.sample(4000, rng, 0.7).known[:, 0].mean()  # they count as explorations
    assert share == pytest.approx(0.7, abs=0.03)

    proprio, _ = windows.motions(300, 4, rng)
    every = dataset.stream("proprio")
    rows = {int(np.flatnonzero((every == p[0]).all(axis=1))[0]) for p in proprio}
    seen = {e.index for e in dataset.episodes for r in rows if e.start <= r <= e.start + e.length}
    assert seen == {1, 2, 5, 6, 7}
    proprio, action = unknown_in(dataset, set(range(8))).motions(300, 4, rng)
    assert (proprio.shape, action.shape) == ((0, 5, 3), (0, 4, 3))


def test_what_is_known_is_read_from_the_episodes(toys) -> None:
    assert all(e.known for e in Dataset(toys).episodes)
