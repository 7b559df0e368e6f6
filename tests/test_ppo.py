"""docs/ppo.py at a small scale, where Stable-Baselines3 is installed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "ppo.py"


@pytest.fixture(scope="module")
def ppo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ppo", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_sides_are_trained_tried_and_kept(ppo, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(ppo, "WORLDS", 2)
    monkeypatch.setattr(ppo, "HORIZON", 3)
    few = {"n_steps": 4, "batch_size": 4, "n_epochs": 1}
    monkeypatch.setattr(ppo, "WORDS", {**ppo.WORDS, **few})
    words = ["ppo.py", "--steps=8", "--seeds=1", "--episodes=2", f"--out={tmp_path}"]
    monkeypatch.setattr(sys, "argv", words)
    ppo.main()
    files = sorted(tmp_path.glob("*/result.json"))
    assert [f.parent.name for f in files] == ["model-0", "simulator-0"]
    for file in files:
        result = json.loads(file.read_text())
        assert result["env_steps"] == 8
        assert len(result["curve"]) == 2  # four steps of two worlds, episodes of three
        assert (file.parent / "agent.safetensors").exists()
        assert (file.parent / "simulator.mp4").exists()
    before = [f.stat().st_mtime_ns for f in files]
    ppo.main()
    assert [f.stat().st_mtime_ns for f in files] == before
    assert "reached, trained in the model" in capsys.readouterr().out
    assert "simulator-0" in (tmp_path / "report.html").read_text()
    agents = ppo.Agents([tmp_path / "model-0"], ppo.make_env())
    total = 0.0
    for i in range(2):  # what was written acts as what was tried
        env = ppo.gymnasium.make(ppo.ENV, reward="dense", max_episode_steps=3)
        obs, _ = env.reset(seed=ppo.TEST_SEED + i)
        agents.reset([i])
        for _ in range(3):
            rows = {name: value[None] for name, value in obs.items()}
            obs, reward, *_ = env.step(agents.act(rows)[0])
            total += float(reward)
    tried = json.loads(files[0].read_text())["after"]["mean_return"]
    assert total / 2 == pytest.approx(tried, abs=1e-6)


def test_the_reward_off_the_pictures_is_that_of_one_episode(ppo, monkeypatch) -> None:
    """A step that begins a new episode is paid by where the old one ended."""
    monkeypatch.setattr(ppo, "WORLDS", 2)
    monkeypatch.setattr(ppo, "HORIZON", 2)
    probe, _ = ppo.load_probe(ppo.CHECKPOINTS / "pick_can_probe")
    seen = ppo.Reading(ppo.make("simulator", "", 3), probe, approach=True)
    first, still = seen.reset(), np.zeros((2, 7), np.float32)
    down = np.array([[0, 0, -1, 0, 0, 0, -1]] * 2, np.float32)
    middle, reward, _, _ = seen.step(still)
    assert np.allclose(reward, ppo.nearness(middle) - ppo.nearness(first))
    after, reward, done, infos = seen.step(down)
    assert done.all()
    last = np.stack([info["terminal_observation"] for info in infos])
    assert np.allclose(reward, ppo.nearness(last) - ppo.nearness(middle))
    assert not np.allclose(last, after)
