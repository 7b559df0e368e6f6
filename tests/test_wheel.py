"""The wheel in another environment, used from another folder, finds all that it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="building needs the extra [dev]")
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel, which borrows the dependencies of this one."""
    folder = tmp_path_factory.mktemp("elsewhere") / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    site = next((folder / "lib").glob("python3*/site-packages"))
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", folder, "--disable-pip-version-check", "install",
         "--quiet", "--no-deps", "--no-index", wheel],
        check=True, capture_output=True,
    )  # fmt: skip
    borrowed = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    # Plain paths: the .pth of an editable install there is not followed, so `worldmodel` is ours.
    (site / "borrowed.pth").write_text("\n".join(dict.fromkeys(borrowed)) + "\n")
    return folder / "bin" / "python"


def run(python: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [python, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_it_holds_what_is_used_and_nothing_else(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {
        "worldmodel", "envs", "policies", "configs",
    }  # fmt: skip
    for package in ("worldmodel", "envs", "policies", "configs"):
        here = {
            f.relative_to(ROOT).as_posix()
            for f in (ROOT / package).rglob("*")
            if f.is_file() and "__pycache__" not in f.parts
        }
        assert here <= set(names)
    assert "worldmodel/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    entry = next(name for name in names if name.endswith("entry_points.txt"))
    with zipfile.ZipFile(wheel) as file:
        assert b"worldmodel = worldmodel.cli:main" in file.read(entry)


def test_the_command_line_finds_its_configs(python: Path, tmp_path: Path):
    where = run(python, tmp_path, "-c", "import worldmodel; print(worldmodel.__file__)").stdout
    assert where.startswith(str(python.parent.parent)), where
    script = str(python.parent / "worldmodel")
    assert "worldmodel demo" in run(python, tmp_path, script, "--help").stdout
    told = run(python, tmp_path, script, "eval", "--print-config").stdout
    assert "id: worldmodel/PickCan-v0" in told


def test_envs_render_and_checkpoints_load(python: Path, tmp_path: Path):
    code = (
        "import gymnasium, envs, policies\n"
        "from worldmodel.checkpoint import load\n"
        "from worldmodel.shipped import shipped_checkpoints\n"
        "for name, folder in shipped_checkpoints().items():\n"
        "    env = gymnasium.make(load(folder).model.spec.env)\n"
        "    obs, info = env.reset(seed=0)\n"
        "    assert obs['front'].std() > 0\n"
        "    policy = policies.load(name, env)\n"
        "    policy.reset([0])\n"
        "    env.step(policy.act({k: v[None] for k, v in obs.items()})[0])\n"
        "print(*shipped_checkpoints())\n"
    )
    found = run(python, tmp_path, "-c", code).stdout.split()
    shipped = ROOT / "worldmodel" / "checkpoints"
    assert found == sorted(f.parent.name for f in shipped.glob("*/config.json"))
