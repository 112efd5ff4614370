# SPDX-License-Identifier: Apache-2.0
"""Whatever ends a sandbox, nothing of it is left: processes, directories, sockets."""
import os
import signal
import subprocess

import pytest

from conftest import MSX_ENGINE, VM_PROGRAM, wait_for

SPIN = ("-q", "python", "--", "-c", "print('up', flush=True)\nwhile True: pass")
# Ignores every polite signal.
STUBBORN = ("-q", "python", "--", "-c",
            "import signal, time\nfor s in (1, 2, 3, 15): signal.signal(s, signal.SIG_IGN)\n"
            "print('up', flush=True)\nwhile True: time.sleep(1)")


def start_up(box, args=SPIN, **kwargs):
    p = box.start(*args, **kwargs)
    assert p.stdout.readline() == b"up\n", p.stderr.read()
    box.remember()
    return p


def finish(box, p):
    p.communicate(timeout=120)
    box.assert_nothing_left()
    return p.returncode


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_to_msx(box, sig):
    p = start_up(box)
    p.send_signal(sig)
    assert finish(box, p) == 128 + sig if sig != signal.SIGINT else finish(box, p) in (1, 130)


def test_a_stubborn_command_is_given_up_on(box):
    p = start_up(box, STUBBORN)
    p.send_signal(signal.SIGTERM)
    p.send_signal(signal.SIGTERM)
    assert finish(box, p) == 143


def test_three_interrupts_end_it(box):
    p = start_up(box, STUBBORN)
    for _ in range(3):
        p.send_signal(signal.SIGINT)
        # Signals of one kind do not queue: each has to be taken before the next.
        wait_for(lambda: not int(status_field(p.pid, "ShdPnd"), 16) & 2 or p.poll() is not None)
    assert finish(box, p) == 130


def status_field(pid, name):
    try:
        with open(f"/proc/{pid}/status") as f:
            for line in f:
                if line.startswith(name + ":"):
                    return line.split()[1]
    except OSError:
        pass
    return "0"


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_signal_where_it_was_inherited_as_ignored(box, sig):
    p = start_up(box, preexec_fn=lambda: signal.signal(sig, signal.SIG_IGN))
    p.send_signal(sig)
    assert finish(box, p) != 0


def test_sigint_ignored_does_not_reach_the_guest(box):
    """A command in the sandbox starts with default actions, whatever we inherited."""
    p = box.start("-q", "python", "--", "-c", "import signal; print(signal.getsignal(2) is signal.SIG_IGN)",
                  preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert p.communicate(timeout=120)[0] == b"False\n"


def test_kill_of_msx(box):
    p = start_up(box)
    p.kill()
    finish(box, p)


@pytest.mark.parametrize("victim", ["supervise", VM_PROGRAM, "msb-net"])
def test_kill_of_a_part(box, victim):
    p = start_up(box)
    os.kill(wait_for(lambda: box.pid_of(victim)), signal.SIGKILL)
    out, err = p.communicate(timeout=120)
    assert p.returncode == 125
    assert err.count(b"\n") == 1 and b"error" in err, err
    box.assert_nothing_left()


def test_kill_of_msx_and_supervisor_is_swept_by_the_next(box):
    p = start_up(box)
    supervisor = wait_for(lambda: box.pid_of("supervise"))
    os.kill(supervisor, signal.SIGSTOP)
    p.kill()
    p.wait()
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: not box.processes(), what=lambda: str(box.processes()))
    assert box.sandboxes()
    box.msx("-q", "python", "-e", "/bin/true", check=0)
    box.assert_nothing_left()


def test_kill_while_booting(box):
    p = box.start(*SPIN)
    box.wait_sandbox()
    box.remember()
    p.send_signal(signal.SIGTERM)
    assert finish(box, p) == 143


def test_timeout_command(box):
    p = subprocess.run(["timeout", "20", *MSX_ENGINE, *SPIN], env=box.env, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, timeout=120)
    assert p.returncode == 124 and p.stdout == b"up\n"
    assert not box.processes() and not box.sandboxes()


def test_no_descriptor_of_ours_reaches_the_vm(box):
    r, w = os.pipe()
    os.set_inheritable(w, True)
    p = start_up(box, pass_fds=(w,))
    os.close(w)
    # If anything but msx itself held the pipe, it would stay open.
    mine = os.readlink(f"/proc/self/fd/{r}")
    for pid in box.processes():
        if pid == p.pid:
            continue
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                assert os.readlink(f"/proc/{pid}/fd/{fd}") != mine
            except FileNotFoundError:
                pass
    os.close(r)
    p.terminate()
    finish(box, p)
