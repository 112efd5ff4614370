# SPDX-License-Identifier: Apache-2.0
"""A file server that is stopped or dead: nothing of the agent's waits for it for ever."""
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import time

import pytest

import wire
from conftest import MSB, TIMEOUT, wait_for
from test_volumes import Share


def errors(c, kind="stat"):
    """What the agent's own requests on the volume end with."""
    if kind == "stat":
        with pytest.raises(wire.Error) as e:
            c.file("STAT", "/vol/unseen")
    else:
        with pytest.raises(wire.Error) as e:
            c.exec(["/bin/true"], cwd="/vol/unseen")
    # ECONNABORTED: it had begun to wait when the connection was cut.
    return errno.ENOTCONN if e.value.code == errno.ECONNABORTED else e.value.code


def supervisor_log(share):
    with open(share.dir + "/log/supervisor.log") as f:
        return f.read()


def console(share):
    with open(share.dir + "/log/console.log", errors="replace") as f:
        return f.read()


def signal_server(share, sig):
    pid = share.box.pid_of("msb-volume")
    assert pid
    os.kill(pid, sig)
    return pid


def test_a_dead_server_is_enotconn():
    share = Share()
    try:
        (share.rw / "there").write_text("x")
        c = share.client()
        held = c.open("EXEC", argv=["/bin/sh", "-c", "exec 3</vol/there; echo open; read x; cat <&3"], flags=2)
        assert c.recv()[0] == "EXEC_STARTED"
        while c.recv()[0] != "DATA":
            pass
        signal_server(share, signal.SIGKILL)
        wait_for(lambda: "event=volumes-gone" in supervisor_log(share), lambda: supervisor_log(share))
        assert "was killed by signal 9" in supervisor_log(share) and "ENOTCONN" in supervisor_log(share)
        wait_for(lambda: "event=volumes_gone" in console(share), lambda: console(share))
        assert errors(share.client()) == errno.ENOTCONN
        assert errors(share.client(), "cwd") == errno.ENOTCONN
        # What was asked a moment ago is believed for a second, so: something new.
        out = share.sh("cat /vol/new /ro/new /vol/a/b/new 2>&1; echo > /tmp/local && cat /proc/mounts | wc -l; true")
        assert out.count("Transport endpoint is not connected") == 3
        # What was open is an error too, and no hang.
        last, _, err = c.finish(held, data=b"\n", credit=False)
        assert last["status"] == 1 and b"not connected" in err
        assert share.sh("echo alive") == "alive\n"
    finally:
        share.end()


def test_a_stopped_server_is_given_up():
    share = Share("--volume-timeout", "4")
    try:
        (share.rw / "there").write_text("x")
        assert share.sh("cat /vol/there") == "x"
        a, b, other = share.client(), share.client(), share.client()
        other.ping()
        pid = signal_server(share, signal.SIGSTOP)
        # A file that the kernel has not seen, so that it has to ask.
        stat = a.open("FILE_STAT", path="/vol/unseen")
        cwd = b.open("EXEC", argv=["/bin/pwd"], cwd="/vol/somewhere")
        # Everything else goes on meanwhile, also what needs the agent's files.
        for _ in range(5):
            assert other.exec(["/bin/echo", "x"])[1] == b"x\n"
            other.file("STAT", "/etc/passwd")
        assert other.metrics()["processes"] >= 2
        for client, channel in (a, stat), (b, cwd):
            with pytest.raises(wire.Error) as e:
                client.finish(channel, eof=False)
            # Who was waiting is told that the connection was cut.
            assert e.value.code in (errno.ECONNABORTED, errno.ENOTCONN)
        assert "does not answer" in console(share)
        os.kill(pid, signal.SIGCONT)
        assert errors(share.client()) == errno.ENOTCONN
        assert share.sh("echo alive") == "alive\n"
    finally:
        share.end()


def test_a_server_that_is_slow_is_not_given_up():
    share = Share("--volume-timeout", "60")
    try:
        (share.rw / "there").write_text("slow")
        c = share.client()
        assert share.sh("echo ready") == "ready\n"
        pid = signal_server(share, signal.SIGSTOP)
        channel = c.open("EXEC", argv=["/bin/cat", "/vol/there"])
        assert c.recv()[0] == "EXEC_STARTED"
        for _ in range(5):
            assert share.sh("pgrep -xf '/bin/cat /vol/there' > /tmp/pids; wc -l < /tmp/pids") == "1\n"
        os.kill(pid, signal.SIGCONT)
        last, out, _ = c.finish(channel, eof=False)
        assert (last["status"], out) == (0, b"slow")
    finally:
        share.end()


@pytest.mark.parametrize("sig", [signal.SIGSTOP, None])
def test_shutdown_ends(sig):
    """An orderly end, of a sandbox that is not thrown away, with programs that wait for a volume."""
    first = Share()
    try:
        with open(first.dir + "/config.json") as f:
            config = json.load(f)
        config["ephemeral"], config["name"] = False, "lasting"
        d = str(first.box.home) + "/lasting"
        os.mkdir(d)
        with open(d + "/config.json", "w") as f:
            json.dump(config, f)
        dirfd = os.open(d, os.O_RDONLY)
        fcntl.flock(dirfd, fcntl.LOCK_EX)
        ours, theirs = socket.socketpair()
        p = subprocess.Popen([MSB, "supervise", "--dir-fd", str(dirfd), "--owner-fd", str(theirs.fileno()), d],
                             pass_fds=(dirfd, theirs.fileno()), env=first.box.env)
        theirs.close()
        os.close(dirfd)
        wait_for(lambda: os.path.exists(d + "/run/ctl.sock"))
        c = wire.Client(d + "/run/ctl.sock")
        # One writes to the volume when it is asked to end.
        script = "trap 'echo saved > /vol/at-the-end; exit' TERM; echo on; while :; do sleep 0.1; done"
        c.open("EXEC", argv=["/bin/sh", "-c", script], cwd="/vol")
        while c.recv()[0] != "DATA":
            pass
        if sig:
            # The one that is not first's.
            server = next(int(q) for q in os.listdir("/proc") if q.isdigit() and
                          b"msb-volume\0" in (open(f"/proc/{q}/cmdline", "rb").read() if os.path.exists(f"/proc/{q}/cmdline") else b"")
                          and b"lasting" in open(f"/proc/{q}/cmdline", "rb").read())
            os.kill(server, sig)
            c.open("EXEC", argv=["/bin/cat", "/vol/never-seen"])
        start = time.monotonic()
        c.send("SANDBOX_STOP", 0, grace_ms=2000)
        p.wait(TIMEOUT)
        with open(d + "/log/supervisor.log") as f:
            log = f.read()
        assert p.returncode == 0 and "event=kill" not in log, log
        with open(d + "/log/console.log", errors="replace") as f:
            assert "file systems hang" not in f.read()
        if not sig:
            assert (first.rw / "at-the-end").read_text() == "saved\n"
            assert time.monotonic() - start < TIMEOUT / 2
        ours.close()
    finally:
        first.end()
