# SPDX-License-Identifier: Apache-2.0
"""Images of registries: a real one, plain and with TLS and passwords, and one behind a bad network.  No VM."""
import base64
import contextlib
import gzip
import hashlib
import json
import os
import pty
import random
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import threading

import pytest

from box import MSB, TIMEOUT, certificate, wait_for
from registries import OCI, PASSWORD, Proxy, Registry
from test_image import DIR, HARD, LINK, SBIN, Store, fsck, mounted, names, tar
from tree_manifest import manifest

needs_registry = pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is not installed")
pytestmark = needs_registry
NOISE = random.Random(1).randbytes(3 << 20)


class PullStore(Store):
    """A store, and msb as a user has it; neither a password nor a terminal of the machine's user is seen."""

    def __init__(self, home):
        super().__init__(home)
        self.env.update(HOME=str(home), XDG_RUNTIME_DIR=str(home), REGISTRY_AUTH_FILE="", no_proxy="127.0.0.1,localhost")
        for k in ("DOCKER_CONFIG", "XDG_CONFIG_HOME", "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy"):
            self.env.pop(k, None)

    def msb(self, *args, check=0, stdin=b"", **env):
        p = subprocess.run([MSB, *map(str, args)], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=dict(self.env, **env), timeout=TIMEOUT, start_new_session=True)
        if check is not None:
            assert p.returncode == check, (args, p.returncode, p.stdout, p.stderr)
        return p

    def pull(self, name, *args, **kwargs):
        return self.msb("pull", name, *args, **kwargs)

    def pull_refused(self, name, why, *args, keep=False, **env):
        """It fails in one line that says why, and no image, and nothing of it, is left."""
        before = self.listing() if self.images.exists() else {}
        p = self.pull(name, "-q", *args, check=1, **env)
        lines = p.stderr.decode().splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), p.stderr
        assert why in lines[0], lines[0]
        after = {k: v for k, v in self.listing().items() if not (keep and k.startswith("partial/"))}
        for lock in ("lock", "pull.lock", "index.lock", "oci-layout", "index.json"):
            after.pop(lock, None), before.pop(lock, None)
        assert after == before
        return p

    def images_by_name(self):
        return {i["name"]: i["digest"] for i in json.loads(self.msb("images", "--json").stdout)}


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    r = Registry(tmp_path_factory.mktemp("registry") / "plain")
    r.put_image("a/b", "1", [tar(("etc", DIR), ("etc/name", b"one\n"), ("noise", NOISE)),
                             tar(("etc/name", b"two\n"), ("bin", LINK, {"linkname": "usr/bin"})),
                             tar(("etc/more", b"more\n"))],
                config={"Cmd": ["/bin/sh"], "Env": ["A=b"], "WorkingDir": "/etc"})
    yield r
    r.stop()


@pytest.fixture
def proxy(registry):
    p = Proxy(registry.port)
    yield p
    p.stop()


@pytest.fixture
def store():
    home = tempfile.mkdtemp(prefix="msb-pull-")
    yield PullStore(home)
    shutil.rmtree(home)


def blobs_of(registry, repo, tag):
    doc = json.loads(registry.request("GET", f"/v2/{repo}/manifests/{tag}",
                                      headers={"Accept": OCI + "manifest.v1+json"})[2])
    return [d["digest"] for d in doc["layers"]]


def test_pull(store, registry, proxy):
    name = f"{proxy.host}/a/b:1"
    p = store.pull(name)
    digest = store.images_by_name()[name]
    assert p.stdout.decode() == f"{name} {digest}\n"
    # One line for each layer, and nothing that moves.
    assert len(re.findall(rb"(?m)^[0-9a-f]{12} \d+\.\d MB$", p.stderr)) == 3, p.stderr
    assert b"\r" not in p.stderr and b"\033" not in p.stderr
    got = names(store.rootfs(name))
    assert {k: got[k] for k in ("/etc", "/bin", "/etc/more")} == {"/etc": "d", "/bin": "l", "/etc/more": "f"}
    config = store.inspect(name)["config"]["config"]
    assert config["Env"] == ["A=b"] and config["WorkingDir"] == "/etc"
    # What the registry calls it is what we call it, and other tools read it.
    out = subprocess.run(["skopeo", "inspect", f"oci:{store.images}:{name}"], stdout=subprocess.PIPE, check=True)
    assert json.loads(out.stdout)["Digest"] == digest

    # Again: the registry is asked whether it is still the same, and no byte of a body moves.
    before = len(proxy.log)
    p = store.pull(name, "-q")
    assert p.stdout.decode() == f"{name} {digest} (unchanged)\n" and not p.stderr
    assert [r["method"] for r in proxy.log[before:]] == ["HEAD"]
    # By its digest nobody is asked; nor for what another tag shares.
    before = len(proxy.log)
    store.pull(f"{proxy.host}/a/b@{digest}", "-q")
    assert len(proxy.log) == before
    store.pull(f"{proxy.host}/a/b:1@{digest}", "-q")
    assert len(proxy.log) == before
    # The root image is gone: it is written again from what is there.
    os.unlink(store.inspect(name)["rootfs"])
    store.pull(name, "-q")
    assert not proxy.gets("/blobs/" + blobs_of(registry, "a/b", "1")[0])[1:]
    fsck(store.inspect(name)["rootfs"])


def test_progress_on_a_terminal(store, proxy):
    proxy.fault = lambda n, r: {"wait": 0.5} if "/blobs/" in r["path"] else None
    master, slave = pty.openpty()
    subprocess.run(["stty", "rows", "24", "cols", "100"], stdin=slave, check=True)
    p = subprocess.Popen([MSB, "pull", f"{proxy.host}/a/b:1"], stdin=slave, stdout=subprocess.DEVNULL, stderr=slave,
                         env=store.env)
    os.close(slave)
    out = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(master, 65536):
            out += chunk
    os.close(master)
    assert p.wait(TIMEOUT) == 0
    assert re.search(rb"[0-9a-f]{12} \[#*\.*\] +\d+%", out), out
    # At the end the bars are gone and a line for each layer stays.
    assert len(re.findall(rb"[0-9a-f]{12} \d+\.\d MB", out)) == 3, out


def test_a_tag_moves(store, registry):
    name = f"{registry.host}/moves:latest"
    first = registry.put_image("moves", "latest", [tar(("v1", b"one"))])["digest"]
    store.pull(f"{registry.host}/moves", "-q")
    second = registry.put_image("moves", "latest", [tar(("v1", b"one")), tar(("v2", b"two"))])["digest"]
    assert b"is there already" in store.pull(name).stderr
    assert store.images_by_name() == {name: second} and first != second
    assert {"/v1", "/v2"} <= set(names(store.rootfs(name)))


def test_variants_for_platforms(store, registry):
    entries = [dict(registry.put_image("multi", f"x-{arch}", [tar((arch, b""))], arch=arch),
                    platform={"os": "linux", "architecture": arch}) for arch in ("arm64", "amd64", "s390x")]
    entries.append(dict(entries[0], platform={"os": "unknown", "architecture": "unknown"}))
    for kind, media in (("oci", OCI + "image.index.v1+json".replace("image.", "", 1)),
                        ("docker", "application/vnd.docker.distribution.manifest.list.v2+json")):
        registry.put_manifest("multi", kind, {"schemaVersion": 2, "mediaType": media, "manifests": entries})
    for kind in ("oci", "docker"):
        name = f"{registry.host}/multi:{kind}"
        index = registry.request("GET", f"/v2/multi/manifests/{kind}",
                                 headers={"Accept": f"{OCI}index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json"})
        store.pull(name, "-q")
        assert "/amd64" in names(store.rootfs(name))
        assert b"unchanged" in store.pull(name, "-q").stdout
        # The digest that others call it by finds it too.
        assert store.inspect(f"{registry.host}/multi@{index[1]['Docker-Content-Digest']}")["name"] == name
    store.pull(f"{registry.host}/multi:oci", "-q", "--platform", "linux/s390x")
    assert store.images_by_name()[f"{registry.host}/multi:oci"] == entries[2]["digest"]
    store.pull_refused(f"{registry.host}/multi:docker", "no variant for linux/riscv64", "--platform", "linux/riscv64")
    store.pull_refused(f"{registry.host}/multi:x-arm64", "the image is for linux/arm64, not for linux/amd64")
    store.msb("pull", "--platform", "linux", f"{registry.host}/multi:oci", check=1)


def test_what_other_tools_push(store, registry, tmp_path):
    """umoci makes it, skopeo pushes it in each format and compression; umoci unpacks the same tree."""
    def run(*cmd):
        subprocess.run([str(c) for c in cmd], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    layout = f"{tmp_path}/layout:t"
    run("umoci", "init", "--layout", tmp_path / "layout")
    run("umoci", "new", "--image", layout)
    run("umoci", "unpack", "--image", layout, tmp_path / "bundle")
    root = tmp_path / "bundle/rootfs"
    (root / "d/e").mkdir(parents=True)
    (root / "d/file").write_bytes(NOISE[:100000])
    os.link(root / "d/file", root / "d/e/hard")
    os.symlink("../file", root / "d/e/soft")
    run("umoci", "repack", "--image", layout, tmp_path / "bundle")
    (root / "d/file").unlink()
    (root / "d/new").write_bytes(b"new")
    os.chmod(root / "d/new", 0o4711)
    run("umoci", "repack", "--image", layout, tmp_path / "bundle")
    run("umoci", "config", "--image", layout, "--config.user", "1000:1000", "--config.cmd", "/d/new")
    run("umoci", "unpack", "--image", layout, tmp_path / "after")
    want = manifest(str(tmp_path / "after/rootfs"), with_root=False)
    for n, args in enumerate((["--format", "oci"], ["--format", "v2s2"],
                              ["--format", "oci", "--dest-compress-format", "zstd"])):
        tag = f"{registry.host}/tools/t:{n}"
        run("skopeo", "copy", "--dest-tls-verify=false", *args, f"oci:{layout}", f"docker://{tag}")
        store.pull(tag, "-q")
        path = store.rootfs(tag)
        assert store.inspect(tag)["config"]["config"]["User"] == "1000:1000"
        run("skopeo", "inspect", f"oci:{store.images}:{tag}")
        if os.geteuid() == 0:
            with mounted(path) as where:
                assert manifest(where, with_root=False, skip=["lost+found"]) == want


def test_compressions_many_layers_and_layers_twice(store, registry):
    one = tar(("a", b"one"))
    registry.put_image("plain", "1", [one, tar()], pack=lambda t: t, kind="tar")
    store.pull(f"{registry.host}/plain:1", "-q")
    assert "/a" in names(store.rootfs(f"{registry.host}/plain:1"))
    two = tar((".wh.a", b""))
    registry.put_image("twice", "1", [one, two, one, two, tar(("b", b"two"))])
    store.pull(f"{registry.host}/twice:1", "-q")
    got = names(store.rootfs(f"{registry.host}/twice:1"))
    assert "/b" in got and "/a" not in got
    registry.put_image("many", "1", [tar((f"f{i}", b"n%d" % i)) for i in range(200)])
    store.pull(f"{registry.host}/many:1", "-q", "--parallel", "8")
    assert len([n for n in names(store.rootfs(f"{registry.host}/many:1")) if n.startswith("/f")]) == 200


# ---- a bad network ----

def cut_each_time(proxy):
    """Every connection breaks after 700,000 bytes of a body."""
    proxy.fault = lambda n, r: {"cut": 700000} if "/blobs/" in r["path"] else None


def test_a_cut_connection_goes_on_where_it_broke(store, registry, proxy):
    cut_each_time(proxy)
    p = store.pull(f"{proxy.host}/a/b:1", "--retries", "1")
    assert b"again in" in p.stderr
    ranges = [r["range"] for r in proxy.gets("/blobs/") if r["range"]]
    assert ranges[:2] == ["bytes=700000-", "bytes=1400000-"]
    size = sum(f.stat().st_size for f in (store.images / "blobs/sha256").iterdir())
    assert size <= proxy.sent <= size + 10000
    fsck(store.inspect(f"{proxy.host}/a/b:1")["rootfs"])


@pytest.mark.parametrize("fault", ["no_range", "chunked", "truncated"])
def test_other_ways_to_break(store, proxy, fault):
    seen = {}

    def plan(n, r):
        if "/blobs/" not in r["path"]:
            return None
        again = seen.get(r["path"], 0)
        seen[r["path"]] = again + 1
        if fault == "no_range":  # the server knows no ranges, and breaks once
            return {"no_range": True, **({"cut": 5000} if not again else {})}
        if fault == "chunked":  # ends in good order, too early
            return {"length": None, **({"cut": 100} if not again else {})}
        return {"cut": 60} if not again else None
    proxy.fault = plan
    store.pull(f"{proxy.host}/a/b:1")
    fsck(store.inspect(f"{proxy.host}/a/b:1")["rootfs"])


@pytest.mark.parametrize("status, headers", [(429, {"Retry-After": "1"}), (500, {}), (503, {}), (502, {})])
def test_a_registry_that_is_busy_at_first(store, proxy, status, headers):
    seen = set()

    def plan(n, r):
        if r["path"] in seen:
            return None
        seen.add(r["path"])
        return {"status": status, "headers": headers, "body": b"{}"}
    proxy.fault = plan
    p = store.pull(f"{proxy.host}/a/b:1")
    assert f"HTTP status {status}".encode() in p.stderr
    fsck(store.inspect(f"{proxy.host}/a/b:1")["rootfs"])


def test_a_registry_that_stays_busy(store, proxy):
    proxy.fault = lambda n, r: {"status": 503, "body": b"no"}
    store.pull_refused(f"{proxy.host}/a/b:1", "HTTP status 503", "--retries", "1")
    proxy.fault = lambda n, r: {"status": 429, "headers": {"Retry-After": "86400"}}
    store.pull_refused(f"{proxy.host}/a/b:1", "86400 s")
    # A part that came stays for the next time, which is told nothing of it.
    proxy.fault = lambda n, r: {"cut": 900000} if "/blobs/" in r["path"] else None
    store.pull_refused(f"{proxy.host}/a/b:1", "layer sha256:", "--retries", "0", keep=True)
    before = len(proxy.log)
    proxy.fault = None
    store.pull(f"{proxy.host}/a/b:1", "-q")
    assert "bytes=900000-" in [r["range"] for r in proxy.log[before:]]
    assert not list((store.images / "partial").iterdir())


def test_slow_and_silent(store, proxy):
    proxy.fault = lambda n, r: {"wait": 1.5}
    store.pull(f"{proxy.host}/a/b:1", "-q")
    store.msb("rmi", f"{proxy.host}/a/b:1")
    silent = threading.Event()
    proxy.fault = lambda n, r: {"wait": 6} if "/manifests/" in r["path"] and not silent.is_set() else None
    p = store.pull_refused(f"{proxy.host}/a/b:1", "http", "--timeout", "1", "--retries", "0")
    assert b"time" in p.stderr.lower() or b"slow" in p.stderr.lower(), p.stderr
    silent.set()


def flip(body):
    return body[:len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1:]


@pytest.mark.parametrize("part, fault, why", [
    ("/blobs/", {"change": flip}, "than"),
    ("/blobs/", {"change": lambda b: b + b"x"}, "the manifest says"),
    ("/blobs/", {"change": lambda b: b[:-1]}, "the manifest says"),
    ("/blobs/", {"change": lambda b: b + b"x", "length": None}, "longer than the manifest says"),
    ("/manifests/", {"change": lambda b: b.replace(b"sha256:", b"sha256:", 1) + b" "}, "another manifest"),
    ("/manifests/", {"status": 404, "body": b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'},
     "MANIFEST_UNKNOWN"),
    ("/manifests/", {"status": 403, "body": b""}, "refuses it"),
    ("/manifests/", {"status": 401, "headers": {"WWW-Authenticate": "Basic realm=x"}, "body": b""}, "refuses it"),
    ("/manifests/", {"status": 401, "headers": {"WWW-Authenticate": 'Bearer realm="ftp://x"'}, "body": b""},
     "no token service"),
    ("/manifests/", {"status": 401, "headers": {"WWW-Authenticate": "Bearer " + "x" * 3000}, "body": b""},
     "makes no sense"),
    ("/manifests/", {"status": 302, "headers": {"Location": "file:///etc/passwd"}, "body": b""}, "rotocol"),
    ("/manifests/", {"status": 204, "body": b""}, "HTTP status 204"),
    ("/manifests/", {"change": lambda b: b"x" * (5 << 20)}, "of more than"),
])
def test_never_a_wrong_image(store, proxy, part, fault, why):
    proxy.fault = lambda n, r: fault if part in r["path"] else None
    store.pull_refused(f"{proxy.host}/a/b:1", why, "--retries", "1")


def test_a_part_that_is_not_the_one_that_was_asked_for(store, proxy):
    proxy.fault = lambda n, r: ({"cut": 50000} if not r["range"] else
                                {"status": 206, "headers": {"Content-Range": "bytes 0-9/10"}, "body": b"0123456789"}) \
        if "/blobs/" in r["path"] else None
    store.pull_refused(f"{proxy.host}/a/b:1", "another part", "--retries", "1")


def test_what_an_earlier_pull_left_may_be_wrong(store, registry):
    store.run("ls")
    layer = blobs_of(registry, "a/b", "1")[0]
    (store.images / "partial").mkdir(parents=True)
    left = store.images / "partial" / layer.split(":")[1]
    for content in (b"x" * 1000, b"x" * (10 << 20)):
        left.write_bytes(content)
        store.pull(f"{registry.host}/a/b:1", "-q")
        fsck(store.inspect(f"{registry.host}/a/b:1")["rootfs"])
        assert not left.exists()
        store.msb("rmi", f"{registry.host}/a/b:1")


def test_no_registry(store):
    p = store.pull_refused("127.0.0.1:1/x", "127.0.0.1")
    assert b"onnect" in p.stderr


# ---- several at once, killed, full ----

def test_pulls_side_by_side(store, registry, proxy):
    proxy.fault = lambda n, r: {"wait": 0.3} if "/blobs/" in r["path"] else None
    name = f"{proxy.host}/a/b:1"
    procs = [subprocess.Popen([MSB, "pull", "-q", name], env=store.env, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [p.wait(TIMEOUT) for p in procs] == [0] * 4
    fsck(store.inspect(name)["rootfs"])
    # One of them fetched, the others waited for it.
    for d in blobs_of(registry, "a/b", "1"):
        assert len(proxy.gets(d)) == 1
    assert not list((store.images / "tmp").iterdir()) and not list((store.images / "partial").iterdir())


def test_killed_at_any_point(store, registry, proxy):
    """kill -9 after each of the first requests, and during the bodies: the next pull makes it whole."""
    name, rnd = f"{proxy.host}/a/b:1", random.Random(2)
    for turn in range(8):
        reached = threading.Event()
        start = len(proxy.log)

        def plan(n, r, at=turn + 1):
            if n - start >= at:
                reached.set()
            return {"cut": rnd.randrange(3 << 20)} if "/blobs/" in r["path"] and rnd.random() < 0.5 else None
        proxy.fault = plan
        p = subprocess.Popen([MSB, "pull", "-q", "--retries", "50", name], env=store.env, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)
        wait_for(lambda: reached.is_set() or p.poll() is not None, seconds=TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(p.pid, signal.SIGKILL)
        p.wait(TIMEOUT)
        if turn % 2:
            continue  # what two killed ones left is no harder
        proxy.fault = None
        store.pull(name, "-q")
        fsck(store.inspect(name)["rootfs"])
        store.msb("rmi", name)
    proxy.fault = None
    store.pull(name, "-q")
    fsck(store.inspect(name)["rootfs"])
    # What the killed ones left goes once the last of their processes has let go of it.
    wait_for(lambda: store.msb("prune") and not list((store.images / "tmp").iterdir()), seconds=TIMEOUT)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("megabytes", [1, 4])
def test_a_full_disk(tmp_path, registry, megabytes):
    """No room for the layers, or for the root image: an error, and what was there is whole."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", tmp_path], check=True)
    try:
        s = PullStore(tmp_path)
        s.pull_refused(f"{registry.host}/a/b:1", "No space left")
        assert s.images_by_name() == {}
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# ---- passwords and certificates ----

@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A registry with TLS and a password, and one image."""
    folder = tmp_path_factory.mktemp("locked")
    r = Registry(folder / "r", auth=True, tls=certificate(folder))
    layout = Store(folder / "home")
    (folder / "home").mkdir()
    layout.run("import", "-q", "--name", "x", "--tar", "-", stdin=tar(("secret", b"sss")))
    subprocess.run(["skopeo", "copy", "--dest-tls-verify=false", "--dest-creds", f"fritz:{PASSWORD}",
                    f"oci:{layout.images}:x:latest", f"docker://{r.host}/x"], check=True, stdout=subprocess.DEVNULL)
    yield r
    r.stop()


def test_tls_and_login(store, locked):
    ca, name = ("--ca-certs", locked.tls[0]), f"{locked.host}/x:latest"
    store.pull_refused(name, "--ca-certs FILE")
    store.pull_refused(name, "refuses it", *ca)
    login = ("login", locked.host, "--username", "fritz", "--password-stdin")
    p = store.msb(*login, *ca, stdin=b"wrong\n", check=1)
    assert b"refuses it" in p.stderr and not (store.home / "auth.json").exists()
    store.msb(*login, stdin=PASSWORD.encode(), check=1)  # the certificate is not known
    p = store.msb(*login, *ca, stdin=PASSWORD.encode() + b"\n")
    assert p.stdout.decode() == f"logged in to {locked.host} as fritz\n"
    assert stat.S_IMODE(os.stat(store.home / "auth.json").st_mode) == 0o600
    store.pull(name, "-q", *ca)
    assert "/secret" in names(store.rootfs(name))
    store.msb("rmi", name)
    # skopeo reads the file that we write.
    subprocess.run(["skopeo", "inspect", "--tls-verify=false", "--authfile", store.home / "auth.json",
                    f"docker://{name}"], check=True, stdout=subprocess.DEVNULL)
    store.pull(name, "-q", "--insecure")
    store.msb("rmi", name)
    # The certificate from the configuration; a mistake there is said.
    config = store.home / "registries.json"
    config.write_text(json.dumps({"registries": {locked.host: {"ca_certs": locked.tls[0]}}}))
    store.pull(name, "-q")
    store.msb("rmi", name)
    config.write_text(json.dumps({"registries": {"elsewhere": {"insecur": True}}}))
    store.pull_refused(name, "member 'insecur'")
    config.unlink()
    store.msb("logout", locked.host)
    assert b"not logged in" in store.msb("logout", locked.host, check=1).stderr
    store.pull_refused(name, "refuses it", *ca)
    assert b"terminal" in store.msb("login", locked.host, check=1).stderr
    store.msb("login", locked.host, "--password-stdin", stdin=b"x", check=1)


def test_passwords_of_other_programs(store, locked, tmp_path):
    ca, name = ("--ca-certs", locked.tls[0]), f"{locked.host}/x:latest"
    auth = base64.b64encode(f"fritz:{PASSWORD}".encode()).decode()
    bad = base64.b64encode(b"fritz:wrong").decode()

    def works(**env):
        store.pull(name, "-q", *ca, **env)
        store.msb("rmi", name)

    def put(path, doc):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(doc))
        return path

    # docker's, podman's in each of its places, the longest key that fits first
    put(store.home / ".docker/config.json", {"auths": {f"https://{locked.host}/v1/": {"auth": auth}}})
    works()
    put(store.home / ".config/containers/auth.json", {"auths": {locked.host: {"auth": bad}}})
    store.pull_refused(name, "refuses it", *ca)
    put(store.home / ".config/containers/auth.json", {"auths": {locked.host: {"auth": bad},
                                                                f"{locked.host}/x": {"auth": auth}}})
    works()
    put(store.home / "containers/auth.json", {"auths": {locked.host: {"auth": auth}}})
    works()
    named = put(tmp_path / "named.json", {"auths": {locked.host: {"auth": "%%%"}}})
    store.pull_refused(name, "named.json: member auth is not base64", *ca, REGISTRY_AUTH_FILE=str(named))
    # helpers
    helper = tmp_path / "bin/docker-credential-test"
    helper.parent.mkdir()
    helper.write_text('#!/bin/sh\nread host\n[ "$1" = get ] && [ "$host" = "%s" ] || exit 1\n'
                      'echo \'{"ServerURL":"x","Username":"fritz","Secret":"%s"}\'\n' % (locked.host, PASSWORD))
    helper.chmod(0o755)
    path = {"PATH": f"{helper.parent}:{os.environ['PATH']}"}
    for doc in ({"credHelpers": {locked.host: "test"}}, {"credsStore": "test"},
                {"auths": {locked.host: {}}, "credsStore": "test"}):
        works(DOCKER_CONFIG=str(put(tmp_path / "d/config.json", doc).parent), XDG_RUNTIME_DIR="", HOME=str(tmp_path),
              **path)
    store.pull_refused(name, "docker-credential-test is not in PATH", *ca,
                       DOCKER_CONFIG=str(tmp_path / "d"), XDG_RUNTIME_DIR="", HOME=str(tmp_path))
    put(tmp_path / "d/config.json", {"credsStore": "../../bin/sh"})
    store.pull_refused(name, "no program's", *ca, DOCKER_CONFIG=str(tmp_path / "d"), XDG_RUNTIME_DIR="", HOME=str(tmp_path))


def test_tokens(store, registry):
    """A token service: nobody, the right one, the wrong one; a token that expires on the way."""
    p = Proxy(registry.port, token=2)
    try:
        name = f"{p.host}/a/b:1"
        p.fault = lambda n, r: {"cut": 900000} if "/blobs/" in r["path"] else None
        store.pull(name, "-q")
        assert p.issued > 1
        assert any("scope=repository%3Aa%2Fb%3Apull" in r["path"] for r in p.log)
        assert not any(r["authorization"] for r in p.log if r["path"].startswith("/token"))
        store.msb("rmi", name)
        (store.home / "auth.json").write_text(json.dumps({"auths": {p.host: {
            "auth": base64.b64encode(f"fritz:{PASSWORD}".encode()).decode()}}}))
        p.token = 1000
        store.pull(name, "-q")
        assert p.log[-1]["authorization"].startswith("Bearer ")
        # The password goes to the token service alone.
        assert all((r["authorization"] or "Bearer").startswith("Bearer") != r["path"].startswith("/token")
                   or not r["authorization"] for r in p.log)
        (store.home / "auth.json").write_text(json.dumps({"auths": {p.host: {
            "auth": base64.b64encode(b"fritz:no").decode()}}}))
        store.msb("rmi", name)
        store.pull_refused(name, "no such user")
    finally:
        p.stop()


def test_a_redirection_gets_no_password(store, registry, proxy):
    """Blobs that lie elsewhere: followed, without what was meant for the registry."""
    elsewhere = Proxy(registry.port)
    try:
        (store.home / "auth.json").write_text(json.dumps({"auths": {proxy.host: {"auth": "Zjpn"}}}))
        proxy.fault = lambda n, r: {"status": 307, "body": b"", "headers": {
            "Location": f"http://{elsewhere.host}{r['path']}"}} if "/blobs/" in r["path"] else (
                {"status": 401, "headers": {"WWW-Authenticate": "Basic realm=r"}} if not r["authorization"] else None)
        store.pull(f"{proxy.host}/a/b:1", "-q")
        assert proxy.gets("/blobs/")[0]["authorization"] == "Basic Zjpn"
        assert elsewhere.gets("/blobs/") and not any(r["authorization"] for r in elsewhere.log)
    finally:
        elsewhere.stop()


def test_mirrors(store, registry, proxy):
    """The mirror is asked first, the registry for what it lacks."""
    def config(*mirrors):
        (store.home / "registries.json").write_text(json.dumps(
            {"registries": {registry.host: {"mirrors": [f"http://{m}" for m in mirrors]}}}))

    name = f"{registry.host}/a/b:1"
    config(proxy.host)
    store.pull(name, "-q")
    assert len(proxy.gets("/blobs/")) == 4
    store.msb("rmi", name)
    proxy.fault = lambda n, r: {"status": 404} if "/blobs/" in r["path"] else None
    p = store.pull(name)
    assert b"note: http://" in p.stderr and store.images_by_name()[name]
    store.msb("rmi", name)
    config("127.0.0.1:1", proxy.host)
    proxy.fault = lambda n, r: {"status": 500}
    store.pull(name, "-q", "--retries", "0")
    fsck(store.inspect(name)["rootfs"])


def test_a_proxy_from_the_environment(store, registry, proxy):
    """http_proxy is used, and no_proxy heeded."""
    store.pull(f"{registry.host}/a/b:1", "-q", http_proxy="http://127.0.0.1:1", no_proxy="127.0.0.1")
    store.msb("rmi", f"{registry.host}/a/b:1")
    store.pull_refused(f"{registry.host}/a/b:1", "onnect", http_proxy="http://127.0.0.1:1", https_proxy="http://127.0.0.1:1",
                       no_proxy="")


# ---- hostile documents ----

def put_hostile(registry, change, **kwargs):
    """An image whose manifest is changed; the registry does not look, for it is put in behind its back."""
    d = registry.put_image("hostile", "ok", [tar(("a", b"one"))])
    doc = json.loads(registry.request("GET", "/v2/hostile/manifests/ok",
                                      headers={"Accept": OCI + "manifest.v1+json"})[2])
    return json.dumps(change(doc) or doc).encode()


def nested(doc):
    return json.loads("[" * 900 + "]" * 900)


@pytest.mark.parametrize("change, why", [
    (lambda d: d["layers"][0].update(size=-1), "size"),
    (lambda d: d["layers"][0].update(size=1 << 62), "GiB"),
    (lambda d: d["layers"][0].update(digest="sha512:" + "0" * 128), "digest"),
    (lambda d: d["layers"][0].update(digest="sha256:../../../../etc/passwd"), "digest"),
    (lambda d: d["layers"][0].update(mediaType="application/vnd.cncf.helm.chart.content.v1.tar+gzip"), "no file tree"),
    (lambda d: d["config"].update(size=1 << 40), "larger than"),
    (lambda d: d.update(layers=[]), "0 layers"),
    (lambda d: d.update(layers=d["layers"] * 1025), "layers"),
    (lambda d: d.update(schemaVersion=1, mediaType="application/vnd.docker.distribution.manifest.v1+json"), "schema 1"),
    (lambda d: d.update(mediaType="text/html"), "no image"),
    (nested, "not a JSON object"),
])
def test_hostile_manifests(store, registry, proxy, change, why):
    data = put_hostile(registry, change)
    proxy.fault = lambda n, r: {"status": 200, "body": data, "headers": {
        "Content-Type": OCI + "manifest.v1+json"}} if "/manifests/" in r["path"] else None
    store.pull_refused(f"{proxy.host}/hostile:x", why)


def test_layers_that_are_not_what_they_seem(store, registry):
    """Damaged, a bomb, other than the configuration says, with names that lead outside."""
    good = tar(("a", b"one"))
    registry.put_image("bad", "gzip", [good], pack=lambda t: gzip.compress(t)[:-8])
    store.pull_refused(f"{registry.host}/bad:gzip", "damaged")
    registry.put_image("bad", "text", [good], pack=lambda t: b"hello, world" * 100)
    store.pull_refused(f"{registry.host}/bad:text", "not a tar")
    registry.put_image("bad", "other", [good], pack=lambda t: gzip.compress(tar(("b", b"two"))))
    store.pull_refused(f"{registry.host}/bad:other", "configuration names")
    registry.put_image("bad", "outside", [tar(("../../x", b"one"))])
    store.pull_refused(f"{registry.host}/bad:outside", "..")
    # A thousand to one: refused where the limit is, and no disk was needed for it.
    registry.put_image("bad", "bomb", [tar(("zeros", bytes(60 << 20)))])
    store.pull_refused(f"{registry.host}/bad:bomb", "limit of 30 MiB", "--max-unpacked", "30M")
    store.pull(f"{registry.host}/bad:bomb", "-q")
    assert os.stat(store.inspect(f"{registry.host}/bad:bomb")["rootfs"]).st_blocks * 512 < 10 << 20


def test_removed_images_and_what_they_share(store, registry):
    name = f"{registry.host}/a/b:1"
    store.pull(name, "-q")
    digest = store.images_by_name()[name]
    store.pull(f"localhost:{registry.port}/a/b:1", "-q")
    store.msb("rmi", name)
    assert list(store.images_by_name()) == [f"localhost:{registry.port}/a/b:1"]
    fsck(store.inspect(digest)["rootfs"])
    store.msb("rmi", digest)
    assert store.images_by_name() == {} and not list((store.images / "blobs/sha256").iterdir())
    assert b"no image" in store.msb("rmi", name, check=1).stderr
