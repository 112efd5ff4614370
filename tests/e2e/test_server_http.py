# SPDX-License-Identifier: Apache-2.0
"""The server's HTTP side: routes, keys, limits, and clients that mean no good. No VM needed."""
import base64
import hashlib
import hmac
import json
import os
import shutil
import socket
import struct
import subprocess
import threading
import time

import pytest

from conftest import MSB, ROOT, TIMEOUT, Box, make_home, wait_for
from server_client import RpcError, Server


@pytest.fixture(scope="module")
def server():
    s = Server()
    yield s
    assert s.stop() == 0, s.log()
    s.close()


def raw(server, data, shut=False):
    """Sends bytes, returns all that comes until the server closes."""
    with server.connect() as s:
        s.sendall(data)
        if shut:
            s.shutdown(socket.SHUT_WR)
        got = b""
        while block := s.recv(65536):
            got += block
        return got


def head(path="/api/v1/rpc", *lines, method="POST", host="localhost"):
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


# ---- what is there -----------------------------------------------------------------------


def test_health(server):
    status, headers, body = server.http("GET", "/api/v1/health")
    assert status == 200 and json.loads(body) == {"message": "Service is healthy"}
    assert headers["content-type"] == "application/json" and "date" in headers
    status, headers, body = server.http("HEAD", "/api/v1/health")
    assert status == 200 and headers["content-length"] == "32" and body == b""


def test_the_schema_is_served_as_it_is(server):
    status, _, body = server.http("GET", "/api/v1/openrpc.json")
    assert status == 200 and json.loads(body) == json.loads((ROOT / "api/openrpc.json").read_text())


def test_every_method_of_the_schema_exists(server):
    for method in json.loads((ROOT / "api/openrpc.json").read_text())["methods"]:
        status, answer = server.post({"jsonrpc": "2.0", "id": 1, "method": method["name"], "params": {"sandbox": 1}})
        assert answer.get("error", {"code": 0})["code"] in (-32602, 0), method["name"]


def test_metrics_are_prometheus(server):
    status, headers, body = server.http("GET", "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    values = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
    assert float(values["msb_http_requests_total"]) >= 1 and float(values["msb_connections"]) == 1
    assert 1 << 20 < float(values["process_resident_memory_bytes"]) < 64 << 20


@pytest.mark.parametrize("method,path,status", [
    ("GET", "/", 404), ("GET", "/api/v1/rpc", 405), ("POST", "/api/v1/health", 405), ("GET", "/api/v1/rpc/../health", 404),
    ("DELETE", "/api/v1/rpc", 405), ("POST", "/api/v1/nothing", 404), ("GET", "/api/v1/health?x=/../y", 200),
    ("GET", "/%61pi/v1/health", 404),
])
def test_paths_and_methods(server, method, path, status):
    got, headers, body = server.http(method, path)
    assert got == status
    if status != 200:
        assert set(json.loads(body)) == {"error", "code"}
    assert ("allow" in headers) == (status == 405)


def test_older_paths(server):
    request = {"jsonrpc": "2.0", "id": 1, "method": "sandbox.stop", "params": {"sandbox": "absent"}}
    status, answer = server.post(request, path="/api/v1/sandbox/stop")
    assert status == 404 and answer["error"]["code"] == -32001
    status, answer = server.post(request, path="/api/v1/sandbox/start")
    assert status == 400 and answer["error"]["code"] == -32600 and "sandbox.start" in answer["error"]["message"]
    for path in ("repl/run", "command/run", "metrics/get"):
        assert server.post("{}", path="/api/v1/sandbox/" + path)[0] == 400


# ---- JSON-RPC ------------------------------------------------------------------------------


@pytest.mark.parametrize("text,status,code,id_", [
    ("", 400, -32700, None), ("{", 400, -32700, None), ("\xff\xfe", 400, -32700, None), ("[" * 5000, 400, -32700, None),
    ("[]", 400, -32600, None), ("{}", 400, -32600, None), ('{"jsonrpc":"1.0","id":3,"method":"sandbox.list"}', 400, -32600, 3),
    ('{"jsonrpc":"2.0","id":"x","method":"no.such"}', 404, -32601, "x"),
    ('{"jsonrpc":"2.0","id":1,"method":"sandbox.stop"}', 400, -32602, 1),
    ('{"jsonrpc":"2.0","id":1,"method":"sandbox.stop","params":["a"]}', 400, -32602, 1),
])
def test_bad_calls(server, text, status, code, id_):
    got, answer = server.post(text.encode("latin-1"))
    assert got == status and answer["jsonrpc"] == "2.0" and answer["id"] == id_
    assert answer["error"]["code"] == code and answer["error"]["message"]


def test_messages_are_those_that_clients_know(server):
    assert server.post('{"id":1}')[1]["error"]["message"] == "Invalid or missing jsonrpc version field"
    assert server.post('{"jsonrpc":"2.0","id":1,"method":"X"}')[1]["error"]["message"] == "Method not found: X"


def test_a_call_without_id_is_answered_without(server):
    status, answer = server.post({"jsonrpc": "2.0", "method": "sandbox.list"})
    assert status == 200 and answer == {"jsonrpc": "2.0", "result": {"sandboxes": []}}


def test_batches(server):
    call = {"jsonrpc": "2.0", "id": 1, "method": "sandbox.list"}
    status, answers = server.post([call, {**call, "id": "b", "method": "x"}, 5, {**call, "id": None}])
    assert status == 200 and [a["id"] for a in answers] == [1, "b", None, None]
    assert [("result" in a) for a in answers] == [True, False, False, True]
    notification = {"jsonrpc": "2.0", "method": "sandbox.list"}
    status, answers = server.post([notification, call])
    assert status == 200 and [a["id"] for a in answers] == [1]
    assert server.post([notification]) == (204, None)
    status, answer = server.post([call] * 65)
    assert status == 400 and answer["error"]["code"] == -32600


# ---- connections ---------------------------------------------------------------------------


def test_keep_alive_and_pipelining(server):
    one = head("/api/v1/health", method="GET")
    with server.connect() as s:
        s.sendall(one * 500)
        want, got = 500, b""
        while got.count(b"Service is healthy") < want:
            block = s.recv(65536)
            assert block
            got += block
        s.sendall(head("/api/v1/health", "Connection: close", method="GET"))
        rest = b""
        while block := s.recv(65536):
            rest += block
        assert b"Connection: close" in rest


def test_a_client_that_does_not_read_is_not_read(server):
    one = head("/api/v1/openrpc.json", method="GET")
    before = int(float(server.http("GET", "/metrics")[2].split(b"process_resident_memory_bytes ")[-1]))
    with server.connect() as s:
        s.settimeout(1)
        try:
            for _ in range(2000):
                s.sendall(one * 50)
        except TimeoutError:
            pass
        after = int(float(server.http("GET", "/metrics")[2].split(b"process_resident_memory_bytes ")[-1]))
        assert after - before < 8 << 20


def test_requests_in_small_pieces(server):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "sandbox.list"}).encode()
    data = head("/api/v1/rpc", f"Content-Length: {len(body)}", "Connection: close") + body
    with server.connect() as s:
        for i in range(len(data)):
            s.sendall(data[i:i + 1])
        got = b""
        while block := s.recv(65536):
            got += block
    assert b"200 OK" in got and b'"sandboxes":[]' in got


def test_chunked_body_and_continue(server):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "sandbox.list"}).encode()
    with server.connect() as s:
        s.sendall(head("/api/v1/rpc", "Transfer-Encoding: chunked", "Expect: 100-continue", "Connection: close"))
        assert s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:7], body[7:])) + b"0\r\n\r\n")
        assert b"200 OK" in s.recv(65536)


def test_a_large_body_is_refused_before_it_comes(server):
    got = raw(server, head("/api/v1/rpc", "Content-Length: 100000000"))
    assert b" 413 " in got and b"Connection: close" in got


def test_a_body_in_chunks_ends_at_the_limit(server):
    with server.connect() as s:
        s.sendall(head("/api/v1/rpc", "Transfer-Encoding: chunked"))
        try:
            for _ in range(20):
                s.sendall(b"100000\r\n" + b" " * 0x100000 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            assert b" 413 " in s.recv(65536)
        except ConnectionResetError:
            pass
    assert server.http("GET", "/api/v1/health")[0] == 200


SMUGGLING = [
    head("/api/v1/rpc", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    head("/api/v1/rpc", "Content-Length: 5", "Content-Length: 6") + b"hello",
    head("/api/v1/rpc", "Content-Length: +5") + b"hello",
    head("/api/v1/rpc", "Content-Length : 5") + b"hello",
    head("/api/v1/rpc", "X: a\r\n folded"),
    head("/api/v1/rpc", "X: a\x00b"),
    head("/api/v1/rpc", "X: a\rb"),
    head("/api/v1/rpc", "Transfer-Encoding: chunked") + b"zz\r\n",
    head("/api/v1/rpc", ": x"),
    b"POST /api/v1/rpc HTTP/1.1\nHost: a\n\n",
    b"POST /api/v1/rpc HTTP/1.1\r\n\r\n",
    b"GET /api/v1/health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /api/v1/health\r\n\r\n",
    b"GET /api/v1/\x01health HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("data", SMUGGLING)
def test_what_two_parsers_may_read_differently_is_refused(server, data):
    got = raw(server, data + head("/api/v1/health", method="GET"))
    assert got.startswith(b"HTTP/1.1 400 ") or got.startswith(b"HTTP/1.1 505 ")
    assert got.count(b"HTTP/1.1 ") == 1 and b"healthy" not in got and b"Connection: close" in got


def test_heads_without_end(server):
    assert b" 431 " in raw(server, b"GET / HTTP/1.1\r\nX: " + b"a" * 20000)
    assert b" 431 " in raw(server, head("/", *[f"X{i}: 1" for i in range(100)]))
    assert b" 414 " in raw(server, head("/" + "a" * 9000))


def test_slow_clients_are_cut_off_and_hold_up_nobody(server):
    def slow(data, results, i):
        got = b""
        with server.connect() as s:
            s.sendall(data[:-30])
            for b in data[-30:]:
                try:
                    s.sendall(bytes([b]))
                    s.settimeout(1)
                    block = s.recv(65536)
                    if not block:
                        break
                    got += block
                except TimeoutError:
                    pass
                except OSError:
                    break
        results[i] = got

    header = head("/api/v1/rpc", *[f"X{i}: y" for i in range(40)])
    results = [None] * 20
    threads = [threading.Thread(target=slow, args=(header, results, i)) for i in range(20)]
    for t in threads:
        t.start()
    for _ in range(20):
        assert server.http("GET", "/api/v1/health")[0] == 200
    for t in threads:
        t.join()
    assert all(b" 408 " in r for r in results), results


def test_a_thousand_connections(server):
    socks = [server.connect() for _ in range(1000)]
    try:
        for s in socks:
            s.sendall(head("/api/v1/health", method="GET"))
        for s in socks:
            assert b"200 OK" in s.recv(4096)
        assert server.http("GET", "/api/v1/health")[0] == 200
    finally:
        for s in socks:
            s.close()
    wait_for(lambda: server.fds() < 50)


def test_vanishing_clients_leave_nothing(server):
    before = server.fds()
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "sandbox.list"}).encode()
    data = head("/api/v1/rpc", f"Content-Length: {len(body)}") + body
    for cut in range(0, len(data), 3):
        with server.connect() as s:
            s.sendall(data[:cut])
            if cut % 2:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(lambda: server.fds() <= before)


# ---- pages in browsers -----------------------------------------------------------------------


def test_foreign_pages_and_rebound_names_are_refused_without_keys(server):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "sandbox.list"})
    for headers, status in [({}, 200), ({"Origin": "http://localhost:3000"}, 200), ({"Origin": "http://127.0.0.1"}, 200),
                            ({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403),
                            ({"Origin": "http://localhost.evil.example"}, 403), ({"Origin": "http://127.0.0.1.evil.example"}, 403),
                            ({"Host": "evil.example:5555"}, 403), ({"Host": "[::1]:5555"}, 200)]:
        assert server.http("POST", "/api/v1/rpc", body, headers)[0] == status, headers


def test_preflight(server):
    status, headers, _ = server.http("OPTIONS", "/api/v1/rpc", headers={"Origin": "http://localhost:3000"})
    assert status == 204 and headers["access-control-allow-origin"] == "http://localhost:3000"
    assert {"GET", "POST", "PUT", "DELETE"} <= set(headers["access-control-allow-methods"].split(", "))
    assert {"Authorization", "Accept", "Content-Type"} <= set(headers["access-control-allow-headers"].split(", "))
    assert server.http("OPTIONS", "/api/v1/rpc", headers={"Origin": "http://evil.example"})[0] == 403


# ---- keys -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked():
    s = Server(dev=False)
    yield s
    assert s.stop() == 0, s.log()
    s.close()


def keygen(server, *args):
    p = server.box.msb("server", "keygen", *args)
    assert p.returncode == 0, p.stderr
    lines = dict(line.split(": ", 1) for line in p.stdout.decode().splitlines())
    assert lines["Token"].startswith("msb_") and lines["Token expires"].endswith("+00:00")
    return lines["Token"]


LIST = {"jsonrpc": "2.0", "id": 1, "method": "sandbox.list"}


def with_key(server, key, message=LIST, header="Authorization"):
    return server.post(message, headers={header: key} if key else {})


def test_keys_open_the_api(locked):
    key = keygen(locked)
    for header in ("Authorization", "Proxy-Authorization"):
        for value in (key, f"Bearer {key}", f"bearer {key}"):
            assert with_key(locked, value, header=header)[0] == 200
    assert locked.http("GET", "/api/v1/health")[0] == 200
    assert locked.http("GET", "/metrics")[0] == 401


def test_without_a_valid_key_nothing_opens(locked):
    def sign(claims, secret, alg="HS256"):
        b = lambda x: base64.urlsafe_b64encode(x).rstrip(b"=")
        m = b(json.dumps({"alg": alg, "typ": "JWT"}).encode()) + b"." + b(json.dumps(claims).encode())
        return "msb_" + (m + b"." + b(hmac.new(secret, m, hashlib.sha256).digest())).decode()

    secret = (locked.home / "server.key").read_bytes()
    soon = int(time.time()) + 100
    assert with_key(locked, sign({"exp": soon}, secret))[0] == 200
    for key, code in [(None, 1001), ("", 1001), ("x", 1001), ("Bearer x", 1001), ("msb_", 1004), ("msb_a.b.c", 1004),
                      (sign({"exp": soon}, b"another secret"), 1004), (sign({"exp": 1000}, secret), 1004),
                      (sign({"exp": soon}, secret, "none"), 1004), (sign({}, secret), 1004),
                      (sign({"exp": soon}, secret) + "x", 1004)]:
        status, answer = with_key(locked, key)
        assert status == 401 and answer["code"] == code, key
        assert answer["error"] in ("Invalid credentials", "Invalid or expired token")


def test_a_body_without_a_key_is_not_read(locked):
    got = raw(locked, head("/api/v1/rpc", "Content-Length: 10000000"))
    assert b" 401 " in got and b"WWW-Authenticate: Bearer" in got


def test_a_key_sees_its_namespace_only(locked):
    key = keygen(locked, "-n", "team-a")
    call = lambda method, **params: with_key(locked, key, {**LIST, "method": method, "params": params})
    assert call("sandbox.list") == (200, {"jsonrpc": "2.0", "id": 1, "result": {"sandboxes": []}})
    assert call("sandbox.list", namespace="team-a")[0] == 200
    answers = [call(method, sandbox="x", namespace="team-b", language="python", code="1", command="x")
               for method in ("sandbox.start", "sandbox.stop", "sandbox.repl.run", "sandbox.command.run",
                              "sandbox.metrics.get", "sandbox.list")]
    assert all(status == 403 and a["error"]["code"] == -32006 for status, a in answers)
    assert len({a["error"]["message"] for _, a in answers}) == 1
    # Another's namespace looks the same whether or not anything is in it.
    assert call("sandbox.stop", sandbox="x")[1]["error"]["code"] == -32001


def test_the_secret_stays_secret(locked):
    path = locked.home / "server.key"
    assert path.stat().st_mode & 0o777 == 0o600
    with open(f"/proc/{locked.process.pid}/cmdline", "rb") as f:
        assert path.read_bytes() not in f.read()
    assert path.read_text() not in locked.log()


# ---- msb server --------------------------------------------------------------------------------


@pytest.fixture
def box():
    b = Box(make_home())
    yield b
    b.msb("server", "stop")
    subprocess.run(["rm", "-rf", b.home], check=True)


def test_start_status_stop(box):
    assert box.msb("server", "status").returncode == 1
    p = box.msb("server", "start", "--dev", "-d", "--port", "0")
    assert p.returncode == 0, p.stderr
    url = p.stdout.split()[2].decode()
    p = box.msb("server", "status", "--json")
    status = json.loads(p.stdout)
    assert p.returncode == 0 and status["running"] is True and status["address"] == url
    # Nothing of ours but itself holds the terminal or a pipe of whoever started it.
    assert os.readlink(f"/proc/{status['pid']}/fd/1") == "/dev/null"
    p = box.msb("server", "start", "--dev", "-d", "--port", "0")
    assert p.returncode == 0 and b"running already" in p.stderr
    assert b"event=start" in box.msb("server", "log").stdout
    assert box.msb("server", "log", "--tail", "1").stdout.count(b"\n") == 1
    assert box.msb("server", "stop").returncode == 0
    assert box.msb("server", "status").stdout == b"not running\n"
    p = box.msb("server", "stop")
    assert p.returncode == 125 and b"no server is running" in p.stderr


def test_detach_may_stand_in_a_group_of_options(box):
    p = box.msb("server", "start", "--dev", "--port", "0", "-dp", str(box.home / "elsewhere"))
    assert p.returncode == 0, p.stderr
    assert p.stdout.startswith(b"Server started: http://")
    assert (box.home / "elsewhere").is_dir()
    assert box.msb("server", "stop").returncode == 0


def test_what_a_killed_server_left_is_no_server(box):
    for _ in range(2):
        assert box.msb("server", "start", "--dev", "-d", "--port", "0").returncode == 0
        status = json.loads(box.msb("server", "status", "--json").stdout)
        os.kill(status["pid"], 9)
        wait_for(lambda: box.msb("server", "status").returncode == 1)
    # Its number may be somebody else's by now.
    bystander = subprocess.Popen(["sleep", "1000"])
    (box.home / "server.pid").write_text(f"{bystander.pid}\nhttp://127.0.0.1:1\n")
    assert box.msb("server", "stop").returncode == 125
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_start_failures_are_said(box):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        for args in ([], ["-d"]):
            p = box.msb("server", "start", "--dev", "--port", str(s.getsockname()[1]), *args)
            assert p.returncode == 125 and b"Address already in use" in p.stderr and b"--port" in p.stderr
    p = box.msb("server", "start", "--dev", "--host", "0.0.0.0", "--port", "0")
    assert p.returncode == 125 and b"--dev" in p.stderr
    for args, text in [(["--host", "x"], b"IP address"), (["--key", "secret"], b"--key-file"), (["--port", "70000"], b"65535"),
                       (["--dev", "--reset-key"], b"--reset-key")]:
        p = box.msb("server", "start", *args)
        assert p.returncode in (2, 125) and text in p.stderr, args
    assert box.msb("server").returncode == 2
    assert b"start the server once" in box.msb("server", "keygen").stderr


def test_a_key_file_that_others_can_read_is_refused(box):
    path = box.home / "secret"
    path.write_text("x" * 32 + "\n")
    path.chmod(0o644)
    p = box.msb("server", "start", "--key-file", str(path), "--port", "0")
    assert p.returncode == 125 and b"chmod 600" in p.stderr
    path.chmod(0o600)
    assert box.msb("server", "keygen", "--key-file", str(path), "--expire", "7d").returncode == 0
    path.write_text("short")
    assert b"at least 16" in box.msb("server", "keygen", "--key-file", str(path)).stderr
    assert box.msb("server", "keygen", "--expire", "soon").returncode == 2


def test_reset_key(box):
    s = Server(home=box.home, dev=False)
    key = keygen(s)
    assert with_key(s, key)[0] == 200
    s.stop()
    s = Server("--reset-key", home=box.home, dev=False)
    assert with_key(s, key)[0] == 401
    assert with_key(s, keygen(s))[0] == 200
    s.stop()


def test_one_key_is_revoked(locked):
    p = [dict(line.split(": ", 1) for line in locked.box.msb("server", "keygen").stdout.decode().splitlines()) for _ in range(3)]
    assert len({k["Key id"] for k in p}) == 3
    assert [with_key(locked, k["Token"])[0] for k in p] == [200, 200, 200]
    for i, expect in ((0, [401, 200, 200]), (2, [401, 200, 401])):
        assert locked.box.msb("server", "revoke", p[i]["Key id"]).returncode == 0
        assert [with_key(locked, k["Token"])[0] for k in p] == expect
    assert with_key(locked, p[0]["Token"])[1] == {"error": "Invalid or expired token", "code": 1004}
    assert (locked.home / "server.revoked").stat().st_mode & 0o777 == 0o600
    # A list that cannot be read lets nobody in.
    os.rename(locked.home / "server.revoked", locked.home / "aside")
    os.symlink("/dev/zero", locked.home / "server.revoked")
    assert with_key(locked, p[1]["Token"])[0] == 401
    os.rename(locked.home / "aside", locked.home / "server.revoked")
    assert [with_key(locked, k["Token"])[0] for k in p] == [401, 200, 401]
    assert locked.box.msb("server", "revoke", p[0]["Token"]).returncode == 125
    assert locked.box.msb("server", "revoke").returncode == 2


def test_unix_socket(box):
    path = str(box.home / "api.sock")
    s = Server("--unix", path, home=box.home)
    assert os.stat(path).st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as c:
        c.settimeout(TIMEOUT)
        c.connect(path)
        c.sendall(head("/api/v1/health", "Connection: close", method="GET"))
        assert b"healthy" in c.recv(4096)
    s.kill()
    s = Server("--unix", path, home=box.home)  # over what the killed one left
    assert s.stop() == 0 and not os.path.exists(path)
    open(path, "w").close()
    p = box.msb("server", "start", "--dev", "--port", "0", "--unix", path)
    assert p.returncode == 125 and b"no socket" in p.stderr


def test_socket_activation_and_readiness(box):
    path = str(box.home / "notify.sock")
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as local, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        tcp.bind(("127.0.0.1", 0))
        local.bind(str(box.home / "api.sock"))
        notify.bind(path)
        notify.settimeout(TIMEOUT)
        for s in (tcp, local):
            s.listen()
        # As a service manager does: descriptors from 3 on, and the pid of who is meant.
        script = ('import os, sys; os.dup2(int(sys.argv[1]), 30); os.dup2(int(sys.argv[2]), 31); os.dup2(30, 3); '
                  'os.dup2(31, 4); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2"); '
                  'os.execv(sys.argv[3], sys.argv[3:])')
        p = subprocess.Popen(["/usr/bin/python3", "-c", script, str(tcp.fileno()), str(local.fileno()), MSB, "server",
                              "start", "--dev"], env=dict(box.env, NOTIFY_SOCKET=path), pass_fds=[tcp.fileno(), local.fileno()])
        assert notify.recv(100) == b"READY=1"
        for family, address in ((socket.AF_INET, tcp.getsockname()), (socket.AF_UNIX, local.getsockname())):
            with socket.socket(family) as c:
                c.settimeout(TIMEOUT)
                c.connect(address)
                c.sendall(head("/api/v1/health", "Connection: close", method="GET"))
                assert b"healthy" in c.recv(4096)
        assert json.loads(box.msb("server", "status", "--json").stdout)["address"].endswith(str(tcp.getsockname()[1]))
        p.terminate()
        assert notify.recv(100) == b"STOPPING=1" and p.wait(TIMEOUT) == 0


def test_a_request_that_is_worked_on_is_answered_at_the_end():
    s = Server()
    with s.connect() as c:
        body = json.dumps([{**LIST, "method": "sandbox.list"}]).encode()
        c.sendall(head("/api/v1/rpc", f"Content-Length: {len(body)}") + body[:5])
        assert s.http("GET", "/api/v1/health")[0] == 200
        assert s.stop() == 0
    s.close()


def start_with_descriptors(n, *args):
    """What a server says that may have n descriptors; it ends by itself, or has said that it is ready."""
    home = make_home()
    try:
        r, w = os.pipe()
        p = subprocess.Popen(["prlimit", f"--nofile={n}:{n}", MSB, "server", "start", "--dev", "--port", "0", "--ready-fd", str(w), *args],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=Box(home).env,
                             pass_fds=[w], text=True)
        os.close(w)
        with os.fdopen(r) as ready:
            started = ready.readline().startswith("ready http")
        if started:
            p.terminate()
        out = p.communicate(timeout=TIMEOUT)[0]
        return started, p.returncode, out
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_too_few_descriptors_are_explained():
    for n in (10, 131):
        started, status, out = start_with_descriptors(n)
        assert not started and status == 125 and out.count("\n") == 1
        assert f"may have {n} at once, the server needs at least 132, and 1152 for 256 sandboxes: raise" in out
    # Enough to begin with, and a word about what they are not enough for.
    started, status, out = start_with_descriptors(132)
    assert started and status == 0 and "event=few-descriptors limit=132 needed=1152 max_sandboxes=256" in out
    started, status, out = start_with_descriptors(132, "--max-sandboxes", "1")
    assert started and status == 0 and "few-descriptors" not in out
