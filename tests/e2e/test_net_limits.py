# SPDX-License-Identifier: Apache-2.0
"""Limits: what is too fast is held back and arrives all the same; what is too many is refused."""
import socket
import time

import pytest

import netlab
from test_net_process import QUICK, echo, lab, receive_all, sandbox, server  # noqa: F401 (lab is a fixture)
from test_net_rules import is_open, policy

pytestmark = pytest.mark.skipif(netlab.why_not() is not None, reason=str(netlab.why_not()))

SIZE = 2_000_000


def transfer(lab, limit, up):
    """Seconds for SIZE bytes one way; they have to arrive whole."""
    got = []

    def serve(c):
        if up:
            got.append(len(receive_all(c)))
            c.sendall(b"done")
        else:
            c.sendall(b"x" * SIZE)

    with server(lab.world, netlab.PUBLIC, serve) as srv, sandbox(lab, "public", **policy(*limit)) as (net, guest):
        start = time.monotonic()
        with guest.tcp(netlab.PUBLIC, srv.port, timeout=60) as s:
            if up:
                s.sendall(b"x" * SIZE)
                s.shutdown(socket.SHUT_WR)
                assert receive_all(s) == b"done"
                assert got == [SIZE]
            else:
                assert len(receive_all(s)) == SIZE
        seconds = time.monotonic() - start
        assert net.end() == 0
        assert " lost=0" in net.log_text()
    return seconds


@pytest.mark.parametrize("up", [True, False], ids=["out", "in"])
def test_bytes_per_second(lab, up):
    key = "out-bytes" if up else "in-bytes"
    # A second at this rate, less what had been saved up and what fits into windows on the way.
    assert transfer(lab, [f"limit {key} {SIZE // 1000}K"], up) > 0.5
    # The other direction's limit does not matter.
    other = "in-packets" if up else "out-packets"
    assert transfer(lab, [f"limit {other} 1000"], up) < 60


def test_packets_per_second(lab):
    n = 150
    with server(lab.world, netlab.PUBLIC, bytes.upper, kind=netlab.UdpServer) as srv, \
            sandbox(lab, "public", **policy("limit out-packets 100")) as (_, guest):
        start = time.monotonic()
        for _ in range(n):
            assert guest.udp(netlab.PUBLIC, srv.port, b"x", timeout=30) == b"X"
        assert time.monotonic() - start > 1


def test_connections_at_once(lab):
    with server(lab.world, netlab.PUBLIC, echo) as srv, \
            sandbox(lab, "public", **policy("limit connections 3")) as (net, guest):
        conns = [guest.tcp(netlab.PUBLIC, srv.port) for _ in range(3)]
        assert not is_open(guest, netlab.PUBLIC, srv.port)
        conns.pop().close()
        deadline = time.monotonic() + QUICK
        while not is_open(guest, netlab.PUBLIC, srv.port):
            assert time.monotonic() < deadline
        for c in conns:
            c.sendall(b"still")
            assert c.recv(10) == b"still"
            c.close()
        assert net.end() == 0
        assert "reason=connections rule=0 proto=tcp" in net.log_text()


def test_connections_per_second(lab):
    """Those that are too many wait: the guest's TCP asks again."""
    with server(lab.world, netlab.PUBLIC, echo) as srv, \
            sandbox(lab, "public", **policy("limit connects 2")) as (net, guest):
        for _ in range(4):
            guest.tcp(netlab.PUBLIC, srv.port, timeout=30).close()
        assert net.end() == 0
        assert " rate=" in net.log_text() and "event=denied" not in net.log_text()


def test_limits_change(lab):
    with server(lab.world, netlab.PUBLIC, echo) as srv, \
            sandbox(lab, "public", **policy("limit connections 1")) as (net, guest), \
            guest.tcp(netlab.PUBLIC, srv.port):
        assert not is_open(guest, netlab.PUBLIC, srv.port)
        assert net.set_policy() == "ok\n"
        assert is_open(guest, netlab.PUBLIC, srv.port)
