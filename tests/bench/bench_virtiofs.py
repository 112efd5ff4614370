#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A volume beside QEMU's virtiofsd, in one run: the same program in two emulated machines (accel=tcg) of one CPU.

  bench_virtiofs.py [--mib N] [--files N] [--rounds N]

One is a sandbox with a volume.  The other has what virtio-fs needs and our kernel and engine do not have: Debian's cloud
kernel (apt-get download, kept in the build directory), a q35 machine with vhost-user-fs-pci, and memory that virtiofsd
shares.  The row "memory" copies to and from a tmpfs: how fast the two machines are without any file server.  virtiofsd
has to be started by root.

They are measured in turn and medians printed.  A ratio above 1: the volume is faster.  Beside it stands the processor time
of VM and server for one MiB or one file; there a ratio below 1 is the better one.
"""
import argparse
import contextlib
import glob
import importlib.machinery
import importlib.util
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("O", "build")
sys.path.insert(0, str(ROOT / "tests/e2e"))

from box import MSX, Box, make_home  # noqa: E402
from processes import cpu_ns, die_with_parent, tsc_khz  # noqa: E402

QEMU = "qemu-system-x86_64"
DAEMON = "/usr/lib/qemu/virtiofsd"
MEMORY = 512
TIMEOUT = 300
# What is measured, in the order in which each round does it: (command, title, unit).
PHASES = (("memory", "memory", "MiB"), ("write", "write and fsync", "MiB"), ("read", "read", "MiB"), ("make", "make files of 1000 bytes", "files"),
          ("look", "read them", "files"), ("remove", "remove them", "files"))


def fail(text):
    sys.exit(f"bench-virtiofs: {text}")


def load_lab():
    """tools/lab, which knows how to boot Debian's kernel."""
    loader = importlib.machinery.SourceFileLoader("lab", str(ROOT / "tools/lab"))
    lab = importlib.util.module_from_spec(importlib.util.spec_from_loader("lab", loader))
    loader.exec_module(lab)
    lab.MODULES = ["virtio_pci", "virtio_console", "virtiofs"]
    return lab


def debian_kernel(lab):
    """(kernel, initramfs), made once."""
    folder = BUILD / "bench/debian"
    kernel, initramfs, init = folder / "vmlinuz", folder / "initramfs", BUILD / "tests/bench/volume_init"
    if not kernel.exists():
        shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryDirectory() as d:
            try:
                text = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], check=True, stdout=subprocess.PIPE, text=True).stdout
                package = re.search(r"Depends: (linux-image-\S+)", text)[1]
                subprocess.run(["apt-get", "download", "-qq", package], cwd=d, check=True, stderr=subprocess.DEVNULL)
                subprocess.run(["dpkg-deb", "-x", *glob.glob(d + "/*.deb"), d + "/x"], check=True)
            except (OSError, subprocess.CalledProcessError, TypeError) as e:
                fail(f"Debian's cloud kernel is not to be had: {e}")
            (folder / "modules").mkdir(parents=True)
            for i, path in enumerate(lab.load_order(d + "/x/lib/modules")):
                shutil.copy(path, folder / f"modules/{i:02}-{os.path.basename(path)}")
            shutil.copy(glob.glob(d + "/x/boot/vmlinuz-*")[0], kernel)
    lab.write_initramfs(initramfs, init, folder / "modules")
    return str(kernel), str(initramfs)


class Side:
    """A machine that runs tests/bench/volume_peer.c; `send` and `lines` are its input and output."""

    def result(self, begins):
        for line in self.lines:
            line = line.decode(errors="replace").strip()
            if line.startswith("error"):
                fail(f"{self.name}: {line}")
            if line.startswith(begins):
                return line
        return fail(f"{self.name}: the machine ended")

    def measure(self, what, n):
        before = cpu_ns(*self.pids())
        self.send(f"{what} {n}\n".encode())
        seconds = float(self.result("result").split()[1])
        return n / seconds, (cpu_ns(*self.pids()) - before) / 1e6 / n


class Volume(Side):
    name = "the volume"

    def __init__(self, folder):
        self.box = Box(make_home())
        self.process = subprocess.Popen(
            [MSX, "-q", "--engine", "tcg", "--memory", str(MEMORY), "-v", f"{folder}:/v",
             "-v", f"{BUILD / 'tests/bench'}:/bench:ro", "--tmpfs", "/scratch", "python", "-e", "/bench/volume_init", "--", "/v"],
            env=self.box.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        self.lines = self.process.stdout
        self.result("ready")

    def send(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def pids(self):
        return self.box.pid_of(QEMU), self.box.pid_of("msb-volume")

    def close(self):
        self.process.stdin.close()
        self.process.wait(TIMEOUT)
        shutil.rmtree(self.box.home, ignore_errors=True)


class Virtiofs(Side):
    name = "virtiofsd"

    def __init__(self, folder, state):
        path, lab = f"{state}/socket", load_lab()
        kernel, initramfs = debian_kernel(lab)
        with open(f"{state}/log", "wb") as log:
            self.daemon = subprocess.Popen([DAEMON, f"--socket-path={path}", "-o", f"source={folder}", "-o", "cache=auto", "-f"],
                                           stdout=log, stderr=log, preexec_fn=die_with_parent)
        while not os.path.exists(path):
            if self.daemon.poll() is not None:
                fail(f"virtiofsd does not start: {pathlib.Path(f'{state}/log').read_text().strip()}")
            time.sleep(0.01)
        self.console, theirs = socket.socketpair()
        self.console.settimeout(TIMEOUT)
        khz = tsc_khz()
        line = lab.CMDLINE.replace("console=ttyS0", "console=hvc0") + (f" tsc_early_khz={khz} lpj={khz * 4}" if khz else "")
        self.vm = subprocess.Popen(
            [QEMU, "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
             "-object", f"memory-backend-memfd,id=ram,size={MEMORY}M,share=on", "-M", "q35,accel=tcg,memory-backend=ram",
             "-cpu", lab.CPU, "-smp", "1", "-m", str(MEMORY), "-append", line, "-kernel", kernel, "-initrd", initramfs,
             "-device", "virtio-serial-pci,max_ports=3",
             "-chardev", f"socket,id=console,fd={theirs.fileno()}", "-device", "virtconsole,chardev=console",
             "-chardev", f"socket,id=fs,path={path}", "-device", "vhost-user-fs-pci,chardev=fs,tag=bench"],
            stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], preexec_fn=die_with_parent)
        theirs.close()
        self.lines = self.console.makefile("rb")
        self.result("ready")

    def send(self, data):
        self.console.sendall(data)

    def pids(self):
        # It forks: the child in the jail is the one that works.
        children = pathlib.Path(f"/proc/{self.daemon.pid}/task/{self.daemon.pid}/children").read_text().split()
        return self.vm.pid, self.daemon.pid, *map(int, children)

    def close(self):
        for p in self.vm, self.daemon:
            p.kill()
            p.wait(TIMEOUT)


def check():
    """Ends it where there is nothing to compare with; that is no failure."""
    missing = None
    if not shutil.which(QEMU):
        missing = f"{QEMU} is missing"
    elif not os.access(DAEMON, os.X_OK):
        missing = f"{DAEMON} is not there (Debian: qemu-system-common of QEMU 7.2)"
    elif os.geteuid():
        missing = "virtiofsd has to be started by root"
    if missing:
        print(f"bench-virtiofs: not compared with virtiofsd: {missing}")
        sys.exit(0)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--mib", type=int, default=128)
    p.add_argument("--files", type=int, default=300)
    p.add_argument("--rounds", type=int, default=5)
    a = p.parse_args()
    check()
    figures = {}
    with tempfile.TemporaryDirectory() as d, contextlib.ExitStack() as stack:
        for name in "volume", "virtiofs", "state":
            os.mkdir(f"{d}/{name}")
        volume = Volume(f"{d}/volume")
        stack.callback(volume.close)
        virtiofs = Virtiofs(f"{d}/virtiofs", f"{d}/state")
        stack.callback(virtiofs.close)
        sides = volume, virtiofs
        for turn in range(a.rounds + 1):  # the first one fills the translator's cache
            for what, _, unit in PHASES:
                for side in sides[::-1] if turn % 2 else sides:
                    got = side.measure(what, a.mib if unit == "MiB" else a.files)
                    if turn:
                        figures.setdefault((what, side.name), []).append(got)
    print(f"{'medians of ' + str(a.rounds):28}{'volume':>15}{'virtiofsd':>15}{'ratio':>7}{'cpu ms':>9}{'virtiofsd':>11}{'ratio':>7}")
    for what, title, unit in PHASES:
        (ours, our_cpu), (theirs, their_cpu) = ([statistics.median(x) for x in zip(*figures[what, s.name])] for s in sides)
        print(f"{title:28}{ours:9.1f} {unit:>3}/s{theirs:9.1f} {unit:>3}/s{ours / theirs:7.2f}{our_cpu:9.2f}{their_cpu:11.2f}"
              f"{our_cpu / their_cpu:7.2f}")


main()
