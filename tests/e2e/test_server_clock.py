# SPDX-License-Identifier: Apache-2.0
"""What the server does after a while: seconds to half an hour, by a clock that the tests move on."""
import http.client
import json
import mmap
import struct
import subprocess

import pytest

from conftest import BUILD, ROOT, TIMEOUT, wait_for
from server_client import Server
from stream_client import BINARY, PING, PONG, Closed, Events, WebSocket, path_of

MINUTE = 60


class Clock:
    """The server's monotonic clock. What is moved is moved for all that it is doing."""

    def __init__(self, path):
        path.write_bytes(bytes(8))
        with open(path, "r+b") as f:
            self.shared = mmap.mmap(f.fileno(), 8)

    def advance(self, seconds):
        self.shared[:] = struct.pack("<d", struct.unpack("<d", self.shared[:])[0] + seconds)


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """A server with one sandbox, and its clock."""
    library = BUILD / "tests/clock-shift.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(ROOT / "tests/e2e/clock_shift.c")],
                   check=True)
    path = tmp_path_factory.mktemp("clock") / "shift"
    clock = Clock(path)
    server = Server(prefix=["env", f"LD_PRELOAD={library}", f"CLOCK_SHIFT={path}"])
    server.start("py")
    for fifo in ("a", "b"):
        assert server.call("sandbox.command.run", sandbox="py", command="mkfifo", args=[f"/tmp/{fifo}"])["success"]
    yield server, clock
    assert server.stop() == 0, server.log()
    server.box.assert_nothing_left()
    server.close()


def lines_of(events):
    """What comes of an answer, without the empty lines."""
    for line in events.response:
        if line != b"\n":
            yield line.decode().rstrip("\n")


def test_a_silent_stream_has_a_comment_every_15_seconds(shifted):
    server, clock = shifted
    events = Events(server, path_of("py", "exec"), {"command": "sh", "args": ["-c", "read x < /tmp/a; echo $x; sleep 1000"]})
    lines = lines_of(events)
    assert next(lines) == "event: started" and next(lines).startswith("data: ")
    # Not before: what comes next is what the program is made to say after 14 seconds.
    clock.advance(14)
    server.call("sandbox.command.run", sandbox="py", command="sh", args=["-c", "echo hello > /tmp/a"])
    assert next(lines) == "event: stdout" and "hello" in next(lines)
    for _ in range(3):
        clock.advance(15)
        assert next(lines) == ": still running"
    events.close()


def test_a_socket_is_pinged_every_30_seconds(shifted):
    server, clock = shifted
    ws = WebSocket(server, path_of("py", "exec"))
    ws.send_json({"command": "cat"})
    assert ws.message()["type"] == "started"
    clock.advance(29)
    ws.stdin(b"hello")
    assert ws.recv() == (BINARY, b"\1hello")
    for _ in range(4):  # it answers, so this may go on for ever
        clock.advance(30)
        assert ws.recv()[0] == PING
        ws.send(PONG)
        ws.stdin(b"on")
        assert ws.recv() == (BINARY, b"\1on")
    ws.send_json({"type": "eof"})
    assert ws.run()[2]["exit_code"] == 0
    ws.socket.close()


def test_who_answers_no_ping_is_gone(shifted):
    """Two in a row may go unanswered; then the program is killed: the reader of its FIFO sees the end."""
    server, clock = shifted
    ws = WebSocket(server, path_of("py", "exec"))
    ws.send_json({"command": "sh", "args": ["-c", "exec 3> /tmp/b; echo on; exec sleep 1000"]})
    assert ws.message()["type"] == "started"
    reader = Events(server, path_of("py", "exec"), {"command": "cat", "args": ["/tmp/b"]})
    assert ws.recv() == (BINARY, b"\1on\n")
    for _ in range(3):  # the first follows on a sign of life: the request
        clock.advance(30)
        assert ws.recv() == (PING, b"")
    clock.advance(30)
    with pytest.raises(ConnectionResetError):
        ws.recv()
    assert [e for e, _ in reader][-1] == "exit"
    reader.close()
    ws.socket.close()


def test_a_sockets_request_has_20_seconds(shifted):
    server, clock = shifted
    ws = WebSocket(server, path_of("py", "exec"))
    clock.advance(19)
    ws.send(PING, b"still here")
    assert ws.recv() == (PONG, b"still here")  # which does not prolong it
    clock.advance(1)
    with pytest.raises(Closed) as closed:
        ws.recv()
    assert (closed.value.code, closed.value.reason) == (1008, "the request took too long to arrive")
    ws.socket.close()


HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
BOTH = "application/json, text/event-stream"


def mcp_headers(session=None):
    return {"Content-Type": "application/json", "Accept": BOTH, **({"Mcp-Session-Id": session} if session else {})}


def mcp(server, method, session=None, params=None):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}})
    return server.http("POST", "/mcp", body, mcp_headers(session))


def sessions(server):
    text = server.http("GET", "/metrics")[2].decode()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("msb_mcp_sessions ")))


def test_a_session_of_an_agent_ends_after_30_unused_minutes(shifted):
    server, clock = shifted
    used, unused = (mcp(server, "initialize", params=HELLO)[1]["mcp-session-id"] for _ in range(2))
    clock.advance(29 * MINUTE)
    assert mcp(server, "ping", used)[0] == 200  # which begins its half hour anew
    assert sessions(server) == 2
    clock.advance(2 * MINUTE)
    wait_for(lambda: sessions(server) == 1)
    assert mcp(server, "ping", unused)[0] == 404
    assert mcp(server, "ping", used)[0] == 200
    clock.advance(30 * MINUTE)
    wait_for(lambda: sessions(server) == 0)
    assert mcp(server, "ping", used)[0] == 404


def test_a_session_in_which_a_call_runs_is_used(shifted):
    server, clock = shifted
    session = mcp(server, "initialize", params=HELLO)[1]["mcp-session-id"]
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    arguments = {"sandbox": "py", "command": "cat", "args": ["/tmp/a"]}
    c.request("POST", "/mcp", json.dumps({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "sandbox_run_command", "arguments": arguments}}), mcp_headers(session))
    # Where it is worked on, other requests are answered.
    assert server.http("GET", "/api/v1/health")[0] == 200
    clock.advance(6)  # now the answer begins, and has comments
    answer = c.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream"
    clock.advance(31 * MINUTE)
    while not answer.readline().startswith(b":"):
        pass
    assert server.http("GET", "/api/v1/health")[0] == 200  # so all that was due is done
    assert sessions(server) == 1 and mcp(server, "ping", session)[0] == 200
    server.call("sandbox.command.run", sandbox="py", command="sh", args=["-c", "echo hello > /tmp/a"])
    assert b"hello" in answer.read()
    c.close()
    clock.advance(31 * MINUTE)
    wait_for(lambda: sessions(server) == 0)
