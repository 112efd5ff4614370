#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Bytes a second through a volume, both ways, beside the sandbox's own disk in the same run.

  bench_volumes.py [--mib N] [--engine E]

Also small files: how many are made, read and removed in a second.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MSX = str(ROOT / os.environ.get("O", "build") / "bin/msx")

GUEST = r"""
import os, sys, time
mib = int(sys.argv[1])
block = os.urandom(1 << 20)

def drop():
    os.sync()
    open('/proc/sys/vm/drop_caches', 'w').write('3')

def rate(name, n, unit, start):
    s = time.monotonic() - start
    print(f'{name:34}{n / s:10.1f} {unit}/s   ({n} in {s:.2f} s)', flush=True)

for where, path in (('volume', '/v/big'), ('own disk', '/root/big')):
    t = time.monotonic()
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    for _ in range(mib):
        os.write(fd, block)
    os.fsync(fd)
    os.close(fd)
    rate(f'{where}: write and fsync', mib, 'MiB', t)
    drop()
    t, fd, n = time.monotonic(), os.open(path, os.O_RDONLY), 0
    while data := os.read(fd, 1 << 20):
        n += len(data)
    os.close(fd)
    assert n == mib << 20
    rate(f'{where}: read', mib, 'MiB', t)
    os.unlink(path)
for where, path in (('volume', '/v/s'), ('own disk', '/root/s')):
    os.mkdir(path)
    files = 500
    t = time.monotonic()
    for i in range(files):
        with open(f'{path}/{i}', 'wb') as f:
            f.write(b'x' * 1000)
    rate(f'{where}: make files of 1000 bytes', files, 'files', t)
    drop()
    t = time.monotonic()
    for i in range(files):
        with open(f'{path}/{i}', 'rb') as f:
            f.read()
    rate(f'{where}: read them', files, 'files', t)
    t = time.monotonic()
    for i in range(files):
        os.unlink(f'{path}/{i}')
    rate(f'{where}: remove them', files, 'files', t)
"""


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--mib", type=int, default=256)
    p.add_argument("--engine", default="auto")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as d:
        cmd = [MSX, "-q", "--engine", a.engine, "-v", f"{d}:/v", "--disk", f"{a.mib * 2 + 1024}", "python", "--", "-c", GUEST,
               str(a.mib)]
        print(" ".join(cmd[:8]), "…")
        return subprocess.run(cmd).returncode


sys.exit(main())
