# SPDX-License-Identifier: Apache-2.0
"""The network as a program in a sandbox sees it, and the jails of the processes that carry it."""
import glob
import os
import socket
import textwrap

import pytest

from conftest import ENGINE, VM_PROGRAM


PROBE = textwrap.dedent("""
    import socket, sys, time
    for arg in sys.argv[1:]:
        host, port = arg.rsplit(":", 1)
        start = time.time()
        try:
            socket.create_connection((host, int(port)), 20).close()
            result = "open"
        except OSError as e:
            result = e.strerror
        print(arg, "slow" if time.time() - start > 10 else "", result, sep="|")
""")


def probe(box, scope, *targets, options=()):
    p = box.msx("-q", "--scope", scope, *options, "python", "--", "-c", PROBE, *targets, check=0)
    lines = [line.split("|") for line in p.stdout.decode().splitlines()]
    assert [line[0] for line in lines] == list(targets)
    assert not any(line[1] for line in lines), lines
    return [line[2] for line in lines]


def test_public_is_shut_towards_the_host(box, listener):
    """Nothing here leaves the machine: every target is denied before a packet is sent."""
    refused = "Connection refused"
    assert probe(box, "public", f"10.0.2.4:{listener}", f"10.0.2.2:{listener}", "169.254.169.254:80",
                 "192.168.1.1:80", "10.1.1.1:22") == [refused] * 5


def test_any_reaches_the_host_by_name(box, listener):
    assert probe(box, "any", f"host.microsandbox.internal:{listener}", "169.254.169.254:80") \
        == ["open", "Connection refused"]


def test_none_is_shut_and_says_what_was_denied(box, listener, tmp_path):
    """At once, names too; what it was is in a file of the caller's, which is there when the sandbox is gone."""
    log = tmp_path / "net.log"
    refused = "Connection refused"
    assert probe(box, "none", f"10.0.2.4:{listener}", "192.168.1.1:80", "169.254.169.254:80", "8.8.8.8:53", "example.org:80",
                 "10.0.2.99:1", options=("--net-log", str(log))) == [refused] * 4 + ["Name or service not known", refused]
    text = log.read_text()
    for what in (f"dst=10.0.2.4 port={listener}", "dst=192.168.1.1 port=80", "dst=169.254.169.254 port=80",
                 "dst=8.8.8.8 port=53", "proto=dns type=1 name=example.org", "dst=10.0.2.99 port=1"):
        assert any("event=denied scope=none reason=scope" in line and what in line for line in text.splitlines()), (what, text)
    box.assert_nothing_left()


def test_rules_on_the_command_line(box, listener):
    """In the order in which they are given, and with scope none as well."""
    refused = "Connection refused"
    deny = "--net-deny", f"tcp loopback:{listener}", "--net-allow", "host"
    assert probe(box, "public", f"10.0.2.4:{listener}", options=deny) == [refused]
    allow = "--net-allow", f"tcp loopback:{listener}"
    assert probe(box, "none", f"host.microsandbox.internal:{listener}", "10.1.1.1:22", options=allow) \
        == ["open", refused]


def host_has_ipv6():
    """As the supervisor finds out: is there a route, and from an address that is more than this link's?"""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
            s.connect(("2000::1", 53))
            return not s.getsockname()[0].startswith(("fe80:", "::1"))
    except OSError:
        return False


def test_ipv6_where_the_host_has_it(box):
    """Every target is denied before a packet is sent: private, metadata, and the gateway's ports."""
    targets = "fd12:3456::1:80", "fd00:ec2::254:80", "fd6d:7362:6e74::2:80"
    expected = "Connection refused" if host_has_ipv6() else "Network is unreachable"
    assert probe(box, "public", *targets) == [expected] * 3
    p = box.msx("-q", "python", "--", "-c", "print(open('/proc/net/if_inet6').read())")
    assert (b"fd6d73626e740000000000000000000f" in p.stdout) == host_has_ipv6()
    assert probe(box, "none", targets[0]) == ["Network is unreachable"]


def test_names_are_resolved(box):
    """By the host's resolver; whether it knows any name is not ours to test, that it answers is."""
    code = "import socket,sys\ntry: socket.getaddrinfo('name.invalid', 80)\nexcept OSError as e: print(e.errno)"
    p = box.msx("-q", "python", "--", "-c", code, check=0)
    # EAI_NONAME: a resolver said so.  EAI_AGAIN: none could be reached, as on a machine without network.
    assert p.stdout.strip() in (b"-2", b"-3", b"-5")


# ---- jails -----------------------------------------------------------------------------


def status(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def namespaces(pid):
    return {os.path.basename(n): os.readlink(n) for n in glob.glob(f"/proc/{pid}/ns/*")
            if not n.endswith("_for_children")}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: looks into other processes' roots")
def test_jails_of_the_running_processes(box):
    p = box.start("-q", "python", "-e", "/bin/cat")
    try:
        box.wait_sandbox()
        box.remember()
        # An answer from the guest: everything is up.
        p.stdin.write(b"up\n")
        p.stdin.flush()
        assert p.stdout.readline() == b"up\n"
        found = box.processes()
        vm = next(pid for pid, line in found.items() if VM_PROGRAM in line)
        net = next(pid for pid, line in found.items() if os.path.basename(line.split()[0]) == "msb-net")
        ours = namespaces("self")
        # QEMU keeps SYS_CHROOT for its -chroot.
        caps = {vm: {"tcg": "0000000000040000", "kvm": "0" * 16}[ENGINE], net: "0" * 16}
        for pid in (vm, net):
            s = status(pid)
            assert s["NoNewPrivs"] == "1" and s["Seccomp"] == "2"
            assert s["CapEff"] == s["CapPrm"] == s["CapBnd"] == caps[pid]
            uid = int(s["Uid"].split()[0])
            assert uid >= 0x71000000 or uid == 65534
            theirs = namespaces(pid)
            shared = {n for n in ours if ours[n] == theirs[n]} - {"time"}
            assert shared == ({"net"} if pid == net else set())
        # msb-vmm is static: its own program, read-only, is all that it was started from.
        files = [os.path.join(d, n) for d, _, names in os.walk(f"/proc/{vm}/root") for n in names]
        assert files == {"tcg": [], "kvm": [f"/proc/{vm}/root/bin/msb-vmm"]}[ENGINE]
        assert sorted(os.listdir(f"/proc/{net}/root")) == ["bin", "etc", "lib", "lib64"]
        assert sorted(os.listdir(f"/proc/{net}/root/etc")) == ["ld.so.cache", "resolv.conf"]
    finally:
        p.stdin.close()
        p.wait()
    box.assert_nothing_left()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: looks at another process's memory")
def test_memory_beside_the_vm(box):
    """The issue's bound: supervisor and helpers take at most 6 MiB PSS beside QEMU."""
    p = box.start("-q", "python", "-e", "/bin/cat")
    try:
        box.wait_sandbox()
        box.remember()
        p.stdin.write(b"up\n")
        p.stdin.flush()
        assert p.stdout.readline() == b"up\n"
        total_kb = 0
        for pid, line in box.processes().items():
            if VM_PROGRAM in line or pid == p.pid:
                continue
            with open(f"/proc/{pid}/smaps_rollup") as f:
                total_kb += next(int(x.split()[1]) for x in f if x.startswith("Pss:"))
        assert 0 < total_kb <= 6 * 1024
    finally:
        p.stdin.close()
        p.wait()
