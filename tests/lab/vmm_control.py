# SPDX-License-Identifier: Apache-2.0
"""The control socket of msb-vmm (src/codec/vmm_control.h), from the supervisor's side, in Python.

    with Vm(kernel=…, disks=[…]) as vm:       a machine that boots, as vmm.Vm
        vm.pause()
        snapshot = vm.snapshot()
        vm.resume()
    with Vm(snapshot=snapshot, disks=[…]) as clone:
        …
"""
import array
import fcntl
import os
import select
import socket
import struct

import vmm
import wire

PAUSE, RESUME, SNAPSHOT, DONE, ENDED = 1, 2, 3, 16, 17
TRAILER = 4096
F_ADD_SEALS, SEAL_SHRINK, SEAL_GROW, SEAL_WRITE = 1033, 2, 4, 8


class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Snapshot:
    """Two memfds, the memory sealed: nobody can change what clones share."""

    def __init__(self, state, memory, cpus, memory_mib):
        self.state, self.memory, self.cpus, self.memory_mib = state, memory, cpus, memory_mib

    def close(self):
        self.state.close()
        self.memory.close()

    def seal(self):
        fcntl.fcntl(self.memory, F_ADD_SEALS, SEAL_SHRINK | SEAL_GROW | SEAL_WRITE)

    def state_bytes(self):
        return os.pread(self.state.fileno(), 16 << 20, 0)

    def with_state(self, data):
        """Another state, and an empty memory that belongs to it: for what is refused before it is used."""
        state = os.fdopen(os.memfd_create("state"), "r+b", 0)
        state.write(data)
        memory = os.fdopen(os.memfd_create("memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "r+b", 0)
        size = self.memory_mib << 20
        memory.truncate(size + TRAILER)
        os.pwrite(memory.fileno(), b"MSBMEMRY" + struct.pack("<Q", size) + data[24:32], size)
        other = Snapshot(state, memory, self.cpus, self.memory_mib)
        other.seal()
        return other


class Vm(vmm.Vm):
    def __init__(self, snapshot=None, cpus=1, memory_mib=256, **kwargs):
        self.from_snapshot = snapshot
        self.cpus, self.memory_mib = (snapshot.cpus, snapshot.memory_mib) if snapshot else (cpus, memory_mib)
        self.requests = 0
        super().__init__("msb-vmm", cpus=self.cpus, memory_mib=self.memory_mib, **kwargs)

    def vmm_argv(self, *args):
        argv = super().vmm_argv(*args)
        if not self.from_snapshot:
            return argv
        # What the machine starts with, in the place of the kernel.
        for option in ("--kernel-fd", "--initramfs-fd", "--cmdline"):
            if option in argv:
                at = argv.index(option)
                del argv[at:at + 2]
        for f in self.files[:2]:
            if f:
                f.close()
        self.files[:2] = [os.fdopen(os.dup(f.fileno()), "rb")
                          for f in (self.from_snapshot.state, self.from_snapshot.memory)]
        return argv + ["--restore-state-fd", str(self.files[0].fileno()),
                       "--restore-memory-fd", str(self.files[1].fileno())]

    def message(self):
        """The next one: (type, id, code, text)."""
        while True:
            ready = select.select([self.control, self.console], [], [], vmm.TIMEOUT)[0]
            assert ready, f"no answer on the control socket; console:\n{self.log()}"
            # A console that nobody reads holds the VM's I/O up.
            if self.console in ready and self.control not in ready and not self.read_console():
                select.select([self.control], [], [], vmm.TIMEOUT)
            if self.control in ready:
                break
        packet = self.control.recv(1024)
        assert packet, f"the control socket was closed; console:\n{self.log()}\n{self.said()}"
        version, kind, number, code, length = struct.unpack_from("<HHIII", packet)
        assert version == 1 and length == len(packet) - 16, packet
        return kind, number, code, packet[16:].decode()

    def ask(self, kind, fds=()):
        self.requests += 1
        packet = struct.pack("<HHIII", 1, kind, self.requests, 0, 0)
        self.control.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
        got, number, code, text = self.message()
        assert (got, number) == (DONE, self.requests), f"{got}: {text}"
        if code:
            raise Refused(code, text)

    def pause(self):
        self.ask(PAUSE)

    def resume(self):
        self.ask(RESUME)

    def snapshot(self):
        state = os.fdopen(os.memfd_create("state"), "r+b", 0)
        memory = os.fdopen(os.memfd_create("memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "r+b", 0)
        self.ask(SNAPSHOT, (state.fileno(), memory.fileno()))
        taken = Snapshot(state, memory, self.cpus, self.memory_mib)
        taken.seal()
        return taken

    def ended(self):
        """The reason that the VM gives for its end: (kind, text)."""
        kind, _, code, text = self.message()
        assert kind == ENDED, (kind, text)
        return code, text


# What only a supervisor says.
wire.TYPES.update(CONFIGURE=32, CONFIGURED=33)
wire.NAMES.update({32: "CONFIGURE", 33: "CONFIGURED"})
wire.BODIES["CONFIGURE"] = [("flags", "I"), ("hostname", "s"), ("ipv4_addr", "I"), ("ipv4_gateway", "I"),
                            ("ipv4_dns", "I"), ("ipv4_prefix", "B"), ("mtu", "H"), ("hosts", "l")]
wire.BODIES["CONFIGURED"] = [("uptime_ns", "Q"), ("kernel", "s")]
CONFIGURE_UPPER = 1


class Agent(wire.Client):
    """The agent behind a VM's port, as a supervisor speaks to it. A new one starts the link anew."""

    def __init__(self, vm):
        vm.hello()
        self.sock = vm.ports["agent.ctl"]
        self.sock.settimeout(vmm.TIMEOUT)
        self.buf, self.state, self.next_channel = bytearray(), None, 1

    def configure(self):
        self.send("CONFIGURE", 0, flags=CONFIGURE_UPPER, hostname="lab")
        self.expect(0, "CONFIGURED")

    def expect(self, channel, kind):
        name, got, _, body = self.recv()
        assert (name, got) == (kind, channel), (name, got, body)
