"""The README's Python runs as printed, and the commands that it shows exist."""

from __future__ import annotations

import re
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
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=240,
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


def test_files_linked_to_are_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
