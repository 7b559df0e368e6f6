"""How fast the page's server answers, from a step that is asked for to its pictures."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from socket import socket as Socket
from typing import Any

import numpy as np
import uvicorn
from websockets.sync.client import connect

from worldmodel.bench import memory_mib
from worldmodel.play.server import MAX_MESSAGE, Server


@dataclass(frozen=True)
class BenchPlayConfig:
    steps: int = field(default=500, metadata={"help": "steps asked for, one after another"})
    restart: int = field(default=100, metadata={"help": "steps after which a new start is taken"})

    def __post_init__(self) -> None:
        if self.steps < 20 or self.restart < 1:
            raise ValueError(
                f"expected steps >= 20 and restart >= 1, got {self.steps} and {self.restart}"
            )


@contextlib.contextmanager
def serving(server: Server, listening: Socket) -> Iterator[str]:
    """``server`` in a thread of this process; its address, as host:port."""
    options: dict[str, Any] = {"ws_max_size": 4 * MAX_MESSAGE, "ws_per_message_deflate": False}
    running = uvicorn.Server(uvicorn.Config(server.app, log_level="error", **options))
    thread = threading.Thread(
        target=lambda: asyncio.run(running.serve(sockets=[listening])), daemon=True
    )
    thread.start()
    while not running.started:
        time.sleep(0.01)
    try:
        yield "{}:{}".format(*listening.getsockname()[:2])
    finally:
        running.should_exit = True
        thread.join(10)
        server.close()


def bench_play(
    server: Server, listening: Socket, config: BenchPlayConfig,
    on_progress: Callable[[int, str], None],
) -> dict[str, Any]:  # fmt: skip
    """One tab that drives by random actions and asks for the next step once it has the last."""
    rng, took, memory = np.random.default_rng(0), [], []
    with serving(server, listening) as address:
        place = f"ws://{address}/ws?token={server.token}"
        with connect(place, max_size=None) as tab:

            def ask(message: dict[str, Any]) -> bytes | str:
                tab.send(json.dumps(message))
                return tab.recv()

            about = json.loads(ask({"do": "hello"}))
            for n in range(config.steps):
                if n % config.restart == 0:
                    ask({"do": "start", "seed": n})
                action = rng.uniform(-1, 1, len(about["actions"])).round(3).tolist()
                mark = time.perf_counter()
                answer = ask({"do": "step", "driver": "you", "action": action})
                took.append(1000 * (time.perf_counter() - mark))
                if isinstance(answer, str):
                    raise RuntimeError(answer)
                memory.append(memory_mib())
                on_progress(1, f"{took[-1]:.1f} ms")
    settled = max(10, len(took) // 10)  # caches fill in the first steps
    return {
        "steps": config.steps, "flow_steps": about["flow_steps"],
        "frames_per_s": 1000 / statistics.mean(took[settled:]),
        "ms_median": statistics.median(took[settled:]),
        "ms_p95": float(np.quantile(took[settled:], 0.95)),
        "MiB after a tenth": memory[settled], "MiB at the end": memory[-1],
        "memory ratio": memory[-1] / memory[settled],
    }  # fmt: skip
