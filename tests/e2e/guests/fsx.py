# SPDX-License-Identifier: Apache-2.0
"""Random operations on one file, each compared with a model of it in memory.

  fsx.py FILE SECONDS SEED

Reads, writes and appends through two descriptors, shared mappings that come and go and one that stays, truncations, holes,
zeroed ranges, copies inside the file, renames, second names, dropped caches.  Prints the number of operations, the
file's size and its SHA-256, so that the host can compare, too; stops at the first difference with the operations before
it.  On stderr it says every ten seconds that it goes on.
"""
import ctypes
import errno
import hashlib
import mmap
import os
import random
import sys
import time

LIMIT = 1 << 19
PAGE = mmap.PAGESIZE
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
libc = ctypes.CDLL(None, use_errno=True)
rng = random.Random(int(sys.argv[3]))


class File:
    """The file under test, and what has to be in it."""

    def __init__(self, path):
        self.path, self.model, self.kept = path, bytearray(), None
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        self.other = os.open(path, os.O_RDWR | os.O_APPEND)

    def any_fd(self):
        return rng.choice((self.fd, self.other))

    def span(self):
        at = rng.randrange(LIMIT)
        return at, rng.randrange(1, min(LIMIT - at, rng.choice((10, PAGE, 70000, 300000))) + 1)

    def inside(self):
        """As span(), of what is there; (0, 0) of an empty file."""
        at, n = self.span()
        at = min(at, max(len(self.model) - 1, 0))
        return at, min(n, len(self.model) - at)

    def put(self, at, data):
        """In the model."""
        if at > len(self.model):
            self.model.extend(bytes(at - len(self.model)))
        self.model[at:at + len(data)] = data

    def same(self, what, at, got):
        want = bytes(self.model[at:at + len(got)])
        if got != want:
            first = next(i for i, (a, b) in enumerate(zip(got, want)) if a != b) if len(got) == len(want) else -1
            raise AssertionError(f"{what} at {at} of {len(got)}: differs from byte {at + first} on")

    # Each returns what the log is to say of it.

    def write(self):
        at, n = self.span()
        data = rng.randbytes(n)
        assert os.pwrite(self.fd, data, at) == n
        self.put(at, data)
        return at, n

    def append(self):
        n = min(rng.randrange(1, 9000), LIMIT - len(self.model))
        data = rng.randbytes(n)
        assert os.write(self.other, data) == n
        self.put(len(self.model), data)
        return n

    def read(self):
        at, n = self.span()
        got = os.pread(self.any_fd(), n, at)
        assert len(got) == max(min(n, len(self.model) - at), 0), f"read at {at} of {n}: {len(got)} bytes"
        self.same("read", at, got)
        return at, n

    def truncate(self):
        n = rng.randrange(LIMIT)
        self.drop_kept()
        if rng.random() < .5:
            os.truncate(self.path, n)
        else:
            os.ftruncate(self.fd, n)
        del self.model[n:]
        self.put(n, b"")
        return n

    def mapwrite(self):
        at, n = self.inside()
        if n:
            with mmap.mmap(self.fd, len(self.model)) as m:
                data = rng.randbytes(n)
                m[at:at + n] = data
                self.model[at:at + n] = data
                if rng.random() < .5:
                    m.flush()
        return at, n

    def mapread(self):
        at, n = self.inside()
        if n:
            with mmap.mmap(self.fd, len(self.model), access=mmap.ACCESS_READ) as m:
                self.same("mapped read", at, m[at:at + n])
        return at, n

    def drop_kept(self):
        if self.kept:
            self.kept.close()
        self.kept = None

    def keep(self):
        """A mapping that lives through other operations: what is read and written through it is the file."""
        if not self.kept:
            if self.model:
                self.kept = mmap.mmap(self.fd, len(self.model))
            return "made"
        at = rng.randrange(len(self.kept))
        n = min(rng.randrange(1, 20000), len(self.kept) - at)
        self.same("kept mapping", at, self.kept[at:at + n])
        data = rng.randbytes(n)
        self.kept[at:at + n] = data
        self.model[at:at + n] = data
        if rng.random() < .2:
            self.drop_kept()
        return at, n

    def allocate(self):
        """Holes, zeroes, room; what the host's file system does not have is no failure."""
        mode = rng.choice((PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE, 0, KEEP_SIZE))
        at, n = self.span()
        if libc.fallocate(self.fd, mode, ctypes.c_long(at), ctypes.c_long(n)):
            e = ctypes.get_errno()
            assert e == errno.EOPNOTSUPP and not mode & PUNCH_HOLE, f"fallocate mode {mode}: {os.strerror(e)}"
            return mode, "not there"
        if not mode & KEEP_SIZE:
            self.put(max(at + n, len(self.model)), b"")
        end = min(at + n, len(self.model))
        if mode & (PUNCH_HOLE | ZERO_RANGE) and at < end:
            self.model[at:end] = bytes(end - at)
        return mode, at, n

    def copy(self):
        """From one place of the file to another."""
        at, n = self.inside()
        to = rng.randrange(LIMIT)
        n = min(n, LIMIT - to, abs(to - at))  # they may not overlap
        if not n:
            return "nothing"
        done = 0
        while done < n:
            got = os.copy_file_range(self.fd, self.fd, n - done, at + done, to + done)
            assert got > 0, f"copy of {n} from {at} to {to} ends at {done}"
            done += got
        self.put(to, bytes(self.model[at:at + n]))
        return at, to, n

    def holes(self):
        """All that is not said to be data reads as zeroes, once the pages of mappings are written."""
        at, size = 0, len(self.model)
        os.fsync(self.fd)
        while at < size:
            try:
                data = os.lseek(self.fd, at, os.SEEK_DATA)
            except OSError as e:
                assert e.errno == errno.ENXIO
                data = size
            assert not any(self.model[at:data]), f"data between {at} and {data} is called a hole"
            at = os.lseek(self.fd, data, os.SEEK_HOLE) if data < size else size
        return ()

    def reopen(self):
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)
        return ()

    def rename(self):
        os.rename(self.path, self.path + ".moved")
        assert not os.path.exists(self.path)
        os.link(self.path + ".moved", self.path)
        os.unlink(self.path + ".moved")
        return ()

    def sync(self):
        rng.choice((os.fsync, os.fdatasync))(self.any_fd())
        return ()

    def forget(self):
        """Reads come from the server again."""
        os.fsync(self.fd)
        try:
            with open("/proc/sys/vm/drop_caches", "w") as f:
                f.write("3")
        except PermissionError:
            return "not root"
        return ()

    def compare(self):
        size = os.fstat(self.fd).st_size
        assert size == len(self.model) == os.stat(self.path).st_size, f"size {size}, not {len(self.model)}"
        with open(self.path, "rb") as f:
            self.same("the whole file", 0, f.read())
        return ()


def main():
    f, log, count = File(sys.argv[1]), [], 0
    ops = ([f.write, f.read] * 6 + [f.mapwrite, f.mapread, f.keep] * 4 + [f.append, f.truncate, f.allocate, f.copy] * 2 +
           [f.holes, f.reopen, f.rename, f.compare, f.sync, f.forget])
    end, said = time.monotonic() + float(sys.argv[2]), time.monotonic()
    while time.monotonic() < end or not count:
        if time.monotonic() > said + 10:
            said = time.monotonic()
            print(count, "operations", file=sys.stderr, flush=True)
        op = rng.choice(ops)
        try:
            log = log[-15:] + [(op.__name__, op())]
        except (AssertionError, OSError) as e:
            sys.exit(f"seed {sys.argv[3]}, operation {count}: {op.__name__}: {e}; before it: {log}")
        count += 1
    f.compare()
    print(count, len(f.model), hashlib.sha256(f.model).hexdigest())


main()
