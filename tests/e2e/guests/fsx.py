# SPDX-License-Identifier: Apache-2.0
"""Random reads, writes, mappings, truncations and reopenings of one file, each compared with a model.

  fsx.py FILE SECONDS SEED

Prints how many operations were done; stops at the first difference, with the operations before it.
"""
import mmap
import os
import random
import sys
import time

LIMIT = 1 << 19
path, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
model = bytearray()
log = []
fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)


def span():
    at = rng.randrange(LIMIT)
    return at, rng.randrange(1, min(LIMIT - at, 70000) + 1)


def write():
    at, n = span()
    data = rng.randbytes(n)
    if at > len(model):
        model.extend(b"\0" * (at - len(model)))
    assert os.pwrite(fd, data, at) == n
    model[at:at + n] = data
    return at, n


def read():
    at, n = span()
    got = os.pread(fd, n, at)
    assert got == bytes(model[at:at + n]), f"read at {at} of {n}: differs"
    return at, n


def truncate():
    n = rng.randrange(LIMIT)
    os.ftruncate(fd, n)
    if n < len(model):
        del model[n:]
    else:
        model.extend(b"\0" * (n - len(model)))
    return (n,)


def mapped(change):
    if not model:
        return ()
    at, n = span()
    at = min(at, len(model) - 1)
    n = min(n, len(model) - at)
    with mmap.mmap(fd, len(model)) as m:
        if change:
            data = rng.randbytes(n)
            m[at:at + n] = data
            model[at:at + n] = data
            if rng.random() < .5:
                m.flush()
        else:
            assert m[at:at + n] == bytes(model[at:at + n]), f"mapped read at {at} of {n}: differs"
    return at, n


def punch():
    import ctypes
    if not model:
        return ()
    at, n = span()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, 3, ctypes.c_long(at), ctypes.c_long(n)):
        raise OSError(ctypes.get_errno(), "punch a hole")
    end = min(at + n, len(model))
    if at < end:
        model[at:end] = b"\0" * (end - at)
    return at, n


def reopen():
    global fd
    os.close(fd)
    fd = os.open(path, os.O_RDWR)
    return ()


def compare():
    assert os.fstat(fd).st_size == len(model), f"size {os.fstat(fd).st_size}, not {len(model)}"
    with open(path, "rb") as f:
        assert f.read() == bytes(model), "the whole file differs"
    return ()


OPS = ([("write", write)] * 6 + [("read", read)] * 6 + [("truncate", truncate)] * 2 +
       [("mapwrite", lambda: mapped(True))] * 4 + [("mapread", lambda: mapped(False))] * 4 +
       [("punch", punch), ("reopen", reopen), ("compare", compare), ("fsync", lambda: os.fsync(fd) or ())])
end, count = time.monotonic() + seconds, 0
while time.monotonic() < end:
    name, op = rng.choice(OPS)
    try:
        log.append((name, *op()))
    except AssertionError as e:
        sys.exit(f"seed {seed}, operation {count}: {name}: {e}; before it: {log[-10:]}")
    count += 1
compare()
print(count)
