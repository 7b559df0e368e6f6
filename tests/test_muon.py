from __future__ import annotations

import pytest
import torch

from worldmodel.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    assert s.max() / s.min() > 2
    found = orthogonal(x)
    values = torch.diagonal(u.mT @ found @ v.mT, dim1=-2, dim2=-1)
    assert values.min() > 0.6
    assert values.max() < 1.25
    torch.testing.assert_close(u @ torch.diag_embed(values) @ v, found)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch >= 2.9 has one of its own")
def test_updates_are_those_of_torch() -> None:
    """Whose products are in bf16: hence the tolerance, of the sum of three updates of 0.05."""
    g = torch.Generator().manual_seed(1)
    start = [torch.randn(6, 4, generator=g), torch.randn(4, 8, generator=g)]
    start.append(torch.randn(6, 4, generator=g))
    ours, theirs = ([torch.nn.Parameter(x.clone()) for x in start] for _ in range(2))
    steps = [
        Muon(ours, lr=0.1, weight_decay=0.2),
        torch.optim.Muon(theirs, lr=0.1, weight_decay=0.2, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(3):
        gradients = [torch.randn(x.shape, generator=g) for x in start]
        for parameters, optimizer in zip((ours, theirs), steps, strict=True):
            for p, gradient in zip(parameters, gradients, strict=True):
                p.grad = gradient.clone()
            optimizer.step()
    for a, b, x in zip(ours, theirs, start, strict=True):
        torch.testing.assert_close(a, b, atol=5e-3, rtol=0)
        assert (a - x).abs().max() > 0.05


def test_what_has_no_gradient_stays() -> None:
    p = torch.nn.Parameter(torch.ones(2, 3))
    Muon([p], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(p, torch.ones(2, 3))
