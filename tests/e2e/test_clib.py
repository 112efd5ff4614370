# SPDX-License-Identifier: Apache-2.0
"""libmicrosandbox: its header, what it exports, files and streams, and servers that mean ill.

What it must do as the SDKs do is in tests/conformance; here is what only a C library has.
"""
import base64
import json
import os
import re
import subprocess

import pytest

from clib_peer import ENDLESS, Peer, pattern
from conftest import BUILD, ROOT, TIMEOUT
from pty_program import PtyProgram
from server_client import Server

HEADER = ROOT / "include/microsandbox.h"
SCHEMA = json.loads((ROOT / "api/openrpc.json").read_text())
METHODS = {m["name"] for m in SCHEMA["methods"]}
# What the server of this tree has; with the first of them the tests below ask for all.
SERVER_SOURCE = "".join(p.read_text() for p in sorted((ROOT / "src/server").glob("*.c")))
needs_streams = pytest.mark.skipif("text/event-stream" not in SERVER_SOURCE, reason="the server streams nothing yet")
needs_files = pytest.mark.skipif("sandbox.fs.read" not in METHODS, reason="the server has no sandbox.fs.* yet")
needs_life = pytest.mark.skipif("sandbox.keep_alive" not in METHODS, reason="the server has no sandbox.keep_alive yet")
ENV = {k: v for k, v in os.environ.items() if not k.startswith(("MSB_", "SSL_CERT"))}


def run(*command, **more):
    p = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=TIMEOUT, text=True, **more)
    assert p.returncode == 0, p.stdout
    return p.stdout


def make(*targets):
    run("make", "--no-print-directory", "-C", ROOT, *targets)


# ---- the header and the binaries ----------------------------------------------------------------


def declared():
    return set(re.findall(r"^MSB_API\b[^;(]*?\b(msb_\w+)\(", HEADER.read_text(), re.M))


@pytest.mark.parametrize("compiler", [
    ["gcc", "-std=c99", "-pedantic-errors"], ["gcc", "-std=gnu17"], ["clang-14", "-std=c99", "-pedantic-errors"],
    ["clang++-14", "-x", "c++", "-std=c++11", "-pedantic-errors"], ["clang++-14", "-x", "c++", "-std=c++20"]],
    ids=lambda c: f"{c[0]} {c[-1] if 'std' in c[-1] else c[-2]}")
def test_header_compiles_alone(compiler, tmp_path):
    """Twice, with every warning, and what its macros expand to."""
    source = tmp_path / "alone.c"
    source.write_text("""#include <microsandbox.h>
#include <microsandbox.h>
int use(void);
int use(void)
{
    struct msb_config config;
    MSB_INIT(&config);
    return config.size == sizeof(config) && MSB_VERSION_NUMBER >= 100 && MSB_NO_LIMIT > 0;
}
""")
    run(*compiler, "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-fsyntax-only", "-I", HEADER.parent, source)


def test_versions_are_the_projects():
    version = (ROOT / "VERSION").read_text().strip()
    text = HEADER.read_text()
    assert f'#define MSB_VERSION_STRING "{version}"' in text
    for part, value in zip(("MAJOR", "MINOR", "PATCH"), version.split(".")):
        assert re.search(rf"#define MSB_VERSION_{part} {value}\n", text)
    assert f"Version: {version}\n" in (BUILD / "lib/pkgconfig/microsandbox.pc").read_text()


@pytest.mark.parametrize("file, option", [("libmicrosandbox.so.0", "-D"), ("libmicrosandbox.a", "-g")])
def test_exports_are_what_the_header_declares(file, option):
    out = run("nm", option, "--defined-only", BUILD / "lib" / file)
    names = {line.split()[2].split("@")[0] for line in out.splitlines() if len(line.split()) == 3}
    assert names - {"MICROSANDBOX_0"} == declared()


def test_error_codes_are_those_of_the_schema():
    table = (ROOT / "src/capi/rpc.c").read_text().split("rpc_codes[] = {")[1].split("};")[0]
    known = dict((int(c), k) for c, k in re.findall(r"\{ (-\d+), (MSB_ERR_\w+) \}", table))
    kinds = {"InvalidParams": "INVALID", "NotFound": "NOT_FOUND", "SandboxFailed": "SANDBOX_FAILED", "NotRun": "NOT_RUN",
             "TimedOut": "COMMAND_TIMEOUT", "Limit": "LIMIT", "Denied": "DENIED", "FileFailed": "FILE"}
    general = {"ParseError", "InvalidRequest", "MethodNotFound", "Internal"}
    for name, e in SCHEMA["components"]["errors"].items():
        if name not in general:
            assert known[e["code"]] == f"MSB_ERR_{kinds[name]}", name


def test_every_method_can_be_called():
    source = "".join(p.read_text() for p in (ROOT / "src/capi").glob("*.c"))
    for method in SCHEMA["methods"]:
        # Volumes have no function in any SDK.
        assert f'"{method["name"]}"' in source or method["name"].startswith("volume.")


# ---- a program that drives the library, under the sanitizers ------------------------------------


class Lib:
    def __init__(self):
        self.process = subprocess.Popen([BUILD / "sdk/c/san/driver"], env=ENV, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.n = 0
        self.early = {}

    def send(self, op, **members):
        self.n += 1
        self.process.stdin.write(json.dumps({"id": self.n, "op": op, **members}) + "\n")
        self.process.stdin.flush()
        return self.n

    def wait(self, n):
        """Return: what it gave, or ("kind of the error", the error)."""
        while n not in self.early:
            line = self.process.stdout.readline()
            assert line, f"the driver ended with status {self.process.wait()}"
            o = json.loads(line)
            self.early[o["id"]] = o
        o = self.early.pop(n)
        return o["ok"] if "ok" in o else (o["error"]["kind"], o["error"])

    def ask(self, op, **members):
        return self.wait(self.send(op, **members))

    def fails(self, kind, op, **members):
        o = self.ask(op, **members)
        assert isinstance(o, tuple) and o[0] == kind, o
        return o[1]

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(TIMEOUT) == 0


@pytest.fixture(scope="module")
def driver():
    make(f"O={os.path.relpath(BUILD, ROOT)}", f"{os.path.relpath(BUILD, ROOT)}/sdk/c/san/driver")


@pytest.fixture
def peer():
    p = Peer()
    yield p
    p.close()


@pytest.fixture
def lib(driver, peer):
    lib = Lib()
    lib.ask("create", box="a", language="python",
            options={"server_url": peer.url, "name": "a b", "namespace": "n&", "max_answer": 1 << 20, "api_key": "msb_k"})
    yield lib
    lib.close()


def plain(text):
    return base64.b64decode(text)


def exec_(lib, command, **more):
    return lib.ask("exec", box="a", command=command, **more)


def test_stream(lib):
    o = exec_(lib, "plain")
    assert (plain(o["stdout"]), plain(o["stderr"]), o["pid"]) == (b"a\n\xff", b"e", 7)
    assert (o["exit_code"], o["success"], o["reason"], o["timed"], o["signal"]) == (3, False, "exited", True, 0)
    assert exec_(lib, "bytes") == o


def test_stream_details(lib):
    assert plain(exec_(lib, "comments")["stdout"]) == b"a"
    assert plain(exec_(lib, "crlf")["stdout"]) == b"a"
    assert plain(exec_(lib, "nul")["stdout"]) == b"a\0b"
    o = exec_(lib, "killed")
    assert (o["exit_code"], o["signal"], o["reason"], o["timed_out"]) == (137, 9, "signal", False)
    o = exec_(lib, "late")
    assert (o["reason"], o["timed_out"]) == ("timeout", True)


def test_stream_of_code(lib):
    o = lib.ask("run_streamed", box="a", code="repl", timeout=5)
    assert (plain(o["stdout"]), o["status"], o["language"], o["timed"]) == (b"hi\n", "success", "python", True)


def test_what_exec_sends(lib, peer):
    o = exec_(lib, "echo", args=["-c", "x"], env={"A": "1=2"}, cwd="/w", user="u:g", stdin="h\0\xe9", timeout=1.5)
    body = json.loads(plain(o["stdout"]))["body"]
    assert body == {"command": "echo", "args": ["-c", "x"], "env": {"A": "1=2"}, "cwd": "/w", "user": "u:g",
                    "stdin_base64": "aADDqQ==", "timeout": 1.5}
    method, path, query, headers, _ = peer.requests[-1]
    assert (method, path, query) == ("POST", "/api/v1/sandboxes/a%20b/exec", {"namespace": "n&"})
    assert headers["authorization"] == "Bearer msb_k" and "expect" not in headers
    assert json.loads(plain(exec_(lib, "echo")["stdout"]))["body"] == {"command": "echo", "args": []}
    body = json.loads(plain(exec_(lib, "echo", stdin="h\xe9")["stdout"]))["body"]
    assert body == {"command": "echo", "args": [], "stdin": "h\xe9"}


def test_output_that_is_kept(lib):
    """As of a command, besides what the callback hears."""
    o = lib.ask("command", box="a", command="bytes", listen=True)
    assert (o["heard"]["stdout"], o["lines"]) == ("a\n\ufffd", [["stdout", "a"], ["stdout", "\ufffd"], ["stderr", "e"]])
    assert (o["exit_code"], o["command"], o["args"], o["truncated"]) == (3, "bytes", [], False)
    o = lib.ask("command", box="a", command="many newlines", listen=True)
    assert (len(o["lines"]), o["truncated"], len(o["heard"]["stdout"])) == (1 << 20, True, 1100000)


def test_stream_errors(lib):
    assert lib.fails("not_run", "exec", box="a", command="not run")["code"] == -32003
    assert lib.fails("not_found", "exec", box="a", command="refused")["http_status"] == 404
    assert exec_(lib, "plain")["exit_code"] == 3


@pytest.mark.parametrize("what", ["cut off", "half an event"])
def test_stream_that_ends_early(lib, what):
    lib.fails("unreachable", "exec", box="a", command=what)


@pytest.mark.parametrize("what", ["no json", "an array", "no text", "bad base64", "no exit code", "wrong exit code",
                                  "huge exit code", "wrong pid", "wrong error", "long event", "many lines", "deep"])
def test_stream_that_is_none(lib, what):
    lib.fails("invalid_response", "exec", box="a", command=what)
    assert exec_(lib, "plain")["exit_code"] == 3


def test_stream_without_an_end_is_given_up(lib, peer):
    """By the callback, and from outside; the server sees it."""
    lib.fails("cancelled", "exec", box="a", command="endless", stop_after=100)
    assert peer.gone.wait(TIMEOUT) and peer.sent < ENDLESS
    peer.gone.clear()
    n = lib.send("exec", box="a", command="never")
    assert peer.waiting.wait(TIMEOUT)
    lib.ask("cancel", target=n)
    assert lib.wait(n)[0] == "cancelled"
    assert peer.gone.wait(TIMEOUT)
    assert exec_(lib, "plain")["exit_code"] == 3


# ---- programs that are talked to ------------------------------------------------------------------


def start(lib, command, **more):
    return lib.ask("open", box="a", stream="p", how="process", command=command, **more)


def finish(lib, **more):
    return lib.ask("finish", stream="p", **more)


def test_process(lib):
    for room in ({}, {"room": 1}):
        assert start(lib, "plain") == {"pid": 7}
        o = finish(lib, **room)
        assert (o["stdout"], o["stderr"], o["exit_code"], o["success"], o["timed"]) == ("out", "err", 3, False, True)
        assert finish(lib)["stdout"] == ""  # it has ended, and says so again


def test_waiting_for_a_process_drops_its_output(lib):
    start(lib, "plain")
    o = lib.ask("wait_process", stream="p")
    assert (o["stdout"], o["stderr"], o["exit_code"]) == ("", "", 3)


def test_what_a_process_sends(lib, peer):
    start(lib, "echo", args=["-c", "x"], env={"A": "1=2"}, cwd="/w", user="u:g", stdin="h\0\xe9", timeout=1.5, tty=True,
          rows=3, cols=4)
    sent = json.loads(lib.ask("until", stream="p", text="\n")["stdout"])
    assert sent == {"command": "echo", "args": ["-c", "x"], "env": {"A": "1=2"}, "cwd": "/w", "user": "u:g",
                    "stdin_base64": "aADDqQ==", "timeout": 1.5, "tty": True, "rows": 3, "cols": 4}
    method, path, query, headers, _ = peer.requests[-1]
    assert (method, path, query) == ("GET", "/api/v1/sandboxes/a%20b/exec", {"namespace": "n&"})
    assert (headers["authorization"], headers["host"]) == ("Bearer msb_k", peer.url[7:])
    assert (headers["upgrade"], headers["connection"], headers["sec-websocket-version"]) == ("websocket", "Upgrade", "13")
    start(lib, "echo")
    sent = json.loads(lib.ask("until", stream="p", text="\n")["stdout"])
    assert sent == {"command": "echo", "args": []}


def test_an_address_with_a_path(lib, peer):
    lib.ask("create", box="a", language="python", options={"server_url": peer.url + "/prefix/", "name": "a", "api_key": ""})
    start(lib, "plain")
    method, path, query, headers, _ = peer.requests[-1]
    assert (method, path, query) == ("GET", "/prefix/api/v1/sandboxes/a/exec", {})
    assert "authorization" not in headers


def test_a_large_beginning_of_the_input(lib):
    start(lib, "echo", stdin="x" * 700000)
    assert len(json.loads(lib.ask("until", stream="p", text="\n")["stdout"])["stdin"]) == 700000


@pytest.mark.parametrize("what", ["output first", "exit first"])
def test_a_process_that_does_not_say_when_it_begins(lib, what):
    assert start(lib, what) == {"pid": 7 if what == "exit" else None}
    o = finish(lib)
    assert (o["stdout"], o["exit_code"]) == ("out" if what == "output first" else "", 3)


@pytest.mark.parametrize("what", ["long output", "long text", "deep", "huge exit code", "wrong error", "huge code",
                                  "bad close"])
def test_process_that_is_none(lib, what):
    start(lib, what)
    for _ in range(2):  # it stays so
        lib.fails("invalid_response", "finish", stream="p")
    assert start(lib, "plain") == {"pid": 7}


def test_process_that_does_not_start(lib):
    lib.fails("invalid_response", "open", box="a", stream="p", how="process", command="wrong pid")
    start(lib, "no reason")
    assert "without a reason" in lib.fails("unreachable", "finish", stream="p")["message"]


@pytest.mark.parametrize("how", ["endless head", "endless header", "endless interim", "endless body"])
def test_endless_handshakes_are_ended(lib, peer, how):
    lib.ask("create", box="h", language="python", options={"server_url": peer.url, "name": how})
    lib.fails("invalid_response", "open", box="h", stream="p", how="process", command="plain")
    assert peer.gone.wait(TIMEOUT) and peer.sent < ENDLESS


def test_handshakes_that_fail(lib, peer):
    lib.ask("create", box="h", language="python", options={"server_url": peer.url, "name": "gone"})
    lib.fails("unreachable", "open", box="h", stream="p", how="process", command="plain")
    lib.ask("create", box="h", language="python", options={"server_url": peer.url, "name": "chunks"})
    e = lib.fails("limit", "open", box="h", stream="p", how="process", command="plain")
    assert (e["message"], e["code"], e["http_status"]) == ("too many", 5003, 429)


def cancel(lib, n):
    lib.ask("cancel", target=n)
    assert lib.wait(n)[0] == "cancelled"


@pytest.mark.parametrize("box, command", [("silent", "plain"), ("a b", "silent")])
def test_a_start_is_given_up(lib, peer, box, command):
    lib.ask("create", box="h", language="python", options={"server_url": peer.url, "name": box})
    n = lib.send("open", box="h", stream="p", how="process", command=command)
    assert peer.waiting.wait(TIMEOUT)
    cancel(lib, n)
    assert peer.gone.wait(TIMEOUT)


@pytest.mark.parametrize("command", ["never", "endless"])
@pytest.mark.parametrize("op", [{"op": "until", "text": "nobody says this"}, {"op": "wait_process"}])
def test_reading_a_process_is_given_up(lib, peer, op, command):
    start(lib, command)
    cancel(lib, lib.send(stream="p", **op))
    assert peer.gone.wait(TIMEOUT)
    lib.fails("cancelled", "finish", stream="p")


def test_a_process_that_nobody_reads_is_closed(lib, peer):
    """Its server only writes, until nothing more is taken: it learns of it all the same."""
    start(lib, "endless")
    assert lib.ask("close", stream="p") is None
    assert peer.gone.wait(TIMEOUT) and peer.sent < ENDLESS


def test_writing_to_a_process_is_given_up(lib, peer):
    """And meanwhile nobody else waits for the program."""
    start(lib, "deaf")
    n = lib.send("input", stream="p", text="x" * (32 << 20))
    assert lib.ask("until", stream="p", text="out")["stdout"] == "out"
    assert lib.ask("resize", stream="p", rows=1, cols=2) is None
    assert lib.ask("signal", stream="p", signal="SIGINT") is None
    cancel(lib, n)
    lib.fails("cancelled", "finish", stream="p")
    peer.released.set()
    assert peer.gone.wait(TIMEOUT)


def test_writers_wait_for_the_program(lib, peer):
    start(lib, "deaf")
    sizes = [8 << 20, 5 << 20, 3 << 20]
    inputs = [lib.send("input", stream="p", text="x" * size) for size in sizes]
    assert lib.ask("resize", stream="p", rows=1, cols=2) is None
    reading = lib.send("until", stream="p", text="bytes\n")
    peer.released.set()
    for n in inputs:
        assert lib.wait(n) is None
    assert lib.ask("close_input", stream="p") is None
    o = lib.wait(reading)
    assert (o["stdout"], json.loads(o["stderr"])["type"]) == (f"out{sum(sizes)} bytes\n", "resize")
    assert finish(lib)["exit_code"] == 3


def test_a_process_is_closed_while_it_is_read_and_written(lib, peer):
    start(lib, "deaf")
    writing = lib.send("input", stream="p", text="x" * (32 << 20))
    reading = lib.send("until", stream="p", text="nobody says this")
    assert lib.ask("close", stream="p") is None
    assert lib.wait(writing) is None  # dropped
    assert lib.wait(reading) == ("unreachable", {"kind": "unreachable", "message": "the process was closed"})
    assert lib.ask("signal", stream="p", signal=9) is None
    lib.fails("unreachable", "finish", stream="p")
    peer.released.set()
    assert peer.gone.wait(TIMEOUT)


def test_what_a_process_is_not_sent(lib):
    start(lib, "echo")
    for op, members in (("resize", {"rows": 0, "cols": 1}), ("resize", {"rows": 1, "cols": 65536}),
                        ("signal", {"signal": 0}), ("signal", {"signal": 65}), ("signal", {"signal": "X" * 5000})):
        lib.fails("bad_argument", op, stream="p", **members)
    assert lib.ask("close_input", stream="p") is None
    assert finish(lib)["stderr"] == ""
    for members in ({"rows": 65536}, {"cols": 65536}, {"timeout": 0}):
        lib.fails("bad_argument", "open", box="a", stream="p", how="process", command="x", **members)


# ---- files --------------------------------------------------------------------------------------


def test_small_files(lib, peer):
    assert plain(lib.ask("fs_read", box="a", path="/bytes", offset=3, length=2, user="u")) == b"\0\xff"
    sent = json.loads(peer.requests[-1][4])["params"]
    assert sent == {"sandbox": "a b", "namespace": "n&", "path": "/bytes", "offset": 3, "length": 2, "user": "u",
                    "encoding": "base64"}
    o = lib.ask("fs_write", box="a", path="/f", text="h\xe9", mode=0o600, append=True, exclusive=True, parents=True)
    assert o == {"name": "f", "path": "/f", "type": "file", "mode": 0o644, "uid": 0, "gid": 0, "size": 3, "mtime": 1.5,
                 "target": None}
    sent = json.loads(peer.requests[-1][4])["params"]
    assert (sent["content"], sent["encoding"], sent["mode"]) == ("aMOp", "base64", 0o600)
    assert sent["append"] is sent["exclusive"] is sent["parents"] is True
    assert [(f["name"], f["target"]) for f in lib.ask("list_files", box="a", path="/list")] == [("f", None), ("l", "f")]


def test_other_calls_on_files(lib, peer):
    for op, options, sent in (("stat", {"follow": False}, {"follow": False}), ("stat", {"follow": True}, {"follow": True}),
                              ("stat", {}, {}), ("mkdir", {"parents": True, "mode": 0o755}, {"parents": True, "mode": 0o755}),
                              ("remove", {"recursive": True}, {"recursive": True})):
        assert lib.ask(op, box="a", path="/f", **options)["name"] == "f"
        q = json.loads(peer.requests[-1][4])
        assert q["method"] == f"sandbox.fs.{op}"
        assert q["params"] == {"sandbox": "a b", "namespace": "n&", "path": "/f", **sent}
    lib.ask("rename", box="a", path="/f", to="/g")
    assert json.loads(peer.requests[-1][4])["params"]["to"] == "/g"


def test_what_the_sandbox_refuses(lib):
    e = lib.fails("file", "stat", box="a", path="/missing")
    assert (e["errno"], e["path"], e["code"], e["http_status"]) == ("ENOENT", "/missing", -32007, 404)
    e = lib.fails("file", "read_file", box="a", path="/missing")
    assert (e["errno"], e["message"]) == ("ENOENT", "no such file")
    assert lib.fails("denied", "read_file", box="a", path="/plain")["code"] == 3001
    assert lib.fails("file", "upload", box="a", path="/full", size=100)["errno"] == "ENOSPC"


def test_options_that_a_function_does_not_have(lib, peer):
    before = len(peer.requests)
    for op, options in (("fs_read", {"mode": 1}), ("list_files", {"recursive": True}), ("fs_write", {"offset": 1}),
                        ("upload", {"follow": True}),
                        ("stat", {"append": True}), ("remove", {"parents": True}), ("mkdir", {"exclusive": True}),
                        ("fs_write", {"mode": 0o10000}), ("download", {"parents": True})):
        lib.fails("bad_argument", op, box="a", path="/f", text="", **options)
    assert len(peer.requests) == before


@pytest.mark.parametrize("path", ["/mode", "/uid", "/size", "/name", "/time", "/target"])
def test_entries_of_the_wrong_type(lib, path):
    lib.fails("invalid_response", "list_files", box="a", path=path)


@pytest.mark.parametrize("path", ["/wrong", "/number"])
def test_content_that_is_none(lib, path):
    lib.fails("invalid_response", "fs_read", box="a", path=path)


@pytest.mark.parametrize("n", [0, 1, 100, 3 << 20])  # more than max_answer: a stream has no limit
def test_get(lib, n):
    assert plain(lib.ask("read_file", box="a", path=f"/bytes/{n}")) == pattern(n)


def test_get_a_part(lib, peer):
    got = lib.ask("read_file", box="a", path="/bytes/1000", offset=10, length=5, user="x y")
    assert plain(got) == pattern(1000)[10:15]
    assert peer.requests[-1][2] == {"namespace": "n&", "path": "/bytes/1000", "offset": "10", "length": "5", "user": "x y"}


def uploaded(n):
    """What the driver's upload sends: tests/conformance/README.md."""
    period = bytes((k * 7 + (k >> 8)) & 0xff for k in range(65521))
    return (period * (n // len(period) + 1))[:n]


@pytest.mark.parametrize("n", [0, 1, 5 << 20])
@pytest.mark.parametrize("unknown", [False, True])
def test_put(lib, peer, n, unknown):
    o = lib.ask("upload", box="a", path="/a/f", size=n, unknown=unknown, mode=0o640, append=True, exclusive=True,
                parents=True)
    assert (o["size"], o["mode"]) == (n, 0o640)
    _, _, query, headers, body = peer.requests[-1]
    assert query == {"namespace": "n&", "path": "/a/f", "mode": "0640", "append": "1", "exclusive": "1", "parents": "1"}
    assert body == uploaded(n)
    assert ("content-length" in headers) is not unknown


def test_streams_of_files_that_fail(lib, peer):
    lib.fails("unreachable", "read_file", box="a", path="/cut")
    lib.fails("invalid_response", "upload", box="a", path="/no json", size=5)
    lib.fails("invalid_response", "read_file", box="a", path="/endless error")
    assert peer.sent < ENDLESS
    lib.fails("cancelled", "read_file", box="a", path="/endless", stop_after=3)
    before = len(peer.requests)
    lib.fails("source", "upload", box="a", path="/f", size=9 << 20, fail_at=3 << 20)
    assert len(peer.requests) == before  # it never came whole
    assert plain(lib.ask("read_file", box="a", path="/bytes/5")) == pattern(5)


@pytest.mark.parametrize("op", ["read_file", "fs_read"])
def test_files_can_be_given_up(lib, peer, op):
    n = lib.send(op, box="a", path="/never")
    assert peer.waiting.wait(TIMEOUT)
    lib.ask("cancel", target=n)
    assert lib.wait(n)[0] == "cancelled"
    assert peer.gone.wait(TIMEOUT)


# ---- life ---------------------------------------------------------------------------------------


def test_life(lib, peer):
    o = lib.ask("info", box="a")
    assert (o["name"], o["state"], o["memory"], o["idle_timeout"]) == ("a b", "running", 512, 5.0)
    assert lib.ask("keep_alive", box="a", idle_timeout=60)["idle_timeout"] == 60
    lib.ask("keep_alive", box="a")
    assert "idle_timeout" not in json.loads(peer.requests[-1][4])["params"]
    assert lib.ask("logs", box="a", source="vm", tail=3) == ["a", "b"]
    assert json.loads(peer.requests[-1][4])["params"] == {"sandbox": "a b", "namespace": "n&", "source": "vm", "tail": 3}
    assert lib.ask("restart", box="a", timeout=20)["is_ready"] is True
    assert json.loads(peer.requests[-1][4])["params"] == {"sandbox": "a b", "namespace": "n&", "timeout": 20}


# ---- a server that means ill --------------------------------------------------------------------


@pytest.mark.parametrize("what", ["endless body", "endless head", "endless header", "endless trailer", "endless interim",
                                  "endless chunk size"])
def test_endless_answers_are_ended(lib, peer, what):
    lib.fails("invalid_response", "run", box="a", code=what)
    assert peer.gone.wait(TIMEOUT) and peer.sent < ENDLESS
    assert exec_(lib, "plain")["exit_code"] == 3


@pytest.mark.parametrize("what", ["deep", "infinite", "big integer", "exit code", "lone surrogate", "not a line",
                                  "wrong stream", "nothing", "many lines"])
def test_answers_that_are_none(lib, what):
    lib.fails("invalid_response", "run", box="a", code=what)
    assert exec_(lib, "plain")["exit_code"] == 3


# ---- installed, with a real server --------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    root = tmp_path_factory.mktemp("clib")
    make("install", "PREFIX=/opt/msb", f"DESTDIR={root}")
    # It can be moved.
    os.rename(root / "opt/msb", root / "moved")
    return root / "moved"


@pytest.fixture(scope="module")
def server():
    s = Server()
    yield s
    assert s.stop() == 0, s.log()
    s.close()


def compile_example(installed, name, out, *options):
    env = dict(ENV, PKG_CONFIG_PATH=str(installed / "lib/pkgconfig"))
    flags = run("pkg-config", "--cflags", "--libs", *options, "microsandbox", env=env).split()
    run("gcc", "-Wall", "-Wextra", "-Werror", "-o", out, ROOT / f"sdk/c/examples/{name}.c", *flags)


def test_installed_files(installed):
    lib = installed / "lib"
    assert os.readlink(lib / "libmicrosandbox.so") == "libmicrosandbox.so.0"
    assert (lib / "libmicrosandbox.so").resolve().name == "libmicrosandbox.so." + (ROOT / "VERSION").read_text().strip()
    assert (lib / "libmicrosandbox.a").exists()
    assert (installed / "include/microsandbox.h").read_bytes() == HEADER.read_bytes()
    assert (installed / "share/man/man3/libmicrosandbox.3").exists()
    version = run("pkg-config", "--modversion", "microsandbox", env=dict(ENV, PKG_CONFIG_PATH=str(lib / "pkgconfig")))
    assert version == (ROOT / "VERSION").read_text()


EXPECTED = {
    "repl": "^Hello C!\nexception: .*ZeroDivisionError: division by zero\n$",
    "command": "^Linux 6[.].*\nexit code 3: no\nout of time after: started\n$",
    "metrics": "^sandbox-[0-9a-f]{8}: .*, running since 20.*\n(CPU: .* %\n)?memory: [0-9]+ MiB\ndisk: [0-9]+ bytes\n$",
    "files": "^Hello from outside\n20971520 bytes there and back\n0600 +19 hello\n0644 +20971520 large\nENOENT: .*\n$",
    "dialogue": "^6 [*] 7 = 42\n2 [*][*] 64 = 18446744073709551616\nexit code 0\n$",
    "streaming": "^hello one\nhello two\nhello three\nexit code 0 after [0-9]+ ms\n0\n1\n2\n$",
}


def test_every_example_is_tried():
    assert {p.stem for p in (ROOT / "sdk/c/examples").glob("*.c")} == {*EXPECTED, "terminal"}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=needs_streams if name in ("dialogue", "files", "streaming") else ())
    for name in sorted(EXPECTED)])
def test_example(installed, server, tmp_path, name):
    compile_example(installed, name, tmp_path / name)
    env = dict(ENV, MSB_SERVER_URL=server.url, LD_LIBRARY_PATH=str(installed / "lib"))
    assert re.search(EXPECTED[name], run(tmp_path / name, env=env), re.S)


@needs_streams
def test_example_on_a_terminal(installed, server, tmp_path):
    compile_example(installed, "terminal", tmp_path / "terminal")
    env = dict(ENV, MSB_SERVER_URL=server.url, LD_LIBRARY_PATH=str(installed / "lib"))
    t = PtyProgram([tmp_path / "terminal"], env, rows=31, cols=99)
    t.expect("# ")
    t.send("stty size\r")
    t.expect("31 99\r\n")
    t.resize(40, 120)
    t.send("while [ \"$(stty size)\" != '40 120' ]; do sleep 0.1; done; echo cha''nged\r")
    t.expect("changed\r\n")
    t.send("sleep 1000\r")
    t.expect("sleep 1000\r\n")
    t.send("\x03")
    t.expect("# ")
    t.send("exit 3\r")
    t.expect("exit code 3\r\n")
    assert t.finish() == 0


def test_static_library(installed, server, tmp_path):
    """What a program takes from the archive is ours alone; the system's libraries stay shared."""
    os.unlink(installed / "lib/libmicrosandbox.so")
    try:
        compile_example(installed, "repl", tmp_path / "repl", "--static")
    finally:
        os.symlink("libmicrosandbox.so.0", installed / "lib/libmicrosandbox.so")
    assert "libmicrosandbox" not in run("ldd", tmp_path / "repl")
    assert "Hello C!" in run(tmp_path / "repl", env=dict(ENV, MSB_SERVER_URL=server.url))


def test_one_sandbox_in_many_threads(driver, server):
    lib = Lib()
    lib.ask("create", box="a", language="python", options={"server_url": server.url, "name": "threads"})
    ids = [lib.send("command", box="a", command="echo", args=[str(i)]) for i in range(24)]
    assert [lib.wait(n)["output"] for n in ids] == [str(i) for i in range(24)]
    lib.ask("stop", box="a")
    lib.close()


# ---- files and life, with a real server -----------------------------------------------------------


@pytest.fixture
def box(driver, server):
    lib = Lib()
    lib.ask("create", box="a", language="python", options={"server_url": server.url, "name": "real"})
    yield lib
    lib.ask("stop", box="a")
    lib.close()


@needs_files
def test_files_of_a_real_sandbox(box):
    f = box.ask("fs_write", box="a", path="/tmp/w/h", text="h\xe9\0", parents=True, mode=0o600)
    assert (f["path"], f["type"], f["mode"], f["size"]) == ("/tmp/w/h", "file", 0o600, 4)
    assert plain(box.ask("fs_read", box="a", path="/tmp/w/h")) == "h\xe9\0".encode()
    assert plain(box.ask("fs_read", box="a", path="/tmp/w/h", offset=1, length=2)) == "\xe9".encode()
    assert box.ask("list_files", box="a", path="/tmp/w") == [f]
    assert box.fails("file", "fs_write", box="a", path="/tmp/w/h", text="", exclusive=True)["errno"] == "EEXIST"
    assert box.ask("fs_write", box="a", path="/tmp/w/h", text="more", append=True)["size"] == 8
    assert box.ask("mkdir", box="a", path="/tmp/d/e", parents=True, mode=0o700)["mode"] == 0o700
    assert box.ask("rename", box="a", path="/tmp/w/h", to="/tmp/d/h")["path"] == "/tmp/d/h"
    assert box.fails("file", "remove", box="a", path="/tmp/d")["errno"] == "ENOTEMPTY"
    assert box.ask("remove", box="a", path="/tmp/d", recursive=True)["type"] == "directory"
    assert box.fails("file", "fs_read", box="a", path="/tmp/d/h")["errno"] == "ENOENT"
    assert box.ask("command", box="a", command="ln", args=["-s", "/tmp/w", "/tmp/l"])["success"]
    for follow, kind, target in (({}, "symlink", "/tmp/w"), ({"follow": False}, "symlink", "/tmp/w"),
                                 ({"follow": True}, "directory", None)):
        f = box.ask("stat", box="a", path="/tmp/l", **follow)
        assert (f["type"], f["target"]) == (kind, target)


@needs_life
def test_life_of_a_real_sandbox(box):
    o = box.ask("info", box="a")
    assert (o["name"], o["state"], o["memory"], o["idle_timeout"]) == ("real", "running", 512, None)
    assert box.ask("keep_alive", box="a", idle_timeout=3600)["idle_timeout"] == 3600
    assert box.ask("keep_alive", box="a")["idle_timeout"] == 3600
    assert len(box.ask("logs", box="a", source="console", tail=2)) <= 2  # what there is depends on the engine
    assert box.fails("invalid", "logs", box="a", source="nothing")["code"] == -32602
    box.ask("run", box="a", code="x = 1")
    assert box.ask("restart", box="a")["is_ready"] is True
    assert box.ask("run", box="a", code="x")["status"] == "error"


@needs_streams
def test_a_process_of_a_real_sandbox(box):
    start(box, "cat", timeout=60)
    assert box.ask("input", stream="p", text="h\xe9\n") is None
    assert box.ask("until", stream="p", text="\n")["stdout"] == "h\xe9\n"
    writing = box.send("input", stream="p", text="x" * (3 << 20) + "\n")
    assert len(box.ask("until", stream="p", text="\n")["stdout"]) == (3 << 20) + 1
    assert box.wait(writing) is None
    assert box.ask("close_input", stream="p") is None
    o = finish(box)
    assert (o["stdout"], o["exit_code"], o["reason"]) == ("", 0, "exited")
    box.fails("not_run", "open", box="a", stream="p", how="process", command="/nonexistent")
    start(box, "sleep", args=["60"], timeout=0.5)
    assert finish(box)["timed_out"] is True


@needs_streams
def test_streams_of_a_real_sandbox(box):
    o = box.ask("exec", box="a", command="sh", args=["-c", "cat; printf '\\377' >&2; exit 3"], stdin="in", timeout=60)
    assert (plain(o["stdout"]), plain(o["stderr"]), o["exit_code"], o["reason"]) == (b"in", b"\xff", 3, "exited")
    o = box.ask("exec", box="a", command="sleep", args=["60"], timeout=0.5)
    assert o["timed_out"] is True
    box.fails("not_run", "exec", box="a", command="/nonexistent")
    o = box.ask("run_streamed", box="a", code="print(6 * 7)")
    assert (plain(o["stdout"]), o["status"]) == (b"42\n", "success")
    n = 3 << 20
    assert box.ask("upload", box="a", path="/tmp/x", size=n, unknown=True)["size"] == n
    assert plain(box.ask("read_file", box="a", path="/tmp/x")) == uploaded(n)
    assert box.fails("file", "read_file", box="a", path="/nowhere")["errno"] == "ENOENT"
