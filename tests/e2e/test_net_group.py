# SPDX-License-Identifier: Apache-2.0
"""Scope group, and rules that change while a sandbox runs: three sandboxes, two of them in a group."""
import glob
import os
import subprocess
import textwrap

import pytest

from box import MSB, TIMEOUT, Box, wait_for
from server_client import RpcError, Server, texts

# In web: answers TCP with the peer's address, or as much as was asked for, and UDP in capitals.
SERVE = textwrap.dedent("""
    import socket, threading
    def tcp():
        while True:
            c, peer = listener.accept()
            threading.Thread(target=one, args=(c, peer), daemon=True).start()
    def one(c, peer):
        ask = c.recv(100)
        c.sendall(b"x" * int(ask[4:]) if ask.startswith(b"bulk") else peer[0].encode())
        if ask == b"stay":
            held.append(c)
        else:
            c.close()
    def udp():
        while True:
            data, peer = datagrams.recvfrom(70000)
            datagrams.sendto(data.upper(), peer)
    held = []
    listener = socket.create_server(("0.0.0.0", 8000), backlog=64)
    only_me = socket.create_server(("127.0.0.1", 8001))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("0.0.0.0", 9000))
    for f in (tcp, udp):
        threading.Thread(target=f, daemon=True).start()
""")

# What the others try with it.
TRY = textwrap.dedent("""
    import socket, struct
    def tcp(host, port, ask=b"who"):
        try:
            with socket.create_connection((host, port), 60) as c:
                c.sendall(ask)
                got = bytearray()
                while data := c.recv(1 << 20):
                    got += data
        except OSError as e:
            return e.strerror
        return len(got) if ask.startswith(b"bulk") else got.decode()
    def udp(host, port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(60)
            try:
                s.connect((host, port))
                s.send(b"hello" * 8000)
                return s.recv(70000) == b"HELLO" * 8000
            except OSError as e:
                return e.strerror
    def ping(host):
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
            s.settimeout(60)
            ask = struct.pack("!BBHHH", 8, 0, 0xf7ff - 78, 77, 1)
            try:
                s.sendto(ask, (host, 0))
                while True:
                    data, peer = s.recvfrom(1000)
                    if data[20] == 0 and data[24:26] == ask[4:6]:
                        return peer[0]
            except OSError as e:
                return e.strerror
""")


@pytest.fixture(scope="module")
def server():
    s = Server()
    s.start("web", group="shop")
    s.start("db", group="shop", scope="group")
    s.start("other", group="bank")
    s.run("web", SERVE)
    for name in ("web", "db", "other"):
        s.run(name, TRY)
    yield s
    assert s.stop() == 0, s.log()
    s.box.assert_nothing_left()
    # Nobody is in a group any more, so there is none.
    assert not glob.glob(str(s.box.home / "groups/@default/*"))
    s.close()


def says(server, name, *expressions):
    return texts(server.run(name, "".join(f"print({e})\n" for e in expressions), timeout=TIMEOUT))


def network(server, name):
    return server.call("sandbox.network.get", sandbox=name)


def test_members_reach_each_other_by_name(server):
    assert says(server, "db", 'tcp("web", 8000)', 'tcp("WEB", 8000)', 'udp("web", 9000)', 'ping("web")', 'tcp("web", 8002)') \
        == ["10.0.2.130", "10.0.2.130", "True", "10.0.2.129", "Connection refused"]
    assert says(server, "db", 'tcp("web", 8000, b"bulk8000000")', 'socket.gethostbyname("db")') == ["8000000", "10.0.2.15"]
    info = network(server, "db")
    assert (info["scope"], info["group"], info["closed"]) == ("group", "shop", True)
    assert info["members"] == [{"name": "web", "address": "10.0.2.129"}]


def test_nobody_else_reaches_them(server):
    assert says(server, "other", 'tcp("web", 8000)', 'tcp("10.0.2.129", 8000)', 'tcp("10.0.2.130", 8000)', 'udp("10.0.2.129", 9000)') \
        == ["Name or service not known", "Connection refused", "Connection refused", "No route to host"]
    assert network(server, "other")["members"] == []


def test_members_reach_nothing_else(server, listener):
    refused = "Connection refused"
    targets = [("10.0.2.4", listener), ("host.microsandbox.internal", listener), ("10.0.2.2", 80), ("169.254.169.254", 80),
               ("192.168.1.1", 80), ("8.8.8.8", 53), ("10.0.2.200", 80), ("example.org", 80)]
    got = says(server, "db", *(f"tcp({host!r}, {port})" for host, port in targets))
    unknown = "Name or service not known"
    assert got == [refused, unknown, refused, refused, refused, refused, refused, unknown]
    counters = {c["name"]: c["count"] for c in network(server, "db")["counters"]}
    assert counters["scope"] >= 6 and counters["absent"] >= 1, counters
    log = "\n".join(server.call("sandbox.logs", sandbox="db", source="net")["lines"])
    assert "scope=group reason=scope rule=0 proto=tcp number=6 dst=169.254.169.254 port=80" in log
    assert "scope=group reason=absent rule=0 proto=tcp number=6 dst=10.0.2.200" in log
    assert "proto=dns type=1 name=example.org" in log


def msb_net(supervisor):
    with open(f"/proc/{supervisor}/task/{supervisor}/children") as f:
        for pid in f.read().split():
            with open(f"/proc/{pid}/cmdline") as line:
                words = line.read().split("\0")
            if words[0] == "msb-net":
                assert "--closed" in words
                return pid
    raise AssertionError("there is no msb-net")


def test_a_closed_sandbox_has_no_way_out(server):
    """Its msb-net has neither the host's network nor a socket of the internet's families."""
    for name in ("web", "db", "other"):
        pid = msb_net(server.supervisor_pid(name))
        assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
        with open(f"/proc/{pid}/net/tcp") as tcp, open(f"/proc/{pid}/net/dev") as dev:
            assert len(tcp.readlines()) == 1
            assert len(dev.readlines()) == 3  # two lines of head, and lo


def test_rules_change_while_it_runs(server):
    server.run("db", 'held = socket.create_connection(("web", 8000), 60); held.sendall(b"stay"); print(held.recv(100))')
    info = server.call("sandbox.network.set", sandbox="web", rules=["deny in tcp db.:8000", "limit connects 500"])
    assert info["rules"] == ["limit connects 500", "deny in tcp db.:8000"]
    # What is no longer allowed is cut, and not let in again; the rest goes on.
    assert says(server, "db", 'tcp("web", 8000)', 'udp("web", 9000)') == ["Connection refused", "True"]
    assert texts(server.run("db", "try:\n    print(held.recv(1))\nexcept OSError as e:\n    print(e.strerror)")) \
        == ["Connection reset by peer"]
    log = server.call("sandbox.logs", sandbox="web", source="net")["lines"]
    assert any("event=denied direction=in reason=rule rule=1 proto=tcp src=10.0.2.130 port=8000" in line for line in log), log
    assert {c["name"]: c["count"] for c in network(server, "web")["counters"]}["cut"] == 1
    for rules, text in [(["allow any"], "nothing open to the outside"), (["allow 1.2.3.4"], "nothing open to the outside"),
                        (["deny privat"], "rules[0]: 'privat' is no group"), (["allow metadata"], "metadata services")]:
        with pytest.raises(RpcError) as e:
            server.call("sandbox.network.set", sandbox="web", rules=rules)
        assert e.value.code == -32602 and text in e.value.message, e.value.message
    assert network(server, "web")["rules"] == info["rules"]
    # From the command line, which needs no server.
    env = server.box.env
    p = subprocess.run([MSB, "net", "set", "web", "--clear"], env=env, capture_output=True, timeout=TIMEOUT)
    assert p.returncode == 0 and b"limit" not in p.stdout, p
    assert says(server, "db", 'tcp("web", 8000)') == ["10.0.2.130"]
    p = subprocess.run([MSB, "net", "show", "web", "-n", "default"], env=env, capture_output=True, timeout=TIMEOUT)
    assert p.returncode == 0 and b"shop" in p.stdout and b"db" in p.stdout, p


def test_wait_for_a_port(server):
    def wait(port, limit):
        return subprocess.run([MSB, "net", "wait", "web", str(port), "--timeout", str(limit)], env=server.box.env,
                              capture_output=True, timeout=TIMEOUT)

    assert wait(8000, TIMEOUT / 2).returncode == 0
    p = wait(8001, 3)
    assert p.returncode == 125 and b"only the sandbox itself" in p.stderr, p.stderr
    p = wait(8003, 3)
    assert p.returncode == 125 and b"nothing listens on port 8003" in p.stderr, p.stderr
    late = subprocess.Popen([MSB, "net", "wait", "web", "8003", "--timeout", str(TIMEOUT / 2)], env=server.box.env)
    server.run("web", 'late = socket.create_server(("0.0.0.0", 8003))')
    assert late.wait(TIMEOUT) == 0


def test_members_come_and_go(server):
    server.run("db", 'held = socket.create_connection(("web", 8000), 60); held.sendall(b"stay"); print(held.recv(100))')
    rules = ["deny in tcp group:9999"]
    server.call("sandbox.network.set", sandbox="web", rules=rules)
    server.call("sandbox.restart", sandbox="web")
    assert network(server, "web")["rules"] == rules, "a restart keeps the rules"
    # The connection ended with it, at once.
    assert texts(server.run("db", "try:\n    print(held.recv(1))\nexcept OSError as e:\n    print(e.strerror)")) \
        == ["Connection reset by peer"]
    assert says(server, "db", 'tcp("web", 8000)') == ["Connection refused"]  # nothing listens yet
    server.run("web", SERVE)
    assert says(server, "db", 'tcp("web", 8000)') == ["10.0.2.130"]
    server.call("sandbox.stop", sandbox="web")
    wait_for(lambda: not network(server, "db")["members"])
    assert says(server, "db", 'tcp("web", 8000)', 'tcp("10.0.2.129", 8000)') == ["Name or service not known", "Connection refused"]


def test_groups_are_asked_for_as_such(server):
    for config, text in [({"scope": "group"}, "go together"), ({"scope": "public", "group": "x"}, "go together"),
                         ({"group": "a/b"}, "group")]:
        with pytest.raises(RpcError) as e:
            server.start("bad", **config)
        assert e.value.code == -32602 and text in e.value.message, e.value.message
    with pytest.raises(RpcError) as e:
        server.start("DB", group="shop")
    assert "there is a sandbox db in the group already" in e.value.message


def test_the_command_line_has_groups_of_its_own(server):
    """msx in a group of the same name is not among the server's."""
    box = Box(server.box.home)
    p = box.msx("-q", "--group", "shop", "--name", "web", "python", "--", "-c",
                TRY + 'print(tcp("db", 8000), socket.gethostname())', check=0)
    assert p.stdout.decode().split() == ["Name", "or", "service", "not", "known", "web"]
    for args, text in [(("--scope", "group"), b"go together"), (("--scope", "any", "--group", "g"), b"go together"),
                       (("--group", "a b"), b"--group is 'a b'"), (("--name", "a/b", ), b"--name is 'a/b'")]:
        p = box.msx(*args, "python", check=2)
        assert text in p.stderr, p.stderr
