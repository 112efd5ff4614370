# SPDX-License-Identifier: Apache-2.0
"""Rules that change while msb-net runs, and datagrams that nobody asked for."""
import socket
import threading

import pytest

import netlab
from test_net_process import QUICK, echo, lab, net_process, sandbox, server  # noqa: F401 (lab is a fixture)
from test_net_rules import is_open, policy, udp_is_open

pytestmark = pytest.mark.skipif(netlab.why_not() is not None, reason=str(netlab.why_not()))

PRIVATE = netlab.OTHERS["private10"]


def test_rules_change(lab):
    with server(lab.world, netlab.PUBLIC, echo) as a, server(lab.world, PRIVATE, echo) as b, \
            server(lab.world, netlab.PUBLIC, bytes.upper, kind=netlab.UdpServer) as u:
        with sandbox(lab, "public") as (net, guest):
            assert is_open(guest, netlab.PUBLIC, a.port) and udp_is_open(guest, netlab.PUBLIC, u.port)
            assert not is_open(guest, PRIVATE, b.port)
            assert net.set_policy("default deny", "allow tcp private") == "ok\n"
            assert not is_open(guest, netlab.PUBLIC, a.port) and not udp_is_open(guest, netlab.PUBLIC, u.port)
            assert is_open(guest, PRIVATE, b.port)
            assert net.set_policy() == "ok\n"
            assert is_open(guest, netlab.PUBLIC, a.port) and not is_open(guest, PRIVATE, b.port)
            assert net.end() == 0
            assert "event=policy rules=1 version=1" in net.log_text()


def test_what_is_no_longer_allowed_is_cut(lab):
    """At once, on both sides, although nobody sends anything."""
    gone = threading.Event()

    def serve(c):
        try:
            while data := c.recv(100):
                c.sendall(data)
        finally:
            gone.set()

    with server(lab.world, netlab.PUBLIC, serve) as srv, server(lab.world, netlab.PUBLIC, echo) as other, \
            sandbox(lab, "public") as (net, guest):
        with guest.tcp(netlab.PUBLIC, srv.port, timeout=QUICK) as s, \
                guest.tcp(netlab.PUBLIC, other.port, timeout=QUICK) as kept:
            for c in (s, kept):
                c.sendall(b"hello")
                assert c.recv(10) == b"hello"
            assert net.set_policy(f"deny tcp any:{srv.port}") == "ok\n"
            with pytest.raises(ConnectionResetError):
                s.recv(10)
            assert gone.wait(QUICK)
            kept.sendall(b"again")
            assert kept.recv(10) == b"again"
        assert net.end() == 0
        log = net.log_text()
        assert f"event=cut scope=public reason=rule rule=1 proto=tcp number=6 dst={netlab.PUBLIC}" in log
        assert " cut=1" in log


@pytest.mark.parametrize("head, lines, text", [
    ("policy 1\n", ("allow privat",), "error line 1: 'privat' is no group"),
    ("policy 2\n", (), "error the message does not start"),
    ("", ("allow any",), "error the message does not start"),
    ("policy 1\n", ("x" * 40000,), "error the policy is longer"),
    ("policy 1\n", ("allow host:80",), "error the host's loopback cannot be opened"),
    ("policy 1\n", ("allow any",), "error the host's loopback cannot be opened")])
def test_bad_messages_change_nothing(lab, head, lines, text):
    with server(lab.world, netlab.PUBLIC, echo) as a, server(lab.world, PRIVATE, echo) as b, \
            sandbox(lab, "public", **policy("allow private")) as (net, guest):
        assert net.set_policy(*lines, head=head).startswith(text)
        assert is_open(guest, netlab.PUBLIC, a.port) and is_open(guest, PRIVATE, b.port)


def test_the_rules_stay_when_the_supervisor_is_gone(lab):
    with server(lab.world, PRIVATE, echo) as srv, \
            sandbox(lab, "public", **policy("allow private")) as (net, guest):
        net.control.close()
        assert is_open(guest, PRIVATE, srv.port)
        assert net.end() == 0


def test_control_must_be_a_socket_of_packets(lab):
    with net_process(lab, "public", extra=("--control-fd", "0")) as net:
        assert net.process.wait(10) == 1
        assert "--control-fd 0 is no socket of packets" in net.log_text()


def test_datagrams_from_strangers(lab):
    """The host's port is open to anybody; the guest gets only what it asked for."""
    with lab.world.socket(socket.SOCK_DGRAM) as right, lab.world.socket(socket.SOCK_DGRAM) as stranger, \
            sandbox(lab, "public") as (net, guest), guest.ns.socket(socket.SOCK_DGRAM) as s:
        for server_socket in (right, stranger):
            server_socket.bind((netlab.PUBLIC, 0))
        s.settimeout(QUICK)
        s.sendto(b"x", right.getsockname())
        _, peer = right.recvfrom(10)  # the host's address and port
        for _ in range(5):
            stranger.sendto(b"from a stranger", peer)
        right.sendto(b"from the right one", peer)
        assert s.recvfrom(100) == (b"from the right one", right.getsockname())
        assert net.end() == 0
        assert " unasked=5" in net.log_text()


def test_rules_for_published_ports(lab):
    """Who may come in: by the client's address and the guest's port, and it can change."""
    listener = lab.host.socket()
    listener.bind((netlab.HOST_PUBLIC, 0))
    listener.listen()
    at = listener.getsockname()

    def knock():
        with lab.world.socket() as s:
            s.settimeout(QUICK)
            try:
                s.connect(at)
                s.sendall(b"hello")
                return s.recv(10) == b"hello"
            except ConnectionError:
                return False

    publish = [(listener, "tcp", 8000)]
    with sandbox(lab, "public", publish=publish, **policy(f"deny in tcp {netlab.WORLD_GATEWAY}:8000")) as (net, guest), \
            server(guest.ns, netlab.GUEST_IP, echo, port=8000):
        assert not knock()
        assert net.set_policy("default in deny", f"allow in {netlab.WORLD_GATEWAY}:8000") == "ok\n"
        assert knock()
        assert net.set_policy("default in deny") == "ok\n"
        assert not knock()
        assert net.end() == 0
        assert f"event=denied direction=in reason=rule rule=1 proto=tcp src={netlab.WORLD_GATEWAY} port=8000" \
            in net.log_text()
