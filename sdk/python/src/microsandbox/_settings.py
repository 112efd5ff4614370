# SPDX-License-Identifier: Apache-2.0
"""Where the server is, and with which key: arguments, the environment, a file .env."""
from __future__ import annotations

import os
import secrets
from typing import Dict, Optional
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:5555"
ENV_FILE_MAX = 1 << 20


def read_env_file(path: str = ".env") -> Dict[str, str]:
    """The MSB_ variables of a file of KEY=VALUE lines; none if there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            text = f.read(ENV_FILE_MAX)
    except OSError:
        return {}
    found = {}
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("export "):
            line = line[7:].lstrip()
        key, equals, value = line.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not key.startswith("MSB_"):
            continue
        if value[:1] in ('"', "'") and value[0] in value[1:]:
            value = value[1 : value.index(value[0], 1)]
        else:
            value = value.split(" #", 1)[0].rstrip()
        found[key] = value
    return found


class Endpoint:
    """A server's address, taken apart, and the key."""

    def __init__(self, url: Optional[str], api_key: Optional[str]) -> None:
        env: Dict[str, str] = dict(os.environ)
        if api_key is None and not env.get("MSB_API_KEY"):
            env = {**read_env_file(), **{k: v for k, v in env.items() if v}}
        self.url = (url or env.get("MSB_SERVER_URL") or DEFAULT_URL).rstrip("/")
        self.api_key = (env.get("MSB_API_KEY") if api_key is None else api_key) or None
        if self.api_key and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ValueError("the API key holds characters that no key has")
        self.tls = False
        self.unix_path: Optional[str] = None
        self.prefix = ""
        try:
            self._take_apart()
        except ValueError:
            raise ValueError(
                f"server URL {self.url!r}: must be http://HOST[:PORT], https://HOST[:PORT] or unix:///PATH"
            ) from None

    def _take_apart(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme == "unix" and parts.path and not parts.netloc:
            self.unix_path = parts.path
            self.host, self.port, self.authority = "localhost", 0, "localhost"
            return
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ValueError
        self.tls = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or (443 if self.tls else 80)
        self.authority = parts.netloc
        self.prefix = parts.path
        if not self.url.isascii() or any(c <= " " for c in self.url):
            raise ValueError


def random_name() -> str:
    return f"sandbox-{secrets.token_hex(4)}"
