# SPDX-License-Identifier: Apache-2.0
"""Installed sandboxes: commands like any other, each with a sandbox of its own that keeps what it writes."""
import json
import os
import pathlib
import pty
import select
import shutil
import subprocess

import pytest

from box import MSB, TIMEOUT, Box, make_home, wait_for
from conftest import BUILD

MSI = str(BUILD / "bin/msi")
SMALL = ("--memory", "256", "--disk", "64")


@pytest.fixture
def user(tmp_path):
    """A user with a home directory whose .local/bin is on the PATH."""
    b = Box(make_home())
    b.user = tmp_path / "user's home"
    b.user.mkdir()
    b.bin = b.user / ".local/bin"
    b.env = dict(b.env, HOME=str(b.user), PATH=f"{b.bin}:{os.environ['PATH']}")
    yield b
    for pid in b.processes():
        os.kill(pid, 9)
    shutil.rmtree(b.home, ignore_errors=True)


def msi(user, *args, program=MSI):
    return subprocess.run([program, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=user.env, timeout=TIMEOUT)


def sh(user, line, cwd="/", stdin=b""):
    return subprocess.run(["/bin/sh", "-c", line], cwd=cwd, input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=user.env, timeout=TIMEOUT)


def test_a_command_of_ones_own(user):
    p = msi(user, "python", "py-data", *SMALL, "--env", "A=it's")
    assert p.returncode == 0, p.stderr
    grow = """py-data -c 'open("/root/x","a").write("1"); print(len(open("/root/x").read()))'"""
    assert sh(user, "cd / && " + grow).stdout == b"1\n"
    # From anywhere, also where there is nothing; with what it is given, and whatever the home is called meanwhile.
    gone = user.user / "gone"
    gone.mkdir()
    user.env["MICROSANDBOX_HOME"] = str(user.user / "elsewhere")
    p = sh(user, f'rmdir "{gone}"; ' + grow + """ < /dev/null; py-data -c 'import os, sys
print(sys.argv[1:], os.environ["A"], sys.stdin.read()); sys.stderr.write("err"); sys.exit(3)' -x "a b" é -- ''""",
           cwd=gone, stdin=b"in")
    assert p.stdout.decode() == "2\n['-x', 'a b', 'é', '--', ''] it's in\n"
    assert p.returncode == 3 and p.stderr.endswith(b"err")  # the shell may say that it is nowhere
    assert not (user.user / "elsewhere").exists()
    # With a terminal it has one.
    pid, fd = pty.fork()
    if not pid:
        os.execve(user.bin / "py-data", ["py-data", "-c", "import os, sys; print(os.isatty(0), input('name? '))"],
                  user.env)
    seen = b""
    while b"name?" not in seen:
        assert select.select([fd], [], [], TIMEOUT)[0], seen
        seen += os.read(fd, 1000)
    os.write(fd, b"tty\r")
    try:
        while chunk := os.read(fd, 1000):
            seen += chunk
    except OSError:
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 and b"True tty" in seen, seen


def test_no_install_breaks_another(user):
    user.bin.mkdir(parents=True)
    (user.bin / "mine").write_text("#!/bin/sh\necho mine\n")
    (user.bin / "mine").chmod(0o755)
    for name in ("one", "two-2"):
        p = msi(user, "python", name, *SMALL, "-e", "/bin/sh", "--", "-c", f"echo {name}; echo \"$@\"", "sh")
        assert p.returncode == 0, p.stderr
    # What is there already is not overwritten: a command of somebody's, one of ours, one without the x.
    (user.bin / "plain").write_text("data")
    for name, why in (("mine", b"there is a command 'mine' already"), ("one", b"there is a command 'one' already"),
                      ("plain", b"is there already, and is not overwritten"), ("ls", b"already (/"),
                      ("../up", b"cannot be a command's name")):
        p = msi(user, "python", name, *SMALL)
        assert p.returncode in (2, 125) and why in p.stderr, (name, p.stderr)
    assert (user.bin / "plain").read_text() == "data" and not (user.bin / "up").exists()
    p = msi(user, "python", "bad", "--scope", "local")
    assert p.returncode == 125 and b"local" in p.stderr and not (user.bin / "bad").exists()
    assert sorted(os.listdir(user.home / "installs")) == ["one", "two-2"]
    assert [i["name"] for i in json.loads(user.msb("list", "--installed", "--json").stdout)] == ["one", "two-2"]
    assert sh(user, "two-2; one").stdout == b"two-2\n\none\n\n"
    # One that runs is not removed; one whose command is somebody else's now leaves that alone.
    (user.bin / "two-2").write_text("#!/bin/sh\necho another\n")
    assert user.msb("uninstall", "two-2").returncode == 0
    assert (user.bin / "two-2").read_text() == "#!/bin/sh\necho another\n"
    p = msi(user, "python", "waits", *SMALL, "-e", "/bin/cat")
    assert p.returncode == 0, p.stderr
    waits = subprocess.Popen([user.bin / "waits"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=user.env)
    waits.stdin.write(b"up\n")
    waits.stdin.flush()
    assert waits.stdout.readline() == b"up\n"
    p = user.msb("uninstall", "waits", "one", "none")
    assert p.returncode == 125 and b"waits is running" in p.stderr and b"none is not installed" in p.stderr
    waits.stdin.close()
    assert waits.wait(TIMEOUT) == 0
    assert user.msb("uninstall", "waits").returncode == 0
    assert os.listdir(user.home / "installs") == []
    assert sorted(os.listdir(user.bin)) == ["mine", "plain", "two-2"]


def tree(*tops):
    """Every path below, with what a change of it would change."""
    found = {}
    for top in tops:
        for d, dirs, files in os.walk(top):
            for name in dirs + files:
                path = os.path.join(d, name)
                try:
                    st = os.lstat(path)
                except FileNotFoundError:
                    continue
                found[path] = (st.st_mode, st.st_size if not os.path.isdir(path) else 0, st.st_mtime_ns
                               if not os.path.isdir(path) else 0)
    return found


def test_a_temporary_sandbox_leaves_no_trace(user, tmp_path):
    """The image store apart, which is a link here and is not followed."""
    user.env["TMPDIR"] = str(tmp_path / "tmp")
    (tmp_path / "tmp").mkdir()
    work = tmp_path / "work"
    work.mkdir()
    # The first use of a home makes directories and notes what the machine can do.
    user.msx("-q", "python", "-e", "/bin/true", check=0, cwd=work)
    before = tree(user.home, tmp_path)
    assert before
    user.msx("-q", "python", "--", "-c", "open('/root/x', 'w')", check=0, cwd=work)
    user.msx("-q", "python", "--", "-c", "import sys; sys.exit(5)", check=5, cwd=work)
    user.assert_nothing_left()
    assert tree(user.home, tmp_path) == before
