from __future__ import annotations

import pytest
import torch

from worldmodel.optim import (
    OptimConfig,
    adamw,
    ema_decay,
    ema_update,
    learning_rate,
    optimizers,
)


def test_schedule_warms_up_and_ends_low() -> None:
    config = OptimConfig(lr=2.0, lr_final=0.1, warmup=10)
    assert learning_rate(0, 100, config) == pytest.approx(0.2)
    assert learning_rate(9, 100, config) == pytest.approx(2.0)
    assert learning_rate(55, 100, config) == pytest.approx((2.0 + 0.2) / 2)
    assert learning_rate(100, 100, config) == pytest.approx(0.2)
    values = [learning_rate(i, 100, config) for i in range(10, 101)]
    assert values == sorted(values, reverse=True)


def test_average_by_hand() -> None:
    model, average = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(average.weight, 1.0)
    torch.nn.init.constant_(model.weight, 3.0)
    ema_update(average, model, 0.75)
    assert average.weight.item() == pytest.approx(1.5)
    assert ema_decay(0, 0.999) == pytest.approx(0.1)
    assert ema_decay(10**6, 0.999) == 0.999


def test_vectors_do_not_decay() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    groups = adamw([module], OptimConfig(weight_decay=0.1)).param_groups
    assert [(g["weight_decay"], [tuple(p.shape) for p in g["params"]]) for g in groups] == [
        (0.1, [(4, 3)]),
        (0.0, [(4,), (4,), (4,)]),
    ]


def test_matrices_of_the_blocks_are_muons_and_all_else_adamws() -> None:
    block, other = (torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4)) for _ in "ab")
    modules = [torch.nn.ModuleList([block, other])]
    assert list(optimizers(modules, block, OptimConfig())) == ["adamw"]
    found = optimizers(modules, block, OptimConfig(muon=True))
    shared = {k: [p for g in o.param_groups for p in g["params"]] for k, o in found.items()}
    assert [id(p) for p in shared["muon"]] == [id(block[0].weight)]
    assert {id(p) for p in shared["adamw"]} == {
        id(p) for m in (block, other) for p in m.parameters() if p is not block[0].weight
    }
