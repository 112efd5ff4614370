# SPDX-License-Identifier: Apache-2.0
"""Freezing a machine and making machines of it again, under load (docs/snapshots.md).

SNAPSHOT_ROUNDS=100 makes the chain of test_load_survives longer than the usual 5.
"""
import glob
import os
import random
import re
import shutil
import struct
import subprocess
import time

import pytest

from vmm import ROOT, TIMEOUT, VMLINUX
from vmm_control import PAUSE, Agent, Refused, Snapshot, Vm

LOAD = str(ROOT / "build/tests/lab/freeze-load.cpio.gz")
CMDLINE = "console=hvc0 quiet reboot=t panic=-1 random.trust_cpu=on no_timer_check"
DISK_MIB = 2  # for each CPU: 32 records of 64 KiB
ROUNDS = int(os.environ.get("SNAPSHOT_ROUNDS", "5"))
HEADER = 120


def load_machine(disk, cpus, **kwargs):
    with open(disk, "wb") as f:
        f.truncate(cpus * DISK_MIB << 20)
    return Vm(cpus=cpus, memory_mib=128, initramfs=LOAD, cmdline=CMDLINE, ports=(), disks=[(disk, "load", False)],
              **kwargs)


def load_clone(snapshot, disk):
    return Vm(snapshot=snapshot, ports=(), disks=[(disk, "load", False)])


def copy_disk(disk, to):
    """The disk as it is at this instant: only while the machine is paused."""
    subprocess.run(["cp", "--sparse=always", disk, to], check=True)
    return to


def contents(file, size=None):
    """Of a path, or of an open file wherever that stands."""
    if isinstance(file, str):
        with open(file, "rb") as f:
            return f.read()
    return os.pread(file.fileno(), size or os.fstat(file.fileno()).st_size, 0)


def rounds(vm):
    """The last round that each CPU has reported, and the latest time of the guest's clock."""
    found = re.findall(rb"load: cpu=(\d+) round=(\d+) uptime_ms=(\d+)\r\n", vm.text)
    return {int(c): int(n) for c, n, _ in found}, max((int(t) for _, _, t in found), default=0)


def watch_load(vm, beyond, cpus):
    """Waits until each CPU's thread is past the round that is given; returns what rounds() does."""
    while True:
        now, uptime = rounds(vm)
        assert b"BAD" not in vm.text, vm.log()
        if len(now) == cpus and all(now[c] > beyond.get(c, -1) for c in now):
            return now, uptime
        at = len(vm.text)
        vm.wait_console(re.compile(rb"(?s).{%d}.*(round=|BAD).*\n" % at))


def section(data, kind):
    """Offset and length of the payload of the first section of a kind."""
    at = HEADER
    while at < len(data):
        k, _, n = struct.unpack_from("<HHI", data, at)
        if k == kind:
            return at + 8, n
        at += 8 + (n + 7 & ~7)
    raise AssertionError(f"no section {kind}")


def cpuid_of(snapshot):
    """The CPUID entries of CPU 0, whatever their order."""
    data = snapshot.state_bytes()
    at, n = section(data, 32)
    return sorted(data[i:i + 40] for i in range(at, at + n, 40))


@pytest.mark.parametrize("cpus", [1, 4])
def test_load_survives(cpus, tmp_path):
    """Frozen and restored again and again, while all CPUs write, sync and read."""
    began, cpuid = time.monotonic(), None
    vm = load_machine(str(tmp_path / "0"), cpus)
    try:
        seen, uptime = watch_load(vm, {}, cpus)
        for i in range(ROUNDS):
            vm.pause()
            snapshot = vm.snapshot()
            # What the CPUs say of themselves is the same in each generation.
            assert cpuid in (None, cpuid_of(snapshot))
            cpuid = cpuid_of(snapshot)
            disk = copy_disk(str(tmp_path / str(i)), str(tmp_path / str(i + 1)))
            vm.close()
            os.unlink(tmp_path / str(i))
            vm = load_clone(snapshot, disk)
            snapshot.close()
            seen, after = watch_load(vm, seen, cpus)
            # The guest's clock went on where it stood: neither back, nor ahead of ours.
            assert after >= uptime
            assert after < (time.monotonic() - began) * 1000
            uptime = after
    finally:
        vm.close()


@pytest.mark.parametrize("cpus", [1, 4])
def test_source_goes_on(cpus, tmp_path):
    """A snapshot leaves the machine as it was; paused means that nothing of it changes."""
    disk = str(tmp_path / "disk")
    with load_machine(disk, cpus) as vm:
        seen, _ = watch_load(vm, {}, cpus)
        for _ in range(2):
            vm.pause()
            before = contents(disk)
            first, second = vm.snapshot(), vm.snapshot()
            # All but the trailer, which names the state: time goes on in that.
            assert contents(first.memory, 128 << 20) == contents(second.memory, 128 << 20)
            assert contents(disk) == before
            first.close()
            second.close()
            vm.resume()
            seen, _ = watch_load(vm, seen, cpus)


def test_clones_are_apart(tmp_path):
    """Two machines of one snapshot run at once; neither changes the other, nor what they share."""
    with load_machine(str(tmp_path / "disk"), 1) as vm:
        seen, _ = watch_load(vm, {}, 1)
        vm.pause()
        snapshot = vm.snapshot()
        disks = [copy_disk(str(tmp_path / "disk"), str(tmp_path / str(i))) for i in range(2)]
    before = contents(snapshot.memory)
    with load_clone(snapshot, disks[0]) as a, load_clone(snapshot, disks[1]) as b:
        for vm in (a, b, a, b):
            watch_load(vm, rounds(vm)[0] or seen, 1)
        b.pause()
        theirs, ours = contents(disks[1]), contents(disks[0])
        for _ in range(2):
            watch_load(a, rounds(a)[0], 1)
        # Each goes its own way on its own disk.
        assert contents(disks[0]) != ours
        assert contents(disks[1]) == theirs
    assert contents(snapshot.memory) == before
    snapshot.close()


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """A snapshot of a machine with one CPU and one disk."""
    disk = str(tmp_path_factory.mktemp("frozen") / "disk")
    with load_machine(disk, 1) as vm:
        watch_load(vm, {}, 1)
        vm.pause()
        snapshot = vm.snapshot()
    yield snapshot, disk
    snapshot.close()


def crc64(data):
    """CRC-64/XZ, a second time."""
    table = []
    for v in range(256):
        for _ in range(8):
            v = (v >> 1) ^ 0xc96c5795d7870f42 if v & 1 else v >> 1
        table.append(v)
    crc = 0xffffffffffffffff
    for b in data:
        crc = table[(crc ^ b) & 255] ^ (crc >> 8)
    return crc ^ 0xffffffffffffffff


def sealed(data):
    """With a checksum that is right."""
    data = bytearray(data)
    data[24:32] = bytes(8)
    data[24:32] = struct.pack("<Q", crc64(data))
    return bytes(data)


def refused(snapshot, disk, reason, **kwargs):
    with Vm(snapshot=snapshot, ports=(), **{"disks": [(disk, "load", False)], **kwargs}) as vm:
        code, text = vm.ended()
        assert code == 1 and re.search(reason, text), text
        assert vm.wait() == 1


def patched(data, offset, new):
    return data[:offset] + new + data[offset + len(new):]


@pytest.mark.parametrize("what, reason", [
    ("version", "format 2, this program reads 1"),
    ("flipped bit", "damaged"),
    ("cut", "cut short"),
    ("build", "another build of msb-vmm"),
    ("cpu", "another CPU"),
    ("features", "other features"),
    ("run state", "unknown run state 77"),
    ("cpuid", "malformed CPUID leaf 0x1"),
    ("device name", "device 0 is blk.xoad"),
    ("queue", "queue 0 is malformed"),
    ("not a state", "not the state file"),
    ("tsc", "whose TSC runs at 1000 kHz"),
    ("fast tsc", "whose TSC runs at 25000000 kHz"),
])
def test_refused_state(frozen, what, reason):
    """Each with its own reason, on the control socket and as the process's status."""
    snapshot, disk = frozen
    good = snapshot.state_bytes()
    device, _ = section(good, 64)
    bad = {
        "version": lambda: sealed(patched(good, 8, b"\2")),
        "flipped bit": lambda: patched(good, len(good) // 2, bytes([good[len(good) // 2] ^ 0x10])),
        "cut": lambda: good[:-8],
        "build": lambda: sealed(patched(good, 32, bytes(20))),
        "cpu": lambda: sealed(patched(good, 80, b"\xee")),
        "features": lambda: sealed(patched(good, 88, bytes(32))),
        "run state": lambda: sealed(patched(good, section(good, 33)[0], b"\x4d")),
        # The second entry is leaf 1: function, index, flags.
        "cpuid": lambda: sealed(patched(good, section(good, 32)[0] + 40 + 8, b"\1")),
        "device name": lambda: sealed(patched(good, device + 4, b"x")),
        # The device's section: 48 bytes of ours, 40 of the device, then queue 0: its size.
        "queue": lambda: sealed(patched(good, device + 48 + 40, b"\3\0")),
        "not a state": lambda: os.urandom(len(good)),
        "tsc": lambda: sealed(patched(good, section(good, 40)[0], struct.pack("<I", 1000))),
        # The lab's CPU cannot scale: KVM would have to imitate it.
        "fast tsc": lambda: sealed(patched(good, section(good, 40)[0], struct.pack("<I", 25000000))),
    }[what]()
    other = snapshot.with_state(bad)
    refused(other, disk, reason)
    other.close()


def memory_file(snapshot, path):
    """A copy of the memory as an ordinary file."""
    with open(f"/proc/self/fd/{snapshot.memory.fileno()}", "rb") as source, open(path, "wb") as to:
        shutil.copyfileobj(source, to)
    return path


def test_refused_memory(frozen, tmp_path):
    snapshot, disk = frozen
    path = memory_file(snapshot, str(tmp_path / "memory"))
    size = os.fstat(snapshot.memory.fileno()).st_size

    def memory(mode):
        return Snapshot(snapshot.state, open(path, mode), snapshot.cpus, snapshot.memory_mib)

    refused(memory("r+b"), disk, "could be written through this descriptor")
    with open(path, "r+b") as f:
        f.seek(size - 4096 + 16)
        f.write(b"another!")
    refused(memory("rb"), disk, "belongs to another state file")
    os.truncate(path, size - 4096)
    refused(memory("rb"), disk, f"has {size - 4096} bytes, the snapshot's has {size}")


def mutated(data, rng):
    """A few bytes changed, in one section or in several; the checksum is right."""
    data, sections, at = bytearray(data), [], HEADER
    while at < len(data):
        n = struct.unpack_from("<I", data, at + 4)[0]
        sections.append((at + 8, n))
        at += 8 + (n + 7 & ~7)
    for _ in range(rng.choice((1, 1, 2, 8))):
        start, n = rng.choice(sections)
        for _ in range(rng.choice((1, 4, 16))):
            data[start + rng.randrange(n)] = rng.choice((0, 1, 0x7f, 0x80, 0xff, rng.randrange(256)))
    return sealed(data)


def test_hostile_state(frozen, tmp_path):
    """Whatever a state says: it is refused, or the guest goes wrong. The VMM ends as it always does."""
    snapshot, disk = frozen
    disk = copy_disk(disk, str(tmp_path / "disk"))
    path = memory_file(snapshot, str(tmp_path / "memory"))
    good, rng, taken = snapshot.state_bytes(), random.Random(3), 0
    for _ in range(40):
        bad = mutated(good, rng)
        with open(path, "r+b") as f:
            f.seek((snapshot.memory_mib << 20) + 16)
            f.write(bad[24:32])
        state = os.fdopen(os.memfd_create("state"), "r+b", 0)
        state.write(bad)
        hostile = Snapshot(state, open(path, "rb"), snapshot.cpus, snapshot.memory_mib)
        with Vm(snapshot=hostile, ports=(), disks=[(disk, "load", False)]) as vm:
            try:
                vm.ask(PAUSE)
                taken += 1
            except Refused:
                taken += 1  # it ran, and crashed
            except (AssertionError, OSError):
                pass  # it has ended already
            vm.control.close()
            status = vm.wait()
            assert status in (0, 1, 3, 4), (status, vm.said())
        hostile.close()
    assert 0 < taken < 40


def test_refused_machine(frozen, tmp_path):
    """A machine that is made otherwise than the one that was frozen."""
    snapshot, disk = frozen
    refused(snapshot, disk, r"the snapshot has \d devices, this machine \d", disks=[])


def test_requests_in_the_wrong_state(tmp_path):
    with load_machine(str(tmp_path / "disk"), 1) as vm:
        seen, _ = watch_load(vm, {}, 1)
        with pytest.raises(Refused, match="PAUSE it first"):
            vm.snapshot()
        vm.resume()
        vm.pause()
        vm.pause()
        vm.resume()
        watch_load(vm, seen, 1)


def test_engine(tmp_path):
    """The same through the engine's contract (engine/engine.h): in the jail, with its limits."""
    os.mkdir(tmp_path / "bin")
    os.symlink(ROOT / "build/lib", tmp_path / "lib")
    program = shutil.copy(ROOT / "build/tests/lab/engine-freeze", tmp_path / "bin")
    disk = str(tmp_path / "disk")
    with open(disk, "wb") as f:
        f.truncate(2 * DISK_MIB << 20)
    p = subprocess.run([program, VMLINUX, LOAD, disk], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=TIMEOUT * 3)
    assert (p.returncode, p.stdout) == (0, b"ok\n"), p.stderr.decode()


WORKER = """
import hashlib, os, sys, time
if os.fork():
    sys.exit()
os.setsid()
n = 0
while True:
    data = os.urandom(1000) * 100
    for name, content in ((f"/srv/{n}", data), (f"/srv/{n}.sum", hashlib.sha256(data).hexdigest().encode())):
        with open(name + ".tmp", "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.rename(name + ".tmp", name)
    if n >= 8:
        os.unlink(f"/srv/{n - 8}.sum")
        os.unlink(f"/srv/{n - 8}")
    n += 1
"""
CHECKER = """
import glob, hashlib, time
done = sorted(int(p[5:-4]) for p in glob.glob("/srv/*.sum"))
for n in done:
    try:
        with open(f"/srv/{n}.sum") as s, open(f"/srv/{n}", "rb") as f:
            assert s.read() == hashlib.sha256(f.read()).hexdigest(), n
    except FileNotFoundError:
        assert n < done[-1], n  # the worker has just removed it
print(done[-1], time.time())
"""


def check_sandbox(agent):
    """The files in the guest are right; returns how many there were, and the guest's wall clock."""
    last, out, err = agent.exec(["python3", "-c", CHECKER])
    assert last["status"] == 0, err.decode()
    n, now = out.split()
    return int(n), float(now)


def test_sandbox(tmp_path):
    """A guest with agent, image and upper: what it does goes on, the link starts anew, the time is right."""
    (image,) = [p for p in glob.glob("/store/images/**/*.ext4", recursive=True)][:1]
    upper = str(tmp_path / "upper")
    with open(upper, "wb") as f:
        f.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", upper], check=True)
    with Vm(cpus=2, disks=[(image, "image", True), (upper, "upper", False)]) as vm:
        agent = Agent(vm)
        agent.configure()
        assert agent.exec(["python3", "-c", WORKER])[0]["status"] == 0
        waiting = agent.open("EXEC", argv=["sleep", "1000"])
        agent.expect(waiting, "EXEC_STARTED")
        count, _ = check_sandbox(agent)
        vm.pause()
        snapshot = vm.snapshot()
        copy = copy_disk(upper, str(tmp_path / "copy"))
    with Vm(snapshot=snapshot, disks=[(image, "image", True), (copy, "upper", False)]) as vm:
        agent = Agent(vm)
        after, now = check_sandbox(agent)
        assert after > count
        assert abs(now - time.time()) < 20
        # What ran on a channel of the old link is gone with it.
        _, out, _ = agent.exec(["sh", "-c", "cat /proc/[0-9]*/comm"])
        assert b"sleep" not in out.split()
        agent.ping()
    snapshot.close()
