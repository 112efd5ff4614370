# SPDX-License-Identifier: Apache-2.0
"""A project of its own for a test: a directory with a Sandboxfile, and msb in it."""
import json
import os
import pathlib
import signal
import subprocess

from box import ENGINE, MSB, TIMEOUT, Box, wait_for


class Project(Box):
    def __init__(self, home, directory, sandboxes):
        super().__init__(home)
        self.dir = pathlib.Path(directory)
        self.write(sandboxes)

    def write(self, sandboxes):
        """JSON is YAML too."""
        (self.dir / "Sandboxfile").write_text(json.dumps({"sandboxes": sandboxes}))

    def argv(self, verb, *args):
        engine = ["--engine", ENGINE, "--boot-timeout", str(TIMEOUT)] if verb in ("run", "shell", "up", "apply", "restart", "exec") else []
        return [MSB, verb, "-f", str(self.dir), *engine, *args]

    def msb(self, verb, *args, stdin=b"", check=None, **kwargs):
        p = subprocess.run(self.argv(verb, *args), input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=self.env, timeout=TIMEOUT, **kwargs)
        if check is not None:
            assert p.returncode == check, (p.returncode, p.stdout, p.stderr)
        return p

    def run(self, *args, **kwargs):
        kwargs.setdefault("check", 0)
        return self.msb("run", "-q", *args, **kwargs).stdout

    def popen(self, verb, *args, **kwargs):
        kwargs.setdefault("stdin", subprocess.PIPE)
        return subprocess.Popen(self.argv(verb, *args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env,
                                **kwargs)

    def menv(self, name):
        return self.dir / "menv" / name

    def state(self, name):
        return json.loads((self.menv(name) / "state.json").read_text())

    def processes(self):
        """Processes that have the project's, or the home's, directory on their command line; and their children."""
        found, children = {}, {}
        for d in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                line = (d / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                stat = (d / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if stat[0] == "Z" or not line:
                continue
            if str(self.dir) in line or str(self.home) in line:
                found[int(d.name)] = line
            children.setdefault(int(stat[1]), {})[int(d.name)] = line
        for pid in list(found):
            todo = [pid]
            while todo:
                for child, line in children.get(todo.pop(), {}).items():
                    if child != os.getpid() and child not in found:
                        found[child] = line
                        todo.append(child)
        return found

    def wait_nothing_runs(self):
        wait_for(lambda: not self.processes(), what=lambda: f"processes left: {self.processes()}", seconds=TIMEOUT)

    def fsck(self, name):
        p = subprocess.run(["/sbin/e2fsck", "-fn", str(self.menv(name) / "upper.ext4")], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT)
        assert p.returncode == 0, p.stdout.decode()

    def kill_all(self):
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
