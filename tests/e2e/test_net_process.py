# SPDX-License-Identifier: Apache-2.0
"""msb-net by itself: real clients in a namespace that stands for the VM, real servers elsewhere."""
import contextlib
import errno
import hashlib
import random
import socket
import struct
import subprocess
import threading
import time

import pytest

import netlab
from conftest import BUILD

MSB_NET = str(BUILD / "lib/microsandbox/msb-net")

pytestmark = pytest.mark.skipif(netlab.why_not() is not None, reason=str(netlab.why_not()))

# A refusal must come at once, not after a connect timeout of two minutes.
QUICK = 5


@pytest.fixture(scope="module")
def lab():
    lab = netlab.Lab()
    yield lab
    lab.close()


@contextlib.contextmanager
def net_process(lab, scope, **kwargs):
    net = netlab.NetProcess(lab, MSB_NET, scope, **kwargs)
    try:
        yield net
    finally:
        net.close()


@contextlib.contextmanager
def sandbox(lab, scope, **kwargs):
    """(msb-net, guest)"""
    with net_process(lab, scope, **kwargs) as net:
        guest = netlab.Guest(net)
        try:
            yield net, guest
        finally:
            guest.close()


@contextlib.contextmanager
def server(*args, kind=netlab.Server, **kwargs):
    s = kind(*args, **kwargs)
    try:
        yield s
    finally:
        s.close()


def echo(c):
    while data := c.recv(65536):
        c.sendall(data)


def receive_all(s):
    parts = []
    while data := s.recv(1 << 18):
        parts.append(data)
    return b"".join(parts)


# ---- what works ----------------------------------------------------------------------


def test_tcp_both_ways_byte_exact(lab):
    size = 50_000_000
    data = random.Random(1).randbytes(size)
    got = []

    def serve(c):
        got.append(hashlib.sha256(receive_all(c)).digest())
        c.sendall(data)

    with sandbox(lab, "public") as (net, guest), server(lab.world, netlab.PUBLIC, serve) as srv:
        with guest.tcp(netlab.PUBLIC, srv.port, timeout=60) as s:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            back = receive_all(s)
    want = hashlib.sha256(data).digest()
    assert got == [want]
    assert len(back) == size and hashlib.sha256(back).digest() == want


def test_many_connections_at_once(lab):
    n = 200
    together = threading.Barrier(n, timeout=30)

    def serve(c):
        together.wait()  # nobody is answered before all are connected
        echo(c)

    def client(i, guest, port):
        with guest.tcp(netlab.PUBLIC, port, timeout=30) as s:
            message = f"connection {i}".encode() * 1000
            s.sendall(message)
            s.shutdown(socket.SHUT_WR)
            results[i] = receive_all(s) == message

    results = [None] * n
    with sandbox(lab, "public") as (net, guest), server(lab.world, netlab.PUBLIC, serve) as srv:
        threads = [threading.Thread(target=client, args=(i, guest, srv.port)) for i in range(n)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert results == [True] * n
        # All of it is given back: one more works, and the process ends as it should.
        together = threading.Barrier(1)
        with guest.tcp(netlab.PUBLIC, srv.port) as s:
            s.sendall(b"once more")
            assert s.recv(100) == b"once more"


def test_udp_up_to_the_mtu(lab):
    with sandbox(lab, "public") as (net, guest), \
            server(lab.world, netlab.PUBLIC, bytes.upper, kind=netlab.UdpServer) as srv:
        for size in (1, 1400, 9000, netlab.MTU - 28):
            assert guest.udp(netlab.PUBLIC, srv.port, b"a" * size) == b"A" * size


def test_dns(lab):
    answer = netlab.dns_answer(netlab.PUBLIC)
    with sandbox(lab, "public") as (net, guest), \
            server(lab.world, netlab.DNS, answer, port=53, kind=netlab.UdpServer) as udp, \
            server(lab.world, netlab.DNS, echo, port=53):
        reply = guest.udp(netlab.GATEWAY, 53, netlab.dns_query("example.org"))
        assert reply[-4:] == socket.inet_aton(netlab.PUBLIC)
        assert udp.seen == 1
        # The TCP server sends the question back, which is no answer.
        query = netlab.dns_query("example.org")
        with guest.tcp(netlab.GATEWAY, 53) as s:
            s.sendall(struct.pack(">H", len(query)) + query)
            assert s.recv(100)[5] & 15 == 2  # SERVFAIL


def test_dns_of_a_resolver_on_the_hosts_loopback(lab):
    """systemd-resolved listens on 127.0.0.53: reached as DNS, and as nothing else."""
    answer = netlab.dns_answer(netlab.PUBLIC)
    with sandbox(lab, "public", nameserver="127.0.0.53") as (net, guest), \
            server(lab.host, "127.0.0.53", answer, port=53, kind=netlab.UdpServer):
        reply = guest.udp(netlab.GATEWAY, 53, netlab.dns_query("example.org"))
        assert reply[-4:] == socket.inet_aton(netlab.PUBLIC)
        with pytest.raises(ConnectionRefusedError):
            guest.tcp("127.0.0.53", 53, timeout=QUICK)


def test_dns_with_an_ipv6_resolver_listed_first(lab):
    """The one with an interface in its address makes libc look for that interface."""
    nameserver = f"fe80::1%up0\nnameserver {netlab.DNS}"
    answer = netlab.dns_answer(netlab.PUBLIC)
    with sandbox(lab, "public", nameserver=nameserver) as (net, guest), \
            server(lab.world, netlab.DNS, answer, port=53, kind=netlab.UdpServer):
        reply = guest.udp(netlab.GATEWAY, 53, netlab.dns_query("example.org"))
        assert reply[-4:] == socket.inet_aton(netlab.PUBLIC)


def test_dead_port_is_refused(lab):
    with server(lab.world, netlab.PUBLIC, echo) as srv:
        port = srv.port
    with sandbox(lab, "public") as (net, guest):
        with pytest.raises(ConnectionRefusedError):
            guest.tcp(netlab.PUBLIC, port, timeout=QUICK)
        assert "event=denied" not in net.log_text()


# ---- scope x destination ---------------------------------------------------------------

# destination: (address, scopes in which it is open)
DESTINATIONS = {
    "public": (netlab.PUBLIC, {"public", "any"}),
    "private10": (netlab.OTHERS["private10"], {"any"}),
    "private172": (netlab.OTHERS["private172"], {"any"}),
    "private192": (netlab.OTHERS["private192"], {"any"}),
    "provider-nat": (netlab.OTHERS["provider-nat"], {"any"}),
    "link-local": (netlab.OTHERS["link-local"], {"any"}),
    "benchmark": (netlab.OTHERS["benchmark"], {"any"}),
    "metadata": (netlab.OTHERS["metadata"], set()),
    "metadata-ecs": (netlab.OTHERS["metadata-ecs"], set()),
    "metadata-azure": (netlab.OTHERS["metadata-azure"], set()),
    "host-alias": (netlab.HOST_ALIAS, {"any"}),
    "host-address": (netlab.HOST_PUBLIC, {"any"}),
    "gateway": (netlab.GATEWAY, set()),
}


@pytest.fixture(scope="module")
def servers(lab):
    """TCP and UDP echo at every destination: {name: (TCP server, UDP server)}."""
    found = {}
    for name, (address, _) in DESTINATIONS.items():
        if name == "gateway":
            continue
        ns = lab.host if name.startswith("host") else lab.world
        at = "127.0.0.1" if name == "host-alias" else address
        found[name] = (netlab.Server(ns, at, echo), netlab.UdpServer(ns, at, bytes.upper))
    yield found
    for pair in found.values():
        for s in pair:
            s.close()


@pytest.fixture(scope="module", params=["public", "any", "none"])
def scoped(lab, request):
    with sandbox(lab, request.param) as (net, guest):
        yield request.param, net, guest


@pytest.mark.parametrize("name", DESTINATIONS)
def test_scope(scoped, servers, name):
    scope, net, guest = scoped
    address, open_in = DESTINATIONS[name]
    tcp, udp = servers.get(name, (None, None))
    if scope in open_in:
        with guest.tcp(address, tcp.port) as s:
            s.sendall(b"hello")
            assert s.recv(10) == b"hello"
        assert guest.udp(address, udp.port, b"hello") == b"HELLO"
        return
    start = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        guest.tcp(address, tcp.port if tcp else 80, timeout=QUICK)
    seen = udp.seen if udp else 0
    with pytest.raises(OSError) as e:
        guest.udp(address, udp.port if udp else 9, b"hello", timeout=QUICK)
    assert e.value.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED, errno.EACCES)
    assert time.monotonic() - start < QUICK
    assert not udp or udp.seen == seen


def test_denied_is_logged_once_a_connection(lab):
    with sandbox(lab, "public") as (net, guest):
        with pytest.raises(ConnectionRefusedError):
            guest.tcp("169.254.169.254", 80, timeout=QUICK)
        assert net.end() == 0
        lines = [x for x in net.log_text().splitlines() if "event=denied" in x]
        assert len(lines) == 1, lines
        for word in ("net/test:", "scope=public", "reason=metadata", "proto=tcp", "dst=169.254.169.254",
                     "port=80"):
            assert word in lines[0]
        assert "event=summary" in net.log_text() and " metadata=1" in net.log_text()


def test_name_that_leads_to_a_private_address(lab, servers):
    """Rebinding: the answer says that there is no such name, and the connection is denied anyway."""
    answer = netlab.dns_answer(netlab.OTHERS["private192"])
    with sandbox(lab, "public") as (net, guest), \
            server(lab.world, netlab.DNS, answer, port=53, kind=netlab.UdpServer):
        reply = guest.udp(netlab.GATEWAY, 53, netlab.dns_query("evil.example"))
        assert reply[3] & 15 == 3 and reply[6:8] == b"\0\0"  # NXDOMAIN, no records
        with pytest.raises(ConnectionRefusedError):
            guest.tcp(netlab.OTHERS["private192"], servers["private192"][0].port, timeout=QUICK)


def test_new_address_of_the_host_is_shut(lab):
    """The host gets a public address while the sandbox runs."""
    with sandbox(lab, "public") as (net, guest), server(lab.host, "0.0.0.0", echo) as srv:
        lab.host.ip("addr", "add", f"{netlab.HOST_LATER}/32", "dev", "up0")
        try:
            # The kernel's message and the frame race; both are on their way already.
            for _ in range(100):
                try:
                    guest.tcp(netlab.HOST_LATER, srv.port, timeout=QUICK).close()
                except ConnectionRefusedError:
                    break
            else:
                pytest.fail("a new address of the host stayed open")
            assert "reason=host" in net.log_text()
        finally:
            lab.host.ip("addr", "del", f"{netlab.HOST_LATER}/32", "dev", "up0")


# ---- raw frames ------------------------------------------------------------------------


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(proto, dst, payload, src=netlab.GUEST_IP, source_mac=netlab.GUEST_MAC, fragment=0):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, fragment, 64, proto, 0,
                       socket.inet_aton(src), socket.inet_aton(dst))
    head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
    return mac("52:55:0a:00:02:02") + mac(source_mac) + b"\x08\x00" + head + payload


def udp(dst, port, data, **kwargs):
    # A checksum of 0 means none, RFC 768.
    return ipv4(17, dst, struct.pack(">HHHH", 5555, port, 8 + len(data), 0) + data, **kwargs)


def tcp_syn(dst, port, **kwargs):
    src = kwargs.get("src", netlab.GUEST_IP)
    head = struct.pack(">HHIIBBHHH", 4444, port, 1000, 0, 0x50, 2, 65535, 0, 0)
    pseudo = socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack(">HH", 6, len(head))
    head = head[:16] + struct.pack(">H", checksum(pseudo + head)) + head[18:]
    return ipv4(6, dst, head, **kwargs)


def arp(target, source_mac=netlab.GUEST_MAC, sender=netlab.GUEST_IP):
    return b"\xff" * 6 + mac(source_mac) + b"\x08\x06" + struct.pack(">HHBBH", 1, 0x800, 6, 4, 1) \
        + mac(source_mac) + socket.inet_aton(sender) + b"\0" * 6 + socket.inet_aton(target)


def alive(net):
    """The gateway answers ARP: what was sent before has been dealt with."""
    net.send(arp(netlab.GATEWAY))
    while (frame := net.receive()) is not None:
        if frame[12:14] == b"\x08\x06" and frame[28:32] == socket.inet_aton(netlab.GATEWAY) \
                and frame[20:22] == b"\0\x02":
            return True
    return False


@pytest.mark.parametrize("dst", ["127.0.0.1", "0.0.0.0", "0.0.0.1", "10.0.2.9", "240.0.0.1"])
@pytest.mark.parametrize("scope", ["public", "any"])
def test_raw_loopback(lab, servers, scope, dst):
    """What the guest's kernel would not send by itself: answered by a reset."""
    port = servers["host-alias"][0].port  # somebody listens there, on 127.0.0.1
    with net_process(lab, scope) as net:
        net.send(tcp_syn(dst, port))
        frame = net.receive()
        assert frame[23] == 6 and frame[26:30] == socket.inet_aton(dst)
        assert frame[47] == 0x14  # RST, ACK
        assert struct.unpack(">I", frame[42:46])[0] == 1001
        net.send(udp(dst, port, b"x"))
        frame = net.receive()
        assert frame[23] == 1 and frame[34:36] == b"\x03\x0d"  # administratively prohibited


def test_spoofed_frames_are_dropped(lab):
    with net_process(lab, "public") as net, \
            server(lab.world, netlab.PUBLIC, bytes.upper, kind=netlab.UdpServer) as srv:
        assert alive(net)
        net.send(udp(netlab.PUBLIC, srv.port, b"x", src="10.0.2.16"))
        net.send(udp(netlab.PUBLIC, srv.port, b"x", src="8.8.8.8"))
        net.send(udp(netlab.PUBLIC, srv.port, b"x", source_mac="02:00:00:00:00:99"))
        net.send(arp(netlab.GATEWAY, source_mac="02:00:00:00:00:99"))
        net.send(arp(netlab.GATEWAY, sender="10.0.2.77"))
        # The genuine one is the first that gets an answer, and the only one that arrived.
        net.send(udp(netlab.PUBLIC, srv.port, b"genuine"))
        assert net.receive()[-7:] == b"GENUINE"
        assert srv.seen == 1
        assert net.end() == 0
        assert " spoofed=5" in net.log_text()


def test_fragments_do_not_pass(lab):
    with net_process(lab, "public") as net, \
            server(lab.world, netlab.PUBLIC, bytes.upper, kind=netlab.UdpServer) as srv:
        assert alive(net)
        whole = udp(netlab.PUBLIC, srv.port, b"x" * 16)
        first, rest = whole[34:34 + 16], whole[34 + 16:]
        net.send(ipv4(17, netlab.PUBLIC, first, fragment=0x2000))
        assert net.receive()[34:36] == b"\x03\x0d"
        net.send(ipv4(17, netlab.PUBLIC, rest, fragment=2))
        assert alive(net)
        assert srv.seen == 0


def test_noise_does_no_harm(lab):
    """Random and mutated frames; afterwards the process serves as before."""
    rng = random.Random(7)
    seeds = [arp(netlab.GATEWAY), udp(netlab.GATEWAY, 53, netlab.dns_query("a.b")), tcp_syn(netlab.PUBLIC, 9)]
    with net_process(lab, "any") as net:
        for i in range(3000):
            if i % 3:
                frame = bytearray(rng.choice(seeds))
                for _ in range(rng.randrange(1, 4)):
                    frame[rng.randrange(12, len(frame))] = rng.randrange(256)
                frame = bytes(frame[:rng.randrange(len(frame) + 1)]) if i % 5 == 0 else bytes(frame)
            else:
                frame = rng.randbytes(rng.choice([0, 1, 13, 14, 15, 60, 1500, 65534, 65535, 69632]))
            net.send(frame)
        assert alive(net)
        assert net.end() == 0


def test_impossible_length_ends_it_with_a_reason(lab):
    with net_process(lab, "public") as net:
        net.frames.sendall(struct.pack(">I", 69633))
        assert net.process.wait(10) == 1
        assert "impossible length" in net.log_text()


@pytest.mark.parametrize("partial", [b"", b"\0\0", struct.pack(">I", 1000) + b"half a frame"])
def test_end_of_the_vm_ends_it(lab, partial):
    with net_process(lab, "public") as net:
        assert alive(net)
        net.frames.sendall(partial)
        assert net.end() == 0


def test_sigterm_ends_it(lab):
    with net_process(lab, "public") as net:
        assert alive(net)
        net.process.terminate()
        assert net.process.wait(10) == 0


def test_vm_that_does_not_read(lab):
    """Servers pour data into connections whose guest stopped reading: memory stays bounded."""

    def serve(c):
        for _ in range(1000):
            c.sendall(b"x" * 65536)

    with net_process(lab, "public") as net, server(lab.world, netlab.PUBLIC, serve) as srv, \
            server(lab.world, netlab.PUBLIC, lambda d: d * 1000, kind=netlab.UdpServer) as flood:
        guest = netlab.Guest(net)
        with guest.tcp(netlab.PUBLIC, srv.port) as s:
            s.recv(1)
            # From here on nobody takes frames out of the socket.
            guest.close()
            # 60 MB of answers: far more than the queues between may hold.
            while flood.seen < 1000:
                net.send(udp(netlab.PUBLIC, flood.port, b"y" * 60))
        with open(f"/proc/{net.process.pid}/status") as f:
            peak_kb = next(int(line.split()[1]) for line in f if line.startswith("VmHWM:"))
        assert peak_kb < 24 * 1024
        assert net.end() == 0


def test_bad_arguments(lab):
    for args, text in ((["--frames-fd", "9"], "--frames-fd 9 is no open descriptor"),
                       (["--frames-fd", "0"], "--frames-fd 0 is no stream socket"),
                       (["--scope", "group", "--frames-fd", "0"], "--scope group"),
                       ([], "--frames-fd is missing"), (["--x"], "unknown"), (["y"], "'y'")):
        p = subprocess.run([MSB_NET, *args], stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
        assert p.returncode in (1, 2) and text in p.stderr.decode()
