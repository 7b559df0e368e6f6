"""Driving inside the model: the game, and the server around it under good and bad messages."""

from __future__ import annotations

import dataclasses
import json
import random
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest
from conftest import ToyEnv, ToyPolicy
from tiny import stats
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from worldmodel.dataset import Dataset
from worldmodel.errors import RunError, UserError
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.play.bench import BenchPlayConfig, bench_play, serving
from worldmodel.play.game import Game
from worldmodel.play.job import PlayConfig, _listen
from worldmodel.play.server import MAX_MESSAGE, Server
from worldmodel.play.session import Session
from worldmodel.spec import spec_of_env
from worldmodel.transformer import TransformerConfig

SIZE, A = (16, 16), 3


class OtherPolicy(ToyPolicy):
    """Sees what is imagined; goes to the right."""

    def act(self, obs):
        return np.array([[0.5, 0.0, 0.0]], np.float32)


def toy_model() -> WorldModel:
    env = ToyEnv(size=SIZE)
    same = {name: stats(3) for name in ("proprio_stats", "change_stats", "action_stats")}
    spec = dataclasses.replace(spec_of_env(env), **same)
    config = ModelConfig("test", TransformerConfig(32, 2, 2, 2), patch=8, window=3, chunk=4)
    return WorldModel(spec, config).eval()


MODEL = toy_model()


def game(history: int = 50) -> Game:
    env = ToyEnv(size=SIZE)
    drivers = {"policy": (OtherPolicy(env), True), "expert": (ToyPolicy(env), False)}
    return Game(env, MODEL, drivers, history=history)


def right(g: Game, steps: int = 1) -> None:
    for _ in range(steps):
        g.step("you", np.array([0.0, 0.3, -1.0], np.float32))


# -- the game -------------------------------------------------------------------------------------


def test_both_worlds_begin_alike_and_take_the_same_actions() -> None:
    g = game()
    moment = g.start(3)
    assert np.array_equal(moment.imagined.images, moment.real.images)
    env, played = ToyEnv(size=SIZE), []
    env.reset(seed=3)
    for driver in ("you", "policy", "you", "policy"):
        moment = g.step(driver, np.array([0.1, -0.2, 1.0]) if driver == "you" else None)
        obs, *_ = env.step(moment.action)
        played.append(moment.driver)
        assert np.array_equal(moment.real.images, np.stack([obs["front"], obs["wrist"]]))
        assert not np.array_equal(moment.imagined.images, moment.real.images)
    assert played == ["you", "policy", "you", "policy"]
    assert moment.step == 4


def test_the_policy_sees_what_is_imagined_and_the_expert_the_simulator() -> None:
    g, seen = game(), {}
    for name, (actor, _) in g.drivers.items():
        act = actor.act
        actor.act = lambda obs, name=name, act=act: seen.update({name: obs}) or act(obs)
    right(g, 2)
    before = g.now
    g.step("policy")
    assert np.array_equal(seen["policy"]["front"][0], before.imagined.images[0])
    before = g.now
    g.step("expert")
    assert np.array_equal(seen["expert"]["front"][0], before.real.images[0])


def test_the_simulator_stands_still_after_its_end_and_the_model_goes_on() -> None:
    g = game()
    while not g.now.over:
        g.step("expert")
    assert g.now.outcome == "success"
    at_end = g.now.real.images
    right(g, 3)
    assert np.array_equal(g.now.real.images, at_end)
    assert g.now.over


def test_rewinding_comes_back_to_the_same_place_and_branches() -> None:
    g = game()
    g.start(5)
    right(g, 8)
    past = {m.step: m for m in g.history}
    kept = g.rewind(4)
    assert kept is past[4]
    assert [m.step for m in g.history] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(g.env.place, past[4].real.proprio[:2], atol=1e-6)
    assert np.array_equal(g.world.show()[0].numpy(), past[4].imagined.images)
    right(g)
    assert np.array_equal(g.now.real.images, past[5].real.images)  # the simulator is exact
    g.rewind(0)
    right(g, 2)
    with pytest.raises(UserError, match="step: got 3, expected 0 to 2"):
        g.rewind(3)


def test_only_so_much_is_kept() -> None:
    g = game(history=6)
    right(g, 20)
    assert [m.step for m in g.history] == list(range(15, 21))
    with pytest.raises(UserError, match="expected 15 to 20"):
        g.rewind(3)
    g.rewind(16)
    assert g.now.step == 16


@pytest.mark.parametrize("action", [[2, 0, 0], [0, 0], [float("nan"), 0, 0], [[0, 0, 0]]])
def test_an_action_that_is_none_changes_nothing(action: list) -> None:
    g = game()
    with pytest.raises(UserError, match="action: got"):
        g.step("you", np.array(action))
    with pytest.raises(
        UserError, match="driver: got 'nobody', expected one of you, policy, expert"
    ):
        g.step("nobody")
    assert g.now.step == 0


def test_what_was_played_becomes_films_and_a_dataset(tmp_path: Path) -> None:
    g = game()
    with pytest.raises(UserError, match="nothing has been played"):
        g.save(tmp_path)
    while not g.now.over:
        g.step("expert")
    right(g, 4)
    steps = next(m.step for m in g.history if m.over)
    assert g.save(tmp_path).name == "play-000.mp4"
    g.start(9)
    right(g, 5)
    assert g.save(tmp_path).name == "play-001.mp4"
    dataset = Dataset(tmp_path / "episodes")
    assert [(e.length, e.success, e.seed) for e in dataset.episodes] == [
        (steps, True, 0), (5, False, 9),
    ]  # fmt: skip
    assert [e.demonstration for e in dataset.episodes] == [True, False]
    last = dataset.episodes[1]
    recorded = dataset.stream("action")[last.start : last.start + last.length]
    np.testing.assert_allclose(recorded, np.stack([m.action for m in list(g.history)[1:]]))


class TwoTasks(ToyEnv):
    """Toys that start on the left or on the right, as they are asked."""

    task_names = ("left", "right")
    task_name = "left"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.task_name = (options or {}).get("task", self.task_names[(seed or 0) % 2])
        self.place[1] = abs(self.place[1]) * (1 if self.task_name == "right" else -1)
        return self._obs(), self._info()


def test_a_task_may_be_chosen_and_stays_when_rewinding(tmp_path: Path) -> None:
    model = toy_model()
    model.spec = dataclasses.replace(model.spec, tasks=TwoTasks.task_names)
    session = Session(
        TwoTasks(size=SIZE), lambda env, name: Game(env, model, {}, history=50), ["one"], tmp_path
    )
    assert session.about()["tasks"] == ["left", "right"]
    assert session.start(4).real.proprio[1] < 0  # the seed's own
    first = session.start(4, "right").real.proprio
    assert first[1] > 0
    assert session.about()["task"] == "right"
    right(session.game, 3)
    after = [m.real.proprio for m in session.game.history]
    session.game.rewind(1)
    right(session.game, 2)
    np.testing.assert_allclose(session.game.now.real.proprio, after[3])
    with pytest.raises(UserError, match="expected one of left, right"):
        session.start(4, "middle")
    session.save()
    assert Dataset(tmp_path / "episodes").episodes[0].seed == 4


# -- the server -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[str, str, Server]]:
    out = tmp_path_factory.mktemp("play")
    server = Server(
        lambda: Session(ToyEnv(size=SIZE), lambda env, name: game(), ["one", "two"], out)
    )
    with serving(server, _listen("127.0.0.1", 0)) as address:
        yield address, server.token, server


def join(served, token: str | None = None) -> ClientConnection:
    address, right_token, _ = served
    return connect(f"ws://{address}/ws?token={token or right_token}")


def ask(socket: ClientConnection, message: object) -> dict:
    socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
    answer = socket.recv(timeout=20)
    if isinstance(answer, str):
        return json.loads(answer)
    size = int.from_bytes(answer[:4], "little")
    pixels = np.frombuffer(answer[4 + size :], np.uint8).reshape(2, 2, *SIZE, 3)
    return json.loads(answer[4 : 4 + size]) | {"pixels": pixels}


def test_the_page_needs_the_token_and_nothing_else_is_served(served) -> None:
    address, token, _ = served
    with urllib.request.urlopen(f"http://{address}/?token={token}") as page:
        text = page.read().decode()
    assert "worldmodel play" in text
    assert "/* STYLE */" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")  # nothing is fetched
    for path in ("/", "/?token=wrong", f"/../pyproject.toml?token={token}", f"/runs?token={token}"):
        with pytest.raises(HTTPError) as refused:
            urllib.request.urlopen(f"http://{address}{path}")
        assert refused.value.code in (403, 404)
    with join(served, "wrong") as tab, pytest.raises(ConnectionClosed, match="4403"):
        tab.recv(timeout=5)


def test_a_tab_drives_saves_rewinds_and_chooses(served) -> None:
    with join(served) as tab:
        about = ask(tab, {"do": "hello"})
        assert about["cameras"] == ["front", "wrist"]
        assert about["drivers"] == ["you", "policy", "expert"]
        begun = ask(tab, {"do": "start", "seed": 4})
        assert np.array_equal(begun["pixels"][0], begun["pixels"][1])
        for n in range(3):
            moment = ask(tab, {"do": "step", "driver": "you", "action": [0.2, 0, 1]})
            assert moment["step"] == n + 1
        assert moment["action"] == [0.2, 0, 1]
        assert ask(tab, {"do": "step", "driver": "policy"})["driver"] == "policy"
        assert ask(tab, {"do": "rewind", "step": 2})["step"] == 2
        saved = ask(tab, {"do": "save"})
        assert Path(saved["saved"]).exists()
        assert ask(tab, {"do": "checkpoint", "name": "two"})["step"] == 0
        assert ask(tab, {"do": "hello"})["checkpoint"] == "two"
        assert "no dataset" in ask(tab, {"do": "episode", "index": 0})["error"]


def test_one_tab_drives_and_another_watches_until_it_takes_the_wheel(served) -> None:
    with join(served) as driver, join(served) as other:
        ask(driver, {"do": "start", "seed": 1})
        number = ask(driver, {"do": "step"})["number"]
        refused = ask(other, {"do": "step"})
        assert refused["wheel"] is False
        assert "take the wheel" in refused["error"]
        seen = ask(other, {"do": "watch", "after": -1 + number})
        assert (seen["step"], seen["wheel"]) == (1, False)
        assert ask(other, {"do": "watch", "after": number})["same"]
        assert ask(other, {"do": "take"})["wheel"]
        assert ask(other, {"do": "step"})["step"] == 2
        assert "error" in ask(driver, {"do": "step"})


def test_a_dropped_connection_finds_its_game_again(served) -> None:
    with join(served) as tab:
        ask(tab, {"do": "start", "seed": 2})
        for _ in range(4):
            ask(tab, {"do": "step"})
    with join(served) as tab:
        about = ask(tab, {"do": "hello"})
        assert [row[0] for row in about["past"]] == [0, 1, 2, 3, 4]
        assert ask(tab, {"do": "step"})["step"] == 5


def test_hundreds_of_broken_messages_leave_the_game_as_it_was(served) -> None:
    rng = random.Random(0)
    good = [
        {"do": "step", "driver": "you", "action": [0.1, 0, 1]}, {"do": "rewind", "step": 1},
        {"do": "start", "seed": 3}, {"do": "watch", "after": 0}, {"do": "episode", "index": 0},
        {"do": "checkpoint", "name": "one"},
    ]  # fmt: skip
    junk = [None, True, -1, 2**70, 1e308, "x" * 300, [], {}, [9, 9, 9], [None] * 3, "../../etc"]
    with join(served) as tab:
        ask(tab, {"do": "start", "seed": 0})
        for k in range(400):
            message = dict(rng.choice(good))
            key = rng.choice(list(message))
            message[key] = rng.choice(junk)
            text: str | bytes = json.dumps(message)
            if k % 3 == 0:  # bytes are turned, or lost
                broken = bytearray(text.encode())
                for _ in range(4):
                    broken[rng.randrange(len(broken))] = rng.randrange(32, 127)
                text = broken.decode()[: rng.randrange(1, len(broken))]
            elif k % 7 == 0:
                text = bytes(rng.randrange(256) for _ in range(40))
            answer = ask(tab, text)
            assert "error" in answer or "step" in answer or "same" in answer
        assert "expected at most" in ask(tab, json.dumps({"do": "x" * (MAX_MESSAGE + 10)}))["error"]
        assert ask(tab, {"do": "start", "seed": 8})["step"] == 0
        assert ask(tab, {"do": "step"})["step"] == 1
    with join(served) as tab, pytest.raises(ConnectionClosed):
        ask(tab, "x" * (5 * MAX_MESSAGE))  # too long to be read at all
    with join(served) as tab:
        assert ask(tab, {"do": "step"})["step"] == 2


def test_the_bench_asks_as_a_page_does(tmp_path: Path) -> None:
    env = ToyEnv(size=SIZE)
    server = Server(lambda: Session(env, lambda env, name: game(), ["one"], tmp_path))
    told: list[str] = []
    figures = bench_play(
        server, _listen("127.0.0.1", 0), BenchPlayConfig(steps=40, restart=15),
        lambda n, text: told.append(text),
    )  # fmt: skip
    assert len(told) == 40
    assert 0 < figures["ms_median"] <= figures["ms_p95"]
    assert figures["memory ratio"] < 1.2


def test_what_cannot_be_listened_on_is_said(tmp_path: Path) -> None:
    taken = _listen("127.0.0.1", 0)
    taken.listen()
    with pytest.raises(RunError, match="port=0 for any"):
        _listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ValueError, match="expected a checkpoint, port"):
        PlayConfig(port=-1)
    taken.close()
