#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make bench: the figures that we promise, measured now, on this machine.

Prints a table of medians with the target of each figure.  Benches are no tests: nothing
fails when a figure is missed.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
sys.dont_write_bytecode = True

import wire  # noqa: E402
from conftest import Box, make_home  # noqa: E402


class Table:
    def __init__(self):
        self.rows = []

    def add(self, what, value, unit, target, samples):
        self.rows.append({"what": what, "value": value, "unit": unit, "target": target,
                          "samples": len(samples), "min": min(samples), "max": max(samples)})
        r = self.rows[-1]
        print(f"{what:48} {value:10.2f} {unit:5} {target:>12}   "
              f"({r['min']:.2f} … {r['max']:.2f}, n={r['samples']})", flush=True)


def timed(fn):
    start = time.monotonic()
    fn()
    return time.monotonic() - start


def repeat(n, fn):
    return [timed(fn) for _ in range(n)]


def median(table, what, samples, scale, unit, target):
    samples = [s * scale for s in samples]
    table.add(what, statistics.median(samples), unit, target, samples)


def pss_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def bench_cold(table, box, n):
    for image, args, target in (("python", ["--", "-c", "print(1)"], "<= 2.00"),
                                ("python", ["-e", "/bin/true"], ""),
                                ("python", ["--scope", "none", "-e", "/bin/true"], "")):
        label = "cold: msx " + image + " " + " ".join(args)
        median(table, label, repeat(n, lambda: box.msx("-q", image, *args, check=0)), 1, "s", target)


def open_sandbox(box, image):
    """(msx with a sandbox that waits for the end of its input, a client of its supervisor)"""
    p = box.start("-q", image, "-e", "/bin/cat")
    return p, wire.Client(box.wait_sandbox() + "/run/ctl.sock")


def bench_repl(table, c, language, n):
    c.repl(language, "1")
    median(table, f"repl.run of 1+1, warm {language}", repeat(20 * n, lambda: c.repl(language, "1+1")), 1e3, "ms",
           "<= 3.00")


def bench_node(table, box, n):
    p, c = open_sandbox(box, "node")
    c.ping()
    bench_repl(table, c, "node", n)
    c.close()
    p.stdin.close()
    p.wait()


def bench_warm(table, box, n):
    p, c = open_sandbox(box, "python")
    c.ping()
    boot = c.state["boot_ns"] / 1e9 if c.state and c.state["boot_ns"] else None
    if boot:
        table.add("boot: exec() of the VM process to configured", boot, "s", "", [boot])
    median(table, "agent round trip (PING)", repeat(50 * n, c.ping), 1e3, "ms", "<= 2.00")
    bench_repl(table, c, "python", n)
    median(table, "exec of /bin/true", repeat(5 * n, lambda: c.exec(["/bin/true"])), 1e3, "ms", "")
    median(table, "metrics", repeat(5 * n, c.metrics), 1e3, "ms", "")
    size = 64 << 20
    data = os.urandom(size)
    rate = [size / t / 1e6 for t in repeat(3, lambda: c.exec(["/bin/cat"], stdin=data))]
    table.add("64 MiB through /bin/cat, in and out", statistics.median(rate), "MB/s", "", rate)
    rate = [size / t / 1e6 for t in repeat(3, lambda: c.exec(["/usr/bin/head", "-c", str(size), "/dev/zero"]))]
    table.add("64 MiB out of the guest", statistics.median(rate), "MB/s", "", rate)
    pids = [box.pid_of("supervise"), box.pid_of("msb-net")]
    pss = sum(pss_kib(pid) for pid in pids if pid) / 1024
    table.add("supervisor + msb-net, PSS beside QEMU", pss, "MiB", "<= 6.00", [pss])
    c.close()
    p.stdin.close()
    p.wait()


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("-n", type=int, default=9, help="samples of each cold figure (default 9)")
    a.add_argument("--json", metavar="FILE", help="also write the table there")
    args = a.parse_args()
    box, table = Box(make_home()), Table()
    box.msx("-q", "python", "-e", "/bin/true", check=0)  # the page cache is warm from here on
    bench_cold(table, box, args.n)
    bench_warm(table, box, args.n)
    bench_node(table, box, args.n)
    box.assert_nothing_left()
    subprocess.run(["rm", "-rf", str(box.home)], check=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(table.rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
