# SPDX-License-Identifier: Apache-2.0
"""What the server passes on while it comes: files, output as events, programs on WebSockets."""
import asyncio
import base64
import hashlib
import http.client
import json
import random
import socket
import ssl
import struct
import threading

import pytest

from conftest import MSB, TIMEOUT, certificate, wait_for
from server_client import Server, texts
from stream_client import BINARY, CLOSE, PING, PONG, TEXT, Closed, Events, WebSocket, bytes_of, path_of

MIB = 1 << 20


@pytest.fixture(scope="module")
def server():
    s = Server()
    s.start("py")
    yield s
    assert s.stop() == 0, s.log()
    s.box.assert_nothing_left()
    s.close()


def sh(server, text):
    """Output of a shell command in the sandbox."""
    r = server.call("sandbox.command.run", sandbox="py", command="sh", args=["-c", text])
    assert r["success"], r
    return "\n".join(texts(r))


def figure(server, name):
    text = server.http("GET", "/metrics")[2].decode()
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith(name + " ")))


def put(server, path, body, headers=None, **query):
    status, _, answer = server.http("PUT", path_of("py", "files", path=path, **query), body, headers)
    return status, json.loads(answer)


def get(server, path, **query):
    status, headers, body = server.http("GET", path_of("py", "files", path=path, **query))
    return status, body


def blocks(n, seed=1):
    """n MiB that compress badly and repeat nothing, and their hash."""
    r = random.Random(seed)
    data = [r.randbytes(MIB) for _ in range(4)]
    return [data[i % 4][i:] + data[i % 4][:i] for i in range(n)]


def hash_of(parts):
    h = hashlib.sha256()
    for p in parts:
        h.update(p)
    return h.hexdigest()


# ---- files -----------------------------------------------------------------------------------


def test_100_mb_up_and_down_unchanged(server):
    parts = blocks(100)
    want = hash_of(parts)
    before = figure(server, "process_resident_memory_bytes")
    status, info = put(server, "/root/large", iter(parts), {"Content-Length": str(100 * MIB)})
    assert status == 200 and info["size"] == 100 * MIB and info["type"] == "file"
    assert sh(server, "sha256sum < /root/large").split()[0] == want
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    c.request("GET", path_of("py", "files", path="/root/large"))
    r = c.getresponse()
    assert r.status == 200 and r.getheader("Transfer-Encoding") == "chunked"
    assert r.getheader("Content-Type") == "application/octet-stream"
    h = hashlib.sha256()
    while block := r.read(MIB):
        h.update(block)
    assert h.hexdigest() == want
    c.request("GET", "/api/v1/health")  # the connection lives on
    assert c.getresponse().status == 200
    c.close()
    # Nothing of it was gathered.
    assert figure(server, "process_resident_memory_bytes") - before < 16 * MIB
    assert figure(server, "msb_stream_sent_bytes_total") >= 100 * MIB
    sh(server, "rm /root/large")


def test_a_reader_that_waits_gets_all_and_holds_up_nobody(server):
    sh(server, "head -c 30000000 /dev/urandom > /root/slow")
    want = sh(server, "sha256sum < /root/slow").split()[0]
    before = figure(server, "process_resident_memory_bytes")
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.settimeout(TIMEOUT)
        s.connect(("127.0.0.1", server.port))
        s.sendall(f"GET {path_of('py', 'files', path='/root/slow')} HTTP/1.0\r\n\r\n".encode())
        got = s.recv(1000)
        for i in range(20):  # others are served meanwhile, also from the same sandbox
            assert sh(server, f"echo {i}") == str(i)
        assert figure(server, "msb_streams") == 1
        assert figure(server, "process_resident_memory_bytes") - before < 8 * MIB
        while block := s.recv(1 << 20):
            got += block
    head, body = got.split(b"\r\n\r\n", 1)
    assert b"Connection: close" in head and b"chunked" not in head
    assert len(body) == 30000000 and hashlib.sha256(body).hexdigest() == want
    assert figure(server, "msb_streams") == 0


def test_parts_and_heads(server):
    put(server, "/root/part", b"0123456789")
    assert get(server, "/root/part", offset=3) == (200, b"3456789")
    assert get(server, "/root/part", offset=3, length=4) == (200, b"3456")
    assert get(server, "/root/part", offset=100) == (200, b"")
    status, headers, body = server.http("HEAD", path_of("py", "files", path="/root/part", offset=4))
    assert status == 200 and headers["content-length"] == "6" and body == b""
    assert server.http("HEAD", path_of("py", "files", path="/root/nothing"))[0] == 404
    assert server.http("HEAD", path_of("py", "files", path="/root"))[0] == 400
    # Files whose size says nothing.
    assert get(server, "/proc/self/status")[1].startswith(b"Name:")


def test_what_a_put_may_say(server):
    status, info = put(server, "/root/a/b/f.txt", b"one", parents=1, mode="0640")
    assert status == 200
    assert {k: info[k] for k in ("name", "path", "type", "mode", "uid", "gid", "size")} == {
        "name": "f.txt", "path": "/root/a/b/f.txt", "type": "file", "mode": 0o640, "uid": 0, "gid": 0, "size": 3}
    assert info["mtime"] > 1.6e9
    assert put(server, "/root/a/b/f.txt", iter([b" t", b"wo"]), append="true")[1]["size"] == 7  # in chunks
    assert get(server, "/root/a/b/f.txt") == (200, b"one two")
    status, error = put(server, "/root/a/b/f.txt", b"three", exclusive=1)
    assert status == 400 and error["errno"] == "EEXIST" and error["code"] == 2001
    assert get(server, "/root/a/b/f.txt") == (200, b"one two")
    assert put(server, "/root/empty", b"")[1]["size"] == 0 and get(server, "/root/empty") == (200, b"")
    assert put(server, "/tmp/of-nobody", b"x", user="nobody")[1]["uid"] == 65534
    assert put(server, "/tmp/a b+ü%&=", b"odd", mode="600")[1]["name"] == "a b+ü%&="
    assert get(server, "/tmp/a b+ü%&=") == (200, b"odd")
    status, error = put(server, "/root/denied", b"x", user="nobody")
    assert status == 400 and error["errno"] == "EACCES"


@pytest.mark.parametrize("query,part", [
    ({}, "path"), ({"path": "etc/passwd"}, "absolute"), ({"path": ""}, "path"), ({"path": "/x", "ofset": 1}, "ofset"),
    ({"path": "/x", "offset": "-1"}, "offset"), ({"path": "/x", "offset": "99999999999999999999"}, "offset"),
    ({"path": "/x", "length": "0"}, "length"), ({"path": "/x", "user": ""}, "user"),
    ({"path": "/x", "namespace": "../x"}, "namespace"), ({"path": "/" + "x" * 5000}, "4095"),
])
def test_queries_that_make_no_sense(server, query, part):
    status, _, body = server.http("GET", path_of("py", "files", **query))
    assert status == 400 and part in json.loads(body)["error"]


@pytest.mark.parametrize("query", ["path=/x&path=/y", "path=%zz", "path=%00", "path", "path=/x&mode=0999"])
def test_queries_that_are_malformed(server, query):
    assert server.http("PUT", "/api/v1/sandboxes/py/files?" + query, b"x")[0] == 400


def test_what_is_not_there_is_said_before_any_body(server):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    for path, status, errno in (("/root/none", 404, "ENOENT"), ("/root", 400, "EISDIR"), ("/dev/null", 400, "EINVAL")):
        c.request("GET", path_of("py", "files", path=path))
        r = c.getresponse()
        answer = json.loads(r.read())
        assert (r.status, answer["errno"], answer["path"]) == (status, errno, path)
        assert answer["code"] == (4001 if status == 404 else 2001) and answer["error"]
    c.close()
    status, _, body = server.http("GET", path_of("absent", "files", path="/x"))
    assert status == 404 and json.loads(body)["code"] == 4001 and "absent" in json.loads(body)["error"]
    assert server.http("GET", path_of("-py", "files", path="/x"))[0] == 404
    assert server.http("GET", path_of("py/..", "files", path="/x"))[0] == 404
    status, headers, _ = server.http("POST", path_of("py", "files", path="/x"))
    assert status == 405 and headers["allow"] == "GET, HEAD, PUT, OPTIONS"


def test_a_put_that_cannot_be_is_told_early(server):
    # The client sends on; it gets to read the answer nevertheless.
    status, error = put(server, "/none/f", iter(blocks(4)), {"Content-Length": str(4 * MIB)})
    assert status == 404 and error["errno"] == "ENOENT"
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    c.putrequest("PUT", path_of("absent", "files", path="/f"))
    c.putheader("Content-Length", "1000000")
    c.putheader("Expect", "100-continue")
    c.endheaders()
    assert c.getresponse().status == 404  # and no 100 Continue, which would be an answer of its own here
    c.close()
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    c.putrequest("PUT", path_of("py", "files", path="/root/forgotten"))
    c.endheaders()
    assert c.getresponse().status == 411
    c.close()
    assert get(server, "/root/forgotten")[0] == 404


def test_an_aborted_put_leaves_the_old_file(server):
    put(server, "/root/kept", b"old")
    with server.connect() as s:
        s.sendall(f"PUT {path_of('py', 'files', path='/root/kept')} HTTP/1.1\r\nHost: localhost\r\n"
                  "Content-Length: 10000000\r\n\r\n".encode() + b"x" * 3000000)
        wait_for(lambda: figure(server, "msb_streams") == 1)
    wait_for(lambda: figure(server, "msb_streams") == 0)
    assert get(server, "/root/kept") == (200, b"old")
    with server.connect() as s:  # chunks that break off
        s.sendall(f"PUT {path_of('py', 'files', path='/root/kept')} HTTP/1.1\r\nHost: localhost\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n3\r\nnew\r\nzz\r\n".encode())
        assert b" 400 " in s.recv(65536)
    assert get(server, "/root/kept") == (200, b"old")
    wait_for(lambda: sh(server, "ls -A /root | grep -c kept") == "1")  # and nothing beside it


def test_a_file_that_breaks_off_is_noticed(server):
    server.start("dies")
    status, _, _ = server.http("PUT", path_of("dies", "files", path="/large"), b"x" * (8 * MIB))
    assert status == 200
    connections = []
    for version in ("1.0", "1.1"):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.settimeout(TIMEOUT)
        s.connect(("127.0.0.1", server.port))
        s.sendall(f"GET {path_of('dies', 'files', path='/large')} HTTP/{version}\r\nHost: localhost\r\n\r\n".encode())
        assert s.recv(100).startswith(b"HTTP/1.1 200 OK")
        connections.append(s)
    server.call("sandbox.stop", sandbox="dies")
    with connections[0] as s, pytest.raises(ConnectionResetError):
        while s.recv(65536):
            pass
    with connections[1] as s:
        tail = b""
        try:
            while block := s.recv(65536):
                tail = (tail + block)[-10:]
        except ConnectionResetError:
            pass
        assert not tail.endswith(b"\r\n0\r\n\r\n")


# ---- events ----------------------------------------------------------------------------------


def run(server, command, *args, name="py", **more):
    return list(Events(server, path_of(name, "exec"), {"command": command, "args": list(args), **more}))


def test_output_by_stream_and_the_exit(server):
    got = run(server, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert got[0][0] == "started" and got[0][1]["pid"] > 1
    assert bytes_of(got, "stdout") == b"out\n" and bytes_of(got, "stderr") == b"err\n"
    event, data = got[-1]
    assert event == "exit" and data.pop("duration_ms") > 0
    assert data == {"exit_code": 3, "success": False, "reason": "exited"}
    assert run(server, "true")[-1][1]["success"] is True


def test_output_comes_while_it_is_printed(server):
    e = Events(server, path_of("py", "exec"), {"command": "sh", "args": ["-c", "echo now; exec sleep 1000"]})
    events = iter(e)
    assert [next(events)[0] for _ in range(2)] == ["started", "stdout"]
    assert sh(server, "pgrep -f 'sleep 1000' || true")
    e.close()  # a client that vanishes kills what runs
    wait_for(lambda: not sh(server, "pgrep -f '^sleep 1000' || true"))
    wait_for(lambda: figure(server, "msb_streams") == 0)


def test_signals_and_time_limits(server):
    data = run(server, "sh", "-c", "kill -TERM $$")[-1][1]
    assert (data["exit_code"], data["signal"], data["reason"], data["success"]) == (143, 15, "signal", False)
    got = run(server, "sh", "-c", "echo early; sleep 1000 & sleep 1000", timeout=1)
    assert bytes_of(got, "stdout") == b"early\n"
    assert (got[-1][1]["reason"], got[-1][1]["exit_code"], got[-1][1]["success"]) == ("timeout", 137, False)
    assert sh(server, "pgrep sleep || echo none") == "none"


def test_what_cannot_be_run_is_an_error_event(server):
    got = run(server, "no-such-program")
    assert [e for e, _ in got] == ["error"]
    assert got[0][1]["code"] == -32003 and "no-such-program" in got[0][1]["message"]


def test_standard_input_of_the_request(server):
    text = "ü" * 400000 + "\n"
    got = run(server, "sha256sum", stdin=text)
    assert bytes_of(got, "stdout").split()[0].decode() == hashlib.sha256(text.encode()).hexdigest()
    raw = bytes(range(256)) * 5000
    got = run(server, "cat", stdin_base64=base64.b64encode(raw).decode())
    assert bytes_of(got, "stdout") == raw and any("base64" in d for e, d in got if e == "stdout")
    assert bytes_of(run(server, "cat", stdin=""), "stdout") == b""
    assert bytes_of(run(server, "cat"), "stdout") == b""  # /dev/null


def test_characters_at_borders_stay_whole(server):
    # Three bytes each, from an odd place on: pieces of any even size cut one.
    code = "import sys; sys.stdout.write('a' + '\\u20ac' * 200000)"
    got = run(server, "python3", "-c", code)
    assert all("text" in d for e, d in got if e == "stdout")
    assert bytes_of(got, "stdout").decode() == "a" + "\u20ac" * 200000
    # One that is never completed comes nevertheless.
    got = run(server, "printf", r"a\342\202")
    assert bytes_of(got, "stdout") == b"a\xe2\x82" and [d for e, d in got if e == "stdout"][0] == {"text": "a"}
    assert bytes_of(run(server, "printf", r"\377\303\274"), "stdout") == b"\xff\xc3\xbc"


def test_environment_directory_and_user(server):
    code = "import os; print(os.environ['A'], os.environ['HOME'], os.getcwd(), os.getuid())"
    got = run(server, "python3", "-c", code, env={"A": "b=c", "HOME": "/nowhere"}, cwd="/tmp", user="nobody")
    assert bytes_of(got, "stdout").split() == [b"b=c", b"/nowhere", b"/tmp", b"65534"]


@pytest.mark.parametrize("request_,part", [
    ("{", "Parse error"), ("[]", "Invalid request"), ("[{}]", "object"), ("{}", "command"), ({"command": 1}, "command"),
    ({"command": "x", "tty": True}, "tty"), ({"command": "x", "stdin": "a", "stdin_base64": ""}, "not both"),
    ({"command": "x", "stdin_base64": "?"}, "base64"), ({"command": "x", "env": {"A": 1}}, "env"),
    ({"command": "x", "env": {"A=": "b"}}, "env"), ({"command": "x", "timeout": 0}, "timeout"),
    ({"command": "x", "args": ["y" * 300000]}, "256 KiB"),
])
def test_requests_that_make_no_sense(server, request_, part):
    e = Events(server, path_of("py", "exec"), request_)
    assert e.status == 400 and part in e.error()["error"]
    e.close()


def test_much_output_and_a_slow_reader(server):
    code = "import sys\nfor i in range(300000): print('line', i, 'ü')"
    e = Events(server, path_of("py", "exec"), {"command": "python3", "args": ["-c", code]})
    events = iter(e)
    first = [next(events)]
    before = figure(server, "process_resident_memory_bytes")
    for i in range(10):
        assert sh(server, f"echo {i}") == str(i)
    assert figure(server, "process_resident_memory_bytes") - before < 16 * MIB
    got = first + list(events)
    assert bytes_of(got, "stdout").decode().splitlines() == [f"line {i} ü" for i in range(300000)]
    e.connection.request("GET", "/api/v1/health")  # the connection lives on
    assert e.connection.getresponse().status == 200
    e.close()


def test_code_as_events(server):
    def repl(code, **more):
        e = Events(server, path_of("py", "repl"), {"language": "python", "code": code, **more})
        try:
            return list(e)
        finally:
            e.close()

    assert repl("kept = 41")[-1][1]["status"] == "success"
    got = repl("import sys\nprint('a')\nprint('b', file=sys.stderr)\nkept + 1")
    assert bytes_of(got, "stdout") == b"a\n42\n" and bytes_of(got, "stderr") == b"b\n"
    event, data = got[-1]
    assert event == "done" and data["status"] == "success" and data["language"] == "python" and "output" not in data
    assert data["duration_ms"] > 0
    data = repl("1/0")[-1][1]
    assert data["status"] == "error" and data["reason"] == "exception"
    got = repl("print('early', flush=True)\nwhile True: pass", timeout=1)
    assert bytes_of(got, "stdout") == b"early\n" and b"timed out after 1 seconds" in bytes_of(got, "stderr")
    assert got[-1][1]["reason"] == "timeout"
    long = "s = '" + "a" * 2000000 + "'\nlen(s)"
    assert bytes_of(repl(long), "stdout") == b"2000000\n"
    e = Events(server, path_of("py", "repl"), {"language": "cobol", "code": ""})
    assert e.status == 400 and "cobol" in e.error()["error"]
    e.close()


def test_a_client_that_vanishes_interrupts_its_code(server):
    e = Events(server, path_of("py", "repl"), {"language": "sh", "code": "echo on; exec sleep 2000"})
    assert next(iter(e))[0] == "stdout"
    e.close()
    wait_for(lambda: not sh(server, "pgrep -f '^sleep 2000' || true"))


def test_a_sandbox_that_ends_is_an_error_event(server):
    server.start("ends")
    e = Events(server, path_of("ends", "exec"), {"command": "sleep", "args": ["1000"]})
    events = iter(e)
    assert next(events)[0] == "started"
    server.call("sandbox.stop", sandbox="ends")
    event, data = next(events)
    assert event == "error" and data["code"] == -32002 and "ends" in data["message"]
    assert list(events) == []
    e.close()


# ---- WebSockets --------------------------------------------------------------------------------


def ws(server, name="py", **kwargs):
    return WebSocket(server, path_of(name, "exec"), **kwargs)


def start(w, command, *args, **more):
    w.send_json({"command": command, "args": list(args), **more})
    message = w.message()
    assert message["type"] == "started", message
    return message["pid"]


def test_a_program_on_a_websocket(server):
    with ws(server) as w:
        start(w, "sh", "-c", "read x; echo got $x; echo err >&2; exit 4")
        w.stdin(b"some")
        w.stdin(b"thing\n")
        out, err, last, code = w.run()
        assert (out, err, code) == (b"got something\n", b"err\n", 1000)
        assert last.pop("duration_ms") > 0
        assert last == {"type": "exit", "exit_code": 4, "success": False, "reason": "exited"}
        assert w.at_end()


def test_input_and_output_of_any_size(server):
    parts = blocks(8)
    with ws(server) as w:
        start(w, "cat")

        def feed():
            for p in parts:
                w.stdin(p)
            w.send_json({"type": "eof"})

        feeder = threading.Thread(target=feed)
        feeder.start()
        out, err, last, code = w.run()
        feeder.join(TIMEOUT)
        assert hashlib.sha256(out).hexdigest() == hash_of(parts)
        assert last["exit_code"] == 0 and code == 1000


def test_a_terminal_and_its_size(server):
    with ws(server) as w:
        start(w, "sh", tty=True, rows=30, cols=100, env={"PS1": ""})
        w.stdin(b"stty -echo; stty size; echo ready\n")
        seen = b""
        while b"ready\r\n" not in seen.replace(b"echo ready\r\n", b""):
            opcode, payload = w.recv()
            assert opcode == BINARY and payload[0] == 1  # a terminal has one output
            seen += payload[1:]
        assert b"30 100\r\n" in seen
        w.send_json({"type": "resize", "rows": 51, "cols": 132})
        w.stdin(b"stty size; exit 7\n")
        out, err, last, _ = w.run()
        assert b"51 132\r\n" in out and err == b"" and last["exit_code"] == 7
    with ws(server) as w:  # the end of input is a terminal's ^D
        start(w, "cat", tty=True)
        w.stdin(b"line\n")
        w.send_json({"type": "eof"})
        out, _, last, _ = w.run()
        assert b"line\r\n" in out and last["exit_code"] == 0


@pytest.mark.parametrize("signal,number", [("SIGTERM", 15), ("INT", 2), (9, 9)])
def test_signals_of_a_client(server, signal, number):
    with ws(server) as w:
        start(w, "sleep", "1000")
        w.send_json({"type": "signal", "signal": signal})
        _, _, last, code = w.run()
        assert (last["reason"], last["signal"], last["exit_code"], code) == ("signal", number, 128 + number, 1000)


def test_time_limits_and_what_cannot_run(server):
    with ws(server) as w:
        start(w, "sleep", "1000", timeout=1)
        assert w.run()[2]["reason"] == "timeout"
    with ws(server) as w:
        w.send_json({"command": "no-such-program"})
        _, _, last, code = w.run()
        assert last["type"] == "error" and last["code"] == -32003 and code == 1000
    for request in ({"command": "x", "what": 1}, {}, [], {"command": "x", "rows": 0}):
        with ws(server) as w:
            w.send_json(request)
            _, _, last, code = w.run()
            assert last["type"] == "error" and last["code"] == -32602 and code == 1000


@pytest.mark.parametrize("message", [
    {"type": "resize"}, {"type": "resize", "rows": 0, "cols": 1}, {"type": "signal", "signal": "SIGNOT"},
    {"type": "signal", "signal": 65}, {"type": "other"}, [], "text",
])
def test_messages_that_make_no_sense_end_it(server, message):
    with ws(server) as w:
        start(w, "sleep", "3000")
        w.send_json(message)
        _, _, last, code = w.run()
        assert last["type"] == "error" and last["code"] == -32602 and code == 1000
    wait_for(lambda: not sh(server, "pgrep -f '^sleep 3000' || true"))


def test_pings_fragments_and_the_close_handshake(server):
    with ws(server) as w:
        request = json.dumps({"command": "cat"}).encode()
        w.send(TEXT, request[:5], fin=False)
        w.send(PING, b"in between")
        w.send(0, request[5:9], fin=False)
        w.send(0, b"", fin=False)
        w.send(0, request[9:])
        assert w.recv() == (PONG, b"in between")
        assert w.message()["type"] == "started"
        w.send(BINARY, b"", fin=False)  # the stream's number, and data, anywhere
        w.send(0, b"\0", fin=False)
        w.send(0, b"he", fin=False)
        w.send(PONG, b"nobody asked")
        w.send(0, b"llo")
        got = b""
        while got != b"hello":
            opcode, payload = w.recv()
            assert opcode == BINARY and payload[0] == 1
            got += payload[1:]
        w.send(CLOSE, struct.pack("!H", 4321) + "bye ü".encode())
        with pytest.raises(Closed) as c:
            w.recv()
        assert c.value.code == 4321 and w.at_end()
    with ws(server) as w:  # before there was a request
        w.send(CLOSE)
        with pytest.raises(Closed) as c:
            w.recv()
        assert c.value.code == 1005 and w.at_end()
    wait_for(lambda: figure(server, "msb_streams") == 0)


FRAME = WebSocket.frame
START = FRAME(TEXT, b'{"command":"sleep","args":["4000"]}')
BAD_FRAMES = [
    (1002, b"\x82\x03abc"), (1002, b"\x81\x00"), (1002, bytes([0xc1]) + FRAME(TEXT, b"{}")[1:]),
    (1002, bytes([0x83]) + FRAME(TEXT)[1:]), (1002, bytes([0x8b]) + FRAME(PING)[1:]),
    (1002, FRAME(0, b"x")), (1002, FRAME(BINARY, b"\0", fin=False) + FRAME(BINARY, b"\0")),
    (1002, FRAME(PING, b"x", fin=False)), (1002, FRAME(PING, b"x" * 126)),
    (1002, b"\x82\xfe\x00\x05" + b"\0" * 9), (1002, b"\x82\xff" + b"\0" * 7 + b"\x05" + b"\0" * 9),
    (1002, b"\x82\xff\x80" + b"\0" * 16),
    (1002, FRAME(CLOSE, b"\x03")), (1002, FRAME(CLOSE, struct.pack("!H", 1005))), (1002, FRAME(CLOSE, struct.pack("!H", 999))),
    (1007, FRAME(CLOSE, struct.pack("!H", 1000) + b"\xff")), (1007, FRAME(TEXT, b"\xff")), (1007, FRAME(TEXT, b"\xe2\x82")),
    (1007, FRAME(TEXT, b"\xe2", fin=False) + FRAME(0, b"\x28")), (1007, FRAME(TEXT, b"\xed\xa0\x80")),
    (1009, FRAME(TEXT, b" " * 5000)), (1009, FRAME(TEXT, b" " * 3000, fin=False) + FRAME(0, b" " * 3000)),
    (1009, b"\x81\xff\x7f" + b"\xff" * 7 + b"\0" * 4),
    (1003, FRAME(BINARY, b"\1out")), (1003, FRAME(BINARY, b"\x7f")),
]


@pytest.mark.parametrize("code,frames", BAD_FRAMES)
def test_bad_frames_end_it_with_their_code(server, code, frames):
    with ws(server) as w:
        w.raw(START)
        assert w.message()["type"] == "started"
        w.raw(frames)
        with pytest.raises(Closed) as c:
            w.recv()
        assert c.value.code == code and c.value.reason
        assert w.at_end()
    wait_for(lambda: not sh(server, "pgrep -f '^sleep 4000' || true"))


@pytest.mark.parametrize("code,frames", [
    (1003, FRAME(BINARY, b"\0x")), (1009, FRAME(TEXT, b" " * (MIB + 1))), (1002, b"GET / HTTP/1.1\r\n\r\n"),
])
def test_bad_beginnings(server, code, frames):
    with ws(server) as w:
        try:
            w.raw(frames)
        except OSError:
            pass
        with pytest.raises(Closed) as c:
            w.recv()
        assert c.value.code == code


@pytest.mark.parametrize("headers,status", [
    ({"Upgrade": None}, 426), ({"Connection": "keep-alive"}, 426), ({"Sec-WebSocket-Version": "8"}, 426),
    ({"Sec-WebSocket-Key": "short"}, 400), ({"Sec-WebSocket-Key": None}, 400),
    ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403), ({"Host": "evil.example"}, 403),
    ({"Origin": "http://localhost:3000"}, 101), ({"Upgrade": "h2c, WebSocket", "Connection": "a ,UPGRADE"}, 101),
])
def test_handshakes(server, headers, status):
    with ws(server, headers=headers) as w:
        assert w.status == status
        assert status != 426 or "sec-websocket-version: 13" in w.answer


def test_a_websocket_to_nowhere(server):
    assert ws(server, name="absent").status == 404
    assert server.http("GET", path_of("py", "exec"))[0] == 426
    assert server.http("DELETE", path_of("py", "exec"))[1]["allow"] == "POST, GET, HEAD, OPTIONS"


def test_a_client_that_vanishes_kills_its_program(server):
    with ws(server) as w:
        start(w, "sleep", "5000")
    wait_for(lambda: not sh(server, "pgrep -f '^sleep 5000' || true"))
    with ws(server) as w:
        start(w, "sleep", "5000", tty=True)
    wait_for(lambda: not sh(server, "pgrep -f '^sleep 5000' || true"))


def test_input_that_nobody_takes_stops_the_client(server):
    before = figure(server, "process_resident_memory_bytes")
    with ws(server) as w:
        start(w, "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done")
        w.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            while True:
                w.stdin(b"x" * 60000)
        assert figure(server, "process_resident_memory_bytes") - before < 8 * MIB
        w.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(lambda: figure(server, "msb_streams") == 0)


def test_output_that_nobody_reads_stops_the_program(server):
    with ws(server) as w:
        start(w, "sh", "-c", "yes | head -c 20000000; echo end >&2")
        before = figure(server, "process_resident_memory_bytes")
        for i in range(10):
            assert sh(server, f"echo {i}") == str(i)
        assert figure(server, "process_resident_memory_bytes") - before < 8 * MIB
        out, err, last, _ = w.run()
        assert len(out) == 20000000 and err == b"end\n" and last["exit_code"] == 0


# ---- who may -----------------------------------------------------------------------------------


def test_keys_and_namespaces():
    s = Server(dev=False)
    try:
        def key(ns):
            return s.box.msb("server", "keygen", "--expire", "1h", "-n", ns).stdout.decode().split("msb_")[1].split()[0]

        keys = {ns: "msb_" + key(ns) for ns in ("team-a", "team-b", "*")}
        paths = [("GET", path_of("mine", "files", path="/etc/passwd"), None),
                 ("PUT", path_of("mine", "files", path="/x"), b"x"),
                 ("POST", path_of("mine", "exec"), b'{"command":"true"}'),
                 ("POST", path_of("mine", "repl"), b'{"language":"sh","code":""}')]
        for method, path, body in paths:
            assert s.http(method, path, body)[0] == 401
        assert WebSocket(s, path_of("mine", "exec")).status == 401
        s.key = keys["team-a"]
        s.start("mine")
        assert s.http("GET", path_of("mine", "files", path="/etc/passwd"))[0] == 200
        s.key = keys["team-b"]
        for method, path, body in paths:
            assert s.http(method, path, body)[0] == 404  # not there, for them
            status, _, answer = s.http(method, path + ("&" if "?" in path else "?") + "namespace=team-a", body)
            assert status == 403 and json.loads(answer)["code"] == 3001
        assert WebSocket(s, path_of("mine", "exec", namespace="team-a")).status == 403
        s.key = keys["*"]
        assert s.http("GET", path_of("mine", "files", path="/etc/passwd"))[0] == 404
        assert s.http("GET", path_of("mine", "files", path="/etc/passwd", namespace="team-a"))[0] == 200
        with WebSocket(s, path_of("mine", "exec", namespace="team-a")) as w:
            start(w, "echo", "hello")
            assert w.run()[0] == b"hello\n"
        s.call("sandbox.stop", sandbox="mine", namespace="team-a")
        assert s.stop() == 0
    finally:
        s.close()


async def both_ways(s, context):
    """6 MiB through cat, sent and read at the same time, which threads cannot do with one TLS connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", s.port, ssl=context, server_hostname="127.0.0.1")
    writer.write((f"GET {path_of('py', 'exec')} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                  "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")

    async def feed():
        writer.write(FRAME(TEXT, b'{"command":"cat"}'))
        for p in blocks(6):
            writer.write(FRAME(BINARY, b"\0" + p))
            await writer.drain()
        writer.write(FRAME(TEXT, b'{"type":"eof"}'))

    feeder, h = asyncio.create_task(feed()), hashlib.sha256()
    while True:
        opcode, n = await reader.readexactly(2)
        if n == 126:
            n = struct.unpack("!H", await reader.readexactly(2))[0]
        payload = await reader.readexactly(n)
        if opcode == 0x80 | BINARY:
            h.update(payload[1:])
        elif opcode == 0x80 | CLOSE:
            break
    await feeder
    writer.close()
    return h.hexdigest()


def test_through_tls(tmp_path):
    cert, key = certificate(tmp_path)
    s = Server("--tls-cert", cert, "--tls-key", key)
    context = ssl.create_default_context(cafile=cert)
    plain, s.connect = s.connect, lambda: context.wrap_socket(plain(), server_hostname="127.0.0.1")
    s.http = lambda method, path, body=None, headers=None: tls(method, path, body, headers)

    def tls(method, path, body=None, headers=None):
        c = http.client.HTTPSConnection("127.0.0.1", s.port, timeout=TIMEOUT, context=context)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
        finally:
            c.close()

    try:
        s.start("py")
        parts = blocks(6)
        assert put(s, "/root/f", iter(parts), {"Content-Length": str(6 * MIB)})[0] == 200
        assert hashlib.sha256(get(s, "/root/f")[1]).hexdigest() == hash_of(parts)
        with ws(s) as w:
            start(w, "cat")
            got = b""
            for p in parts:
                w.stdin(p[:200000])
                want = len(got) + 200000
                while len(got) < want:
                    got += w.recv()[1][1:]
            assert got == b"".join(p[:200000] for p in parts)
            w.send_json({"type": "eof"})
            assert w.run()[2]["exit_code"] == 0
        assert asyncio.run(both_ways(s, context)) == hash_of(parts)
        assert s.stop() == 0
    finally:
        s.close()
