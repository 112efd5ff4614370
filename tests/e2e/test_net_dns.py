# SPDX-License-Identifier: Apache-2.0
"""The gateway's DNS: names and the policy, pins, rebinding, TCP, and resolvers that lie or are silent."""
import socket
import struct
import threading

import pytest

import netlab
from test_net_process import QUICK, echo, lab, sandbox, server  # noqa: F401 (lab is a fixture)
from test_net_rules import denied, is_open, policy

pytestmark = pytest.mark.skipif(netlab.why_not() is not None, reason=str(netlab.why_not()))

A, CNAME, AAAA = 1, 5, 28
NXDOMAIN, SERVFAIL = 3, 2
PRIVATE = netlab.OTHERS["private10"]


def labels(name):
    return b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0"


def question(name, qtype=A, qid=0x1234, edns=0):
    opt = b"\0" + struct.pack(">HHIH", 41, edns, 0, 0) if edns else b""
    return struct.pack(">HHHHHH", qid, 0x0100, 1, 0, 0, 1 if edns else 0) + labels(name) \
        + struct.pack(">HH", qtype, 1) + opt


def record(owner, rtype, data):
    return labels(owner) + struct.pack(">HHIH", rtype, 1, 60, len(data)) + data


def read_name(msg, at):
    parts, end = [], None
    while msg[at]:
        if msg[at] >= 0xC0:
            end = end or at + 2
            at = struct.unpack(">H", msg[at:at + 2])[0] & 0x3FFF
            continue
        parts.append(msg[at + 1:at + 1 + msg[at]].decode())
        at += 1 + msg[at]
    return ".".join(parts), end or at + 1


class Answer:
    def __init__(self, msg):
        self.id, flags, _, n, _, _ = struct.unpack(">HHHHHH", msg[:12])
        self.rcode, self.truncated = flags & 15, bool(flags & 0x200)
        self.addresses, self.types = [], []
        _, at = read_name(msg, 12)
        at += 4
        for _ in range(n):
            _, at = read_name(msg, at)
            rtype, _, _, size = struct.unpack(">HHIH", msg[at:at + 10])
            data = msg[at + 10:at + 10 + size]
            at += 10 + size
            self.types.append(rtype)
            if rtype in (A, AAAA):
                self.addresses.append(socket.inet_ntop(socket.AF_INET if rtype == A else socket.AF_INET6, data))


class Zone:
    """A resolver's knowledge: name -> list of addresses, or the alias it is."""

    def __init__(self, names):
        self.names, self.asked = names, []
        self.mangle = lambda reply: reply  # of UDP

    def reply(self, query):
        name, at = read_name(query, 12)
        qtype = struct.unpack(">H", query[at:at + 2])[0]
        self.asked.append(name)
        records, rcode = [], 0
        found = self.names.get(name.lower())
        if isinstance(found, str):
            records.append(record(name, CNAME, labels(found)))
            name, found = found, self.names.get(found)
        for a in found or []:
            if (":" in a) == (qtype == AAAA):
                records.append(record(name, qtype, socket.inet_pton(netlab.family(a), a)))
        if found is None:
            rcode = NXDOMAIN
        return query[:2] + struct.pack(">HHHHH", 0x8180 | rcode, 1, len(records), 0, 0) \
            + query[12:at + 4] + b"".join(records)

    def udp(self, query):
        reply = self.reply(query)
        if len(reply) > 1232:
            reply = reply[:2] + struct.pack(">HHHHH", 0x8380, 1, 0, 0, 0) + query[12:query.index(b"\0", 12) + 5]
        return self.mangle(reply)

    def tcp(self, c):
        f = c.makefile("rb")
        while head := f.read(2):
            reply = self.reply(f.read(struct.unpack(">H", head)[0]))
            c.sendall(struct.pack(">H", len(reply)) + reply)


class Resolver:
    def __init__(self, ns, address, names):
        self.zone = Zone(names)
        self.servers = [netlab.UdpServer(ns, address, self.zone.udp, port=53),
                        netlab.Server(ns, address, self.zone.tcp, port=53)]

    def __enter__(self):
        return self.zone

    def __exit__(self, *_):
        for s in self.servers:
            s.close()


@pytest.fixture
def zone(lab):
    names = {
        "example.org": [netlab.PUBLIC],
        "www.example.org": "example.org",
        "evil.example": [netlab.PUBLIC],
        "cloaked.example": "evil.example",
        "inside.example": [PRIVATE],
        "mixed.example": [PRIVATE, netlab.PUBLIC, "127.0.0.1", "169.254.169.254", "10.0.2.4"],
        "six.example": ["2001:db8::1", netlab.PUBLIC],
        "many.example": [f"192.0.2.{i}" for i in range(1, 201)],
    }
    with Resolver(lab.world, netlab.DNS, names) as z:
        yield z


def ask(guest, name, qtype=A, **kwargs):
    return Answer(guest.udp(netlab.GATEWAY, 53, question(name, qtype, **kwargs)))


def ask_tcp(s, *names):
    for n in names:
        q = question(n)
        s.sendall(struct.pack(">H", len(q)) + q)


def read_tcp(f):
    return Answer(f.read(struct.unpack(">H", f.read(2))[0]))


# ---- names and rules ----------------------------------------------------------------------


def test_a_name_opens_its_addresses_and_ports(lab, zone):
    with server(lab.world, netlab.PUBLIC, echo) as a, server(lab.world, netlab.PUBLIC, echo) as b, \
            server(lab.world, netlab.DNS, echo) as other:
        with sandbox(lab, "public", **policy("default deny", f"allow tcp example.org:{a.port}")) as (net, guest):
            assert not is_open(guest, netlab.PUBLIC, a.port)  # nobody has said yet what the name stands for
            assert ask(guest, "example.org").addresses == [netlab.PUBLIC]
            assert is_open(guest, netlab.PUBLIC, a.port)
            assert not is_open(guest, netlab.PUBLIC, b.port)
            assert not is_open(guest, netlab.DNS, other.port)
            assert net.end() == 0
            lines = denied(net)
            assert "reason=default" in lines[0] and "name=-" in lines[0]
            assert "reason=default" in lines[1] and "name=example.org" in lines[1]


def test_denied_names_are_not_asked_for(lab, zone):
    with sandbox(lab, "none", **policy("allow *.example.org")) as (net, guest):
        assert ask(guest, "evil.example").rcode == NXDOMAIN
        assert ask(guest, "example.org").rcode == NXDOMAIN
        assert ask(guest, "EVIL.example", edns=4096).rcode == NXDOMAIN
        assert ask(guest, "WWW.Example.ORG").addresses == [netlab.PUBLIC]
        assert zone.asked == ["WWW.Example.ORG"]
        assert net.end() == 0
        assert "reason=scope rule=0 proto=dns type=1 name=evil.example" in denied(net)[0]


def test_denied_name_in_a_scope(lab, zone):
    with server(lab.world, netlab.PUBLIC, echo) as srv, \
            sandbox(lab, "public", **policy("deny evil.example")) as (net, guest):
        assert ask(guest, "example.org").addresses == [netlab.PUBLIC]
        assert ask(guest, "evil.example").rcode == NXDOMAIN
        assert ask(guest, "cloaked.example").rcode == NXDOMAIN  # an alias of it
        assert is_open(guest, netlab.PUBLIC, srv.port)
        assert net.end() == 0
        assert all("reason=rule rule=1 proto=dns" in line for line in denied(net))


@pytest.mark.parametrize("port", [53, 853])
def test_other_resolvers_are_shut_while_names_count(lab, zone, port):
    with server(lab.world, netlab.PUBLIC, echo, port=port):
        with sandbox(lab, "any", **policy("deny evil.example", "allow any")) as (net, guest):
            assert not is_open(guest, netlab.PUBLIC, port)
            with pytest.raises(OSError):
                guest.udp(netlab.DNS, port, question("example.org"), timeout=QUICK)
            assert "reason=resolver" in denied(net)[0]
        with sandbox(lab, "any", **policy("allow any")) as (net, guest):
            assert is_open(guest, netlab.PUBLIC, port)


# ---- rebinding ------------------------------------------------------------------------------


def test_rebinding(lab, zone):
    with sandbox(lab, "public") as (net, guest):
        assert ask(guest, "inside.example").rcode == NXDOMAIN
        mixed = ask(guest, "mixed.example")
        assert (mixed.rcode, mixed.addresses) == (0, [netlab.PUBLIC])
        assert net.end() == 0
        assert f"reason=rebinding rule=0 proto=dns dst={PRIVATE} name=inside.example" in denied(net)[0]
        assert " rebinding=5" in net.log_text()


def test_addresses_that_rules_open_are_no_rebinding(lab, zone):
    with sandbox(lab, "public", **policy("allow tcp 10.0.0.0/8:80")) as (_, guest):
        assert ask(guest, "inside.example").addresses == [PRIVATE]
    with sandbox(lab, "any") as (_, guest):
        assert ask(guest, "mixed.example").addresses == [PRIVATE, netlab.PUBLIC]


def test_a_name_opens_nothing_private(lab, zone):
    with server(lab.world, PRIVATE, echo) as srv, \
            sandbox(lab, "public", **policy("default deny", "allow inside.example")) as (_, guest):
        assert ask(guest, "inside.example").rcode == NXDOMAIN
        assert not is_open(guest, PRIVATE, srv.port)


# ---- over TCP ---------------------------------------------------------------------------------


def test_answers_that_need_tcp(lab, zone):
    with sandbox(lab, "public") as (_, guest):
        short = ask(guest, "many.example")
        assert short.truncated and not short.addresses
        with guest.tcp(netlab.GATEWAY, 53) as s:
            ask_tcp(s, "many.example", "example.org", "many.example")
            s.shutdown(socket.SHUT_WR)  # what was asked is answered all the same
            f = s.makefile("rb")
            got = sorted(len(read_tcp(f).addresses) for _ in range(3))
            assert got == [1, 200, 200]
            assert f.read() == b""  # and then it is closed


def test_tcp_byte_by_byte(lab, zone):
    q = question("example.org")
    with sandbox(lab, "public") as (_, guest), guest.tcp(netlab.GATEWAY, 53) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for b in struct.pack(">H", len(q)) + q:
            s.sendall(bytes([b]))
        assert read_tcp(s.makefile("rb")).addresses == [netlab.PUBLIC]


def test_many_questions_on_one_connection(lab, zone):
    """More than are asked at a time, and more answers than a window holds."""
    n = 100
    with sandbox(lab, "public") as (_, guest), guest.tcp(netlab.GATEWAY, 53) as s:
        threading.Thread(target=ask_tcp, args=(s, *["many.example"] * n), daemon=True).start()
        f = s.makefile("rb")
        assert all(len(read_tcp(f).addresses) == 200 for _ in range(n))


def test_many_connections(lab, zone):
    """One more than there is room for ends the one that is idle longest, and is served."""
    with sandbox(lab, "public") as (_, guest):
        conns = [guest.tcp(netlab.GATEWAY, 53) for _ in range(40)]
        ask_tcp(conns[-1], "example.org")
        assert read_tcp(conns[-1].makefile("rb")).addresses == [netlab.PUBLIC]
        with pytest.raises(ConnectionResetError):
            conns[0].recv(1)
        for c in conns:
            c.close()


def test_nonsense_over_tcp(lab, zone):
    with sandbox(lab, "public") as (_, guest):
        with guest.tcp(netlab.GATEWAY, 53) as s:
            s.sendall(b"\xff\xff" + b"x" * 4000)
            with pytest.raises(ConnectionError):
                while s.recv(100):
                    pass
        with guest.tcp(netlab.GATEWAY, 53) as s:
            s.sendall(b"\0\0\0\3abc")
            ask_tcp(s, "example.org")
            assert read_tcp(s.makefile("rb")).addresses == [netlab.PUBLIC]


# ---- resolvers ----------------------------------------------------------------------------------


def test_forged_answers_are_passed_over(lab, zone):
    """Another id, another name, and no DNS at all come first."""
    def mangle(reply):
        other_id = bytes([reply[0] ^ 1]) + reply[1:]
        other_name = reply[:13] + b"x" + reply[14:]
        return [b"", b"x", other_id, other_name, reply[:2] + bytes([reply[2] ^ 0x80]) + reply[3:], reply]

    zone.mangle = mangle
    with sandbox(lab, "public") as (_, guest):
        assert ask(guest, "example.org").addresses == [netlab.PUBLIC]


def test_ids_and_ports_are_not_the_guests(lab):
    seen = []
    ready = netlab.UdpServer(lab.world, netlab.DNS, lambda q: seen.append(q[:2]) or Zone({}).reply(q), port=53)
    try:
        with sandbox(lab, "public") as (_, guest):
            for _ in range(8):
                assert ask(guest, "a.example").id == 0x1234
    finally:
        ready.close()
    assert len(set(seen)) > 6 and seen.count(b"\x12\x34") < 2


def test_the_next_resolver_is_asked(lab, zone):
    """The first refuses the port, the second is another that answers SERVFAIL."""
    failing = netlab.UdpServer(lab.world, PRIVATE, lambda q: q[:2] + b"\x81\x82" + q[4:], port=53)
    try:
        servers = f"{netlab.PUBLIC}\nnameserver {PRIVATE}\nnameserver {netlab.DNS}"
        with sandbox(lab, "public", nameserver=servers) as (_, guest):
            assert ask(guest, "example.org").addresses == [netlab.PUBLIC]
    finally:
        failing.close()


def test_no_resolver_answers(lab):
    """Nobody listens: the guest is told at once."""
    with sandbox(lab, "public", nameserver=netlab.PUBLIC) as (_, guest):
        assert ask(guest, "example.org").rcode == SERVFAIL


def test_resolver_with_an_ipv6_address(lab):
    with Resolver(lab.host, "::1", {"example.org": [netlab.PUBLIC]}), \
            sandbox(lab, "public", nameserver="::1") as (_, guest):
        assert ask(guest, "example.org").addresses == [netlab.PUBLIC]
        with guest.tcp(netlab.GATEWAY, 53) as s:
            ask_tcp(s, "example.org")
            assert read_tcp(s.makefile("rb")).addresses == [netlab.PUBLIC]


def test_more_questions_than_may_wait(lab):
    silent = netlab.UdpServer(lab.world, netlab.DNS, lambda q: [], port=53)
    try:
        with sandbox(lab, "public") as (net, guest):
            with guest.ns.socket(socket.SOCK_DGRAM) as s:
                s.settimeout(QUICK)
                s.connect((netlab.GATEWAY, 53))
                for i in range(300):
                    s.send(question(f"n{i}.example", qid=i))
                for _ in range(300 - 256):
                    assert Answer(s.recv(512)).rcode == SERVFAIL
    finally:
        silent.close()


def test_no_ipv6_no_aaaa(lab, zone):
    with sandbox(lab, "public") as (_, guest):
        six = ask(guest, "six.example", AAAA)
        assert (six.rcode, six.types) == (0, [])
        assert ask(guest, "six.example").addresses == [netlab.PUBLIC]
