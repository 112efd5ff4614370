# SPDX-License-Identifier: Apache-2.0
"""A sandbox that is kept: what it wrote is there the next time, whatever ended it."""
import json
import os
import random
import signal
import subprocess

import pytest

from conftest import VM_PROGRAM, make_home, wait_for
from project_box import Project
from box import TIMEOUT
import shutil

ROUNDS = int(os.environ.get("MSB_KILL_ROUNDS", "4"))

PY = {"image": "python", "memory": 256, "disk": 64}


@pytest.fixture
def project(tmp_path):
    p = Project(make_home(), tmp_path, {"app": PY})
    yield p
    p.kill_all()
    shutil.rmtree(p.home, ignore_errors=True)


def python(code):
    return ("-e", "python3", "app", "--", "-c", code)


def test_what_was_written_is_there_the_next_time(project):
    grow = "f = open('/root/x', 'a'); f.write('1'); f.close(); print(len(open('/root/x').read()))"
    assert project.run(*python(grow)) == b"1\n"
    # Nothing of it runs on, and the machine was shut down.
    project.wait_nothing_runs()
    state = project.state("app")
    assert state["clean"] and state["reason"] == "nobody uses it any more"
    project.fsck("app")
    # Arguments, standard input, standard error and the exit status pass through.
    p = project.msb("run", "-q", *python("import sys; sys.stderr.write(sys.argv[1] + sys.stdin.read())\n"
                                         "f = open('/root/x', 'a'); f.write('1'); f.close(); "
                                         "print(len(open('/root/x').read())); sys.exit(7)"),
                    "é\nü", stdin=b"input")
    assert (p.returncode, p.stdout, p.stderr.decode()) == (7, b"2\n", "é\nüinput")
    # Its disk has the size that the file says, and no more.
    p = project.msb("run", "-q", *python("import errno\ntry:\n with open('/root/big', 'wb') as f:\n"
                                         "  for _ in range(100): f.write(bytes(1 << 20)); f.flush()\n"
                                         "except OSError as e: print(errno.errorcode[e.errno])"))
    assert (p.returncode, p.stdout) == (0, b"ENOSPC\n"), p.stderr
    assert (project.menv("app") / "upper.ext4").stat().st_size == 64 << 20
    assert project.run(*python("print(len(open('/root/x').read()))")) == b"2\n"
    project.fsck("app")


def test_two_commands_share_one_machine_which_ends_with_the_last(project):
    # The first one starts it, and ends first.
    first = project.popen("run", "-q", *python("import sys; open('/run/here', 'w').close(); print('up', flush=True); "
                                               "sys.stdin.read()"))
    assert first.stdout.readline() == b"up\n", first.stderr.read()
    second = project.popen("run", "-q", *python("import os, sys; print(os.path.exists('/run/here'), flush=True); "
                                                "sys.stdin.read(); print('still')"))
    assert second.stdout.readline() == b"True\n", second.stderr.read()
    supervisors = [line for line in project.processes().values() if " supervise " in line]
    assert len(supervisors) == 1, supervisors
    assert first.communicate(timeout=TIMEOUT) == (b"", b"") and first.returncode == 0
    out, err = second.communicate(timeout=TIMEOUT)
    assert (second.returncode, out, err) == (0, b"still\n", b"")
    project.wait_nothing_runs()
    assert project.state("app")["clean"]


def test_starts_at_once_come_together(project):
    """Each finds the sandbox starting, running or ending, and each command runs once."""
    runs = [project.popen("run", "-q", *python(f"open('/root/log', 'a').write('{i}')")) for i in range(5)]
    for p in runs:
        out, err = p.communicate(timeout=TIMEOUT)
        assert (p.returncode, out, err) == (0, b"", b"")
    assert sorted(project.run(*python("print(open('/root/log').read())")).decode().strip()) == list("01234")


WRITER = """
import os
try:
    lines = open('/root/log').read().splitlines()
except FileNotFoundError:
    lines = []
assert lines == [str(i) for i in range(len(lines))] or (lines[:-1] == [str(i) for i in range(len(lines) - 1)]), lines[-3:]
whole = [i for i, l in enumerate(lines) if l == str(i)]
n = len(whole)
f = open('/root/log', 'w' if n == 0 else 'r+')
f.seek(0, 2)
if n != len(lines):
    f.truncate(sum(len(str(i)) + 1 for i in range(n))); f.seek(0, 2)
print('has', n, flush=True)
while True:
    f.write(f'{n}\\n'); f.flush(); os.fsync(f.fileno())
    n += 1
    print('wrote', n, flush=True)
"""


def test_kill_of_each_process_at_any_moment_loses_nothing_synced(project):
    """MSB_KILL_ROUNDS sets how often (make check-projects-100)."""
    rng = random.Random(os.environ.get("MSB_SEED", "1"))
    acknowledged = 0
    victims = ["supervise", VM_PROGRAM, "msb-net", "msb"]
    for i in range(ROUNDS):
        p = project.popen("run", "-q", *python(WRITER))
        first = p.stdout.readline().split()
        assert first[:1] == [b"has"], p.stderr.read()
        assert int(first[1]) >= acknowledged, (i, first, acknowledged)
        for _ in range(rng.randrange(1, 30)):
            acknowledged = int(p.stdout.readline().split()[1])
        victim = victims[i % len(victims)]
        pid = p.pid if victim == "msb" else project.pid_of(victim)
        os.kill(pid, signal.SIGKILL)
        # What it said before it died counts too.
        rest = p.communicate(timeout=TIMEOUT)[0].split(b"\n")[:-1]
        acknowledged = max([acknowledged] + [int(line.split()[1]) for line in rest])
    project.wait_nothing_runs()
    out = project.run(*python("print(len(open('/root/log').read().splitlines()))"))
    assert int(out) >= acknowledged > 0
    project.fsck("app")


def test_another_image_is_a_choice(project):
    project.run(*python("open('/root/x', 'w').write('kept')"))
    config = project.menv("app") / "config.json"
    old = json.loads(config.read_text())
    old["image"], old["image_path"] = "older", "/elsewhere/" + "0" * 64 + ".ext4"
    config.write_text(json.dumps(old))
    p = project.msb("run", "-q", *python("pass"))
    assert p.returncode == 125 and b"another image (older, now python)" in p.stderr and b"msb clean app" in p.stderr
    assert project.run("--keep-disk", *python("print(open('/root/x').read())")) == b"kept\n"
    # Whether it starts is not asked again.
    assert project.run(*python("print(open('/root/x').read())")) == b"kept\n"


def test_what_came_with_a_project_is_not_trusted(project, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(bytes(64 << 20))
    box = project.menv("app")
    box.mkdir(parents=True)
    (box / "upper.ext4").symlink_to(victim)
    p = project.msb("run", "-q", *python("pass"))
    assert p.returncode == 125 and b"upper.ext4" in p.stderr, p.stderr
    (box / "upper.ext4").unlink()
    os.link(victim, box / "upper.ext4")
    p = project.msb("run", "-q", *python("pass"))
    assert p.returncode == 125 and b"not a plain file of this user" in p.stderr, p.stderr
    (box / "upper.ext4").unlink()
    os.mkfifo(box / "upper.ext4")
    p = project.msb("run", "-q", *python("pass"))
    assert p.returncode == 125 and b"not a plain file" in p.stderr, p.stderr
    assert victim.read_bytes() == bytes(64 << 20)
    # A disk that is none is the guest's to refuse, and says so.
    (box / "upper.ext4").unlink()
    (box / "upper.ext4").write_bytes(bytes(64 << 20))
    p = project.msb("run", "-q", *python("pass"))
    assert p.returncode == 125 and b"mount the disk 'upper'" in p.stderr, p.stderr
    # The directory of all of them as a link.
    shutil.rmtree(project.dir / "menv")
    (project.dir / "menv").symlink_to(tmp_path)
    p = project.msb("run", "-q", *python("pass"))
    assert p.returncode == 125 and b"menv" in p.stderr, p.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_of_the_host_is_an_error_in_the_guest(project):
    (project.dir / "menv").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(project.dir / "menv")], check=True)
    try:
        out = project.run(*python(
            "import errno, os\nf = open('/root/big', 'wb')\n"
            "try:\n for _ in range(48): f.write(bytes(1 << 20)); f.flush(); os.fsync(f.fileno())\n"
            "except OSError as e: print(errno.errorcode[e.errno])"), check=None)
        assert out in (b"EIO\n", b"EROFS\n"), out
        project.wait_nothing_runs()
        # With room again it is as it was synced.
        subprocess.run(["mount", "-o", "remount,size=256m", str(project.dir / "menv")], check=True)
        assert project.run(*python("import os; print(os.path.exists('/root/big'))")) == b"True\n"
        project.run(*python("open('/root/big', 'wb').write(bytes(20 << 20)); os = __import__('os'); os.sync()"))
    finally:
        project.kill_all()
        project.wait_nothing_runs()
        subprocess.run(["umount", str(project.dir / "menv")], check=True)
