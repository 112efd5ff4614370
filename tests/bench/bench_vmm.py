#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make bench-vmm: what msb-vmm takes from the supervisor's call to the first KVM_RUN.

Each start is one of the engine's kind: the full jail, two disks, console and two ports, network,
entropy, balloon, control socket.  The supervisor has the jail made while it opens disks and
sockets, and starts the network; "ahead" is that: time runs from the call of child_finish(), which hands over
descriptors and arguments and runs the program.  With "full" it runs from
child_spawn(), so that clone() and the jail's namespaces and root are in it.  KVM_SET_USER_MEMORY_REGION, which waits for the kernel (SRCU) and costs what
the host makes it cost, is printed apart and is not in the sums.  Works with any /dev/kvm.

For each stage: median, 99th percentile, and the best, which is what the stage costs when nobody
else uses the machine.
"""
import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET_MS = 1.5

STAGES = [  # name, the milestone at which it ends, what it is
    ("jail", "spawned", "descriptors, limits, exec(); if not ahead also clone(), namespaces, root, filter"),
    ("program", "main", "the program's pages, libc, the command line"),
    ("vm", "vm", "KVM_CREATE_VM, interrupt controllers, event loop"),
    ("devices", "devices", "six devices, their doorbells and interrupt lines, the disks' thread"),
    ("map", "mapped", "the state file read and checked, guest memory mapped"),
    ("memslot", "memory", "KVM_SET_USER_MEMORY_REGION"),
    ("vcpus", "vcpus", "KVM_CREATE_VCPU"),
    ("load", "loaded", "registers and devices set, or the kernel loaded"),
    ("threads", "threads", "a thread for each CPU"),
    ("confine", "confined", "the I/O thread's seccomp list"),
    ("run", "run", "the CPU's thread wakes up and calls KVM_RUN"),
]


def starts(build, kind, jail, n, memory, cpus):
    p = subprocess.run([build / "tests/bench/vmm_start", build / "lib/microsandbox/msb-vmm", kind, jail, str(n),
                        str(memory), str(cpus)], stdout=subprocess.PIPE, text=True)
    if p.returncode == 77:
        sys.exit("bench-vmm: no /dev/kvm that can be opened")
    if p.returncode:
        sys.exit(p.returncode)
    names, *lines = [line.split() for line in p.stdout.splitlines()]
    return [dict(zip(names, map(int, line))) for line in lines]


def stages(row):
    """Milliseconds by stage, and their sum without the memslot ioctl."""
    out, before = {}, 0
    for name, end, _ in STAGES:
        # The parent may hear of exec() late; the program has begun by then.
        at = min(row[end], row["main"]) if end == "spawned" else row[end]
        out[name] = (at - before) / 1e6
        before = at
    out["sum"] = sum(v for k, v in out.items() if k != "memslot")
    out["after exec"] = out["sum"] - out["jail"]
    return out


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p / 100))]


def report(title, rows):
    rows = [stages(r) for r in rows]
    print(f"\n{title}, {len(rows)} starts\n\n{'stage':12}{'median':>9}{'p99':>9}{'best':>9}   ms")
    table = {}
    for name in [*(s[0] for s in STAGES), "sum", "after exec"]:
        values = [r[name] for r in rows]
        table[name] = {"median": percentile(values, 50), "p99": percentile(values, 99), "best": min(values)}
        why = next((s[2] for s in STAGES if s[0] == name), None)
        if name == "sum":
            why = f"without memslot; target {TARGET_MS}"
        elif not why:
            why = "the sum without jail and exec()"
        t = table[name]
        print(f"{name:12}{t['median']:9.3f}{t['p99']:9.3f}{t['best']:9.3f}   {why}")
    return table


def main():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="output folder (default build)")
    a.add_argument("-n", type=int, default=200, help="starts (default 200)")
    a.add_argument("--memory", type=int, default=256, help="MiB of the guest (default 256)")
    a.add_argument("--cpus", type=int, default=1)
    a.add_argument("--jail", choices=("ahead", "full", "reduced"), action="append", help="default: ahead and full")
    a.add_argument("--kind", choices=("restore", "cold"), action="append", help="default: both")
    a.add_argument("--json", metavar="FILE", help="also write the tables there")
    args = a.parse_args()
    tables = {}
    for kind in args.kind or ("restore", "cold"):
        for jail in args.jail or ("ahead", "full"):
            rows = starts(args.build.resolve(), kind, jail, args.n, args.memory, args.cpus)
            tables[f"{kind}, {jail}"] = report(f"{kind}, {args.memory} MiB, {args.cpus} CPU, jail: {jail}", rows)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(tables, indent=2) + "\n")


if __name__ == "__main__":
    main()
