#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Figures of msb-net alone, without a VM: medians, as a table.  Needs root.

The guest is a namespace behind a TAP device (tests/e2e/netlab.py); the bridge between the
device and msb-net is this program, so it is a floor of what msb-net can do.
"""
import os
import pathlib
import socket
import statistics
import struct
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
import netlab  # noqa: E402

MSB_NET = str(ROOT / os.environ.get("O", "build") / "lib/microsandbox/msb-net")
MIB = 1 << 20
ROUNDS = 3

# The other side, in a process of its own so that it does not share our interpreter lock.
# First byte of a connection: u(p), d(own), e(cho).
SERVER = r"""
import socket, sys, threading
listener, mib = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
def serve(c):
    kind = c.recv(1)
    if kind == b"u":
        buf = bytearray(1 << 20)
        while c.recv_into(buf):
            pass
        c.sendall(b"k")
    elif kind == b"d":
        data = bytes(1 << 20)
        for _ in range(mib):
            c.sendall(data)
    elif kind == b"e":
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := c.recv(100):
            c.sendall(data)
    c.close()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


def pss_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def timed(fn):
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def upload(guest, port, mib):
    data = bytes(MIB)
    with guest.tcp(netlab.PUBLIC, port, 60) as s:
        s.sendall(b"u")
        for _ in range(mib):
            s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        assert s.recv(1) == b"k"


def download(guest, port, mib):
    buf, got = bytearray(MIB), 0
    with guest.tcp(netlab.PUBLIC, port, 60) as s:
        s.sendall(b"d")
        while n := s.recv_into(buf):
            got += n
    assert got == mib * MIB


def round_trips(guest, port, count):
    times = []
    with guest.tcp(netlab.PUBLIC, port, 60) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.sendall(b"e")
        for _ in range(count):
            times.append(timed(lambda: (s.sendall(b"x"), s.recv(1))))
    return statistics.median(times)


def bench_mtu(lab, mtu, mib):
    net = netlab.NetProcess(lab, MSB_NET, "public")
    guest = netlab.Guest(net, mtu)
    listener = lab.world.socket()
    listener.bind((netlab.PUBLIC, 0))
    listener.listen(500)
    port, fd = listener.getsockname()[1], listener.fileno()
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(fd), str(mib)], pass_fds=[fd])
    rows = [("round trip, us", round_trips(guest, port, 2000) * 1e6)]
    rows.append(("PSS with one connection, KiB", pss_kib(net.process.pid)))
    for name, move in (("up, MiB/s", upload), ("down, MiB/s", download)):
        rows.append((name, mib / statistics.median(timed(lambda: move(guest, port, mib))
                                                   for _ in range(ROUNDS))))
    rows.append(("connections/s", 500 / timed(lambda: [guest.tcp(netlab.PUBLIC, port).close()
                                                       for _ in range(500)])))
    rows.append(("PSS after 500 more, KiB", pss_kib(net.process.pid)))
    server.kill()
    server.wait()
    listener.close()
    guest.close()
    net.close()
    return rows


def start_ms():
    """exec() to the first answered frame, without the jail."""
    mac = bytes.fromhex(netlab.GUEST_MAC.replace(":", ""))
    ip, gateway = map(socket.inet_aton, (netlab.GUEST_IP, netlab.GATEWAY))
    arp = b"\xff" * 6 + mac + b"\x08\x06" + struct.pack(">HHBBH", 1, 0x800, 6, 4, 1) + mac + ip \
        + bytes(6) + gateway
    ours, theirs = socket.socketpair()
    start = time.perf_counter()
    p = subprocess.Popen([MSB_NET, "--frames-fd", str(theirs.fileno())], pass_fds=[theirs.fileno()],
                         stderr=subprocess.DEVNULL)
    ours.sendall(struct.pack(">I", len(arp)) + arp)
    assert ours.recv(100)
    took = time.perf_counter() - start
    ours.close()
    theirs.close()
    p.wait()
    return took * 1e3


def main():
    if reason := netlab.why_not():
        sys.exit(f"bench_net: {reason}")
    lab = netlab.Lab()
    large, small = bench_mtu(lab, netlab.MTU, 500), bench_mtu(lab, 1500, 100)
    print(f"{'msb-net':32}{'MTU ' + str(netlab.MTU):>12}{'MTU 1500':>12}")
    for (name, a), (_, b) in zip(large, small):
        print(f"{name:32}{a:12.0f}{b:12.0f}")
    print(f"{'start to first answer, ms':32}{statistics.median(start_ms() for _ in range(21)):12.1f}")


main()
