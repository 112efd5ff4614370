# SPDX-License-Identifier: Apache-2.0
"""Images of a registry, run: pulled when missing, their configuration obeyed, kept while they are in use."""
import hashlib
import json
import os
import shutil
import signal
import subprocess

import pytest

from box import MSB, STORE, TIMEOUT, make_home, wait_for, Box
from project_box import Project
from registries import OCI, Registry
from server_client import RpcError, Server, texts
from test_image import DIR, LINK, tar
from test_pull import needs_registry

pytestmark = needs_registry

PASSWD = b"root:x:0:0::/root:/bin/sh\napp:x:1234:2345::/home/app:/bin/sh\n"
GROUP = b"root:x:0:\napp:x:2345:\nextra:x:777:other,app\nnone:x:778:other\n"
SHOW = """
import grp, json, os, socket
print(json.dumps({"ids": [os.getuid(), os.getgid()], "groups": sorted(os.getgroups()), "cwd": os.getcwd(),
                  "env": dict(os.environ), "host": socket.gethostname(), "hosts": open("/etc/hosts").read(),
                  "hostname": open("/etc/hostname").read(), "resolv": open("/etc/resolv.conf").read(),
                  "home": os.path.expanduser("~"), "top": sorted(os.listdir("/top"))}))
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    r = Registry(tmp_path_factory.mktemp("registry") / "r")
    subprocess.run(["skopeo", "copy", "--dest-tls-verify=false", f"oci:{STORE}:microsandbox/python:latest",
                    f"docker://{r.host}/py:base"], check=True, stdout=subprocess.DEVNULL)
    yield r
    r.stop()


@pytest.fixture
def box():
    b = Box(make_home())
    (b.home / "images").unlink()  # a store of its own
    b.env["HOME"] = str(b.home)
    yield b
    for pid in b.processes():
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(b.home, ignore_errors=True)


def put(registry, tag, layers, **config):
    """The python image with more layers, and with another configuration."""
    doc = json.loads(registry.request("GET", "/v2/py/manifests/base", headers={"Accept": OCI + "manifest.v1+json"})[2])
    conf = json.loads(registry.request("GET", f"/v2/py/blobs/{doc['config']['digest']}")[2])
    for layer in layers:
        doc["layers"].append(dict(registry.put_blob("py", layer), mediaType=OCI + "layer.v1.tar"))
        conf["rootfs"]["diff_ids"].append("sha256:" + hashlib.sha256(layer).hexdigest())
    conf.pop("history", None)
    conf["config"] = dict(conf["config"], **config)
    doc["config"] = dict(registry.put_blob("py", json.dumps(conf).encode()), mediaType=OCI + "config.v1+json")
    registry.put_manifest("py", tag, doc)
    return f"{registry.host}/py:{tag}"


def test_pulled_and_run(registry, box):
    name = put(registry, "full", [
        tar(("etc/passwd", PASSWD), ("etc/group", GROUP), ("home/app", DIR, {"uid": 1234, "gid": 2345, "mode": 0o700}),
            ("top/low", b"low"), ("top/gone", b"gone"), ("work/deep", DIR)),
        tar(("top/.wh.gone", ), ("top/high", b"high"), ("top/link", LINK, {"linkname": "high"}))],
        User="app", WorkingDir="/srv/deep", Env=["PATH=/usr/bin:/bin", "COLOUR=blue", "EMPTY="],
        Entrypoint=["/usr/bin/python3", "-c"], Cmd=["print('the image\\'s own')"], StopSignal="SIGINT",
        ExposedPorts={"80/tcp": {}}, Labels={"a": "b"})
    assert b"not in the store" in box.msx("--pull", "never", name).stderr
    p = box.msx(name, check=0)
    assert p.stdout == b"the image's own\n" and b"pulling it" in p.stderr, p.stderr
    p = box.msx("-q", "--pull", "never", name, "--", SHOW, check=0)
    assert not p.stderr.strip(), p.stderr
    got = json.loads(p.stdout)
    assert got["ids"] == [1234, 2345] and got["groups"] in ([777], [777, 2345]) and got["cwd"] == "/srv/deep"
    assert got["env"]["COLOUR"] == "blue" and got["env"]["EMPTY"] == "" and got["env"]["PATH"] == "/usr/bin:/bin"
    assert got["env"].get("HOME", "/home/app") == "/home/app" == got["home"]
    assert got["host"] in got["hosts"] and "localhost" in got["hosts"] and got["hostname"].strip() == got["host"]
    assert "nameserver" in got["resolv"]
    assert got["top"] == ["high", "link", "low"]
    # The registry is gone: what is there runs, and only --pull always needs it.
    tag = name.split("/", 1)[1]
    gone = f"127.0.0.1:1/{tag}"
    assert box.msx("--pull", "always", gone).returncode == 125

    # While it runs it is not removed; its name may go, the file stays.
    images = json.loads(box.msb("images", "--json").stdout)
    assert [i["name"] for i in images] == [name] and not images[0]["in_use"]
    p = box.start("-q", name, "-e", "/usr/bin/python3", "--", "-c", "print('up', flush=True); input(); print('still here')")
    assert p.stdout.readline() == b"up\n", p.stderr.read()
    assert json.loads(box.msb("images", "--json").stdout)[0]["in_use"]
    refused = box.msb("rmi", name)
    assert refused.returncode == 1 and b"in use by a sandbox" in refused.stderr
    assert b'"removed": []' in box.msb("prune", "--all", "--json").stdout
    assert box.msb("rmi", "--force", name).returncode == 0
    assert json.loads(box.msb("df", "--json").stdout)["root_images"] == 1
    out, err = p.communicate(b"\n", timeout=TIMEOUT)
    assert (p.returncode, out) == (0, b"still here\n"), err
    box.msb("prune")
    assert json.loads(box.msb("df", "--json").stdout)["root_images"] == 0
    box.assert_nothing_left()


def test_users_by_number(registry, box):
    """uid:gid that no passwd knows, and a name that is not there."""
    name = put(registry, "ids", [], User="4321:8765", Entrypoint=["/usr/bin/python3", "-c"], WorkingDir="/tmp")
    p = box.msx("-q", name, "--", "import os; print(os.getuid(), os.getgid(), os.getcwd())", check=0)
    assert p.stdout == b"4321 8765 /tmp\n"
    name = put(registry, "nobody", [], User="no-such-user")
    p = box.msx("-q", name)
    assert p.returncode in (125, 126) and b"no-such-user" in p.stderr


OBEY = """
import json, os
def look(path):
    st = os.lstat(path)
    return [st.st_uid, st.st_gid, st.st_mode]
for d in ["/var/new/data", "/kept", "/inner/data"]:
    open(d + "/mine", "w").close()
print(json.dumps({"cwd": os.getcwd(), "work": look("/not/there"), "new": look("/var/new/data"), "kept": look("/kept"),
                  "up": os.path.lexists("/outer"), "etc": look("/etc/x")}))
"""
STOP = """exec python3 -u -c "
import os, signal, sys, time
def took(who, sig):
    with open('/data/took', 'a') as f:
        f.write(who + ' ' + signal.Signals(sig).name + chr(10))
if not os.fork():
    signal.signal(signal.SIGTERM, lambda s, f: took('worker', s))
    signal.signal(signal.SIGUSR1, lambda s, f: (took('worker', s), os._exit(0)))
    print('worker is up', flush=True)
    while True: signal.pause()
def end(s, f):
    took('command', s)
    os.kill(0, signal.SIGUSR1)
    os.wait()
    print('ends by itself', flush=True)
    os._exit(7)
for s in (signal.SIGTERM, signal.SIGQUIT):
    signal.signal(s, end)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
print('command is up', flush=True)
while True: signal.pause()
" """
ASIDE = """
import signal
def end(s, f):
    with open('/data/took', 'a') as f:
        f.write('aside ' + signal.Signals(s).name + chr(10))
    raise SystemExit
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGQUIT, end)
print('aside is up', flush=True)
while True: signal.pause()
"""


def test_directories_and_the_stop_signal(registry, box, tmp_path):
    """WorkingDir and Volumes are made, links stay inside; StopSignal ends the command, and only it."""
    name = put(registry, "obeyed", [
        tar(("etc/passwd", PASSWD), ("etc/group", GROUP), ("kept", DIR, {"uid": 1234, "gid": 2345, "mode": 0o750}),
            ("data", DIR, {"mode": 0o777}), ("inner", LINK, {"linkname": "/../../srv"}))],
        User="app", WorkingDir="/not/there", Volumes={"/var/new/data": {}, "/kept": {}, "/inner/data": {}, "/etc/x/y": {}},
        Entrypoint=["/usr/bin/python3", "-c"], StopSignal="SIGQUIT", ExposedPorts={"80/tcp": {}, "53/udp": {}})
    got = json.loads(box.msx("-q", name, "--", OBEY, check=0).stdout)
    assert got == {"cwd": "/not/there", "work": [0, 0, 0o40755], "new": [1234, 2345, 0o40755],
                   "kept": [1234, 2345, 0o40750], "up": False, "etc": [0, 0, 0o40755]}
    config = json.loads(box.msb("image", "inspect", name).stdout)["config"]["config"]
    assert config["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}} and config["StopSignal"] == "SIGQUIT"

    p = Project(box.home, tmp_path, {"s": {"image": name, "memory": 256, "disk": 64, "volumes": ["./data:/data"],
                                           "scripts": {"start": STOP}}})
    p.env = box.env
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o777)
    try:
        p.msb("up", "-d", check=0)
        aside = p.popen("exec", "-q", "s", "--", "python3", "-c", ASIDE)
        assert aside.stdout.readline() == b"aside is up\n", aside.stderr.read()
        output = p.menv("s") / "log/output.log"
        wait_for(lambda: b"worker is up" in output.read_bytes() and b"command is up" in output.read_bytes(), seconds=TIMEOUT)
        p.msb("down", check=0)
        aside.communicate(timeout=TIMEOUT)
        assert sorted((tmp_path / "data/took").read_text().split("\n")) == [
            "", "aside SIGTERM", "command SIGQUIT", "worker SIGUSR1"]
        assert b"ends by itself" in output.read_bytes()
        bad = put(registry, "nosignal", [], StopSignal="SIGNOTHING")
        failed = box.msx("-q", bad, "--", "true")
        assert failed.returncode == 125 and b"'SIGNOTHING' is no signal" in failed.stderr
    finally:
        p.kill_all()


def test_a_missing_image_says_so(box):
    p = subprocess.run([MSB, "exe", "127.0.0.1:1/absent:1"], env=box.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=TIMEOUT)
    assert p.returncode == 125 and b"127.0.0.1" in p.stderr and b"absent" in p.stderr


def test_the_server_pulls_what_it_may(registry, box):
    """A client's word reaches no private address, unless registries.json has the registry; --pull never asks nobody."""
    name = put(registry, "served", [], Cmd=["/bin/sh"])
    s = Server("--pull", "never", home=str(box.home))
    try:
        with pytest.raises(RpcError, match="asks no registry"):
            s.start("box", image=name)
    finally:
        s.close()
    s = Server(home=make_home())
    try:
        (s.home / "images").unlink()
        with pytest.raises(RpcError, match="could not be pulled"):
            s.start("box", image=name)
        (s.home / "registries.json").write_text(json.dumps({"registries": {registry.host: {}}}))
        s.start("box", image=name)
        assert texts(s.run("box", "print(6 * 7)")) == ["42"]
    finally:
        s.close()
