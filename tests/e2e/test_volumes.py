# SPDX-License-Identifier: Apache-2.0
"""Volumes: what programs in the sandbox can do with files of the host, and what they cannot."""
import base64
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import stat
import subprocess
import tempfile
import threading
import time
import zipfile

import pytest

import wire
from conftest import Box, TIMEOUT, make_home, wait_for

GUESTS = pathlib.Path(__file__).resolve().parent / "guests"
POSIX = re.findall(r"^@check\ndef (\w+)", (GUESTS / "posix.py").read_text(), re.M)
SECONDS = float(os.environ.get("T", "20"))  # of the random test


class Share:
    """A running sandbox with volumes, and what it shares."""

    def __init__(self, *extra, user=None):
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="msb-volumes-"))
        self.rw, self.ro, self.inner = self.top / "rw", self.top / "ro", self.top / "inner"
        for d in (self.rw, self.ro, self.inner):
            d.mkdir()
        (self.ro / "x").write_text("read me\n")
        self.file, self.file_ro = self.top / "one.conf", self.top / "two.conf"
        self.file.write_text("single\n")
        self.file_ro.write_text("fixed\n")
        self.box = Box(make_home())
        self.process = self.box.start(
            "-q", "-v", f"{self.rw}:/vol", "-v", f"{self.ro}:/ro:ro", "-v", f"{self.inner}:/vol/a/b",
            "-v", f"{self.file}:/etc/one.conf", "-v", f"{self.file_ro}:/opt/two.conf:ro",
            "-v", f"{GUESTS}:/guests:ro", "--tmpfs", "/scratch:size=4M", *extra, "python", "-e", "/bin/cat")
        self.dir = self.box.wait_sandbox()
        self.clients, self.main = [], None

    def client(self):
        self.clients.append(wire.Client(self.dir + "/run/ctl.sock"))
        return self.clients[-1]

    def run(self, *argv, status=0, **kwargs):
        self.main = self.main or self.client()
        last, out, err = self.main.exec(list(argv), **kwargs)
        assert last["reason"] == 0 and last["status"] == status, (last, out, err)
        return out

    def sh(self, script, **kwargs):
        return self.run("/bin/sh", "-c", script, **kwargs).decode()

    def py(self, script, *args, **kwargs):
        return self.run("/usr/bin/env", "python3", "-c", script, *args, **kwargs).decode()

    def end(self):
        for c in self.clients:
            c.close()
        self.process.stdin.close()
        self.process.wait(TIMEOUT)
        self.box.assert_nothing_left()
        shutil.rmtree(self.box.home, ignore_errors=True)
        shutil.rmtree(self.top, ignore_errors=True)


@pytest.fixture(scope="module")
def share():
    s = Share()
    yield s
    s.end()


def test_both_sides_see_the_same(share):
    (share.rw / "host").write_text("from the host")
    assert share.sh("cat /vol/host; printf guest > /vol/guest") == "from the host"
    assert (share.rw / "guest").read_text() == "guest"
    assert "volume /vol fuse rw,nosuid,nodev" in share.sh("cat /proc/mounts")


@pytest.fixture(scope="module")
def posix(share):
    os.mkdir(share.rw / "posix")
    return json.loads(share.run("/usr/bin/env", "python3", "/guests/posix.py", "/vol/posix"))


@pytest.mark.parametrize("name", POSIX)
def test_posix(posix, name):
    assert len(POSIX) > 30
    assert posix[name] == "ok"


def test_read_only_is_erofs(share):
    script = """
import errno, os
def no(f, *a):
    try:
        f(*a)
    except OSError as e:
        return errno.errorcode[e.errno]
    return 'possible'
print(no(open, '/ro/x', 'w'), no(open, '/ro/new', 'w'), no(os.unlink, '/ro/x'), no(os.mkdir, '/ro/d'),
      no(os.rename, '/ro/x', '/ro/y'), no(os.chmod, '/ro/x', 0o777), no(os.truncate, '/ro/x', 0),
      no(os.utime, '/ro/x'), no(os.setxattr, '/ro/x', 'user.a', b'1'), no(open, '/opt/two.conf', 'w'))
print(open('/ro/x').read(), open('/opt/two.conf').read())
"""
    assert share.py(script).split() == ["EROFS"] * 10 + ["read", "me", "fixed"]
    assert (share.ro / "x").read_text() == "read me\n"


def test_read_only_holds_although_the_guest_mounts_it_again(share):
    """Root in the guest can take its own kernel's flag away, and not the server's."""
    remount = ("import ctypes, sys; c = ctypes.CDLL(None, use_errno=True)\n"
               "print(c.mount(None, b'/ro', None, 32 | int(sys.argv[1]), None), ctypes.get_errno())")
    assert share.py(remount, "6") == "0 0\n"
    out = share.sh("(echo no > /ro/x) 2>&1; (echo no > /ro/new) 2>&1; grep ' /ro ' /proc/mounts; true")
    assert " rw," in out and out.count("Read-only file system") == 2
    assert (share.ro / "x").read_text() == "read me\n" and not (share.ro / "new").exists()
    assert share.py(remount, "7") == "0 0\n"


def test_single_files(share):
    assert share.sh("cat /etc/one.conf /opt/two.conf; stat -c %F /etc/one.conf") == "single\nfixed\nregular file\n"
    share.sh("echo more >> /etc/one.conf")
    assert share.file.read_text() == "single\nmore\n"
    share.file.write_text("host again\n")
    assert share.sh("sleep 1.1; cat /etc/one.conf") == "host again\n"


def test_one_volume_in_another(share):
    share.sh("echo inner > /vol/a/b/f; echo outer > /vol/a/f")
    assert (share.inner / "f").read_text() == "inner\n" and (share.rw / "a/f").read_text() == "outer\n"
    assert not (share.rw / "a/b/f").exists()


def test_tmpfs_has_its_size(share):
    out = share.sh("df -k /scratch | tail -1; stat -c %a /scratch; head -c 5M /dev/zero > /scratch/x; ls -l /scratch/x", status=0)
    assert out.split()[1] == "4096" and "1777" in out and "4194304" in out


def test_changes_of_the_host_are_seen(share):
    """Names and attributes within a second, content with them."""
    script = """
import os, sys, time
def seen(f, seconds=5):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if f(): return True
        time.sleep(.05)
open('/vol/c/mine').read()
for line in sys.stdin:
    what = line.strip()
    sys.stdout.write('%s\\n' % {'new': lambda: seen(lambda: os.path.exists('/vol/c/new')),
           'content': lambda: seen(lambda: open('/vol/c/mine').read() == 'changed by the host'),
           'gone': lambda: seen(lambda: not os.path.exists('/vol/c/new')),
           'moved': lambda: seen(lambda: os.path.exists('/vol/d/mine') and not os.path.exists('/vol/c')),
           'mode': lambda: seen(lambda: os.stat('/vol/d/mine').st_mode & 0o777 == 0o751)}[what]())
    sys.stdout.flush()
"""
    (share.rw / "c").mkdir()
    mine = share.rw / "c/mine"
    mine.write_text("as it was")
    c = share.client()
    channel = c.open("EXEC", flags=2, argv=["/usr/bin/env", "python3", "-c", script])

    def step(word, act):
        act()
        c.send_raw("DATA", channel, word.encode() + b"\n", wire.IN)
        while True:
            name, got, _, body = c.recv()
            if name == "DATA" and got == channel:
                assert body == b"True\n", word
                return
    step("new", lambda: (share.rw / "c/new").write_text("x"))
    step("content", lambda: mine.write_text("changed by the host"))
    step("gone", lambda: (share.rw / "c/new").unlink())
    step("moved", lambda: os.rename(share.rw / "c", share.rw / "d"))
    step("mode", lambda: os.chmod(share.rw / "d/mine", 0o751))
    c.finish(channel)


def test_big_files_both_ways(share):
    size = 24 << 20
    data = os.urandom(1 << 20) * 24
    (share.rw / "down").write_bytes(data)
    want = hashlib.sha256(data).hexdigest()
    assert share.sh("sha256sum /vol/down; cp /vol/down /vol/up; sync /vol/up").split()[0] == want
    up = (share.rw / "up").read_bytes()
    assert len(up) == size and hashlib.sha256(up).hexdigest() == want
    os.unlink(share.rw / "down")
    os.unlink(share.rw / "up")


def test_random_operations_match_a_model(share):
    seed = os.environ.get("SEED") or str(int.from_bytes(os.urandom(4), "little"))
    count, size, digest = share.run("/usr/bin/env", "python3", "/guests/fsx.py", "/vol/fsx", str(SECONDS), seed).split()
    print(f"{int(count)} operations in {SECONDS:.0f} s, seed {seed}")
    assert int(count) > 20, seed
    there = (share.rw / "fsx").read_bytes()
    assert len(there) == int(size) and hashlib.sha256(there).hexdigest().encode() == digest, seed


def test_sqlite(share):
    script = """
import sqlite3, subprocess, sys
if len(sys.argv) > 1:
    db = sqlite3.connect('/vol/t.db', timeout=100)
    for i in range(20):
        with db: db.execute('insert into t values (?, ?)', (sys.argv[1], i))
else:
    for mode in ('delete', 'wal'):
        db = sqlite3.connect('/vol/t.db', timeout=100)
        assert db.execute('pragma journal_mode=' + mode).fetchone()[0] == mode
        db.execute('drop table if exists t')
        db.execute('create table t (who, n)')
        db.commit()
        ps = [subprocess.Popen([sys.executable, '-c', sys.argv[0] if False else open('/vol/sq.py').read(), w]) for w in 'abc']
        assert [p.wait() for p in ps] == [0] * 3
        print(mode, db.execute('select count(*), sum(n) from t').fetchone(), db.execute('pragma integrity_check').fetchone()[0])
        db.close()
"""
    (share.rw / "sq.py").write_text(script)
    assert share.run("/usr/bin/env", "python3", "/vol/sq.py") == b"delete (60, 570) ok\nwal (60, 570) ok\n"
    out = subprocess.run(["/usr/bin/python3", "-c",
                          "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute('select count(*) from t').fetchone()[0])",
                          str(share.rw / "t.db")], stdout=subprocess.PIPE, check=True).stdout
    assert out == b"60\n"


# ---- real programs: the host's own, lent from a read-only volume ------------------

PIP = pathlib.Path("/usr/lib/python3/dist-packages/pip")


@pytest.fixture(scope="module")
def lent():
    s = Share("-v", "/usr:/host/usr:ro")
    yield s
    s.end()


@pytest.mark.skipif(not os.path.exists("/usr/bin/git"), reason="the host has no git to lend")
def test_git(lent):
    """On a repository of the host's: clone, commits, gc and push."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    origin = lent.rw / "origin"
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run([*git, "init", "-q", str(origin)], check=True, env=env)
    for i in range(40):
        (origin / f"d{i % 7}").mkdir(exist_ok=True)
        (origin / f"d{i % 7}/f{i}").write_text(f"line {i}\n" * 50)
    subprocess.run([*git, "-C", str(origin), "add", "."], check=True, env=env)
    subprocess.run([*git, "-C", str(origin), "commit", "-qm", "first"], check=True, env=env)
    out = lent.sh("""
set -e
export LD_LIBRARY_PATH=/host/usr/lib/x86_64-linux-gnu GIT_EXEC_PATH=/host/usr/lib/git-core HOME=/root
git() { /host/usr/bin/git -c user.name=g -c user.email=g@example.org "$@"; }
cd /vol
git clone -q origin clone
cd clone
echo guest > new; git add new; git commit -qm second; git mv new newer; git commit -qm third
git gc -q
git push -q origin HEAD:refs/heads/from-guest
git status --porcelain; git fsck --strict; git log --oneline | wc -l
""")
    assert out.strip() == "3"
    for d in origin, lent.rw / "clone":
        subprocess.run(["git", "-C", str(d), "-c", "safe.directory=*", "fsck", "--strict"], check=True, env=env)
    log = subprocess.run(["git", "-C", str(origin), "log", "--format=%s", "from-guest"], stdout=subprocess.PIPE,
                         check=True, env=env).stdout
    assert log == b"third\nsecond\nfirst\n"


def make_wheel(path, name, version, files, requires=()):
    """A wheel as its specification has it; pip checks the hashes."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(f"Requires-Dist: {r}\n" for r in requires)
    files = {**files, f"{info}/METADATA": metadata,
             f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    record = ""
    with zipfile.ZipFile(path / f"{name}-{version}-py3-none-any.whl", "w") as z:
        for n, text in files.items():
            z.writestr(n, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{n},sha256={digest},{len(text)}\n"
        z.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")


@pytest.mark.skipif(not PIP.exists(), reason="the host has no python3-pip to lend")
def test_pip_from_an_index(lent):
    """A package and what it requires, from an index on a volume into a virtual environment on a volume."""
    for name, requires, text in (("hello", ("sometext>=2",), "from sometext import TEXT\ndef hi(): print(TEXT)\n"),
                                 ("sometext", (), "TEXT = 'hi from the volume'\n")):
        d = lent.rw / "index" / name
        d.mkdir(parents=True)
        more = {f"{name}/m{i}.py": f"N = {i}\n" for i in range(20)}
        for version in "1", "2":
            make_wheel(d, name, version, {f"{name}/__init__.py": text, **more}, requires)
    out = lent.sh("""
set -e
cd /vol/index; python3 -m http.server -b 127.0.0.1 8765 >/dev/null 2>&1 & server=$!
python3 -m venv --without-pip --system-site-packages /vol/venv
until python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8765))' 2>/dev/null; do :; done
PYTHONPATH=/host/usr/lib/python3/dist-packages /vol/venv/bin/python3 -m pip install -q --disable-pip-version-check \\
    --no-cache-dir --index-url http://127.0.0.1:8765/ hello
kill $server
/vol/venv/bin/python3 -c 'import hello; hello.hi(); print(hello.__file__)'
""")
    assert re.match(r"hi from the volume\n/vol/venv/lib/python3\.\d+/site-packages/hello/__init__.py\n", out), out
    assert [p.name for p in lent.rw.glob("venv/lib/python3*/site-packages/sometext-*")] == ["sometext-2.dist-info"]


def test_links_lead_nowhere_on_the_host(share):
    """The guest's kernel follows them, in the guest."""
    secret = share.top / "secret"
    secret.write_text("of the host")
    os.symlink(secret, share.rw / "abs")
    os.symlink("../secret", share.rw / "rel")
    os.symlink("..", share.rw / "up")
    os.symlink("/etc/hostname", share.rw / "etc")
    os.symlink("/proc/self/root" + str(secret), share.rw / "magic")
    out = share.sh("for f in abs rel magic up/secret up/rw; do cat /vol/$f 2>&1; done; cat /vol/etc; ls /vol/up/ | head -50")
    assert "of the host" not in out and out.count("No such file") == 5
    assert "boot" in out or "etc" in out  # /vol/up is the guest's own root


def test_renames_on_the_host_while_it_is_served(share):
    """A directory and a link to the outside change places all the time: nothing of the outside is seen."""
    outside = share.top / "outside"
    outside.mkdir()
    (outside / "f").write_text("OUTSIDE")
    inside, link = share.rw / "race/d", share.rw / "race/l"
    inside.mkdir(parents=True)
    (inside / "f").write_text("inside")
    os.symlink(outside, link)
    stop = threading.Event()
    swaps = [0]

    def swap():
        t = share.rw / "race/t"
        while not stop.is_set():
            os.rename(inside, t)
            os.rename(link, inside)
            os.rename(inside, link)
            os.rename(t, inside)
            swaps[0] += 1
    thread = threading.Thread(target=swap)
    thread.start()
    script = """
import os, time
start, seen, n = time.monotonic(), set(), 0
# What was looked up at the wrong moment is believed for a second.
while time.monotonic() < start + 6 or ('inside' not in seen and time.monotonic() < start + 60):
    n += 1
    try:
        seen.add(open('/vol/race/d/f').read())
        with open('/vol/race/d/made', 'w') as f: f.write('x')
        os.rename('/vol/race/d/made', '/vol/race/d/moved')
    except OSError as e:
        seen.add(type(e).__name__)
print(n, *sorted(seen))
"""
    try:
        out = share.py(script).split()
    finally:
        stop.set()
        thread.join()
    assert int(out[0]) > 10 and swaps[0] > 100
    assert "inside" in out and "OUTSIDE" not in out
    assert sorted(os.listdir(outside)) == ["f"]


def test_fifos_and_devices_of_the_host_are_not_opened(share):
    os.mkfifo(share.rw / "fifo")
    if os.geteuid() == 0:
        os.mknod(share.rw / "dev", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    # The guest's own fifo: it waits for a writer in the guest, and the server for nobody.
    out = share.sh("timeout 1 cat /vol/fifo; echo $?; cat /vol/dev 2>&1 | head -c 10; cat /vol/host")
    assert out.startswith("124\n") and out.endswith("from the host")
    if os.geteuid() == 0:
        assert "Permission denied" in out or "cat: /vol" in out


def test_set_id_bits_of_the_host_do_nothing(share):
    if os.geteuid():
        pytest.skip("needs root")
    prog = share.rw / "suid"
    shutil.copy("/usr/bin/id", prog)
    os.chmod(prog, 0o4755)
    c = share.client()
    assert c.exec(["/vol/suid", "-u"], user="1234")[1] == b"1234\n"
    # And a write takes them away, also that of root.
    share.sh("printf x >> /vol/suid")
    assert stat.S_IMODE(os.stat(prog).st_mode) == 0o755


def test_owners_as_root(share):
    if os.geteuid():
        pytest.skip("needs root")
    share.sh("touch /vol/o; chown 1234:4321 /vol/o; mkdir -m 777 /vol/pub")
    st = os.stat(share.rw / "o")
    assert (st.st_uid, st.st_gid) == (1234, 4321)
    c = share.client()
    last, _, err = c.exec(["/bin/sh", "-c", "echo x > /vol/pub/mine; mkdir /vol/pub/d; ln -s x /vol/pub/l"], user="1234:99")
    assert last["status"] == 0, err
    for n in "mine", "d", "l":
        st = os.lstat(share.rw / "pub" / n)
        assert (st.st_uid, st.st_gid) == (1234, 99), n
    os.chown(share.rw / "o", 77, 88)
    assert share.sh("sleep 1.1; stat -c %u:%g /vol/o") == "77:88\n"


def test_more_inodes_than_descriptors(box, tmp_path):
    """The server closes what is not in use, and finds it again."""
    for i in range(60):
        (tmp_path / f"d{i}").mkdir()
        for k in range(30):
            (tmp_path / f"d{i}/f{k}").write_text(f"{i}.{k}")
    script = """
import os
keep = [os.open(f'/vol/d{i}', os.O_PATH) for i in range(60)]
files = [open(f'/vol/d{i}/f0', 'r+') for i in range(60)]
n = 0
for turn in range(2):
    for i in range(60):
        for k in range(30):
            n += open(f'/vol/d{i}/f{k}').read() == f'{i}.{k}'
for i in range(60):
    n += files[i].read() == f'{i}.0'
    os.rename(f'/vol/d{i}', f'/vol/e{i}')
for i in range(60):
    n += open(f'/vol/e{i}/f7').read() == f'{i}.7'
print(n)
"""
    p = box.msx("-q", "-v", f"{tmp_path}:/vol", "python", "--", "-c", script, check=0,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400)))
    assert p.stdout == b"3720\n"


# ---- errors that say what to do ------------------------------------------------

@pytest.mark.parametrize("args,text", [
    (["-v", "/nosuch:/x"], b"mkdir"),
    (["-v", "/tmp:relative"], b"not absolute"),
    (["-v", "/tmp:/proc/x"], b"kernel's"),
    (["-v", "/tmp:/sys"], b"kernel's"),
    (["-v", "/tmp:/dev/shm"], b"kernel's"),
    (["-v", "/tmp:/"], b"whole image"),
    (["-v", "/tmp:/a/../b"], b"'..'"),
    (["-v", "/tmp:/a", "-v", "/usr:/a/"], b"two volumes"),
    (["-v", ":/a"], b"empty"),
    (["-v", "/tmp:"], b"is empty"),
    (["-v", "/tmp:/a:"], b"behind the last colon"),
    (["-v", "/tmp:/a:rx"], b"unknown option"),
    (["-v", "/tmp:/a:ro,rw"], b"twice"),
    (["-v", "/dev/null:/a"], b"neither a directory nor a regular file"),
    (["-v", "nosuch:/a"], b"msb volume create nosuch"),
    (["-v", "no such:/a"], b"./no such"),
    (["--tmpfs", "scratch"], b"not absolute"),
    (["--tmpfs", "/s:size=0"], b"64M"),
])
def test_errors_say_what_to_do(box, args, text):
    p = box.msx("-q", *args, "python", "-e", "/bin/true")
    assert p.returncode in (2, 125) and text in p.stderr, p.stderr
    box.assert_nothing_left()


def test_a_file_cannot_take_the_place_of_a_directory(box):
    p = box.msx("-q", "-v", "/etc/passwd:/usr/lib", "python", "-e", "/bin/true")
    assert p.returncode == 125 and b"/usr/lib" in p.stderr and b"directory" in p.stderr
    p = box.msx("-q", "-v", "/tmp:/etc/passwd", "python", "-e", "/bin/true")
    assert p.returncode == 125 and b"/etc/passwd" in p.stderr
    box.assert_nothing_left()


def test_relative_paths_and_path_alone(box, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/f").write_text("relative")
    p = box.msx("-q", "-v", "./sub:/s", "-v", f"{tmp_path}/sub", "python", "-e", "/bin/cat", "--", "/s/f",
                f"{tmp_path}/sub/f", cwd=tmp_path, check=0)
    assert p.stdout == b"relativerelative"


def test_in_a_reduced_jail(box, tmp_path):
    """Without namespaces: the server itself keeps to the directory and to read-only."""
    for d in "rw", "ro":
        (tmp_path / d).mkdir()
    (tmp_path / "ro/f").write_text("fixed")
    os.symlink("..", tmp_path / "rw/up")
    script = "cat /ro/f; (echo > /ro/f) 2>&1; echo made > /rw/new; chown 5 /rw/new 2>&1; cat /rw/up/ro/f 2>&1; ls /rw/up/rw"
    p = box.msx("-q", "--jail", "reduced", "-v", f"{tmp_path}/rw:/rw", "-v", f"{tmp_path}/ro:/ro:ro",
                "python", "-e", "/bin/sh", "--", "-c", script, check=0)
    assert p.stdout.startswith(b"fixed") and b"Read-only file system" in p.stdout and b"not permitted" in p.stdout
    # ".." of the guest is the guest's own root, with the volume in it.
    assert p.stdout.endswith(b"fixednew\nup\n") and (tmp_path / "rw/new").read_text() == "made\n"
