"""Pictures over a WebSocket: the newest pose is drawn, poses that were passed meanwhile are not.

A picture is a binary message: the length of its header (4 bytes, little endian), the header as JSON, and its grey
values, one byte each, row by row. They are not compressed: between two processes of one machine that takes longer than
sending them (benchmarks/bench_view.py measures both).
"""

import asyncio
import json
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from fastapi import WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, ValidationError

from roireg.errors import InputError, one_line
from roireg.view.hand import WISH
from roireg.view.pictures import (
    Plane,
    covered_plane,
    drr_bands,
    drr_plane,
    moving_plane,
    outlines_plane,
    xray_plane,
)
from roireg.view.state import State
from roireg.view.threads import compiled_code
from roireg.view.told import pose_entries, state_entries
from roireg.view.workbench import Workbench

# The hand rests when nothing has moved for so long.
REST_S = 0.12
# Pictures on their way that the page has not drawn yet: more would only be older ones.
UNSEEN = 2


class Planes(BaseModel):
    """Which planes beside the DRR the page shows."""

    model_config = ConfigDict(extra="forbid")
    covered: bool = False
    outlines: bool = False


def packed(header: dict[str, Any], plane: Plane) -> bytes:
    """A binary message with a picture."""
    height, width = plane.pixels.shape
    entries = {**header, "kind": plane.kind, "width": width, "height": height, "low": plane.low, "high": plane.high}
    text = json.dumps(entries).encode()
    return struct.pack("<I", len(text)) + text + plane.pixels.tobytes()


class Stream:
    """One connection of a page: what it asks, and what it is shown."""

    def __init__(self, socket: WebSocket, workbench: Workbench, painter: ThreadPoolExecutor) -> None:
        self.socket, self.workbench, self.painter = socket, workbench, painter
        self.changed, self.unseen = asyncio.Event(), asyncio.BoundedSemaphore(UNSEEN)
        self.planes, self.sequence, self.revision = Planes(), 0, -1
        self.sent_views: list[Any] = []

    async def run(self) -> None:
        """Serve the connection until it ends."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self.changed.set)

        end = self.workbench.listen(wake)
        self.changed.set()
        tasks = {asyncio.create_task(self._draw()), asyncio.create_task(self._hear())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with suppress(WebSocketDisconnect):
                    task.result()
        finally:
            end()
            for task in tasks:
                task.cancel()

    async def _hear(self) -> None:
        while True:
            await self._heard(await self.socket.receive_text())

    async def _heard(self, text: str) -> None:
        """Do what a message of the page asks; a fault is told in one line."""
        try:
            message = json.loads(text)
            kind = message.get("type") if isinstance(message, dict) else None
            if kind == "seen":
                with suppress(ValueError):
                    self.unseen.release()
            elif kind == "planes":
                self.planes = Planes(**{key: value for key, value in message.items() if key != "type"})
                self.changed.set()
            else:
                self.sequence = int(message.pop("sequence", self.sequence))
                self.workbench.wish(WISH.validate_python(message))
        except (ValidationError, ValueError, TypeError, AttributeError) as error:
            told = str(error) if isinstance(error, InputError) else "the page sent what is no message"
            await self._tell({"type": "error", "text": one_line(told)})

    async def _tell(self, entries: dict[str, Any]) -> None:
        await self.socket.send_text(json.dumps(entries))

    async def _painted(self, function: Callable[[], Any]) -> Any:
        def paint() -> Any:
            with compiled_code():
                return function()

        return await asyncio.get_running_loop().run_in_executor(self.painter, paint)

    async def _draw(self) -> None:
        while True:
            await self.changed.wait()
            self.changed.clear()
            await self._tell_state()
            state, sequence = self.workbench.state, self.sequence
            await self._tell({**pose_entries(state), "sequence": sequence})
            if state.patient is None:
                continue
            for number in range(len(state.views)):
                await self._send_moving(state, number, sequence)
            if not await self._rests():
                continue
            for number in range(len(state.views)):
                await self._send_resting(state, number, sequence)

    async def _tell_state(self) -> None:
        revision = self.workbench.revision
        if revision == self.revision:
            return
        self.revision = revision
        await self._tell(state_entries(self.workbench))
        views = list(self.workbench.state.views)
        for number, view in enumerate(views):
            if number >= len(self.sent_views) or self.sent_views[number] is not view:
                plane = await self._painted(partial(xray_plane, view))
                await self.socket.send_bytes(packed({"view": number}, plane))
        self.sent_views = views

    async def _rests(self) -> bool:
        """Whether nothing changes for a moment."""
        try:
            await asyncio.wait_for(self.changed.wait(), REST_S)
        except TimeoutError:
            return True
        return False

    async def _send_moving(self, state: State, number: int, sequence: int) -> None:
        await self.unseen.acquire()
        camera, pose = state.view(number).shown.camera, state.pose(number)
        plane = await self._painted(lambda: moving_plane(state.known_patient, camera, pose))
        await self.socket.send_bytes(packed({"view": number, "sequence": sequence, "full": False}, plane))

    async def _send_resting(self, state: State, number: int, sequence: int) -> None:
        """The DRR at full size and what lies over it, unless the pose changes meanwhile."""
        view, pose, patient = state.view(number), state.pose(number), state.known_patient
        header = {"view": number, "sequence": sequence, "full": True}
        if self.planes.covered and not self.changed.is_set():
            await self.socket.send_bytes(
                packed(header, await self._painted(lambda: covered_plane(patient, view, pose)))
            )
        if self.planes.outlines and patient.labels is not None and not self.changed.is_set():
            plane = await self._painted(lambda: outlines_plane(patient, view.shown.camera, pose))
            await self.socket.send_bytes(packed(header, plane))
        rest = drr_bands(patient, view.shown.camera, pose)
        bands: list[torch.Tensor] = []
        while not self.changed.is_set():
            band = await self._painted(lambda: next(rest, None))
            if band is None:
                await self.socket.send_bytes(packed(header, drr_plane(torch.cat(bands))))
                return
            bands.append(band)
