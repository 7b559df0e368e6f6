"""The README's Python runs as printed, and the commands that it shows exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from worldmodel.commands import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.S))
def test_python_runs(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcomes = {"success", "not_reached", "not_grasped", "dropped", "not_delivered", "off_table"}
    assert done.stdout.startswith("imagined 30 steps") or done.stdout.split()[-1] in outcomes


def test_every_command_is_shown_and_every_one_shown_exists() -> None:
    shell = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.S))
    shown = re.findall(r"^worldmodel ([a-z]+(?: [a-z]+(?=\s|$))?)", shell, re.M)
    assert set(shown) <= set(COMMANDS)
    first_words = {name.split()[0] for name in COMMANDS}
    assert {name.split()[0] for name in shown} | {"demo"} == first_words


#: words of the README -> what the test says instead: a few updates, a few episodes, one process
SMALL = [
    (r"episodes=150 seed=3900000", "episodes=4 seed=3900000 workers=1"),
    (r"batch=64 steps=1600", "init=pick_can_tiny batch=4 steps=2 holdout=1 validate_every=2"),
    (r"rounds=4", "rounds=1 batch=4 test_episodes=1 workers=1"),
    (r"max_steps=45", "max_steps=70"),
    (r"episodes=400", "episodes=4"),
    (r"updates=500", "updates=2"),
    (r"starts=data/pick_can", "starts=data/few"),
    (r"round-3", "round-0"),
    (r"worldmodel judge (.*)", r"worldmodel judge \1 episodes=2 max_steps=10 workers=1"),
]


@pytest.mark.timeout(900)  # four commands, one after the other: minutes where the machine is busy
def test_an_agent_is_trained_in_the_model_and_judged_there_as_printed(tmp_path: Path) -> None:
    """The block's every command, in its order, with smaller numbers."""
    block = next(b for b in re.findall(r"```bash\n(.*?)```", README, re.S) if "model agent" in b)
    for pattern, small in SMALL:
        block, n = re.subn(pattern, small, block)
        assert n, f"the README no longer says {pattern}"
    commands = block.replace("\\\n", " ").strip().splitlines()
    assert [c.split()[1] for c in commands] == ["collect", "train", "agent", "judge"]
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(command)], cwd=tmp_path, capture_output=True,
            text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    trained = json.loads((tmp_path / "runs/agent/few/result.json").read_text())
    assert list(trained["tried"]) == ["start", "improved", "shuffled", "nothing"]
    assert [row["episodes"] for row in trained["tried"].values()] == [1] * 4
    steps = trained["imagined_steps"]
    assert steps["improved"] > steps["nothing"] == 0
    assert steps["shuffled"] > 0
    judged = next((tmp_path / "runs").glob("judge/*/result.json"))
    assert len(json.loads(judged.read_text())["table"]) == 3


def test_files_linked_to_are_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
