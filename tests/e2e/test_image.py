# SPDX-License-Identifier: Apache-2.0
"""Images on disk: what msb-image makes of archives, directories and layers.  No VM."""
import contextlib
import gzip
import hashlib
import io
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import stat
import subprocess
import tarfile
import tempfile
import threading

import pytest

from conftest import BUILD, STORE, TIMEOUT
from tree_manifest import manifest

MSB_IMAGE = str(BUILD / "lib/microsandbox/msb-image")
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="making devices and mounting needs root")
SBIN = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}


class Store:
    def __init__(self, home):
        self.home = pathlib.Path(home)
        self.images = self.home / "images"
        self.env = dict(os.environ, MICROSANDBOX_HOME=str(home), **SBIN)

    def run(self, *args, check=0, stdin=b"", **kwargs):
        env = dict(self.env, **kwargs.pop("env", {}))
        p = subprocess.run([MSB_IMAGE, *map(str, args)], input=stdin, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env=env, timeout=TIMEOUT, **kwargs)
        if check is not None:
            assert p.returncode == check, (args, p.returncode, p.stdout, p.stderr)
        return p

    def start(self, *args):
        return subprocess.Popen([MSB_IMAGE, *map(str, args)], stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self.env)

    def tar(self, data, name="t"):
        self.run("import", "-q", "--name", name, "--tar", "-", stdin=data)
        return self.rootfs(name)

    def refused(self, data, why):
        """The archive is refused in one line that says why, and leaves nothing behind."""
        before = self.listing()
        p = self.run("import", "-q", "--name", "bad", "--tar", "-", stdin=data, check=1)
        lines = p.stderr.decode().splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: import -: "), p.stderr
        assert why in lines[0], lines[0]
        assert self.listing() == before

    def listing(self):
        return {str(p.relative_to(self.images)): p.stat().st_size for p in self.images.rglob("*")
                if p.is_file()}

    def inspect(self, name):
        return json.loads(self.run("inspect", name).stdout)

    def rootfs(self, name):
        path = self.inspect(name)["rootfs"]
        fsck(path)
        return path

    def add_layers(self, name, layers, diff_ids=None, gz=True):
        """Puts an image of these tars into the layout, as another tool would."""
        def blob(data):
            digest = hashlib.sha256(data).hexdigest()
            (self.images / "blobs/sha256" / digest).write_bytes(data)
            return {"digest": "sha256:" + digest, "size": len(data)}

        media = "application/vnd.oci.image."
        packed = [gzip.compress(t, 1, mtime=0) if gz else t for t in layers]
        if diff_ids is None:
            diff_ids = ["sha256:" + hashlib.sha256(t).hexdigest() for t in layers]
        config = {"os": "linux", "architecture": "amd64",
                  "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        m = {"schemaVersion": 2, "mediaType": media + "manifest.v1+json",
             "config": dict(blob(json.dumps(config).encode()), mediaType=media + "config.v1+json"),
             "layers": [dict(blob(p), mediaType=media + "layer.v1.tar" + ("+gzip" if gz else ""))
                        for p in packed]}
        index = json.loads((self.images / "index.json").read_text())
        entry = dict(blob(json.dumps(m).encode()), mediaType=media + "manifest.v1+json",
                     annotations={"org.opencontainers.image.ref.name": name})
        index["manifests"].append(entry)
        (self.images / "index.json").write_text(json.dumps(index))


@pytest.fixture
def store():
    home = tempfile.mkdtemp(prefix="msb-image-")
    s = Store(home)
    s.run("import", "-q", "--name", "first", "--tar", "-", stdin=tar())
    yield s
    shutil.rmtree(home)


def fsck(path):
    p = subprocess.run(["e2fsck", "-fn", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       env=dict(os.environ, **SBIN))
    assert p.returncode == 0, p.stdout.decode()


@contextlib.contextmanager
def mounted(path):
    where = tempfile.mkdtemp(prefix="msb-mnt-")
    subprocess.run(["mount", "-o", "loop,ro", path, where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)
        os.rmdir(where)


def names(path):
    """All names of an image, read by debugfs: {path: type character}."""
    found, todo = {}, [""]
    while todo:
        d = todo.pop()
        out = subprocess.run(["debugfs", "-R", f'ls -p "{d or "/"}"', path], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, env=dict(os.environ, **SBIN), check=True).stdout
        for line in out.decode("utf-8", "surrogateescape").splitlines():
            f = line.split("/")
            if len(f) < 6 or f[5] in ("", ".", ".."):
                continue
            full = f"{d}/{f[5]}"
            found[full] = {"04": "d", "12": "l", "10": "f"}.get(f[2][:2], "s")
            if found[full] == "d":
                todo.append(full)
    return found


def tar(*entries, fmt=tarfile.PAX_FORMAT):
    """Entries: (name, type or bytes, {attributes})."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as t:
        for e in entries:
            info = tarfile.TarInfo(e[0])
            data = e[1] if len(e) > 1 and isinstance(e[1], bytes) and len(e[1]) != 1 else b""
            info.type = e[1] if len(e) > 1 and not data and e[1] else tarfile.REGTYPE
            info.size = len(data)
            for k, v in (e[2] if len(e) > 2 else {}).items():
                setattr(info, k, v)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


DIR, LINK, HARD = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def sha(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def make_tree(top):
    """A directory with every kind of entry that there is."""
    top = pathlib.Path(top)
    rnd = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(20000))
    (top / "d/deep/er").mkdir(parents=True)
    (top / "empty").write_bytes(b"")
    (top / "small").write_bytes(b"hello\n")
    (top / "block").write_bytes(rnd[:4096])
    (top / "big").write_bytes(rnd)
    (top / "zeros").write_bytes(bytes(300000))
    (top / "gaps").write_bytes(rnd[:5000] + bytes(200000) + rnd[:3])
    with open(top / "sparse", "wb") as f:
        f.write(b"start")
        f.seek(5 << 30)
        f.write(b"end")
    for i in range(700):
        (top / f"d/deep/{'n' * 40}{i}").write_bytes(b"%d" % i)
    (top / ("x" * 255)).write_bytes(b"long name")
    (top / "ümläut\n\t'quote").write_bytes(b"odd name")
    os.symlink("small", top / "link")
    os.symlink("t" * 59, top / "link59")
    os.symlink("t" * 60, top / "link60")
    os.symlink("t/" * 2000, top / "link4000")
    os.link(top / "small", top / "d/hard1")
    os.link(top / "small", top / "d/deep/hard2")
    os.link(top / "link", top / "d/hard-to-link", follow_symlinks=False)
    os.mkfifo(top / "fifo")
    os.chmod(top / "small", 0o4751)
    os.chmod(top / "d", 0o3777)
    os.mknod(top / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(top / "disk", 0o660 | stat.S_IFBLK, os.makedev(300, 70000))
    os.chown(top / "big", 100000, 4000000000)
    os.lchown(top / "link", 70000, 3)
    os.setxattr(top / "big", "user.small", b"v")
    os.setxattr(top / "big", "user.large", b"v" * 3000)
    os.setxattr(top / "d", "trusted.dir", b"\0\1\2")
    os.setxattr(top / "small", "security.capability",
                bytes.fromhex("0100000200040000000000000000000000000000"))
    # user::rwx user:1000:r-- group::r-- mask::r-- other::---, as the kernel has it
    os.setxattr(top / "block", "system.posix_acl_access",
                bytes.fromhex("02000000" "01000700ffffffff" "02000400e8030000" "04000400ffffffff"
                              "10000400ffffffff" "20000000ffffffff"))
    os.utime(top / "empty", ns=(0, 1234567890123456789))
    os.utime(top / "block", ns=(0, 5000000000 * 10**9 + 7))
    os.utime(top / "zeros", ns=(0, -5 * 10**9))
    os.utime(top / "d", ns=(0, 10**18 + 1))
    os.utime(top, ns=(0, 10**18))


@ROOT_ONLY
def test_every_kind_of_entry_arrives(store, tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    make_tree(src)
    archive = tmp_path / "t.tar"
    subprocess.run(["tar", "-C", str(src), "--format=posix", "--xattrs", "--xattrs-include=*", "--sparse",
                    "-cf", str(archive), "."], check=True)
    want = manifest(src)
    store.run("import", "-q", "--name", "tar", "--tar", archive)
    store.run("import", "-q", "--name", "dir", "--dir", src)
    for name in "tar", "dir":
        with mounted(store.rootfs(name)) as where:
            assert manifest(where) == want, name
    assert os.stat(store.rootfs("tar")).st_blocks * 512 < 16 << 20  # 5 GiB of holes


def test_same_input_same_bytes(store, tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    (src / "a").write_bytes(b"x" * 10000)
    for i in range(1000):
        (src / f"file{i}").write_bytes(b"")
    got = set()
    for _ in range(2):
        store.run("import", "-q", "--name", "d", "--dir", src)
        got.add((sha(store.rootfs("d")), store.inspect("d")["digest"]))
        store.run("rm", "d")
        shutil.move(src, tmp_path / "moved")
        shutil.copytree(tmp_path / "moved", src, symlinks=True)
        shutil.rmtree(tmp_path / "moved")
    assert len(got) == 1
    data = tar(("a", b"hello"), ("b/c", b"there"))
    one = sha(store.tar(data, "plain"))
    assert sha(store.tar(gzip.compress(data), "gz")) == one


def test_a_socket_in_a_directory_is_left_out_and_told(store, tmp_path):
    s = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(tmp_path)
    s.bind("sock")
    os.chdir(here)
    p = store.run("import", "-q", "--name", "s", "--dir", tmp_path)
    s.close()
    assert b"1 sockets were left out" in p.stderr
    assert names(store.rootfs("s")) == {}


@pytest.mark.parametrize("count", [0, 1, 100, 600, 40000])
def test_directories_of_any_size(store, count):
    path = store.tar(tar(*((f"dir/{i}-{'n' * (i % 200)}",) for i in range(count))))
    found = names(path)
    assert len(found) == (count + 1 if count else 0)
    for i in range(0, count, max(1, count // 5)):
        name = f"/dir/{i}-{'n' * (i % 200)}"
        p = subprocess.run(["debugfs", "-R", f"stat {name}", path], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, env=dict(os.environ, **SBIN))
        assert b"Type: regular" in p.stdout


@ROOT_ONLY
def test_the_kernel_finds_names_by_their_hash(store):
    """The index of a large directory must agree with the kernel's hash, odd bytes included."""
    want = [f"f{i}" for i in range(90000)] + [b"\xff\xfe\x80%d".decode("latin1") % i for i in range(2000)]
    want += ["é" * 100 + str(i) for i in range(1000)]
    with mounted(store.tar(tar(*(("d/" + n,) for n in want)))) as where:
        assert len(os.listdir(where + "/d")) == len(want)
        for n in want:
            os.lstat(f"{where}/d/{n}")
        with pytest.raises(FileNotFoundError):
            os.lstat(f"{where}/d/absent")


def test_sizes_and_depths(store):
    deep = "/".join(["d"] * 900)
    files = [(deep + "/file", b"deep"), ("n" * 255, b"xx"), ("l", LINK, {"linkname": "y" * 4000})]
    files += [(f"h{i}", HARD, {"linkname": "n" * 255}) for i in range(2000)]
    found = names(store.tar(tar(*files)))
    assert "/" + deep + "/file" in found
    assert "/h1999" in found


def test_a_file_of_more_than_4_gib(store):
    """As PAX sparse 1.0 has it; what is not in the archive costs nothing."""
    size = (6 << 30) + 5
    body = f"2\n0\n3\n{size - 4}\n4\n".encode().ljust(512, b"\0") + b"abc" + b"wxyz"
    info = {"pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "big",
                            "GNU.sparse.realsize": str(size)}}
    path = store.tar(tar(("GNUSparseFile.0/big", body, info)))
    out = subprocess.run(["debugfs", "-R", "stat /big", path], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, env=dict(os.environ, **SBIN)).stdout
    assert f"Size: {size}".encode() in out
    assert os.stat(path).st_blocks * 512 < 1 << 20
    assert b"Blockcount: 16" in out


def test_a_bomb_of_zeros_costs_no_disk(store):
    data = gzip.compress(tar(("zeros", bytes(400 << 20))), 9)
    assert len(data) < 1 << 20
    path = store.tar(data)
    assert os.stat(path).st_blocks * 512 < 1 << 20


def test_extended_attributes_have_a_limit(store):
    def one(size, name="a"):
        return ("f", b"data", {"pax_headers": {"SCHILY.xattr.user." + name: "v" * size}})

    store.tar(tar(one(3900)))
    store.refused(tar(one(5000)), "an inode has room for about 4000 bytes")
    store.refused(tar(one(70000)), "64 KiB of extended attributes")
    p = store.run("import", "-q", "--name", "x", "--tar", "-",
                  stdin=tar(("f", b"xx", {"pax_headers": {"SCHILY.xattr.com.apple.x": "v"}})))
    assert b"note: 1 extended attributes" in p.stderr


HOSTILE = [
    ("..", [("../evil", b"xx")], "'..' in its name"),
    ("..-in-the-middle", [("a/../../evil", b"xx")], "'..' in its name"),
    ("hard-link-outside", [("h", HARD, {"linkname": "../../etc/passwd"})], "'..' in its name"),
    ("hard-link-to-nothing", [("h", HARD, {"linkname": "/etc/passwd"})], "not there"),
    ("hard-link-to-a-directory", [("d", DIR), ("h", HARD, {"linkname": "d"})], "to a directory"),
    ("file-as-parent", [("f", b"xx"), ("f/x", b"xx")], "not a directory"),
    ("file-as-root", [(".", b"xx")], "must be a directory"),
    ("link-loop", [("a", LINK, {"linkname": "b"}), ("b", LINK, {"linkname": "a"}), ("a/x", b"xx")],
     "too many symbolic links"),
    ("name-too-long", [("n" * 256, b"xx")], "more than 255 bytes"),
    ("too-deep", [("d/" * 1100 + "x", b"xx")], "1024 directories deep"),
    ("path-too-long", [("/".join(["p" * 200] * 30), b"xx")], "more than 4095 bytes"),
    ("link-too-long", [("l", LINK, {"linkname": "t" * 5000})], "too long target"),
    ("empty-whiteout", [(".wh.", b"xx")], "names nothing"),
    ("owner", [("f", b"xx", {"uid": 1 << 32})], "no user or group id"),
    ("device", [("c", tarfile.CHRTYPE, {"devmajor": 5000, "devminor": 1})], "device number"),
]


@pytest.mark.parametrize("entries,why", [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_hostile_entries_are_refused(store, entries, why):
    store.refused(tar(*entries), why)


def test_65000_links_and_not_one_more(store):
    links = [("f", b"data")] + [(f"h{i}", HARD, {"linkname": "f"}) for i in range(64999)]
    store.tar(tar(*links))
    store.refused(tar(*links, ("one-more", HARD, {"linkname": "f"})), "more than 65000 hard links")


def test_names_that_would_lead_outside_stay_inside(store):
    found = names(store.tar(tar(
        ("/abs/file", b"xx"), ("etc", LINK, {"linkname": "/../../../../tmp"}), ("etc/passwd", b"xx"),
        ("up", LINK, {"linkname": "../../up2"}), ("up/file", b"xx"))))
    assert found == {"/abs": "d", "/abs/file": "f", "/etc": "l", "/tmp": "d", "/tmp/passwd": "f",
                     "/up": "l", "/up2": "d", "/up2/file": "f"}


def test_a_nul_in_a_name(store):
    record = b"path=a\0/../../b"
    body = b"%d %s\n" % (len(record) + 4, record)
    head = tarfile.TarInfo("h")
    head.type, head.size = tarfile.XHDTYPE, len(body)
    data = head.tobuf() + body.ljust(512, b"\0") + tar(("x", b"xx"), fmt=tarfile.USTAR_FORMAT)
    p = store.run("import", "-q", "--name", "nul", "--tar", "-", stdin=data, check=None)
    if p.returncode == 0:
        assert all(".." not in n for n in names(store.rootfs("nul")))


@pytest.mark.parametrize("data,why", [
    (b"", "the archive is empty"),
    (b"not a tar at all" * 100, "not a tar archive"),
    (b"\x1f\x8b" + b"x" * 1000, "damaged"),
    (b"\x28\xb5\x2f\xfd" + b"x" * 1000, "damaged"),
    (b"BZh91AY&SY" + b"x" * 1000, "not a tar archive"),
    (b"PK\x03\x04" + b"x" * 1000, "not a tar archive"),
    (tar(("f", b"x" * 100000))[:50000], "damaged"),
    (gzip.compress(tar(("f", os.urandom(100000))))[:50000], "damaged"),
    (gzip.compress(gzip.compress(tar(("f", b"xx")))), "not a tar archive"),
], ids=["empty", "text", "gzip", "zstd", "bzip2", "zip", "cut", "cut-gzip", "gzip-twice"])
def test_what_is_no_tar_is_refused(store, data, why):
    store.refused(data, why)


def test_layers(store):
    """Whiteouts, opaque directories and links across layers; 200 of them; one layer twice."""
    base = tar(("etc/a", b"aa"), ("etc/b", b"bb"), ("opaque/low", b"xx"), ("gone/x", b"xx"), ("f", b"xx"),
               ("bin", LINK, {"linkname": "usr/bin"}))
    second = tar(("etc/.wh.a", ), ("opaque/.wh..wh..opq", ), ("opaque/high", b"yy"), (".wh.gone", ),
                 ("hard", HARD, {"linkname": "etc/b"}), ("bin/sh", b"sh"), ("f", DIR), ("f/x", b"xx"))
    third = tar(("etc/b", b"new"))
    many = [tar((f"many/{i}", b"xx"), (f"many/.wh.{i - 1}", )) for i in range(200)]
    want = {"/bin": "l", "/etc": "d", "/etc/b": "f", "/f": "d", "/f/x": "f", "/hard": "f",
            "/opaque": "d", "/opaque/high": "f", "/usr": "d", "/usr/bin": "d", "/usr/bin/sh": "f"}
    store.add_layers("l:3", [base, second, third])
    p = store.run("inspect", "l:3")
    assert b"msb image prepare" in p.stdout  # no root image yet: it says what to do
    store.run("prepare", "-q", "l:3")
    path = store.rootfs("l:3")
    assert names(path) == want
    for name, data in ("hard", b"bb"), ("etc/b", b"new"):
        out = subprocess.run(["debugfs", "-R", f"cat {name}", path], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, env=dict(os.environ, **SBIN)).stdout
        assert out == data
    store.add_layers("l:twice", [base, base, tar()])
    store.run("prepare", "-q", "l:twice")
    assert "/etc/a" in names(store.rootfs("l:twice"))
    store.add_layers("l:200", many, gz=False)
    store.run("prepare", "-q", "l:200")
    assert names(store.rootfs("l:200")) == {"/many": "d", "/many/199": "f"}


def test_a_layer_that_is_not_what_the_configuration_says(store):
    store.add_layers("wrong:1", [tar(("a", b"xx"))], diff_ids=["sha256:" + "0" * 64])
    before = store.listing()
    p = store.run("prepare", "-q", "wrong:1", check=1)
    assert b"layer 1 is not the one" in p.stderr
    assert store.listing() == before
    store.add_layers("cut:1", [tar(("a", b"xx"))])
    manifest_digest = store.inspect("cut:1")["digest"].split(":")[1]
    m = json.loads((store.images / "blobs/sha256" / manifest_digest).read_text())
    blob = store.images / "blobs/sha256" / m["layers"][0]["digest"].split(":")[1]
    good = blob.read_bytes()
    # A byte that changes nothing of what the layer holds (gzip's size, which nobody needs): that is what counts.
    blob.write_bytes(good[:-1] + b"x")
    store.run("prepare", "-q", "cut:1")
    p = store.run("save", "-o", os.devnull, "cut:1", check=1)
    assert b"damaged" in p.stderr
    blob.write_bytes(good[:len(good) // 2] + bytes([good[len(good) // 2] ^ 1]) + good[len(good) // 2 + 1:])
    p = store.run("prepare", "-q", "--force", "cut:1", check=1)
    assert b"is damaged" in p.stderr
    # Nor is anything put on top of it.
    before = store.listing()
    p = store.run("import", "-q", "--name", "over", "--base", "cut:1", "--tar", "-", stdin=tar(("b", b"yy")), check=1)
    assert b"is damaged" in p.stderr and store.listing() == before


def test_diff_ids_are_of_what_the_layers_hold(store):
    """Of a plain layer that is the digest of its blob, padding and all, which is not hashed twice."""
    low, high = tar(("a", b"low")) + bytes(5000), tar(("b", b"high" * 100000))
    for pack in (lambda b: b, gzip.compress):
        store.run("import", "-q", "--name", "low", "--tar", "-", stdin=pack(low))
        store.run("import", "-q", "--name", "high", "--base", "low", "--tar", "-", stdin=pack(high))
        for name, layers in (("low", [low]), ("high", [low, high])):
            config = store.inspect(name)["config"]
            assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(b).hexdigest() for b in layers]
            store.run("prepare", "-q", "--force", name)


def test_a_damaged_root_image_is_noticed_and_written_again(store):
    path = store.tar(tar(("f", b"x" * 100000)))
    good = sha(path)
    os.truncate(path, os.path.getsize(path) - 4096)
    assert "truncated" in store.inspect("t")["rootfs_state"]
    store.run("prepare", "-q", "t")
    assert sha(path) == good
    os.unlink(path)
    store.run("prepare", "-q", "t")
    assert sha(path) == good


def test_imports_side_by_side(store, tmp_path):
    archive = tmp_path / "t.tar"
    archive.write_bytes(tar(*((f"d/{i}", os.urandom(2000)) for i in range(3000))))
    running = [store.start("import", "-q", "--name", f"p:{i % 2}", "--tar", archive) for i in range(6)]
    for p in running:
        assert p.wait(TIMEOUT) == 0, p.stderr.read()
        p.stderr.close()
    store.rootfs("p:0")
    assert store.inspect("p:0")["digest"] == store.inspect("p:1")["digest"]
    assert os.listdir(store.images / "tmp") == []


def test_killed_at_any_point_leaves_a_store_that_works(store, tmp_path):
    """Killed while it runs, after more and more of its work, children included."""
    archive = tmp_path / "t.tar"
    archive.write_bytes(tar(*((f"d/{i}", os.urandom(20000)) for i in range(2000))))
    for step in range(12):
        p = store.start("import", "--name", "k", "--tar", archive)
        # The n-th line of progress, then a moment that differs from run to run.
        for _ in range(step % 3):
            p.stderr.readline()
        timer = threading.Timer(0.01 * step, p.send_signal, [signal.SIGKILL])
        timer.start()
        p.wait(TIMEOUT)
        timer.cancel()
        p.stderr.close()
        for root_image in (store.images / "rootfs").iterdir():
            fsck(root_image)
        assert json.loads((store.images / "index.json").read_text())["schemaVersion"] == 2
        assert b"first:latest" in store.run("ls").stdout
    store.run("import", "-q", "--name", "k", "--tar", archive)
    store.rootfs("k")
    assert os.listdir(store.images / "tmp") == []


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_leaves_nothing(store, sig):
    """Interrupted in the middle of an archive that does not go on."""
    data = tar(("f", os.urandom(1 << 20)))
    before = store.listing()
    p = subprocess.Popen([MSB_IMAGE, "import", "--name", "i", "--tar", "-"], stdin=subprocess.PIPE,
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=store.env)
    assert b"reading the archive" in p.stderr.readline()
    p.stdin.write(data[:500000])
    p.stdin.flush()
    p.send_signal(sig)
    assert p.wait(TIMEOUT) == -sig
    p.stdin.close()
    p.stderr.close()
    assert store.listing() == before


@ROOT_ONLY
def test_a_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", disk], check=True)
    try:
        s = Store(disk)
        s.run("import", "-q", "--name", "ok", "--tar", "-", stdin=tar(("f", b"small")))
        before = s.listing()
        for megabytes in 16, 40:  # the copy of the layer fits and the image does not; nothing fits
            p = s.run("import", "-q", "--name", "big", "--tar", "-", check=1,
                      stdin=tar(("f", os.urandom(megabytes << 20))))
            assert b"No space left on device" in p.stderr or b"no space left" in p.stderr, p.stderr
            assert p.stderr.count(b"\n") == 1
            assert s.listing() == before
        s.rootfs("ok")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_file_size_limit(store):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))

    before = store.listing()
    p = store.run("import", "-q", "--name", "big", "--tar", "-", check=1,
                  stdin=tar(("f", os.urandom(20 << 20))), preexec_fn=limit)
    assert b"File too large" in p.stderr, p.stderr
    assert store.listing() == before


def test_configuration_and_names(store):
    store.run("import", "-q", "--name", "c:v1", "--tar", "-", "--config", "cmd=/bin/sh", "--config", "cmd=-i",
              "--config", "env=A=1=2", "--config", "workdir=/w", "--config", "user=1:2", stdin=tar())
    c = store.inspect("c:v1")["config"]["config"]
    assert c == {"Cmd": ["/bin/sh", "-i"], "Env": ["A=1=2"], "WorkingDir": "/w", "User": "1:2"}
    for bad in ("cmd", "env=x", "nonsense=1"):
        assert store.run("import", "--name", "x", "--tar", "-", "--config", bad, check=2).stderr
    for name in ("Bad", "a b", "a@sha256:" + "0" * 64, "../x"):
        p = store.run("import", "--name", name, "--tar", "-", stdin=tar(), check=1)
        assert p.stderr.count(b"\n") == 1
    listed = {i["name"] for i in json.loads(store.run("ls", "--json").stdout)}
    assert listed == {"first:latest", "c:v1"}
    store.run("rm", "c:v1")
    assert len(list((store.images / "blobs/sha256").iterdir())) == 3  # only `first` is left
    assert b"there is no image" in store.run("rm", "c:v1", check=1).stderr


def test_a_copy_of_the_store_works(store, tmp_path):
    store.tar(tar(("f", b"xx")), "c")
    other = Store(tmp_path)
    shutil.copytree(store.images, other.images)
    assert other.inspect("c")["rootfs_state"] == "ok"
    assert str(store.home) not in "".join(p.read_text("latin1") for p in other.images.rglob("*")
                                          if p.is_file())


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
def test_skopeo_reads_the_store(store):
    store.tar(gzip.compress(tar(("f", b"xx"))), "s:1")
    p = subprocess.run(["skopeo", "inspect", f"oci:{store.images}:s:1"], stdout=subprocess.PIPE, check=True)
    assert json.loads(p.stdout)["Digest"] == store.inspect("s:1")["digest"]


@ROOT_ONLY
@pytest.mark.skipif(not shutil.which("umoci"), reason="umoci is not installed")
def test_umoci_unpacks_the_same_tree(store, tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    make_tree(src)
    os.unlink(src / "sparse")
    store.run("import", "-q", "--name", "u", "--dir", src)
    # umoci takes the part after the colon for a tag: give it one.
    index = json.loads((store.images / "index.json").read_text())
    for m in index["manifests"]:
        if m["annotations"]["org.opencontainers.image.ref.name"] == "u:latest":
            m["annotations"]["org.opencontainers.image.ref.name"] = "u"
    (store.images / "index.json").write_text(json.dumps(index))
    subprocess.run(["umoci", "unpack", "--image", f"{store.images}:u", tmp_path / "b"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert manifest(tmp_path / "b/rootfs", with_root=False) == manifest(src, with_root=False)


def test_what_other_tools_wrote_into_the_index_stays(store):
    store.add_layers("theirs:1", [tar(("a", b"xx"))])
    index = json.loads((store.images / "index.json").read_text())
    index["manifests"][-1]["annotations"]["org.example.mine"] = "kept"
    index["manifests"][-1]["artifactType"] = "application/x"
    (store.images / "index.json").write_text(json.dumps(index))
    store.tar(tar(), "ours")
    got = json.loads((store.images / "index.json").read_text())["manifests"]
    assert index["manifests"][-1] in got


def test_a_recipe_with_a_mistake(store, tmp_path):
    r = tmp_path / "x.recipe"
    r.write_text("name x\npackage bash\nlink /a\n")
    p = store.run("build", r, check=1)
    assert p.stderr.decode().splitlines() == [
        f"error: recipe {r}: line 3: too few or too many words after: 'link'"]
    # There already: nothing is built, and that is said.
    r.write_text("name x\npackage bash\n")
    store.tar(tar(("a", b"xx")), "microsandbox/x")
    digest = store.inspect("microsandbox/x")["digest"]
    p = json.loads(store.run("build", "-q", "--json", r).stdout)
    assert p["stored_bytes"] > 0 and p == {"name": "microsandbox/x:latest", "digest": digest, "built": False,
                                           "stored_bytes": p["stored_bytes"]}
    assert b"there is no recipe 'nothing'" in store.run("build", "nothing", check=1).stderr


def test_no_mirror(store, tmp_path):
    """A mirror that does not answer is a one-line error, and nothing is left."""
    (tmp_path / "sources.list").write_text("deb http://127.0.0.1:9/debian nothing main\n")
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\nDir::Etc::sourceparts "-";\n'
        'Acquire::Retries "0";\nAcquire::http::Proxy "false";\n')
    before = store.listing()
    p = store.run("build", "-q", "python", check=1, env={"APT_CONFIG": str(tmp_path / "apt.conf")})
    lines = p.stderr.decode().splitlines()
    assert len(lines) == 1 and "127.0.0.1" in lines[0] and "check the network" in lines[0], lines
    assert {k: v for k, v in store.listing().items() if not k.endswith(".lock")} == {
        k: v for k, v in before.items() if not k.endswith(".lock")}


def recipe_image(name):
    s = Store(STORE.parent)
    if s.run("inspect", name, check=None).returncode:
        pytest.skip(f"the image {name} has not been built here")
    return s, s.inspect(name)


def test_the_python_image():
    s, image = recipe_image("python")
    assert image["name"] == "microsandbox/python:latest"
    assert s.inspect("microsandbox/python")["digest"] == image["digest"]
    assert os.stat(image["rootfs"]).st_blocks * 512 <= 120e6
    fsck(image["rootfs"])
    config = image["config"]["config"]
    assert config["Cmd"] == ["python3"] and "libc6=" in config["Labels"]["dev.microsandbox.packages"]
    found = names(image["rootfs"])
    for path in ("/usr/bin/python", "/usr/bin/pip", "/bin", "/lib64", "/etc/passwd", "/etc/ld.so.cache",
                 "/etc/ssl/certs/ca-certificates.crt", "/usr/share/doc/bash/copyright", "/usr/bin/awk",
                 "/usr/lib/python3.11/json/__pycache__",
                 "/usr/share/python-wheels"):
        assert path in found, path
    gone = [n for n in found if n.endswith("EXTERNALLY-MANAGED") or n.startswith("/usr/share/man/")]
    assert not gone
    # Every module of the standard library has its byte code.
    modules = [n for n in found if n.startswith("/usr/lib/python3.11/encodings/") and n.endswith(".py")]
    for m in modules:
        folder, base = m.rsplit("/", 1)
        assert f"{folder}/__pycache__/{base[:-3]}.cpython-311.pyc" in found


def test_the_node_image():
    s, image = recipe_image("node")
    assert image["config"]["config"]["Cmd"] == ["node"]
    found = names(image["rootfs"])
    assert "/usr/bin/node" in found and "/usr/bin/npm" in found
    fsck(image["rootfs"])
