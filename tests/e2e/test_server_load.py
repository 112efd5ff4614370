# SPDX-License-Identifier: Apache-2.0
"""The server under load and with clients that misbehave.  Traffic goes to 127.0.0.1 only.

MSB_LOAD=full is `make load`: the full numbers, which take minutes, and figures on the terminal.
"""
import http.client
import json
import os
import random
import select
import threading

import pytest

from conftest import wait_for
from server_client import Server, texts
from soak import CORPUS, WARM_ROUNDS, Process, Soak, garbage, http_load, post, reset, rpc, vanish

FULL = os.environ.get("MSB_LOAD") == "full"
SANDBOXES, CLIENTS, ALIVE = (200, 20, 20) if FULL else (30, 10, 6)


@pytest.fixture
def server():
    s = Server()
    yield s
    s.close()


def finish(s):
    assert s.stop() == 0, s.log()
    s.box.assert_nothing_left()


def in_threads(*functions):
    """Runs them at once; their errors are ours."""
    failed = []

    def guard(fn):
        try:
            fn()
        except BaseException as e:
            failed.append(e)

    threads = [threading.Thread(target=guard, args=(fn,)) for fn in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed, failed


def test_sandboxes_of_many_clients(server, capsys):
    """Started, asked who they are, stopped: SANDBOXES of them by CLIENTS, at most ALIVE at a time."""
    server.start("warm")
    server.call("sandbox.stop", sandbox="warm")
    process = Process("server", server.process.pid)
    process.sample()
    places = threading.Semaphore(ALIVE)
    most, alive, lock = [0], set(), threading.Lock()

    def client(c):
        for i in range(c, SANDBOXES, CLIENTS):
            name = f"s{i}"
            with places:
                server.start(name, memory=192)
                with lock:
                    alive.add(name)
                    most[0] = max(most[0], len(alive))
                assert texts(server.call("sandbox.command.run", sandbox=name, command="hostname")) == [name]
                listed = {b["name"] for b in server.call("sandbox.list")["sandboxes"]}
                assert name in listed and len(listed) <= ALIVE
                with lock:
                    alive.remove(name)
                assert server.call("sandbox.stop", sandbox=name) == f"Sandbox {name} stopped successfully"

    in_threads(*[lambda c=c: client(c) for c in range(CLIENTS)])
    assert most[0] > 1
    assert server.call("sandbox.list")["sandboxes"] == []
    process.sample()
    assert process.fds[1] <= process.fds[0], process.fds
    with capsys.disabled():
        if FULL:
            print(f"\n{SANDBOXES} sandboxes by {CLIENTS} clients, up to {most[0]} alive: server {process.rss[1]} KiB resident")
    finish(server)


def test_many_cheap_requests(server, capsys):
    """health, sandbox.list and the metrics of a sandbox that is none, on 64 connections."""
    if FULL:
        with capsys.disabled():
            for rate in "10000", "0":
                r = http_load(server, "--seconds", "60", "--rate", rate, "--connections", "64")
                what = "as fast as they are answered" if rate == "0" else f"{rate}/s wanted"
                print(f"\n{what}: {r['requests']} requests in {r['seconds']:.0f} s, {r['rate']:.0f}/s, "
                      f"{r['errors']} errors, p50 {r['p50_ms']} ms, p99 {r['p99_ms']} ms, most {r['max_ms']} ms")
    r = http_load(server, "--count", "30000", "--connections", "64")
    assert r["requests"] == 30000 and r["errors"] == 0
    assert r["health"] == r["list"] == r["metrics_of_none"] == 10000
    finish(server)


def test_others_are_served_while_some_misbehave(server):
    """Slow ones, large ones and senders of garbage, and meanwhile everybody else is answered."""
    server.start("py")
    process = Process("server", server.process.pid)
    process.sample()
    slow, answers = {server.connect(): i % 50 for i in range(200)}, []

    def drip():
        """A byte to each now and then, until each is cut off though something always came."""
        head = b"POST /api/v1/rpc HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"a" * 10000
        for c, at in slow.items():
            c.setblocking(False)
            c.sendall(head[:at])
        while slow:
            for c, at in list(slow.items()):
                try:
                    answers.append(c.recv(64))
                    c.close()
                    del slow[c]
                    continue
                except BlockingIOError:
                    pass
                c.send(head[at:at + 1])
                slow[c] = at + 1
            select.select(list(slow), [], [], 0.05)

    def large():
        # Bodies that come slowly, that are too large, too deep, or end early.
        kept = []
        for i in range(8):
            c = server.connect()
            c.sendall(b"POST /api/v1/rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16000000\r\n\r\n" + b" " * 1_000_000)
            kept.append(c)
        assert server.http("POST", "/api/v1/rpc", b"", {"Content-Length": str(1 << 40)})[0] == 413
        for body in b"[" * 1_000_000, b'{"a":' * 200_000, b'"' + b"\\u0000" * 300_000, b"\xff" * 1_000_000, b"[" + b"{}," * 5_000_000 + b"1]":
            assert server.post(body)[0] == 400, body[:20]
        for c in kept:
            reset(c)

    def code():
        for i in range(20):
            assert texts(server.run("py", f"print({i})")) == [str(i)]

    def burst():
        r = http_load(server, "--count", "20000", "--connections", "32")
        assert r["errors"] == 0

    in_threads(drip, large, code, burst, lambda: garbage(server, 20 * len(CORPUS)))
    assert len(answers) == 200 and all(a.startswith(b"HTTP/1.1 408") for a in answers), set(answers)
    _, _, text = server.http("GET", "/metrics")
    bad = next(int(line.split()[1]) for line in text.decode().splitlines() if line.startswith("msb_http_bad_requests_total "))
    assert bad > 200
    process.sample()
    assert process.fds[1] <= process.fds[0], process.fds
    # No more than the bodies that may wait at a time, however many values they have.
    assert peak_kib(server) < 100 << 10
    finish(server)


def peak_kib(server):
    with open(f"/proc/{server.process.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM:"))


def test_outputs_of_many_short_lines(server):
    """What a program prints costs the server about its bytes, also as lines, also in a batch."""
    server.start("py")
    call = dict(sandbox="py", command="sh", args=["-c", "yes '' | head -c 300000"])
    lines = server.call("sandbox.command.run", **call)["output"]
    assert len(lines) > 100_000 and lines[0] == {"stream": "stdout", "text": ""}
    before = peak_kib(server)
    # Each answer is a few MiB: together they would be more than a connection takes.
    batch = [{"jsonrpc": "2.0", "id": i, "method": "sandbox.command.run", "params": call} for i in range(20)]
    status, answers = server.post(batch)
    assert status == 200 and [a["id"] for a in answers] == list(range(20))
    made = [a for a in answers if "result" in a]
    assert 1 < len(made) < 10 and all(a["result"]["output"] == lines for a in made)
    left = answers[len(made):]
    assert all(a["error"]["code"] == -32005 and "batch" in a["error"]["message"] for a in left)
    in_threads(*[lambda: server.call("sandbox.command.run", **call)] * 6)
    assert peak_kib(server) < before + (64 << 10), (before, peak_kib(server))
    finish(server)


def test_clients_that_vanish(server):
    """What runs for them is killed in the guest; neither server nor supervisor keeps anything."""
    server.start("py")
    processes = [Process("server", server.process.pid), Process("supervisor", server.supervisor_pid("py"))]
    ps = dict(sandbox="py", command="sh", args=["-c", "cat /proc/[0-9]*/comm | sort | uniq -c"])
    vanish(server, "py", 8, hard=True)
    before = texts(server.call("sandbox.command.run", **ps))
    for p in processes:
        p.sample()
    for hard in (False, True) * 3:
        vanish(server, "py", 8, hard)
    # Also one that goes while its sandbox starts: it is there for the next one who asks.
    c = server.connect()
    c.sendall(post(rpc("sandbox.start", sandbox="left", config={"image": "python", "memory": 192})))
    wait_for(lambda: "left" in [b["name"] for b in server.call("sandbox.list")["sandboxes"]])
    reset(c)
    assert server.start("left") == "Sandbox left started successfully"
    server.call("sandbox.stop", sandbox="left")
    # User processes are the same as before (kernel threads come and go).
    user = lambda lines: [line.split() for line in lines if line.split()[1] in ("sleep", "python3", "sh", "cat", "msb-agent", "init")]
    wait_for(lambda: user(texts(server.call("sandbox.command.run", **ps))) == user(before))
    for p in processes:
        p.sample()
        assert p.fds[1] <= p.fds[0], (p.what, p.fds)
        assert p.rss[1] - p.rss[0] < 512, (p.what, p.rss)
    finish(server)


def test_a_server_killed_under_load(server):
    """What it acknowledged is true for its successor: started runs, with its state, and stopped is gone."""
    started, stopped, state, lock = set(), set(), {}, threading.Lock()
    killed = threading.Event()

    def client(c):
        # Until the server is gone: starts, gives it something to remember, stops every third.
        for i in range(100):
            name = f"k{c}-{i}"
            try:
                server.start(name, memory=192)
                with lock:
                    started.add(name)
                value = random.randrange(1 << 30)
                server.run(name, f"value = {value}")
                with lock:
                    state[name] = value
                    enough = len(state) >= 5
                if enough:
                    killed.set()
                if (c + i) % 3 == 0:
                    with lock:
                        started.discard(name)  # either way, from here on
                        state.pop(name)
                    server.call("sandbox.stop", sandbox=name)
                    with lock:
                        stopped.add(name)
            except (OSError, json.JSONDecodeError, AssertionError, http.client.HTTPException):
                return

    def kill():
        assert killed.wait(300)
        server.kill()

    in_threads(kill, *[lambda c=c: client(c) for c in range(4)])
    assert len(state) >= 4 and state.keys() <= started
    successor = Server(home=server.home)
    try:
        def running():
            return {b["name"]: b["state"] for b in successor.call("sandbox.list")["sandboxes"]}

        wait_for(lambda: "booting" not in running().values(), what=lambda: str(running()))
        now = running()
        assert started <= now.keys(), (started - now.keys(), successor.log())
        assert not stopped & now.keys(), stopped & now.keys()
        for name, value in state.items():
            assert texts(successor.run(name, "print(value)")) == [str(value)]
            assert texts(successor.call("sandbox.command.run", sandbox=name, command="hostname")) == [name]
        successor.start("new", memory=192)
        finish(successor)
    finally:
        successor.close()


def test_nothing_grows(capsys):
    """`make soak`, short: by rounds, not by time."""
    soak = Soak(cheap=6000)
    try:
        for _ in range(WARM_ROUNDS + 5):
            soak.round()
        soak.check()
        soak.finish()
    finally:
        soak.close()
