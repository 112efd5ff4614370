# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: our programs as a user runs them, and a look at what is left.

MSB_TEST_ENGINE names the engine that all of them use (default: tcg).  In the lab it is kvm.
"""
import glob
import http.server
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("O", "build")
MSB = str(BUILD / "bin/msb")
MSX = str(BUILD / "bin/msx")
ENGINE = os.environ.get("MSB_TEST_ENGINE", "tcg")
# The process that is the VM, and how to start one where Box.msx() is of no use.
VM_PROGRAM = {"tcg": "qemu-system-x86_64", "kvm": "msb-vmm"}[ENGINE]
MSX_ENGINE = [MSX, "--engine", ENGINE]
STORE = pathlib.Path(os.environ.get("MICROSANDBOX_HOME", os.path.expanduser("~/.microsandbox"))) / "images"

# A VM under emulation on a busy machine: generous, and only a hang gets there.
TIMEOUT = 500


class Box:
    """A MICROSANDBOX_HOME of its own that shares the machine's images."""

    def __init__(self, home):
        self.home = pathlib.Path(home)
        self.env = dict(os.environ, MICROSANDBOX_HOME=str(home))

    def msx(self, *args, stdin=b"", check=None, **kwargs):
        p = subprocess.run([*MSX_ENGINE, *args], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=self.env, timeout=TIMEOUT, **kwargs)
        if check is not None:
            assert p.returncode == check, (p.returncode, p.stdout, p.stderr)
        return p

    def msb(self, *args, **kwargs):
        return subprocess.run([MSB, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=self.env, timeout=TIMEOUT, **kwargs)

    def start(self, *args, **kwargs):
        """msx in the background, with pipes."""
        kwargs.setdefault("stdin", subprocess.PIPE)
        kwargs.setdefault("env", self.env)
        return subprocess.Popen([*MSX_ENGINE, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)

    def sandboxes(self):
        return sorted(glob.glob(str(self.home / "run/*")))

    def wait_sandbox(self):
        """Directory of the one running sandbox, once its supervisor listens."""
        return wait_for(lambda: next((d for d in self.sandboxes()
                                      if os.path.exists(d + "/run/ctl.sock")), None))

    def processes(self):
        """Processes of this home's sandboxes: {pid: command line}."""
        ids = [os.path.basename(d) for d in self.sandboxes()] + list(getattr(self, "seen_ids", []))
        found = {}
        for d in glob.glob("/proc/[0-9]*"):
            try:
                with open(d + "/cmdline", "rb") as f:
                    line = f.read().replace(b"\0", b" ").decode(errors="replace").strip()
                with open(d + "/stat") as f:
                    dead = f.read().rsplit(")", 1)[1].split()[0] == "Z"
            except OSError:
                continue
            if line and not dead and (str(self.home) in line or any(i in line for i in ids)):
                found[int(os.path.basename(d))] = line
        return found

    def remember(self):
        """Notes the running sandboxes, so that processes() finds theirs when the directories are gone."""
        self.seen_ids = [os.path.basename(d) for d in self.sandboxes()]

    def pid_of(self, what):
        """Pid of the process of this home whose program is `what`."""
        for pid, line in self.processes().items():
            if os.path.basename(line.split()[0]) == what or (what == "supervise" and " supervise " in line):
                return pid
        return None

    def assert_nothing_left(self):
        wait_for(lambda: not self.processes(), what=lambda: f"processes left: {self.processes()}")
        wait_for(lambda: not self.sandboxes(), what=lambda: f"directories left: {self.sandboxes()}")


def wait_for(probe, what=lambda: "timed out", seconds=60):
    """Waits for a condition of another process; its pace is not ours to know."""
    end = time.monotonic() + seconds
    while True:
        got = probe()
        if got:
            return got
        assert time.monotonic() < end, what()
        time.sleep(0.01)


def with_time_enough(attempt, reached, seconds=1):
    """attempt(limit) with time limits that grow until what comes before the limit could be done in it."""
    while not reached(result := attempt(seconds)) and seconds < TIMEOUT / 4:
        seconds *= 4
    return result


def make_home():
    home = tempfile.mkdtemp(prefix="msb-test-")
    os.symlink(STORE, os.path.join(home, "images"))
    return home


def certificate(folder):
    """A certificate of 127.0.0.1 and localhost that signs itself: (certificate, key)."""
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
                    "-keyout", key, "-out", cert], check=True, stderr=subprocess.DEVNULL)
    os.chmod(key, 0o600)
    return cert, key


@pytest.fixture
def box():
    b = Box(make_home())
    yield b
    for pid in b.processes():
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(b.home, ignore_errors=True)


@pytest.fixture(scope="module")
def sandbox():
    """One running python sandbox for a whole module: yields a factory of wire clients."""
    import wire

    b = Box(make_home())
    p = b.start("-q", "python", "-e", "/bin/cat")
    directory = b.wait_sandbox()
    clients = []

    def connect():
        clients.append(wire.Client(directory + "/run/ctl.sock"))
        return clients[-1]

    yield connect
    for c in clients:
        c.close()
    p.stdin.close()
    p.wait(TIMEOUT)
    b.assert_nothing_left()
    shutil.rmtree(b.home, ignore_errors=True)


@pytest.fixture
def listener():
    """A TCP port on the machine's loopback that accepts connections."""
    s = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            try:
                s.accept()[0].close()
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield s.getsockname()[1]
    s.shutdown(socket.SHUT_RDWR)
    s.close()


class Web:
    """An HTTP server on the machine's loopback, which the guest calls host.microsandbox.internal."""

    def __init__(self):
        web = self
        self.headers = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                web.headers.append(dict(self.headers))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.httpd.server_address[1]
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()

    def close(self):
        self.httpd.shutdown()
        self.httpd.server_close()


@pytest.fixture
def web():
    w = Web()
    yield w
    w.close()
