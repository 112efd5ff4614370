# SPDX-License-Identifier: Apache-2.0
"""What a program or code prints while it runs, and how it ended: without a connection.

An answer of the server is a stream of events (text/event-stream of the HTML standard), one
JSON object an event; a WebSocket has the same objects as messages (see _websocket).
"""
from __future__ import annotations

import base64
import codecs
import json
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from ._wire import _optional, _required
from .errors import InvalidResponseError, UnreachableError

EVENT_MAX = 16 << 20
# What is kept of a call's output, as the server does.
KEPT_MAX = 8 << 20
STREAMS = ("stdout", "stderr")


@dataclass(frozen=True)
class Output:
    """A piece of what is printed, as it came.

    Attributes:
        stream: "stdout" or "stderr"
        data: the bytes
        text: the same as text; what is no UTF-8 is U+FFFD.  A character that is cut between two
            pieces is in the later one.
    """

    stream: str
    data: bytes
    text: str


@dataclass(frozen=True)
class ExitStatus:
    """How a program ended.

    Attributes:
        exit_code: 128 + n after signal n
        success: is exit_code 0?
        reason: "exited", "signal" or "timeout"
        signal: the number of the signal that ended it, if one did
        duration_ms: how long it took in the sandbox
    """

    exit_code: int
    success: bool
    reason: str
    signal: Optional[int]
    duration_ms: Optional[float]

    @property
    def timed_out(self) -> bool:
        return self.reason == "timeout"

    @classmethod
    def from_wire(cls, o: Any) -> ExitStatus:
        return cls(
            exit_code=_required(o, "exit_code", int),
            success=_required(o, "success", bool),
            reason=_required(o, "reason", str),
            signal=_optional(o, "signal", int),
            duration_ms=_optional(o, "duration_ms", float),
        )


def event_object(data: bytes) -> Dict[str, Any]:
    try:
        o = json.loads(data.decode("utf-8"))
    except ValueError:
        o = None
    if not isinstance(o, dict):
        raise InvalidResponseError(f"an event of the server is no object: {data[:80]!r}")
    return o


class Decoder:
    """Bytes of both streams as text."""

    def __init__(self) -> None:
        make = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: make("replace") for stream in STREAMS}

    def output(self, stream: str, data: bytes) -> Output:
        return Output(stream, data, self._decoders[stream].decode(data))

    def rest(self) -> List[Output]:
        """Of characters that nothing completed."""
        found = [Output(s, b"", d.decode(b"", True)) for s, d in self._decoders.items()]
        return [o for o in found if o.text]


class EventReader:
    """Takes the bytes of a stream of events as they come; next() gives the events."""

    def __init__(self) -> None:
        self._raw = bytearray()
        self._at = 0  # where the next line begins
        self._event = ""
        self._data: List[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        del self._raw[: self._at]
        self._at = 0
        self._raw += data
        if len(self._raw) + self._size > EVENT_MAX:
            raise InvalidResponseError("an event of the server is too long")

    def next(self) -> Optional[Tuple[str, Dict[str, Any]]]:
        """Return: name and object; None: more bytes are needed."""
        while True:
            end = self._raw.find(b"\n", self._at)
            if end < 0:
                return None
            line = bytes(self._raw[self._at : end])
            self._at = end + 1
            event = self._line(line[:-1] if line.endswith(b"\r") else line)
            if event is not None:
                return event

    def _line(self, line: bytes) -> Optional[Tuple[str, Dict[str, Any]]]:
        if not line:
            name, data = self._event, b"\n".join(self._data)
            self._event, self._data, self._size = "", [], 0
            return (name, event_object(data)) if data else None
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"event":
            self._event = value.decode("utf-8", "replace")
        elif field == b"data":
            self._data.append(value)
            self._size += len(value) + 1
        return None  # a line that begins with a colon is a comment


def output_bytes(o: Dict[str, Any]) -> bytes:
    """Of an event stdout or stderr: {"text": ...} or {"base64": ...}."""
    if "base64" not in o:
        text: str = _required(o, "text", str)
        return text.encode("utf-8", "replace")
    try:
        return base64.b64decode(_required(o, "base64", str), validate=True)
    except ValueError:
        raise InvalidResponseError("the server's answer has no proper 'base64'") from None


class Events:
    """A call whose output comes as events: what is known of it.

    Attributes:
        pid: of a program that has started
        end: the object of the event that ended it
    """

    def __init__(self, end_event: str) -> None:
        self.pid: Optional[int] = None
        self.end: Optional[Dict[str, Any]] = None
        self.error: Optional[Dict[str, Any]] = None
        self._end_event = end_event
        self._reader = EventReader()
        self._decoder = Decoder()

    def feed(self, data: bytes) -> None:
        """`data` empty: the answer is whole."""
        if not data:
            raise UnreachableError("the server ended its answer before the call had ended")
        self._reader.feed(data)

    def next(self) -> Optional[List[Output]]:
        """Return: what the next event printed; None: more bytes are needed."""
        event = self._reader.next()
        if event is None:
            return None
        name, o = event
        if name in STREAMS:
            return [self._decoder.output(name, output_bytes(o))]
        if name == "started":
            self.pid = _required(o, "pid", int)
        elif name == self._end_event:
            self.end = o
            return self._decoder.rest()
        elif name == "error":
            self.error = o
        return []

    @property
    def ended(self) -> bool:
        return self.end is not None or self.error is not None


class Lines:
    """Gathers output as lines, as the server does for the calls that answer at their end."""

    def __init__(self) -> None:
        self.truncated = False
        self._lines: List[Dict[str, str]] = []
        self._open: Dict[str, List[str]] = {stream: [] for stream in STREAMS}
        self._size = 0

    def add(self, output: Output) -> None:
        self._size += len(output.data)
        if self._size > KEPT_MAX:
            self.truncated = True
            return
        first, *more = output.text.split("\n")
        pieces = self._open[output.stream]
        pieces.append(first)
        for piece in more:
            self._close(output.stream)
            pieces.append(piece)

    def _close(self, stream: str) -> None:
        pieces = self._open[stream]
        self._lines.append({"stream": stream, "text": "".join(pieces)})
        pieces.clear()

    def end(self) -> List[Dict[str, str]]:
        for stream, pieces in self._open.items():
            if any(pieces):
                self._close(stream)
        return self._lines
