# SPDX-License-Identifier: Apache-2.0
"""Sandboxes through the server: life, code, commands, metrics."""
import base64
import json
import os
import threading
import time

import pytest

from conftest import wait_for, with_time_enough
from server_client import RpcError, Server, texts


@pytest.fixture(scope="module")
def server():
    s = Server()
    s.start("py")
    yield s
    assert s.stop() == 0, s.log()
    s.box.assert_nothing_left()
    s.close()


def test_state_persists_from_call_to_call(server):
    assert server.run("py", "x = 20")["output"] == []
    result = server.run("py", "x += 22\nprint(f'x is {x}')\nx")
    assert result["status"] == "success" and result["language"] == "python"
    assert result["output"] == [{"stream": "stdout", "text": "x is 42"}, {"stream": "stdout", "text": "42"}]


# Each row of the list of what went wrong in the original (output lost, hangs, wrong stream).
@pytest.mark.parametrize("code,out,err", [
    ("print('x', end='')", ["x"], []),
    ("def f():\n    a = 1\n\n    return a\nf()", ["1"], []),
    ("for i in range(2):\n    print(i)\nprint('end')", ["0", "1", "end"], []),
    ("1+1", ["2"], []),
    ("import sys; print('e', file=sys.stderr); print('o')", ["o"], ["e"]),
    ("print('eoe_' + 'a' * 20)", ["eoe_" + "a" * 20], []),
    ("print('\\x00|\\u2028|ü')", ["\0|\u2028|ü"], []),
    ("import sys; _ = sys.stdout.buffer.write(b'\\xff\\xfeA\\n')", ["\ufffd\ufffdA"], []),
    ("", [], []),
    ("print()", [""], []),
])
def test_what_code_prints_is_what_comes(server, code, out, err):
    result = server.run("py", code)
    assert result["status"] == "success"
    assert texts(result) == out and texts(result, "stderr") == err


def test_an_exception_is_an_error_with_its_traceback(server):
    result = server.run("py", "print('before')\n1/0")
    assert result["status"] == "error" and result["reason"] == "exception"
    assert texts(result) == ["before"]
    assert "ZeroDivisionError: division by zero" in texts(result, "stderr")[-1]
    assert texts(server.run("py", "print('after')")) == ["after"]


def test_sys_exit_ends_the_interpreter_and_not_the_call(server):
    result = server.run("py", "import sys; print('bye'); sys.exit(3)")
    assert result["status"] == "error" and result["reason"] == "exited"
    assert result["exit_code"] == 3 and result["state_lost"] is True
    assert texts(result) == ["bye"]
    assert texts(server.run("py", "print(1)")) == ["1"]


def test_a_time_limit_interrupts_and_returns_what_was_printed(server):
    limits = []

    def attempt(seconds):
        limits.append(seconds)
        server.run("py", "kept = 5")
        return server.run("py", "print('early', flush=True)\nwhile True: pass", timeout=seconds)

    result = with_time_enough(attempt, lambda r: r.get("reason") != "timeout" or "early" in texts(r))
    assert result["status"] == "error" and result["reason"] == "timeout"
    assert texts(result) == ["early"]
    assert f"timed out after {limits[-1]} seconds" in texts(result, "stderr")[-1]
    # On a machine so busy that the interrupt comes too late, the interpreter is killed, and that is said.
    lost = result.get("state_lost", False)
    after = server.run("py", "print(kept)")
    assert texts(after) == ([] if lost else ["5"]) and (after["status"] == "error") is lost


def test_values_and_pictures_are_results(server):
    result = server.run("py", "print('p')\n6 * 7")
    assert texts(result) == ["p", "42"]
    assert result["results"] == [{"mime": "text/plain", "encoding": "utf-8", "data": "42"}]
    assert server.run("py", "print('p')")["results"] == []
    size = 6 << 20
    result = server.run("py", f"""
class Picture:
    def __init__(self, size): self.size = size
    def __repr__(self): return "P"
    def _repr_png_(self): return bytes(range(256)) * (self.size // 256)
display(Picture(3 << 20))
Picture({size})""")
    assert result["status"] == "success" and texts(result) == ["P", "P"]
    entries = result["results"]
    assert [e["mime"] for e in entries] == ["text/plain", "image/png"] * 2
    assert entries[1]["encoding"] == "base64"
    assert base64.b64decode(entries[1]["data"]) == bytes(range(256)) * ((3 << 20) // 256)
    assert entries[3]["data"] == "" and f"{size} bytes" in entries[3]["note"]
    assert server.run("py", "echo 1", language="sh")["results"] == []


def test_results_that_the_guest_makes_up_spoil_only_themselves(server):
    code = "import os\n_ = os.pwrite(8, b'\\xff' * 9999, 0), os.write(9, b'%d 3 9999\\n' % {})\n1"
    assert server.run("py", code.format("int(__import__('sys')._getframe().f_code.co_filename[7:-1])"))["status"] == \
        "success"
    assert server.run("py", "2")["results"][0]["data"] == "2"


def test_output_beyond_the_limit_is_cut_and_said(server):
    result = server.run("py", "print(('y' * 1000 + '\\n') * 20000)")
    assert result["truncated"] is True and result["status"] == "success"
    assert 4 << 20 < sum(len(t) for t in texts(result)) <= 8 << 20
    assert texts(server.run("py", "print(1)")) == ["1"]


def test_code_larger_than_every_window(server):
    result = server.run("py", "s = '" + "a" * 3_000_000 + "'\nlen(s)")
    assert texts(result) == ["3000000"]


def test_shell_and_unknown_languages(server):
    server.run("py", "A=7; cd /usr", language="sh")
    assert texts(server.run("py", "echo $A $PWD", language="Shell")) == ["7 /usr"]
    with pytest.raises(RpcError) as e:
        server.run("py", "1", language="cobol")
    assert e.value.code == -32602 and e.value.status == 400 and "cobol" in e.value.message


def test_commands(server):
    r = server.call("sandbox.command.run", sandbox="py", command="sh", args=["-c", "echo out; echo err >&2; exit 3"])
    assert r["exit_code"] == 3 and r["success"] is False
    assert r["command"] == "sh" and r["args"][0] == "-c"
    assert texts(r) == ["out"] and texts(r, "stderr") == ["err"]
    r = server.call("sandbox.command.run", sandbox="py", command="sh", args=["-c", "kill -9 $$"])
    assert r["exit_code"] == 137
    r = server.call("sandbox.command.run", sandbox="py", command="printf", args=["%s|", "ü", "a\nb", ""])
    assert texts(r) == ["ü|a", "b||"]
    assert server.call("sandbox.command.run", sandbox="py", command="/bin/true", args=None)["success"] is True


def test_a_command_that_cannot_run_says_why(server):
    with pytest.raises(RpcError) as e:
        server.call("sandbox.command.run", sandbox="py", command="no-such-program")
    assert e.value.code == -32003 and "no-such-program" in e.value.message and e.value.data["errno"] == 2


def test_a_command_past_its_time_limit(server):
    limits = []

    def attempt(seconds):
        limits.append(seconds)
        with pytest.raises(RpcError) as e:
            server.call("sandbox.command.run", sandbox="py", command="sh", timeout=seconds,
                        args=["-c", "echo partial; sleep 1000 & sleep 1000"])
        return e.value

    error = with_time_enough(attempt, lambda e: e.code != -32004 or e.data["output"])
    assert error.code == -32004 and f"Command timeout after {limits[-1]} seconds" in error.message
    assert error.data["output"] == [{"stream": "stdout", "text": "partial"}]
    r = server.call("sandbox.command.run", sandbox="py", command="sh", args=["-c", "pgrep sleep || echo none"])
    assert texts(r) == ["none"]


def test_metrics(server):
    first = server.call("sandbox.metrics.get", sandbox="py")["sandboxes"][0]
    assert first["name"] == "py" and first["namespace"] == "default" and first["running"] is True
    assert 5 < first["memory_usage"] < 512 and first["disk_usage"] > 0
    server.run("py", "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass")
    busy = server.call("sandbox.metrics.get", sandbox="py")["sandboxes"][0]
    assert busy["cpu_usage"] > 10
    assert server.call("sandbox.metrics.get")["sandboxes"][0]["name"] == "py"
    with pytest.raises(RpcError) as e:
        server.call("sandbox.metrics.get", sandbox="absent")
    assert e.value.code == -32001 and e.value.status == 404


def test_starting_what_runs_changes_nothing(server):
    server.run("py", "mark = 1")
    assert server.start("py") == "Sandbox py started successfully"
    assert texts(server.run("py", "mark")) == ["1"]


def test_one_slow_call_delays_no_other(server):
    done = threading.Event()

    def slow():
        server.call("sandbox.command.run", sandbox="py", command="sh", args=["-c", "read x < /run/fifo"])
        done.set()

    server.call("sandbox.command.run", sandbox="py", command="mkfifo", args=["/run/fifo"])
    t = threading.Thread(target=slow)
    t.start()
    assert texts(server.run("py", "1+1")) == ["2"]
    assert server.http("GET", "/api/v1/health")[0] == 200
    assert not done.is_set()
    server.call("sandbox.command.run", sandbox="py", command="sh", args=["-c", "echo > /run/fifo"])
    t.join(60)
    assert done.is_set()


def test_a_client_that_vanishes_takes_its_command_along(server):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "sandbox.command.run",
                       "params": {"sandbox": "py", "command": "sh", "args": ["-c", "exec sleep 54321"]}})
    pgrep = dict(sandbox="py", command="sh", args=["-c", "pgrep -f 'sleep 5432[1]' || echo none"])
    with server.connect() as s:
        s.sendall(f"POST /api/v1/rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        wait_for(lambda: texts(server.call("sandbox.command.run", **pgrep)) != ["none"])
    wait_for(lambda: texts(server.call("sandbox.command.run", **pgrep)) == ["none"])


def test_configuration_reaches_the_guest(server):
    server.start("cfg", memory=256, cpus=2, envs=["A=b=c", "LANG=C.UTF-8"], workdir="/usr/lib", scope="none")
    r = server.run("cfg", "import os\nprint(os.environ['A'], os.getcwd(), os.cpu_count())\n"
                          "print(int(open('/proc/meminfo').readline().split()[1]) < 262144)\n"
                          "import socket\ntry:\n  socket.create_connection(('1.1.1.1', 80), 60)\n"
                          "except OSError as e:\n  print(type(e).__name__)")
    assert texts(r) == ["b=c /usr/lib 2", "True", "ConnectionRefusedError"]
    r = server.call("sandbox.command.run", sandbox="cfg", command="sh", args=["-c", "echo $A; pwd; hostname"])
    assert texts(r) == ["b=c", "/usr/lib", "cfg"]
    assert server.call("sandbox.stop", sandbox="cfg") == "Sandbox cfg stopped successfully"


def test_namespaces_are_apart(server):
    server.call("sandbox.start", sandbox="py", namespace="other", config={"image": "python"})
    server.call("sandbox.repl.run", sandbox="py", namespace="other", language="python", code="where = 'other'")
    assert "NameError" in texts(server.run("py", "where"), "stderr")[-1]
    names = [(b["namespace"], b["name"]) for b in server.call("sandbox.list", namespace="*")["sandboxes"]]
    assert sorted(names) == [("default", "py"), ("other", "py")]
    assert len(server.call("sandbox.list")["sandboxes"]) == 1
    server.call("sandbox.stop", sandbox="py", namespace="other")
    assert texts(server.run("py", "1")) == ["1"]


def test_stop_leaves_nothing_and_the_name_is_free(server):
    server.start("again")
    server.run("again", "open('/root/mark', 'w').close()")
    server.call("sandbox.stop", sandbox="again")
    assert not os.path.exists(server.home / "projects/default/menv/again")
    for call in (lambda: server.run("again", "1"), lambda: server.call("sandbox.stop", sandbox="again")):
        with pytest.raises(RpcError) as e:
            call()
        assert e.value.code == -32001 and e.value.status == 404 and "again" in e.value.message
    server.start("again")
    assert texts(server.run("again", "import os; os.path.exists('/root/mark')")) == ["False"]
    server.call("sandbox.stop", sandbox="again")


def test_starts_and_stops_at_once(server):
    results = []

    def one(i):
        name = f"many{i % 3}"
        results.append(server.start(name))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(9)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 9
    assert len([b for b in server.call("sandbox.list")["sandboxes"] if b["name"].startswith("many")]) == 3
    for i in range(3):
        assert texts(server.run(f"many{i}", "1+1")) == ["2"]
    batch = [{"jsonrpc": "2.0", "id": i, "method": "sandbox.stop", "params": {"sandbox": f"many{i}"}} for i in range(3)]
    status, answers = server.post(batch)
    assert status == 200 and [a["id"] for a in answers] == [0, 1, 2] and all("result" in a for a in answers)


def test_a_vm_that_dies_fails_its_calls(server):
    server.start("dying")
    with open("/proc/{0}/task/{0}/children".format(server.supervisor_pid("dying"))) as f:
        children = [int(p) for p in f.read().split()]
    vm = [p for p in children if b"msb-net" not in open(f"/proc/{p}/cmdline", "rb").read()]
    failed = []

    def call():
        with pytest.raises(RpcError) as e:
            server.call("sandbox.command.run", sandbox="dying", command="sleep", args=["1000"])
        failed.append(e.value)

    t = threading.Thread(target=call)
    t.start()
    pgrep = dict(sandbox="dying", command="sh", args=["-c", "pgrep sleep || echo none"])
    wait_for(lambda: texts(server.call("sandbox.command.run", **pgrep)) != ["none"])
    os.kill(vm[0], 9)
    t.join(60)
    assert failed[0].code == -32002 and failed[0].status == 500 and "killed by signal 9" in failed[0].message
    wait_for(lambda: "dying" not in [b["name"] for b in server.call("sandbox.list")["sandboxes"]])
    server.start("dying")
    server.call("sandbox.stop", sandbox="dying")


def test_a_killed_supervisor_leaves_nothing(server):
    server.start("orphan")
    os.kill(server.supervisor_pid("orphan"), 9)
    wait_for(lambda: "orphan" not in [b["name"] for b in server.call("sandbox.list")["sandboxes"]])
    assert not os.path.exists(server.home / "projects/default/menv/orphan")


def test_errors_of_start(server):
    for config, text in [({"image": "NoSuch"}, "NoSuch"), ({}, "config.image"),
                         ({"image": "python", "memory": 1}, "memory"), ({"image": "python", "volumes": ["/a:/b"]}, "volumes"),
                         ({"image": "python", "ports": ["1:x"]}, "port '1:x'"), ({"image": "python", "ports": ["x" * 81]}, "ports[0]"),
                         ({"image": "python", "memroy": 512}, "memroy"),
                         ({"image": "python", "scope": "everything"}, "none, group, public, any")]:
        with pytest.raises(RpcError) as e:
            server.call("sandbox.start", sandbox="bad", config=config)
        assert e.value.code == -32602 and e.value.status == 400 and text in e.value.message, config
        assert e.value.data["code"] == 2001
    # Registries at other than public addresses are the server's own network.
    with pytest.raises(RpcError) as e:
        server.call("sandbox.start", sandbox="bad", config={"image": "127.0.0.1:1/no/such"})
    assert e.value.code == -32002 and "127.0.0.1:1/no/such" in e.value.message
    assert "bad" not in [b["name"] for b in server.call("sandbox.list")["sandboxes"]]


def test_start_with_a_short_time_limit_goes_on(server):
    text = server.call("sandbox.start", sandbox="slow", config={"image": "python"}, timeout=0.01)
    assert "timed out waiting" in text
    wait_for(lambda: {b["name"]: b["state"] for b in server.call("sandbox.list")["sandboxes"]}.get("slow") == "running")
    server.call("sandbox.stop", sandbox="slow")


# ---- the server's own end --------------------------------------------------------------


def test_a_killed_server_leaves_sandboxes_to_the_next():
    a = Server()
    try:
        a.start("kept", envs=["E=1"])
        a.run("kept", "v = 'still here'")
        a.kill()
        b = Server(home=a.home)
        try:
            wait_for(lambda: b.call("sandbox.list")["sandboxes"][0]["state"] == "running")
            assert texts(b.run("kept", "import os; print(v, os.environ['E'])")) == ["still here 1"]
            r = b.call("sandbox.command.run", sandbox="kept", command="sh", args=["-c", "echo $E"])
            assert texts(r) == ["1"]
            assert b.call("sandbox.list")["sandboxes"][0]["image"] == "python"
            assert b.stop() == 0
            b.box.assert_nothing_left()
        finally:
            b.close()
    finally:
        a.close()


def test_keep_leaves_sandboxes_running():
    a = Server("--keep")
    try:
        a.start("kept")
        assert a.stop() == 0
        listed = json.loads(a.box.msb("server", "list", "--json").stdout)
        assert [(b["namespace"], b["name"], b["image"]) for b in listed] == [("default", "kept", "python")]
        assert json.loads(a.box.msb("server", "list", "--json", "-n", "other").stdout) == []
        b = Server(home=a.home)
        try:
            assert texts(b.run("kept", "1+1")) == ["2"]
            assert b.stop() == 0
            b.box.assert_nothing_left()
        finally:
            b.close()
    finally:
        a.close()


def test_the_limit_of_sandboxes():
    s = Server("--max-sandboxes", "1")
    try:
        s.start("one")
        with pytest.raises(RpcError) as e:
            s.start("two")
        assert e.value.code == -32005 and e.value.status == 503 and "limit 1" in e.value.message
        s.call("sandbox.stop", sandbox="one")
        s.start("two")
        assert s.stop() == 0
        s.box.assert_nothing_left()
    finally:
        s.close()


def test_a_server_killed_while_it_works():
    a = Server()
    try:
        a.start("busy")
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "sandbox.command.run",
                           "params": {"sandbox": "busy", "command": "sleep", "args": ["4321"]}})
        pgrep = dict(sandbox="busy", command="sh", args=["-c", "pgrep sleep || echo none"])
        with a.connect() as c:
            c.sendall(f"POST /api/v1/rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            wait_for(lambda: texts(a.call("sandbox.command.run", **pgrep)) != ["none"])
            a.kill()
        b = Server(home=a.home)
        try:
            # What ran for the dead server was killed, the sandbox was not.
            wait_for(lambda: b.call("sandbox.list")["sandboxes"][0]["state"] == "running")
            wait_for(lambda: texts(b.call("sandbox.command.run", **pgrep)) == ["none"])
            assert b.start("busy") == "Sandbox busy started successfully"
            assert b.stop() == 0
            b.box.assert_nothing_left()
        finally:
            b.close()
    finally:
        a.close()
