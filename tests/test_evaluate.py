"""Evaluation: known episodes give known figures, however they are run."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from worldmodel.errors import RunError, UserError
from worldmodel.evaluate import EvalConfig, evaluate
from worldmodel.evaluate_report import write_report


class Countdown(gymnasium.Env):
    """Ends after 3 + (seed mod 3) steps; even seeds succeed."""

    observation_space = spaces.Dict(
        {
            "front": spaces.Box(0, 255, (16, 16, 3), np.uint8),
            "proprio": spaces.Box(-np.inf, np.inf, (1,), np.float32),
        }
    )
    action_space = spaces.Box(-1, 1, (2,), np.float32)
    control_frequency = 10.0

    def __init__(self, broken_at: int | None = None) -> None:
        self.broken_at = broken_at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed_, self.left = seed, 3 + seed % 3
        return self._obs(), {}

    def step(self, action):
        self.left -= 1
        good = self.left == 0 and self.seed_ % 2 == 0
        info = {"success": good, "outcome": "success" if good else "dropped"}
        return self._obs(), float(action[0]), self.left == 0, False, info

    def _obs(self):
        value = np.nan if self.left == self.broken_at else self.left
        image = np.full((16, 16, 3), 40 * self.left, np.uint8)
        return {"front": image, "proprio": np.float32([value])}


class Noisy:
    """Draws from its seed alone; can be told to answer badly."""

    def __init__(self, env: gymnasium.Env, bad: str = "") -> None:
        self.bad = bad

    def reset(self, seeds, mask=None):
        self.generator, self.step = np.random.default_rng(seeds[0]), 0

    def act(self, obs):
        assert obs["proprio"].shape == (1, 1)
        action = self.generator.uniform(-1, 1, (1, 2)).astype(np.float32)
        if self.bad == "nan" and self.step == 2:
            action[0, 1] = np.nan
        self.step += 1
        return action[0] if self.bad == "shape" else action


def run(out: Path, episodes: int = 6, bad: str = "", broken_at: int | None = None, **options):
    config = EvalConfig(episodes=episodes, seed=100, **{"workers": 1, "videos": 1, **options})
    make_env, make_policy = partial(Countdown, broken_at), partial(Noisy, bad=bad)
    return evaluate(make_env, make_policy, config, out, about={"env": "down", "policy": "noisy"})


def test_figures_of_known_episodes(tmp_path: Path):
    result = run(tmp_path)
    s = json.loads((tmp_path / "result.json").read_text())
    assert s == json.loads(json.dumps(result.summary))
    assert (s["env"], s["policy"], s["seed"], s["episodes"]) == ("down", "noisy", 100, 6)
    assert s["success_rate"] == 0.5
    assert s["outcomes"] == {"success": 3, "dropped": 3}
    assert s["mean_length"] == 4.0  # seeds 100…105 take 4 5 3 4 5 3
    assert s["mean_steps_to_success"] == 4.0  # 100, 102, 104 take 4 3 5
    assert 0 < s["wilson95"][0] < 0.5 < s["wilson95"][1] < 1
    assert s["act_ms_p95"] >= s["act_ms_median"] >= 0
    assert s["hardware"]["cores"] >= 1


def test_the_number_of_workers_changes_nothing(tmp_path: Path):
    one = run(tmp_path / "one", episodes=9)
    three = run(tmp_path / "three", episodes=9, workers=3)

    def without_times(result):
        return [(e.episode, e.success, e.length, e.reward, e.video) for e in result.episodes]

    assert without_times(one) == without_times(three)
    for folder in ("one", "three"):
        files = sorted(f.name for f in (tmp_path / folder / "videos").iterdir())
        assert files == ["failure_0001.mp4", "success_0000.mp4"]


def test_it_goes_on_where_it_stopped(tmp_path: Path):
    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", episodes=2)
    log = tmp_path / "parts" / "episodes.jsonl"
    first = log.read_text()
    log.write_text(first + '{"episode": 2, "se')  # a kill in the middle of a line
    parts = run(tmp_path / "parts")
    assert log.read_text().startswith(first)
    assert len(log.read_text().splitlines()) == 6
    assert parts.summary["outcomes"] == whole.summary["outcomes"]
    assert parts.summary["mean_return"] == whole.summary["mean_return"]


def test_shards_give_the_same_result(tmp_path: Path):
    whole = run(tmp_path / "whole", episodes=11)
    run(tmp_path / "parts", episodes=11, shard="2/3")
    first = run(tmp_path / "parts", episodes=11, shard="0/3")
    assert [e.episode for e in first.episodes] == [0, 3, 6, 9]
    assert not (tmp_path / "parts/result.json").exists()
    log = tmp_path / "parts/episodes-0-of-3.jsonl"
    before = log.read_text()
    log.write_text(before[:-9])  # killed while it wrote its last episode: that one runs again
    run(tmp_path / "parts", episodes=11, shard="0/3")
    assert [json.loads(line)["episode"] for line in log.read_text().splitlines()] == [0, 3, 6, 9]
    run(tmp_path / "parts", episodes=11, shard="1/3")
    log = tmp_path / "parts/episodes-1-of-3.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    parts = run(tmp_path / "parts", episodes=11)  # what a shard left out is made up for

    def without_times(summary):
        return {k: v for k, v in summary.items() if not k.startswith("act_ms")}

    assert without_times(parts.summary) == without_times(whole.summary)
    written = json.loads((tmp_path / "parts/result.json").read_text())
    assert written["wilson95"] == whole.summary["wilson95"]
    assert written["success_rate"] == whole.summary["success_rate"]
    files = {f.name for f in (tmp_path / "parts/videos").iterdir()}
    assert files == {f.name for f in (tmp_path / "whole/videos").iterdir()}
    assert [p.name for p in (tmp_path / "parts").glob("episodes*")] == ["episodes.jsonl"]
    assert len((tmp_path / "parts/episodes.jsonl").read_text().splitlines()) == 11
    again = run(tmp_path / "parts", episodes=11)
    assert again.summary == parts.summary
    with pytest.raises(UserError, match="4 shards of 3 episodes"):
        run(tmp_path / "few", episodes=3, shard="0/4")


def test_another_evaluation_s_folder_is_refused(tmp_path: Path):
    run(tmp_path, episodes=2)
    with pytest.raises(UserError, match=r"something else \(max_steps: None, now 2\).*out="):
        run(tmp_path, episodes=2, max_steps=2)


def test_max_steps_ends_episodes(tmp_path: Path):
    result = run(tmp_path, max_steps=2)
    assert {e.length for e in result.episodes} == {2}
    assert result.success_rate == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_nan_actions_name_policy_step_and_seed(tmp_path: Path, workers: int):
    with pytest.raises(RunError, match=r"'noisy' returned NaN at step 2 .* seed 10"):
        run(tmp_path, bad="nan", workers=workers)


def test_wrong_action_shape_and_broken_observation(tmp_path: Path):
    with pytest.raises(UserError, match=r"shape \(2,\), the env expects \(1, 2\)"):
        run(tmp_path, bad="shape")
    with pytest.raises(RunError, match="NaN in observation 'proprio' at step"):
        run(tmp_path, broken_at=1)


@pytest.mark.parametrize("bad", [{"episodes": 0}, {"seed": -1}, {"max_steps": 0}])
def test_senseless_configs_are_refused(bad: dict):
    with pytest.raises(ValueError, match="got"):
        EvalConfig(**bad)


def test_the_report_holds_everything(tmp_path: Path):
    write_report(run(tmp_path), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") == 2
    assert "50.0 %" in page
    assert "dropped" in page
    assert "http://" not in page
    assert "https://" not in page
