"""docs/suite.py and docs/third_party.py: which commands they run, and what they make of results."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from worldmodel.commands import COMMANDS
from worldmodel.config import compose

TASKS = compose("eval", ["env=suite"])["env"]["tasks"]  # of the shipped model
DOCS = Path(__file__).resolve().parents[1] / "docs"
INTERVAL = [20.0, 19.0, 21.0]
PICTURES = {"imagined": {"psnr": INTERVAL}, "first frame repeated": {"psnr": [15.0, 14.0, 16.0]}}


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[list[str]]:
    """Commands of worldmodel that were run, none in truth; each leaves a result."""
    asked: list[list[str]] = []

    def run(words, check, **_):
        assert check is False
        words = list(words)
        if "worldmodel" in words:
            words = words[words.index("worldmodel") + 1 :]
            assert {words[0], " ".join(words[:2])} & set(COMMANDS)
            asked.append(words)
            told = dict(word.partition("=")[::2] for word in words[1:])
            assert len(told) == len(words) - 1, "a word is there twice"
            n = int(told["episodes"]) if "episodes" in told else 0
            task = {"episodes": n, "successes": n - 1, "outcomes": {"success": n - 1, "lost_it": 1}}
            result = {
                **task, "success_rate": 0.9, "wilson95": [0.8, 0.95], "steps": 7,
                "tasks": dict.fromkeys(TASKS, task), "demonstrations": PICTURES,
                "mistakes": PICTURES,
            }  # fmt: skip
            result |= {name: task for name in TASKS}
            Path(told["out"]).mkdir(parents=True, exist_ok=True)
            (Path(told["out"]) / "result.json").write_text(json.dumps(result))
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def play(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *words])
    module.main()


def test_the_suites_table_of_the_shipped_model(ran, tmp_path, monkeypatch, capsys) -> None:
    suite = script("suite", monkeypatch)
    for _ in range(2):  # what is finished is kept
        play(suite, monkeypatch, f"--out={tmp_path}", "--episodes=10")
    assert len(ran) == 1
    assert ran[0][:2] == ["eval", "policy=suite_tiny"]
    assert "episodes=80" in ran[0]
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert len(lines) == 2 + 8 + 1
    assert "| push_can | 0.99 [0.933, 0.998] | 1 lost it |" in lines


def test_everything_about_the_suite_is_trained_from_what_was_before(
    ran, tmp_path, monkeypatch
) -> None:
    suite = script("suite", monkeypatch)
    monkeypatch.setattr(suite, "evaluate", lambda *_: _some()["push_can"] | {"tasks": _some()})
    play(suite, monkeypatch, f"--out={tmp_path}", "--train")
    trained = [words for words in ran if words[0] == "train"]
    assert len(trained) == 5 + 8
    for stage, before in zip(trained[1:5], ("acts", "imagines", "both", "harder"), strict=True):
        assert f"init={tmp_path}/{before}" in stage
    assert f"student={tmp_path}/harder" in next(w for w in ran if f"out={tmp_path}/data_led" in w)
    head = (tmp_path / "table.md").read_text().splitlines()[0]
    assert head == "| task | one model | plans alone | eight models | how the first fails |"


def _some() -> dict:
    return {name: {"episodes": 4, "successes": 4, "outcomes": {"success": 4}} for name in TASKS}


def test_rows_of_other_peoples_envs(ran, tmp_path, monkeypatch, capsys) -> None:
    third_party = script("third_party", monkeypatch)
    for _ in range(2):
        play(third_party, monkeypatch, "pendulum", "metaworld_push", f"--out={tmp_path}")
    assert [words[0] for words in ran] == ["collect", "train", "eval", "eval", "rollout"] * 2
    assert "env.task=push-v3" in ran[5]
    assert "policy.replan=2" in ran[3]
    table = (tmp_path / "table.md").read_text().splitlines()
    seen = "20.0 [19.0, 21.0]; 20.0 [19.0, 21.0] | 15.0 [14.0, 16.0]; 15.0 [14.0, 16.0]"
    assert table[2].startswith("| pendulum | 75 | 7 | 0.90 [0.80, 0.95] | 0.90 [0.80, 0.95] |")
    assert seen in table[2]
    with pytest.raises(SystemExit):
        play(third_party, monkeypatch, "pendulm")
    assert "unknown row 'pendulm'" in capsys.readouterr().err


def test_a_command_that_fails_ends_it(tmp_path, monkeypatch, capsys) -> None:
    suite = script("suite", monkeypatch)
    monkeypatch.setattr(subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 3))
    with pytest.raises(SystemExit, match="failed with 3; run this again"):
        play(suite, monkeypatch, f"--out={tmp_path}")
