# SPDX-License-Identifier: Apache-2.0
"""A program on a WebSocket, without the socket: what both faces of the package share."""
from __future__ import annotations

import json
import signal as signals
from typing import Any, Dict, Iterator, List, Optional, Union

from . import _websocket as ws
from ._events import STREAMS, Decoder, ExitStatus, Output, event_object
from ._requests import json_bytes
from ._wire import _required
from .errors import InvalidResponseError, UnreachableError

# Input goes in such pieces, so that a resize or a signal need not wait for all of it.
PIECE = 64 * 1024
# The server ends a connection that does not answer its pings; a program that prints more than is
# read keeps them from being seen.  So we give a sign of life of our own, which RFC 6455 allows.
HEARTBEAT = 15.0
HEARTBEAT_FRAME = ws.encode(ws.PONG)


class ProcessState:
    """Attributes:
    pid: of the program
    exit: how it ended; None while it runs
    """

    def __init__(self) -> None:
        self.pid: Optional[int] = None
        self.exit: Optional[ExitStatus] = None
        self.error: Optional[Dict[str, Any]] = None
        self.replies = bytearray()  # to be sent
        self._reader = ws.Reader()
        self._decoder = Decoder()

    @property
    def ended(self) -> bool:
        return self.exit is not None or self.error is not None

    def feed(self, data: bytes) -> None:
        self._reader.feed(data)

    def next(self) -> Optional[List[Output]]:
        """Return: what the next message printed; None: more bytes are needed.  After it, `replies` is
        sent and emptied."""
        message = self._reader.next()
        if message is None:
            return None
        opcode, payload = message
        if opcode == ws.PING:
            self.replies += ws.encode(ws.PONG, payload)
        elif opcode == ws.CLOSE:
            raise UnreachableError(f"the server closed the connection {ws.close_reason(payload)}")
        elif opcode == ws.BINARY:
            if not payload or payload[0] not in (1, 2):
                raise InvalidResponseError("the server sent output of a stream that does not exist")
            if len(payload) > 1:
                return [self._decoder.output(STREAMS[payload[0] - 1], payload[1:])]
        elif opcode == ws.TEXT:
            return self._text(event_object(payload))
        return []

    def _text(self, o: Dict[str, Any]) -> List[Output]:
        kind = o.get("type")
        if kind == "started":
            self.pid = _required(o, "pid", int)
        elif kind == "error":
            self.error = o
        elif kind == "exit":
            self.exit = ExitStatus.from_wire(o)
            self.replies += ws.encode(ws.CLOSE, (1000).to_bytes(2, "big"))
            return self._decoder.rest()
        return []


def request_frame(o: Dict[str, Any]) -> bytes:
    """The first message."""
    return ws.encode(ws.TEXT, json_bytes(o))


def input_frames(raw: bytes) -> Iterator[bytes]:
    for i in range(0, len(raw), PIECE):
        yield ws.encode(ws.BINARY, b"\0" + raw[i : i + PIECE])


def control_frame(kind: str, **members: Any) -> bytes:
    return ws.encode(ws.TEXT, json.dumps({"type": kind, **members}).encode("utf-8"))


def signal_frame(number: Union[str, int]) -> bytes:
    if isinstance(number, signals.Signals):
        number = number.name
    if isinstance(number, bool) or not isinstance(number, (str, int)):
        raise TypeError("a signal is a name such as 'SIGINT', or a number")
    return control_frame("signal", signal=number)


def resize_frame(rows: int, cols: int) -> bytes:
    for n in (rows, cols):
        if isinstance(n, bool) or not isinstance(n, int) or not 0 < n < 1 << 16:
            raise ValueError(f"rows and cols must be numbers from 1 to 65535, not {n!r}")
    return control_frame("resize", rows=rows, cols=cols)
