"""The model as a Gymnasium environment: spaces, autoreset, starts, seeds and refusals."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from tiny import SIDE, A, C, P, tiny_model

from worldmodel.errors import UserError
from worldmodel.imagined_env import ImaginedEnv, ImaginedVectorEnv
from worldmodel.leaves import OUTCOMES
from worldmodel.model import WorldModel
from worldmodel.outcomes import Verdicts
from worldmodel.starts import Starts

N = 3


def starts(n: int = 5) -> Starts:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, C, SIDE, SIDE, 3), dtype=np.uint8)
    return Starts(images, rng.normal(size=(n, P)).astype(np.float32))


def model(success: float = -5.0) -> WorldModel:
    """One that reads success with this logit, whatever it imagines."""
    made = tiny_model().eval()
    with torch.no_grad():
        made.read_outcome.weight.zero_()
        made.read_outcome.bias.zero_()
        made.read_outcome.bias[OUTCOMES.index("success")] = success
        made.read_outcome.bias[OUTCOMES.index("terminated")] = -5.0
        made.read_outcome.bias[OUTCOMES.index("reward")] = 0.25
    return made


def worlds(success: float = -5.0, **arguments) -> ImaginedVectorEnv:
    given = {"num_envs": N, "starts": starts(), "device": "cpu", **arguments}
    return ImaginedVectorEnv(checkpoint=model(success), **given)


def actions(k: int = 0) -> np.ndarray:
    return np.random.default_rng(k).uniform(-1, 1, (N, A)).astype(np.float32)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray], rows=slice(None)) -> bool:
    return all(np.array_equal(a[k][rows], b[k][rows]) for k in a)


def test_observations_lie_in_the_spaces_of_the_real_env() -> None:
    envs = worlds()
    obs, _ = envs.reset(seed=1)
    assert envs.observation_space.contains(obs)
    obs, reward, terminated, truncated, info = envs.step(actions())
    assert envs.observation_space.contains(obs)
    assert reward.tolist() == [0.25] * N
    assert not terminated.any()
    assert not truncated.any()
    assert info["success"].shape == info["is_success"].shape == info["value"].shape == (N,)


def test_gymnasiums_own_checker_has_nothing_to_say() -> None:
    env = ImaginedEnv(model(), starts(), device="cpu", render_mode="rgb_array")
    check_env(env, skip_render_check=True)


def test_the_registered_ids_make_both_kinds() -> None:
    import envs  # noqa: F401  (registers them)

    given = {"checkpoint": model(), "starts": starts(), "device": "cpu"}
    one = gymnasium.make("worldmodel/Imagined-v0", **given)
    obs, _ = one.reset(seed=0)
    assert one.observation_space.contains(obs)
    over = [one.step(one.action_space.sample())[3] for _ in range(100)]
    assert over.index(True) == 99  # the time limit of its registration
    many = gymnasium.make_vec("worldmodel/Imagined-v0", num_envs=2, **given)
    assert isinstance(many, ImaginedVectorEnv)
    assert many.horizon == 100


def test_the_same_seed_gives_the_same_rollout() -> None:
    def play(seed: int) -> list[dict[str, np.ndarray]]:
        envs = worlds(max_episode_steps=3)
        seen = [envs.reset(seed=seed)[0]]
        return seen + [envs.step(actions(k))[0] for k in range(7)]

    assert all(same(a, b) for a, b in zip(play(4), play(4), strict=True))
    assert not same(play(4)[3], play(5)[3])


def test_a_row_goes_by_its_own_seed_and_others_keep_theirs() -> None:
    envs, alone, listed = worlds(), ImaginedVectorEnv(1, model(), starts(), device="cpu"), worlds()
    obs, _ = envs.reset(seed=4)
    first, _ = alone.reset(seed=6)
    assert all(np.array_equal(obs[k][2], first[k][0]) for k in obs)
    again, _ = listed.reset(seed=[4, 5, 6])
    assert same(obs, again)
    a, b, c = (w.step(actions()[rows])[0] for w, rows in
               ((envs, slice(None)), (listed, slice(None)), (alone, slice(2, None))))  # fmt: skip
    assert same(a, b)
    np.testing.assert_allclose(a["proprio"][2], c["proprio"][0], atol=2e-2)  # bf16, another batch
    # a seed and a mask: only those rows begin anew, and as that seed says
    masked = {"reset_mask": np.array([False, False, True])}
    envs.reset(seed=4, options=dict(masked))
    listed.reset(seed=[None, None, 6], options=dict(masked))
    assert same(envs.step(actions(1))[0], listed.step(actions(1))[0])
    with pytest.raises(UserError, match="got 2 seeds, expected 3"):
        envs.reset(seed=[1, 2])


def test_same_step_hands_over_the_last_observation_and_begins_anew() -> None:
    envs = worlds(max_episode_steps=2)
    envs.reset(seed=0)
    envs.step(actions())
    obs, _, terminated, truncated, info = envs.step(actions())
    assert truncated.all()
    assert not terminated.any()
    assert info["_final_obs"].all()
    assert not same(obs, info["final_obs"])
    shown = np.stack([obs[c] for c in envs.data_spec.cameras], axis=1)
    for row in shown:  # a real first observation, as it is
        assert any(np.array_equal(row, start) for start in envs.starts.images)
    assert not envs.step(actions())[3].any()


def test_next_step_begins_anew_on_the_step_after_the_end() -> None:
    envs = worlds(max_episode_steps=2, autoreset_mode=AutoresetMode.NEXT_STEP)
    envs.reset(seed=0)
    envs.step(actions())
    _, _, _, truncated, info = envs.step(actions())
    assert truncated.all()
    assert "final_obs" not in info
    obs, reward, _, truncated, _ = envs.step(np.full((N, A), np.nan))  # actions are not looked at
    assert not truncated.any()
    assert not reward.any()
    shown = np.stack([obs[c] for c in envs.data_spec.cameras], axis=1)
    assert any(np.array_equal(shown[0], start) for start in envs.starts.images)


def test_disabled_waits_for_a_reset_of_the_rows_that_ended_and_leaves_the_others() -> None:
    envs = worlds(max_episode_steps=2, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    envs.step(actions())
    before, *_ = envs.step(actions())
    with pytest.raises(RuntimeError, match="reset_mask"):
        envs.step(actions())
    obs, _ = envs.reset(options={"reset_mask": np.array([True, False, False])})
    assert same(obs, before, slice(1, None))
    assert not same(obs, before, slice(0, 1))


def test_a_row_that_begins_anew_goes_on_as_a_fresh_world_would() -> None:
    """Its history is forgotten, its neighbours do not notice."""
    envs, alone = worlds(), worlds()
    envs.reset(seed=3)
    alone.reset(seed=3)
    for k in range(4):
        envs.step(actions(k))
        alone.step(actions(k))
    envs.reset(options={"reset_mask": np.array([False, True, False]), "start": [2]})
    after, *_ = envs.step(actions(9))
    apart, *_ = alone.step(actions(9))
    assert same(after, apart, slice(0, 1))
    assert not same(after, apart, slice(1, 2))
    fresh = ImaginedVectorEnv(1, model(), starts(), device="cpu")
    fresh.reset(seed=0, options={"start": [2]})
    fresh._world.generators = [envs._world.generators[1].clone_state()]
    envs._world.generators[1] = fresh._world.generators[0].clone_state()
    envs.reset(options={"reset_mask": np.array([False, True, False]), "start": [2]})
    a, *_ = envs.step(actions(5))
    b, *_ = fresh.step(actions(5)[1:2])
    np.testing.assert_allclose(a["proprio"][1], b["proprio"][0], atol=2e-2)  # bf16, another batch


def test_success_ends_an_episode_and_pays() -> None:
    envs = worlds(success=5.0, reward="sparse")
    envs.reset(seed=0)
    _, reward, terminated, truncated, info = envs.step(actions())
    assert terminated.all()
    assert not truncated.any()
    assert reward.tolist() == [1.0] * N
    assert info["final_info"]["success"].all()


def test_an_event_has_happened_once_that_is_more_likely_than_not() -> None:
    """Chances add up over steps, small ones do not, and a row that begins anew forgets them."""
    verdicts = Verdicts(3)

    def read(*success: float) -> list[bool]:
        rows = torch.tensor([[p, 0.0, 0.0, 0.0, 0.0] for p in success])
        return verdicts.read(rows).success.tolist()

    assert read(0.34, 0.51, 0.09) == [False, True, False]
    for _ in range(20):
        last = read(0.34, 0.0, 0.09)
    assert last == [True, True, False]
    verdicts.forget(np.array([0]))
    assert read(0.34, 0.0, 0.09) == [False, True, False]


def test_nothing_counts_once_what_is_imagined_has_strayed() -> None:
    verdicts = Verdicts(4)
    steps = [  # a row's chances of success, of an end, and of having strayed
        [(0.0, 0.0, 0.6), (0.9, 0.0, 0.0), (0.0, 0.9, 0.0), (0.4, 0.0, 0.5)],
        [(0.9, 0.9, 0.0), (0.0, 0.0, 0.9), (0.0, 0.0, 0.9), (0.4, 0.0, 0.5)],
    ]
    for step in steps:
        rows = torch.tensor([[p, 0.0, end, 0.0, lost] for p, end, lost in step])
        found = verdicts.read(rows)
    assert found.strayed.tolist() == [True, True, True, False]
    assert found.success.tolist() == [False, True, False, True]  # what was before it stands
    assert found.ended.tolist() == [False, True, True, True]
    verdicts.forget(np.array([0]))
    assert verdicts.read(rows).strayed.tolist() == [False, True, True, False]


def test_a_start_of_ones_own() -> None:
    envs, own = worlds(), starts(N)
    obs, _ = envs.reset(seed=0, options={"images": own.images, "proprio": own.proprio})
    for c, name in enumerate(envs.data_spec.cameras):
        assert np.array_equal(obs[name], own.images[:, c])


def test_pictures_in_any_size() -> None:
    envs = worlds(render_mode="rgb_array", render_size=40)
    envs.reset(seed=0)
    frames = envs.render()
    assert len(frames) == N
    assert frames[0].shape == (40, 40 * C, 3)
    assert frames[0].dtype == np.uint8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"begin": 1}, "got \\['begin'\\]"),
        ({"start": [0, 1]}, "expected 3 numbers from 0 to 4"),
        ({"start": [0, 1, 5]}, "expected 3 numbers from 0 to 4"),
        ({"images": np.zeros((N, C, SIDE, SIDE, 3), np.uint8)}, "both images and proprio"),
        ({"images": np.zeros((N, C, 4, 4, 3), np.uint8), "proprio": np.zeros((N, P))}, "cameras"),
        ({"reset_mask": np.zeros(2, bool)}, "expected bool \\(3,\\)"),
        ({"reset_mask": np.array([True, False, False])}, "must begin all rows"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        worlds().reset(seed=0, options=options)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((N, A + 1)), "one row per world"),
        (np.full((N, A), 1.5), "clip or rescale"),
        (np.full((N, A), np.nan), "not finite"),
    ],
)
def test_bad_actions_are_refused(bad: np.ndarray, message: str) -> None:
    envs = worlds()
    envs.reset(seed=0)
    with pytest.raises(UserError, match=message):
        envs.step(bad)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"reward": "shaped"}, "'sparse' or 'dense'"),
        ({"render_mode": "human"}, "rgb_array"),
        ({"starts": None}, "give starts="),
        ({"starts": "/nowhere"}, "no dataset folder"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        worlds(**arguments)


def test_stable_baselines_trains_in_imagined_worlds() -> None:
    pytest.importorskip("stable_baselines3")
    from worldmodel.sb3 import ImaginedVecEnv

    one = ImaginedVecEnv(worlds(max_episode_steps=2))
    one.seed(1)
    first = one.reset()
    one.seed(1)
    assert same(first, one.reset())
    one.step(actions())
    _, _, done, infos = one.step(actions())
    assert done.all()
    assert infos[0]["TimeLimit.truncated"]
    assert infos[0]["terminal_observation"].keys() == first.keys()
    with pytest.raises(UserError, match="SAME_STEP"):
        ImaginedVecEnv(worlds(autoreset_mode=AutoresetMode.DISABLED))


def test_ppo_learns_inside_a_checkpoint() -> None:
    """Whole updates of an ordinary algorithm: pictures, proprioception, autoreset and all."""
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import PPO

    from worldmodel.sb3 import ImaginedVecEnv

    vec = ImaginedVecEnv(ImaginedVectorEnv(2, max_episode_steps=4, flow_steps=1, device="cpu"))
    agent = PPO("MultiInputPolicy", vec, n_steps=6, batch_size=6, n_epochs=1, seed=0)
    agent.learn(24)
    assert agent.num_timesteps == 24
