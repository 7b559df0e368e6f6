"""What the trunk may correct is decided by how rollouts go."""

from __future__ import annotations

import pytest
import torch
from test_train import FakeWindows
from tiny import P, tiny_model

from worldmodel.model import ModelConfig, WorldModel
from worldmodel.settle import settle, settled
from worldmodel.transformer import TransformerConfig
from worldmodel.windows import Batch


class Still(FakeWindows):
    """Nothing moves: proprioception stays what it was."""

    def sample(self, batch, rng, demonstrations, part=None):
        found = super().sample(batch, rng, demonstrations)
        return Batch(**{k: self.still(k, v) for k, v in vars(found).items()})

    def still(self, name, value):
        return value[:, :1].repeat(value.shape[1], axis=1) if name == "proprio" else value


def biased(bias: list[float]) -> WorldModel:
    """A robot that stays where it is, and a trunk that says that it moves by ``bias``."""
    model = tiny_model()
    with torch.no_grad():
        for layer in (model.motion[-1], model.read_change):
            layer.weight.zero_()
            layer.bias.zero_()
        still = -model.change_scale.mean / model.change_scale.std
        model.motion[-1].bias.copy_(still)
        model.read_change.bias.copy_(torch.tensor(bias))
    return model.eval().requires_grad_(False)


def test_a_correction_that_makes_rollouts_drift_is_left_out_and_one_that_helps_stays() -> None:
    names = tiny_model().spec.proprio_names
    harmful = biased([0.5] * P)
    assert settle(harmful, Still(T=3)) == ()
    helpful = biased([0.5] + [0.0] * (P - 1))
    with torch.no_grad():
        helpful.motion[-1].bias[0] -= 0.5  # the robot's own motion errs, the trunk knows
    assert settle(helpful, Still(T=3)) == names[:1]
    assert settled(helpful, Still(T=3)).config.correct == names[:1]


def test_an_unknown_name_is_refused() -> None:
    spec = tiny_model().spec
    trunk = TransformerConfig(32, 2, 2, 2)
    with pytest.raises(ValueError, match=r"model.correct: got \['elbow'\]"):
        WorldModel(spec, ModelConfig("test", trunk, patch=8, correct=("elbow",)))


def test_without_known_actions_nothing_is_decided() -> None:
    class Unknown(Still):
        def still(self, name, value):
            return value & False if name == "known" else super().still(name, value)

    assert settle(biased([0.5] * P), Unknown(T=3)) == ()
