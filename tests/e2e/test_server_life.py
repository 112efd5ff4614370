# SPDX-License-Identifier: Apache-2.0
"""The life of sandboxes on a server: get, logs, restart, idle time-outs, and a server that ends meanwhile."""
import json
import threading
import time

import pytest

from conftest import wait_for
from server_client import RpcError, Server, texts


@pytest.fixture(scope="module")
def server():
    s = Server()
    s.start("box", memory=256, cpus=2, scope="none", envs=["COLOUR=blue"], workdir="/tmp")
    yield s
    assert s.stop() == 0, s.log()
    s.box.assert_nothing_left()
    s.close()


def states(s):
    return {x["name"]: x["state"] for x in s.call("sandbox.list")["sandboxes"]}


def gone(s, name):
    return name not in states(s)


def audit(s, method=None):
    with open(s.home / "server.audit.log") as f:
        lines = [json.loads(line) for line in f]
    return [x for x in lines if not method or x["method"] == method]


def not_found(s, method, **params):
    with pytest.raises(RpcError) as e:
        s.call(method, **params)
    assert (e.value.status, e.value.code, e.value.data) == (404, -32001, {"code": 4001})
    return e.value


def test_get_is_what_list_says(server):
    info = server.call("sandbox.get", sandbox="box")
    assert info == server.call("sandbox.list")["sandboxes"][0]
    assert info["name"] == "box" and info["namespace"] == "default" and info["state"] == "running"
    assert (info["image"], info["memory"], info["cpus"], info["scope"]) == ("python", 256, 2, "none")
    assert info["idle_timeout"] is None and info["engine"] and info["started_at"].endswith("Z")
    not_found(server, "sandbox.get", sandbox="none")
    not_found(server, "sandbox.get", sandbox="box", namespace="other")


@pytest.mark.parametrize("source", ["console", "vm", "supervisor"])
def test_logs_are_the_files_last_lines(server, source):
    with open(server.home / f"projects/default/menv/box/log/{source}.log", errors="replace") as f:
        text = [line.rstrip("\r\n") for line in f]
    r = server.call("sandbox.logs", sandbox="box", source=source, tail=10000)
    assert r["source"] == source and r["lines"][:len(text)] == text
    assert server.call("sandbox.logs", sandbox="box", source=source, tail=2)["lines"] == r["lines"][-2:]


def test_the_console_is_the_default_log_and_the_guest_writes_it(server):
    server.run("box", "open('/dev/hvc0', 'wb', 0).write(b'from the guest \\xff\\n')")
    wait_for(lambda: "from the guest \ufffd" in server.call("sandbox.logs", sandbox="box")["lines"])
    assert server.call("sandbox.logs", sandbox="box")["source"] == "console"
    # One that prints much, over the size at which the file is renamed.  (An emulated console drops what nobody takes
    # fast enough, so this says no more than how much there is, and in which order.)
    server.run("box", "n = 0; f = open('/dev/hvc0', 'wb', 0)\ndef go():\n    global n\n    for i in range(1000):\n"
                      "        _ = f.write(b'%06d' % n + b'x' * 60 + b'\\n'); n += 1")
    old = server.home / "projects/default/menv/box/log/console.log.old"
    wait_for(lambda: server.run("box", "go()") and old.exists())
    lines = server.call("sandbox.logs", sandbox="box", tail=10000)["lines"]
    numbers = [int(line[:6]) for line in lines if line.endswith("x" * 60) and len(line) == 66]
    assert len(lines) == 10000 and len(numbers) > 9000 and numbers == sorted(set(numbers))
    not_found(server, "sandbox.logs", sandbox="none")


def test_restart_has_the_same_configuration_and_a_fresh_disk(server):
    server.run("box", "x = 1; open('/kept', 'w').close()")
    before = server.call("sandbox.get", sandbox="box")
    assert server.call("sandbox.restart", sandbox="box") == "Sandbox box restarted successfully"
    after = server.call("sandbox.get", sandbox="box")
    assert after["state"] == "running"
    assert {**after, "started_at": 0} == {**before, "started_at": 0}
    result = server.run("box", "import os; print(os.environ['COLOUR'], os.getcwd(), os.path.exists('/kept'))\nx")
    assert texts(result) == ["blue /tmp False"] and "NameError" in texts(result, "stderr")[-1]
    not_found(server, "sandbox.restart", sandbox="none")


def test_a_restart_ends_what_runs_and_others_join_it(server):
    server.start("twice")
    seen = []

    def call(method, **params):
        try:
            seen.append(server.call(method, sandbox="twice", **params))
        except RpcError as e:
            seen.append(e)

    running = threading.Thread(target=call, args=("sandbox.command.run",), kwargs=dict(command="sleep", args=["600"]))
    running.start()
    wait_for(lambda: "sleep" in "".join(texts(server.call(
        "sandbox.command.run", sandbox="twice", command="sh", args=["-c", "cat /proc/[0-9]*/cmdline"]))))
    restarts = [threading.Thread(target=call, args=("sandbox.restart",)) for _ in range(3)]
    for t in restarts:
        t.start()
    for t in [running, *restarts]:
        t.join()
    failed = [e for e in seen if isinstance(e, RpcError)]
    assert [(e.code, e.message) for e in failed] == [(-32002, "Sandbox twice ended: it was restarted")]
    assert seen.count("Sandbox twice restarted successfully") == 3
    assert states(server)["twice"] == "running"
    server.call("sandbox.stop", sandbox="twice")


def test_a_restart_goes_on_without_its_client(server):
    server.start("alone")
    before = audit(server, "sandbox.restart")
    started = server.call("sandbox.get", sandbox="alone")
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "sandbox.restart", "params": {"sandbox": "alone"}}).encode()
    server.run("alone", "x = 1")
    s = server.connect()
    s.sendall(b"POST /api/v1/rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    wait_for(lambda: states(server).get("alone") != "running")
    s.close()
    wait_for(lambda: states(server).get("alone") == "running", seconds=120)
    assert "NameError" in texts(server.run("alone", "x"), "stderr")[-1]
    assert server.call("sandbox.get", sandbox="alone")["image"] == started["image"]
    assert [x["outcome"] for x in audit(server, "sandbox.restart")[len(before):]] == ["cancelled"]
    server.call("sandbox.stop", sandbox="alone")


def test_an_idle_sandbox_is_stopped_and_the_audit_log_says_why(server):
    server.start("idle", idle_timeout=1)
    assert server.call("sandbox.get", sandbox="idle")["idle_timeout"] == 1
    wait_for(lambda: gone(server, "idle"))
    stop = [x for x in audit(server, "sandbox.stop") if x["sandbox"] == "idle"]
    assert len(stop) == 1 and stop[0]["key"] is stop[0]["peer"] is None and stop[0]["outcome"] == "ok"
    assert stop[0]["reason"] == "nobody used it for 1 seconds"
    not_found(server, "sandbox.command.run", sandbox="idle", command="true")


def test_calls_keep_a_sandbox_alive_and_looking_at_it_does_not(server):
    server.start("busy", idle_timeout=2)
    # Longer than the time-out: it does not count while something runs.
    assert server.call("sandbox.command.run", sandbox="busy", command="sleep", args=["5"])["success"]
    ended = time.monotonic()
    assert states(server)["busy"] == "running"

    def looked_at():
        server.call("sandbox.metrics.get", sandbox="busy")
        server.call("sandbox.get", sandbox="busy")
        return False

    with pytest.raises(RpcError):
        wait_for(looked_at)
    assert time.monotonic() - ended > 1.9
    wait_for(lambda: gone(server, "busy"))


def test_keep_alive(server):
    server.start("kept", idle_timeout=3)
    end = time.monotonic() + 6
    while time.monotonic() < end:
        assert server.call("sandbox.keep_alive", sandbox="kept")["idle_timeout"] == 3
        time.sleep(0.1)  # the pace of a client
    assert server.call("sandbox.keep_alive", sandbox="kept", idle_timeout=None)["idle_timeout"] is None
    assert server.call("sandbox.get", sandbox="kept")["state"] == "running"
    assert server.call("sandbox.keep_alive", sandbox="kept", idle_timeout=0.5)["idle_timeout"] == 0.5
    wait_for(lambda: gone(server, "kept"))
    not_found(server, "sandbox.keep_alive", sandbox="kept")
    for wrong in [0, -1, "1", True]:
        with pytest.raises(RpcError) as e:
            server.call("sandbox.keep_alive", sandbox="box", idle_timeout=wrong)
        assert e.value.code == -32602


def test_a_restart_keeps_a_changed_time_out(server):
    server.start("changed")
    server.call("sandbox.keep_alive", sandbox="changed", idle_timeout=900)
    server.call("sandbox.restart", sandbox="changed")
    assert server.call("sandbox.get", sandbox="changed")["idle_timeout"] == 900
    server.call("sandbox.stop", sandbox="changed")


def test_all_of_it_survives_the_server():
    s = Server()
    try:
        s.start("a", idle_timeout=600, memory=300, envs=["KEY=secret"])
        s.call("sandbox.keep_alive", sandbox="a", idle_timeout=500)
        before = s.call("sandbox.get", sandbox="a")
        s.kill()
        again = Server(home=s.home)
        assert wait_for(lambda: again.call("sandbox.get", sandbox="a")["state"] == "running")
        assert again.call("sandbox.get", sandbox="a") == before and before["idle_timeout"] == 500
        again.call("sandbox.restart", sandbox="a")
        assert texts(again.run("a", "import os; print(os.environ['KEY'])")) == ["secret"]
        again.call("sandbox.keep_alive", sandbox="a", idle_timeout=2)
        again.kill()
        third = Server(home=s.home)
        wait_for(lambda: gone(third, "a"))
        assert third.stop() == 0
        third.box.assert_nothing_left()
    finally:
        s.close()
