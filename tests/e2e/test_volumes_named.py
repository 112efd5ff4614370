# SPDX-License-Identifier: Apache-2.0
"""Named volumes, volumes through the server, and whose the files are without root."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

import wire
from conftest import BUILD, MSB, MSX_ENGINE, STORE, TIMEOUT, wait_for
from server_client import RpcError, Server

SH = ("python", "-e", "/bin/sh", "--", "-c")


# ---- the command line ------------------------------------------------------------

def ok(p):
    assert p.returncode == 0, p.stderr
    return p.stdout.decode()


def test_what_one_sandbox_writes_the_next_one_finds(box):
    assert "NAME" in ok(box.msb("volume", "ls")) and ok(box.msb("volume", "ls")).count("\n") == 1
    ok(box.msb("volume", "create", "data", "other"))
    p = box.msb("volume", "create", "data")
    assert p.returncode == 125 and b"already" in p.stderr
    box.msx("-q", "-v", "data:/d", *SH, "mkdir /d/a; echo kept > /d/a/b", check=0)
    p = box.msx("-q", "-v", "data:/d:ro", *SH, "cat /d/a/b; touch /d/x", check=1)
    assert p.stdout == b"kept\n" and b"Read-only" in p.stderr
    assert [v["name"] for v in json.loads(ok(box.msb("volume", "ls", "--json")))] == ["data", "other"]
    info, = json.loads(ok(box.msb("volume", "inspect", "data")))
    assert info["used"] >= 4096 and info["size"] == 0 and not info["in_use"]
    assert (pathlib.Path(info["path"]) / "a/b").read_text() == "kept\n"
    ok(box.msb("volume", "rm", "data", "other"))
    assert not os.path.exists(info["path"]) and json.loads(ok(box.msb("volume", "ls", "--json"))) == []


@pytest.mark.parametrize("args,text", [
    (["create", "a/b"], b"no name"), (["create", ".x"], b"no name"), (["create", "x" * 64], b"no name"),
    (["create"], b"which volume"), (["rm", "nosuch"], b"no volume 'nosuch'"), (["inspect", "nosuch"], b"no volume"),
    (["create", "a", "--size", "0"], b"512M"), (["ls", "x"], b"unexpected"), (["frob"], b"use create, ls, rm or inspect"),
    ([], b"create, ls, rm"), (["ls", "--size", "1G"], b"--size is for create"), (["ls", "-n", "a/b"], b"namespace"),
])
def test_errors_of_the_command(box, args, text):
    p = box.msb("volume", *args)
    assert p.returncode in (2, 125) and text in p.stderr, p.stderr


def test_quota(box):
    ok(box.msb("volume", "create", "small", "--size", "4M"))
    script = ("head -c 3M /dev/zero > /d/a && echo one; head -c 3M /dev/zero > /d/b || echo full; df -k /d | tail -1;"
              "rm /d/a /d/b; head -c 3M /dev/zero > /d/c && echo again;"
              "exec 3>/d/open; head -c 512K /dev/zero >&3; rm /d/open; head -c 900K /dev/zero > /d/e || echo held; exec 3>&-;"
              "rm /d/e; head -c 900K /dev/zero > /d/e && echo free")
    p = box.msx("-q", "-v", "small:/d", *SH, script, check=0)
    out = p.stdout.decode().split()
    assert [w for w in out if w.isalpha() and w not in ("volume",)] == ["one", "full", "again", "held", "free"]
    assert "4096" in out and b"No space left" in p.stderr
    # What is there counts for the next one.
    p = box.msx("-q", "-v", "small:/d", *SH, "head -c 1M /dev/zero > /d/x || echo full", check=0)
    assert p.stdout == b"full\n"


def test_what_is_in_use_is_not_removed(box):
    ok(box.msb("volume", "create", "busy"))
    p = box.start("-q", "-v", "busy:/d", "python", "-e", "/bin/cat")
    box.wait_sandbox()
    r = box.msb("volume", "rm", "busy")
    assert r.returncode == 125 and b"in use" in r.stderr
    assert "in use" in ok(box.msb("volume", "ls"))
    p.stdin.close()
    p.wait(TIMEOUT)
    ok(box.msb("volume", "rm", "busy"))


# ---- the server ---------------------------------------------------------------------

@pytest.fixture(scope="module")
def allowed():
    d = pathlib.Path(tempfile.mkdtemp(prefix="msb-allowed-"))
    (d / "in/sub").mkdir(parents=True)
    (d / "in/sub/f").write_text("allowed\n")
    (d / "out").mkdir()
    (d / "out/f").write_text("secret\n")
    os.symlink("../out", d / "in/link")
    os.symlink("/", d / "in/root")
    os.symlink(d / "in", d / "alias")
    yield d
    shutil.rmtree(d)


@pytest.fixture(scope="module")
def server(allowed):
    s = Server("--allow-volumes", str(allowed / "alias"))
    yield s
    assert s.stop() == 0, s.log()
    s.box.assert_nothing_left()
    s.close()


def refused(server, volume, text, **params):
    with pytest.raises(RpcError) as e:
        server.call("sandbox.start", sandbox="no", config={"image": "python", "volumes": [volume]}, **params)
    assert (e.value.code, e.value.status) == (-32602, 400) and text in e.value.message, e.value.message
    assert "volumes" in e.value.message


def test_the_server_shares_what_it_was_allowed(server, allowed):
    server.start("a", volumes=[f"{allowed}/in/sub:/w", f"{allowed}/in/sub/f:/opt/f:ro"])
    assert server.run("a", "_ = open('/w/new', 'w').write('x'); print(open('/opt/f').read())")["output"][0]["text"] == "allowed"
    assert (allowed / "in/sub/new").read_text() == "x"
    server.call("sandbox.stop", sandbox="a")


def test_the_server_refuses_the_rest(server, allowed):
    text = "allows for volumes"
    for path in (f"{allowed}/out", f"{allowed}", f"{allowed}/in/../out", f"{allowed}/in/link", f"{allowed}/in/link/f",
                 f"{allowed}/in/root/etc", f"{allowed}/in/nosuch", "/etc", "/", "./in", f"{allowed}/inner", f"{allowed}/in/sub/../.."):
        refused(server, f"{path}:/w", text)
    refused(server, "/etc:/proc/x", "kernel's")
    refused(server, "a b:/w", "neither a name")
    assert server.call("sandbox.list")["sandboxes"] == []


def test_a_link_that_appears_later_is_not_followed(server, allowed):
    """Between the check and the use, somebody with the directory puts a link there."""
    sub = allowed / "in/swap"
    sub.mkdir()
    (sub / "f").write_text("inside\n")
    stop = allowed / "stop"
    swapper = subprocess.Popen(["/usr/bin/python3", "-c", f"""
import os
while not os.path.exists({str(stop)!r}):
    os.rename({str(sub)!r}, {str(sub) + '.t'!r}); os.symlink({str(allowed / 'out')!r}, {str(sub)!r})
    os.unlink({str(sub)!r}); os.rename({str(sub) + '.t'!r}, {str(sub)!r})
"""])
    seen = set()
    try:
        for i in range(12):
            try:
                server.start("race", volumes=[f"{sub}:/w:ro"])
                seen.add(server.run("race", "print(open('/w/f').read())")["output"][0]["text"])
                server.call("sandbox.stop", sandbox="race")
                break
            except RpcError:
                seen.add("refused")
    finally:
        stop.write_text("")
        swapper.wait()
        stop.unlink()
    assert "secret" not in seen and seen


def test_namespaces_have_volumes_of_their_own(server):
    env = server.box.env

    def msb(*args):
        return subprocess.run([MSB, "volume", *args], env=env, stdout=subprocess.PIPE, check=True, timeout=TIMEOUT).stdout

    msb("create", "shared", "-n", "one")
    refused(server, "shared:/w", "no volume 'shared' in namespace default")
    refused(server, "shared:/w", "no volume 'shared' in namespace two", namespace="two")
    server.call("sandbox.start", sandbox="v", namespace="one", config={"image": "python", "volumes": ["shared:/w"]})
    server.call("sandbox.command.run", sandbox="v", namespace="one", command="touch", args=["/w/made"])
    assert json.loads(msb("ls", "--json")) == []
    info, = json.loads(msb("inspect", "shared", "-n", "one"))
    assert info["in_use"] and os.listdir(info["path"]) == ["made"]
    # Again after a restart.
    server.call("sandbox.restart", sandbox="v", namespace="one")
    out = server.call("sandbox.command.run", sandbox="v", namespace="one", command="ls", args=["/w"])
    assert out["output"][0]["text"] == "made"
    server.call("sandbox.stop", sandbox="v", namespace="one")


def test_without_the_option_no_path_of_the_host(box):
    s = Server()
    try:
        refused(s, "/tmp:/w", "--allow-volumes")
    finally:
        assert s.stop() == 0
        s.close()


# ---- without root --------------------------------------------------------------------

UID = 54321


def readable():
    p = subprocess.run(["/usr/bin/test", "-x", MSB], preexec_fn=lambda: (os.setgid(UID), os.setuid(UID)))
    return p.returncode == 0


@pytest.fixture
def user():
    """A home, a store and a shared directory of an ordinary user's."""
    if os.geteuid() or not readable():
        pytest.skip("needs root, and programs that others may run")
    top = pathlib.Path(tempfile.mkdtemp(prefix="msb-user-"))
    os.chmod(top, 0o755)
    (top / "home").mkdir()
    shutil.copytree(os.path.realpath(STORE), top / "home/images", symlinks=True,
                    ignore=lambda d, names: [n for n in names if n == "tmp"])
    (top / "home/images/tmp").mkdir(exist_ok=True)
    (top / "share").mkdir()
    for d, _, names in os.walk(top):
        os.chown(d, UID, UID)
        for n in names:
            os.chown(os.path.join(d, n), UID, UID, follow_symlinks=False)
    os.chmod(top / "home", 0o700)

    def msx(*args, check=0):
        p = subprocess.run([*MSX_ENGINE, "-q", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=TIMEOUT, user=UID, group=UID, extra_groups=[],
                           env=dict(os.environ, MICROSANDBOX_HOME=str(top / "home"), HOME=str(top / "home")))
        assert p.returncode == check, (p.returncode, p.stdout, p.stderr)
        return p.stdout.decode()
    yield msx, top / "share"
    shutil.rmtree(top)


def test_an_ordinary_user_is_root_in_the_guest(user):
    msx, share = user
    (share / "mine").write_text("x")
    os.chown(share / "mine", UID, UID)
    (share / "roots").write_text("theirs")
    os.chmod(share / "roots", 0o600)
    out = msx("-v", f"{share}:/w", *SH,
              "stat -c %u:%g /w /w/mine /w/roots; echo new > /w/new; mkdir /w/d; chmod 400 /w/mine; echo again > /w/mine;"
              "chown 0:0 /w/new && echo same; chown 5 /w/new 2>&1; cat /w/roots 2>&1; rm /w/d -r; ls /w")
    lines = out.split("\n")
    assert lines[:3] == ["0:0", "0:0", "65534:65534"]
    assert "same" in lines and "not permitted" in out and "Permission denied" in out and "theirs" not in out
    st = os.stat(share / "new")
    assert (st.st_uid, st.st_gid) == (UID, UID) and (share / "mine").read_text() == "again\n"


def test_an_ordinary_user_is_who_the_command_runs_as(user):
    msx, share = user
    out = msx("-u", "1000:1000", "-v", f"{share}:/w", *SH, "id -u; echo x > /w/n; stat -c %u:%g /w/n")
    assert out == "1000\n1000:1000\n"
    out = msx("-v", f"{share}:/w:owner=nobody", *SH, "stat -c %U /w/n")
    assert out == "nobody\n"
    assert os.stat(share / "n").st_uid == UID
