#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Bytes a second through a volume, both ways, beside the sandbox's own disk in the same run.

  bench_volumes.py [--mib N] [--rounds N] [--engine E]

Also small files: how many are made, read and removed in a second.  Each figure is the best of the rounds, which take
turns, and has beside it what it cost: processor time of the VM and of the file server.  On a machine that others use
too, that is the figure to compare.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))

from box import MSX, Box, make_home  # noqa: E402

TICK = 1000 / os.sysconf("SC_CLK_TCK")
FILES = 300

GUEST = r"""
import os, sys, time
mib, files, rounds = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
block = os.urandom(1 << 20)

def drop():
    os.sync()
    open('/proc/sys/vm/drop_caches', 'w').write('3')

def phase(where, what, unit, n, work):
    print('begin', flush=True)
    sys.stdin.readline()
    t = time.monotonic()
    work()
    s = time.monotonic() - t
    print(f'end\t{where}\t{what}\t{unit}\t{n}\t{s}', flush=True)
    sys.stdin.readline()

def big(where, path):
    def write():
        fd = os.open(path, os.O_CREAT | os.O_WRONLY)
        for _ in range(mib):
            os.write(fd, block)
        os.fsync(fd)
        os.close(fd)
    def read():
        fd, n = os.open(path, os.O_RDONLY), 0
        while data := os.read(fd, 1 << 20):
            n += len(data)
        os.close(fd)
        assert n == mib << 20
    phase(where, 'write and fsync', 'MiB', mib, write)
    drop()
    phase(where, 'read', 'MiB', mib, read)
    os.unlink(path)

def small(where, path):
    def make():
        for i in range(files):
            with open(f'{path}/{i}', 'wb') as f:
                f.write(b'x' * 1000)
    def read():
        for i in range(files):
            with open(f'{path}/{i}', 'rb') as f:
                f.read()
    def remove():
        for i in range(files):
            os.unlink(f'{path}/{i}')
    os.mkdir(path)
    phase(where, 'make files of 1000 bytes', 'files', files, make)
    drop()
    phase(where, 'read them', 'files', files, read)
    phase(where, 'remove them', 'files', files, remove)
    os.rmdir(path)

for _ in range(rounds):
    for where, path in ('volume', '/v'), ('own disk', '/root'):
        big(where, path + '/big')
        small(where, path + '/small')
"""


def cpu_ms(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK


class Figures:
    """The best round of each phase."""

    def __init__(self):
        self.best = {}

    def add(self, where, what, unit, n, seconds, cpu):
        old = self.best.get((what, where))
        self.best[what, where] = (unit, max(n / seconds, old[1]) if old else n / seconds,
                                  [min(a, b / n) for a, b in zip(old[2], cpu)] if old else [c / n for c in cpu])

    def print(self):
        print(f"{'':28}{'volume':>14}{'own disk':>14}{'ratio':>8}   ms of processor for one: VM + server, own disk")
        for what in dict.fromkeys(w for w, _ in self.best):
            unit, rate, (vm, server) = self.best[what, "volume"]
            _, own, (own_vm, _) = self.best[what, "own disk"]
            print(f"{what:28}{rate:8.1f} {unit:>3}/s{own:8.1f} {unit:>3}/s{rate / own:8.2f}   {vm:.2f} + {server:.2f}, {own_vm:.2f}")


def measure(a):
    figures = Figures()
    with tempfile.TemporaryDirectory() as d:
        box = Box(make_home())
        cmd = [MSX, "-q", "--engine", a.engine, "-v", f"{d}:/v", "--disk", f"{a.mib * 2 + 1024}", "python", "--",
               "-c", GUEST, str(a.mib), str(FILES), str(a.rounds)]
        p = subprocess.Popen(cmd, env=box.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for line in p.stdout:
            words = line.rstrip("\n").split("\t")
            pids = [box.pid_of("qemu-system-x86_64") or box.pid_of("msb-vmm"), box.pid_of("msb-volume")]
            now = [cpu_ms(pid) for pid in pids]
            if words[0] == "end":
                where, what, unit, n, seconds = words[1:]
                figures.add(where, what, unit, int(n), float(seconds), [b - a for a, b in zip(before, now)])
            before = now
            p.stdin.write("\n")
            p.stdin.flush()
        status = p.wait()
        shutil.rmtree(box.home, ignore_errors=True)
        if status:
            sys.exit("the sandbox failed")
    figures.print()
    return figures


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--mib", type=int, default=128)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--engine", default="auto")
    measure(p.parse_args())


main()
