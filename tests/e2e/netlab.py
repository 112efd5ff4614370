# SPDX-License-Identifier: Apache-2.0
"""A small internet of network namespaces for tests of msb-net.

    guest --TAP-- bridge --socket-- msb-net in "host" --veth-- "world"

"guest" stands for the VM, "host" for the machine that runs it, and "world" for everything
else: all its servers' addresses are on its loopback.  Nothing leaves the machine: the
namespaces have no other link.  Namespaces have no names and vanish with the process.
"""
import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import tempfile
import threading

GUEST_MAC = "02:00:00:00:00:0f"
GUEST_IP = "10.0.2.15"
GATEWAY = "10.0.2.2"
HOST_ALIAS = "10.0.2.4"
MTU = 65520

HOST_PUBLIC = "198.51.100.1"  # the host's own address, a public one
HOST_LATER = "198.51.100.2"  # given to the host in the middle of a test
WORLD_GATEWAY = "198.51.100.254"
PUBLIC = "198.51.100.7"
DNS = "198.51.100.53"
OTHERS = {
    "private10": "10.9.8.7",
    "private172": "172.16.5.5",
    "private192": "192.168.77.7",
    "provider-nat": "100.64.3.3",
    "link-local": "169.254.3.3",
    "benchmark": "198.18.0.9",
    "metadata": "169.254.169.254",
    "metadata-ecs": "169.254.170.2",
    "metadata-azure": "168.63.129.16",
}

GUEST_IP6 = "fd6d:7362:6e74::f"
GATEWAY6 = "fd6d:7362:6e74::2"
HOST_PUBLIC6 = "2001:db8:1::1"
WORLD_GATEWAY6 = "2001:db8:1::fe"
PUBLIC6 = "2001:db8:7::7"
OTHERS6 = {
    "unique-local": "fd12:3456::7",
    "site-local": "fec0::7",
    "metadata": "fd00:ec2::254",
    "nat64-public": "64:ff9b::c633:6407",
    "nat64-private": "64:ff9b::a09:807",
    "nat64-metadata": "64:ff9b::a9fe:a9fe",
    "6to4": "2002:c633:6407::7",
    "teredo": "2001:0:1::7",
}

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *args):
    if getattr(_libc, name)(*args) < 0:
        n = ctypes.get_errno()
        raise OSError(n, os.strerror(n), name)


def why_not():
    """The reason why a lab cannot be had here, or None."""
    if os.geteuid() != 0:
        return "needs root: makes network namespaces and a TAP device"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    try:
        Netns().close()
    except OSError as e:
        return f"network namespaces are refused here: {e}"
    return None


class Netns:
    """A network namespace, held by a descriptor."""

    def __init__(self):
        with open("/proc/thread-self/ns/net", "rb") as own:
            _call("unshare", CLONE_NEWNET)
            try:
                self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            finally:
                _call("setns", own.fileno(), CLONE_NEWNET)
        self.ip("link", "set", "lo", "up")

    def close(self):
        os.close(self.fd)

    @contextlib.contextmanager
    def inside(self):
        """The calling thread is in the namespace; what it opens there stays there."""
        with open("/proc/thread-self/ns/net", "rb") as own:
            _call("setns", self.fd, CLONE_NEWNET)
            try:
                yield
            finally:
                _call("setns", own.fileno(), CLONE_NEWNET)

    def command(self, *cmd):
        return ["nsenter", f"--net=/proc/self/fd/{self.fd}", *cmd]

    def ip(self, *args):
        subprocess.run(self.command("ip", *args), check=True, pass_fds=[self.fd])

    def socket(self, kind=socket.SOCK_STREAM, family=socket.AF_INET):
        with self.inside():
            return socket.socket(family, kind)


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Server(threading.Thread):
    """A TCP server: one thread a connection, served by `serve(connection)`."""

    def __init__(self, ns, address, serve, port=0):
        super().__init__(daemon=True)
        self.sock = ns.socket(family=family(address))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((address, port))
        self.sock.listen(512)
        self.port = self.sock.getsockname()[1]
        self.serve = serve
        self.start()

    def run(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(c,), daemon=True).start()

    def _one(self, c):
        with c, contextlib.suppress(OSError):
            self.serve(c)

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


class UdpServer(threading.Thread):
    """Answers each datagram with what `answer(data)` returns: bytes, or a list of them."""

    def __init__(self, ns, address, answer, port=0):
        super().__init__(daemon=True)
        self.sock = ns.socket(socket.SOCK_DGRAM, family(address))
        self.sock.bind((address, port))
        self.port = self.sock.getsockname()[1]
        self.answer = answer
        self.seen = 0
        self.start()

    def run(self):
        while True:
            try:
                data, peer = self.sock.recvfrom(65536)
                if not data:
                    return
                self.seen += 1
                answer = self.answer(data)
                for part in answer if isinstance(answer, list) else [answer]:
                    self.sock.sendto(part, peer)
            except OSError:
                return

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.join(5)  # so that the port is free


def dns_answer(address):
    """An answer() for UdpServer: every name has the one address, RFC 1035."""

    def answer(query):
        head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
        end = query.index(b"\0", 12) + 5
        return head + query[12:end] + b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) \
            + socket.inet_aton(address)

    return answer


def dns_query(name):
    labels = b"".join(bytes([len(p)]) + p.encode() for p in name.split("."))
    return struct.pack(">HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


class Lab:
    """Host and world; guests and their msb-net are attached to it."""

    def __init__(self):
        self.host, self.world = Netns(), Netns()
        self._veth()
        self.host.ip("addr", "add", f"{HOST_PUBLIC}/24", "dev", "up0")
        self.host.ip("link", "set", "up0", "up")
        self.host.ip("route", "add", "default", "via", WORLD_GATEWAY)
        self.world.ip("addr", "add", f"{WORLD_GATEWAY}/24", "dev", "down0")
        self.world.ip("link", "set", "down0", "up")
        for a in (PUBLIC, DNS, *OTHERS.values()):
            self.world.ip("addr", "add", f"{a}/32", "dev", "lo")
        self.host.ip("route", "add", "198.51.100.0/25", "via", WORLD_GATEWAY)

        for ns, dev, a in ((self.host, "up0", HOST_PUBLIC6), (self.world, "down0", WORLD_GATEWAY6)):
            ns.ip("addr", "add", f"{a}/64", "dev", dev, "nodad")
        self.host.ip("-6", "route", "add", "default", "via", WORLD_GATEWAY6)
        for a in (PUBLIC6, *OTHERS6.values()):
            self.world.ip("addr", "add", f"{a}/128", "dev", "lo", "nodad")

    def _veth(self):
        # The peer is named by a process in its namespace, the most portable way.
        with self.world.inside():
            holder = subprocess.Popen(["sleep", "infinity"])
        try:
            self.host.ip("link", "add", "up0", "type", "veth", "peer", "name", "down0",
                         "netns", str(holder.pid))
        finally:
            holder.kill()
            holder.wait()

    def close(self):
        self.host.close()
        self.world.close()


class NetProcess:
    """msb-net in the host namespace, with its end of the frame socket."""

    def __init__(self, lab, program, scope, nameserver=DNS, extra=(), publish=(), fds=()):
        """publish: (bound socket, "tcp" or "udp", the guest's port); the sockets are closed here
        fds: descriptors that extra names"""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.frames = ours
        self.log = tempfile.TemporaryFile()
        with tempfile.NamedTemporaryFile("w", suffix=".resolv") as resolv:
            resolv.write(f"nameserver {nameserver}\n")
            resolv.flush()
            os.chmod(resolv.name, 0o644)
            self.process = subprocess.Popen(
                lab.host.command("unshare", "-m", "sh", "-c",
                                 'mount --bind "$0" /etc/resolv.conf && echo ready && exec "$@"', resolv.name,
                                 program, "--frames-fd", str(theirs.fileno()), "--scope", scope,
                                 "--control-fd", str(control.fileno()), "--name", "test", *extra,
                                 *(a for s, proto, port in publish
                                   for a in ("--publish", f"{s.fileno()}:{proto}:{port}"))),
                pass_fds=[lab.host.fd, theirs.fileno(), control.fileno(), *fds, *(s.fileno() for s, _, _ in publish)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=self.log)
            # The bind is made: the file's name is not needed any more.
            self.process.stdout.readline()
            self.process.stdout.close()
        theirs.close()
        control.close()
        for s, _, _ in publish:
            s.close()

    def set_policy(self, *lines, head="policy 1\n"):
        """Other rules from now on. Returns what msb-net says to them."""
        self.control.settimeout(10)
        self.control.send((head + "\n".join(lines)).encode())
        return self.control.recv(4096).decode()

    def log_text(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def send(self, frame):
        self.frames.sendall(struct.pack(">I", len(frame)) + frame)

    def receive(self, timeout=10):
        """The next frame, or None at the end."""
        self.frames.settimeout(timeout)
        head = self._exactly(4)
        return None if head is None else self._exactly(struct.unpack(">I", head)[0])

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.frames.recv(n - len(data))
            if not part:
                return None
            data += part
        return data

    def end(self, timeout=10):
        """Closes the VM's end. Returns the exit status."""
        self.frames.shutdown(socket.SHUT_RDWR)  # also where a thread still waits on it
        self.frames.close()
        return self.process.wait(timeout)

    def close(self):
        self.frames.close()
        self.control.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()


class Guest:
    """A namespace whose only link is a TAP device joined to an msb-net."""

    def __init__(self, net, mtu=MTU):
        self.ns = Netns()
        with self.ns.inside():
            self.tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(self.tap, TUNSETIFF, struct.pack("16sH22x", b"eth0", IFF_TAP | IFF_NO_PI))
        self.ns.ip("link", "set", "eth0", "address", GUEST_MAC, "mtu", str(mtu), "up")
        self.ns.ip("addr", "add", f"{GUEST_IP}/24", "dev", "eth0")
        self.ns.ip("route", "add", "default", "via", GATEWAY)
        self.ns.ip("addr", "add", f"{GUEST_IP6}/64", "dev", "eth0", "nodad")
        self.ns.ip("-6", "route", "add", "default", "via", GATEWAY6)
        self.stop_r, self.stop_w = os.pipe()
        self.threads = [threading.Thread(target=f, args=(net.frames,), daemon=True)
                        for f in (self._up, self._down)]
        for t in self.threads:
            t.start()

    def _wait(self, fd):
        readable, _, _ = select.select([fd, self.stop_r], [], [])
        return self.stop_r not in readable

    def _up(self, frames):
        with contextlib.suppress(OSError, ValueError):  # ValueError: the socket was closed
            while self._wait(self.tap):
                frame = os.read(self.tap, 65536 + 64)
                frames.sendall(struct.pack(">I", len(frame)) + frame)

    def _down(self, frames):
        data = bytearray()
        with contextlib.suppress(OSError, ValueError):
            while self._wait(frames):
                part = frames.recv(262144)
                if not part:
                    return
                data += part
                at = 0
                while len(data) - at >= 4:
                    n = int.from_bytes(data[at:at + 4], "big")
                    if len(data) - at - 4 < n:
                        break
                    os.write(self.tap, data[at + 4:at + 4 + n])
                    at += 4 + n
                del data[:at]

    def close(self):
        os.write(self.stop_w, b"x")
        for t in self.threads:
            t.join()
        for fd in (self.tap, self.stop_r, self.stop_w):
            os.close(fd)
        self.ns.close()

    def tcp(self, address, port, timeout=10):
        s = self.ns.socket(family=family(address))
        s.settimeout(timeout)
        try:
            s.connect((address, port))
        except BaseException:
            s.close()
            raise
        return s

    def udp(self, address, port, data, timeout=10):
        """Sends a datagram and returns the answer."""
        with self.ns.socket(socket.SOCK_DGRAM, family(address)) as s:
            s.settimeout(timeout)
            s.connect((address, port))
            s.send(data)
            return s.recv(65536)
