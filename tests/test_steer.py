"""Plans led to where they come out better: worldmodel/steer.py, policies/steered.py."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from policies.steered import SteeredPolicy
from worldmodel import checkpoint, steer
from worldmodel.env_config import EnvConfig, make_env
from worldmodel.errors import UserError
from worldmodel.model import WorldModel
from worldmodel.policy_config import PolicyConfig, make_policy
from worldmodel.probe import StateProbe, load_probe
from worldmodel.rollout import RolloutConfig, placed
from worldmodel.shipped import CHECKPOINTS, find_checkpoint
from worldmodel.steer import MOST, TURN, Steering

H = 8
CAN = np.array([0.5, 0.0, 0.06])


@pytest.fixture(scope="module")
def world() -> WorldModel:
    model = checkpoint.load(find_checkpoint("pick_can_tiny")).model
    return placed(model, RolloutConfig(flow_steps=1))


@pytest.fixture(scope="module")
def probe() -> StateProbe:
    return load_probe(CHECKPOINTS / "pick_can_probe")[0]


def seen(world: WorldModel, hand: tuple[float, float], closed: bool = False) -> np.ndarray:
    """Proprioception (1, P) of a hand 0.1 m above the table."""
    proprio = np.zeros((1, world.spec.P), np.float32)
    proprio[0, :3] = (*hand, 0.1)
    names = world.spec.proprio_names
    proprio[0, names.index(steer.OPEN)] = 1.0 if closed else -1.0
    return proprio


def exact(world: WorldModel, monkeypatch: pytest.MonkeyPatch, best: float = 0.0) -> Steering:
    """One that imagines exactly where hands go, and of which the return is best where the hand has
    turned by ``best``; its can lies at CAN."""
    eyes = SimpleNamespace(
        positions=("gripper", "can"), flags=("in hand",), cameras=2, size=(64, 64),
        read=lambda images: {"can": np.repeat(CAN[None], len(images), 0)},
    )  # fmt: skip
    begun: list[torch.Tensor] = []
    made = Steering(world, eyes, "mine")

    def dream(model, images, proprio, **_):
        begun[:] = [images, proprio]
        return None

    def act_out(_, plans):
        images, proprio = begun
        for k in range(plans.shape[1]):
            now = proprio.clone()
            now[:, :2] += 0.03 * plans[:, : k + 1, :2].sum(1)
            turned = 0.2 * plans[:, : k + 1, 5].sum(1)
            yield images, now, -((turned - best) ** 2)

    monkeypatch.setattr(steer, "Imagination", dream)
    monkeypatch.setattr(steer, "act_out", act_out)
    return made


def lead(steering: Steering, proprio: np.ndarray) -> np.ndarray:
    n = len(proprio)
    images = np.zeros((n, 2, 64, 64, 3), np.uint8)
    plans = np.zeros((n, H, steering.world.spec.A), np.float32)
    return steering.lead(plans, images, proprio, np.arange(n))


@pytest.mark.parametrize("away", [(0.01, 0.0), (0.0, -0.012), (0.006, 0.008)])
def test_a_plan_is_moved_by_as_much_as_it_misses(world, monkeypatch, away) -> None:
    steering = exact(world, monkeypatch)
    led = lead(steering, seen(world, (CAN[0] + away[0], CAN[1] + away[1])))
    np.testing.assert_allclose(0.03 * led[0, :, :2].sum(0), np.negative(away), atol=1e-5)
    assert not led[0, steer.REACH :, :2].any()
    assert not led[0, :, [2, 3, 4, 6]].any()  # neither up nor down, nor the fingers


def test_at_most_so_far_and_not_where_the_hand_is_far_or_closed(world, monkeypatch) -> None:
    steering = exact(world, monkeypatch)
    led = lead(steering, seen(world, (CAN[0] + 0.06, CAN[1] + 0.08)))
    np.testing.assert_allclose(0.03 * led[0, :, :2].sum(0), [-0.6 * MOST, -0.8 * MOST], atol=1e-5)
    assert not lead(steering, seen(world, (CAN[0] + 0.3, 0.0))).any()
    assert not lead(steering, seen(world, (CAN[0] + 0.01, 0.0), closed=True)).any()


@pytest.mark.parametrize(("best", "turned"), [(0.4, TURN), (-0.4, -TURN), (0.0, 0.0), (0.2, 0.2)])
def test_a_plan_is_turned_to_where_it_earns_most(world, monkeypatch, best, turned) -> None:
    led = lead(exact(world, monkeypatch, best), seen(world, (CAN[0], CAN[1])))
    assert 0.2 * led[0, :, 5].sum() == pytest.approx(turned, abs=0.01)


def test_rows_are_led_by_themselves_and_the_control_by_others(world, monkeypatch) -> None:
    steering = exact(world, monkeypatch, 0.4)
    rows = np.concatenate([
        seen(world, (CAN[0] + 0.01, 0.0)), seen(world, (0.9, 0.0)), seen(world, (CAN[0], 0.012))
    ])  # fmt: skip
    led = lead(steering, rows)
    assert not led[1].any()
    for i in (0, 2):
        np.testing.assert_allclose(led[i], lead(steering, rows[[i]])[0], atol=1e-6)
    steering.shuffled = True
    assert np.abs(lead(steering, rows)[[0, 2]] - led[[0, 2]]).max() > 0.05


def test_the_shipped_model_and_probe_lead_a_hand_to_a_real_can(world, probe) -> None:
    """The hand hangs still, 4 cm beside the can, in the simulator's own pictures."""
    env = make_env(EnvConfig(world.spec.env, options=dict(world.spec.env_options)))
    steering, toward = Steering(world, probe, "pick_can_probe"), []
    for seed in range(4):
        obs, _ = env.reset(seed=seed)
        where = np.array(obs["proprio"][:2]) + 0.04 * np.array([np.cos(seed), np.sin(seed)])
        options = {"can_position": tuple(where), "can_pose": "upright"}
        obs, _ = env.reset(seed=seed, options=options)
        for _ in range(4):  # down to where it is near
            obs = env.step(np.array([0, 0, -1, 0, 0, 0, -1], np.float32))[0]
        images = np.stack([obs[name] for name in world.spec.cameras])[None]
        proprio = obs["proprio"].astype(np.float32)[None]
        plan = np.zeros((1, world.config.chunk, world.spec.A), np.float32)
        led = steering.lead(plan, images, proprio, np.array([seed]))[0]
        way = env.unwrapped.truth()["can"][:2] - proprio[0, :2]
        moved = 0.03 * led[:, :2].sum(0)
        toward.append(moved @ way / np.linalg.norm(way))
    env.close()
    assert min(toward) > 0.0
    assert np.mean(toward) > 0.005  # m


def test_a_steered_policy_acts_like_the_policy_it_leads_where_nothing_is_near(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = make_env(EnvConfig("worldmodel/PickCan-v0"))
    plain = PolicyConfig(name="checkpoint", path=str(find_checkpoint("pick_can_tiny")))
    led = make_policy(dataclasses.replace(plain, probe="pick_can_probe"), env)
    assert isinstance(led, SteeredPolicy)
    assert led.steering.world.doubt[-1] == steer_never(led)
    obs, _ = env.reset(seed=3, options={"can_position": (0.65, 0.25)})
    rows = {k: np.asarray(v)[None] for k, v in obs.items()}
    policy = make_policy(plain, env)
    for who in (led, policy):
        who.reset([5])
    np.testing.assert_array_equal(led.act(rows), policy.act(rows))
    asked = []
    monkeypatch.setattr(
        led.steering, "lead", lambda plans, images, proprio, keys: asked.append(keys) or plans + 0.5
    )
    led.reset([5])
    policy.reset([5])
    np.testing.assert_allclose(led.act(rows), policy.act(rows) + 0.5)
    assert [list(keys) for keys in asked] == [[5000]]
    env.close()


def steer_never(policy: SteeredPolicy) -> float:
    """The bias of a model that doubts nothing."""
    return float(WorldModel(policy.policy.spec, policy.policy.model.config).doubt[-1])


def test_what_can_not_lead_is_refused(world, probe) -> None:
    two = SimpleNamespace(
        positions=("gripper", "can", "block"), flags=("in hand",), cameras=2, size=(64, 64)
    )
    with pytest.raises(UserError, match=r"'mine' reads can, block; plans can be led to one thing"):
        Steering(world, two, "mine")
    spec = world.spec
    try:
        world.spec = dataclasses.replace(spec, action_names=tuple("abcdefg"))
        with pytest.raises(UserError, match=r"no action is named 'delta_x .*model's are a, b"):
            Steering(world, probe, "pick_can_probe")
        names = ("x", *spec.proprio_names[1:])
        world.spec = dataclasses.replace(spec, proprio_names=names)
        with pytest.raises(UserError, match=r"proprioception has no 'tcp_x \[m\]'"):
            Steering(world, probe, "pick_can_probe")
    finally:
        world.spec = spec
    with pytest.raises(ValueError, match=r"leads the plans of a checkpoint"):
        PolicyConfig(name="scripted", probe="pick_can_probe")
    with pytest.raises(ValueError, match=r"one at a time; got .*candidates=2"):
        PolicyConfig(name="checkpoint", path="a", candidates=2, probe="pick_can_probe")
    with pytest.raises(ValueError, match="control of probe"):
        PolicyConfig(name="checkpoint", path="a", shuffled=True)
