# SPDX-License-Identifier: Apache-2.0
"""A bare VM in the lab: our VMM, or QEMU with accel=kvm, with the same kernel and the same devices.

Started without supervisor and jail, by the VMM's own command line, so that a test sees the
console and the ports themselves.
"""
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/e2e"))
import wire  # noqa: E402

PARTS = ROOT / "build/lib/microsandbox"
MSB_VMM = str(PARTS / "msb-vmm")
QEMU = "/usr/bin/qemu-system-x86_64"
VMLINUX = str(PARTS / "vmlinux")
INITRAMFS = str(PARTS / "initramfs.cpio.gz")
# The engine's own (src/engine/kvm.c); how a machine is reset is the VMM's choice.
CMDLINE = ("console=hvc0 quiet panic=-1 random.trust_cpu=on no_timer_check lapic_timer_khz=1000000 "
           "dummy.numdummies=0 sysctl.vm.compaction_proactiveness=0")
RESET = {"msb-vmm": " reboot=k", "qemu": " reboot=t"}
LINK_CTL = 0
SO_SNDBUFFORCE = 32  # asm-generic/socket.h
# Nothing takes as long; a hang gets there.
TIMEOUT = 90


class Vm:
    """One VM process. Sockets: console, and the ports by name."""

    def __init__(self, what, kernel=VMLINUX, initramfs=INITRAMFS, cmdline=CMDLINE, cpus=1, memory_mib=256,
                 disks=(), ports=("agent.ctl", "agent.bulk"), net=False, wrap=()):
        self.text = b""
        self.console, console = socket.socketpair()
        # The guest's boot log comes as a burst of small pieces, each of which counts with what it
        # costs the kernel; what the socket does not take is lost, as a test reads when it likes.
        console.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 32 << 20)
        self.ports, theirs = {}, {}
        for name in ports:
            self.ports[name], theirs[name] = socket.socketpair()
        self.net, net = socket.socketpair() if net else (None, None)
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.files = [open(kernel, "rb"), open(initramfs, "rb") if initramfs else None, open("/dev/kvm", "r+b", 0)]
        self.disks = [open(path, "rb" if ro else "r+b") for path, _, ro in disks]
        build = self.vmm_argv if what == "msb-vmm" else self.qemu_argv
        argv = build(console, theirs, control, cmdline + RESET[what], cpus, memory_mib, disks, kernel, initramfs)
        if net:
            argv += ["--net", f"fd={net.fileno()},mac=02:00:00:00:00:0f"]
        keep = [f.fileno() for f in [*self.files, *self.disks, console, control, net, *theirs.values()] if f]
        self.started = time.clock_gettime(time.CLOCK_MONOTONIC)
        self.process = subprocess.Popen([*wrap, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, pass_fds=keep)
        for s in (console, control, net, *theirs.values()):
            if s:
                s.close()

    def vmm_argv(self, console, ports, control, cmdline, cpus, memory_mib, disks, _kernel, _initramfs):
        argv = [MSB_VMM, "--name", "lab", "--cpus", str(cpus), "--memory", str(memory_mib << 20),
                "--cmdline", cmdline, "--kernel-fd", str(self.files[0].fileno()),
                "--kvm-fd", str(self.files[2].fileno()), "--console-fd", str(console.fileno()),
                "--control-fd", str(control.fileno())]
        if self.files[1]:
            argv += ["--initramfs-fd", str(self.files[1].fileno())]
        for f, (_, serial, ro) in zip(self.disks, disks):
            argv += ["--disk", f"fd={f.fileno()},serial={serial}" + (",readonly" if ro else "")]
        for name, s in ports.items():
            argv += ["--port", f"fd={s.fileno()},name={name}"]
        return argv

    def qemu_argv(self, console, ports, _control, cmdline, cpus, memory_mib, disks, kernel, initramfs):
        argv = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-M", "microvm,accel=kvm,acpi=off,rtc=off,pit=off,pic=off,isa-serial=off", "-cpu", "host",
                "-smp", str(cpus), "-m", str(memory_mib), "-global", "virtio-mmio.force-legacy=false",
                "-kernel", kernel, "-append", cmdline,
                "-device", f"virtio-serial-device,max_ports={len(ports) + 1}",
                "-chardev", f"socket,id=console,fd={console.fileno()}", "-device", "virtconsole,chardev=console"]
        if initramfs:
            argv += ["-initrd", initramfs]
        for name, s in ports.items():
            argv += ["-chardev", f"socket,id={name},fd={s.fileno()}",
                     "-device", f"virtserialport,chardev={name},name={name}"]
        for i, (path, serial, ro) in enumerate(disks):
            ro = "on" if ro else "off"
            argv += ["-blockdev", f"driver=raw,node-name=disk{i},read-only={ro},file.driver=file,"
                                  f"file.filename={path},file.locking=off",
                     "-device", f"virtio-blk-device,drive=disk{i},serial={serial}"]
        return argv + ["-object", "rng-builtin,id=rng", "-device", "virtio-rng-device,rng=rng"]

    @property
    def pid(self):
        return self.process.pid

    def hello(self, port="agent.ctl", link=LINK_CTL):
        """Greets the agent; returns its HELLO_ACK and the time at which it was there."""
        s = self.ports[port]
        generation = int.from_bytes(os.urandom(8), "little")
        body = wire.pack("HELLO", magic=wire.MAGIC, version=wire.VERSION, version_min=wire.VERSION, link=link,
                         generation=generation, realtime_ns=time.time_ns(), entropy=os.urandom(64))
        try:
            s.sendall(wire.struct.pack("<IIHH", len(body), 0, wire.TYPES["HELLO"], 0) + body)
        except OSError as e:
            while select.select([self.console], [], [], 1)[0] and self.read_console():
                pass
            raise AssertionError(f"{port} is shut ({e}); status {self.process.poll()}; console:\n{self.log()}\n"
                                 f"{self.said()}") from e
        data = b""
        while True:
            at = data.find(b"\0\0\0\0" + wire.struct.pack("<HH", wire.TYPES["HELLO_ACK"], 0) + wire.MAGIC)
            if at >= 4:
                (n,) = wire.struct.unpack_from("<I", data, at - 4)
                if len(data) >= at + 8 + n:
                    ack = wire.unpack("HELLO_ACK", data[at + 8:at + 8 + n])
                    assert ack["generation"] == generation
                    return ack, time.clock_gettime(time.CLOCK_MONOTONIC)
            ready = select.select([s, self.console], [], [], TIMEOUT)[0]
            assert ready, f"no answer of the agent; console:\n{self.log()}"
            if self.console in ready:
                self.read_console()
            if s in ready:
                more = s.recv(65536)
                assert more, f"the port was closed; console:\n{self.log()}\n{self.said()}"
                data += more

    def read_console(self):
        """Takes what is there. Returns False at the end."""
        try:
            data = self.console.recv(65536)
        except ConnectionError:
            data = b""
        self.text += data
        return bool(data)

    def wait_console(self, pattern, seconds=TIMEOUT):
        """Waits for a line of the guest; returns the match."""
        end = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.text)
            if found:
                return found
            left = end - time.monotonic()
            assert left > 0 and select.select([self.console], [], [], left)[0], f"no {pattern!r}:\n{self.log()}"
            assert self.read_console() or re.search(pattern, self.text), f"ended without {pattern!r}:\n{self.log()}" \
                f"\n{self.said()}"

    def wait(self, seconds=TIMEOUT):
        """Waits for the end of the process; returns its status."""
        end = time.monotonic() + seconds
        while select.select([self.console], [], [], max(0, end - time.monotonic()))[0] and self.read_console():
            pass
        return self.process.wait(max(0.1, end - time.monotonic()))

    def log(self):
        return self.text[-4000:].decode(errors="replace")

    def said(self):
        """What the process itself printed; ends it."""
        self.process.kill()
        return self.process.communicate()[0].decode(errors="replace")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for s in (self.console, self.control, self.net, *self.ports.values(), self.process.stdout):
            if s:
                s.close()
        for f in [*self.files, *self.disks]:
            if f:
                f.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def threads(pid):
    """{thread id: (name, how often it went to sleep)}"""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        base = f"/proc/{pid}/task/{tid}/"
        try:
            with open(base + "status") as f:
                status = f.read()
        except FileNotFoundError:
            continue
        name = re.search(r"^Name:\s+(.*)$", status, re.M)[1]
        found[int(tid)] = (name, int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)[1]))
    return found


def pss_without_ram(pid, ram_bytes):
    """Bytes of PSS of a VM process beside its guest's RAM."""
    total, ram, pss_at = 0, 0, 0
    with open(f"/proc/{pid}/smaps") as f:
        for line in f:
            area = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
            if area:
                pss_at = int(area[2], 16) - int(area[1], 16)
            elif line.startswith("Pss:"):
                n = int(line.split()[1]) << 10
                total += n
                # Memory above 4 GiB aside, guest RAM is one mapping of its size.
                if pss_at >= ram_bytes // 2:
                    ram += n
    return total - ram
