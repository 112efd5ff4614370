# SPDX-License-Identifier: Apache-2.0
"""Requests that are no JSON-RPC: files, and output as it comes."""
from __future__ import annotations

import base64
import json
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence, Union
from urllib.parse import quote, urlencode

Envs = Union[Sequence[str], Mapping[str, str]]
Data = Union[str, bytes, bytearray, memoryview]
# A file is read and sent in such pieces.
PIECE = 64 * 1024


class Request(NamedTuple):
    """`body` None: there is none, or it is streamed."""

    method: str
    target: str  # path and query
    accept: str
    body: Optional[bytes] = None
    content_type: Optional[str] = None


def target(sandbox: str, namespace: Optional[str], what: str, **query: Any) -> str:
    if namespace is not None:
        query["namespace"] = namespace
    given = {k: v for k, v in query.items() if v is not None}
    path = f"/api/v1/sandboxes/{quote(sandbox, safe='')}/{what}"
    return path + ("?" + urlencode(given, quote_via=quote, safe="") if given else "")


def bytes_of(data: Data) -> bytes:
    if isinstance(data, str):
        return data.encode("utf-8")
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError("data must be text or bytes")


def env_object(env: Optional[Envs]) -> Optional[Dict[str, str]]:
    """As the server takes it: an object."""
    if env is None or isinstance(env, Mapping):
        return None if env is None else dict(env)
    if isinstance(env, (str, bytes)):
        raise TypeError("env must be a mapping, or a list of KEY=VALUE")
    made = {}
    for entry in env:
        key, equals, value = entry.partition("=")
        if not key or not equals:
            raise ValueError(f"env: {entry!r} is not KEY=VALUE")
        made[key] = value
    return made


def exec_object(
    command: str,
    args: Optional[Sequence[str]],
    env: Optional[Envs],
    cwd: Optional[str],
    user: Optional[str],
    timeout: Optional[float],
    stdin: Optional[Data],
    **more: Any,
) -> Dict[str, Any]:
    if isinstance(args, (str, bytes)):
        raise TypeError("args must be a list of texts, not one text")
    o: Dict[str, Any] = {"command": command, "args": list(args or ()), "env": env_object(env), "cwd": cwd, "user": user}
    o["timeout"] = timeout
    if isinstance(stdin, str):
        o["stdin"] = stdin
    elif stdin is not None:
        o["stdin_base64"] = base64.b64encode(bytes_of(stdin)).decode("ascii")
    o.update(more)
    return {k: v for k, v in o.items() if v is not None}


def json_bytes(o: Any) -> bytes:
    try:
        return json.dumps(o, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError as e:
        raise ValueError("a text has half a surrogate pair in it, which UTF-8 cannot express") from e


def files_query(mode: Optional[int], append: bool, exclusive: bool, parents: bool) -> Dict[str, Any]:
    """Of a PUT."""
    if mode is not None and (isinstance(mode, bool) or not isinstance(mode, int) or not 0 < mode < 0o10000):
        raise ValueError(f"mode must be permission bits from 0o1 to 0o7777, not {mode!r}")
    switches = {"append": append, "exclusive": exclusive, "parents": parents}
    return {"mode": None if mode is None else f"{mode:o}", **{k: 1 for k, v in switches.items() if v}}


def check_part(offset: Optional[int], length: Optional[int]) -> None:
    for name, n, least in (("offset", offset, 0), ("length", length, 1)):
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < least):
            raise ValueError(f"{name} must be a number of bytes, at least {least}, not {n!r}")
