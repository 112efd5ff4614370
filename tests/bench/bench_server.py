#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make bench-server: what a call through the server costs, beside the same on the sandbox's own socket."""
import argparse
import json
import os
import pathlib
import socket
import statistics
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
sys.dont_write_bytecode = True

import wire  # noqa: E402
from server_client import Server  # noqa: E402
from soak import http_load  # noqa: E402


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


def row(what, measured, unit, target=None, most=True, detail=""):
    """One figure. @target: what it may be at most (or at least)."""
    wanted = verdict = ""
    if target is not None:
        wanted = f"{'<=' if most else '>='} {target:g}"
        verdict = "met" if (measured <= target if most else measured >= target) else "MISSED"
    print(f"{what:46} {wanted:>9} {measured:11.3f} {unit:4} {verdict:7} {detail}".rstrip(), flush=True)


def latency(what, seconds, target=None):
    ms = sorted(s * 1000 for s in seconds)
    row(what, statistics.median(ms), "ms", target, detail=f"p99 {ms[int(len(ms) * 0.99) - 1]:.3f}, n={len(ms)}")


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


def resident(server):
    """MiB: all, and its share of what it shares with others."""
    with open(f"/proc/{server.process.pid}/smaps_rollup") as f:
        kib = {k: int(v.split()[0]) for k, v in (line.split(":", 1) for line in f if line.split(":")[0] in ("Rss", "Pss"))}
    return kib["Rss"] / 1024, f"PSS {kib['Pss'] / 1024:.1f}"


def many(server, n):
    """Starts n small sandboxes, four at a time."""
    left = iter(range(n))
    lock = threading.Lock()

    def client():
        while True:
            with lock:
                i = next(left, None)
            if i is None:
                return
            server.start(f"m{i}", memory=128)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    alive = [b for b in server.call("sandbox.list")["sandboxes"] if b["state"] == "running"]
    assert len(alive) == n, server.log()[-2000:]


def bench_calls(server, c, n):
    latency("GET /api/v1/health", timed(n * 10, lambda: c.request(b"GET", b"/api/v1/health")), 0.2)
    latency("sandbox.list", timed(n * 10, lambda: c.call("sandbox.list")))
    begin = time.perf_counter()
    server.start("bench")
    row("sandbox.start, cold", (time.perf_counter() - begin) * 1000, "ms")
    run = dict(sandbox="bench", language="python", code="1+1")
    begin = time.perf_counter()
    c.call("sandbox.repl.run", **run)
    row("the first sandbox.repl.run (starts python)", (time.perf_counter() - begin) * 1000, "ms")
    timed(20, lambda: c.call("sandbox.repl.run", **run))
    latency("sandbox.repl.run 1+1", timed(n, lambda: c.call("sandbox.repl.run", **run)), 5)
    w = wire.Client(str(server.home / "projects/default/menv/bench/run/ctl.sock"))
    latency("  the same on ctl.sock", timed(n, lambda: w.repl("python", "1+1")))
    w.close()
    true = dict(sandbox="bench", command="/bin/true")
    latency("sandbox.command.run /bin/true", timed(n // 4 + 4, lambda: c.call("sandbox.command.run", **true)), 30)
    latency("sandbox.metrics.get", timed(n, lambda: c.call("sandbox.metrics.get", sandbox="bench")))
    server.call("sandbox.stop", sandbox="bench")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-n", type=int, default=300)
    p.add_argument("--sandboxes", type=int, default=50, help="alive when the server's memory is read; 0 = none")
    a = p.parse_args()
    print(f"load of this machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs\n"
          f"{'figure':46} {'target':>9} {'measured':>11}", flush=True)
    server = Server()
    try:
        c = Connection(server)
        bench_calls(server, c, a.n)
        health = b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        row("health, one pipelined connection", pipelined(server, health, 128 * 400), "/s", 10000, most=False)
        r = http_load(server, "--count", "50000", "--connections", "64")
        row("health, list, metrics on 64 connections", r["rate"], "/s", 10000, most=False, detail=f"p99 {r['p99_ms']}, {r['errors']} errors")
        if a.sandboxes:
            many(server, a.sandboxes)
        size, detail = resident(server)
        row(f"server, resident with {a.sandboxes} sandboxes", size, "MiB", 10, detail=detail)
        c.s.close()
        server.stop()
    finally:
        server.close()


main()
