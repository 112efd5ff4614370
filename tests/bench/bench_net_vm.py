#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make bench-net: msb-net beside QEMU's own user network, in one run.

Two emulated machines (accel=tcg, one CPU) with the engine's arguments, the same kernel and the
same program as init (net_peer.c); one has QEMU's "-netdev stream" with msb-net behind it, the
other "-netdev user".  They are measured in turn, so that other work on this machine falls on
both, and medians are printed.  The guest's interface has the MTU that a sandbox gets, the 1500
of QEMU's network, and 1500 with msb-net as well.

  up, down           of a connection that the guest opens, MiB/s
  to, from           the same through a published port: what the host sends, what it gets
  round trip         one byte there and back on an open connection, us; both ways
  connections        connect, one byte there and back, close: so many a second; both ways

Beside each figure stands the processor time that QEMU and msb-net took together, for a MiB, an
exchange or a connection: what decides how fast it can be, and less at the mercy of other work.

Targets (docs/network.md): twice QEMU's throughput, at most 1.5 of its round trip, at least 0.7 of
its connections.  Benches are no tests: nothing fails when one is missed.
"""
import argparse
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys

from processes import cpu_ns, die_with_parent, tsc_khz

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("O", "build")
QEMU = "qemu-system-x86_64"
GUEST_PORT = 7000
MTU = 65520
TIMEOUT = 120
MAC = "02:00:00:00:00:0f"


def engine_cmdline():
    """What the engine tells the guest's kernel, taken from where it stands."""
    text = (ROOT / "src/engine/tcg.c").read_text()
    found = re.search(r'tcg_cmdline\[\] = ((?:\s*"[^"]*")+);', text)
    line = "".join(re.findall(r'"([^"]*)"', found[1]))
    khz = tsc_khz()
    if khz:
        line += f" tsc_early_khz={khz} tsc=reliable lpj={khz * 10}"
    return line


class Vm:
    """One machine; `netdev` is what its NIC is connected to."""

    def __init__(self, netdev, keep=(), memory_mib=512):
        self.console, theirs = socket.socketpair()
        self.console.settimeout(TIMEOUT)
        self.text = b""
        self.process = subprocess.Popen(
            [QEMU, "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
             "-M", "microvm,accel=tcg,acpi=off,rtc=on,isa-serial=off", "-cpu", engine_cpu(), "-smp", "1", "-m", str(memory_mib),
             "-global", "virtio-mmio.force-legacy=false", "-append", engine_cmdline(),
             "-kernel", str(BUILD / "guest/vmlinux"), "-initrd", str(BUILD / "tests/bench/net_init.cpio.gz"),
             "-device", "virtio-serial-device,max_ports=3",
             "-chardev", f"socket,id=console,fd={theirs.fileno()}", "-device", "virtconsole,chardev=console",
             "-object", "rng-builtin,id=rng", "-device", "virtio-rng-device,rng=rng",
             "-netdev", netdev, "-device", f"virtio-net-device,netdev=net,mac={MAC}"],
            stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno(), *keep], preexec_fn=die_with_parent)
        theirs.close()
        self.line("ready")

    def line(self, begins):
        while True:
            while b"\n" in self.text:
                line, self.text = self.text.split(b"\n", 1)
                line = line.decode(errors="replace").strip()
                if line.startswith("error"):
                    sys.exit(f"bench-net: in the guest: {line}")
                if line.startswith(begins):
                    return line
            part = self.console.recv(4096)
            if not part:
                sys.exit("bench-net: the machine ended")
            self.text += part

    def say(self, *words):
        self.console.sendall((" ".join(map(str, words)) + "\n").encode())

    def measure(self, kind, host, port, count):
        self.say(kind, host, port, count)
        return float(self.line("result").split()[1])

    def close(self):
        self.process.kill()
        self.process.wait()


class Ours:
    """A machine behind msb-net."""

    name, host = "msb-net", "10.0.2.4"

    def __init__(self, program):
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = listener.getsockname()[1]
        ours, theirs = socket.socketpair()
        self.net = subprocess.Popen(
            [program, "--frames-fd", str(ours.fileno()), "--scope", "any", "--log-level", "error",
             "--publish", f"{listener.fileno()}:tcp:{GUEST_PORT}"],
            pass_fds=[ours.fileno(), listener.fileno()], stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        self.vm = Vm(f"stream,id=net,addr.type=fd,addr.str={theirs.fileno()}", [theirs.fileno()])
        for s in (listener, ours, theirs):
            s.close()

    def pids(self):
        return self.vm.process.pid, self.net.pid

    def close(self):
        self.vm.close()
        self.net.wait(TIMEOUT)


class Theirs:
    """A machine behind QEMU's own user network."""

    name, host = "QEMU", "10.0.2.2"

    def __init__(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.vm = Vm(f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:{GUEST_PORT}")

    def pids(self):
        return (self.vm.process.pid,)

    def close(self):
        self.vm.close()


def engine_cpu():
    return re.search(r'engine_arg\(a, "(max[^"]*)"\)', (ROOT / "src/engine/tcg.c").read_text())[1]


class HostPeer:
    def __init__(self):
        self.program = str(BUILD / "tests/bench/net_peer")
        self.process = subprocess.Popen([self.program, "serve", "127.0.0.1"], stdout=subprocess.PIPE, text=True,
                                        preexec_fn=die_with_parent)
        self.port = int(self.process.stdout.readline().split()[1])

    def measure(self, kind, port, count):
        out = subprocess.run([self.program, kind, "127.0.0.1", str(port), str(count)], capture_output=True, text=True,
                             timeout=TIMEOUT).stdout
        if not out.startswith("result"):
            sys.exit(f"bench-net: on the host: {out}")
        return float(out.split()[1])

    def close(self):
        self.process.kill()
        self.process.wait()


# name, where it is measured, kind, count, unit, does more mean better, target as a ratio
ROWS = [
    ("up", "guest", "up", 32 << 20, "MiB/s", True, 2.0),
    ("down", "guest", "down", 32 << 20, "MiB/s", True, 2.0),
    ("to the published port", "host", "up", 32 << 20, "MiB/s", True, 2.0),
    ("from the published port", "host", "down", 32 << 20, "MiB/s", True, 2.0),
    ("round trip", "guest", "rr", 2000, "us", False, 1.5),
    ("round trip, published", "host", "rr", 2000, "us", False, 1.5),
    ("connections", "guest", "crr", 300, "/s", True, 0.7),
    ("connections, published", "host", "crr", 200, "/s", True, 0.7),
]


def one(machine, peer, row):
    """What was measured, and the processor time of a piece of it in us."""
    _, where, kind, count, *_ = row
    before = cpu_ns(*machine.pids())
    if where == "guest":
        got = machine.vm.measure(kind, machine.host, peer.port, count)
    else:
        got = peer.measure(kind, machine.port, count)
    return got, (cpu_ns(*machine.pids()) - before) / 1e3 / (count >> 20 if kind in ("up", "down") else count)


def run(rounds, small, rows):
    peer = HostPeer()
    ours, theirs = Ours(os.environ.get("MSB_NET", str(BUILD / "lib/microsandbox/msb-net"))), Theirs()
    results = {(name, row[0]): [] for name in ("ours", "same", "qemu") for row in rows}
    try:
        for n in range(rounds + 1):  # the first one warms up and does not count
            for row in rows:
                scaled = (*row[:3], row[3] // 8 if small or not n else row[3], *row[4:])
                for name, machine, mtu in (("ours", ours, MTU), ("qemu", theirs, 1500), ("same", ours, 1500)):
                    machine.vm.say("mtu", mtu)
                    got = one(machine, peer, scaled)
                    if n:
                        results[name, row[0]].append(got)
    finally:
        for x in (ours, theirs, peer):
            x.close()
    return {k: [statistics.median(x[i] for x in v) for i in (0, 1)] for k, v in results.items()}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("-n", type=int, default=5, help="rounds (default 5)")
    p.add_argument("--small", action="store_true", help="an eighth of the work")
    p.add_argument("--only", help="only rows whose name begins so")
    a = p.parse_args()
    rows = [r for r in ROWS if not a.only or r[0].startswith(a.only)]
    got = run(a.n, a.small, rows)
    print(f"{'':28}{'msb-net':>9}{'QEMU':>9}{'ratio':>7}  {'target':14}{'msb-net':>9}{'ratio':>7}   "
          f"{'CPU us':>8}{'QEMU':>8}{'ratio':>7}")
    print(f"{'MTU':28}{MTU:>9}{1500:>9}{'':23}{1500:>9}{'':7}   {MTU:>8}{1500:>8}")
    for name, _, _, _, unit, more, target in rows:
        (ours, ours_cpu), (qemu, qemu_cpu), (same, _) = (got[k, name] for k in ("ours", "qemu", "same"))
        ratio = ours / qemu
        met = ratio >= target if more else ratio <= target
        aim = f"{'>=' if more else '<='} {target}{'' if met else ' MISSED'}"
        print(f"{name + ', ' + unit:28}{ours:>9.1f}{qemu:>9.1f}{ratio:>7.2f}  {aim:14}{same:>9.1f}{same / qemu:>7.2f}   "
              f"{ours_cpu:>8.0f}{qemu_cpu:>8.0f}{ours_cpu / qemu_cpu:>7.2f}")


main()
