# SPDX-License-Identifier: Apache-2.0
"""The server over TLS."""
import contextlib
import http.client
import json
import os
import select
import socket
import ssl
import subprocess

import pytest

from conftest import TIMEOUT, Box, certificate, make_home, wait_for
from server_client import Server


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Certificate and key."""
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(files):
    s = Server("--tls-cert", files[0], "--tls-key", files[1])
    assert s.url.startswith("https://")
    yield s
    assert s.stop() == 0, s.log()
    s.close()


@pytest.fixture
def context(files):
    c = ssl.create_default_context(cafile=files[0])
    c.set_alpn_protocols(["h2", "http/1.1"])
    return c


def connect(server, context):
    return context.wrap_socket(server.connect(), server_hostname="127.0.0.1")


def request(body=b"", *lines, method=b"POST", path=b"/api/v1/rpc"):
    return b"\r\n".join([b"%s %s HTTP/1.1" % (method, path), b"Host: localhost", b"Content-Length: %d" % len(body), *lines,
                         b"", body])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_checks_the_certificate(server, context, version):
    context.minimum_version = context.maximum_version = version
    c = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=TIMEOUT)
    for _ in range(3):
        c.request("POST", "/api/v1/rpc", json.dumps({"jsonrpc": "2.0", "id": 1, "method": "sandbox.list"}))
        r = c.getresponse()
        assert r.status == 200 and json.loads(r.read())["result"] == {"sandboxes": []}
    assert c.sock.selected_alpn_protocol() == "http/1.1"
    c.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_are_refused(server, context):
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        connect(server, context)


def test_large_bodies_both_ways_and_pipelining(server, context):
    code = "x" * 5_000_000
    body = json.dumps({"jsonrpc": "2.0", "id": code[:2_000_000], "method": "sandbox.stop", "params": {"sandbox": "absent", "x": code}}).encode()
    out = memoryview(request(body) * 2 + request(path=b"/api/v1/health", method=b"GET") * 100
                     + request(b"", b"Connection: close"))
    got, block = bytearray(), None
    # In one thread: a TLS connection is not to be read and written by two at once.
    with connect(server, context) as s:
        s.setblocking(False)
        while block != b"":
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                out = out[s.send(out[:1 << 16]) if out else 0:]
            try:
                got += (block := s.recv(1 << 16))
            except ssl.SSLWantReadError:
                assert any(select.select([s], [s] if out else [], [], 120))
    assert got.count(b"is not running") == 2 and got.count(b"healthy") == 100 and got.count(b"xxxxxxxxxx") >= 400_000
    assert got.endswith(b'"id":null}')


def test_a_body_that_came_while_the_answer_before_it_waited(server, context):
    """All of it has come when the answer is taken: nothing more will arrive and wake the server."""
    ask = json.dumps({"jsonrpc": "2.0", "id": "x" * 2_000_000, "method": "sandbox.stop", "params": {"sandbox": "absent"}}).encode()
    # From what the server decrypts ahead to more than it reads ahead.
    for size in range(60_000, 140_000, 10_000):
        tail = json.dumps({"jsonrpc": "2.0", "id": "y" * size, "method": "sandbox.list"}).encode()
        with server.connect() as plain:
            # What the server cannot send stays with it.
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as s:
                s.sendall(request(ask) + request(tail, b"Connection: close"))
                got = bytearray()
                while block := s.recv(1 << 16):
                    got += block
        assert got.count(b"HTTP/1.1 200") == 1 and got.count(b"yyyyyyyyyy") == size // 10, size


def test_bytes_one_by_one(server, context):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with server.connect() as s:
        def pump(step):
            while True:
                try:
                    result = step()
                except ssl.SSLWantReadError:
                    result = None
                for b in outgoing.read():
                    s.sendall(bytes([b]))
                if result is not None:
                    return result
                incoming.write(s.recv(7))

        pump(lambda: tls.do_handshake() or True)
        pump(lambda: tls.write(request(path=b"/api/v1/health", method=b"GET")))
        got = b""
        while b"healthy" not in got:
            got += pump(lambda: tls.read(100))


def test_what_is_no_tls_is_dropped(server, context):
    before = server.fds()
    for data in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", os.urandom(5000), b"\x16\x03\x01\xff\xff" + b"a" * 70000, b"\x16\x03"):
        with server.connect() as s:
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass
            except OSError:  # it may be gone already
                pass
    with connect(server, context) as s:
        s.sendall(request(path=b"/api/v1/health", method=b"GET"))
        assert b"200 OK" in s.recv(4096)
    wait_for(lambda: server.fds() <= before)


def test_wrong_files_are_said(files, tmp_path):
    cert, key = files
    open_key = tmp_path / "open.pem"
    open_key.write_bytes(open(key, "rb").read())
    open_key.chmod(0o644)
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", other], check=True)
    other.chmod(0o600)
    box = Box(make_home())
    for args, status, text in [(["--tls-cert", cert], 2, b"go together"), (["--tls-cert", cert, "--tls-key", "/nope"], 125, b"/nope"),
                               (["--tls-cert", key, "--tls-key", key], 125, b"--tls-cert"),
                               (["--tls-cert", cert, "--tls-key", str(open_key)], 125, b"chmod 600"),
                               (["--tls-cert", cert, "--tls-key", str(other)], 125, b"--tls-key")]:
        p = box.msb("server", "start", "--dev", "--port", "0", *args)
        assert p.returncode == status and text in p.stderr, (args, p.stderr)
    subprocess.run(["rm", "-rf", box.home], check=True)
