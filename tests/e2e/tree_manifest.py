#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Prints what a directory tree is, one line a file, so that two trees can be compared.

  tree_manifest.py [--skip NAME]... [--no-root] DIR

Runs on a host and inside a guest; standard library only.  A line has: the path (with
%xx for bytes that are not plain), type and permissions, owner and group, modification
time in nanoseconds, size, and by type: a digest of the content, the target of a link,
the device's numbers; then the first name of a file that has several, and the extended
attributes.  --skip leaves out an entry of the top directory (proc, dev, ...), --no-root
the directory itself.
"""
import argparse
import hashlib
import os
import stat
import sys

SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._+-=:,@~")


def plain(b):
    return "".join(chr(c) if c in SAFE else f"%{c:02x}" for c in b)


def content(path):
    h = hashlib.sha256()
    with open(path, "rb", buffering=0) as f:
        while chunk := f.read(1 << 20):
            h.update(chunk)
    return h.hexdigest()


def sparse_content(path, size):
    """Digest of a large sparse file: its data with their offsets, holes skipped."""
    h = hashlib.sha256()
    with open(path, "rb", buffering=0) as f:
        at = 0
        while at < size:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            f.seek(at)
            block = f.read(4096 - at % 4096)
            if block.strip(b"\0"):
                h.update(b"%d:" % at + block.rstrip(b"\0"))
            at += len(block)
    return h.hexdigest()


def attributes(path):
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:
        return ""
    return " ".join(f"{plain(os.fsencode(n))}={os.getxattr(path, n, follow_symlinks=False).hex()}"
                    for n in names if not n.startswith("trusted.overlay."))


def describe(path, name, first):
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    detail = "-"
    if kind == stat.S_IFREG:
        detail = content(path) if st.st_size < 1 << 30 else sparse_content(path, st.st_size)
    elif kind == stat.S_IFLNK:
        detail = plain(os.readlink(path))
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        detail = f"{os.major(st.st_rdev)}:{os.minor(st.st_rdev)}"
    # A directory's size is the file system's affair.
    size = "-" if kind == stat.S_IFDIR else st.st_size
    same = "-"
    if kind != stat.S_IFDIR and st.st_nlink > 1:
        same = plain(first.setdefault((st.st_dev, st.st_ino), name))
    fields = (plain(name) or "/", f"{st.st_mode:06o}", st.st_uid, st.st_gid, st.st_mtime_ns, size, detail,
              same, attributes(path))
    return " ".join(str(f) for f in fields).rstrip()


def walk(top, skip, with_root):
    first = {}
    if with_root:
        yield describe(top, b"", first)
    stack = [b""]
    while stack:
        prefix = stack.pop()
        subs = []
        for name in sorted(os.listdir(os.path.join(top, prefix))):
            if not prefix and name in skip:
                continue
            rel = os.path.join(prefix, name)
            path = os.path.join(top, rel)
            yield describe(path, rel, first)
            if stat.S_ISDIR(os.lstat(path).st_mode):
                subs.append(rel)
        stack.extend(reversed(subs))


def manifest(top, skip=(), with_root=True):
    return sorted(walk(os.fsencode(top), {os.fsencode(s) for s in skip}, with_root))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--skip", action="append", default=[])
    p.add_argument("--no-root", action="store_true")
    p.add_argument("dir")
    args = p.parse_args()
    for line in manifest(args.dir, args.skip, not args.no_root):
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
