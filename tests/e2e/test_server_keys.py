# SPDX-License-Identifier: Apache-2.0
"""Who may what: limits of keys, the audit log, namespaces that know nothing of each other, and `msb server`."""
import base64
import json
import os
import signal
import stat
import threading

import pytest

from conftest import wait_for
from server_client import RpcError, Server

PATHS = ["/api/v1/sandbox/start", "/api/v1/sandbox/stop", "/api/v1/sandbox/repl/run", "/api/v1/sandbox/command/run",
         "/api/v1/sandbox/metrics/get"]


class Keyed:
    """A server, seen with one key."""

    def __init__(self, server, *keygen):
        self.server = server
        r = server.box.msb("server", "keygen", "--json", *keygen)
        assert r.returncode == 0, r.stderr
        self.key = json.loads(r.stdout)
        self.id = self.key["id"]
        self.auth = {"Authorization": "Bearer " + self.key["token"]}

    def http(self, method, path, body=None, headers=None):
        return self.server.http(method, path, body, {**self.auth, **(headers or {})})

    def post(self, message, path="/api/v1/rpc"):
        status, _, answer = self.http("POST", path, json.dumps(message))
        return status, json.loads(answer) if answer else None

    def call(self, method, **params):
        status, answer = self.post({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
        if "error" in answer:
            raise RpcError(status, answer["error"])
        return answer["result"]

    def start(self, name, **config):
        return self.call("sandbox.start", sandbox=name, config={"image": "python", **config})


@pytest.fixture(scope="module")
def server():
    s = Server(dev=False)
    yield s
    assert s.stop() == 0, s.log()
    s.box.assert_nothing_left()
    s.close()


@pytest.fixture(scope="module")
def teams(server):
    """Two namespaces with a key each; the sandbox "unseen" runs in the second."""
    a, b = Keyed(server, "-n", "team-a"), Keyed(server, "-n", "team-b")
    b.start("unseen", envs=["PASSWORD=hunter2"])
    a.start("mine")
    return a, b


def audit(s):
    with open(s.home / "server.audit.log") as f:
        return [json.loads(line) for line in f]


def refused(call, **limit):
    with pytest.raises(RpcError) as e:
        call()
    assert e.value.code == -32005 and {k: e.value.data[k] for k in limit} == limit, e.value
    assert str(limit["max"]) in e.value.message
    return e.value


# ---- namespaces ------------------------------------------------------------------------------

def neutral(answer, name):
    """An answer without the one name that differs, and without the time of day."""
    status, headers, body = answer
    headers = {k: v for k, v in headers.items() if k not in ("date", "content-length", "mcp-session-id")}
    return status, headers, body.replace(name.encode(), b"NAME")


def params_of(method, schemas):
    """Parameters with which a method of the schema is a proper call."""
    samples = {"language": "python", "code": "1", "command": "true", "path": "/x", "to": "/y", "content": "x",
               "rules": ["allow public"]}
    return {p["name"]: samples[p["name"]] for p in method["params"]
            if p.get("required") and p["name"] not in ("sandbox", "namespace")}


def document(server):
    return json.loads(server.http("GET", "/api/v1/openrpc.json")[2])


def test_each_method_says_the_same_of_what_is_another_s_and_of_what_is_not(server, teams):
    a, _ = teams
    doc = document(server)
    tried = 0
    for m in doc["methods"]:
        if "sandbox" not in [p["name"] for p in m["params"]] or m["name"] == "sandbox.list":
            continue  # volumes: test_server_volumes.py
        for space in [{}, {"namespace": "team-b"}, {"namespace": "*"}, {"namespace": "no-such"}]:
            if m["name"] == "sandbox.start" and space.get("namespace", "*") == "*":
                continue  # would start one in the key's own namespace

            def ask(name):
                message = {"jsonrpc": "2.0", "id": 1, "method": m["name"],
                           "params": {"sandbox": name, **space, **params_of(m, doc)}}
                return neutral(a.http("POST", "/api/v1/rpc", json.dumps(message)), name)

            assert ask("unseen") == ask("absent"), (m["name"], space)
            tried += 1
            status, _, body = ask("unseen")
            assert status == {None: 404, "*": 404 if "metrics" in m["name"] else 400}.get(space.get("namespace"), 403), body
    assert tried >= 4 * 14
    # Whether a namespace exists is not told either.
    for name in ["team-b", "no-such"]:
        assert neutral(a.http("POST", "/api/v1/rpc", json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": "sandbox.list", "params": {"namespace": name}})), name) == \
            neutral(a.http("POST", "/api/v1/rpc", json.dumps(
                {"jsonrpc": "2.0", "id": 1, "method": "sandbox.list", "params": {"namespace": "zzz"}})), "zzz")


def test_each_tool_too(server, teams):
    a, _ = teams
    initialize = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}
    _, headers, _ = a.http("POST", "/mcp", json.dumps(initialize), ACCEPT)
    session = {"Mcp-Session-Id": headers["mcp-session-id"]} if "mcp-session-id" in headers else {}
    doc = document(server)
    tools = [m for m in doc["methods"] if "x-mcp-tool" in m and m["name"] not in ("sandbox.list", "sandbox.start")]
    assert len(tools) >= 14
    for m in tools:
        for space in [{}, {"namespace": "team-b"}, {"namespace": "*"}]:
            def ask(name):
                message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
                    "name": m["x-mcp-tool"], "arguments": {"sandbox": name, **space, **params_of(m, doc)}}}
                return neutral(a.http("POST", "/mcp", json.dumps(message), {**ACCEPT, **session}), name)

            assert ask("unseen") == ask("absent"), (m["name"], space)
            assert b'"isError":true' in ask("unseen")[2]


ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


def test_each_path_too(server, teams):
    a, _ = teams
    body = {"language": "python", "code": "1", "command": "true"}
    asked = []
    for path in PATHS[1:]:
        for space in [{}, {"namespace": "team-b"}]:
            method = "sandbox." + path[len("/api/v1/sandbox/"):].replace("/", ".")
            asked.append(("POST", lambda name, path=path: path, lambda name, method=method, space=space: json.dumps(
                {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"sandbox": name, **body, **space}})))
    for query in ["?path=/etc/passwd", "?path=/etc/passwd&namespace=team-b", "?path=/nope&namespace=*"]:
        for verb, what, text in [("GET", "files", None), ("PUT", "files", "x"), ("POST", "exec", '{"command":"true"}'),
                                 ("POST", "repl", '{"language":"python","code":"1"}'), ("GET", "exec", None),
                                 ("DELETE", "files", None), ("GET", "", None)]:
            asked.append((verb, lambda name, what=what, query=query: f"/api/v1/sandboxes/{name}/{what}{query}",
                          lambda name, text=text: text))
    for verb, path, text in asked:
        def ask(name):
            return neutral(a.http(verb, path(name), text(name)), name)

        assert ask("unseen") == ask("absent"), (verb, path("NAME"))
        assert ask("unseen")[0] >= 400


def test_lists_figures_and_logs_hold_nothing_of_others(server, teams):
    a, b = teams
    assert [x["name"] for x in a.call("sandbox.list")["sandboxes"]] == ["mine"]
    for space in [{}, {"namespace": "*"}, {"namespace": "team-a"}, {"namespace": None}]:
        assert [x["name"] for x in a.call("sandbox.list", **space)["sandboxes"]] == ["mine"]
        assert [x["name"] for x in a.call("sandbox.metrics.get", **space)["sandboxes"]] == ["mine"]
    for path in ["/metrics", "/api/v1/health", "/api/v1/openrpc.json"]:
        for text in [b"unseen", b"team-b", b"hunter2"]:
            assert text not in a.http("GET", path)[2]
    # Figures of the whole server: how many sandboxes others have, for example.
    assert a.http("GET", "/metrics")[0] == 403
    assert Keyed(server).http("GET", "/metrics")[0] == 200
    everything = json.dumps(a.call("sandbox.logs", sandbox="mine", source="supervisor"))
    assert "unseen" not in everything and "team-b" not in everything
    assert b.call("sandbox.get", sandbox="unseen")["state"] == "running"


def test_the_same_name_is_another_sandbox(server, teams):
    a, b = teams
    a.start("unseen")
    r = a.call("sandbox.command.run", sandbox="unseen", command="env")
    assert r["success"] and "hunter2" not in json.dumps(r)
    a.call("sandbox.fs.write", sandbox="unseen", path="/tmp/of-a", content="")
    with pytest.raises(RpcError):
        b.call("sandbox.fs.stat", sandbox="unseen", path="/tmp/of-a")
    a.call("sandbox.stop", sandbox="unseen")
    assert b.call("sandbox.get", sandbox="unseen")["state"] == "running"


def test_a_namespace_is_no_path(server, teams):
    a, _ = teams
    for name in ["../team-b", "team-b/menv", "..", ".", "/", "team-a/../team-b", "%2e%2e", "team-b\n"]:
        for where in ["namespace", "sandbox"]:
            with pytest.raises(RpcError) as e:
                a.call("sandbox.get", **{"sandbox": "mine", where: name})
            assert e.value.code == -32602


# ---- limits ------------------------------------------------------------------------------------

def test_sandboxes_and_memory_of_a_key(server):
    k = Keyed(server, "-n", "small", "--max-sandboxes", "2", "--max-memory", "600")
    assert k.key["limits"] == {"max_sandboxes": 2, "max_memory": 600}
    k.start("one", memory=256)
    refused(lambda: k.start("two", memory=345), limit="memory", max=600)
    refused(lambda: k.start("two"), limit="memory", max=600)  # the default is 512
    k.start("two", memory=256)
    assert refused(lambda: k.start("three", memory=128), limit="sandboxes", max=2).status == 503
    k.start("one")  # runs already
    # Another key of the namespace has its own, and a restart takes no more than there is.
    other = Keyed(server, "-n", "small", "--max-sandboxes", "1")
    other.start("three", memory=256)
    assert "restarted" in k.call("sandbox.restart", sandbox="one")
    refused(lambda: k.start("four", memory=128), limit="sandboxes", max=2)
    # Whoever stops it: what counts is who started it.
    other.call("sandbox.stop", sandbox="two")
    k.start("four", memory=256)
    refused(lambda: other.start("two", memory=128), limit="sandboxes", max=1)
    for name in ["one", "three", "four"]:
        k.call("sandbox.stop", sandbox=name)


def test_starts_at_the_same_time_do_not_pass_the_limit(server):
    k = Keyed(server, "-n", "race", "--max-sandboxes", "2")
    seen = []

    def start(i):
        try:
            seen.append(k.start(f"r{i}", memory=128))
        except RpcError as e:
            seen.append(e.code)

    threads = [threading.Thread(target=start, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert seen.count(-32005) == 4, seen
    for x in k.call("sandbox.list")["sandboxes"]:
        k.call("sandbox.stop", sandbox=x["name"])


def test_requests_a_second(server):
    k = Keyed(server, "-n", "slow", "--rate", "2")
    free = Keyed(server, "-n", "slow")

    def flood():
        answers = [k.http("POST", "/api/v1/rpc", json.dumps(
            {"jsonrpc": "2.0", "id": i, "method": "sandbox.list"})) for i in range(20)]
        return [(i, a) for i, a in enumerate(answers) if a[0] == 429]

    i, (status, headers, body) = wait_for(flood)[0]
    answer = json.loads(body)
    assert headers["retry-after"] == "1" and answer["id"] == i
    assert answer["error"]["code"] == -32005 and answer["error"]["data"]["limit"] == "rate"
    assert answer["error"]["data"]["max"] == 2 and answer["error"]["data"]["retry_after"] == 1
    assert "2 requests a second" in answer["error"]["message"]
    assert free.call("sandbox.list") == {"sandboxes": []}  # keys do not share
    # The calls of a batch count one by one.
    batch = wait_for(lambda: next((b for b in [k.post([
        {"jsonrpc": "2.0", "id": n, "method": "sandbox.list"} for n in range(10)])[1]] if "result" in b[0]), None))
    assert [b.get("error", {}).get("code") for b in batch][2:] == [-32005] * 8
    # Any other request too.
    for path in ["/mcp", "/metrics"]:
        def one():
            a = k.http("POST" if path == "/mcp" else "GET", path, "{}" if path == "/mcp" else None)
            return a if a[0] == 429 else None

        _, headers, body = wait_for(one)
        assert headers["retry-after"] == "1" and json.loads(body)["code"] == 5003
    # Who waits as told gets through.
    assert wait_for(lambda: k.post({"jsonrpc": "2.0", "id": 1, "method": "sandbox.list"})[0] == 200)


def test_limits_hold_for_the_sandboxes_of_an_earlier_server():
    s = Server(dev=False)
    try:
        k = Keyed(s, "-n", "kept", "--max-sandboxes", "1", "--max-memory", "256")
        k.start("one", memory=256)
        s.kill()
        again = Server(home=s.home, dev=False)
        k.server = again
        refused(lambda: k.start("two", memory=128), limit="sandboxes", max=1)
        k.call("sandbox.stop", sandbox="one")
        k.start("two", memory=256)
        assert again.stop() == 0
    finally:
        s.close()


def test_limits_cannot_be_edited(server):
    k = Keyed(server, "-n", "small", "--rate", "1")
    head, claims, mac = k.key["token"].split(".")
    text = base64.urlsafe_b64decode(claims + "==").replace(b'"rate":1', b'"rate":9')
    forged = ".".join([head, base64.urlsafe_b64encode(text).rstrip(b"=").decode(), mac])
    assert server.http("GET", "/metrics", headers={"Authorization": forged})[0] == 401


@pytest.mark.parametrize("option,value", [("--max-sandboxes", "0"), ("--max-memory", "0"), ("--max-memory", "x"),
                                          ("--rate", "0"), ("--rate", "-1"), ("--rate", "1000001")])
def test_wrong_limits_are_usage_errors(server, option, value):
    r = server.box.msb("server", "keygen", option, value)
    assert r.returncode == 2 and option.encode() in r.stderr


# ---- the audit log -------------------------------------------------------------------------------

def test_the_audit_log(server, teams):
    a, b = teams
    before = len(audit(server))
    a.call("sandbox.command.run", sandbox="mine", command="echo", args=["argument-7431"])
    a.call("sandbox.repl.run", sandbox="mine", language="python", code="'code-7431'")
    a.call("sandbox.fs.write", sandbox="mine", path="/tmp/x", content="content-7431")
    a.call("sandbox.list")
    a.call("sandbox.get", sandbox="mine")
    a.call("sandbox.metrics.get")
    for method, params in [("sandbox.stop", {"sandbox": "none"}), ("sandbox.stop", {"sandbox": "unseen", "namespace": "team-b"}),
                           ("sandbox.stop", {"sandbox": "../7431"}), ("sandbox.nothing", {"sandbox": "mine"})]:
        with pytest.raises(RpcError):
            a.call(method, **params)
    b.start("unseen", envs=["X=env-7431"])
    lines = audit(server)[before:]
    assert [(x["method"], x["sandbox"], x["outcome"], x.get("code")) for x in lines] == [
        ("sandbox.command.run", "mine", "ok", None), ("sandbox.repl.run", "mine", "ok", None),
        ("sandbox.fs.write", "mine", "ok", None), ("sandbox.stop", "none", "error", -32001),
        ("sandbox.stop", "unseen", "error", -32006), ("sandbox.stop", None, "error", -32602),
        ("sandbox.start", "unseen", "ok", None)]
    assert [x["key"] for x in lines] == [a.id] * 6 + [b.id]
    assert [x["namespace"] for x in lines] == ["team-a"] * 4 + ["team-b", "team-a", "team-b"]
    assert all(x["peer"].startswith("127.0.0.1:") and x["duration_ms"] >= 0 and x["time"].endswith("Z") for x in lines)
    text = (server.home / "server.audit.log").read_text()
    for hidden in ["7431", "hunter2", a.key["token"], b.key["token"], (server.home / "server.key").read_text()]:
        assert hidden not in text
    assert stat.S_IMODE((server.home / "server.audit.log").stat().st_mode) == 0o600


def test_calls_of_agents_and_of_clients_that_vanish_are_logged(server, teams):
    a, _ = teams
    before = len(audit(server))
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "sandbox.command.run",
                       "params": {"sandbox": "mine", "command": "sleep", "args": ["600"]}}).encode()
    s = server.connect()
    s.sendall(b"POST /api/v1/rpc HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n" % (
        a.key["token"].encode(), len(body)) + body)
    # The sandbox's agent has it when it answers a later call.
    a.call("sandbox.command.run", sandbox="mine", command="true")
    s.close()
    lines = wait_for(lambda: next((x for x in [audit(server)[before:]] if len(x) > 1), None))
    assert sorted((x["method"], x["outcome"]) for x in lines) == [
        ("sandbox.command.run", "cancelled"), ("sandbox.command.run", "ok")]


def test_where_the_audit_log_is(tmp_path):
    s = Server("--audit-log", str(tmp_path / "audit"))
    with pytest.raises(RpcError):
        s.call("sandbox.stop", sandbox="x")
    line = json.loads((tmp_path / "audit").read_text())
    assert line["key"] is None and line["code"] == -32001
    assert not (s.home / "server.audit.log").exists()
    assert s.stop() == 0
    s.close()
    s = Server("--audit-log", "none")
    with pytest.raises(RpcError):
        s.call("sandbox.stop", sandbox="x")
    assert not (s.home / "server.audit.log").exists() and s.stop() == 0
    # A server that cannot keep its log does not begin.
    r = s.box.msb("server", "start", "--dev", "--port", "0", "--audit-log", "/dev/null")
    assert r.returncode == 125 and b"/dev/null is no regular file" in r.stderr
    r = s.box.msb("server", "start", "--dev", "--port", "0", "--audit-log", str(tmp_path / "no/such"))
    assert r.returncode == 125 and b"no/such" in r.stderr
    s.close()


# ---- msb server ------------------------------------------------------------------------------------

def test_keygen_for_people_and_programs(server):
    r = server.box.msb("server", "keygen", "-n", "x", "--max-sandboxes", "3", "--rate", "7")
    assert b"Sandboxes at once: 3\n" in r.stdout and b"Requests a second: 7\n" in r.stdout and b"Memory" not in r.stdout
    k = Keyed(server, "-n", "x", "--expire", "2h")
    assert k.key["namespace"] == "x" and k.key["limits"] == {} and k.key["expires"].endswith("+00:00")
    assert k.call("sandbox.list") == {"sandboxes": []}
    assert server.box.msb("server", "revoke", k.id).returncode == 0
    assert k.http("GET", "/metrics")[0] == 401


def test_list_and_status_of_sandboxes(server, teams):
    everything = json.loads(server.box.msb("server", "list", "--json").stdout)
    assert [(x["namespace"], x["name"]) for x in everything] == [("team-a", "mine"), ("team-b", "unseen")]
    assert b"mine" in server.box.msb("server", "list", "-n", "team-a").stdout
    assert b"unseen" not in server.box.msb("server", "list", "-n", "team-a").stdout
    r = server.box.msb("server", "status", "mine", "--json")
    one = json.loads(r.stdout)[0]
    assert r.returncode == 0 and one["running"] and one["namespace"] == "team-a" and one["memory_usage"] > 0
    assert one["cpu_usage"] > 0 and one["disk_usage"] >= 0
    with open(f"/proc/{one['pid']}/cmdline", "rb") as f:
        assert b"supervise" in f.read()
    r = server.box.msb("server", "status", "mine", "none")
    rows = [line.split() for line in r.stdout.decode().splitlines()]
    assert r.returncode == 1 and rows[0][0] == "NAMESPACE"
    assert rows[1][:3] == ["team-a", "mine", "RUNNING"] and rows[2][:3] == ["-", "none", "STOPPED"]
    r = server.box.msb("server", "status", "-n", "team-b")
    assert b"unseen" in r.stdout and b"mine" not in r.stdout and r.returncode == 0
    assert json.loads(server.box.msb("server", "status", "--json").stdout)["path"] == str(server.home / "projects")
    assert server.box.msb("server", "status", "../x").returncode == 2


def test_logs_of_a_sandbox(server, teams):
    a, _ = teams
    r = server.box.msb("server", "log", "mine", "-n", "team-a", "-t", "1")
    assert r.returncode == 0 and r.stdout.count(b"\n") == 1
    text = server.box.msb("server", "log", "mine", "-n", "team-a").stdout
    assert text == (server.home / "projects/team-a/menv/mine/log/supervisor.log").read_bytes()
    text = server.box.msb("server", "log", "mine", "-n", "team-a", "--source", "console").stdout
    assert text == (server.home / "projects/team-a/menv/mine/log/console.log").read_bytes()
    assert server.box.msb("server", "log", "mine").returncode == 125  # of namespace default
    assert server.box.msb("server", "log", "mine", "-n", "*").returncode == 2
    assert server.box.msb("server", "log", "mine", "--source", "../x").returncode == 2
    assert server.box.msb("server", "log", "--source", "vm").returncode == 2


def test_a_log_is_followed_until_its_sandbox_is_gone_also_when_it_is_renamed(server):
    import subprocess
    from conftest import MSB
    k = Keyed(server, "-n", "followed")
    k.start("f", memory=256)
    log = server.home / "projects/followed/menv/f/log/vm.log"
    p = subprocess.Popen([MSB, "server", "log", "f", "-n", "followed", "-f", "--source", "vm"], stdout=subprocess.PIPE,
                         env=server.box.env)
    os.set_blocking(p.stdout.fileno(), False)
    got = bytearray()

    def read(until):
        def more():
            got.extend(p.stdout.read() or b"")
            return until in got
        wait_for(more, what=lambda: f"{bytes(got)} has no {until}")

    with open(log, "ab") as f:
        f.write(b"one\n")
    read(b"one\n")
    os.rename(log, str(log) + ".old")
    with open(str(log) + ".old", "ab") as f:
        f.write(b"two\n")
    log.write_bytes(b"three\n")
    read(b"three\n")
    assert bytes(got).endswith(b"two\nthree\n")
    k.call("sandbox.stop", sandbox="f")
    assert p.wait(60) == 0


def test_list_finds_what_a_server_keeps_elsewhere(tmp_path):
    s = Server("--path", str(tmp_path / "elsewhere"), "--keep")
    s.start("there", memory=256)
    assert [x["name"] for x in json.loads(s.box.msb("server", "list", "--json").stdout)] == ["there"]
    assert s.box.msb("server", "log", "there").stdout
    s.process.send_signal(signal.SIGTERM)
    assert s.process.wait(60) == 0
    assert json.loads(s.box.msb("server", "list", "--json").stdout) == []
    p = str(tmp_path / "elsewhere")
    assert [x["name"] for x in json.loads(s.box.msb("server", "list", "--json", "-p", p).stdout)] == ["there"]
    again = Server("--path", p, home=s.home)
    again.call("sandbox.stop", sandbox="there")
    assert again.stop() == 0
    s.close()
