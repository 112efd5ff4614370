# SPDX-License-Identifier: Apache-2.0
"""What a file system owes to programs, tried in the directory that is the argument; as root of the guest.

Prints a JSON object: name of each check -> "ok" or what went wrong.
"""
import errno
import fcntl
import json
import mmap
import os
import socket
import stat
import subprocess
import sys
import threading
import traceback

CHECKS = {}


def check(f):
    CHECKS[f.__name__] = f
    return f


def fails(code, f, *args, **kwargs):
    try:
        f(*args, **kwargs)
    except OSError as e:
        assert e.errno == code, f"{errno.errorcode.get(e.errno)} instead of {errno.errorcode[code]}"
        return
    raise AssertionError(f"no {errno.errorcode[code]}")


def put(name, data=b"x", mode=0o644):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    os.write(fd, data)
    os.close(fd)


def get(name):
    with open(name, "rb") as f:
        return f.read()


@check
def create_exclusive():
    put("a")
    fails(errno.EEXIST, os.open, "a", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.symlink("nowhere", "l")
    fails(errno.EEXIST, os.open, "l", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.close(os.open("l", os.O_CREAT | os.O_WRONLY))
    assert os.path.exists("nowhere")


@check
def create_mode_and_umask():
    old = os.umask(0o027)
    put("a", mode=0o666)
    os.mkdir("d", 0o777)
    os.umask(0)
    put("b", mode=0o600)
    os.umask(old)
    assert [stat.S_IMODE(os.stat(n).st_mode) for n in "adb"] == [0o640, 0o750, 0o600]


@check
def create_read_only_and_write_to_it():
    fd = os.open("a", os.O_CREAT | os.O_RDWR, 0o400)
    assert os.write(fd, b"hello") == 5
    assert os.pread(fd, 10, 0) == b"hello"
    os.close(fd)
    put("a", b"root may")
    assert get("a") == b"root may"


@check
def truncate_at_open_and_later():
    put("a", b"0123456789")
    os.close(os.open("a", os.O_WRONLY | os.O_TRUNC))
    assert os.stat("a").st_size == 0
    put("a", b"0123456789")
    os.truncate("a", 4)
    assert get("a") == b"0123"
    os.truncate("a", 8)
    assert get("a") == b"0123\0\0\0\0"
    fails(errno.EINVAL, os.truncate, "a", -1)
    fd = os.open("a", os.O_RDONLY)
    fails(errno.EINVAL, os.ftruncate, fd, 1)
    os.close(fd)


@check
def append_goes_to_the_end():
    a = os.open("a", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    b = os.open("a", os.O_WRONLY | os.O_APPEND)
    for i in range(50):
        os.write(a, b"a%02d\n" % i)
        os.write(b, b"b%02d\n" % i)
    os.lseek(a, 0, 0)
    os.write(a, b"end\n")
    lines = get("a").split()
    assert len(lines) == 101 and lines[-1] == b"end" and lines[0] == b"a00" and lines[99] == b"b49"


@check
def append_by_many_processes():
    code = ("import os,sys\nfd=os.open('a',os.O_WRONLY|os.O_APPEND|os.O_CREAT)\n"
            "for i in range(100): os.write(fd,(sys.argv[1]*9+'\\n').encode())")
    procs = [subprocess.Popen([sys.executable, "-S", "-c", code, c]) for c in "abcd"]
    assert [p.wait() for p in procs] == [0] * 4
    lines = get("a").split()
    assert len(lines) == 400 and {x for x in lines} == {c.encode() * 9 for c in "abcd"}


@check
def names_of_all_kinds():
    names = ["with space", "ü", "\n", "-", "x" * 255, "\udcff", "a:b", "..."]
    for n in names:
        put(n, n.encode(errors="surrogateescape"))
    assert sorted(os.listdir(".")) == sorted(names)
    for n in names:
        assert get(n) == n.encode(errors="surrogateescape")
    fails(errno.ENAMETOOLONG, put, "x" * 256)
    fails(errno.ENOENT, os.stat, "nothing")
    fails(errno.ENOTDIR, os.stat, "-/x")


@check
def unlink_open_file_lives_on():
    put("a", b"still here")
    fd = os.open("a", os.O_RDWR)
    os.unlink("a")
    assert os.listdir(".") == []
    assert os.pread(fd, 100, 0) == b"still here"
    os.pwrite(fd, b"S", 0)
    st = os.fstat(fd)
    assert st.st_nlink == 0 and st.st_size == 10
    os.ftruncate(fd, 5)
    os.fchmod(fd, 0o600)
    assert os.pread(fd, 100, 0) == b"Still"
    put("a", b"another")
    assert os.pread(fd, 100, 0) == b"Still" and get("a") == b"another"
    os.close(fd)


@check
def unlink_what_it_may_not():
    os.mkdir("d")
    fails(errno.EISDIR, os.unlink, "d")
    fails(errno.ENOENT, os.unlink, "nothing")
    put("d/x")
    fails(errno.ENOTEMPTY, os.rmdir, "d")
    fails(errno.ENOTDIR, os.rmdir, "d/x")
    os.unlink("d/x")
    os.rmdir("d")
    fails(errno.ENOENT, os.rmdir, "d")


@check
def rename_replaces():
    put("a", b"a")
    put("b", b"b")
    fd = os.open("b", os.O_RDONLY)
    os.rename("a", "b")
    assert os.listdir(".") == ["b"] and get("b") == b"a"
    assert os.read(fd, 10) == b"b" and os.fstat(fd).st_nlink == 0
    os.close(fd)


@check
def rename_directories():
    os.makedirs("d/e/f")
    put("d/e/f/x", b"deep")
    fd = os.open("d/e/f/x", os.O_RDONLY)
    os.rename("d/e", "g")
    assert get("g/f/x") == b"deep" and os.read(fd, 9) == b"deep"
    os.close(fd)
    os.mkdir("h")
    os.rename("g", "h")
    assert sorted(os.listdir(".")) == ["d", "h"]
    fails(errno.EINVAL, os.rename, "h", "h/f/in-itself")
    put("file")
    fails(errno.ENOTDIR, os.rename, "h", "file")
    fails(errno.EISDIR, os.rename, "file", "h")
    os.mkdir("full")
    put("full/x")
    fails(errno.ENOTEMPTY, os.rename, "h", "full")


@check
def rename_with_flags():
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)

    def renameat2(a, b, flags):
        if libc.syscall(316, -100, a.encode(), -100, b.encode(), flags):
            raise OSError(ctypes.get_errno(), "renameat2")

    put("a", b"a")
    put("b", b"b")
    fails(errno.EEXIST, renameat2, "a", "b", 1)
    renameat2("a", "c", 1)
    renameat2("b", "c", 2)
    assert get("b") == b"a" and get("c") == b"b"
    os.mkdir("d")
    renameat2("d", "b", 2)
    assert os.path.isdir("b") and get("d") == b"a"


@check
def rename_to_another_name_of_itself():
    put("a", b"one")
    os.link("a", "b")
    os.rename("a", "b")  # POSIX: nothing happens
    assert sorted(os.listdir(".")) == ["a", "b"] and os.stat("a").st_nlink == 2


@check
def hard_links():
    put("a", b"one")
    os.link("a", "b")
    assert os.stat("a").st_ino == os.stat("b").st_ino and os.stat("b").st_nlink == 2
    with open("b", "ab") as f:
        f.write(b" two")
    assert get("a") == b"one two"
    os.unlink("a")
    assert get("b") == b"one two" and os.stat("b").st_nlink == 1
    os.mkdir("d")
    fails(errno.EPERM, os.link, "d", "e")
    fails(errno.EEXIST, os.link, "b", "d")


@check
def symbolic_links():
    os.symlink("target/that is not", "l")
    assert os.readlink("l") == "target/that is not"
    assert stat.S_ISLNK(os.lstat("l").st_mode) and os.lstat("l").st_size == 18
    fails(errno.ENOENT, os.stat, "l")
    fails(errno.EEXIST, os.symlink, "x", "l")
    os.mkdir("d")
    put("d/x", b"in")
    os.symlink("d", "ld")
    assert get("ld/x") == b"in"
    os.symlink("loop", "loop")
    fails(errno.ELOOP, os.stat, "loop")
    os.symlink("x" * 4095, "long")
    assert os.readlink("long") == "x" * 4095
    os.chown("l", 0, 0, follow_symlinks=False)
    os.utime("l", ns=(1, 2), follow_symlinks=False)
    assert os.lstat("l").st_mtime_ns == 2
    os.link("l", "m", follow_symlinks=False)
    assert os.readlink("m") == os.readlink("l")


@check
def modes():
    put("a")
    for mode in (0o000, 0o777, 0o644, 0o400, 0o1755):
        os.chmod("a", mode)
        assert stat.S_IMODE(os.stat("a").st_mode) == mode
    os.mkdir("d")
    os.chmod("d", 0o2775)
    assert stat.S_IMODE(os.stat("d").st_mode) == 0o2775
    fails(errno.EPERM, os.chmod, "a", 0o4755)
    fails(errno.EPERM, os.chmod, "a", 0o2755)
    assert stat.S_IMODE(os.stat("a").st_mode) == 0o1755


@check
def times():
    put("a")
    ns = (1_000_000_000_123_456_789, 1_500_000_000_987_654_321)
    os.utime("a", ns=ns)
    st = os.stat("a")
    assert (st.st_atime_ns, st.st_mtime_ns) == ns
    os.utime("a", ns=(-5_000_000_000, 0))  # before 1970
    assert os.stat("a").st_atime_ns == -5_000_000_000
    os.utime("a")
    now = os.stat("a").st_mtime_ns
    with open("a", "ab") as f:
        f.write(b"more")
    assert os.stat("a").st_mtime_ns >= now > ns[1]


@check
def directory_times_and_links():
    before = os.stat(".").st_mtime_ns
    os.mkdir("d")
    assert os.stat(".").st_mtime_ns >= before
    names = {f"n{i}" for i in range(500)}
    for n in names:
        put("d/" + n, b"")
    assert set(os.listdir("d")) == names
    with os.scandir("d") as it:
        assert all(e.is_file(follow_symlinks=False) and e.stat().st_size == 0 for e in it)
    for n in sorted(names)[::2]:
        os.unlink("d/" + n)
    assert set(os.listdir("d")) == set(sorted(names)[1::2])


@check
def remove_while_reading_the_directory():
    for i in range(300):
        put(f"n{i}", b"")
    with os.scandir(".") as it:
        for e in it:
            os.unlink(e.path)
    assert os.listdir(".") == []


@check
def extended_attributes():
    put("a")
    os.setxattr("a", "user.one", b"1")
    os.setxattr("a", "user.two", b"\0" * 1000)
    assert os.getxattr("a", "user.one") == b"1" and os.getxattr("a", "user.two") == b"\0" * 1000
    assert sorted(os.listxattr("a")) == ["user.one", "user.two"]
    fails(errno.EEXIST, os.setxattr, "a", "user.one", b"x", os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, "a", "user.no", b"x", os.XATTR_REPLACE)
    os.removexattr("a", "user.one")
    fails(errno.ENODATA, os.getxattr, "a", "user.one")
    fails(errno.EOPNOTSUPP, os.setxattr, "a", "trusted.x", b"x")
    fails(errno.EOPNOTSUPP, os.setxattr, "a", "security.capability", b"\1\0\0\2" + b"\0" * 16)


@check
def space_is_made_and_holes_are_found():
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open("a", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 1 << 20)
    assert os.fstat(fd).st_size == 1 << 20 and os.fstat(fd).st_blocks >= 2048
    os.pwrite(fd, b"x" * (1 << 20), 0)
    if libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(1 << 19)):
        raise OSError(ctypes.get_errno(), "punch")
    assert os.pread(fd, 10, 100) == b"\0" * 10 and os.fstat(fd).st_size == 1 << 20
    assert os.lseek(fd, 0, os.SEEK_DATA) == 1 << 19
    os.pwrite(fd, b"end", 5 << 30)
    assert os.fstat(fd).st_size == (5 << 30) + 3 and os.pread(fd, 3, 5 << 30) == b"end"
    os.close(fd)


@check
def file_system_has_figures():
    st = os.statvfs(".")
    assert st.f_blocks >= st.f_bfree > 0 and st.f_namemax == 255 and st.f_bsize >= 512


@check
def locks():
    put("a")
    code = ("import fcntl,sys\nf=open('a','r+')\ntry:\n {}(f,fcntl.LOCK_EX|fcntl.LOCK_NB)\n print('got')\n"
            "except BlockingIOError: print('busy')")
    for how in ("fcntl.flock", "fcntl.lockf"):
        f = open("a", "r+")
        eval(how)(f, fcntl.LOCK_EX)

        def other():
            return subprocess.run([sys.executable, "-S", "-c", code.format(how)], stdout=subprocess.PIPE).stdout
        assert other() == b"busy\n", how
        eval(how)(f, fcntl.LOCK_UN)
        assert other() == b"got\n", how


@check
def mapped_memory():
    put("a", bytes(range(256)) * 64)
    with open("a", "r+b") as f:
        shared = mmap.mmap(f.fileno(), 0)
        other = mmap.mmap(f.fileno(), 0)
        private = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)
        shared[5000:5005] = b"HELLO"
        private[0:3] = b"mine"[:3]
        assert other[5000:5005] == b"HELLO"
        shared.flush()
        assert os.pread(f.fileno(), 5, 5000) == b"HELLO"
        os.pwrite(f.fileno(), b"written", 9000)
        assert shared[9000:9007] == b"written"
        shared[100:103] = b"end"
        shared.close()
        other.close()
    assert get("a")[100:103] == b"end" and get("a")[:3] == b"\0\1\2"


@check
def mapped_memory_beside_a_handle_that_appends():
    fd = os.open("a", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"." * 8192)
    with open("a", "r+b") as f:
        m = mmap.mmap(f.fileno(), 0)
        m[10:14] = b"mmap"
        m.flush()
        m.close()
    os.write(fd, b"tail")
    os.close(fd)
    data = get("a")
    assert len(data) == 8196 and data[10:14] == b"mmap" and data.endswith(b".tail")


@check
def programs_run_from_it():
    put("prog", b"#!/bin/sh\necho ran $1\n", 0o755)
    assert subprocess.run(["./prog", "it"], stdout=subprocess.PIPE).stdout == b"ran it\n"
    import shutil
    shutil.copy("/bin/true", "elf")
    assert subprocess.run(["./elf"]).returncode == 0
    fails(errno.ETXTBSY, hold_and_write, "elf")


def hold_and_write(name):
    import shutil
    shutil.copy("/bin/sleep", "s")
    p = subprocess.Popen(["./s", "1000"])
    try:
        os.close(os.open("s", os.O_WRONLY))
    finally:
        p.kill()
        p.wait()


@check
def special_files():
    fails(errno.EPERM, os.mknod, "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    fails(errno.EPERM, os.mknod, "disk", stat.S_IFBLK | 0o666, os.makedev(254, 0))
    os.mkfifo("f")
    got = []
    t = threading.Thread(target=lambda: got.append(get("f")))
    t.start()
    with open("f", "wb") as f:
        f.write(b"through")
    t.join()
    assert got == [b"through"]
    s = socket.socket(socket.AF_UNIX)
    s.bind("sock")
    s.listen(1)
    c = socket.socket(socket.AF_UNIX)
    c.connect("sock")
    a, _ = s.accept()
    c.send(b"x")
    assert a.recv(1) == b"x" and stat.S_ISSOCK(os.stat("sock").st_mode)


@check
def permissions_hold_inside():
    os.chmod(".", 0o755)
    put("secret", b"x", 0o600)
    os.mkdir("open", 0o777)
    os.chmod("open", 0o777)
    code = ("import os\ntry: open('secret'); print('read')\nexcept PermissionError: print('no')\n"
            "try: open('new','w'); print('made')\nexcept PermissionError: print('no')\n"
            "open('open/x','w').write('y'); print(open('open/x').read())")
    out = subprocess.run([sys.executable, "-S", "-c", code], user=1234, group=1234, extra_groups=[],
                         stdout=subprocess.PIPE).stdout
    assert out == b"no\nno\ny\n", out


@check
def copies_inside_the_kernel():
    put("a", os.urandom(3 << 20))
    a, b = os.open("a", os.O_RDONLY), os.open("b", os.O_CREAT | os.O_WRONLY)
    done = 0
    while done < 3 << 20:
        done += os.copy_file_range(a, b, (3 << 20) - done, done, done)
    os.close(a)
    os.close(b)
    assert get("a") == get("b")
    with open("a", "rb") as f, open("c", "wb") as g:
        while os.sendfile(g.fileno(), f.fileno(), None, 1 << 20):
            pass
    assert get("a") == get("c")


@check
def many_files_open_at_once():
    fds = []
    for i in range(900):
        fds.append(os.open(f"f{i}", os.O_CREAT | os.O_RDWR))
        os.write(fds[-1], b"%d" % i)
    for i, fd in enumerate(fds):
        assert os.pread(fd, 10, 0) == b"%d" % i
        os.close(fd)


@check
def deep_directories():
    top = os.getcwd()
    for i in range(200):
        os.mkdir("deep")
        os.chdir("deep")
    put("bottom", b"here")
    assert os.getcwd() == top + "/deep" * 200
    os.chdir(top)
    assert get("deep/" * 200 + "bottom") == b"here"


@check
def syncs():
    fd = os.open("a", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x")
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    d = os.open(".", os.O_RDONLY)
    os.fsync(d)
    os.close(d)
    os.sync()
    fd = os.open("b", os.O_CREAT | os.O_WRONLY | os.O_SYNC)
    os.write(fd, b"x")
    os.close(fd)


@check
def threads_and_processes_together():
    def work(k):
        for i in range(40):
            n = f"{k}-{i}"
            put(n + ".tmp", n.encode() * 100)
            os.rename(n + ".tmp", n)
            assert get(n) == n.encode() * 100
            if i % 2:
                os.unlink(n)
    errors = []

    def guard(k):
        try:
            work(k)
        except BaseException as e:  # noqa: B902
            errors.append(repr(e))
    threads = [threading.Thread(target=guard, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors
    assert len(os.listdir(".")) == 160


def main():
    top = sys.argv[1]
    results = {}
    for name, f in CHECKS.items():
        d = os.path.join(top, name)
        os.mkdir(d)
        os.chdir(d)
        try:
            f()
            results[name] = "ok"
        except BaseException:  # noqa: B902
            results[name] = traceback.format_exc(limit=3)
    os.chdir("/")
    json.dump(results, sys.stdout)


main()
