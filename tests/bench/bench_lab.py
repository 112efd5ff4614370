#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make bench-lab: our VMM beside QEMU with accel=kvm, in one run of the lab.

Both boot the same kernel and initramfs with the same devices, in turn, so that other work on
this machine falls on both. Figures of the lab compare programs and mean nothing else: an
exit of a VM costs several microseconds in it. Benches are no tests: nothing fails when a
target is missed.

  first instruction   from the exec() of the VMM to its first KVM_RUN, by the kernel's own
                      trace events sched_process_exec and kvm_entry. QEMU's first instruction
                      is its firmware's
  hello               from the exec() to the agent's answer on the port agent.ctl
  PSS                 of the VMM when the agent has answered, without the guest's memory
  disk                a program in the guest reads all of /dev/vda, past its page cache (direct: a
                      MiB at a time, and four, as requests that overlap) and through it (cached);
                      the same program reads the file outside

Before each boot the memory that the last VM left is written once (scrub()): what the outer
machine's emulator has translated there, a guest's kernel, is thrown away at the first write
to a page, which takes 100 to 400 ms and would fall on whoever gets the memory next.
"""
import argparse
import json
import mmap
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/lab"), str(ROOT / "tests/e2e")]
sys.dont_write_bytecode = True
os.environ["MSB_TEST_ENGINE"] = "kvm"  # of Box.msx()

from box import Box, make_home  # noqa: E402
from vmm import PARTS, Vm, pss_without_ram  # noqa: E402

TRACING = pathlib.Path("/sys/kernel/tracing")
MEMORY_MIB = 256
SCRUB_BYTES = 4 * MEMORY_MIB << 20  # QEMU's own memory, both VMs', and some more
DISK_BYTES = 192 << 20
VMMS = ("msb-vmm", "qemu")


class Trace:
    """The first KVM_RUN of a process; the trace stops itself there."""

    def __init__(self):
        self.write("trace_clock", "mono")
        self.write("events/sched/sched_process_exec/enable", "1")
        self.write("events/kvm/kvm_entry/enable", "1")

    @staticmethod
    def write(name, text):
        (TRACING / name).write_text(text)

    def arm(self):
        trigger = "events/kvm/kvm_entry/trigger"
        if "traceoff" in (TRACING / trigger).read_text().split("#")[0]:
            self.write(trigger, "!traceoff")
        self.write("trace", "")
        self.write(trigger, "traceoff:1")
        self.write("tracing_on", "1")

    def read(self, pid):
        """Seconds of the monotonic clock: (exec(), first entry)."""
        text = (TRACING / "trace").read_text()
        start = re.findall(rf"\s([0-9]+\.[0-9]+): sched_process_exec: filename=\S+ pid={pid} ", text)
        entry = re.findall(r"\s([0-9]+\.[0-9]+): kvm_entry:", text)
        assert start and entry, text[-2000:]
        return float(start[-1]), float(entry[0])


def scrub():
    with mmap.mmap(-1, SCRUB_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, SCRUB_BYTES, mmap.PAGESIZE):
            memory[at] = 1


def boot(trace, what):
    scrub()
    trace.arm()
    with Vm(what, memory_mib=MEMORY_MIB) as vm:
        _, hello = vm.hello()
        start, entry = trace.read(vm.pid)
        pss = pss_without_ram(vm.pid, MEMORY_MIB << 20)
    return {"first instruction": (entry - start) * 1e3, "hello": (hello - start) * 1e3, "PSS": pss / 1024}


def disk(what, path):
    """MB/s by kind, best of the passes of one boot: the first warms translations up."""
    with Vm(what, initramfs=str(ROOT / "build/tests/lab/disk-probe.cpio.gz"), memory_mib=512,
            disks=[(path, "image", True)], ports=()) as vm:
        vm.wait()
        return rates(vm.text.decode(errors="replace"))


def rates(text):
    best = {}
    for kind, size, ns in re.findall(r"disk: (\w+) bytes=(\d+) ns=(\d+)", text):
        assert int(size) == DISK_BYTES, text
        best[kind] = max(best.get(kind, 0), int(size) / 1e6 / (int(ns) / 1e9))
    assert best, text[-2000:]
    return best


def outer(path):
    return rates(subprocess.run([ROOT / "build/tests/lab/disk-probe", path], check=True, stdout=subprocess.PIPE,
                                text=True).stdout)


def row(table, what, unit, ours, theirs=None, target="", ratio=None):
    """One line: our median, the other's, the quotient, what it should be."""
    a = statistics.median(ours)
    b = statistics.median(theirs) if theirs else None
    ratio = ratio if ratio is not None or b is None else a / b
    table.append({"what": what, "unit": unit, "ours": a, "other": b, "ratio": ratio, "target": target,
                  "n": len(ours), "min": min(ours), "max": max(ours)})
    print(f"{what:52} {a:10.2f} {'' if b is None else f'{b:10.2f}':>10} {unit:5} "
          f"{'' if ratio is None else f'{ratio:6.3f}':>6}  {target:<16} ({min(ours):.2f} … {max(ours):.2f}, n={len(ours)})",
          flush=True)


def bench_boot(table, n):
    trace = Trace()
    got = {what: [] for what in VMMS}
    for i in range(n + 1):
        for what in VMMS:
            sample = boot(trace, what)
            if i:  # the first round fills the page cache
                got[what].append(sample)
    take = lambda what, key: [s[key] for s in got[what]]
    for key, label, unit, target in (("first instruction", "exec() to the first guest instruction", "ms", "<= 0.125"),
                                     ("hello", "exec() to the agent's hello", "ms", "<= 0.7"),
                                     ("PSS", "PSS without guest RAM", "KiB", "<= 1536 KiB")):
        row(table, label, unit, take("msb-vmm", key), take("qemu", key), target)


def bench_disk(table, n):
    with tempfile.NamedTemporaryFile(dir="/store") as f:
        block = os.urandom(1 << 20)
        for _ in range(DISK_BYTES >> 20):
            f.write(block)
        f.flush()
        outer(f.name)
        ours, theirs, outside = [], [], []
        for _ in range(n):
            outside.append(outer(f.name))
            ours.append(disk("msb-vmm", f.name))
            theirs.append(disk("qemu", f.name))
    for kind, same, label, target in (("direct", "outer", "direct", ""),
                                      ("direct_large", "outer_large", "direct, 4 MiB at a time", ">= 0.8"),
                                      ("cached", "outer", "cached", "")):
        a, b = [s[kind] for s in ours], [s[kind] for s in theirs]
        row(table, f"virtio-blk sequential read, {label}", "MB/s", a, b)
        row(table, "  … beside reading the file outside", "MB/s", a, [s[same] for s in outside], target)


def bench_exe(table, n):
    box = Box(make_home())
    box.env["MICROSANDBOX_HOME"] = str(box.home)
    for args in (["-e", "/bin/true"], ["--", "-c", "print(1)"]):
        samples = []
        for _ in range(n):
            start = time.monotonic()
            box.msx("-q", "python", *args, check=0)
            samples.append((time.monotonic() - start) * 1e3)
        row(table, "msx --engine kvm python " + " ".join(args), "ms", samples)


def main():
    p = argparse.ArgumentParser(description="our VMM beside QEMU with accel=kvm, in the lab")
    p.add_argument("-n", type=int, default=9, help="samples of each figure")
    p.add_argument("--json", action="store_true", help="print the table as JSON at the end")
    opts = p.parse_args()
    if not os.environ.get("LAB"):
        sys.exit("bench_lab.py belongs into the lab: make bench-lab")
    missing = [str(f) for f in (PARTS / "msb-vmm", ROOT / "build/tests/lab/disk-probe") if not f.exists()]
    if missing:
        sys.exit("not built: " + ", ".join(missing))
    table = []
    print(f"{'':52} {'msb-vmm':>10} {'QEMU':>10} {'':5} {'ratio':>6}  target")
    bench_boot(table, opts.n)
    bench_exe(table, max(3, opts.n // 2))
    bench_disk(table, max(3, opts.n // 3))
    if opts.json:
        print(json.dumps(table))


if __name__ == "__main__":
    main()
