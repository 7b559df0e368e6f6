"""The flow against independent truths: its ends, finite differences, a Gaussian carried by hand."""

from __future__ import annotations

import math

import pytest
import torch

from worldmodel.flow import (
    T_MIN,
    TimeDistribution,
    dual_time,
    integrate,
    interpolate,
    sample_time,
    velocity,
    velocity_loss,
    x_to_velocity,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_path_is_data_at_zero_and_noise_at_one() -> None:
    x_0, eps = torch.randn(5, 3), torch.randn(5, 3)
    torch.testing.assert_close(interpolate(x_0, eps, torch.tensor(0.0)), x_0)
    torch.testing.assert_close(interpolate(x_0, eps, torch.tensor(1.0)), eps)


def test_velocity_is_the_finite_difference_of_the_path() -> None:
    x_0, eps = torch.randn(2, 50, dtype=torch.float64).unbind(0)
    h = 1e-6
    for t in (0.1, 0.5, 0.9):
        later, earlier = (
            interpolate(x_0, eps, torch.tensor(t + s * h, dtype=torch.float64)) for s in (1, -1)
        )
        slope = (later - earlier) / (2 * h)
        torch.testing.assert_close(slope, velocity(x_0, eps), atol=1e-8, rtol=0)


def test_the_true_data_stand_for_the_true_velocity() -> None:
    x_0, eps = torch.randn(2, 4, 7, dtype=torch.float64).unbind(0)
    t = torch.tensor([0.01, 0.3, 0.7, 1.0], dtype=torch.float64)[:, None]
    x_t = interpolate(x_0, eps, t)
    torch.testing.assert_close(x_to_velocity(x_0, x_t, t), velocity(x_0, eps))


def test_loss_is_the_squared_error_of_the_velocity_and_bounded_near_the_data() -> None:
    x_0, eps, guess = torch.randn(3, 5, 7, dtype=torch.float64).unbind(0)
    t = torch.tensor([T_MIN, 0.6, 0.7, 1.0, 0.01], dtype=torch.float64)[:, None]
    x_t = interpolate(x_0, eps, t)
    expected = (x_to_velocity(guess, x_t, t) - velocity(x_0, eps)).square()
    loss = velocity_loss(guess, x_0, t)
    torch.testing.assert_close(loss[:-1], expected[:-1])
    torch.testing.assert_close(loss[-1], (guess - x_0)[-1].square() / T_MIN**2)


def gaussian_posterior_mean(mean: float, std: float):
    """E[x_0 | x_t] when x_0 ~ N(mean, std^2) and eps ~ N(0, 1): the ideal network, by hand."""

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        a, variance = 1 - t, ((1 - t) * std) ** 2 + t**2
        return mean + a * std**2 / variance * (x - a * mean)

    return predict


@pytest.mark.parametrize(
    ("method", "steps", "tolerance"), [("euler", 200, 0.02), ("heun", 25, 0.02)]
)
def test_a_gaussian_is_carried_to_its_known_mean_and_variance(
    method: str, steps: int, tolerance: float
) -> None:
    noise = torch.randn(200_000, generator=generator(), dtype=torch.float64)
    x = integrate(gaussian_posterior_mean(1.5, 0.5), noise, steps, method)
    assert abs(x.mean() - 1.5) < 0.01
    assert abs(x.std() - 0.5) < tolerance


def test_heun_is_of_higher_order_than_euler() -> None:
    """The probability flow of a Gaussian is linear: x_0 = mean + std x_1, exactly."""
    x_1 = torch.linspace(-2, 2, 9, dtype=torch.float64)
    truth = 1.5 + 0.5 * x_1
    ideal = gaussian_posterior_mean(1.5, 0.5)
    errors = {
        (method, n): (integrate(ideal, x_1, n, method) - truth).abs().max()
        for method in ("euler", "heun")
        for n in (20, 40)
    }  # fmt: skip
    assert errors["euler", 40] / errors["euler", 20] == pytest.approx(0.5, abs=0.1)
    assert errors["heun", 40] / errors["heun", 20] < 0.35
    assert errors["heun", 20] < errors["euler", 40]


def test_one_step_gives_the_prediction_itself() -> None:
    target = torch.randn(3, 4)
    torch.testing.assert_close(integrate(lambda x, t: target, torch.randn(3, 4), 1), target)


def test_times_are_logit_normal_with_a_late_tail() -> None:
    p = TimeDistribution(math.log(2.95), 1.0, 0.0)
    t = sample_time((100_000,), p, generator())
    # the median of sigmoid(N(ln a, 1)) is a / (1 + a)
    assert t.median().item() == pytest.approx(2.95 / 3.95, abs=0.005)
    late = sample_time((100_000,), TimeDistribution(-3.0, 0.5, 0.2), generator())
    assert (late > 0.95).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert t.min() > 0
    assert late.max() <= 1
    pure = sample_time((100_000,), TimeDistribution(0.8, 1.0, 0.3, late=1.0), generator())
    assert (pure == 1.0).float().mean().item() == pytest.approx(0.3, abs=0.01)


def test_dual_times_mix_two_draws_and_the_teacher_has_the_cleaner() -> None:
    tau, tau_min = dual_time((2000,), 32, TimeDistribution(), 0.25, False, True, generator())
    assert tau.shape == (2000, 32)
    assert tau_min.shape == (2000, 1)
    assert all(len(row.unique()) <= 2 for row in tau[:50])
    assert (tau >= tau_min).all()  # the teacher is never noisier
    mixed = torch.stack([row.unique().shape[0] == torch.tensor(2) for row in tau])
    assert mixed.float().mean() > 0.99
    # the masked minority is the cleaner group half of the time: times are not sorted
    minority_cleaner = (tau == tau_min).float().mean(1) < 0.5
    assert minority_cleaner.float().mean().item() == pytest.approx(0.5, abs=0.05)
    share = torch.minimum((tau == tau_min).float().mean(1), (tau != tau_min).float().mean(1))
    assert share.mean().item() == pytest.approx(0.25, abs=0.02)


def test_a_whole_leaf_takes_one_of_its_two_times() -> None:
    tau, tau_min = dual_time((4000,), 8, TimeDistribution(), 0.5, True, True, generator())
    assert (tau == tau[:, :1]).all()
    # at min(t, s) half of the time: only then do student and teacher see the same tokens
    assert (tau[:, :1] == tau_min).float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_plain_flow_has_one_time() -> None:
    tau, tau_min = dual_time((10,), 8, TimeDistribution(), 0.5, False, False, generator())
    assert (tau == tau_min).all()
