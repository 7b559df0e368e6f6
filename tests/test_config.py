"""Values become dataclasses, or a message that says which word is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gymnasium
import pytest

from worldmodel import config
from worldmodel.build import build, build_parts, describe, plain, type_name
from worldmodel.commands import COMMANDS
from worldmodel.env_config import EnvConfig, make_env
from worldmodel.errors import UserError
from worldmodel.policy_config import PolicyConfig, identity, make_policy
from worldmodel.shipped import find_checkpoint


@dataclass(frozen=True)
class Inner:
    width: int = 4
    rate: float = 0.5

    def __post_init__(self) -> None:
        if self.width < 0:
            raise ValueError(f"width must not be negative, got {self.width}")


@dataclass(frozen=True)
class Outer:
    data: Path
    kind: Literal["flow", "self_flow"] = "flow"
    inner: Inner = field(default_factory=Inner, metadata={"help": "nested"})
    size: tuple[int, int] = (64, 64)
    names: tuple[str, ...] = ()
    limit: int | None = None
    on: bool = False


@dataclass(frozen=True)
class Open:
    id: str = ""
    options: dict[str, Any] = field(default_factory=dict, metadata={"rest": True})


def test_values_become_what_the_annotations_say():
    values = {
        "data": "d", "kind": "self_flow", "inner": {"width": 1e4, "rate": 1}, "size": [32, 48],
        "names": "one", "limit": 7, "on": True,
    }  # fmt: skip
    built = build(Outer, values)
    inner = Inner(10_000, 1.0)
    assert built == Outer(Path("d"), "self_flow", inner, (32, 48), ("one",), 7, True)
    assert isinstance(built.inner.width, int)
    assert isinstance(built.inner.rate, float)
    assert build(Outer, plain(built)) == built


def test_a_path_starts_at_home():
    assert build(Outer, {"data": "~/d"}).data == Path.home() / "d"


def test_rest_collects_what_is_not_named():
    assert build(Open, {"id": "a", "pose": "up", "options": {"size": 3}}) == Open(
        "a", {"size": 3, "pose": "up"}
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": "d", "limt": 3}, r"unknown key 'limt'; did you mean 'limit'\?"),
        ({"data": "d", "inner": {"widht": 3}}, r"unknown key 'inner.widht'; did you mean 'width'"),
        ({"data": "d", "inner": {"width": "x"}}, r"inner.width: expected int, got 'x' \(str\)"),
        ({"data": "d", "inner": {"width": 1.5}}, r"inner.width: expected int, got 1.5"),
        ({"data": "d", "inner": {"width": True}}, r"inner.width: expected int, got True"),
        ({"data": "d", "inner": 3}, r"inner: expected keys of Inner"),
        ({"data": "d", "inner": {"width": -1}}, r"inner: width must not be negative, got -1"),
        ({"data": "d", "kind": "selfflow"}, r"kind: expected flow\|self_flow.*mean 'self_flow'"),
        ({"data": "d", "size": [1, 2, 3]}, r"size: expected \[int, int\], got \[1, 2, 3\]"),
        ({"data": "d", "size": [1, "b"]}, r"size\[1\]: expected int, got 'b'"),
        ({"data": "d", "limit": "many"}, r"limit: expected int or none, got 'many'"),
        ({"data": "d", "on": 1}, r"on: expected bool, got 1"),
        ({}, r"'data' is needed: add data="),
    ],
)
def test_errors_name_the_key_what_came_and_what_was_expected(values: dict, message: str):
    with pytest.raises(UserError, match=message):
        build(Outer, values)


def test_parts_share_the_root():
    parts = {"": Inner, " ": Open, "outer": Outer}
    with pytest.raises(UserError, match=r"unknown key 'widht'; did you mean 'width'"):
        build_parts({"": Inner, "outer": Outer}, {"widht": 3, "outer": {"data": "d"}})
    built = build_parts(parts, {"width": 3, "id": "a", "outer": {"data": "d"}})
    assert list(built.values()) == [Inner(3), Open("a"), Outer(Path("d"))]


def test_descriptions_hold_every_key():
    rows = {key: (kind, default) for key, kind, default, _ in describe(Outer)}
    assert rows["data"] == ("path", "needed")
    assert rows["kind"] == ("flow|self_flow", "flow")
    assert rows["inner.width"] == ("int", "4")
    assert rows["size"] == ("[int, int]", "[64, 64]")
    assert rows["limit"] == ("int or none", "none")
    assert type_name(tuple[str, ...]) == "list of str"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_its_yaml(name: str):
    assert "out" not in config.compose(name.replace(" ", "_"), [])


def test_overrides_choose_pieces_and_values():
    values = config.compose("eval", ["policy=random", "episodes=3", "+env.pose=lying", "~env.id"])
    env = {"pose": "lying", "reward": "dense"}
    assert values == {"env": env, "policy": {"name": "random"}, "episodes": 3}


def test_a_policy_may_be_a_path(tmp_path: Path):
    folder = tmp_path / "it's a = strange, name"
    folder.mkdir()
    values = config.compose("eval", [f"policy={folder}"])
    assert values["policy"] == {"name": "checkpoint", "path": str(folder)}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("episodes", "expected key=value"),
        ("=3", "expected key=value"),
        ("policy=scriptd", r"neither an existing path nor one of .*did you mean 'scripted'"),
        ("env=pick_cn", r"env: unknown choice 'pick_cn'; did you mean 'pick_can'"),
        ("seed=1,2", "names several values"),
        ("seed=(1", "needs quotes"),
    ],
)
def test_overrides_that_cannot_be_read(override: str, message: str):
    with pytest.raises(UserError, match=message):
        config.compose("eval", [override])


def test_env_options_are_checked_against_the_constructor():
    gym_id = "worldmodel/PickCan-v0"
    make_env(EnvConfig(gym_id, options={"can_mass": 0.3, "cameras": []})).close()
    with pytest.raises(UserError, match=r"'env.can_mas'; did you mean 'can_mass'"):
        make_env(EnvConfig(gym_id, options={"can_mas": 0.3}))
    with pytest.raises(UserError, match="there is no env 'CartPol-v1'"):
        make_env(EnvConfig("CartPol-v1"))


def test_a_checkpoint_policy_needs_a_path():
    with pytest.raises(ValueError, match="policy=<path>"):
        PolicyConfig("checkpoint")


def test_a_shipped_policy_is_known_by_its_name_wherever_it_is_installed():
    folder = str(find_checkpoint("pick_can_tiny"))
    env = EnvConfig(id="worldmodel/PickCan-v0")
    assert identity(env, PolicyConfig("checkpoint", folder))["policy"] == "pick_can_tiny"
    assert identity(env, PolicyConfig("random"))["policy"] == "random"


def test_a_policy_that_does_not_fit_is_the_user_s_error():
    env = gymnasium.make("CartPole-v1")
    with pytest.raises(UserError, match="policy 'random': a random policy needs a bounded Box"):
        make_policy(PolicyConfig("random"), env)
    env.close()
