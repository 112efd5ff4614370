# SPDX-License-Identifier: Apache-2.0
"""A server of its own for tests, and the plainest client there is."""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess

from conftest import MSB, TIMEOUT, Box, make_home


class RpcError(Exception):
    def __init__(self, status, error):
        super().__init__(f"{status}: {error}")
        self.status = status
        self.code = error["code"]
        self.message = error["message"]
        self.data = error.get("data")


class Server:
    """`msb server start` in a MICROSANDBOX_HOME of its own, on a port of its own."""

    def __init__(self, *args, home=None, dev=True, msb=MSB, prefix=()):
        self.box = Box(home or make_home())
        self.home = self.box.home
        self.log_path = str(self.home / "test-server.log")
        r, w = os.pipe()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*prefix, msb, "server", "start", "--port", "0", "--ready-fd", str(w), *(["--dev"] if dev else []), *args],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.box.env, pass_fds=[w])
        os.close(w)
        with os.fdopen(r) as ready:
            line = ready.readline()
        assert line.startswith("ready http"), self.log()
        self.url = line.split()[1]
        self.port = int(self.url.rsplit(":", 1)[1])
        self.key = None

    def log(self):
        with open(self.log_path) as f:
            return f.read()

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def http(self, method, path, body=None, headers=None):
        """Returns (status, headers, body) of one request on a connection of its own."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        headers = dict(headers or {})
        if self.key:
            headers.setdefault("Authorization", f"Bearer {self.key}")
        try:
            c.request(method, path, body, headers)
            r = c.getresponse()
            return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
        finally:
            c.close()

    def post(self, message, path="/api/v1/rpc", headers=None):
        body = message if isinstance(message, (bytes, str)) else json.dumps(message)
        status, _, answer = self.http("POST", path, body, {"Content-Type": "application/json", **(headers or {})})
        return status, json.loads(answer) if answer else None

    def call(self, method, **params):
        status, answer = self.post({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
        if "error" in answer:
            raise RpcError(status, answer["error"])
        assert status == 200 and answer["id"] == 7 and answer["jsonrpc"] == "2.0"
        return answer["result"]

    def start(self, name, **config):
        return self.call("sandbox.start", sandbox=name, config={"image": "python", **config})

    def run(self, name, code, language="python", **params):
        return self.call("sandbox.repl.run", sandbox=name, language=language, code=code, **params)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(TIMEOUT)

    def stop(self):
        """Asks it to end, as a user would. Returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT)

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def supervisor_pid(self, name, namespace="default"):
        with open(self.home / f"projects/{namespace}/menv/{name}/run/pid") as f:
            return int(f.read())

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(TIMEOUT)
        for pid in self.box.processes():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)


def texts(result, stream="stdout"):
    return [line["text"] for line in result["output"] if line["stream"] == stream]
