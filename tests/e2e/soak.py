#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make soak: everything that clients do to a server, over and over; its memory and descriptors stay flat.

Sampled after each round, when it is quiet: the server, and the supervisor of a sandbox that lives all the
time.  The first rounds fill caches and the allocator's reserves; from there on nothing may grow.
"""
import argparse
import json
import os
import pathlib
import socket
import statistics
import struct
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from conftest import BUILD, ROOT, wait_for  # noqa: E402
from server_client import RpcError, Server, texts  # noqa: E402

HTTP_LOAD = str(BUILD / "tests/bench/http_load")
CORPUS = [p.read_bytes() for kind in ("http_request", "jsonrpc") for p in sorted((ROOT / "tests/fuzz/corpus" / kind).iterdir())]
WARM_ROUNDS = 3
GROWTH_KIB = 512  # between the first rounds that count and the last; caches of the allocator, no leak


def rpc(method, **params):
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, separators=(",", ":"))


CHEAP = ["health 200 GET /api/v1/health", "list 200 POST /api/v1/rpc " + rpc("sandbox.list"),
         "metrics_of_none 404 POST /api/v1/rpc " + rpc("sandbox.metrics.get", sandbox="none")]
BROKEN = ["no_path 404 GET /nowhere", "no_method 404 POST /api/v1/rpc " + rpc("sandbox.nothing"),
          'no_params 400 POST /api/v1/rpc {"jsonrpc":"2.0","id":1,"method":"sandbox.stop","params":{}}']


def http_load(server, *args, requests=CHEAP):
    """Runs http_load against the server. Returns its figures; any error fails."""
    p = subprocess.run([HTTP_LOAD, "--port", str(server.port), *args, *[a for r in requests for a in ("--request", r)]],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.returncode == 0, (p.stdout, p.stderr, server.log()[-2000:])
    return json.loads(p.stdout)


def post(body):
    return f"POST /api/v1/rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def reset(s):
    """Closes as a client that is killed with unread data: RST instead of FIN."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def guest_runs(server, name, line):
    """Is there a process in the guest with this command line?"""
    return server.call("sandbox.command.run", sandbox=name, command="pgrep", args=["-fx", line])["exit_code"] == 0


def vanish(server, name, n, hard):
    """n clients that go away while what they asked for runs: half with a command, half with code."""
    mark = f"sleep 98{n}{int(hard)}"
    clients = []
    for i in range(n):
        c = server.connect()
        if i % 2:
            body = rpc("sandbox.command.run", sandbox=name, command="sleep", args=mark.split()[1:])
        else:
            body = rpc("sandbox.repl.run", sandbox=name, language="python", code="import time\nwhile True: time.sleep(0.01)")
        c.sendall(post(body))
        clients.append(c)
    wait_for(lambda: guest_runs(server, name, mark))
    for c in clients:
        reset(c) if hard else c.close()
    wait_for(lambda: not guest_runs(server, name, mark))
    # The interpreter was interrupted and serves the next one.
    assert texts(server.run(name, "1+1")) == ["2"]


def garbage(server, n):
    """Bytes that are no request, and halves of some; half of the clients do not wait for an answer."""
    for i in range(n):
        data = CORPUS[i % len(CORPUS)]
        with server.connect() as c:
            try:
                c.sendall(data if i % 3 else data[:len(data) // 2])
                c.shutdown(socket.SHUT_WR)
                if i % 2:
                    while c.recv(65536):
                        pass
            except OSError:
                pass  # refused before all of it came


class Process:
    """What is measured of one."""

    def __init__(self, what, pid):
        self.what, self.pid = what, pid
        self.rss, self.fds = [], []

    def count_fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def sample(self):
        # Clients of the round before are gone when the server has noticed.
        if self.fds:
            try:
                wait_for(lambda: self.count_fds() <= self.fds[0], seconds=20)
            except AssertionError:
                pass  # check() says so
        with open(f"/proc/{self.pid}/status") as f:
            self.rss.append(next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")))
        self.fds.append(self.count_fds())

    def check(self):
        rss = self.rss[WARM_ROUNDS:]
        part = max(1, len(rss) // 4)
        grown = statistics.median(rss[-part:]) - statistics.median(rss[:part])
        assert grown <= GROWTH_KIB, f"{self.what} grew by {grown} KiB: {self.rss}"
        assert self.fds[-1] <= self.fds[0], f"{self.what} keeps descriptors: {self.fds}"


class Soak:
    def __init__(self, cheap=2000):
        self.cheap = cheap
        self.server = Server()
        self.server.start("steady", memory=256)
        self.server.run("steady", "x = 'steady'")
        self.processes = [Process("server", self.server.process.pid),
                          Process("supervisor", self.server.supervisor_pid("steady"))]
        self.rounds = 0

    def round(self):
        s, name = self.server, f"r{self.rounds}"
        s.start(name, memory=256)
        assert texts(s.run(name, "print(6*7)")) == ["42"]
        assert texts(s.call("sandbox.command.run", sandbox=name, command="hostname")) == [name]
        vanish(s, "steady", 4, hard=bool(self.rounds % 2))
        s.run("steady", "print('y' * 100 * 1000)")
        garbage(s, 2 * len(CORPUS))
        http_load(s, "--count", str(self.cheap), "--connections", "16")
        http_load(s, "--count", str(self.cheap // 2), "--connections", "16", requests=BROKEN)
        s.call("sandbox.metrics.get", sandbox="steady")
        try:
            s.start("never", image="no-such-image")
            raise AssertionError("an image that is none")
        except RpcError:
            pass
        with s.connect() as c:  # stopped while a call runs
            c.sendall(post(rpc("sandbox.command.run", sandbox=name, command="sleep", args=["4321"])))
            s.call("sandbox.stop", sandbox=name)
            assert b"-32" in c.recv(65536)
        self.rounds += 1
        for p in self.processes:
            p.sample()

    def check(self):
        for p in self.processes:
            p.check()

    def finish(self):
        s = self.server
        assert s.stop() == 0, s.log()
        s.box.assert_nothing_left()

    def close(self):
        self.server.close()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seconds", type=float, default=3600)
    end = time.monotonic() + p.parse_args().seconds
    begin, printed = time.monotonic(), 0.0
    soak = Soak()
    try:
        print(f"{'seconds':>8} {'rounds':>7} {'server KiB':>11} {'fds':>4} {'supervisor KiB':>15} {'fds':>4}", flush=True)
        while time.monotonic() < end or soak.rounds < 4 * WARM_ROUNDS:
            soak.round()
            now = time.monotonic()
            if now - printed > 30 or now >= end:
                printed = now
                a, b = soak.processes
                print(f"{now - begin:8.0f} {soak.rounds:7} {a.rss[-1]:11} {a.fds[-1]:4} {b.rss[-1]:15} {b.fds[-1]:4}", flush=True)
        soak.check()
        soak.finish()
        print(f"flat: {soak.rounds} rounds, no descriptor and at most {GROWTH_KIB} KiB more than at their beginning")
    finally:
        soak.close()


if __name__ == "__main__":
    main()
