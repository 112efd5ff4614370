# SPDX-License-Identifier: Apache-2.0
"""Images to and from archives of other tools, and the store's housekeeping.  No VM."""
import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile

import pytest

from box import wait_for
from podman import Podman
from registries import OCI
from test_image import DIR, HARD, names, tar
from test_pull import PullStore


@pytest.fixture
def store():
    home = tempfile.mkdtemp(prefix="msb-archive-")
    s = PullStore(home)
    s.run("import", "-q", "--name", "one:1", "--tar", "-", "--config", "cmd=/bin/sh", "--config", "env=A=b",
          stdin=gzip.compress(tar(("d", DIR), ("d/name", b"one\n"), ("hard", HARD, {"linkname": "d/name"}))))
    yield s
    shutil.rmtree(home)


@pytest.fixture
def other():
    home = tempfile.mkdtemp(prefix="msb-archive-")
    yield PullStore(home)
    shutil.rmtree(home)


@pytest.fixture
def podman():
    p = Podman()
    yield p
    p.close()


def run(*cmd, **kwargs):
    return subprocess.run([str(c) for c in cmd], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_save_and_load(store, other, form, tmp_path):
    store.add_layers("two:2", [tar(("a", b"low")), tar(("a", b"high"), ("b", b"bb")), tar(("a", b"low"))])
    store.run("prepare", "-q", "two:2")
    out = tmp_path / "out.tar"
    store.msb("save", "--format", form, "-o", out, "one:1", "two:2")
    first = out.read_bytes()
    assert store.msb("save", "--format", form, "two:2", "one:1").stdout != b""
    assert store.msb("save", "--format", form, "one:1", "two:2").stdout == first  # by a pipe; same bytes
    assert os.listdir(tmp_path) == ["out.tar"]
    p = other.msb("load", "-i", out)
    assert [line.split()[0] for line in p.stdout.decode().splitlines()] == ["one:1", "two:2"]
    assert names(other.rootfs("two:2")) == names(store.rootfs("two:2")) and "/b" in names(other.rootfs("two:2"))
    assert other.inspect("one:1")["config"] == store.inspect("one:1")["config"]
    assert other.inspect("one:1")["rootfs"].split("/")[-1] == store.inspect("one:1")["rootfs"].split("/")[-1]
    # From a pipe, compressed, under another name, into a store that has it all.
    before = other.listing()
    one = store.msb("save", "--format", form, "one:1").stdout
    p = other.msb("load", "--name", "mine", "--json", stdin=gzip.compress(one))
    assert json.loads(p.stdout)["name"] == "mine:latest"
    assert {k for k in other.listing() if k.startswith(("blobs", "rootfs"))} == {
        k for k in before if k.startswith(("blobs", "rootfs"))}
    assert not list((other.images / "tmp").iterdir()) and not list((other.images / "partial").iterdir())


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_skopeo_and_we_read_each_other(store, other, kind, tmp_path):
    store.msb("save", "--format", kind.split("-")[0], "-o", tmp_path / "ours.tar", "one:1")
    run("skopeo", "copy", f"{kind}:{tmp_path}/ours.tar", f"{kind}:{tmp_path}/theirs.tar:again:3")
    other.msb("load", "-i", tmp_path / "theirs.tar", *(["--name", "again:3"] if kind == "oci-archive" else []))
    name = next(iter(other.images_by_name()))
    assert name.endswith("again:3")
    assert names(other.rootfs(name)) == names(store.rootfs("one:1"))
    assert other.inspect(name)["config"]["config"]["Env"] == ["A=b"]


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_podman_loads_what_we_save_and_saves_what_we_load(store, other, podman, form, tmp_path):
    store.msb("save", "--format", form, "-o", tmp_path / "a.tar", "one:1")
    out = podman("load", "-i", str(tmp_path / "a.tar")).stdout.decode()
    assert "one:1" in out
    podman("save", "--format", f"{form}-archive", "-o", str(tmp_path / "b.tar"), out.split()[-1])
    other.msb("load", "-i", tmp_path / "b.tar")
    assert names(other.rootfs(next(iter(other.images_by_name())))) == names(store.rootfs("one:1"))


def archive(*files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, data in files:
            info = tarfile.TarInfo(name)
            if isinstance(data, tuple):
                info.type, info.linkname = tarfile.SYMTYPE, data[0]
                data = b""
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def docker_save(*layers, **change):
    """As old dockers wrote it: a folder for each layer, links where one comes twice."""
    ids = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ids}}).encode()
    entry = {"Config": "c.json", "RepoTags": ["old:1", "old:2"], "Layers": [f"{i}/layer.tar" for i in range(len(layers))]}
    entry.update(change)
    files, seen = [("c.json", config)], {}
    for i, layer in enumerate(layers):
        files.append((f"{i}/layer.tar", (f"../{seen[layer]}/layer.tar",) if layer in seen else layer))
        seen.setdefault(layer, i)
    return archive(*files, ("manifest.json", json.dumps([entry]).encode()))


def test_old_archives_of_docker(other):
    low, high = tar(("a", b"low")), tar(("b", b"high"))
    other.msb("load", "-q", stdin=docker_save(low, high, low))
    assert set(other.images_by_name()) == {"old:1", "old:2"}
    assert {"/a", "/b"} <= set(names(other.rootfs("old:2")))


GOOD = tar(("a", b"aaa"))


@pytest.mark.parametrize("data, why", [
    (b"", "not a tar"),
    (b"x" * 3000, "not a tar"),
    (archive(("x", b"y")), "neither index.json nor manifest.json"),
    (docker_save(GOOD)[:4000], "damaged"),
    (gzip.compress(docker_save(GOOD), mtime=0)[:-30], "truncated"),
    (docker_save(GOOD, Layers=["0/layer.tar", "../../etc/passwd"]), "lacks the file"),
    (docker_save(GOOD, Layers=[]), "0 layers but 1"),
    (docker_save(GOOD, Config="/etc/passwd"), "lacks the file"),
    (docker_save(GOOD, RepoTags=["Not A Name"]), "not an image name"),
    (docker_save(GOOD, RepoTags=None), "--name"),
    (docker_save(b"no tar at all" * 100), "not a tar"),
    (archive(("manifest.json", b"[]")), "no image"),
    (archive(("manifest.json", b"{}")), "manifest.json"),
    (archive(("a", ("b",)), ("b", ("a",)), ("manifest.json", b'[{"Config":"a","Layers":["b"],"RepoTags":["x"]}]')),
     "lacks the file"),
    (archive(("oci-layout", b"{}"), ("index.json", b'{"manifests":[]}')), "no image"),
    (archive(("oci-layout", b"{}"), ("index.json", json.dumps({"manifests": [{
        "mediaType": OCI + "manifest.v1+json", "size": 3, "digest": "sha256:" + "0" * 64}]}).encode())), "lacks the blob"),
    (archive(("n" * 300, b"")), "too long"),
], ids=[str(i) for i in range(17)])
def test_hostile_archives(other, data, why):
    """Refused in one line, and nothing of them is left."""
    p = other.msb("load", "-q", stdin=data, check=1)
    lines = p.stderr.decode().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: load -: ") and why in lines[0], lines
    assert not [k for k in other.listing() if k.startswith(("blobs", "rootfs", "tmp", "partial"))]
    assert other.images_by_name() == {}


def test_a_blob_that_does_not_have_its_digest(store, other, tmp_path):
    """An archive's file is what its bytes are, whatever its name says; a damaged store is not saved."""
    data = store.msb("save", "one:1").stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        files = [(m.name, t.extractfile(m).read()) for m in t if m.isfile()]
    layer = max((f for f in files if f[0].startswith("blobs")), key=lambda f: len(f[1]) * f[1].startswith(b"\x1f\x8b"))
    swapped = [(n, gzip.compress(tar(("evil", b"eee"))) if n == layer[0] else d) for n, d in files]
    p = other.msb("load", "-q", stdin=archive(*swapped), check=1)
    assert b"is missing" in p.stderr
    blob = store.images / layer[0]
    blob.write_bytes(bytes(len(layer[1])))
    p = store.msb("save", "-o", tmp_path / "x.tar", "one:1", check=1)
    assert b"damaged" in p.stderr and not os.listdir(tmp_path)


def test_wrong_arguments_of_load_and_save(store, tmp_path):
    store.msb("save", "--format", "zip", "-o", tmp_path / "x", "one:1", check=1)
    store.msb("save", "-o", tmp_path / "x", check=2)
    store.msb("save", "-o", tmp_path / "no/x", "one:1", check=1)
    store.msb("save", "-o", tmp_path / "x", "absent", check=1)
    store.msb("load", "-i", tmp_path / "absent", check=1)
    assert not os.listdir(tmp_path)
    store.msb("save", "-o", "/dev/full", "one:1", check=1)
    assert store.msb("save", "-o", "/dev/null", "one:1").stderr == b"" and stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_history_df_and_prune(store):
    store.add_layers("two:2", [tar(("a", b"low")), tar(("b", b"high"))])
    store.run("prepare", "-q", "two:2")
    assert b"microsandbox" in store.msb("image", "history", "one:1").stdout
    assert json.loads(store.msb("image", "history", "--json", "two:2").stdout) == []
    df = json.loads(store.msb("df", "--json").stdout)
    assert df["root_images"] == 2 and df["blob_bytes"] and not df["unfinished_bytes"]
    assert b"root images" in store.msb("df").stdout
    # What nothing needs, and unfinished downloads; no image.
    (store.images / "partial" / ("0" * 64)).write_bytes(bytes(100000))
    (store.images / "blobs/sha256" / ("1" * 64)).write_bytes(bytes(100000))
    df = json.loads(store.msb("df", "--json").stdout)
    assert df["prune_frees"] >= 200000 and b"prune would free" in store.msb("df").stdout
    assert df["prune_all_frees"] == df["blob_bytes"] + df["root_image_bytes"] + df["unfinished_bytes"]
    p = json.loads(store.msb("prune", "--json").stdout)
    assert p["removed"] == [] and p["freed_bytes"] == df["prune_frees"]
    assert json.loads(store.msb("df", "--json").stdout)["prune_frees"] == 0
    # By age: the one that was not used for long.
    os.utime(store.inspect("one:1")["rootfs"], (1, os.stat(store.inspect("one:1")["rootfs"]).st_mtime))
    assert json.loads(store.msb("prune", "--json", "--older-than", "30d").stdout)["removed"] == ["one:1"]
    # By size: the least recently used first, until it fits.
    store.run("import", "-q", "--name", "three", "--tar", "-", stdin=tar(("t", b"ttt")))
    os.utime(store.inspect("two:2")["rootfs"], (10 ** 9, 1))
    total = sum(v for k, v in json.loads(store.msb("df", "--json").stdout).items() if k.endswith("bytes"))
    p = json.loads(store.msb("prune", "--json", "--max-size", str(total - 1)).stdout)
    assert p["removed"] == ["two:2"]
    assert store.msb("prune", "--all").stdout.decode().splitlines()[0] == "three:latest"
    assert store.images_by_name() == {}
    for bad in (["--older-than", "x"], ["--older-than", "3y"], ["--max-size", "-1"], ["--max-size", "1Q"]):
        store.msb("prune", *bad, check=2)


def test_all_names_of_an_image_go_with_its_digest(store):
    digest = store.images_by_name()["one:1"]
    out = store.msb("save", "one:1").stdout
    store.msb("load", "-q", "--name", "other", stdin=out)
    p = json.loads(store.msb("rmi", "--json", digest).stdout)
    assert store.images_by_name() == {} and p["removed"] == [digest] and p["freed_bytes"] > 0
    store.msb("load", "-q", stdin=out)
    # One that is there and one that is not: what is gone is said all the same.
    p = store.msb("image", "rm", "--json", "one", "absent", check=1)
    assert json.loads(p.stdout)["removed"] == [] and b"'one'" in p.stderr
    p = store.msb("image", "rm", "--json", "one:1", "absent", check=1)
    assert json.loads(p.stdout)["removed"] == ["one:1"] and b"absent" in p.stderr
