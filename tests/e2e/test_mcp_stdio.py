# SPDX-License-Identifier: Apache-2.0
"""`msb mcp`: the Model Context Protocol on standard input and output."""
import json
import os
import shutil
import signal
import socket
import subprocess

import pytest

from conftest import MSB, TIMEOUT, Box, make_home, wait_for

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
PONG = {"jsonrpc": "2.0", "id": 1, "result": {}}


@pytest.fixture
def box():
    b = Box(make_home())
    yield b
    for pid in b.processes():
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(b.home, ignore_errors=True)


class Agent:
    """The program that starts `msb mcp`."""

    def __init__(self, box, *args, **kwargs):
        kwargs.setdefault("stdin", subprocess.PIPE)
        kwargs.setdefault("stdout", subprocess.PIPE)
        self.p = subprocess.Popen([MSB, "mcp", *args], stderr=subprocess.PIPE, env=box.env, **kwargs)
        self.id = 0
        self.notes = []

    def say(self, *lines):
        for line in lines:
            self.p.stdin.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
        self.p.stdin.flush()

    def hear(self):
        line = self.p.stdout.readline()
        assert line.endswith(b"\n"), self.p.stderr.read()
        return json.loads(line)

    def ask(self, method, **params):
        self.id += 1
        self.say({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params})
        while (m := self.hear()).get("id") != self.id:
            self.notes.append(m)
        return m

    def tool(self, name, **arguments):
        r = self.ask("tools/call", name=name, arguments=arguments)["result"]
        assert not r["isError"], r
        return r["structuredContent"]

    def start(self, name="a"):
        return self.tool("sandbox_start", sandbox=name, config={"image": "python"})

    def end(self):
        """As the specification has it: the input is closed."""
        self.p.stdin.close()
        rest = self.p.stdout.read()
        assert self.p.wait(TIMEOUT) == 0, self.p.stderr.read()
        return rest


def run(box, data, *args):
    """All of the input at once. Returns the answers."""
    p = subprocess.run([MSB, "mcp", *args], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=box.env, timeout=TIMEOUT)
    assert p.returncode == 0, p.stderr
    return [json.loads(line) for line in p.stdout.splitlines()]


def left(box):
    """Directories of sandboxes and namespaces."""
    return os.listdir(box.home / "mcp")


def family(pid):
    """The descendants of a process, each with its start time: {(pid, time)}."""
    parents = {}
    for d in os.listdir("/proc"):
        if d.isdigit():
            try:
                with open(f"/proc/{d}/stat") as f:
                    stat = f.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if stat[0] != "Z":
                parents[int(d), stat[19]] = int(stat[1])
    found, more = set(), {pid}
    while more:
        new = {p for p, parent in parents.items() if parent in more} - found
        found |= new
        more = {p for p, _ in new}
    return found


def lives(process):
    pid, since = process
    try:
        with open(f"/proc/{pid}/stat") as f:
            stat = f.read().rsplit(")", 1)[1].split()
    except OSError:
        return False
    return stat[0] != "Z" and stat[19] == since


def assert_gone(box):
    box.assert_nothing_left()
    wait_for(lambda: not left(box), what=lambda: str(left(box)))


def test_messages_are_lines(box):
    ping = json.dumps(PING).encode()
    assert run(box, ping) == [PONG]  # the end of the input ends the line, too
    assert run(box, b"\n \r\n\t" + ping + b"\r\n\n") == [PONG]
    assert run(box, b"") == []
    assert [a["id"] for a in run(box, b"".join(b'{"jsonrpc":"2.0","id":%d,"method":"ping"}\n' % i for i in range(5000)))] == list(range(5000))
    assert left(box) == []


def test_input_and_output_that_are_files(box, tmp_path):
    (tmp_path / "in").write_bytes((json.dumps(PING).encode() + b"\n") * 3000)
    with open(tmp_path / "in", "rb") as i, open(tmp_path / "out", "wb") as o:
        assert subprocess.run([MSB, "mcp"], stdin=i, stdout=o, env=box.env, timeout=TIMEOUT).returncode == 0
    assert (tmp_path / "out").read_bytes().splitlines() == [b'{"jsonrpc":"2.0","result":{},"id":1}'] * 3000


def test_input_and_output_that_are_sockets(box):
    """Some programs give their children sockets instead of pipes, and shut down their half."""
    (a, b), (c, d) = socket.socketpair(), socket.socketpair()
    agent = Agent(box, stdin=b, stdout=d)
    b.close(), d.close()
    c.shutdown(socket.SHUT_WR)
    with a, c, c.makefile("rb") as out:
        a.sendall(json.dumps(PING).encode() + b"\n")
        assert json.loads(out.readline()) == PONG
        a.shutdown(socket.SHUT_WR)
        assert out.read() == b""
    assert agent.p.wait(TIMEOUT) == 0


def test_hostile_input(box):
    agent = Agent(box)
    for line, code in [(b"{\n", -32700), (b"\xff\xfe\n", -32700), (b"\0\n", -32700), (b"[]\n", -32600), (b"7\n", -32700),
                       (b"[" * 70 + b"]" * 70 + b"\n", -32700), (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}\n', -32700),
                       (b'{"jsonrpc":"2.0","id":null,"method":"ping"}\n', -32600),
                       (b'{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}\n', -32600),
                       (b'{"jsonrpc":"2.0","id":9,"method":"ping\\u0000"}\n', -32700),
                       (b"x" * (18 << 20) + b"\n", -32700)]:
        agent.say(line)
        assert agent.hear()["error"]["code"] == code, line[:80]
    # What needs no answer gets none.
    agent.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": {}}},
              {"jsonrpc": "2.0", "method": "no/such"}, {"jsonrpc": "2.0", "id": 3, "result": 1}, PING)
    assert agent.hear() == PONG
    long = "i" * 100000
    agent.say({"jsonrpc": "2.0", "id": long, "method": "ping"})
    assert agent.hear()["id"] == long
    agent.say([PING])  # until a version is agreed on, as lenient as all of them
    assert agent.hear() == [PONG]
    assert agent.ask("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "t", "version": "1"})["result"]
    agent.say([PING])
    assert agent.hear()["error"]["code"] == -32600
    assert "error" in agent.ask("initialize", protocolVersion="2025-06-18")
    assert agent.end() == b""


def test_a_client_that_does_not_read(box):
    agent = Agent(box)
    n = 4000
    line = json.dumps({**PING, "method": "tools/list"}).encode() + b"\n"
    fd = agent.p.stdin.fileno()
    os.set_blocking(fd, False)
    sent, data = 0, line * n
    # It stops reading us when it cannot write any more.
    while sent < len(data):
        try:
            sent += os.write(fd, data[sent:sent + 65536])
        except BlockingIOError:
            with open(f"/proc/{agent.p.pid}/statm") as f:
                assert int(f.read().split()[1]) * 4096 < 64 << 20
            os.set_blocking(fd, True)
            for _ in range(100):
                assert agent.hear()["result"]["tools"]
            os.set_blocking(fd, False)
    agent.p.stdin.close()
    assert agent.p.stdout.read().endswith(b"}\n")
    assert agent.p.wait(TIMEOUT) == 0


def test_an_agents_work(box):
    agent = Agent(box)
    assert agent.ask("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "t", "version": "1"})
    tools = agent.ask("tools/list")["result"]["tools"]
    assert all("namespace" not in t["inputSchema"]["properties"] for t in tools)  # there is one
    agent.id += 1
    agent.say({"jsonrpc": "2.0", "id": agent.id, "method": "tools/call", "params": {
        "name": "sandbox_start", "arguments": {"sandbox": "a", "config": {"image": "python"}}, "_meta": {"progressToken": "p"}}})
    notes = []
    while "id" not in (m := agent.hear()):
        notes.append(m["params"])
    assert m["result"]["structuredContent"]["message"] == "Sandbox a started successfully"
    assert notes[0]["progressToken"] == "p" and notes[0]["message"] == "booting"
    assert agent.tool("sandbox_run_code", sandbox="a", language="python", code="print('hi')")["output"][0]["text"] == "hi"
    # While one call runs others are answered, and it can be cancelled.
    agent.say({"jsonrpc": "2.0", "id": "spin", "method": "tools/call", "params": {
        "name": "sandbox_run_command", "arguments": {"sandbox": "a", "command": "sh", "args": ["-c", "echo $$ > /tmp/p; exec sleep 100000"]}}})

    def spins():
        return agent.tool("sandbox_run_command", sandbox="a", command="sh", args=["-c", 'kill -0 "$(cat /tmp/p)"'])["success"]

    wait_for(spins)
    agent.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "spin"}})
    wait_for(lambda: not spins())
    assert agent.notes == [] and agent.end() == b""
    assert_gone(box)


@pytest.mark.parametrize("how", ["eof", "SIGTERM", "SIGINT", "SIGKILL", "output", "eof then SIGTERM"])
def test_every_end_leaves_nothing(box, how):
    agent = Agent(box)
    agent.start()
    agent.say({"jsonrpc": "2.0", "id": "spin", "method": "tools/call", "params": {
        "name": "sandbox_run_command", "arguments": {"sandbox": "a", "command": "sleep", "args": ["100000"]}}})
    agent.start("b")
    processes = family(agent.p.pid)
    assert len(processes) >= 4  # two supervisors and two virtual machines, at least
    if how == "output":
        agent.p.stdout.close()
        agent.say(PING)
    if how.startswith("eof"):
        agent.p.stdin.close()
    if "SIG" in how:
        agent.p.send_signal(getattr(signal, how.split()[-1]))
    assert agent.p.wait(TIMEOUT) == (-signal.SIGKILL if how == "SIGKILL" else 0)
    wait_for(lambda: not any(map(lives, processes)), what=lambda: str(box.processes()))
    if how == "SIGKILL":
        # Its empty directories are the next one's to clear away.
        wait_for(lambda: not os.listdir(box.home / "mcp" / f"agent-{agent.p.pid}/menv"))
        run(box, b"")
    assert left(box) == []


def test_agents_do_not_see_each_other(box):
    one, two = Agent(box), Agent(box)
    one.start("same")
    two.start("same")
    one.tool("sandbox_run_command", sandbox="same", command="touch", args=["/tmp/mine"])
    assert not two.tool("sandbox_run_command", sandbox="same", command="test", args=["-e", "/tmp/mine"])["success"]
    assert len(one.tool("sandbox_list")["sandboxes"]) == 1
    r = one.ask("tools/call", name="sandbox_list", arguments={"namespace": f"agent-{two.p.pid}"})["result"]
    assert r["isError"] and "Access denied" in r["content"][0]["text"]
    one.end()
    assert two.tool("sandbox_run_command", sandbox="same", command="true")["success"]
    two.end()
    assert_gone(box)


def test_sandboxes_that_are_kept(box):
    first = Agent(box, "--keep", "-n", "work")
    first.start("kept")
    first.tool("sandbox_run_command", sandbox="kept", command="touch", args=["/tmp/mine"])
    first.end()
    listed = json.loads(box.msb("server", "list", "--json", "--path", str(box.home / "mcp")).stdout)
    assert [(b["namespace"], b["name"]) for b in listed] == [("work", "kept")]
    # Another that does not keep its own leaves this one alone.
    other = Agent(box, "-n", "work")
    assert [b["name"] for b in other.tool("sandbox_list")["sandboxes"]] == ["kept"]
    other.start("own")
    other.end()
    last = Agent(box, "--keep", "-n", "work")
    assert [b["name"] for b in last.tool("sandbox_list")["sandboxes"]] == ["kept"]
    assert last.tool("sandbox_run_command", sandbox="kept", command="test", args=["-e", "/tmp/mine"])["success"]
    last.tool("sandbox_stop", sandbox="kept")
    last.end()
    assert_gone(box)


def test_limits_and_usage(box):
    agent = Agent(box, "--max-sandboxes", "1")
    agent.start()
    r = agent.ask("tools/call", name="sandbox_start", arguments={"sandbox": "b", "config": {"image": "python"}})["result"]
    assert r["isError"] and "limit 1" in r["content"][0]["text"]
    agent.end()
    for args, word in [(["--namespace", "../x"], "--namespace"), (["--max-sandboxes", "0"], "--max-sandboxes"), (["x"], "'x'"),
                       (["--log-level", "loud"], "--log-level"), (["--port", "1"], "--port")]:
        p = box.msb("mcp", *args)
        assert p.returncode == 2 and word in p.stderr.decode() and p.stdout == b"", args


def test_standard_output_is_for_the_protocol(box):
    p = subprocess.run([MSB, "mcp", "--log-level", "debug"], input=b"{\n", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       env=box.env, timeout=TIMEOUT)
    assert len(p.stdout.splitlines()) == 1 and b"event=start" in p.stderr
