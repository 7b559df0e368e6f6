"""The page and its WebSocket: one game, driven by one tab and watched by any other.

A client asks and gets one answer, so that a slow model never builds a queue. It sends JSON:

    {"do": "hello"}                                   the present moment, and what has been so far
    {"do": "step", "driver": "you", "action": [..]}   one step (without action: stay)
    {"do": "watch", "after": 17}                      the next moment that is not number 17
    {"do": "take"}                                    take the wheel from another tab
    {"do": "start", "seed": 5}                        and "task": its name, where there are several
    {"do": "rewind", "step": 3}, {"do": "episode", "index": 0},
    {"do": "checkpoint", "name": "pick_can_tiny"}, {"do": "save"}

A moment is binary: the length of a JSON header (uint32, little endian), the header, and the pixels
of the imagined and of the real cameras, RGB. Anything else is a JSON text; with the key "error" it
says what was wrong, and nothing has changed.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from worldmodel.errors import UserError
from worldmodel.play.game import YOU, Moment
from worldmodel.play.session import Session
from worldmodel.report import STYLE

MAX_MESSAGE = 16_384  # bytes from a client
PATIENCE = 1.0  # s that a watcher waits for something new

Message = dict[str, Any]


class Shown(NamedTuple):
    """A moment as it is sent."""

    header: Message
    pixels: bytes

    @classmethod
    def of(cls, session: Session, moment: Moment) -> Shown:
        pixels = np.concatenate([moment.imagined.images, moment.real.images])
        return cls(session.header(moment), pixels.tobytes())


class Server:
    """Starlette's routes around one game, which lives in a thread of its own: a simulator's
    renderer belongs to the thread that made it."""

    def __init__(self, make_session: Callable[[], Session], token: str | None = None) -> None:
        self.token = token or secrets.token_urlsafe(16)
        self._thread = ThreadPoolExecutor(1, "game")
        self._session = self._thread.submit(make_session).result()
        self._turn, self._news = asyncio.Lock(), asyncio.Condition()
        self._number = 0  # of the moment that is shown
        self._wheel: WebSocket | None = None
        self.app = Starlette(
            routes=[Route("/", self._page), WebSocketRoute("/ws", self._connect)],
        )

    def close(self) -> None:
        """End the game."""
        self._thread.submit(self._session.close).result()
        self._thread.shutdown()

    # -- http ----------------------------------------------------------------------------------

    def _admits(self, token: str | None) -> bool:
        return secrets.compare_digest((token or "").encode(), self.token.encode())

    async def _page(self, request: Request) -> Response:
        if not self._admits(request.query_params.get("token")):
            return PlainTextResponse(
                "wrong or missing token: open the address that `worldmodel play` printed", 403
            )
        page = resources.files("worldmodel.play").joinpath("page.html").read_text("utf-8")
        page = page.replace("/* STYLE */", STYLE)
        policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        policy += "connect-src 'self'; img-src data:"
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    # -- websocket -----------------------------------------------------------------------------

    async def _connect(self, socket: WebSocket) -> None:
        await socket.accept()
        if not self._admits(socket.query_params.get("token")):
            await socket.close(4403, "wrong or missing token")
            return
        try:
            while True:
                event = await socket.receive()
                if event["type"] == "websocket.disconnect":
                    break
                await self._answer(socket, event.get("text"), event.get("bytes"))
        except WebSocketDisconnect:
            pass  # it may come back: the game waits
        finally:
            if self._wheel is socket:
                self._wheel = None

    async def _answer(self, socket: WebSocket, text: str | None, data: bytes | None) -> None:
        try:
            answer = await self._do(socket, _parsed(text, data))
        except UserError as error:
            answer = {"error": str(error)}
        if isinstance(answer, Shown):
            await socket.send_bytes(self._packed(answer, socket))
        else:
            await socket.send_text(json.dumps(answer))

    async def _do(self, socket: WebSocket, message: Message) -> Shown | Message:
        match message.get("do"):
            case "hello":
                about = await self._play(lambda session: session.about())
                return {**about, "number": self._number}
            case "watch":
                return await self._watch(_integer(message, "after", low=-1))
            case "take":
                self._wheel = socket
                return await self._play(lambda session: Shown.of(session, session.game.now))
            case "save":
                return await self._play(lambda session: session.save())
            case "step" | "rewind" | "start" | "episode" | "checkpoint" as what:
                if self._wheel not in (None, socket):
                    return {"error": "another tab drives; take the wheel first", "wheel": False}
                self._wheel = socket
                moment = await self._play(lambda session: _move(session, what, message))
                async with self._news:
                    self._number += 1
                    self._news.notify_all()
                return moment
        raise UserError(
            f"do: got {message.get('do')!r}, expected hello, step, watch, take, rewind, start, "
            "episode, checkpoint or save"
        )

    async def _play(self, call: Callable[[Session], Any]) -> Any:
        """``call`` in the game's thread, one at a time."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, call, self._session)

    async def _watch(self, after: int) -> Shown | Message:
        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(lambda: self._number != after), PATIENCE)
            except TimeoutError:
                return {"same": True, "number": self._number}
        return await self._play(lambda session: Shown.of(session, session.game.now))

    def _packed(self, shown: Shown, socket: WebSocket) -> bytes:
        mine = {"number": self._number, "wheel": self._wheel in (None, socket)}
        text = json.dumps(shown.header | mine).encode()
        return len(text).to_bytes(4, "little") + text + shown.pixels


def _parsed(text: str | None, data: bytes | None) -> Message:
    if text is None:
        raise UserError(f"message: got {len(data or b'')} bytes, expected JSON as text")
    if len(text) > MAX_MESSAGE:
        raise UserError(f"message: got {len(text)} characters, expected at most {MAX_MESSAGE}")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"message: not JSON ({error})") from error
    if not isinstance(message, dict):
        raise UserError(f"message: got {type(message).__name__}, expected an object with 'do'")
    return message


def _integer(message: Message, key: str, low: int = 0, high: int = 2**31 - 1) -> int:
    value = message.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UserError(f"{key}: got {str(value)[:80]!r}, expected a whole number {low} to {high}")
    return value


def _action(message: Message) -> np.ndarray | None:
    action = message.get("action")
    if action is None:
        return None
    numbers = isinstance(action, list) and all(
        isinstance(a, int | float) and not isinstance(a, bool) and abs(a) <= 1 for a in action
    )
    if not numbers:
        raise UserError(f"action: got {str(action)[:80]}, expected a list of numbers, -1 to 1")
    return np.array(action, np.float32)


def _move(session: Session, what: str, message: Message) -> Shown:
    match what:
        case "step":
            driver = message.get("driver", YOU)
            if not isinstance(driver, str):
                raise UserError(f"driver: got {str(driver)[:80]}, expected a name")
            moment = session.step(driver, _action(message))
        case "rewind":
            moment = session.game.rewind(_integer(message, "step"))
        case "start":
            task = message.get("task", "")
            if not isinstance(task, str):
                raise UserError(f"task: got {str(task)[:80]}, expected a name")
            moment = session.start(_integer(message, "seed"), task)
        case "episode":
            moment = session.start_as_in(_integer(message, "index"))
        case _:
            moment = session.choose(message.get("name"))
    return Shown.of(session, moment)
