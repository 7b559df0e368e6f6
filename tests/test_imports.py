"""Who may import whom, and what nobody writes (CONTRIBUTING.md, "Imports")."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("worldmodel", "envs", "policies", "configs")
FILES = {
    ".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f
    for package in OURS
    for f in (ROOT / package).rglob("*.py")
}
TREES = {name: ast.parse(f.read_text(encoding="utf-8")) for name, f in FILES.items()}
COMPOSE = {
    "worldmodel.env_config", "worldmodel.policy_config", "worldmodel.cli", "worldmodel.__main__",
}  # fmt: skip
PURE = {"worldmodel.flow", "worldmodel.masks", "worldmodel.layers", "worldmodel.metrics"}


def imports(tree: ast.AST) -> set[str]:
    """Every module that is imported anywhere in a file, other than for type checkers only."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import: {ast.unparse(node)}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        found |= imports(node)
    return found


IMPORTS = {name: imports(tree) for name, tree in TREES.items()}


def importers(package: str) -> set[str]:
    """Our modules that import ``package`` or anything in it."""
    return {
        name
        for name, found in IMPORTS.items()
        if any(module == package or module.startswith(f"{package}.") for module in found)
    }


def within(package: str) -> set[str]:
    return {name for name in FILES if name.split(".")[0] == package}


def test_envs_import_neither_torch_nor_the_rest_of_us():
    for package in ("torch", "worldmodel", "policies"):
        assert not importers(package) & within("envs"), package


def test_worldmodel_receives_envs_and_policies_as_objects():
    assert not (importers("envs") | importers("policies")) & within("worldmodel") - COMPOSE


def test_policies_never_import_envs():
    assert not importers("envs") & within("policies")


def test_pure_mathematics_imports_nothing_of_ours():
    for name in PURE & set(FILES):
        assert not {m for m in IMPORTS[name] if m.split(".")[0] in OURS}, name


def test_hydra_lives_in_config_and_cli():
    assert (importers("hydra") | importers("omegaconf")) <= {"worldmodel.config", "worldmodel.cli"}


def test_imports_run_one_way():
    def module_of(name: str) -> str:
        return name if name in FILES else name.rpartition(".")[0]

    graph = {n: {module_of(m) for m in found} & set(FILES) - {n} for n, found in IMPORTS.items()}
    TopologicalSorter(graph).prepare()  # CycleError names the cycle


def test_no_utils():
    assert not [name for name in FILES if "util" in name or "helper" in name]


@pytest.mark.parametrize("name", sorted(TREES))
def test_no_keyword_catch_alls_and_no_second_level_of_inheritance(name: str):
    classes = {
        node.name: [ast.unparse(base) for base in node.bases]
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.FunctionDef):
            assert node.args.kwarg is None, f"{name}.{node.name} takes **{node.args.kwarg.arg}"
        elif isinstance(node, ast.ClassDef):
            for base in classes[node.name]:
                grandparents = [b for b in classes.get(base, []) if b in classes]
                assert not grandparents, f"{name}.{node.name} < {base} < {grandparents}"
