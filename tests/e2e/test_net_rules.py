# SPDX-License-Identifier: Apache-2.0
"""Rules of msb-net's policy, tried by real clients: what is open answers, what is shut fails at once."""
import errno
import subprocess

import pytest

import netlab
from test_net_process import MSB_NET, QUICK, echo, lab, sandbox, server  # noqa: F401 (lab is a fixture)

pytestmark = pytest.mark.skipif(netlab.why_not() is not None, reason=str(netlab.why_not()))

PRIVATE = netlab.OTHERS["private10"]
METADATA = netlab.OTHERS["metadata"]


def policy(*lines):
    return {"extra": ("--policy", "\n".join(lines))}


def is_open(guest, address, port):
    """Does a server that echoes answer?"""
    try:
        s = guest.tcp(address, port, timeout=QUICK)
    except ConnectionRefusedError:
        return False
    with s:
        s.sendall(b"hello")
        return s.recv(10) == b"hello"


def udp_is_open(guest, address, port):
    try:
        return guest.udp(address, port, b"hello", timeout=QUICK) == b"HELLO"
    except OSError as e:
        assert e.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES), e
        return False


def denied(net):
    return [line for line in net.log_text().splitlines() if "event=denied" in line]


def test_the_first_rule_that_matches_decides(lab):
    with server(lab.world, PRIVATE, echo) as a, server(lab.world, PRIVATE, echo) as b, \
            server(lab.world, netlab.PUBLIC, echo) as c, \
            server(lab.world, PRIVATE, bytes.upper, kind=netlab.UdpServer) as u:
        rules = policy(f"deny tcp {PRIVATE}:{b.port}", "allow tcp 10.0.0.0/8", f"deny {netlab.PUBLIC}")
        with sandbox(lab, "public", **rules) as (net, guest):
            assert is_open(guest, PRIVATE, a.port)
            assert not is_open(guest, PRIVATE, b.port)
            assert not is_open(guest, netlab.PUBLIC, c.port)
            assert not udp_is_open(guest, PRIVATE, u.port)  # the second rule is for tcp
            assert net.end() == 0
            lines = denied(net)
            assert len(lines) == 3
            assert "reason=rule rule=1 proto=tcp" in lines[0]
            assert "reason=rule rule=3 proto=tcp" in lines[1]
            assert "reason=private rule=0 proto=udp" in lines[2]
            assert " rule=2" in net.log_text() and " private=1" in net.log_text()


@pytest.mark.parametrize("scope, rules", [("public", ("default deny",)), ("any", ("deny any",)), ("none", ())])
def test_nothing_but_what_is_named(lab, scope, rules):
    with server(lab.world, netlab.PUBLIC, echo) as a, server(lab.world, netlab.PUBLIC, echo) as b, \
            server(lab.host, "127.0.0.1", echo) as h:
        with sandbox(lab, scope, **policy(f"allow tcp {netlab.PUBLIC}:{a.port}", *rules)) as (_, guest):
            assert is_open(guest, netlab.PUBLIC, a.port)
            assert not is_open(guest, netlab.PUBLIC, b.port)
            assert not is_open(guest, netlab.HOST_ALIAS, h.port)
            assert not is_open(guest, PRIVATE, a.port)


@pytest.mark.parametrize("rule, opened", [
    ("allow any", False), ("allow 0.0.0.0/0", False), ("allow link-local", False), ("default allow", False),
    (f"allow {METADATA}", True), ("allow metadata", True)])
def test_metadata_is_opened_by_name_only(lab, rule, opened):
    with server(lab.world, METADATA, echo) as srv, \
            sandbox(lab, "any", **policy(rule)) as (_, guest):
        assert is_open(guest, METADATA, srv.port) == opened


@pytest.mark.parametrize("rule, loopback, own", [
    ("allow 10.0.0.0/8", False, False), ("allow 198.51.100.0/24", False, False), ("allow loopback", True, False),
    ("allow host", True, True), (f"allow {netlab.HOST_PUBLIC}", False, True), ("allow any", True, True)])
def test_the_host_is_opened_by_its_groups(lab, rule, loopback, own):
    with server(lab.host, "127.0.0.1", echo) as a, server(lab.host, netlab.HOST_PUBLIC, echo) as b, \
            sandbox(lab, "public", **policy(rule)) as (_, guest):
        assert is_open(guest, netlab.HOST_ALIAS, a.port) == loopback
        assert is_open(guest, netlab.HOST_PUBLIC, b.port) == own


def test_bad_policy_is_refused():
    p = subprocess.run([MSB_NET, "--frames-fd", "0", "--policy", "allow any\nallow nothing"],
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    assert p.returncode == 2 and b"--policy: line 2: 'nothing' is no group" in p.stderr
