"""A model that is told more: the same weights, with room for further numbers of proprioception.

So a checkpoint of one task can learn many: an env for all of them says in proprioception which one
it asks for, and training begins with all that is known of the robot.
"""

from __future__ import annotations

import dataclasses

import torch

from worldmodel.errors import UserError
from worldmodel.model import WorldModel
from worldmodel.spec import DataSpec, FeatureStats
from worldmodel.tokens import WAVES


def widens(model: DataSpec, data: DataSpec) -> bool:
    """Whether ``data`` has the model's numbers of proprioception, and then some more."""
    return model.P < data.P and data.proprio_names[: model.P] == model.proprio_names


def widen(model: WorldModel, spec: DataSpec) -> WorldModel:
    """The same model for data of ``spec``: what is new in it changes nothing as yet.

    Numbers that the model knows keep its statistics, by which they are normalised. UserError where
    ``spec`` does not begin with the model's proprioception.
    """
    old = model.spec
    if not widens(old, spec):
        raise UserError(
            f"proprioception: the dataset has {spec.proprio_names}, expected the checkpoint's "
            f"{old.proprio_names} and then more"
        )
    wider = WorldModel(
        dataclasses.replace(
            spec, proprio_stats=_joined(old.proprio_stats, spec.proprio_stats),
            change_stats=_joined(old.change_stats, spec.change_stats),
            action_stats=old.action_stats,
        ),
        model.config,
    )  # fmt: skip
    columns, rows = _inputs(old.P, spec.P, spec.A), torch.arange(old.P)
    state = wider.state_dict()
    for name, value in model.state_dict().items():
        if name in columns:
            state[name] = torch.zeros_like(state[name]).index_copy(1, columns[name], value)
        elif name in ("proprio_scale.mean", "proprio_scale.std"):
            pass  # in the new spec's statistics
        elif name.startswith(("motion.4.", "read_change.")):
            state[name] = torch.zeros_like(state[name]).index_copy(0, rows, value)
        elif not name.startswith("change_scale."):
            state[name] = value
    wider.load_state_dict(state)
    return wider


def in_unit(model: WorldModel, unit: float) -> WorldModel:
    """The same model, which counts rewards in ``unit`` (ModelConfig.reward_unit)."""
    other = WorldModel(model.spec, dataclasses.replace(model.config, reward_unit=unit))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for name in ("read_outcome.weight", "read_outcome.bias"):
        state[name] *= (model.outcome_units / other.outcome_units).view(
            -1, *[1] * (state[name].ndim - 1)
        )
    other.load_state_dict(state)
    return other


def _inputs(old: int, new: int, A: int) -> dict[str, torch.Tensor]:
    """For every layer that reads proprioception: where its old inputs are among the new ones."""
    places = torch.arange(old)
    state = torch.cat([places, new + torch.arange(A)])
    waved = torch.cat([octave * new + places for octave in range(2 * WAVES)])
    return {
        "embed_proprio.0.weight": places,
        "embed_change.0.weight": places,
        "motion.0.weight": state,
        "embed_motion.0.weight": torch.cat([state, new + A + places, 2 * new + A + waved]),
        "body.pose.0.weight": torch.cat([places, new + waved]),
    }


def _joined(old: FeatureStats | None, new: FeatureStats | None) -> FeatureStats:
    """``old`` statistics, and those of the further numbers from ``new``."""
    assert old is not None, "a model has statistics"
    assert new is not None, "a dataset has statistics"
    n, parts = len(old.mean), ("mean", "std", "min", "max", "q01", "q99")
    return FeatureStats(*(getattr(old, k) + getattr(new, k)[n:] for k in parts), count=new.count)
