#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make bench-server: what a call through the server costs, beside the same on the sandbox's own socket."""
import argparse
import json
import pathlib
import socket
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
sys.dont_write_bytecode = True

import wire  # noqa: E402
from server_client import Server  # noqa: E402


class Connection:
    """One kept-alive connection; as little client as possible in the figures."""

    def __init__(self, server):
        self.s = server.connect()

    def request(self, method, path, body=b""):
        self.s.sendall(b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
                       % (method, path, len(body), body))
        got = b""
        while b"\r\n\r\n" not in got:
            got += self.s.recv(65536)
        head, rest = got.split(b"\r\n\r\n", 1)
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(rest) < length:
            rest += self.s.recv(65536)
        assert head.startswith(b"HTTP/1.1 200"), head
        return rest

    def call(self, method, **params):
        return json.loads(self.request(b"POST", b"/api/v1/rpc", json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()))["result"]


def row(what, seconds, target=""):
    ms = sorted(s * 1000 for s in seconds)
    print(f"{what:52} {statistics.median(ms):9.3f} ms {target:>10}   p99 {ms[int(len(ms) * 0.99) - 1]:.3f}, n={len(ms)}",
          flush=True)


def timed(n, fn):
    out = []
    for _ in range(n):
        begin = time.perf_counter()
        fn()
        out.append(time.perf_counter() - begin)
    return out


def pipelined(server, request, n):
    """Requests a second of one connection that sends ahead."""
    with server.connect() as s:
        begin = time.perf_counter()
        sent = done = 0
        while done < n:
            if sent < n and sent - done < 256:
                s.sendall(request * 128)
                sent += 128
            done += s.recv(1 << 18).count(b"HTTP/1.1 200")
        return n / (time.perf_counter() - begin)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-n", type=int, default=300)
    n = p.parse_args().n
    server = Server()
    try:
        c = Connection(server)
        row("GET /api/v1/health", timed(n * 10, lambda: c.request(b"GET", b"/api/v1/health")), "<= 0.2")
        row("sandbox.list", timed(n * 10, lambda: c.call("sandbox.list")))
        begin = time.perf_counter()
        server.start("bench")
        print(f"{'sandbox.start, cold':52} {(time.perf_counter() - begin) * 1000:9.0f} ms")
        run = dict(sandbox="bench", language="python", code="1+1")
        begin = time.perf_counter()
        c.call("sandbox.repl.run", **run)
        print(f"{'the first sandbox.repl.run (starts python)':52} {(time.perf_counter() - begin) * 1000:9.0f} ms")
        timed(20, lambda: c.call("sandbox.repl.run", **run))
        row("sandbox.repl.run 1+1", timed(n, lambda: c.call("sandbox.repl.run", **run)), "<= 5")
        w = wire.Client(str(server.home / "projects/default/menv/bench/run/ctl.sock"))
        row("  the same on ctl.sock", timed(n, lambda: w.repl("python", "1+1")))
        w.close()
        true = dict(sandbox="bench", command="/bin/true")
        row("sandbox.command.run /bin/true", timed(n // 4 + 4, lambda: c.call("sandbox.command.run", **true)), "<= 30")
        row("sandbox.metrics.get", timed(n, lambda: c.call("sandbox.metrics.get", sandbox="bench")))
        health = b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        print(f"{'health, one pipelined connection':52} {pipelined(server, health, 128 * 400):9.0f} /s {'>= 10000':>10}")
        with open(f"/proc/{server.process.pid}/smaps_rollup") as f:
            kib = {k: int(v.split()[0]) for k, v in (line.split(":", 1) for line in f if line.split(":")[0] in ("Rss", "Pss"))}
        print(f"{'server, resident (PSS)':52} {kib['Rss'] / 1024:9.1f} MiB ({kib['Pss'] / 1024:.1f}) {'<= 10':>5}")
        server.stop()
    finally:
        server.close()


main()
