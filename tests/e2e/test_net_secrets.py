# SPDX-License-Identifier: Apache-2.0
"""Secrets: msb-net puts values into plain HTTP requests to the named hosts, and nowhere else."""
import base64
import contextlib
import glob
import json
import os
import socket
import threading
import time

import pytest

import netlab
from conftest import wait_for
from server_client import RpcError, Server, texts
from test_net_dns import Resolver, ask
from test_net_process import QUICK, lab, receive_all, sandbox, server  # noqa: F401 (lab is a fixture)

needs_lab = pytest.mark.skipif(netlab.why_not() is not None, reason=str(netlab.why_not()))

VALUE = "sk-5f3a-not-for-the-guest"
KEY = "MSB_SECRET_KEY"
OTHER = netlab.DNS  # another address of the world's
HOST = b"Host: api.example.org\r\n"


@contextlib.contextmanager
def secrets(lab, port, names=None, scope="public", **kwargs):
    """A guest whose secret KEY is for api.example.org at `port`. Gives (msb-net, guest)."""
    text = f"secrets 1\nsecret KEY\nhost api.example.org:{port}\nhost *.wild.example:{port}\nvalue {VALUE}\n"
    fd = os.memfd_create("secrets")
    os.write(fd, text.encode())
    names = names or {"api.example.org": [netlab.PUBLIC], "cdn.example": [netlab.PUBLIC], "evil.example": [OTHER],
                      "alias.example": "api.example.org", "a.wild.example": [netlab.PUBLIC]}
    with Resolver(lab.world, netlab.DNS, names) as zone, \
            sandbox(lab, scope, extra=("--secrets-fd", str(fd)), fds=(fd,), **kwargs) as (net, guest):
        os.close(fd)
        guest.zone = zone
        yield net, guest


class Recorder:
    """serve() for netlab.Server: keeps all that a client said, and answers when it has said all."""

    def __init__(self):
        self.got, self.answer = [], b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    def __call__(self, c):
        self.got.append(receive_all(c))
        c.sendall(self.answer)


def say(guest, port, data, address=netlab.PUBLIC):
    """Sends all, ends its half, and returns what was answered."""
    with guest.tcp(address, port) as s:
        for part in data if isinstance(data, list) else [data]:
            s.sendall(part)
            if isinstance(data, list):
                time.sleep(0)  # a segment each, if TCP sees fit: the result must not depend on it
        s.shutdown(socket.SHUT_WR)
        return receive_all(s)


def get(host=HOST, extra=b"Authorization: Bearer " + KEY.encode() + b"\r\n"):
    return b"GET / HTTP/1.1\r\n" + host + extra + b"\r\n"


def with_value(data):
    return data.replace(KEY.encode(), VALUE.encode())


@needs_lab
def test_named_host_gets_the_value_and_nobody_else(lab):
    rec, other = Recorder(), Recorder()
    with server(lab.world, netlab.PUBLIC, rec) as srv, server(lab.world, OTHER, other, port=srv.port), \
            server(lab.world, netlab.PUBLIC, other) as port2, secrets(lab, srv.port) as (net, guest):
        # Before the name was asked for, its address is just an address.
        assert say(guest, srv.port, get()).endswith(b"ok")
        assert rec.got.pop() == get()
        # A name of somebody else's for the same address does not make it ours.
        assert ask(guest, "cdn.example").addresses == [netlab.PUBLIC]
        say(guest, srv.port, get())
        assert rec.got.pop() == get()

        assert ask(guest, "api.example.org").addresses == [netlab.PUBLIC]
        assert say(guest, srv.port, get()).endswith(b"ok")
        assert rec.got.pop() == with_value(get())
        # Another of the names at this address, by Host and by target.
        for request in (get(b"Host: cdn.example\r\n"), get(b"Host: api.example.org:1\r\n"),
                        get().replace(b"GET /", b"GET http://cdn.example/"), get().replace(b"GET", b"TRACE")):
            say(guest, srv.port, request)
            assert rec.got.pop() == request
        # Another port of the host, another host.
        assert ask(guest, "evil.example").addresses == [OTHER]
        say(guest, port2.port, get())
        say(guest, srv.port, get(), OTHER)
        assert other.got == [get()] * 2
        # A wildcard's host.
        assert ask(guest, "a.wild.example").addresses == [netlab.PUBLIC]
        say(guest, srv.port, get(b"Host: A.wild.example\r\n"))
        assert rec.got.pop() == with_value(get(b"Host: A.wild.example\r\n"))
        assert net.end() == 0
        log = net.log_text()
        assert f"event=secret-sent secret=KEY dst={netlab.PUBLIC} port={srv.port}" in log
        assert "event=secrets sent=2 refused=0" in log and VALUE not in log


@needs_lab
def test_rebinding_does_not_lead_it_elsewhere(lab):
    """The guest's own name servers, names and aliases: none makes another address the host's."""
    names = {"api.example.org": [netlab.PUBLIC], "evil.example": [OTHER], "www.evil.example": "api.example.org"}
    rec, evil = Recorder(), Recorder()
    with server(lab.world, netlab.PUBLIC, rec) as srv, server(lab.world, OTHER, evil, port=srv.port), \
            secrets(lab, srv.port, names) as (_, guest):
        ask(guest, "api.example.org")
        ask(guest, "evil.example")
        ask(guest, "www.evil.example")
        say(guest, srv.port, get(), OTHER)
        names["evil.example"] = [netlab.PUBLIC]
        ask(guest, "evil.example")
        say(guest, srv.port, get(b"Host: evil.example\r\n"))
        assert evil.got == [get()] and rec.got == [get(b"Host: evil.example\r\n")]
        # A private address is no answer for a name, also for this one.
        names["api.example.org"] = [netlab.OTHERS["private10"]]
        assert ask(guest, "api.example.org").addresses == []


@needs_lab
def test_requests_of_all_forms(lab):
    body = b"A: " + KEY.encode() + b"\r\n\r\n"
    post = b"POST /" + KEY.encode() + b" HTTP/1.1\r\n" + HOST + b"X-Key: %s\r\nContent-Length: %d\r\n\r\n"
    chunked = b"PUT / HTTP/1.1\r\n" + HOST + b"X-Key: %s\r\nTransfer-Encoding: chunked\r\n\r\n" \
        + b"%x\r\n%s\r\n0\r\nT: %s\r\n\r\n" % (len(body), body, KEY.encode())
    basic = b"GET / HTTP/1.1\r\n" + HOST + b"Authorization: Basic %s\r\n\r\n"
    sent = post % (KEY.encode(), len(body)) + body + chunked.replace(b"%s", KEY.encode(), 1) \
        + basic % base64.b64encode(b"me:" + KEY.encode()) + get()
    want = post % (VALUE.encode(), len(body)) + body + chunked.replace(b"%s", VALUE.encode(), 1) \
        + basic % base64.b64encode(b"me:" + VALUE.encode()) + with_value(get())
    rec = Recorder()
    with server(lab.world, netlab.PUBLIC, rec) as srv, secrets(lab, srv.port) as (_, guest):
        ask(guest, "api.example.org")
        say(guest, srv.port, sent)
        say(guest, srv.port, [sent[i:i + 3] for i in range(0, len(sent), 3)])
        assert rec.got == [want, want]
        # What is no HTTP, or none to its end, goes through; so does much, both ways.
        large = os.urandom(3_000_000)
        rec.answer = large
        upload = post % (KEY.encode(), len(large)) + large
        for data in (b"\x16\x03\x01 no HTTP " + get(), get()[:-4], upload):
            assert say(guest, srv.port, data) == large
        assert rec.got[2:] == [b"\x16\x03\x01 no HTTP " + get(), get()[:-4], post % (VALUE.encode(), len(large)) + large]


@needs_lab
def test_keep_alive(lab):
    """One connection, a request at a time, each answered before the next is made."""
    got = []

    def serve(c):
        while data := c.recv(65536):
            got.append(data)
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with server(lab.world, netlab.PUBLIC, serve) as srv, secrets(lab, srv.port) as (_, guest):
        ask(guest, "api.example.org")
        with guest.tcp(netlab.PUBLIC, srv.port, timeout=QUICK) as s:
            for _ in range(50):
                s.sendall(get())
                assert s.recv(1000).startswith(b"HTTP/1.1 200")
        assert got == [with_value(get())] * 50


@needs_lab
def test_what_is_ambiguous_is_refused(lab):
    rec = Recorder()
    bad = [b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length : 4\r\n\r\nabcd", get().replace(b"\r\n", b"\n"),
           get(HOST + b"Host: cdn.example\r\n")]
    with server(lab.world, netlab.PUBLIC, rec) as srv, secrets(lab, srv.port) as (net, guest):
        ask(guest, "api.example.org")
        for request in bad:
            answer = say(guest, srv.port, request)
            assert answer.startswith(b"HTTP/1.1 400 ") and b"was not passed on" in answer
        # Behind a good request there is nothing to say: the connection is reset.
        with guest.tcp(netlab.PUBLIC, srv.port, timeout=QUICK) as s:
            s.sendall(get() + bad[0])
            with pytest.raises(ConnectionResetError):
                while s.recv(1000):
                    pass
        assert VALUE.encode() not in b"".join(rec.got)
        assert net.end() == 0
        assert net.log_text().count("event=secret-refused") == 5 and "refused=5" in net.log_text()


@needs_lab
def test_ends_of_connections(lab):
    """Refused, reset and idle: the guest sees what it would see without us."""
    released = threading.Event()

    def reset(c):
        c.recv(10)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def hold(c):
        c.recv(1000)
        released.wait(60)
        with contextlib.suppress(OSError):  # most of the guest's ends are closed
            c.sendall(b"served")

    with server(lab.world, netlab.PUBLIC, reset) as srv, secrets(lab, srv.port) as (net, guest):
        ask(guest, "api.example.org")
        with guest.tcp(netlab.PUBLIC, srv.port) as s:
            s.sendall(get())
            with pytest.raises(ConnectionResetError):
                s.recv(10)
        srv.close()
        with pytest.raises(ConnectionRefusedError):
            guest.tcp(netlab.PUBLIC, srv.port)
    with server(lab.world, netlab.PUBLIC, hold) as srv, secrets(lab, srv.port) as (net, guest):
        ask(guest, "api.example.org")
        held = [guest.tcp(netlab.PUBLIC, srv.port) for _ in range(64)]
        for s in held:
            s.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):  # one too many: cut off, and not left to wait
            with guest.tcp(netlab.PUBLIC, srv.port) as s:
                s.sendall(get())
                assert not s.recv(10)
                raise ConnectionResetError
        # The guest goes away: so do the connections, and there is room again.
        for s in held:
            s.close()
        released.set()

        def again():
            with contextlib.suppress(OSError), guest.tcp(netlab.PUBLIC, srv.port, timeout=QUICK) as s:
                s.sendall(get())
                return s.recv(10) == b"served"

        wait_for(again)
        fds = f"/proc/{net.process.pid}/fd"
        wait_for(lambda: len(os.listdir(fds)) < 20, what=lambda: str(os.listdir(fds)))


# ---- through msx and the server ----------------------------------------------------------------


ASK = """
import os, urllib.request as u
key = os.environ["KEY"]
for host in "host.microsandbox.internal", "10.0.2.4":
    u.urlopen(u.Request(f"http://{host}:%d/", headers={"X-Key": key, "Authorization": "Bearer " + key})).close()
print(key, flush=True)
"""


def assert_not_seen(directory, processes):
    """The value is in no file below `directory`, and in no command line or environment of ours."""
    for d, _, names in os.walk(directory):
        for n in names:
            with contextlib.suppress(OSError), open(os.path.join(d, n), "rb") as f:
                assert VALUE.encode() not in f.read(), n
    for pid in processes:
        for what in "cmdline", "environ":
            with contextlib.suppress(OSError), open(f"/proc/{pid}/{what}", "rb") as f:
                assert VALUE.encode() not in f.read(), (pid, what)


def test_msx_secret(box, web, tmp_path):
    (tmp_path / "key").write_text(VALUE + "\n")
    p = box.start("-q", "--scope", "any", "--secret", f"KEY=file:{tmp_path}/key@host.microsandbox.internal:{web.port}",
                  "python", "--", "-c", ASK % web.port + "input()")
    assert p.stdout.readline().decode().strip() == KEY, p.stderr.read()
    # By its name the host gets the value, by its address it does not.
    assert [(h["X-Key"], h["Authorization"]) for h in web.headers] == \
        [(VALUE, f"Bearer {VALUE}"), (KEY, f"Bearer {KEY}")]
    directory = box.wait_sandbox()
    assert_not_seen(directory, box.processes())
    net = open(glob.glob(directory + "/log/net.log")[0]).read()
    assert "event=secret-sent secret=KEY" in net
    p.communicate(b"\n")
    assert p.returncode == 0
    box.assert_nothing_left()


def test_msx_refuses_bad_secrets(box):
    box.env["KEY"] = "two\nlines"
    for option, text in (("KEY=hunter2@a.example", "seen by everybody"), ("KEY@a.example:443", "TLS"),
                         ("KEY@10.0.0.1", "no domain name"), ("NOT_SET@a.example", "NOT_SET is not set"),
                         ("KEY@a.example", "line end"), ("KEY=file:/nonexistent@a.example", "No such file")):
        p = box.msx("--secret", option, "python", "--", "-c", "", check=2)
        assert text in p.stderr.decode() and b"hunter2" not in p.stderr, (option, p.stderr)
    box.env["KEY"] = VALUE
    p = box.msx("-q", "--scope", "none", "--secret", "KEY@a.example", "python", "--", "-c", "")
    assert p.returncode not in (0, 2) and b"secrets need a network" in p.stderr


def test_server_secrets(web):
    s = Server()
    try:
        rule = f"allow tcp loopback:{web.port}"
        secret = {"name": "KEY", "value": VALUE, "hosts": [f"host.microsandbox.internal:{web.port}"]}
        s.start("box", network=[rule], secrets=[secret])
        assert texts(s.run("box", ASK % web.port)) == [KEY]
        s.call("sandbox.restart", sandbox="box")
        assert texts(s.run("box", ASK % web.port)) == [KEY]
        assert [h["X-Key"] for h in web.headers] == [VALUE, KEY] * 2
        assert VALUE not in json.dumps(s.call("sandbox.get", sandbox="box"))
        assert_not_seen(s.box.home, s.box.processes())
        assert VALUE not in s.log()
        for bad, text in (({**secret, "value": "a\n"}, "control"), ({**secret, "hosts": ["10.0.0.1"]}, "domain"),
                          ({**secret, "hosts": []}, "hosts"), ({**secret, "name": "1"}, "name")):
            with pytest.raises(RpcError) as e:
                s.call("sandbox.start", sandbox="bad", config={"image": "python", "secrets": [bad]})
            assert e.value.code == -32602 and text in e.value.message and VALUE not in e.value.message
        s.call("sandbox.stop", sandbox="box")
        assert s.stop() == 0, s.log()
        s.box.assert_nothing_left()
    finally:
        s.close()
