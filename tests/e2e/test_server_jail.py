# SPDX-License-Identifier: Apache-2.0
"""Where user namespaces are refused: the server says so, and --jail=reduced is a choice."""
import subprocess

import pytest

from conftest import MSB, TIMEOUT
from server_client import Server, texts

# A user namespace in which there can be no other one, as a container's policy has it.
REFUSING = ["unshare", "--user", "--map-root-user", "sh", "-c",
            'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', "sh"]


def test_a_server_that_could_jail_nothing_does_not_start(box):
    p = subprocess.run([*REFUSING, MSB, "server", "start", "--dev", "--port", "0"], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=box.env, timeout=TIMEOUT)
    assert p.returncode == 125 and p.stdout == b""
    text = p.stderr.decode()
    # The reason, the remedy, and the choice.
    assert "user namespaces are switched off" in text and "user.max_user_namespaces" in text
    assert "--jail=reduced" in text
    assert "event=start" not in text
    box.assert_nothing_left()


@pytest.fixture(scope="module")
def reduced():
    s = Server("--jail=reduced", prefix=REFUSING)
    yield s
    assert s.stop() == 0, s.log()
    s.box.assert_nothing_left()
    s.close()


def test_a_reduced_jail_runs_sandboxes_and_is_said(reduced):
    reduced.start("py")
    assert texts(reduced.run("py", "1+1")) == ["2"]
    log = reduced.log()
    assert "event=jail-reduced" in log and "jail=reduced" in log


def test_what_is_left_of_a_reduced_jail(reduced):
    with open("/proc/{0}/task/{0}/children".format(reduced.supervisor_pid("py"))) as f:
        children = f.read().split()
    assert len(children) == 2  # the VM and msb-net
    for pid in children:
        with open(f"/proc/{pid}/status") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
        for kind in "CapInh", "CapPrm", "CapEff", "CapAmb":
            assert int(status[kind], 16) == 0, (pid, kind)


def test_a_mode_that_is_none(box):
    p = box.msb("server", "start", "--dev", "--port", "0", "--jail", "none")
    assert p.returncode == 2 and b"use one of full, reduced" in p.stderr
