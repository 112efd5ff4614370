# SPDX-License-Identifier: Apache-2.0
"""Published ports of msb-net by itself: clients in the host's namespace, servers in the guest's."""
import contextlib
import errno
import hashlib
import random
import select
import socket
import struct
import threading
import time

import pytest

import netlab
from conftest import BUILD
from test_net_process import MSB_NET, QUICK, alive, echo, ipv4, lab, receive_all, server, udp  # noqa: F401

pytestmark = pytest.mark.skipif(netlab.why_not() is not None, reason=str(netlab.why_not()))

GUEST_PORT = 8000


def bound(lab, proto="tcp", address="127.0.0.1"):
    """A socket of the host, as the supervisor hands it down."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = lab.host.socket(socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM, family)
    s.bind((address, 0))
    if proto == "tcp":
        s.listen(128)
    return s


@contextlib.contextmanager
def published(lab, *ports, scope="public", guest=True):
    """ports: (proto, address, guest's port). Gives (msb-net, guest, the host's addresses)."""
    sockets = [(bound(lab, proto, address), proto, port) for proto, address, port in ports]
    addresses = [s.getsockname()[:2] for s, _, _ in sockets]
    net = netlab.NetProcess(lab, MSB_NET, scope, publish=sockets)
    try:
        g = netlab.Guest(net) if guest else None
        try:
            yield net, g, addresses
        finally:
            if g:
                g.close()
    finally:
        net.close()


def connect(lab, address, timeout=10, source=None):
    s = lab.host.socket(family=socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    s.settimeout(timeout)
    if source:
        s.bind((source, 0))
    s.connect(address)
    return s


def datagram(lab, address, data, timeout=10):
    s = lab.host.socket(socket.SOCK_DGRAM, socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    s.settimeout(timeout)
    s.connect(address)
    s.send(data)
    return s


def gone(s):
    """How a connection ended: "reset", or what was read until its end."""
    try:
        return receive_all(s)
    except ConnectionResetError:
        return "reset"


def fate(lab, address):
    """The same of a new one."""
    try:
        with connect(lab, address) as s:
            return gone(s)
    except ConnectionResetError:  # so soon that connect(2) saw it
        return "reset"


# ---- TCP -------------------------------------------------------------------------------


def test_tcp_both_ways_byte_exact(lab):
    data = random.Random(1).randbytes(50_000_000)
    want, got = hashlib.sha256(data).digest(), []

    def serve(c):
        got.append(hashlib.sha256(receive_all(c)).digest())
        c.sendall(data)

    with published(lab, ("tcp", "127.0.0.1", GUEST_PORT)) as (net, guest, (address,)), \
            server(guest.ns, netlab.GUEST_IP, serve, port=GUEST_PORT):
        with connect(lab, address, 60) as s:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)  # half-closed: the other way goes on
            back = receive_all(s)
    assert got == [want]
    assert len(back) == len(data) and hashlib.sha256(back).digest() == want


def test_the_guest_may_close_its_half_first(lab):
    got = []

    def serve(c):
        c.sendall(b"all I have to say")
        c.shutdown(socket.SHUT_WR)
        got.append(receive_all(c))

    with published(lab, ("tcp", "127.0.0.1", GUEST_PORT)) as (net, guest, (address,)), \
            server(guest.ns, netlab.GUEST_IP, serve, port=GUEST_PORT):
        with connect(lab, address) as s:
            assert receive_all(s) == b"all I have to say"
            s.sendall(b"x" * 1_000_000)
            s.shutdown(socket.SHUT_WR)
            for _ in range(100):
                if got:
                    break
                select.select([], [], [], 0.05)
    assert got == [b"x" * 1_000_000]


@pytest.mark.parametrize("host", ["127.0.0.1", netlab.HOST_PUBLIC, "0.0.0.0", "::1", "::"])
@pytest.mark.parametrize("scope", ["public", "any"])
def test_source_that_the_guest_sees(lab, host, scope):
    """One address for every peer, and a port of its own for each connection."""
    seen = []

    def serve(c):
        seen.append(c.getpeername())
        echo(c)

    with published(lab, ("tcp", host, GUEST_PORT), scope=scope) as (net, guest, (address,)), \
            server(guest.ns, netlab.GUEST_IP, serve, port=GUEST_PORT):
        to = ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), address[1])
        open_ones = [connect(lab, to) for _ in range(20)]
        for i, s in enumerate(open_ones):
            s.sendall(b"%d" % i)
        assert [s.recv(10) for s in open_ones] == [b"%d" % i for i in range(20)]
        for s in open_ones:
            s.close()
    assert {a for a, _ in seen} == {netlab.HOST_ALIAS}
    assert len({p for _, p in seen}) == 20


def test_reached_from_other_machines_where_published_so(lab):
    """From the namespace that stands for everything else; 127.0.0.1 is the default for a reason."""
    with published(lab, ("tcp", "0.0.0.0", GUEST_PORT), ("tcp", "127.0.0.1", GUEST_PORT)) \
            as (net, guest, (wide, narrow)), server(guest.ns, netlab.GUEST_IP, echo, port=GUEST_PORT):
        with lab.world.socket() as s:
            s.settimeout(10)
            s.connect((netlab.HOST_PUBLIC, wide[1]))
            s.sendall(b"from afar")
            assert s.recv(100) == b"from afar"
        with lab.world.socket() as s, pytest.raises(ConnectionRefusedError):
            s.settimeout(QUICK)
            s.connect((netlab.HOST_PUBLIC, narrow[1]))


def test_port_without_a_listener_resets(lab):
    with published(lab, ("tcp", "127.0.0.1", GUEST_PORT)) as (net, guest, (address,)):
        start = time.monotonic()
        for _ in range(20):
            assert fate(lab, address) == "reset"
        assert time.monotonic() - start < QUICK
        # And when somebody listens, it is served.
        with server(guest.ns, netlab.GUEST_IP, echo, port=GUEST_PORT):
            with connect(lab, address) as s:
                s.sendall(b"now")
                assert s.recv(10) == b"now"


def test_reset_of_the_guest_is_a_reset_outside(lab):
    def serve(c):
        c.recv(10)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with published(lab, ("tcp", "127.0.0.1", GUEST_PORT)) as (net, guest, (address,)), \
            server(guest.ns, netlab.GUEST_IP, serve, port=GUEST_PORT):
        with connect(lab, address) as s:
            s.sendall(b"go")
            assert gone(s) == "reset"


def test_reset_outside_reaches_the_guest(lab):
    ended = []

    def serve(c):
        c.sendall(b"ready")
        ended.append(gone(c))

    with published(lab, ("tcp", "127.0.0.1", GUEST_PORT)) as (net, guest, (address,)), \
            server(guest.ns, netlab.GUEST_IP, serve, port=GUEST_PORT):
        s = connect(lab, address)
        assert s.recv(10) == b"ready"
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
        for _ in range(200):
            if ended:
                break
            select.select([], [], [], 0.05)
    assert ended == ["reset"]


def test_many_at_once_and_no_more_than_there_may_be(lab):
    """600 clients: 512 are served at a time, the others wait in the backlog and are served then."""
    n, limit = 600, 512
    arrived, go = [], threading.Event()

    def serve(c):
        arrived.append(1)
        go.wait(60)
        echo(c)

    with published(lab, ("tcp", "127.0.0.1", GUEST_PORT)) as (net, guest, (address,)), \
            server(guest.ns, netlab.GUEST_IP, serve, port=GUEST_PORT):
        clients = []
        while len(clients) < n:
            clients.append(connect(lab, address))
            # The guest's own backlog is shorter than what is waiting here.
            for _ in range(600):
                if len(arrived) >= min(len(clients) - 100, limit):
                    break
                select.select([], [], [], 0.05)
            if len(clients) - len(arrived) > 127:
                break
        waiting = len(clients)
        for _ in range(600):
            if len(arrived) >= min(waiting, limit):
                break
            select.select([], [], [], 0.05)
        assert len(arrived) == limit
        # The guest's own connections still find descriptors.
        with server(lab.world, netlab.PUBLIC, echo) as srv, guest.tcp(netlab.PUBLIC, srv.port) as s:
            s.sendall(b"out")
            assert s.recv(10) == b"out"
        go.set()
        for i, s in enumerate(clients):
            s.sendall(b"%d" % i)
            s.shutdown(socket.SHUT_WR)
        assert [receive_all(s) for s in clients] == [b"%d" % i for i in range(waiting)]
        for s in clients:
            s.close()
        with connect(lab, address) as s:
            s.sendall(b"again")
            assert s.recv(10) == b"again"


def test_first_connection_waits_for_no_timer(lab):
    """The guest has not been heard of: its MAC is asked for, and what waits goes on at once."""
    took = []
    for _ in range(5):
        with published(lab, ("tcp", "127.0.0.1", GUEST_PORT)) as (net, guest, (address,)), \
                server(guest.ns, netlab.GUEST_IP, echo, port=GUEST_PORT):
            start = time.monotonic()
            with connect(lab, address) as s:
                s.sendall(b"x")
                assert s.recv(1) == b"x"
            took.append(time.monotonic() - start)
    assert min(took) < 0.4  # libslirp's timers fire every half second


def test_many_one_after_the_other(lab):
    """Nothing is used up: more connections than there are descriptors."""
    with published(lab, ("tcp", "127.0.0.1", GUEST_PORT)) as (net, guest, (address,)), \
            server(guest.ns, netlab.GUEST_IP, echo, port=GUEST_PORT):
        for i in range(1500):
            with connect(lab, address) as s:
                s.sendall(b"%d" % i)
                assert s.recv(10) == b"%d" % i
        assert net.process.poll() is None


def test_idle_listener_costs_no_wakeups(lab):
    def switches():
        with open(f"/proc/{net.process.pid}/status") as f:
            return sum(int(line.split()[1]) for line in f if "ctxt_switches" in line)

    with published(lab, ("tcp", "127.0.0.1", GUEST_PORT), ("udp", "127.0.0.1", GUEST_PORT), guest=False) \
            as (net, _, _):
        assert alive(net)
        before = switches()
        select.select([], [], [], 3)  # libslirp's timers would fire six times
        assert switches() - before <= 1


# ---- UDP ---------------------------------------------------------------------------------


def test_udp_up_to_the_mtu(lab):
    with published(lab, ("udp", "127.0.0.1", GUEST_PORT)) as (net, guest, (address,)), \
            server(guest.ns, netlab.GUEST_IP, bytes.upper, port=GUEST_PORT, kind=netlab.UdpServer):
        for size in (1, 1400, 9000, netlab.MTU - 28):
            with datagram(lab, address, b"a" * size) as s:
                assert s.recv(65536) == b"A" * size
        # One that no frame can hold is lost, and nothing else is.
        with datagram(lab, address, b"a" * 65500) as big, datagram(lab, address, b"a") as s:
            assert s.recv(10) == b"A"
            big.settimeout(0.2)
            with pytest.raises(TimeoutError):
                big.recv(65536)
        net.frames.shutdown(socket.SHUT_RDWR)
        net.process.wait(10)
        assert " lost=1" in net.log_text()


def test_udp_peers_are_told_apart(lab):
    """Answers go to whom they belong, in any order, and peers that are too many push out the oldest."""
    with published(lab, ("udp", "127.0.0.1", GUEST_PORT)) as (net, guest, (address,)), \
            guest.ns.socket(socket.SOCK_DGRAM) as srv:
        srv.bind((netlab.GUEST_IP, GUEST_PORT))
        srv.settimeout(10)
        clients, seen = [], []
        for i in range(300):  # one by one: a burst may be more than sockets hold
            clients.append(datagram(lab, address, b"%d" % i))
            seen.append(srv.recvfrom(100))
        assert {a for _, (a, _) in seen} == {netlab.HOST_ALIAS}
        for data, peer in reversed(seen):
            srv.sendto(b"to " + data, peer)
        # 256 flows: those of the last ones are left.
        assert [c.recv(100) for c in clients[-256:]] == [b"to %d" % i for i in range(44, 300)]
        for c in clients[:44]:
            c.setblocking(False)
            with pytest.raises(BlockingIOError):
                c.recv(100)
        for c in clients:
            c.close()


@pytest.mark.parametrize("host,reach", [("0.0.0.0", netlab.HOST_PUBLIC), ("0.0.0.0", "127.0.0.5"),
                                        ("::1", "::1"), ("::", "::1"), (netlab.HOST_PUBLIC,) * 2])
def test_udp_answers_come_from_where_they_were_asked(lab, host, reach):
    """connect(2) makes the client's kernel drop answers from another address."""
    with published(lab, ("udp", host, GUEST_PORT)) as (net, guest, (address,)), \
            server(guest.ns, netlab.GUEST_IP, bytes.upper, port=GUEST_PORT, kind=netlab.UdpServer):
        with datagram(lab, (reach, address[1]), b"hello") as s:
            assert s.recv(100) == b"HELLO"


def test_udp_flood_does_no_harm(lab):
    with published(lab, ("udp", "127.0.0.1", GUEST_PORT), ("tcp", "127.0.0.1", GUEST_PORT)) \
            as (net, guest, (u, t)), server(guest.ns, netlab.GUEST_IP, echo, port=GUEST_PORT):
        with lab.host.socket(socket.SOCK_DGRAM) as s:
            for _ in range(20_000):
                s.sendto(b"x" * 1000, u)
        with connect(lab, t) as s:
            s.sendall(b"still here")
            assert s.recv(100) == b"still here"


# ---- what the guest cannot do with it ------------------------------------------------------


def guest_tcp(dst, sport, dport, flags, seq=1000):
    pseudo = socket.inet_aton(netlab.GUEST_IP) + socket.inet_aton(dst) + struct.pack(">BBH", 0, 6, 20)
    head = struct.pack(">HHIIBBHHH", sport, dport, seq, 77, 0x50, flags, 65535, 0, 0)
    total = sum(struct.unpack(">16H", pseudo + head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ipv4(6, dst, head[:16] + struct.pack(">H", ~total & 0xFFFF) + head[18:])


def test_an_open_port_opens_nothing_else(lab):
    """Scope public: the host stays shut, also from the published port and to ports in use by peers."""
    with published(lab, ("tcp", "127.0.0.1", GUEST_PORT), ("udp", "127.0.0.1", GUEST_PORT), guest=False) \
            as (net, _, (t, u)), server(lab.host, "127.0.0.1", echo) as secret, \
            server(lab.host, "127.0.0.1", bytes.upper, kind=netlab.UdpServer) as secret_udp:
        assert alive(net)
        client = connect(lab, t)
        # The guest has no MAC known to libslirp before it spoke; alive() was that.
        syn = net.receive()
        assert syn[23] == 6 and syn[47] == 0x02 and syn[26:30] == socket.inet_aton(netlab.HOST_ALIAS)
        sport, dport = struct.unpack(">HH", syn[34:38])
        assert dport == GUEST_PORT
        for to in (secret.port, sport):
            net.send(guest_tcp(netlab.HOST_ALIAS, GUEST_PORT, to, 0x02))
            frame = net.receive()
            assert frame[23] == 6 and frame[47] & 0x04, "a reset"
            assert struct.unpack(">H", frame[34:36])[0] == to
        # No connection begins with anything else either.
        net.send(guest_tcp(netlab.HOST_ALIAS, GUEST_PORT, secret.port, 0x10))
        assert net.receive()[47] & 0x04
        net.send(guest_tcp(netlab.HOST_ALIAS, GUEST_PORT + 1, sport, 0x10))
        assert net.receive()[47] & 0x04
        for to in (secret_udp.port, sport, 1024, 65535):
            net.send(udp(netlab.HOST_ALIAS, to, b"x"))
            assert net.receive()[34:36] == b"\x03\x0d"
        assert secret_udp.seen == 0
        client.close()


def test_flows_are_for_their_port_alone(lab):
    with published(lab, ("udp", "127.0.0.1", GUEST_PORT), guest=False) as (net, _, (address,)):
        assert alive(net)
        with datagram(lab, address, b"hello") as s:
            frame = net.receive()
            assert frame[-5:] == b"hello" and frame[:6] == bytes.fromhex(netlab.GUEST_MAC.replace(":", ""))
            sport, dport, length, check = struct.unpack(">HHHH", frame[34:42])
            assert (dport, length, check) == (GUEST_PORT, 13, 0)
            # udp() sends from port 5555: not the published one.
            net.send(udp(netlab.HOST_ALIAS, sport, b"stolen"))
            assert net.receive()[34:36] == b"\x03\x0d"
            for answer in (b"ok", b"", b"odd"):
                net.send(ipv4(17, netlab.HOST_ALIAS,
                              struct.pack(">HHHH", GUEST_PORT, sport, 8 + len(answer), 0) + answer))
                assert s.recv(100) == answer
            s.send(b"")
            frame = net.receive()
            assert frame[34:42] == struct.pack(">HHHH", sport, GUEST_PORT, 8, 0) and len(frame) == 42


def test_bad_arguments(lab):
    import subprocess
    with socket.socket() as t, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
        for text in ("", "x", "9:tcp", "9:tcp:0", "9:tcp:65536", f"{t.fileno()}:udp:80", f"{u.fileno()}:tcp:80",
                     f"{t.fileno()}:sctp:80", f"{t.fileno()}:tcp:80x", "5000:tcp:80"):
            p = subprocess.run([MSB_NET, "--frames-fd", "0", "--publish", text], stdin=subprocess.DEVNULL,
                               capture_output=True, timeout=10, pass_fds=[t.fileno(), u.fileno()])
            assert p.returncode == 2 and f"--publish {text}" in p.stderr.decode(), text
