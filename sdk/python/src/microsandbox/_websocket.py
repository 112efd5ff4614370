# SPDX-License-Identifier: Apache-2.0
"""A WebSocket without a socket: RFC 6455 from the client's side, without extensions.

The server is not trusted: lengths are bounded, and what the specification forbids ends it.
"""
from __future__ import annotations

import base64
import hashlib
import os
import struct
from typing import Optional, Tuple

from .errors import InvalidResponseError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MESSAGE_MAX = 16 << 20
CONTROL_MAX = 125
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def make_key() -> str:
    return base64.b64encode(os.urandom(16)).decode("ascii")


def accept_of(key: str) -> str:
    """What the server must answer to a key."""
    return base64.b64encode(hashlib.sha1((key + GUID).encode("ascii")).digest()).decode("ascii")


def encode(opcode: int, payload: bytes = b"") -> bytes:
    """A message, or a control frame, in one frame, masked as a client's frames must be."""
    n = len(payload)
    if n < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | n)
    elif n < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, n)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, n)
    mask = os.urandom(4)
    pad = (mask * (n // 4 + 1))[:n]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return head + mask + masked.to_bytes(n, "big")


def _bad(what: str) -> InvalidResponseError:
    return InvalidResponseError(f"the server's WebSocket is none: {what}")


class Reader:
    """Takes the bytes of the connection; next() gives messages and control frames."""

    def __init__(self) -> None:
        self._raw = bytearray()
        self._message = bytearray()
        self._opcode = 0  # of the message that comes in parts

    def feed(self, data: bytes) -> None:
        self._raw += data

    def next(self) -> Optional[Tuple[int, bytes]]:
        """Return: opcode and payload; None: more bytes are needed."""
        while True:
            frame = self._frame()
            if frame is None:
                return None
            opcode, final, payload = frame
            if opcode >= CLOSE:
                return opcode, payload
            if (opcode == CONTINUATION) != (self._opcode != 0):
                raise _bad("a message begins inside another, or does not begin")
            self._opcode = self._opcode or opcode
            self._message += payload
            if len(self._message) > MESSAGE_MAX:
                raise _bad("a message is too long")
            if final:
                whole = self._opcode, bytes(self._message)
                self._opcode = 0
                self._message = bytearray()
                return whole

    def _frame(self) -> Optional[Tuple[int, bool, bytes]]:
        raw = self._raw
        if len(raw) < 2:
            return None
        opcode, n, at = raw[0] & 15, raw[1] & 0x7F, 2
        if raw[0] & 0x70 or raw[1] & 0x80 or opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise _bad("a frame that this program has not asked for")
        if opcode >= CLOSE and (n > CONTROL_MAX or not raw[0] & 0x80):
            raise _bad("a control frame that is too long, or in parts")
        if n >= 126:
            at = 4 if n == 126 else 10
            if len(raw) < at:
                return None
            n = int.from_bytes(raw[2:at], "big")
            if n > MESSAGE_MAX:
                raise _bad("a message is too long")
        if len(raw) < at + n:
            return None
        payload = bytes(raw[at : at + n])
        final = bool(raw[0] & 0x80)
        del raw[: at + n]
        return opcode, final, payload


def close_reason(payload: bytes) -> str:
    """A close frame in words."""
    if len(payload) < 2:
        return "without a reason"
    text = payload[2:].decode("utf-8", "replace")
    return f"with code {int.from_bytes(payload[:2], 'big')}" + (f": {text}" if text else "")
