# SPDX-License-Identifier: Apache-2.0
"""Published ports of real sandboxes: msx -p, and config.ports of the server."""
import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from conftest import MSB, TIMEOUT, wait_for
from server_client import RpcError, Server

IPV6 = socket.has_ipv6 and os.path.exists("/proc/net/if_inet6") and \
    " lo\n" in open("/proc/net/if_inet6").read()

# TCP: 8000 echoes until the end, 8001 to 8003 say which they are.  UDP: 53 answers in capitals.
SERVER = r"""
import socket, socketserver, threading
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(1 << 18):
            self.request.sendall(data)
class Name(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"%s %d" % (self.client_address[0].encode(), self.server.server_address[1]))
class Server(socketserver.ThreadingTCPServer):
    daemon_threads, request_queue_size = True, 200
for port, handler in [(8000, Echo)] + [(8000 + i, Name) for i in (1, 2, 3)]:
    threading.Thread(target=Server(("0.0.0.0", port), handler).serve_forever).start()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(("0.0.0.0", 53))
print("serving", flush=True)
while True:
    data, peer = u.recvfrom(65536)
    u.sendto(data.upper(), peer)
"""


def free_ports(n, kind=socket.SOCK_STREAM):
    """n ports in a row that are free now."""
    while True:
        with contextlib.ExitStack() as held:
            first = held.enter_context(socket.socket(socket.AF_INET, kind))
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                for i in range(1, n):
                    held.enter_context(socket.socket(socket.AF_INET, kind)).bind(("127.0.0.1", port + i))
            except (OSError, OverflowError):
                continue
            return port


def receive_all(s):
    parts = []
    while data := s.recv(1 << 18):
        parts.append(data)
    return b"".join(parts)


def ask(port, address="127.0.0.1", timeout=TIMEOUT):
    with socket.create_connection((address, port), timeout) as s:
        return receive_all(s)


class Chosen:
    """The lines of msx that tell chosen ports."""

    def __init__(self, process):
        self.process = process
        self.ports = {}

    def find(self, guest):
        while guest not in self.ports:
            line = self.process.stderr.readline().decode()
            assert line, "msx ended"
            if m := re.fullmatch(r"msx: port (\S+) of the sandbox is (\S+):(\d+)\n", line):
                self.ports[m[1]] = (m[2].strip("[]"), int(m[3]))
        return self.ports[guest]


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """A sandbox with the server: (chosen ports, first port of the range)."""
    from conftest import Box, make_home
    b = Box(make_home())
    first = free_ports(3)
    more = ["-p", "[::1]:0:8001"] if IPV6 else []
    p = b.start("-q", "-p", "0:8000", "-p", f"{first}-{first + 2}:8001-8003", "-p", "0:53/udp", "-p", "0:9999",
                *more, "python", "--", "-u", "-c", SERVER)
    chosen = Chosen(p)
    assert chosen.find("8000/tcp") and p.stdout.readline() == b"serving\n"
    yield chosen, first
    p.send_signal(signal.SIGTERM)
    p.wait(TIMEOUT)
    b.assert_nothing_left()
    shutil.rmtree(b.home, ignore_errors=True)


def test_page_of_a_server_in_the_sandbox(box):
    """As in the documentation, with curl."""
    p = box.start("-p", "0:8000", "python", "--", "-u", "-m", "http.server", "-d", "/")
    address, port = Chosen(p).find("8000/tcp")
    assert address == "127.0.0.1" and b"Serving HTTP" in p.stdout.readline()
    page = subprocess.run(["curl", "-sS", "--max-time", str(TIMEOUT), f"http://127.0.0.1:{port}/etc/passwd"],
                          capture_output=True)
    assert page.returncode == 0, page.stderr
    assert page.stdout.startswith(b"root:")
    p.send_signal(signal.SIGTERM)
    p.wait(TIMEOUT)
    # Given back at once.
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((address, port))
    box.assert_nothing_left()


def test_big_transfer_both_ways_with_half_close(serving):
    data = random.Random(2).randbytes(40_000_000)
    with socket.create_connection(serving[0].find("8000/tcp"), TIMEOUT) as s:
        def send():
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)

        t = threading.Thread(target=send)
        t.start()
        back = receive_all(s)
        t.join()
    assert len(back) == len(data) and hashlib.sha256(back).digest() == hashlib.sha256(data).digest()


def test_a_hundred_connections_at_once(serving):
    address = serving[0].find("8000/tcp")
    clients = [socket.create_connection(address, TIMEOUT) for _ in range(100)]
    for i, s in enumerate(clients):
        s.sendall(b"%d" % i * 1000)
    for s in clients:
        s.shutdown(socket.SHUT_WR)
    assert [receive_all(s) for s in clients] == [b"%d" % i * 1000 for i in range(100)]
    for s in clients:
        s.close()


def test_range(serving):
    assert [ask(serving[1] + i) for i in range(3)] == [b"10.0.2.4 %d" % (8001 + i) for i in range(3)]


def test_udp(serving):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(TIMEOUT)
        s.connect(serving[0].find("53/udp"))
        for size in (1, 1400, 60_000):
            s.send(b"a" * size)
            assert s.recv(65536) == b"A" * size


@pytest.mark.skipif(not IPV6, reason="no IPv6 loopback here")
def test_ipv6_of_the_host(serving):
    address, port = serving[0].find("8001/tcp")
    assert address == "::1" and ask(port, address) == b"10.0.2.4 8001"


def test_nobody_listens_in_the_sandbox(serving):
    address, port = serving[0].find("9999/tcp")
    with pytest.raises(ConnectionResetError):
        ask(port, address, 20)


# ---- what is refused, before anything starts -----------------------------------------------


@pytest.mark.parametrize("udp", [False, True])
def test_port_in_use(box, udp):
    kind, suffix, proto = (socket.SOCK_DGRAM, "/udp", "udp") if udp else (socket.SOCK_STREAM, "", "tcp")
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if not udp:
            taken.listen()
        port = taken.getsockname()[1]
        p = box.msx("-p", f"0:1{suffix}", "-p", f"{port}:80{suffix}", "python", "--", "-c", "print(1)", check=125)
        assert f"port 127.0.0.1:{port}/{proto} is in use already" in p.stderr.decode() and not p.stdout
        assert "of the sandbox is" not in p.stderr.decode()
    box.assert_nothing_left()


def test_what_is_no_port_is_said(box):
    for args, text in ((["-p", "x"], "give HOST:GUEST"), (["-p", "80:0"], "cannot be 0"), (["-p", "1-200"], "at most 128"),
                       (["-p", "8000:1", "-p", "8000:2"], "given twice"), (["--port", "host:1:1"], "names cannot be bound"),
                       (["-p", "8000:1", "--scope", "none"], "--scope none")):
        p = box.msx(*args, "python", check=2)
        assert text in p.stderr.decode(), (args, p.stderr)
    p = box.msx("-p", "192.0.2.77:8000:80", "python", check=125)
    assert "192.0.2.77 is no address of this machine" in p.stderr.decode()
    box.assert_nothing_left()


def test_privileged_port(box):
    """Whoever may not bind it is told so."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv")
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as f:
        if int(f.read()) <= 1:
            pytest.skip("every port is for everybody here")
    p = subprocess.run(["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service", MSB, "exe",
                        "-p", "1:1", "python"], env=box.env, stdin=subprocess.DEVNULL, capture_output=True,
                       timeout=TIMEOUT)
    assert p.returncode == 125 and b"127.0.0.1:1/tcp is privileged" in p.stderr, p.stderr


# ---- the server ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    s = Server()
    yield s
    s.close()


ANSWER = "import http.server,threading,functools\n" \
         "h=http.server.ThreadingHTTPServer(('',8000),http.server.SimpleHTTPRequestHandler)\n" \
         "threading.Thread(target=h.serve_forever,daemon=True).start()"


def get(port):
    p = subprocess.run(["curl", "-sS", "--max-time", str(TIMEOUT), "-o", "/dev/null", "-w", "%{http_code}",
                        f"http://127.0.0.1:{port}/"], capture_output=True)
    return p.stdout.decode()


def ports_of(server, name):
    return server.call("sandbox.get", sandbox=name)["ports"]


def test_ports_of_a_servers_sandbox(server):
    server.start("web", ports=["0:8000", "0:53/udp"])
    (tcp, udp), = [ports_of(server, "web")]
    assert tcp == {"host_ip": "127.0.0.1", "host_port": tcp["host_port"], "guest_port": 8000, "protocol": "tcp"}
    assert udp == {"host_ip": "127.0.0.1", "host_port": udp["host_port"], "guest_port": 53, "protocol": "udp"}
    assert tcp["host_port"] > 0 and udp["host_port"] > 0
    listed = {b["name"]: b for b in server.call("sandbox.list")["sandboxes"]}
    assert listed["web"]["ports"] == [tcp, udp]
    server.run("web", ANSWER)
    assert get(tcp["host_port"]) == "200"
    # The same ports after a restart, also those that were chosen, and they work.
    server.call("sandbox.restart", sandbox="web")
    assert ports_of(server, "web") == [tcp, udp]
    server.run("web", ANSWER)
    assert get(tcp["host_port"]) == "200"
    # Another sandbox does not get it.
    with pytest.raises(RpcError) as e:
        server.start("late", ports=[f"{tcp['host_port']}:80"])
    assert e.value.code == -32002 and f"127.0.0.1:{tcp['host_port']}/tcp is in use already" in e.value.message
    assert "late" not in [b["name"] for b in server.call("sandbox.list")["sandboxes"]]
    server.call("sandbox.stop", sandbox="web")
    server.start("late", ports=[f"{tcp['host_port']}:80"])
    assert [p["host_port"] for p in ports_of(server, "late")] == [tcp["host_port"]]
    server.call("sandbox.stop", sandbox="late")


def test_a_later_server_knows_them():
    first = Server("--keep")
    second = None
    try:
        first.start("kept", ports=["0:8000"])
        want = ports_of(first, "kept")
        first.run("kept", ANSWER)
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(TIMEOUT) == 0
        second = Server(home=first.home)
        assert ports_of(second, "kept") == want
        assert get(want[0]["host_port"]) == "200"
        second.call("sandbox.restart", sandbox="kept")
        assert ports_of(second, "kept") == want
    finally:
        (second or first).close()


def test_where_a_server_publishes(server):
    for ports, text in ((["0.0.0.0:0:80"], "--publish any"), (["[::]:0:80"], "--publish any"),
                        (["80:x"], "give HOST:GUEST"), (["1-128", "129"], "at most 128")):
        with pytest.raises(RpcError) as e:
            server.start("bad", ports=ports)
        assert e.value.code == -32602 and text in e.value.message, ports
    with pytest.raises(RpcError) as e:
        server.start("bad", ports=["0:80"], scope="none")
    assert e.value.code == -32602 and "scope none" in e.value.message
    for mode, refused in (("any", []), ("none", ["0:80", "0.0.0.0:0:80"])):
        s = Server("--publish", mode)
        try:
            for port in refused:
                with pytest.raises(RpcError) as e:
                    s.start("bad", ports=[port])
                assert "publishes no ports" in e.value.message
            if mode == "any":
                s.start("open", ports=["0.0.0.0:0:80"])
                assert ports_of(s, "open")[0]["host_ip"] == "0.0.0.0"
        finally:
            s.close()
    p = subprocess.run([MSB, "server", "start", "--publish", "all"], capture_output=True, timeout=TIMEOUT)
    assert p.returncode == 2 and b"local, any, none" in p.stderr
