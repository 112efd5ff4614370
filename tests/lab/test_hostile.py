# SPDX-License-Identifier: Apache-2.0
"""A guest that attacks the VMM (tests/lab/hostile): it survives, or ends that VM and says why.

The host must not notice: a neighbour goes on answering, the disks hold what they held, no
process is left.
"""
import re
import struct
import threading

import pytest

from vmm import ROOT, Vm

HOSTILE = str(ROOT / "build/tests/lab/hostile.elf")
PATTERN = b"hostile!" * 64 * 64  # the guest looks for it in sector 0
CLASSES = {1, 2, 3, 4, 5, 6, 7, 8, 9}
# What is attacked one after the other takes half a minute on a quiet machine.
PATIENCE = 600


def feed(sock, data):
    """Data of the host for the receive queues, as long as somebody takes it."""
    try:
        while True:
            sock.sendall(data)
    except OSError:
        pass


def drain(sock, to):
    try:
        while data := sock.recv(65536):
            to.append(data)
    except OSError:
        pass


@pytest.fixture(scope="module")
def neighbour():
    with Vm("msb-vmm") as vm:
        vm.hello()
        yield vm
        vm.hello()


@pytest.fixture
def disks(tmp_path):
    for name in ("image", "upper"):
        (tmp_path / name).write_bytes(PATTERN)
    return [(str(tmp_path / "image"), "image", True), (str(tmp_path / "upper"), "upper", False)]


def run(what, disks, seconds=PATIENCE):
    """Returns (status, lines on the console, what the VMM said, bytes that reached the network)."""
    sent = []
    with Vm("msb-vmm", kernel=HOSTILE, initramfs=None, cmdline="hostile=" + what, memory_mib=512, disks=disks,
            net=True) as vm:
        workers = [threading.Thread(target=feed, args=(vm.console, b"x" * 64)),
                   threading.Thread(target=feed, args=(vm.net, struct.pack(">I", 60) + b"\xff" * 60)),
                   threading.Thread(target=drain, args=(vm.net, sent))]
        for w in workers:
            w.start()
        status = vm.wait(seconds)
        said = vm.said()
        for w in workers:
            w.join()
        return status, vm.text.decode(errors="replace").splitlines(), said, b"".join(sent)


def frames(stream):
    """Frames on the network socket: length, big-endian, then as many bytes."""
    while stream:
        (n,) = struct.unpack_from(">I", stream)
        assert 14 <= n <= 65535 + 14, n
        assert len(stream) >= 4 + n, "half a frame"
        yield stream[4:4 + n]
        stream = stream[4 + n:]


def test_every_device_in_every_way(neighbour, disks):
    status, lines, said, sent = run("devices", disks)
    assert status == 0, (status, lines[-5:], said[-2000:])
    results = [m for line in lines if (m := re.search(r"(ok|FAIL) class=(\d+) (\w+)\.\d+ queue=\d+: (.*)", line))]
    failed = [m[0] for m in results if m[1] == "FAIL"]
    assert not failed, "\n".join(failed)
    # All of them, not only those before something went wrong.
    assert re.search(rf"hostile: {len(results)} attacks, 0 failures", lines[-1]), lines[-3:]
    assert {(m[3]) for m in results} == {"blk", "console", "net", "rng", "balloon"}
    for device in ("blk", "console", "net", "rng", "balloon"):
        assert {int(m[2]) for m in results if m[3] == device} >= CLASSES - {9}, device
    assert {int(m[2]) for m in results} >= CLASSES
    # What its polite requests sent arrived whole, between all that was refused.
    assert any(b"polite" in f for f in frames(sent))
    with open(disks[0][0], "rb") as f:
        assert f.read() == PATTERN, "the read-only disk was written to"
    with open(disks[1][0], "rb") as f:
        assert len(f.read()) == len(PATTERN), "the disk has another size"
    # The log is bounded, whatever a guest does.
    assert len(said) < 100_000


def test_ports_and_holes(neighbour, disks):
    status, lines, said, _ = run("ports", disks)
    assert status == 0 and re.search("hostile: 1 attacks, 0 failures", lines[-1]), (lines, said)


@pytest.mark.parametrize("what,status,reason", [
    ("triple", 3, "triple fault"),
    # Registers are memory that may be read, so they run as code: until the first that faults.
    ("run-mmio", 3, "triple fault"),
    ("run-hole", 4, "KVM"),
])
def test_an_end_of_its_own_making_has_a_status_and_a_reason(neighbour, disks, what, status, reason):
    got, lines, said, _ = run(what, disks)
    assert got == status and any("hostile guest" in line for line in lines), (got, lines, said)
    assert said.count("event=ended") == 1 and reason in said


def test_a_guest_that_stops_for_good_is_still_ours_to_end(neighbour, disks):
    with Vm("msb-vmm", kernel=HOSTILE, initramfs=None, cmdline="hostile=halt", memory_mib=512, disks=disks) as vm:
        vm.wait_console(rb"hostile guest")
        vm.process.terminate()
        assert vm.process.wait(30) == -15


@pytest.mark.parametrize("content,reason", [
    (b"", "kernel"),
    (b"\x7fELF" + b"\xff" * 8000, "kernel"),
    (b"MZ" + b"\0" * 0x1fe + b"HdrS" + b"\xff" * 8000, "kernel"),
], ids=["empty", "ELF", "bzImage"])
def test_what_is_no_kernel(tmp_path, content, reason):
    (tmp_path / "kernel").write_bytes(content)
    with Vm("msb-vmm", kernel=str(tmp_path / "kernel"), initramfs=None) as vm:
        assert vm.wait() == 1
        said = vm.said()
        assert said.count("\n") == 1 and reason in said, said
