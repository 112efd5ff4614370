# SPDX-License-Identifier: Apache-2.0
"""Bad input: one line that says what to do, a status that is not 0, and nothing left behind."""
import json
import os
import shutil
import signal
import socket
import subprocess

import pytest

from conftest import BUILD, ENGINE, MSX, MSX_ENGINE, ROOT, STORE, TIMEOUT, wait_for, with_time_enough

# Built by make from tests/e2e/guests.
GUESTS = BUILD / "tests/e2e"


def one_line(p, status, *words):
    assert p.returncode == status, (p.returncode, p.stderr)
    errors = [l for l in p.stderr.decode(errors="replace").splitlines() if "error:" in l]
    assert len(errors) == 1, p.stderr
    for w in words:
        assert w in errors[0], errors[0]
    assert p.stdout == b""


@pytest.mark.parametrize("args,words", [
    (["python", "--memory", "12x"], ["--memory", "12x"]),
    (["python", "--memory", "1M"], ["--memory"]),
    (["python", "--memory", "99999999T"], ["--memory"]),
    (["python", "--cpus", "0"], ["--cpus"]),
    (["python", "--cpus", "-1"], ["--cpus"]),
    (["python", "--env", "novalue"], ["KEY=VALUE"]),
    (["python", "--workdir", "relative"], ["absolute"]),
    (["python", "--scope", "local"], ["none, public, any"]),
    (["python", "--scope", "group"], ["--group", "go together"]),
    (["python", "-v", "/tmp:tmp"], ["not absolute", "give HOST:GUEST"]),
    (["python", "--net-allow", "privat"], ["--net-allow 'privat'", "is no group"]),
    (["python", "--net-deny", "10.0.0.1/8"], ["--net-deny", "write 10.0.0.0/8"]),
    (["python", "--net-default", "maybe"], ["--net-default 'maybe'", "allow or deny"]),
    (["python", "-p", "70000:80"], ["--port", "70000"]),
    (["python", "--engine", "xen"], ["auto, kvm, tcg"]),
    (["python", "--timeout", "soon"], ["--timeout"]),
    (["python", "--nosuch"], ["--nosuch"]),
    (["python", "--memory"], ["needs a value"]),
    (["python", "script.py"], ["--"]),
    (["python~nosuch"], ["nosuch"]),
    ([], ["which image"]),
])
def test_usage(box, args, words):
    one_line(box.msx(*args), 2, *words)
    box.assert_nothing_left()


def test_unknown_image(box):
    one_line(box.msx("-q", "nosuchimage"), 125, "pull", "nosuchimage")
    one_line(box.msx("-q", "UPPER CASE"), 125, "UPPER")


def test_kvm_fails_closed(box):
    """Where KVM works, it is taken away first."""
    script = f"exec {MSX} -q --engine kvm python"
    if ENGINE == "kvm":
        script = "mount --bind /dev/null /dev/kvm && " + script
    p = subprocess.run(["unshare", "-m", "sh", "-c", script] if ENGINE == "kvm" else ["sh", "-c", script], env=box.env,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    one_line(p, 125, "kvm")


def test_kernel_that_is_none(box, tmp_path):
    path = tmp_path / "vmlinux"
    one_line(box.msx("-q", "--kernel", str(path), "python"), 125, str(path))
    path.write_bytes(os.urandom(100_000))
    one_line(box.msx("-q", "--kernel", str(path), "python", "-e", "/bin/true"), 125)
    path.write_bytes(b"")
    one_line(box.msx("-q", "--kernel", str(path), "python", "-e", "/bin/true"), 125, "kernel")
    box.assert_nothing_left()


def test_guest_that_never_answers(box):
    one_line(box.msx("-q", "--kernel", str(GUESTS / "silent-kernel"), "--boot-timeout", "1", "python", "-e",
                     "/bin/true"), 125, "did not answer", "--boot-timeout")
    box.assert_nothing_left()


def test_root_image_is_made_again_without_a_registry(broken_store):
    box, rootfs = broken_store
    os.unlink(rootfs)
    p = box.msx("-q", "--pull", "never", "python", "-e", "/bin/true")
    assert p.returncode == 0, p.stderr
    assert os.path.exists(rootfs)


def test_killed_pull_is_said(box):
    """What fails it tells the user itself; what is killed cannot."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        msx = subprocess.Popen([MSX, "-q", f"127.0.0.1:{s.getsockname()[1]}/silent"], env=box.env,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        s.settimeout(TIMEOUT)
        conn = s.accept()[0]  # it waits for an answer
        children = open(f"/proc/{msx.pid}/task/{msx.pid}/children").read().split()
        os.kill(int(children[0]), signal.SIGKILL)
        out, err = msx.communicate(timeout=TIMEOUT)
        conn.close()
    one_line(subprocess.CompletedProcess([], msx.returncode, out, err), 125, "msb-image", "killed by signal 9")


def test_boot_timeout_is_bounded(box):
    for value in ("0", "500ms", "2d", "4294967296"):
        one_line(box.msx("--boot-timeout", value, "python"), 2, "--boot-timeout", value)


@pytest.fixture
def broken_store(box):
    """A store of its own whose one root image may be damaged: (box, path of the root image)."""
    os.unlink(box.home / "images")
    shutil.copytree(STORE, box.home / "images", symlinks=True,
                    ignore=lambda d, names: [n for n in names if n in ("tmp",)])
    p = box.msb("image", "inspect", "python", "--json")
    assert p.returncode == 0, p.stderr
    info = json.loads(p.stdout)
    paths = [os.path.join(d, n) for d, _, names in os.walk(box.home / "images/rootfs") for n in names]
    wanted = [q for q in paths if os.path.basename(q) in json.dumps(info)]
    assert len(wanted) == 1, (info, paths)
    return box, wanted[0]


def test_truncated_root_image(broken_store):
    box, path = broken_store
    os.truncate(path, os.path.getsize(path) // 2)
    one_line(box.msx("-q", "python", "-e", "/bin/true"), 125, "image")
    box.assert_nothing_left()


def test_corrupt_root_image(broken_store):
    box, path = broken_store
    with open(path, "r+b") as f:
        f.write(os.urandom(8192))
    one_line(box.msx("-q", "python", "-e", "/bin/true"), 125, "image")
    box.assert_nothing_left()


def test_home_that_cannot_be_written(box):
    p = subprocess.run([*MSX_ENGINE, "-q", "python"], env=dict(box.env, MICROSANDBOX_HOME="/proc/nope"),
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    one_line(p, 125, "/proc/nope")
    p = subprocess.run([*MSX_ENGINE, "-q", "python"], env=dict(box.env, MICROSANDBOX_HOME="relative"),
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    one_line(p, 125, "absolute")


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")


@needs_root
def test_full_disk(box):
    """The home lies on a file system with no room left."""
    small = box.home / "small"
    small.mkdir()
    script = f"""mount -t tmpfs -o size=64k none {small} && ln -s {STORE} {small}/images &&
        {{ head -c 1M /dev/zero > {small}/fill || true; }} 2>/dev/null
        MICROSANDBOX_HOME={small} {' '.join(MSX_ENGINE)} -q python -e /bin/true; s=$?
        rm {small}/fill; ls {small}/run; exit $s"""
    p = subprocess.run(["unshare", "-m", "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=180)
    one_line(p, 125, "No space left")


@needs_root
def test_no_qemu(box):
    script = f"mount --bind /dev/null /usr/bin/qemu-system-x86_64 && exec {MSX} --engine tcg -q python -e /bin/true"
    p = subprocess.run(["unshare", "-m", "sh", "-c", script], env=box.env, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=180)
    one_line(p, 125, "qemu-system-x86")


@pytest.fixture
def hostile(tmp_path):
    """An installation of its own whose initramfs holds a hostile init."""
    def make(what):
        parts = tmp_path / "lib/microsandbox"
        parts.mkdir(parents=True)
        (tmp_path / "bin").mkdir()
        shutil.copy2(BUILD / "bin/msb", tmp_path / "bin/msb")
        os.symlink("msb", tmp_path / "bin/msx")
        for n in ("msb-net", "msb-image", "msb-vmm", "vmlinux"):
            shutil.copy2(BUILD / "lib/microsandbox" / n, parts / n)
        subprocess.run([ROOT / "tools/make-initramfs", GUESTS / what, parts / "initramfs.cpio.gz"], check=True)
        return str(tmp_path / "bin/msx")
    return make


def run_hostile(box, msx, *args):
    return subprocess.run([msx, "--engine", ENGINE, "-q", *args, "python", "-e", "/bin/true"], env=box.env,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=180)


def test_guest_that_sends_garbage_on_the_agent_port(box, hostile):
    one_line(run_hostile(box, hostile("garbage-init")), 125, "garbage")
    box.assert_nothing_left()


def test_guest_that_floods_its_console(box, hostile):
    msx = hostile("flood-init")

    def attempt(seconds):
        """Of a sandbox that lives so long: the size of its logs when one was full, and how it ended."""
        p = subprocess.Popen([msx, "--engine", ENGINE, "-q", "--boot-timeout", str(seconds), "python", "-e", "/bin/true"],
                             env=box.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        logs = wait_for(lambda: box.sandboxes())[0] + "/log"
        wait_for(lambda: os.path.exists(logs + "/console.log.old") or p.poll() is not None, seconds=seconds + 60)
        size = sum(os.path.getsize(os.path.join(logs, n)) for n in os.listdir(logs)) \
            if os.path.exists(logs + "/console.log.old") else 0
        _, err = p.communicate(timeout=TIMEOUT)
        return size, p.returncode, err

    size, status, err = with_time_enough(attempt, lambda r: r[0], seconds=5)
    assert status == 125 and b"did not answer" in err
    assert 0 < size <= 3 << 20
    box.assert_nothing_left()
