# SPDX-License-Identifier: Apache-2.0
"""A program on a pseudo terminal, which is its controlling one, and what it shows there."""
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

from conftest import TIMEOUT


class PtyProgram:
    def __init__(self, command, env, rows=30, cols=100):
        self.master, self.slave = pty.openpty()
        self.resize(rows, cols)
        self.before = termios.tcgetattr(self.slave)
        self.p = subprocess.Popen([str(c) for c in command], stdin=self.slave, stdout=self.slave, stderr=self.slave, env=env,
                                  start_new_session=True,
                                  preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.text = ""

    def resize(self, rows, cols):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def send(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern, seconds=TIMEOUT):
        """Reads on until the text since the last match holds the pattern."""
        end = time.monotonic() + seconds
        while not (m := re.search(pattern, self.text)):
            left = end - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.text!r}"
            if select.select([self.master], [], [], min(left, 1))[0]:
                try:
                    self.text += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"terminal closed without {pattern!r}: {self.text!r}")
            elif self.p.poll() is not None:
                raise AssertionError(f"ended with {self.p.returncode} without {pattern!r}: {self.text!r}")
        self.text = self.text[m.end():]
        return m

    def finish(self):
        status = self.p.wait(TIMEOUT)
        assert termios.tcgetattr(self.slave) == self.before, "the terminal was not put back"
        os.close(self.master)
        os.close(self.slave)
        return status
