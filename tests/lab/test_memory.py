# SPDX-License-Identifier: Apache-2.0
"""What Linux makes of the entropy device and the balloon (docs/virtio.md)."""
import os
import select
import time

from vmm import ROOT, Vm

PROBE = str(ROOT / "build/tests/lab/memory-probe.cpio.gz")
CMDLINE = "console=hvc0 quiet reboot=t panic=-1 random.trust_cpu=on no_timer_check"
PATIENCE = 60  # Linux reports free memory about every 2 s, up to some at a time


def resident(pid):
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_random_numbers_come_from_the_host():
    seen = set()
    for _ in range(2):
        with Vm("msb-vmm", initramfs=PROBE, cmdline=CMDLINE, ports=()) as vm:
            name, value = vm.wait_console(rb"rng: (\S+) ([0-9a-f]*)\r?\n").groups()
            assert name.startswith(b"virtio_rng")
            assert len(value) == 64
            seen.add(value)
    assert len(seen) == 2


def test_free_memory_goes_back_to_the_host():
    with Vm("msb-vmm", initramfs=PROBE, cmdline=CMDLINE, ports=()) as vm:
        touched = int(vm.wait_console(rb"memory: touched (\d+)\r?\n")[1])
        full = resident(vm.pid)
        assert full > touched
        vm.wait_console(rb"memory: freed\r?\n")
        end = time.monotonic() + PATIENCE
        # Nobody tells when a page leaves a process: the number is looked at again and again.
        while resident(vm.pid) > full - touched * 3 // 4:
            assert time.monotonic() < end, f"{full} bytes, and now {resident(vm.pid)}\n{vm.log()}"
            if select.select([vm.console], [], [], 0.2)[0]:
                assert vm.read_console(), f"ended:\n{vm.log()}"
