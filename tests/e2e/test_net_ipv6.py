# SPDX-License-Identifier: Apache-2.0
"""The same network over IPv6: what is open, what is shut, and what must not get through at all."""
import hashlib
import random
import socket
import struct
import threading

import pytest

import netlab
from test_net_dns import AAAA, NXDOMAIN, Resolver, ask
from test_net_process import QUICK, checksum, echo, lab, mac, net_process, receive_all, sandbox, server  # noqa: F401
from test_net_rules import denied, is_open, udp_is_open

pytestmark = pytest.mark.skipif(netlab.why_not() is not None, reason=str(netlab.why_not()))


def six(*rules):
    return {"extra": ("--ipv6", "--policy", "\n".join(rules))}


# destination: (address, scopes in which it is open)
DESTINATIONS = {
    "public": (netlab.PUBLIC6, {"public", "any"}),
    "unique-local": (netlab.OTHERS6["unique-local"], {"any"}),
    "site-local": (netlab.OTHERS6["site-local"], {"any"}),
    "nat64-public": (netlab.OTHERS6["nat64-public"], {"public", "any"}),
    "nat64-private": (netlab.OTHERS6["nat64-private"], set()),
    "nat64-metadata": (netlab.OTHERS6["nat64-metadata"], set()),
    "metadata": (netlab.OTHERS6["metadata"], set()),
    "6to4": (netlab.OTHERS6["6to4"], set()),
    "teredo": (netlab.OTHERS6["teredo"], set()),
    "host-address": (netlab.HOST_PUBLIC6, {"any"}),
    "gateway": (netlab.GATEWAY6, set()),
    "dns-of-the-stack": ("fd6d:7362:6e74::3", set()),
}


@pytest.fixture(scope="module")
def servers(lab):
    """TCP and UDP at every destination that is somewhere: {name: (TCP server, UDP server)}."""
    found = {}
    for name, (address, _) in DESTINATIONS.items():
        if not address.startswith("fd6d:"):
            ns = lab.host if name.startswith("host") else lab.world
            found[name] = (netlab.Server(ns, address, echo), netlab.UdpServer(ns, address, bytes.upper))
    yield found
    for pair in found.values():
        for s in pair:
            s.close()


@pytest.mark.parametrize("scope", ["public", "any"])
def test_scope(lab, servers, scope):
    with sandbox(lab, scope, **six()) as (_, guest):
        for name, (address, open_in) in DESTINATIONS.items():
            tcp, udp = servers.get(name, (None, None))
            seen = udp.seen if udp else 0
            assert is_open(guest, address, tcp.port if tcp else 53) == (scope in open_in), name
            assert udp_is_open(guest, address, udp.port if udp else 53) == (scope in open_in), name
            assert not udp or udp.seen - seen == (scope in open_in), name


def test_tcp_both_ways_byte_exact(lab):
    data = random.Random(1).randbytes(20_000_000)
    got = []

    def serve(c):
        got.append(hashlib.sha256(receive_all(c)).digest())
        c.sendall(data)

    with sandbox(lab, "public", **six()) as (_, guest), server(lab.world, netlab.PUBLIC6, serve) as srv:
        with guest.tcp(netlab.PUBLIC6, srv.port, timeout=60) as s:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            back = receive_all(s)
    assert got == [hashlib.sha256(data).digest()] and back == data


def test_rules(lab, servers):
    public, local = servers["public"][0], servers["unique-local"][0]
    address = netlab.OTHERS6["unique-local"]
    with sandbox(lab, "public", **six(f"deny tcp [{netlab.PUBLIC6}]:{public.port}", "allow fd12::/16")) as (net, guest):
        assert not is_open(guest, netlab.PUBLIC6, public.port)
        assert is_open(guest, address, local.port)
        assert f"reason=rule rule=1 proto=tcp number=6 dst={netlab.PUBLIC6}" in denied(net)[0]
        # What an IPv4 rule says of an address holds behind a translator as well.
        nat64 = servers["nat64-public"][0]
        assert is_open(guest, netlab.OTHERS6["nat64-public"], nat64.port)
        assert net.set_policy(f"deny {netlab.PUBLIC}") == "ok\n"
        assert not is_open(guest, netlab.OTHERS6["nat64-public"], nat64.port)
        assert not is_open(guest, address, local.port)


def test_cut(lab):
    gone = threading.Event()

    def serve(c):
        try:
            while data := c.recv(100):
                c.sendall(data)
        finally:
            gone.set()

    with server(lab.world, netlab.PUBLIC6, serve) as srv, sandbox(lab, "public", **six()) as (net, guest), \
            guest.tcp(netlab.PUBLIC6, srv.port, timeout=QUICK) as s:
        s.sendall(b"hello")
        assert s.recv(10) == b"hello"
        assert net.set_policy("deny 2000::/3") == "ok\n"
        with pytest.raises(ConnectionResetError):
            s.recv(10)
        assert gone.wait(QUICK)


def test_names(lab, servers):
    names = {"six.example": [netlab.PUBLIC6], "inside.example": [netlab.OTHERS6["unique-local"]],
             "meta.example": [netlab.OTHERS6["metadata"]], "nat.example": [netlab.OTHERS6["nat64-private"]]}
    port = servers["public"][0].port
    with Resolver(lab.world, netlab.DNS, names), \
            sandbox(lab, "public", **six("default deny", f"allow tcp *.example:{port}")) as (_, guest):
        assert not is_open(guest, netlab.PUBLIC6, port)
        assert ask(guest, "six.example", AAAA).addresses == [netlab.PUBLIC6]
        assert is_open(guest, netlab.PUBLIC6, port)
        for name in ("inside.example", "meta.example", "nat.example"):
            assert ask(guest, name, AAAA).rcode == NXDOMAIN


def test_no_ipv6_unless_told(lab):
    with sandbox(lab, "any") as (net, guest):
        s = guest.ns.socket(family=socket.AF_INET6)
        s.settimeout(2)
        with s, pytest.raises(OSError):
            s.connect((netlab.PUBLIC6, 80))
        assert net.end() == 0
        assert " ethertype=" in net.log_text()


# ---- raw frames ------------------------------------------------------------------------------


def packed(address):
    return socket.inet_pton(socket.AF_INET6, address)


def ipv6(next_header, dst, payload, src=netlab.GUEST_IP6, hops=64):
    return mac("52:56:00:00:00:02") + mac(netlab.GUEST_MAC) + b"\x86\xdd" \
        + struct.pack(">IHBB", 6 << 28, len(payload), next_header, hops) + packed(src) + packed(dst) + payload


def udp6(dst, port, data, **kwargs):
    src = kwargs.get("src", netlab.GUEST_IP6)
    head = struct.pack(">HHHH", 5555, port, 8 + len(data), 0)
    pseudo = packed(src) + packed(dst) + struct.pack(">II", 8 + len(data), 17)
    return ipv6(17, dst, head[:6] + struct.pack(">H", checksum(pseudo + head + data)) + data, **kwargs)


def solicit(target, src=netlab.GUEST_IP6, hops=255):
    body = b"\x87\0\0\0\0\0\0\0" + packed(target) + b"\x01\x01" + mac(netlab.GUEST_MAC)
    dst = "ff02::1:ff" + "%02x:%02x%02x" % tuple(packed(target)[-3:])
    pseudo = packed(src) + packed(dst) + struct.pack(">II", len(body), 58)
    return ipv6(58, dst, body[:2] + struct.pack(">H", checksum(pseudo + body)) + body[4:], src=src, hops=hops)


def alive6(net):
    """The gateway answers neighbour discovery: what was sent before has been dealt with."""
    net.send(solicit(netlab.GATEWAY6))
    while (frame := net.receive()) is not None:
        if frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 0x88:
            return True
    return False


def test_what_must_not_get_through(lab):
    """Extension headers, fragments, other sources, other hop limits, mapped IPv4."""
    with net_process(lab, "any", **six()) as net, \
            server(lab.world, netlab.PUBLIC6, bytes.upper, kind=netlab.UdpServer) as srv:
        assert alive6(net)
        whole = udp6(netlab.PUBLIC6, srv.port, b"x" * 16)
        segment = whole[54:]
        for header in (0, 43, 51, 60, 135):  # hop-by-hop, routing, AH, destination options, mobility
            net.send(ipv6(header, netlab.PUBLIC6, b"\x11\0\1\4\0\0\0\0" + segment))
            frame = net.receive()
            assert frame[20] == 58 and frame[54:56] == b"\x01\x01"  # administratively prohibited
        net.send(ipv6(44, netlab.PUBLIC6, b"\x11\0\0\1\0\0\0\7" + segment))
        assert net.receive()[54:56] == b"\x01\x01"
        net.send(ipv6(44, netlab.PUBLIC6, b"\x11\0\0\x10\0\0\0\7" + segment))  # a later fragment
        net.send(ipv6(132, netlab.PUBLIC6, segment))  # SCTP
        assert net.receive()[54:56] == b"\x01\x01"
        for src in ("fd6d:7362:6e74::10", "2001:db8::1", "::", "fe80::1", netlab.GATEWAY6):
            net.send(udp6(netlab.PUBLIC6, srv.port, b"spoofed", src=src))
        net.send(solicit("fd6d:7362:6e74::2", hops=64))
        net.send(ipv6(17, "::ffff:198.51.100.7", segment))
        net.send(ipv6(58, "ff02::2", b"\x85\0\0\0\0\0\0\0", hops=255))  # router solicitation
        for dst in ("::1", "::", "fe80::2", "::127.0.0.1", "ff02::fb"):
            net.send(udp6(dst, srv.port, b"x"))
        assert alive6(net)
        assert srv.seen == 0
        net.send(whole)
        assert net.receive()[-16:] == b"X" * 16
        assert net.end() == 0
        assert " spoofed=5" in net.log_text()


def test_ping_of_the_gateway_only(lab):
    """libslirp carries none further; the guest is told so."""
    def echo6(dst):
        body = b"\x80\0\0\0\0\7\0\1ping"
        pseudo = packed(netlab.GUEST_IP6) + packed(dst) + struct.pack(">II", len(body), 58)
        return ipv6(58, dst, body[:2] + struct.pack(">H", checksum(pseudo + body)) + body[4:])

    with net_process(lab, "any", **six()) as net:
        assert alive6(net)
        net.send(echo6(netlab.GATEWAY6))
        frame = net.receive()
        assert frame[54] == 129 and frame[-4:] == b"ping"
        net.send(echo6(netlab.PUBLIC6))
        assert net.receive()[54:56] == b"\x01\x01"
        net.send(echo6("fd6d:7362:6e74::77"))
        assert net.receive()[54:56] == b"\x01\x01"
        assert net.end() == 0
        assert "reason=protocol rule=0 proto=icmp number=58" in denied(net)[0]


def test_noise_does_no_harm(lab):
    rng = random.Random(7)
    seeds = [solicit(netlab.GATEWAY6), udp6(netlab.PUBLIC6, 9, b"x" * 40), udp6("fe80::2", 53, b"y")]
    with net_process(lab, "any", **six()) as net:
        for i in range(3000):
            frame = bytearray(rng.choice(seeds))
            for _ in range(rng.randrange(1, 5)):
                frame[rng.randrange(12, len(frame))] = rng.randrange(256)
            net.send(bytes(frame[:rng.randrange(14, len(frame) + 1)]) if i % 4 == 0 else bytes(frame))
        assert alive6(net)
        assert net.end() == 0
