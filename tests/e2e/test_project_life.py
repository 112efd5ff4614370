# SPDX-License-Identifier: Apache-2.0
"""The life of a project's sandboxes: up, status, log, exec, down, clean, in any order."""
import fcntl
import json
import os
import pathlib
import pty
import shutil
import signal
import subprocess
import termios

import pytest

from box import MSB, TIMEOUT, make_home, wait_for
from project_box import Project

SMALL = {"image": "python", "memory": 256, "disk": 64}
TALK = """exec python3 -u -c "
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *a: (open('/root/bye', 'w').write('bye'), print('bye'), sys.exit(0)))
print('out 1'); print('err 1', file=sys.stderr); print('ready', flush=True)
while True: time.sleep(1000)
" """


@pytest.fixture
def project(tmp_path):
    p = Project(make_home(), tmp_path, {
        "web": dict(SMALL, depends_on=["db"], scripts={"start": TALK, "hi": 'echo "hi $0 $1"'}),
        "db": SMALL,
    })
    yield p
    p.kill_all()
    shutil.rmtree(p.home, ignore_errors=True)


def rows(project, *names):
    p = project.msb("status", "--json", *names, check=0)
    return {r["name"]: r for r in json.loads(p.stdout)}


def log(project, *args, **kwargs):
    return subprocess.run([MSB, "log", "--file", str(project.dir), *args], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=project.env, timeout=TIMEOUT, **kwargs)


def watch(project):
    """msb stats --watch on a terminal: two looks, then Ctrl-C."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 200))
    p = subprocess.Popen(project.argv("stats", "--watch"), stdin=slave, stdout=slave, stderr=slave, env=project.env,
                         start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    os.close(slave)
    seen = b""
    while seen.count(b"\x1b[?7h") < 2:
        seen += os.read(master, 4096)
    os.write(master, b"\x03")
    assert p.wait(TIMEOUT) == -signal.SIGINT
    os.close(master)
    for look in seen.split(b"\x1b[H")[1:3]:
        lines = [line.split(b"\x1b")[0].split() for line in look.splitlines()]
        assert [line[0] for line in lines[:3]] == [b"SANDBOX", b"web", b"db"], look


def stats_and_inspect(project):
    web, db = json.loads(project.msb("stats", "--json", check=0).stdout)
    assert (web["name"], db["name"], db["status"]) == ("web", "db", "running")
    assert 1 << 20 < db["memory_bytes"] < db["memory_limit_bytes"] <= 256 << 20
    assert 0 < db["disk_limit_bytes"] <= 64 << 20 and db["disk_bytes"] < db["disk_limit_bytes"]
    assert db["cpus"] == 1 and db["cpu_percent"] >= 0 and db["uptime_ms"] > 0
    assert web["processes"] >= 1
    lines = project.msb("stats", "db", check=0).stdout.decode().splitlines()
    assert len(lines) == 2 and lines[0].split()[0] == "SANDBOX" and lines[1].split()[0] == "db"
    assert b"no sandbox 'none'" in project.msb("stats", "none", check=125).stderr
    assert b"needs a terminal" in project.msb("stats", "--watch", check=2).stderr
    watch(project)
    info = json.loads(project.msb("inspect", "web", check=0).stdout)
    assert (info["status"], info["reason"], info["image"]) == ("running", "", "python")
    assert info["configuration"]["memory_bytes"] == 256 << 20 and info["configuration"]["name"] == "web"
    assert info["command"]["argv"][:3] == ["/bin/sh", "-c", TALK]
    assert info["state"]["started_at"] <= info["state"]["ready_at"] and info["state"]["ended_at"] is None
    assert info["disk"]["size_bytes"] == 64 << 20 and 0 < info["disk"]["allocated_bytes"]
    assert info["sandboxfile"]["depends_on"] == ["db"] and info["ports"] == []
    for what in ("directory", "disk", "socket", "output_log", "supervisor_log"):
        assert os.path.exists(info["paths"][what]), what
    assert os.path.exists(info["image_path"]) and os.path.exists(f"/proc/{info['pid']}")
    assert b"which sandbox" in project.msb("inspect", check=2).stderr


def tree(directory):
    """Of all below it: mode and content, or None of a directory."""
    return {str(p.relative_to(directory)): (p.stat().st_mode & 0o7777, None if p.is_dir() else p.read_bytes())
            for p in directory.rglob("*") if not p.is_symlink()}


def copies(project):
    src = project.dir / "src"
    (src / "sub/deep").mkdir(parents=True)
    (src / "sub").chmod(0o750)
    for name, mode, data in (("empty", 0o600, b""), ("sub/run", 0o755, b"#!/bin/sh\n"), ("sub/ä b", 0o644, b"\0\xff"),
                             ("big", 0o640, os.urandom(3 << 20))):
        (src / name).write_bytes(data)
        (src / name).chmod(mode)
    want = tree(src)
    p = project.msb("cp", str(src), "db:/root/one", check=0)
    assert (p.stdout, p.stderr) == (b"", b"")
    project.msb("cp", str(src), "db:/root", check=0)
    project.msb("cp", str(src), "db:/root", check=0)  # onto itself
    for name in ("one", "src"):
        project.msb("cp", f"db:/root/{name}", str(project.dir / f"back-{name}"), check=0)
        assert tree(project.dir / f"back-{name}") == want
    # One file: into a directory, and by another name over what is there; its mode, without set-id bits.
    back = project.dir / "back"
    back.mkdir()
    (back / "b").write_bytes(b"old")
    project.msb("exec", "-q", "db", "--", "sh", "-c", "printf x >/root/s; chmod 4711 /root/s; ln -s /etc /root/one/link;"
                " mkfifo /root/one/fifo; printf kept >/root/one/empty", check=0)
    project.msb("cp", "db:/root/s", str(back), check=0)
    project.msb("cp", "db:/root/s", str(back / "b"), check=0)
    assert tree(back) == {"s": (0o711, b"x"), "b": (0o711, b"x")}
    # Links and pipes stay behind, and that is said; nothing goes through a link that is here already.
    (back / "one").mkdir()
    (back / "one/sub").symlink_to(project.dir / "src")
    p = project.msb("cp", "db:/root/one", str(back))
    assert p.returncode == 125 and b"cannot open the directory sub" in p.stderr, p.stderr
    assert tree(src) == want
    (back / "one/sub").unlink()
    p = project.msb("cp", "db:/root/one", str(back))
    assert p.returncode == 1 and p.stderr.count(b"not copied") == 2, p.stderr
    got = tree(back / "one")
    assert got.pop("empty") == (0o600, b"kept") and got == {k: v for k, v in want.items() if k != "empty"}
    (src / "link").symlink_to("/etc/passwd")
    p = project.msb("cp", str(src), "db:/root/two")
    assert p.returncode == 1 and b"link is neither a file nor a directory" in p.stderr
    assert project.msb("exec", "-q", "db", "--", "ls", "/root/two", check=0).stdout.split() == [b"big", b"empty", b"sub"]
    for args, status, text in ((("db:/none", "x"), 125, b"No such file"), (("db:/root/s", "x/"), 125, b"not a directory"),
                               ((str(src), "db:/root/s"), 125, b"no directory"), (("db:/a", "web:/a"), 2, b"one of them"),
                               (("a", "b"), 2, b"one of them"), (("db:a", "b"), 2, b"absolute"),
                               (("none:/a", "b"), 125, b"no sandbox 'none'"), (("-u", "nobody", "db:/root/s", "x"), 125, b"s"),
                               (("/dev/null", "db:/root/n"), 125, b"neither a file")):
        p = project.msb("cp", *args)
        assert p.returncode == status and text in p.stderr, (args, p.stderr)
    # Nothing is left of a copy that is stopped.
    project.msb("exec", "-q", "db", "--", "truncate", "-s", "100G", "/root/huge", check=0)
    p = project.popen("cp", "db:/root/huge", str(back))
    wait_for(lambda: list(back.glob(".msb-cp-*")), seconds=TIMEOUT)
    p.terminate()
    p.communicate(timeout=TIMEOUT)
    assert p.returncode == 128 + signal.SIGTERM and not (back / "huge").exists()
    assert not [p for p in project.dir.rglob(".msb-cp-*")] and not (project.dir / "x").exists()


def test_a_life(project):
    assert {n: r["status"] for n, r in rows(project).items()} == {"web": "created", "db": "created"}
    assert log(project, "web").returncode == 0
    info = json.loads(project.msb("inspect", "web", check=0).stdout)
    assert (info["status"], info["state"], info["configuration"], info["image"]) == ("created", None, None, "python")
    assert json.loads(project.msb("stats", "--json", check=0).stdout) == []
    p = project.msb("cp", "db:/etc/passwd", "x")
    assert p.returncode == 125 and b"is not running" in p.stderr
    p = project.msb("exec", "db", "--", "true")
    assert p.returncode == 125 and b"is not running" in p.stderr and not project.menv("db").exists()
    # Two at once: each sandbox is started by one of them.
    ups = [project.popen("up", "-d") for _ in range(2)]
    said = b""
    for up in ups:
        said += up.communicate(timeout=TIMEOUT)[1]
        assert up.returncode == 0, said
    assert said.count(b"db starts") == 1 and said.count(b"web starts") == 1, said
    assert said.count(b"is running already") == 2, said
    # What it depends on was ready by then.
    assert project.state("db")["ready_us"] < project.state("web")["started_us"]
    follow = subprocess.Popen([MSB, "log", "--file", str(project.dir), "-f", "web"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=project.env)
    assert [follow.stdout.readline() for _ in range(2)] == [b"out 1\n", b"ready\n"]
    assert follow.stderr.readline() == b"err 1\n"
    st = rows(project)
    assert st["web"]["status"] == st["db"]["status"] == "running"
    assert st["db"]["memory_bytes"] > 1 << 20 and st["db"]["cpu_percent"] >= 0 and st["db"]["disk_bytes"] > 0
    assert project.msb("status", "-q", check=0).stdout == b"web\ndb\n"
    table = project.msb("status", "db", check=0).stdout.decode().splitlines()
    assert len(table) == 2 and table[1].split()[:2] == ["db", "running"]
    stats_and_inspect(project)
    copies(project)
    # Commands in what runs, each with its status; scripts too.
    p = project.msb("exec", "-q", "db", "--", "sh", "-c", "cat; exit 4", stdin=b"in")
    assert (p.returncode, p.stdout, p.stderr) == (4, b"in", b"")
    assert project.msb("exec", "-q", "db", "--", "/none").returncode == 127
    assert project.run("web~hi", "--", "you") == b"hi hi you\n"
    assert project.msb("run", "-q", "web~none").stderr == b"msb: error: sandbox web has no script 'none'\n"
    p = project.msb("run", "-d", "db")
    assert p.returncode == 125 and b"is running already" in p.stderr
    p = project.msb("clean", "db")
    assert p.returncode == 125 and b"is running" in p.stderr
    # Down: processes are asked to end, and the last words are in the log.
    assert project.msb("down", "web", check=0).stderr == b"msb: web stopped\n"
    out, err = follow.communicate(timeout=TIMEOUT)
    assert (follow.returncode, out, err) == (0, b"bye\n", b"")
    st = rows(project)
    assert st["web"]["status"] == "stopped" and st["web"]["exit_code"] == 0 and st["db"]["status"] == "running"
    assert project.state("web")["clean"]
    info = json.loads(project.msb("inspect", "web", check=0).stdout)
    assert (info["status"], info["pid"], info["state"]["exit_code"], info["state"]["clean"]) == ("stopped", None, 0, True)
    assert info["state"]["ended_at"] and info["reason"]
    stopped = json.loads(project.msb("stats", "--json", "web", check=0).stdout)
    assert stopped[0]["memory_bytes"] is None and stopped[0]["status"] == "stopped"
    project.fsck("web")
    assert log(project, "--tail", "2", "web").stdout == b"ready\nbye\n"
    assert log(project, "--since", "2050-01-01T00:00:00Z", "web").stdout == b""
    lines = log(project, "--timestamps", "web").stdout.decode().splitlines()
    assert [line.split("Z ", 1)[1] for line in lines] == ["out 1", "ready", "bye"]
    # What was written is there the next time, and what a newer life prints comes after the older's.
    assert project.msb("down", check=0).stderr == b"msb: db stopped\n"
    project.wait_nothing_runs()
    assert project.run("web", "-e", "/bin/cat", "--", "/root/bye") == b"bye"
    assert project.msb("down", check=0).stderr == b""
    project.msb("clean", "web", check=0)
    assert not project.menv("web").exists() and project.menv("db").exists()
    project.msb("clean", "--all", check=0)
    assert not (project.dir / "menv").exists()


def test_up_in_the_foreground(project):
    project.write({
        "ok": dict(SMALL, command=["/bin/sh", "-c", "echo one; echo two >&2"]),
        "bad": dict(SMALL, scripts={"start": "echo bad; exit 3"}),
    })
    p = project.msb("up", "-q")
    assert p.returncode == 1
    assert sorted(p.stdout.splitlines()) == [b"bad | bad", b"ok  | one"]
    assert sorted(p.stderr.splitlines()) == [b"msb: bad: its command ended with status 3", b"ok  | two"]
    assert rows(project)["bad"]["exit_code"] == 3
    # Ctrl-C stops what it started, and only that.
    project.write({"web": dict(SMALL, scripts={"start": TALK}), "db": SMALL})
    project.msb("up", "-d", "db", check=0)
    up = project.popen("up", "-q")
    while up.stdout.readline() != b"web | ready\n":
        assert up.poll() is None, up.stderr.read()
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=TIMEOUT)
    assert up.returncode == 130
    st = rows(project)
    assert st["web"]["status"] == "stopped" and st["db"]["status"] == "running"
    # A program that is not there: said, and in the log.
    project.write({"bad": dict(SMALL, command=["/none"]), "db": SMALL})
    p = project.msb("up", "-q")
    assert p.returncode == 1 and b"/none" in p.stderr
    project.msb("down", check=0)


@pytest.fixture
def other():
    """A process that has nothing to do with us."""
    p = subprocess.Popen(["sleep", "1000"])
    yield p
    p.kill()
    p.wait()


def test_stale_and_half_started(project, other):
    """After a loss of power the files are there, and nothing runs."""
    project.msb("up", "-d", "db", check=0)
    victim = project.pid_of("supervise")
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: rows(project)["db"]["status"] == "stopped", seconds=TIMEOUT)
    assert rows(project)["db"]["reason"] == "it was killed, or the machine lost power"
    assert (project.menv("db") / "run/pid").exists()
    # The number in the file is another process's now: it is not touched.
    (project.menv("db") / "run/pid").write_text(f"{other.pid}\n")
    project.msb("down", check=0)
    assert other.poll() is None
    assert project.run("db", "-e", "/bin/echo", "--", "again") == b"again\n"
    project.fsck("db")
    # Down while up is starting: it is stopped, not missed.
    up = project.popen("up", "-d", "db")
    wait_for(lambda: project.pid_of("supervise"), seconds=TIMEOUT)
    project.msb("down", check=0)
    up.communicate(timeout=TIMEOUT)
    project.wait_nothing_runs()
    # A supervisor that hangs is killed in the end, and with it the machine.
    project.msb("up", "-d", "db", check=0)
    os.kill(project.pid_of("supervise"), signal.SIGSTOP)
    p = project.msb("clean", "--force", "db", check=0)
    project.wait_nothing_runs()
    assert other.poll() is None


VALUE = "sk-77c1-not-for-the-guest"
SERVE = """
until [ -e /go ]; do sleep 0.05; done
exec python3 -u -c "
import socket
s = socket.create_server(('0.0.0.0', 5432))
while True:
    c = s.accept()[0]
    c.sendall(b'from db')
    c.close()
" """
ASK = """exec python3 -u -c "
import os, socket, urllib.request as u
print(socket.create_connection(('db', 5432)).recv(20).decode())
key = os.environ['KEY']
u.urlopen(u.Request('http://host.microsandbox.internal:%d/', headers={'X-Key': key})).close()
print(key)
" """


def test_group_and_secrets(project, web):
    """Sandboxes of a group reach each other by name, one waits for the other's port, and no value is left anywhere."""
    host = f"host.microsandbox.internal:{web.port}"
    project.write({
        "web": dict(SMALL, group="shop", depends_on={"db": {"port": 5432}}, scripts={"start": ASK % web.port},
                    network=[f"allow tcp loopback:{web.port}"], envs={"KEY": "not this"},
                    secrets={"KEY": {"env": "MY_KEY", "hosts": [host]}}),
        "db": dict(SMALL, group="shop", scripts={"start": SERVE}),
    })
    project.env["MY_KEY"] = VALUE
    up = project.popen("up", "-d")
    del project.env["MY_KEY"]
    said = []
    while not said or said[-1] != b"msb: web waits for port 5432 of db\n":
        said.append(up.stderr.readline())
        assert said[-1], said
    assert not project.menv("web").exists()
    project.msb("exec", "-q", "db", "--", "touch", "/go", check=0)
    rest = up.communicate(timeout=TIMEOUT)[1]
    assert up.returncode == 0, (said, rest)
    # A command in what runs needs no value; a new start does, and is not tried without.
    project.msb("exec", "-q", "db", "--", "true", check=0)
    follow = log(project, "-f", "web")
    assert (follow.returncode, follow.stdout) == (0, b"from db\nMSB_SECRET_KEY\n"), follow.stderr
    assert [h["X-Key"] for h in web.headers] == [VALUE]
    p = project.msb("restart", "db", "web", check=125)
    assert b"the environment variable MY_KEY is not set" in p.stderr
    assert rows(project)["db"]["status"] == "running"
    # The group is this project's own.
    assert len(list(project.home.glob("groups/@~*/shop/*-db"))) == 1
    for f in [*project.dir.rglob("*"), *project.home.glob("groups/**/*")]:
        assert not f.is_file() or VALUE.encode() not in f.read_bytes(), f
    project.msb("down", check=0)
    project.wait_nothing_runs()
    assert not list(project.home.glob("groups/@~*/*"))
