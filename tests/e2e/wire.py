# SPDX-License-Identifier: Apache-2.0
"""The agent wire (src/codec/frame.h) once more, in Python: a second reading of the protocol.

A Client speaks to a sandbox's ctl.sock as any client would.
"""
import os
import socket
import struct

MAGIC = b"MSBWIRE1"
VERSION = 1
WINDOW = 256 * 1024
DATA_MAX = 32 * 1024
IN, OUT, ERR, RESULT = 0, 1, 2, 3
REPL_RESULTS = 1
LINK_CLIENT = 2

TYPES = {
    "HELLO": 1, "HELLO_ACK": 2, "ERROR": 3, "PING": 4, "PONG": 5, "DATA": 16, "EOF": 17, "CREDIT": 18,
    "CLOSE": 19, "METRICS": 35, "METRICS_REPLY": 36, "EXEC": 48, "EXEC_STARTED": 49, "EXEC_RESIZE": 50,
    "EXEC_SIGNAL": 51, "EXEC_EXIT": 52, "REPL_RUN": 64, "REPL_DONE": 65, "REPL_RESULT": 66,
    "FILE_READ": 80, "FILE_WRITE": 81, "FILE_LIST": 82, "FILE_STAT": 83, "FILE_MKDIR": 84, "FILE_REMOVE": 85,
    "FILE_RENAME": 86, "FILE_DONE": 87, "SANDBOX_STATE": 128, "SANDBOX_STOP": 129, "SANDBOX_HOLD": 140,
}
NAMES = {v: k for k, v in TYPES.items()}
LAST = {"ERROR", "PONG", "METRICS_REPLY", "EXEC_EXIT", "REPL_DONE", "FILE_DONE"}
STATES = ["starting", "booting", "ready", "stopping", "stopped"]

# Fields: B H I Q = unsigned integers; s = string; l = list of strings; (n) = n fixed bytes.
BODIES = {
    "HELLO": [("magic", 8), ("version", "H"), ("version_min", "H"), ("link", "B"), ("generation", "Q"),
              ("realtime_ns", "Q"), ("entropy", 64)],
    "HELLO_ACK": [("magic", 8), ("version", "H"), ("link", "B"), ("generation", "Q"), ("build", "s")],
    "ERROR": [("code", "I"), ("message", "s")],
    "CREDIT": [("bytes", "I")],
    "METRICS_REPLY": [("uptime_ns", "Q"), ("cpu_user_ns", "Q"), ("cpu_system_ns", "Q"), ("cpu_idle_ns", "Q"),
                      ("cpus", "I"), ("mem_total", "Q"), ("mem_available", "Q"), ("disk_total", "Q"),
                      ("disk_available", "Q"), ("disk_files_total", "Q"), ("disk_files_free", "Q"),
                      ("processes", "I"), ("load1_milli", "I"), ("net_rx_bytes", "Q"), ("net_tx_bytes", "Q")],
    "EXEC": [("flags", "I"), ("timeout_ms", "Q"), ("rows", "H"), ("cols", "H"), ("cwd", "s"), ("user", "s"),
             ("argv", "l"), ("env", "l"), ("rlimits", "l")],
    "EXEC_STARTED": [("pid", "I")],
    "EXEC_RESIZE": [("rows", "H"), ("cols", "H")],
    "EXEC_SIGNAL": [("signal", "I"), ("group", "B")],
    "EXEC_EXIT": [("reason", "B"), ("status", "I"), ("wall_ns", "Q"), ("cpu_user_ns", "Q"),
                  ("cpu_system_ns", "Q"), ("max_rss_bytes", "Q")],
    "REPL_RUN": [("language", "s"), ("timeout_ms", "Q"), ("code_len", "Q"), ("user", "s"), ("cwd", "s"),
                 ("env", "l"), ("flags", "I")],
    "REPL_DONE": [("status", "B"), ("state_lost", "B"), ("exit_code", "I"), ("wall_ns", "Q")],
    "REPL_RESULT": [("mime", "s"), ("size", "Q"), ("note", "s")],
    "FILE": [("flags", "I"), ("path", "s"), ("user", "s"), ("mode", "I"), ("offset", "Q"), ("length", "Q"),
             ("to", "s")],
    "FILE_DONE": [("mode", "I"), ("uid", "I"), ("gid", "I"), ("size", "Q"), ("mtime_ns", "Q"), ("inode", "Q"),
                  ("nlink", "Q"), ("target", "s")],
    "DIRENT": [("name", "s"), ("mode", "I"), ("uid", "I"), ("gid", "I"), ("size", "Q"), ("mtime_ns", "Q")],
    "SANDBOX_STATE": [("state", "B"), ("engine", "s"), ("isolation", "s"), ("detail", "s"), ("code", "I"),
                      ("boot_ns", "Q")],
    "SANDBOX_STOP": [("grace_ms", "I")],
    "SANDBOX_HOLD": [("hold", "B")],
}
for name in ("READ", "WRITE", "LIST", "STAT", "MKDIR", "REMOVE", "RENAME"):
    BODIES["FILE_" + name] = BODIES["FILE"]


def _bytes(v):
    return v.encode(errors="surrogateescape") if isinstance(v, str) else bytes(v)


def pack(kind, **values):
    out = b""
    for name, how in BODIES[kind]:
        v = values.pop(name, None)
        if how == "s":
            v = _bytes(v or "")
            out += struct.pack("<I", len(v)) + v
        elif how == "l":
            items = b"".join(struct.pack("<I", len(_bytes(i))) + _bytes(i) for i in v or [])
            out += struct.pack("<II", len(v or []), len(items)) + items
        elif isinstance(how, int):
            out += (v or b"").ljust(how, b"\0")
        else:
            out += struct.pack("<" + how, v or 0)
    assert not values, values
    return out


def unpack(kind, body):
    out, at = {}, 0
    for name, how in BODIES[kind]:
        if how == "s":
            (n,) = struct.unpack_from("<I", body, at)
            out[name] = body[at + 4:at + 4 + n].decode(errors="surrogateescape")
            at += 4 + n
        elif isinstance(how, int):
            out[name] = body[at:at + how]
            at += how
        else:
            (out[name],) = struct.unpack_from("<" + how, body, at)
            at += struct.calcsize("<" + how)
    return out


class Error(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Closed(Exception):
    pass


class Client:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(150)  # only a hang gets there
        here = os.open(os.path.dirname(path), os.O_PATH)
        try:  # the path may be longer than sun_path
            self.sock.connect(f"/proc/self/fd/{here}/{os.path.basename(path)}")
        finally:
            os.close(here)
        self.buf = bytearray()
        self.state = None
        self.next_channel = 1
        self.send("HELLO", 0, magic=MAGIC, version=VERSION, version_min=VERSION, link=LINK_CLIENT, generation=7)
        name, _, _, body = self.recv()
        assert name == "HELLO_ACK", (name, body)

    def close(self):
        self.sock.close()

    def send_raw(self, kind, channel, body=b"", stream=0):
        number = TYPES[kind] if isinstance(kind, str) else kind
        self.sock.sendall(struct.pack("<IIHH", len(body), channel, number, stream) + body)

    def send(self, kind, channel, stream=0, **values):
        self.send_raw(kind, channel, pack(kind, **values) if kind in BODIES else b"", stream)

    def recv(self):
        """The next frame: (type name, channel, flags, body); states are noted, not returned."""
        while True:
            while len(self.buf) < 12 or len(self.buf) < 12 + struct.unpack_from("<I", self.buf)[0]:
                more = self.sock.recv(1 << 20)
                if not more:
                    raise Closed()
                self.buf += more
            n, channel, kind, flags = struct.unpack_from("<IIHH", self.buf)
            body = bytes(self.buf[12:12 + n])
            del self.buf[:12 + n]
            if NAMES[kind] == "SANDBOX_STATE":
                self.state = unpack("SANDBOX_STATE", body)
                continue
            return NAMES[kind], channel, flags, body

    def open(self, kind, **values):
        channel = self.next_channel
        self.next_channel += 1
        self.send(kind, channel, **values)
        return channel

    def finish(self, channel, data=b"", eof=True, credit=True):
        """Feeds STREAM_IN, gathers the output, returns (last message, out, err).

        Results are in self.results then: (mime, data, note) each.
        """
        window, sent, out, done_in = WINDOW, 0, {OUT: bytearray(), ERR: bytearray()}, not eof
        view, self.results = memoryview(data), []
        while True:
            while sent < len(data) and window:
                n = min(window, DATA_MAX, len(data) - sent)
                self.send_raw("DATA", channel, bytes(view[sent:sent + n]), IN)
                sent, window = sent + n, window - n
            if sent == len(data) and not done_in:
                self.send_raw("EOF", channel, stream=IN)
                done_in = True
            name, got, flags, body = self.recv()
            if got != channel:
                raise AssertionError(f"{name} on channel {got} while waiting for {channel}")
            if name == "REPL_RESULT":
                r = unpack(name, body)
                self.results.append((r["mime"], bytearray(), r["note"]))
            elif name == "DATA":
                (self.results[-1][1] if flags == RESULT else out[flags]).extend(body)
                if credit:
                    self.send("CREDIT", channel, stream=flags, bytes=len(body))
            elif name == "CREDIT":
                window += unpack("CREDIT", body)["bytes"]
            elif name == "ERROR":
                e = unpack("ERROR", body)
                raise Error(e["code"], e["message"])
            elif name in LAST:
                last = unpack(name, body) if name in BODIES else body
                return last, bytes(out[OUT]), bytes(out[ERR])

    def ping(self):
        channel = self.next_channel
        self.next_channel += 1
        self.send_raw("PING", channel, b"hello")
        last, _, _ = self.finish(channel, eof=False)
        assert last == b"hello"

    def exec(self, argv, stdin=None, **values):
        flags = values.pop("flags", 0) | (2 if stdin is not None else 0)
        channel = self.open("EXEC", argv=argv, flags=flags, **values)
        return self.finish(channel, stdin or b"", eof=stdin is not None)

    def repl(self, language, code, **values):
        code = _bytes(code)
        return self.finish(self.open("REPL_RUN", language=language, code_len=len(code), **values), code)

    def metrics(self):
        return self.finish(self.open("METRICS"), eof=False)[0]

    def file(self, kind, path, data=None, **values):
        channel = self.open("FILE_" + kind, path=path, **values)
        return self.finish(channel, data or b"", eof=data is not None)

    def listdir(self, path):
        _, out, _ = self.file("LIST", path)
        entries = []
        while out:
            (n,) = struct.unpack_from("<I", out)
            entries.append(unpack("DIRENT", out[4:4 + n]))
            out = out[4 + n:]
        return entries
