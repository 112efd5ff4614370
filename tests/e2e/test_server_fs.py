# SPDX-License-Identifier: Apache-2.0
"""Files of a sandbox through the server: sandbox.fs.*"""
import base64
import json
import os
import threading

import pytest

from conftest import wait_for
from server_client import RpcError, Server

MAX = 8 << 20


@pytest.fixture(scope="module")
def server():
    s = Server()
    s.start("box")
    yield s
    assert s.stop() == 0, s.log()
    s.box.assert_nothing_left()
    s.close()


@pytest.fixture
def fs(server):
    """fs("read", path=…) in the sandbox "box"."""
    return lambda method, **params: server.call("sandbox.fs." + method, sandbox="box", **params)


@pytest.fixture
def sh(server):
    def run(text):
        r = server.call("sandbox.command.run", sandbox="box", command="sh", args=["-ec", text])
        assert r["success"], r
        return [line["text"] for line in r["output"]]
    return run


@pytest.fixture
def d(fs, request):
    """A directory of the test's own."""
    path = "/tmp/" + request.node.name.replace("[", "_").replace("]", "")
    fs("mkdir", path=path)
    yield path
    fs("remove", path=path, recursive=True)


def fails(errno, call, *args, status=400, **params):
    with pytest.raises(RpcError) as e:
        call(*args, **params)
    assert e.value.code == -32007 and e.value.data["errno"] == errno, e.value
    assert e.value.status == status and e.value.data["code"] == {400: 2001, 404: 4001}[status]
    assert e.value.data["path"] == params.get("to", params["path"])
    return e.value


def test_text_is_written_and_read(fs, sh, d):
    text = "grüße, 世界 🎉\n\ttab\r\n" + "x" * 1000
    info = fs("write", path=d + "/a.txt", content=text)
    assert info["name"] == "a.txt" and info["path"] == d + "/a.txt" and info["type"] == "file"
    assert info["mode"] == 0o644 and info["uid"] == info["gid"] == 0
    assert info["size"] == len(text.encode()) and "target" not in info
    assert int(info["mtime"]) == int(sh(f"stat -c %Y {d}/a.txt")[0])
    assert fs("read", path=d + "/a.txt") == {"content": text, "encoding": "utf-8", "size": len(text.encode())}
    assert fs("stat", path=d + "/a.txt") == info


def test_all_bytes_travel_as_base64(fs, sh, d):
    content = bytes(range(256)) * 3 + b"\0"
    fs("write", path=d + "/b", content=base64.b64encode(content).decode(), encoding="base64", mode=0o640)
    r = fs("read", path=d + "/b", encoding="base64")
    assert base64.b64decode(r["content"]) == content and r["size"] == len(content) and r["encoding"] == "base64"
    assert sh(f"stat -c '%a %s' {d}/b") == [f"640 {len(content)}"]


@pytest.mark.parametrize("content", [b"", b"a", b"ab", b"abc", b"\xff"])
def test_each_length_of_the_last_group(fs, d, content):
    text = base64.b64encode(content).decode()
    assert fs("write", path=d + "/b", content=text, encoding="base64")["size"] == len(content)
    assert fs("read", path=d + "/b", encoding="base64")["content"] == text


@pytest.mark.parametrize("content,at", [(b"good\xff", 4), (b"a\0b", 1), (b"\xc3", 0), (b"\xed\xa0\x80", 0)])
def test_what_is_no_text_is_not_read_as_text(fs, d, content, at):
    fs("write", path=d + "/b", content=base64.b64encode(content).decode(), encoding="base64")
    e = fails("EILSEQ", fs, "read", path=d + "/b")
    assert f"byte {at} " in e.message and 'encoding "base64"' in e.message


def test_parts_of_a_file(fs, d):
    fs("write", path=d + "/p", content="0123456789")
    assert fs("read", path=d + "/p", offset=3, length=4) == {"content": "3456", "encoding": "utf-8", "size": 10}
    assert fs("read", path=d + "/p", offset=8)["content"] == "89"
    assert fs("read", path=d + "/p", offset=8, length=100)["content"] == "89"
    assert fs("read", path=d + "/p", offset=10)["content"] == ""
    assert fs("read", path=d + "/p", offset=10 ** 12)["content"] == ""


def test_the_limit_of_one_call(fs, sh, d):
    sh(f"head -c {MAX} /dev/zero | tr '\\0' x > {d}/full; cp {d}/full {d}/more; printf y >> {d}/more")
    assert fs("read", path=d + "/full")["content"] == "x" * MAX
    assert "offset and length" in fails("EFBIG", fs, "read", path=d + "/more").message
    assert fs("read", path=d + "/more", offset=MAX - 1, length=MAX)["content"] == "xy"
    # And what was given up left the sandbox's link in order.
    assert fs("read", path=d + "/more", offset=MAX)["content"] == "y"

    assert fs("write", path=d + "/w", content="z" * MAX)["size"] == MAX
    coded = base64.b64encode(b"\1" * MAX).decode()
    assert fs("write", path=d + "/w", content=coded, encoding="base64", append=True)["size"] == 2 * MAX
    for params in [dict(content="z" * (MAX + 1)),
                   dict(content=base64.b64encode(b"\1" * (MAX + 1)).decode(), encoding="base64")]:
        with pytest.raises(RpcError) as e:
            fs("write", path=d + "/w", **params)
        assert e.value.code == -32602 and "content" in e.value.message
    assert fs("stat", path=d + "/w")["size"] == 2 * MAX


@pytest.mark.parametrize("text", ["a", "ab==", "!!!!", "YQ", "Y Q==", "YR=="])
def test_wrong_base64_is_refused(fs, d, text):
    if text == "ab==":  # its unused bits are not zero
        assert base64.b64decode(text)
    with pytest.raises(RpcError) as e:
        fs("write", path=d + "/b", content=text, encoding="base64")
    assert e.value.code == -32602 and "base64" in e.value.message
    fails("ENOENT", fs, "stat", path=d + "/b", status=404)


def test_append_exclusive_parents_and_mode(fs, d):
    assert fs("write", path=d + "/a/b/c", content="1", parents=True, mode=0o600)["mode"] == 0o600
    assert fs("write", path=d + "/a/b/c", content="2", append=True)["size"] == 2
    assert fs("read", path=d + "/a/b/c")["content"] == "12"
    fails("EEXIST", fs, "write", path=d + "/a/b/c", content="3", exclusive=True)
    assert fs("write", path=d + "/a/b/c", content="new")["mode"] == 0o600  # what it had
    assert fs("write", path=d + "/x", content="3", exclusive=True)["size"] == 1
    fails("ENOENT", fs, "write", path=d + "/none/x", content="", status=404)


def test_a_directory_is_listed_by_name(fs, sh, d):
    sh(f"cd {d}; echo hi >b; mkdir a; ln -s b l; mkfifo p; printf x >'z ü'; printf x >\"$(printf '\\377')\"")
    entries = fs("list", path=d)["entries"]
    assert [(e["name"], e["type"]) for e in entries] == [
        ("a", "directory"), ("b", "file"), ("l", "symlink"), ("p", "fifo"), ("z ü", "file"), ("\ufffd", "file")]
    assert entries[1]["size"] == 3 and entries[1]["path"] == d + "/b"
    assert entries[1] == fs("stat", path=d + "/b")
    assert fs("list", path=d + "/")["entries"] == entries
    assert fs("list", path=d + "/a")["entries"] == []
    assert "/etc" in [e["path"] for e in fs("list", path="/")["entries"]]
    fails("ENOTDIR", fs, "list", path=d + "/b")
    fails("ENOENT", fs, "list", path=d + "/nope", status=404)


def test_a_large_directory(fs, sh, d):
    sh(f"cd {d}; python3 -c 'for i in range(3000): open(\"%04d-{'n' * 100}\" % i, \"w\")'")
    names = [e["name"] for e in fs("list", path=d)["entries"]]
    assert names == [f"{i:04d}-" + "n" * 100 for i in range(3000)]


def test_symbolic_links(fs, d, sh):
    sh(f"cd {d}; echo content >file; ln -s file link; ln -s nowhere dangling; ln -s loop loop")
    info = fs("stat", path=d + "/link")
    assert info["type"] == "symlink" and info["target"] == "file"
    info = fs("stat", path=d + "/link", follow=True)
    assert info["type"] == "file" and info["name"] == "link" and "target" not in info
    assert fs("read", path=d + "/link")["content"] == "content\n"
    fs("write", path=d + "/link", content="through")
    assert fs("read", path=d + "/file")["content"] == "through"
    assert fs("stat", path=d + "/link")["type"] == "symlink"
    fails("ENOENT", fs, "stat", path=d + "/dangling", follow=True, status=404)
    fails("ELOOP", fs, "read", path=d + "/loop")
    assert fs("remove", path=d + "/link")["type"] == "symlink"
    assert fs("read", path=d + "/file")["content"] == "through"


def test_directories_are_made_and_removed(fs, d):
    assert fs("mkdir", path=d + "/one", mode=0o700) == fs("stat", path=d + "/one")
    assert fs("stat", path=d + "/one")["mode"] == 0o700
    fails("EEXIST", fs, "mkdir", path=d + "/one")
    fails("ENOENT", fs, "mkdir", path=d + "/x/y", status=404)
    assert fs("mkdir", path=d + "/x/y/z", parents=True)["type"] == "directory"
    fs("mkdir", path=d + "/x/y/z", parents=True)
    fails("ENOTEMPTY", fs, "remove", path=d + "/x")
    was = fs("stat", path=d + "/x")
    assert fs("remove", path=d + "/x", recursive=True) == was
    fails("ENOENT", fs, "stat", path=d + "/x", status=404)
    fails("EISDIR", fs, "read", path=d)
    fails("EISDIR", fs, "write", path=d, content="")


def test_rename(fs, d):
    fs("write", path=d + "/from", content="moved")
    fs("write", path=d + "/to", content="replaced")
    info = fs("rename", path=d + "/from", to=d + "/to")
    assert info == fs("stat", path=d + "/to") and info["name"] == "to"
    assert fs("read", path=d + "/to")["content"] == "moved"
    fails("ENOENT", fs, "rename", path=d + "/from", to=d + "/x", status=404)


def test_only_regular_files_have_content(fs, sh, d):
    sh(f"mkfifo {d}/p")
    for path in [d + "/p", "/dev/zero", "/dev/null"]:
        assert "not a regular file" in fails("EINVAL", fs, "read", path=path).message
    fails("EINVAL", fs, "write", path=d + "/p", content="x")


def test_rights_of_a_user(fs, sh, d):
    fs("write", path=d + "/secret", content="x", mode=0o600)
    fails("EACCES", fs, "read", path=d + "/secret", user="65534")
    fails("EACCES", fs, "write", path=d + "/new", content="x", user="65534")
    sh(f"chmod 777 {d}")
    info = fs("write", path=d + "/mine", content="x", user="65534:65534")
    assert (info["uid"], info["gid"]) == (65534, 65534)
    assert fs("read", path=d + "/mine", user="nobody")["content"] == "x"
    e = fails("EINVAL", fs, "read", path=d + "/mine", user="nosuch")
    assert "nosuch" in e.message


def test_the_guest_s_own_words_reach_the_client(fs):
    assert fails("ENOENT", fs, "read", path="/nope", status=404).message == "read /nope: No such file or directory"


def test_a_full_disk_leaves_the_old_content(fs, sh):
    libc = "import ctypes; libc = ctypes.CDLL(None); assert not libc."
    fs("mkdir", path="/tmp/small")
    sh(f"python3 -c '{libc}mount(b\"none\", b\"/tmp/small\", b\"tmpfs\", 0, b\"size=1m\")'")
    fs("write", path="/tmp/small/f", content="old")
    fails("ENOSPC", fs, "write", path="/tmp/small/f", content="x" * (2 << 20))
    assert fs("read", path="/tmp/small/f")["content"] == "old"
    assert [e["name"] for e in fs("list", path="/tmp/small")["entries"]] == ["f"]
    sh(f"python3 -c '{libc}umount(b\"/tmp/small\")'")
    fs("remove", path="/tmp/small")


def test_a_client_that_vanishes_leaves_no_half_file(server, fs, d):
    fs("write", path=d + "/f", content="old")
    fs("stat", path=d + "/f")  # the last line of the audit log now
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "sandbox.fs.write", "params": {
        "sandbox": "box", "path": d + "/f", "content": "y" * MAX}}).encode()
    before = server.fds()
    for cut in [len(body) // 2, len(body)]:
        s = server.connect()
        s.sendall(b"POST /api/v1/rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:cut])
        s.close()
    wait_for(lambda: b"sandbox.fs.write" in (server.home / "server.audit.log").read_bytes().splitlines()[-1])
    wait_for(lambda: server.fds() <= before)
    with open(server.home / "server.audit.log") as f:
        last = json.loads(f.read().splitlines()[-1])
    assert last["method"] == "sandbox.fs.write" and last["outcome"] in ("ok", "cancelled")
    # Old or new, as far as the second one got; never a part.
    assert fs("stat", path=d + "/f")["size"] in (3, MAX)
    wait_for(lambda: [e["name"] for e in fs("list", path=d)["entries"]] == ["f"])


@pytest.mark.parametrize("method,params", [
    ("read", {"path": "relative"}), ("read", {"path": ""}), ("read", {"path": "/" + "x" * 4095}), ("read", {}),
    ("read", {"path": 1}), ("read", {"path": "/x", "encoding": "latin-1"}), ("read", {"path": "/x", "offset": -1}),
    ("read", {"path": "/x", "length": 0}), ("read", {"path": "/x", "length": MAX + 1}),
    ("read", {"path": "/x", "offset": 1.5}), ("read", {"path": "/x", "user": ""}),
    ("write", {"path": "/x"}), ("write", {"path": "/x", "content": 1}), ("write", {"path": "/x", "content": "", "mode": 0o10000}),
    ("write", {"path": "/x", "content": "", "append": "yes"}), ("rename", {"path": "/x"}), ("rename", {"path": "/x", "to": "y"}),
])
def test_wrong_parameters(fs, method, params):
    with pytest.raises(RpcError) as e:
        fs(method, **params)
    assert (e.value.status, e.value.code, e.value.data["code"]) == (400, -32602, 2001)


def test_many_at_once(server, fs, d):
    failed = []

    def work(i):
        try:
            for n in range(5):
                text = f"{i}-{n}-" + "x" * 100_000
                fs("write", path=f"{d}/{i}", content=text)
                assert fs("read", path=f"{d}/{i}")["content"] == text
        except Exception as e:
            failed.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed and len(fs("list", path=d)["entries"]) == 8


def test_a_sandbox_that_is_not_there(server):
    for method, more in [("read", {}), ("write", {"content": ""}), ("list", {}), ("stat", {}), ("mkdir", {}),
                         ("remove", {}), ("rename", {"to": "/y"})]:
        with pytest.raises(RpcError) as e:
            server.call("sandbox.fs." + method, sandbox="none", path="/x", **more)
        assert (e.value.status, e.value.code, e.value.data) == (404, -32001, {"code": 4001})


def test_a_sandbox_that_ends_meanwhile(server):
    server.start("dying")
    server.call("sandbox.command.run", sandbox="dying", command="sh", args=["-c", "head -c 4000000 /dev/zero >/tmp/f"])
    seen = []

    def read():
        while True:
            try:
                server.call("sandbox.fs.read", sandbox="dying", path="/tmp/f", encoding="base64")
            except RpcError as e:
                seen.append(e)
                return

    t = threading.Thread(target=read)
    t.start()
    supervisor = [pid for pid, line in server.box.processes().items() if " supervise " in line]
    pid = next(p for p in supervisor if b"dying" in open(f"/proc/{p}/cmdline", "rb").read()) \
        if len(supervisor) > 1 else supervisor[0]
    os.kill(pid, 9)
    t.join()
    assert seen[0].code in (-32001, -32002)


def test_as_tools_of_an_agent(server):
    def tool(name, **arguments):
        _, answer = server.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                                 "params": {"name": name, "arguments": {"sandbox": "box", **arguments}}}, "/mcp")
        return answer["result"]

    assert not tool("sandbox_make_directory", path="/tmp/agent")["isError"]
    assert tool("sandbox_write_file", path="/tmp/agent/a", content="hello")["structuredContent"]["size"] == 5
    assert tool("sandbox_read_file", path="/tmp/agent/a")["structuredContent"]["content"] == "hello"
    assert [e["name"] for e in tool("sandbox_list_files", path="/tmp/agent")["structuredContent"]["entries"]] == ["a"]
    assert tool("sandbox_rename_file", path="/tmp/agent/a", to="/tmp/agent/b")["structuredContent"]["name"] == "b"
    assert tool("sandbox_stat_file", path="/tmp/agent/b")["structuredContent"]["type"] == "file"
    assert not tool("sandbox_remove_file", path="/tmp/agent", recursive=True)["isError"]
    r = tool("sandbox_read_file", path="/tmp/agent/a")
    assert r["isError"] and "No such file or directory" in r["content"][0]["text"]
