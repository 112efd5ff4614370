# SPDX-License-Identifier: Apache-2.0
"""The kvm engine's machine: CPUs, kernels, ends, and what it costs when it does nothing."""
import glob
import os
import pathlib
import re
import select
import signal
import subprocess
import time

import pytest

from box import wait_for
from vmm import PARTS, ROOT, Vm, pss_without_ram, threads

TRACING = pathlib.Path("/sys/kernel/tracing")
MIB = 1 << 20


PROBE = str(ROOT / "build/tests/lab/machine-probe.cpio.gz")


def probe(**kwargs):
    """Boots a program that tells what it runs on, and resets: (CPUs, KiB of memory, clock)."""
    with Vm("msb-vmm", initramfs=PROBE, **kwargs) as vm:
        m = vm.wait_console(rb"machine: cpus=(\d+) memory_kib=(\d+) clocksource=(\S+)")
        assert vm.wait() == 0, vm.said()
        return int(m[1]), int(m[2]), m[3]


@pytest.mark.parametrize("cpus", [1, 2, 4, 16])
def test_all_cpus_come_up(cpus):
    assert probe(cpus=cpus)[0] == cpus


def test_the_clock_is_kvms():
    assert probe()[2] == b"kvm-clock"


@pytest.mark.parametrize("mib", [64, 3072, 6144])
def test_memory_sizes(mib):
    """Also more than fits below the hole at 3 GiB."""
    assert mib * 1024 * 0.6 < probe(memory_mib=mib)[1] <= mib * 1024


def test_a_thread_for_each_cpu_and_no_crowd():
    with Vm("msb-vmm", cpus=4) as vm:
        vm.hello()
        assert 4 < len(threads(vm.pid)) <= 6


def test_a_sandbox_sees_its_cpus(box):
    p = box.msx("-q", "--cpus", "4", "python", "-e", "/bin/sh", "--", "-c",
                "nproc; grep -c ^processor /proc/cpuinfo", check=0)
    assert p.stdout.split() == [b"4", b"4"]


def test_kernel_of_debian():
    """A bzImage that knows none of our devices: the kernel's early output is seen in KVM's trace."""
    image = glob.glob("/boot/vmlinuz-*")[0]
    (TRACING / "trace").write_text("")
    (TRACING / "events/kvm/kvm_pio/filter").write_text("port == 0x3f8")
    (TRACING / "events/kvm/kvm_pio/enable").write_text("1")
    try:
        with Vm("msb-vmm", kernel=image, memory_mib=512,
                cmdline="earlyprintk=serial,0x3f8,115200,keep panic=-1 no_timer_check") as vm:
            text = serial_of_trace(vm, b"Run /init as init process")
        release = os.path.basename(image).removeprefix("vmlinuz-").encode()
        assert b"Linux version " + release in text and b"Hypervisor detected: KVM" in text
    finally:
        (TRACING / "events/kvm/kvm_pio/enable").write_text("0")
        (TRACING / "events/kvm/kvm_pio/filter").write_text("0")


def serial_of_trace(vm, until):
    """What the guest writes to the data register of a serial port that is not there."""
    text, rest = b"", ""
    with open(TRACING / "trace_pipe", "rb", buffering=0) as pipe:
        os.set_blocking(pipe.fileno(), False)
        while until not in text:
            assert select.select([pipe], [], [], 90)[0], text[-2000:]
            rest += pipe.read(1 << 16).decode()
            *lines, rest = rest.split("\n")
            for line in lines:
                m = re.search(r"kvm_pio: pio_write at 0x3f8 size 1 count 1 val 0x([0-9a-f]+)", line)
                if m:
                    text += bytes([int(m[1], 16)])
            assert vm.process.poll() is None, f"ended with {vm.process.returncode}: {text[-2000:]!r}\n{vm.said()}"
    return text


def test_a_panic_is_an_end(tmp_path):
    """Without an initramfs there is nothing to run: the kernel panics, and resets."""
    with Vm("msb-vmm", initramfs=None) as vm:
        assert vm.wait() == 0, vm.said()
        assert b"Kernel panic - not syncing" in vm.text


def test_a_panic_is_told_with_the_last_lines(box, tmp_path):
    """An installation whose initramfs is damaged."""
    subprocess.run(["cp", "-r", str(ROOT / "build/bin"), str(ROOT / "build/lib"), str(tmp_path)], check=True)
    parts = tmp_path / "lib/microsandbox"
    assert parts.stat().st_ino != PARTS.stat().st_ino
    (parts / "initramfs.cpio.gz").write_bytes(b"\x1f\x8b nothing that can be unpacked")
    p = subprocess.run([tmp_path / "bin/msx", "-q", "--engine", "kvm", "python", "-e", "/bin/true"], env=box.env,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=180)
    assert p.returncode == 125
    assert b"panic" in p.stderr, p.stderr
    box.assert_nothing_left()


@pytest.mark.parametrize("how", ["RB_AUTOBOOT", "RB_POWER_OFF", "RB_HALT_SYSTEM"])
def test_a_machine_that_goes_down_ends(box, how):
    """By the system call, past the agent: without ACPI all of them are a reset."""
    number = {"RB_AUTOBOOT": 0x1234567, "RB_POWER_OFF": 0x4321fedc, "RB_HALT_SYSTEM": 0xcdef0123}[how]
    p = box.msx("-q", "python", "--", "-c", f"import ctypes; ctypes.CDLL(None).reboot({number})", check=125)
    assert p.stderr.count(b"\n") == 1 and b"error" in p.stderr, p.stderr
    box.assert_nothing_left()


def test_kill_of_the_vmm_leaves_nothing():
    before = kvm_threads()
    with Vm("msb-vmm") as vm:
        vm.hello()
        pid = vm.pid
        os.kill(pid, signal.SIGKILL)
        vm.process.wait()
        assert not os.path.exists(f"/proc/{pid}")
        assert not vm.console.recv(1 << 16) or not vm.console.recv(1 << 16)
    wait_for(lambda: kvm_threads() <= before, what=lambda: str(kvm_threads() - before))


def kvm_threads():
    """KVM's own threads, which belong to a VM and end with it; the lab itself holds one VM."""
    return {c for c in glob.glob("/proc/[0-9]*/comm") if "kvm-nx-lpage" in read(c) or "kvm-pit" in read(c)}


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""


def test_an_idle_guest_wakes_nobody():
    with Vm("msb-vmm", cpus=2) as vm:
        vm.hello()
        settle(vm)
        # The interval is what is measured, not a wait for something.
        before = threads(vm.pid)
        time.sleep(5)
        after = threads(vm.pid)
        woken = {tid: after[tid][1] - n for tid, (_, n) in before.items()}
        io = woken.pop(vm.pid)
        # The guest's kernel takes fresh entropy, every five seconds now, later once a minute: a
        # doorbell, and a sleep. Nothing of ours has a timer.
        assert io <= 2, f"the I/O thread was woken {io} times"
        # CPUs: the same, and timers of the guest's kernel that become rarer; a tick of 100 Hz
        # would be a thousand.
        assert sum(woken.values()) <= 40, woken


def settle(vm, seconds=60):
    """Until the guest's boot is over: nothing happened for a second."""
    end = time.monotonic() + seconds
    before = None
    while before != (now := threads(vm.pid)):
        assert time.monotonic() < end, now
        before = now
        select.select([vm.console], [], [], 1)
        if select.select([vm.console], [], [], 0)[0]:
            vm.read_console()


def test_memory_beside_the_guests():
    with Vm("msb-vmm", memory_mib=256) as vm:
        vm.hello()
        assert pss_without_ram(vm.pid, 256 * MIB) <= 1.5 * MIB
