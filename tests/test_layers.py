"""Layers against written-out formulas."""

from __future__ import annotations

import pytest
import torch

from worldmodel.layers import (
    Block,
    Modulation,
    Rope,
    attend,
    rms_norm,
    rope,
    rope_frequency,
    rotate,
    time_embedding,
    time_frequency,
)


def written_out(q, k, v, mask):
    scores = torch.einsum("bhqe,bhke->bhqk", q, k) / q.shape[-1] ** 0.5
    scores = torch.where(mask, scores, torch.tensor(-torch.inf))
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return torch.einsum("bhqk,bhke->bhqe", weights, v)


def test_attention_is_the_written_out_softmax() -> None:
    q, k, v = torch.randn(3, 2, 2, 5, 8).unbind(0)
    mask = torch.rand(2, 1, 5, 5) < 0.5
    mask |= torch.eye(5, dtype=torch.bool)
    added = torch.where(mask, 0.0, -torch.inf)
    expected = written_out(q, k, v, mask)
    torch.testing.assert_close(attend(q, k, v, added), expected)  # in use
    learned = attend(q.requires_grad_(), k, v, added)
    torch.testing.assert_close(learned, expected)
    q = q.detach()
    everything = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    torch.testing.assert_close(attend(q, k, v, None), written_out(q, k, v, everything))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_is_torchs(dtype: torch.dtype) -> None:
    x, weight = 3 * torch.randn(2, 7, 16, dtype=dtype), 1 + 0.3 * torch.randn(16)
    expected = torch.nn.functional.rms_norm(x.float(), (16,), weight, 1e-6)
    tolerance = {} if dtype == torch.float32 else {"atol": 0.02, "rtol": 0.02}
    torch.testing.assert_close(rms_norm(x, weight).float(), expected, **tolerance)
    assert rms_norm(x, weight).dtype == dtype
    assert torch.equal(rms_norm(torch.zeros(3, 16, dtype=dtype), weight), torch.zeros(3, 16))


def turned(position: torch.Tensor, head: int) -> Rope:
    return rope(position.double() @ rope_frequency(head))


def test_rotation_depends_on_relative_positions_only() -> None:
    q, k = torch.randn(2, 1, 1, 1, 32).unbind(0)
    a = torch.tensor([[3, 1, 2]])
    b = torch.tensor([[1, 0, 5]])
    shift = torch.tensor([[4, 2, 7]])

    def score(p, r):
        return (rotate(q, turned(p, 32)) * rotate(k, turned(r, 32))).sum()

    torch.testing.assert_close(score(a, b), score(a + shift, b + shift), atol=1e-4, rtol=1e-4)
    assert not torch.isclose(score(a, b), score(a, b + shift), atol=1e-3)


def test_rotation_keeps_lengths_and_position_zero_does_nothing() -> None:
    x = torch.randn(2, 3, 4, 16)
    positions = torch.randint(0, 9, (4, 3))
    torch.testing.assert_close(rotate(x, turned(positions, 16)).norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(rotate(x, turned(torch.zeros(4, 3), 16)), x)


def test_time_embedding_tells_close_times_apart() -> None:
    e = time_embedding(torch.tensor([0.0, 0.5, 0.501, 1.0]), time_frequency())
    assert e.shape == (4, 256)
    assert (e[1] - e[2]).norm() > 1.0


@pytest.mark.parametrize("seed", [0, 1])
def test_block_is_the_identity_when_its_gates_are_zero(seed: int) -> None:
    torch.manual_seed(seed)
    block = Block(32, 2, 2)
    x = torch.randn(2, 5, 32)
    mod = Modulation(*torch.randn(6, 2, 5, 32))._replace(
        gate_1=torch.zeros(2, 5, 32), gate_2=torch.zeros(2, 5, 32)
    )
    table = turned(torch.zeros(5, 3), 16)
    torch.testing.assert_close(block(x, mod, table, None), x)
