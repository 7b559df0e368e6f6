"""The Hugging Face Hub: there and back, what is uploaded, and what is said when it fails."""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from pathlib import Path

import gymnasium
import pytest
import torch
from fake_hub import FakeHub
from test_flow_policy import observations
from tiny import tiny_model

import policies
from worldmodel import card, checkpoint, cli, hub
from worldmodel.adapt import AdaptConfig, adapt
from worldmodel.env_config import EnvConfig, make_env
from worldmodel.errors import RunError, UserError
from worldmodel.pretrained import PushConfig, card_of, from_pretrained, push_to_hub
from worldmodel.shipped import find_checkpoint, shipped_checkpoints, weights_sha256
from worldmodel.spec import spec_of_env


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An empty working folder, a cache of its own, and a function that says where the Hub is."""
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def at(url: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return at


@pytest.fixture
def server(place):
    with FakeHub() as found:
        place(found.url)
        yield found
        found.shutdown()


def save(folder: Path, seed: int = 0, about: dict | None = None) -> Path:
    checkpoint.save(folder, tiny_model(seed), about or {"data": "data/mine"})
    (folder / "state.safetensors").write_bytes(b"secret")
    (folder / "notes.txt").write_text("secret")
    return folder


def test_there_and_back_and_nothing_else_is_uploaded(server: FakeHub, tmp_path: Path) -> None:
    folder = save(tmp_path / "mine")
    address = push_to_hub(folder, PushConfig("me/can", private=True))
    sha = server.branches["me/can"]["main"]
    assert address == f"{server.url}/me/can/commit/{sha}"
    assert server.private == {"me/can": True}
    assert set(server.commits[sha]) == {"config.json", "model.safetensors", "README.md"}
    back = from_pretrained("me/can")
    assert back.about == {"data": "data/mine"}
    for name, value in tiny_model(0).state_dict().items():
        assert torch.equal(value, back.model.state_dict()[name]), name
    policy, local = policies.load("me/can"), policies.load(folder)
    for one in (policy, local):
        one.reset([3])
    assert (policy.act(observations(1)) == local.act(observations(1))).all()
    assert not [line for line in server.asked if line.endswith("README.md")]


def test_revisions(server: FakeHub, tmp_path: Path) -> None:
    push_to_hub(save(tmp_path / "a", 1), PushConfig("me/can"))
    first = server.branches["me/can"]["main"]
    push_to_hub(save(tmp_path / "b", 2), PushConfig("me/can"))
    push_to_hub(save(tmp_path / "c", 3), PushConfig("me/can", revision="wide/v2"))
    for name, seed in (("me/can", 2), (f"me/can@{first}", 1), ("me/can@wide/v2", 3)):
        found = from_pretrained(name).model.embed_action[0].weight
        assert torch.equal(found, tiny_model(seed).embed_action[0].weight), name
    with pytest.raises(UserError, match="no revision 'v9'; expected a branch, a tag"):
        find_checkpoint("me/can@v9")


def test_a_folder_hides_a_repository_but_not_its_revision(server: FakeHub, tmp_path: Path) -> None:
    push_to_hub(save(tmp_path / "a", 1), PushConfig("me/can"))
    save(tmp_path / "me" / "can", 2)
    assert find_checkpoint("me/can") == Path("me/can")
    found = from_pretrained("me/can@main").model.embed_action[0].weight
    assert torch.equal(found, tiny_model(1).embed_action[0].weight)
    server.asked.clear()
    for name in ("a/b/c", "./me/none", "/me/none", "~/none", "none", "you/", "me/can@"):
        with pytest.raises(UserError, match="neither an existing path nor one of"):
            find_checkpoint(name)
    assert not server.asked


def test_repositories_that_are_none_of_ours_are_named(server: FakeHub) -> None:
    with pytest.raises(UserError, match=r"'me/none' is neither an existing path.*no model me/none"):
        find_checkpoint("me/none")
    server.branches["me/other"] = {}
    server.commit("me/other", "main", {"weights.bin": b"1"})
    with pytest.raises(UserError, match=r"me/other .* has no model\.safetensors"):
        find_checkpoint("me/other")


def test_offline_is_told_at_once_and_an_earlier_download_is_used(
    server: FakeHub, place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_to_hub(save(tmp_path / "mine"), PushConfig("me/can"))
    online = find_checkpoint("me/can")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        monkeypatch.setattr(hub, "TIMEOUT", 0.5)
        for url in (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{silent.getsockname()[1]}"):
            place(url)
            start = time.monotonic()
            with pytest.warns(UserWarning, match="out of reach"):
                assert find_checkpoint("me/can") == online
            with pytest.raises(RunError, match=r"'me/new' is neither .* out of reach .*go online"):
                find_checkpoint("me/new")
            with pytest.raises(RunError, match="out of reach"):
                push_to_hub(tmp_path / "mine", PushConfig("me/can"))
            assert time.monotonic() - start < 20


def test_offline_mode_asks_nobody(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    with pytest.raises(RunError, match=r"OfflineMode.*unset HF_HUB_OFFLINE"):
        find_checkpoint("me/can")
    assert not server.asked
    close_session()


def test_uploads_that_are_not_allowed(server: FakeHub, tmp_path: Path, monkeypatch) -> None:
    folder = save(tmp_path / "mine")
    for repo in ("can", "me/can@v2", "a/b/c"):
        with pytest.raises(UserError, match=f"repo: got '{repo}', expected user/name"):
            push_to_hub(folder, PushConfig(repo))
    server.forbidden = True
    with pytest.raises(UserError, match="does not let you write to me/can"):
        push_to_hub(folder, PushConfig("me/can"))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match=r"not logged in.*hf auth login"):
        push_to_hub(folder, PushConfig("me/can"))
    header = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**header, "about": {"success": 1}}))
    with pytest.raises(UserError, match=r"config\.json differs from what model\.safetensors says"):
        push_to_hub(folder, PushConfig("me/can"))
    assert not server.commits


def result_of(folder: Path, out: Path, **changes: object) -> Path:
    """What `worldmodel eval` leaves, as far as the card reads it."""
    result = {"env": "worldmodel/PickCan-v0", "env_options": {"pose": "lying"}, "episodes": 40,
              "success_rate": 0.9, "wilson95": [0.7695, 0.9604], "seed": 7, "policy": str(folder),
              "weights_sha256": weights_sha256(folder)}  # fmt: skip
    out.mkdir()
    (out / "result.json").write_text(json.dumps(result | changes))
    return out


def test_the_card_says_what_is_known_and_no_more(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    about = {"episodes": 12, "training": {"step": 300, "hours": 0.5, "train": {"batch": 16}}}
    folder = save(tmp_path / "mine", about=about)
    plain = card_of(folder, PushConfig("me/can", license="mit"))
    assert "No evaluation was uploaded" in plain
    assert 'policies.load("me/can", env=env)' in plain
    assert "| updates | 300 of batch 16 |" in plain
    assert "| episodes | 12 |" in plain
    assert "hardware" not in plain
    config = PushConfig(
        "me/can", datasets=("me/cans",), results=(result_of(folder, tmp_path / "eval"),)
    )
    text = card_of(folder, config)
    assert "40, from seed 7 | 0.900 | [0.769, 0.960]" in text.replace("0.770", "0.769")
    data = ModelCard(text).data
    assert (data.license, data.library_name, data.pipeline_tag, data.datasets) == (
        "apache-2.0", "worldmodel", "robotics", ["me/cans"],
    )  # fmt: skip
    assert {"robotics", "world-model", "reach"} <= set(data.tags or [])
    (figure,) = data.eval_results or []
    assert (figure.metric_type, figure.metric_value) == ("success_rate", 0.9)
    assert figure.dataset_name == "worldmodel/PickCan-v0 (pose=lying)"
    other = result_of(folder, tmp_path / "other", weights_sha256="0")
    with pytest.raises(UserError, match="is of other weights"):
        card_of(folder, PushConfig("me/can", results=(other,)))
    with pytest.raises(UserError, match="can't be read"):
        card_of(folder, PushConfig("me/can", results=(tmp_path / "none",)))


def test_a_readme_beside_the_weights_is_kept(tmp_path: Path) -> None:
    folder = save(tmp_path / "mine")
    (folder / "README.md").write_text("# mine\n\nIt drops cans.\n\n## Why\n\nNobody knows.\n")
    text = card_of(folder, PushConfig("me/can"))
    assert text.startswith("---\nlibrary_name: worldmodel\n")
    assert text.endswith("It drops cans.\n\n### Why\n\nNobody knows.\n")
    (folder / "README.md").write_text("---\nlicense: mit\n---\nAll mine.\n")
    assert card_of(folder, PushConfig("me/can")) == "---\nlicense: mit\n---\nAll mine.\n"


def test_the_python_on_the_card_acts() -> None:
    folder = shipped_checkpoints()["pick_can_tiny"]
    text = card_of(folder, PushConfig("me/can"))
    assert (folder / "README.md").read_text().splitlines()[-1] in text
    code = text.partition("```python\n")[2].partition("```")[0]
    assert 'gym.make("worldmodel/PickCan-v0", pose=' in code
    found: dict = {}
    exec(code.replace('"me/can"', '"pick_can_tiny"'), found)
    assert found["over"]
    assert found["info"]["outcome"]


def test_the_python_on_the_card_adapts_an_env_as_it_was(tmp_path: Path) -> None:
    """Of a model that learned Gymnasium's pendulum from what it renders."""
    config = EnvConfig(id="Pendulum-v1", adapt=AdaptConfig(pixels=True, control_frequency=20.0))
    pytest.importorskip("pygame")
    env = make_env(config)
    spec = dataclasses.replace(spec_of_env(env), action_stats=None)
    env.close()
    line = card.env_words(spec)
    made = eval(line, {"gym": gymnasium, "adapt": adapt, "AdaptConfig": AdaptConfig})
    assert spec_of_env(made) == spec_of_env(env)
    made.close()


def test_the_commands(server: FakeHub, tmp_path: Path, capsys) -> None:
    folder = save(tmp_path / "mine")
    words = ["push", f"checkpoint={folder}", "repo=me/can"]
    assert cli.main([*words, "upload=false", "out=card"]) == 0
    assert not server.commits
    assert (tmp_path / "card" / "README.md").read_text().startswith("---\n")
    assert cli.main([*words, "revision=v1", "out=pushed"]) == 0
    sha = server.branches["me/can"]["v1"]
    result = json.loads((tmp_path / "pushed" / "result.json").read_text())
    assert result["commit"].endswith(sha)
    assert (tmp_path / "pushed" / "README.md").read_bytes() == server.commits[sha]["README.md"]
    assert (tmp_path / "pushed" / "report.html").exists()
    assert "policy=… is me/can@v1" in capsys.readouterr().out
    assert cli.main(["eval", "policy=me/can@v1", "--print-config"]) == 0
    told = capsys.readouterr().out
    assert "name: checkpoint" in told
    assert f"snapshots/{sha}" in told
    assert cli.main(["eval", "policy=me/nothing"]) == 2
    assert "the Hugging Face Hub has no model me/nothing" in capsys.readouterr().err
