"""The command that serves the page: its words are dataclasses by now (see worldmodel.jobs)."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import webbrowser
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldmodel.env_config import EnvConfig, make_env
from worldmodel.errors import RunError, UserError
from worldmodel.policy_config import PolicyConfig, make_policy
from worldmodel.shipped import find_checkpoint, find_probe

if TYPE_CHECKING:
    from worldmodel.play.bench import BenchPlayConfig
    from worldmodel.play.session import Session
    from worldmodel.rollout import RolloutConfig


@dataclass(frozen=True)
class PlayConfig:
    checkpoint: tuple[str, ...] = field(
        default=("pick_can_tiny",),
        metadata={"help": "models to play in, the first one first: folders, or shipped names"},
    )
    data: Path | None = field(
        default=None, metadata={"help": "dataset in whose episodes one may start, too"}
    )
    probe: str = field(
        default="pick_can_probe",
        metadata={"help": "state probe that reads where things are imagined ('': none)"},
    )
    seed: int = field(default=0, metadata={"help": "of the first start"})
    history: int = field(default=2000, metadata={"help": "steps kept for rewinding and saving"})
    host: str = field(
        default="127.0.0.1",
        metadata={"help": "address to listen on; 0.0.0.0 lets others in who have the token"},
    )
    port: int = field(default=8000, metadata={"help": "port to listen on; 0: any free one"})
    open: bool = field(default=True, metadata={"help": "open the page in the browser"})

    def __post_init__(self) -> None:
        if not self.checkpoint or not 0 <= self.port < 65536 or self.seed < 0 or self.history < 100:
            raise ValueError(
                "expected a checkpoint, port in 0 .. 65535, seed >= 0 and history >= 100; got "
                f"{list(self.checkpoint)}, {self.port}, {self.seed}, {self.history}"
            )


def run_play(folder: Path, config: PlayConfig, sampler: RolloutConfig, env: EnvConfig) -> None:
    _needs_extra()
    import uvicorn

    from worldmodel.play.server import MAX_MESSAGE, Server

    listening = _listen(config.host, config.port)
    server = Server(lambda: make_session(folder, config, sampler, env))
    address = f"http://{config.host}:{listening.getsockname()[1]}/?token={server.token}"
    print(f"play: {address}\nsaved films and episodes go to {folder}; Ctrl-C ends it", flush=True)
    if config.open:
        webbrowser.open(address)
    limits: dict[str, Any] = {"ws_max_size": 4 * MAX_MESSAGE, "ws_per_message_deflate": False}
    uvicorn_config = uvicorn.Config(server.app, log_level="warning", **limits)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(uvicorn_config).run(sockets=[listening])
    finally:
        server.close()


def run_bench_play(
    folder: Path, play: PlayConfig, config: BenchPlayConfig, sampler: RolloutConfig, env: EnvConfig
) -> None:
    _needs_extra()
    from worldmodel.jobs import write_table
    from worldmodel.log import progress
    from worldmodel.play.bench import bench_play
    from worldmodel.play.server import Server

    server = Server(lambda: make_session(folder, play, sampler, env))
    with progress("bench play", total=config.steps, unit="steps") as bar:
        result = bench_play(server, _listen("127.0.0.1", 0), config, bar.advance)
    write_table("Speed of play", {"checkpoint": play.checkpoint[0], **result}, folder)


def _needs_extra() -> None:
    """UserError where the extra [play] is not installed."""
    for module in ("starlette", "uvicorn", "websockets"):
        if importlib.util.find_spec(module) is None:
            raise UserError(
                f"worldmodel play needs {module}: python -m pip install 'worldmodel[play]'"
            )


def make_session(
    folder: Path, config: PlayConfig, sampler: RolloutConfig, env: EnvConfig
) -> Session:
    """The env, the models' places and what is beside them."""
    from worldmodel import checkpoint
    from worldmodel.play.game import Game
    from worldmodel.play.session import Session
    from worldmodel.probe import load_probe
    from worldmodel.rollout import placed
    from worldmodel.spec import attribute

    made = make_env(env)
    probe = load_probe(find_probe(config.probe))[0] if config.probe else None
    dataset = None
    if config.data is not None:
        from worldmodel.jobs import open_dataset

        dataset = open_dataset(config.data)

    def make_game(env: Any, name: str) -> Game:
        place = find_checkpoint(name)
        model = placed(checkpoint.load(place).model, sampler)
        own = make_policy(PolicyConfig(name="checkpoint", path=str(place)), env)
        drivers = {"policy": (own, True)}
        if attribute(made, "expert"):
            drivers["expert"] = (make_policy(PolicyConfig(), env), False)
        return Game(env, model, drivers, probe, sampler, config.history)

    session = Session(made, make_game, config.checkpoint, folder, dataset)
    session.start(config.seed)
    return session


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens there: who comes early waits. RunError where it can't be had."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise RunError(
            f"cannot listen on {host}, port {port}: {error.strerror}; "
            "give another port=…, or port=0 for any that is free"
        ) from error
    return listening
