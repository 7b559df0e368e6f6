"""The command line: what it says, what it leaves behind, how it ends."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from worldmodel import cli
from worldmodel.commands import COMMANDS

ROOT = Path(__file__).parent.parent


class Walk(gymnasium.Env):
    """Ten steps; succeeds when the sum of actions is positive. ``wait`` [s] a step."""

    observation_space = spaces.Dict({"proprio": spaces.Box(-99, 99, (1,), np.float32)})
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, wait: float = 0.0, size: int = 3) -> None:
        self.wait = wait
        if size < 1:
            raise ValueError(f"size must be positive, got {size}")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.sum, self.step_ = 0.0, 0
        return {"proprio": np.float32([0])}, {}

    def step(self, action):
        time.sleep(self.wait)
        self.sum += float(action[0])
        self.step_ += 1
        ended = self.step_ == 10
        return {"proprio": np.float32([0])}, 0.0, ended, False, {"success": self.sum > 0}


gymnasium.register("Walk-v0", Walk)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a config folder of the user's own."""
    (tmp_path / "mine" / "env").mkdir(parents=True)
    (tmp_path / "mine" / "env" / "walk.yaml").write_text("id: test_cli:Walk-v0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLDMODEL_TRACEBACK", raising=False)
    return tmp_path


EVAL = ["eval", "--config-dir", "mine", "env=walk", "policy=random", "workers=1", "episodes=4"]


def test_eval_leaves_everything_that_is_needed_to_repeat_it(folder: Path, capsys):
    assert cli.main([*EVAL, "seed=7"]) == 0
    (run,) = (folder / "runs" / "eval").iterdir()
    assert {f.name for f in run.iterdir()} >= {
        "config.yaml", "run.json", "result.json", "report.html", "episodes.jsonl",
    }  # fmt: skip
    result = json.loads((run / "result.json").read_text())
    assert (result["env"], result["policy"], result["seed"]) == ("test_cli:Walk-v0", "random", 7)
    about = json.loads((run / "run.json").read_text())
    assert about["command"][1:4] == ["eval", "--config-dir", "mine"]
    assert about["versions"]["numpy"] == np.__version__
    assert "git_commit" in about
    assert "seed: 7" in (run / "config.yaml").read_text()
    out = capsys.readouterr().out
    assert f"success {result['success_rate']:.3f}" in out
    assert "report.html" in out


def test_the_same_out_goes_on(folder: Path):
    assert cli.main([*EVAL, "out=here"]) == 0
    first = (folder / "here" / "episodes.jsonl").read_text()
    assert cli.main([*EVAL[:-1], "episodes=6", "out=here"]) == 0
    assert (folder / "here" / "episodes.jsonl").read_text().startswith(first)
    assert "episodes: 6" in (folder / "here" / "config.yaml").read_text()
    # another evaluation is refused and nothing is lost
    assert cli.main([*EVAL, "out=here", "seed=1"]) == 2
    assert "seed: 10000" in (folder / "here" / "config.yaml").read_text()
    assert (folder / "here" / "episodes.jsonl").read_text().startswith(first)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["evl"], 2, "unknown command 'evl'; did you mean 'eval'?"),
        (["eval", "eposides=3"], 2, "unknown key 'eposides'; did you mean 'episodes'?"),
        (["eval", "policy=scritped"], 2, "did you mean 'scripted'?"),
        (["eval", "env=pickcan"], 2, "did you mean 'pick_can'?"),
        (["eval", "episodes=many"], 2, "episodes: expected int, got 'many'"),
        (["eval", "episodes=0"], 2, "expected episodes >= 1"),
        (["eval", "--episodes", "5"], 2, "without dashes: episodes=5"),
        (["eval", "--episodes=5"], 2, "without dashes: episodes=5"),
        (["eval", "--trace"], 2, "did you mean '--traceback'?"),
        (["eval", "episodes"], 2, "expected key=value"),
        (["eval", "--config-dir"], 2, "needs a folder"),
        (["eval", "--config-dir=nowhere"], 2, "there is no folder 'nowhere'"),
        ([*EVAL, "env.size=0"], 2, "refuses its options: size must be positive, got 0"),
        ([*EVAL, "env.sze=1"], 2, "unknown key 'env.sze'; did you mean 'size'?"),
        ([*EVAL, "policy=scripted"], 2, "has no scripted expert"),
        (["eval", "env.id=nomodule:X-v0", "~env.pose"], 2, "there is no env 'nomodule:X-v0'"),
    ],
)
def test_bad_usage_is_told_in_a_line_or_two(folder: Path, capsys, words, code, message):
    assert cli.main(words) == code
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


ERRORS: list[Exception] = []


def fail(folder: Path, *parts: object) -> None:
    """A job that fails with the error that a test has put into ERRORS."""
    raise ERRORS[-1]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero\n  not exp"),
        (OSError(errno.ENOSPC, "No space left", "a.mp4"), "the disk is full while writing a.mp4"),
        (PermissionError(errno.EACCES, "denied", "a.mp4"), "PermissionError"),
    ],
)
def test_failures_end_with_1_and_a_traceback_on_request(
    folder: Path, capsys, monkeypatch, error, message
):
    ERRORS.append(error)
    job = dataclasses.replace(COMMANDS["eval"], job="test_cli:fail")
    monkeypatch.setitem(COMMANDS, "eval", job)
    assert cli.main(["eval"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert "Traceback" not in told
    assert cli.main(["eval", "--traceback"]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("WORLDMODEL_TRACEBACK", "1")
    assert cli.main(["eval"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_help_and_version(folder: Path, capsys):
    assert cli.main(["--help"]) == 0
    overview = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert name in overview
        assert command.summary in overview
    assert cli.main([]) == 2
    assert cli.main(["--version"]) == 0


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_teaches_itself(folder: Path, capsys, name: str):
    assert cli.main([*name.split(), "--help"]) == 0
    told = capsys.readouterr().out
    for example in COMMANDS[name].examples:
        assert example in told
        call = cli.parse(example.split()[1:])
        assert call.name == name
    keys = told.split("keys\n")[1].splitlines()
    for i, line in enumerate(keys):
        if line.startswith("  ") and not line.startswith("   ") and "…" not in line:
            assert i + 1 < len(keys), f"{name}: {line} has no meaning"
            assert keys[i + 1].startswith("      "), f"{name}: {line} has no meaning"


def test_print_config_builds_and_writes_nothing(folder: Path, capsys):
    assert cli.main(["eval", "policy=random", "--print-config"]) == 0
    assert "name: random" in capsys.readouterr().out
    assert not (folder / "runs").exists()


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys; from worldmodel.cli import main; main(['--help'])\n"
        "print(*[m for m in ('torch', 'hydra', 'numpy', 'mujoco') if m in sys.modules], "
        "file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stderr.strip() == ""


def test_doctor_finds_what_is_needed_here(folder: Path, capsys):
    assert cli.main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "steps/s" in told
    assert "Everything that is needed is here." in told


def test_doctor_names_the_repair(folder: Path, capsys):
    assert cli.main(["doctor", "env.id=worldmodel/NoSuchTask-v0"]) == 1
    told = capsys.readouterr()
    assert "MISSING  rendering" in told.out
    assert "→ apt-get install libegl1" in told.out
    assert "missing: rendering" in told.err
    assert not (folder / "runs").exists()


def test_ctrl_c_says_how_to_go_on(folder: Path):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    words = [sys.executable, "-m", "worldmodel", *EVAL, "env.wait=0.02", "episodes=500"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)
    log = None
    for _ in range(300):
        log = next(iter((folder / "runs").rglob("episodes.jsonl")), None)
        if log is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; what was finished is in runs/eval/" in told
    assert "worldmodel eval --config-dir mine env=walk" in told
    assert f"out={log.parent.relative_to(folder)}" in told
    assert "Traceback" not in told
