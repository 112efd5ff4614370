# SPDX-License-Identifier: Apache-2.0
"""msx at a terminal: prompts, keys, window size, and a terminal that is left as it was."""
import os
import shutil
import signal
import subprocess
import time

import pytest

from conftest import MSX_ENGINE, TIMEOUT, VM_PROGRAM, wait_for
from pty_program import PtyProgram


class Terminal(PtyProgram):
    """msx on a pseudo terminal."""

    def __init__(self, box, *args, rows=30, cols=100):
        super().__init__([*MSX_ENGINE, *args], dict(box.env, TERM="xterm"), rows, cols)


def test_python_prompt(box):
    t = Terminal(box, "python")
    t.expect(r">>> ")
    t.send("6 * 7\r")
    t.expect(r"\r\n42\r\n")
    t.send("exit(5)\r")
    assert t.finish() == 5
    box.assert_nothing_left()


def test_node_prompt(box):
    t = Terminal(box, "node")
    t.expect(r"> ")
    t.send("6 * 7\r")
    t.expect("42")
    t.send(".exit\r")
    assert t.finish() == 0


def test_control_c_interrupts_the_program_not_us(box):
    t = Terminal(box, "-q", "python")
    t.expect(r">>> ")
    # At its prompt Python may miss an interrupt that comes just before it waits for keys.
    t.send("import time; print('g' + 'o'); time.sleep(10 ** 6)\r")
    t.expect("go\r\n")
    t.send("\x03")
    t.expect("KeyboardInterrupt")
    t.expect(r">>> ")
    t.send("\x04")
    assert t.finish() == 130  # Python's own way of saying that it saw an interrupt


def test_window_size_is_passed_and_followed(box):
    t = Terminal(box, "-q", "python~shell", rows=31, cols=101)
    t.expect(r"[#$] ")
    t.send("stty size\r")
    t.expect("31 101")
    t.resize(45, 133)
    t.send("while test \"$(stty size)\" != '45 133'; do :; done; echo seen-$((40+2))\r")
    t.expect("seen-42")
    t.send("echo $TERM; exit 3\r")
    t.expect("xterm")
    assert t.finish() == 3


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGHUP])
def test_terminal_is_put_back_when_we_are_asked_to_end(box, sig):
    t = Terminal(box, "-q", "python~shell")
    t.expect(r"[#$] ")
    box.remember()
    t.p.send_signal(sig)
    t.p.send_signal(sig)
    assert t.finish() == 128 + sig
    box.assert_nothing_left()


def test_terminal_is_put_back_when_the_vm_dies(box):
    t = Terminal(box, "-q", "python~shell")
    t.expect(r"[#$] ")
    box.remember()
    os.kill(wait_for(lambda: box.pid_of(VM_PROGRAM)), signal.SIGKILL)
    t.expect("error: the VM was killed")
    assert t.finish() == 125
    box.assert_nothing_left()


def test_job_control_works_inside(box):
    t = Terminal(box, "-q", "python", "-e", "/bin/bash")
    t.expect(r"[#$] ")
    t.send("echo now-$((1+1)); cat\r")
    t.expect("now-2\r\n")
    t.send("hello-there\r")
    t.expect("hello-there\r\nhello-there")
    t.send("\x1a")
    t.expect("Stopped")
    t.send("kill %1; wait; exit 0\r")
    assert t.finish() == 0


def test_no_tty_at_a_terminal(box):
    t = Terminal(box, "-q", "--no-tty", "python", "--", "-c", "import sys; print('tty', sys.stdin.isatty())")
    t.expect("tty False")
    assert t.finish() == 0


def test_progress_is_shown_on_a_terminal_and_erased(box):
    t = Terminal(box, "python", "--", "-c", "print('done')")
    t.expect("done")
    t.finish()


@pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")
def test_in_tmux(box):
    """As a person sees it: the prompt on a screen, keys typed into it."""
    name = f"msb-{os.getpid()}"
    tmux = lambda *a: subprocess.run(["tmux", "-L", name, *a], env=box.env, stdout=subprocess.PIPE, check=True,
                                     text=True).stdout
    tmux("new-session", "-d", "-x", "90", "-y", "25", f"script -qc '{' '.join(MSX_ENGINE)} python' /dev/null; cat")
    try:
        screen = lambda: tmux("capture-pane", "-p")
        wait_for(lambda: ">>> " in screen() or screen().rstrip().endswith(">>>"), screen, TIMEOUT)
        tmux("send-keys", "import os; os.get_terminal_size()", "Enter")
        wait_for(lambda: "columns=90, lines=25" in screen().replace("\n", ""), screen)
        tmux("send-keys", "exit()", "Enter")
        wait_for(lambda: not box.sandboxes(), screen)
    finally:
        tmux("kill-server")
