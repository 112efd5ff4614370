# SPDX-License-Identifier: Apache-2.0
"""A real registry on loopback, images for it, and a proxy that does to its answers what networks do."""
import base64
import concurrent.futures
import contextlib
import gzip
import hashlib
import http.client
import http.server
import json
import pathlib
import socket
import subprocess
import threading
import time

from box import wait_for

OCI = "application/vnd.oci.image."
PASSWORD = "geheim"
# bcrypt of it, with few rounds: a test is no secret.
HTPASSWD = "fritz:$2b$04$KA8iwGa./33rMHbp4dQxLeEs9FRQZwHwyBfqnVGaWDS0gS4e9SGpO\n"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class Registry:
    """Debian's docker-registry, with what it holds below a folder."""

    def __init__(self, folder, auth=False, tls=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.auth, self.tls = auth, tls
        # Another program may take the port first: then the next one.
        for attempt in range(5):
            self.port = free_port()
            self.process = self.start()
            try:
                wait_for(self.ready, what=lambda: "the registry does not start", seconds=60)
                break
            except AssertionError:
                self.process.kill()
                self.process.wait()
                if attempt == 4:
                    raise
        self.host = f"127.0.0.1:{self.port}"

    def start(self):
        http_part = {"addr": f"127.0.0.1:{self.port}", "secret": "x"}
        if self.tls:
            http_part["tls"] = {"certificate": self.tls[0], "key": self.tls[1]}
        config = {"version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}}, "http": http_part,
                  "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}}}
        if self.auth:
            (self.folder / "htpasswd").write_text(HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(self.folder / "htpasswd")}}
        path = self.folder / "config.json"  # JSON is YAML
        path.write_text(json.dumps(config))
        return subprocess.Popen(["docker-registry", "serve", str(path)], stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ready(self):
        assert self.process.poll() is None
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
            return True
        return False

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

    def request(self, method, path, data=None, headers=()):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        c.request(method, path, data, dict(headers))
        r = c.getresponse()
        body = r.read()
        c.close()
        return r.status, dict(r.getheaders()), body

    def put_blob(self, repo, data):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        _, h, _ = self.request("POST", f"/v2/{repo}/blobs/uploads/")
        where = h["Location"].split(str(self.port), 1)[1]
        status, _, body = self.request("PUT", f"{where}&digest={digest}", data,
                                       {"Content-Type": "application/octet-stream"})
        assert status == 201, body
        return {"digest": digest, "size": len(data)}

    def put_manifest(self, repo, tag, doc):
        data = json.dumps(doc).encode()
        status, h, body = self.request("PUT", f"/v2/{repo}/manifests/{tag}", data, {"Content-Type": doc["mediaType"]})
        assert status == 201, body
        return {"mediaType": doc["mediaType"], "digest": h["Docker-Content-Digest"], "size": len(data)}

    def put_image(self, repo, tag, layers, pack=lambda t: gzip.compress(t, mtime=0), kind="tar+gzip", config=None, arch="amd64"):
        """An image of these tars. Return: its descriptor."""
        diff_ids = ["sha256:" + hashlib.sha256(t).hexdigest() for t in layers]
        doc = {"os": "linux", "architecture": arch, "config": config or {},
               "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        different = dict(zip(diff_ids, layers))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            packed = dict(zip(different, pool.map(lambda t: dict(
                self.put_blob(repo, pack(t)), mediaType=OCI + "layer.v1." + kind), different.values())))
        return self.put_manifest(repo, tag, {
            "schemaVersion": 2, "mediaType": OCI + "manifest.v1+json",
            "config": dict(self.put_blob(repo, json.dumps(doc).encode()), mediaType=OCI + "config.v1+json"),
            "layers": [packed[d] for d in diff_ids]})


class Proxy:
    """
    Between us and a registry.  `fault` is called for each request with its number and itself; what it
    returns is done: None (passed on) or a dict of

      status, headers, body   answered instead of the registry
      wait                    seconds before the answer
      cut                     the connection breaks after so many bytes of the body
      change                  a function of the body's bytes
      length                  what Content-Length says; None: chunked, without one
      no_range                Range is not passed on
    """

    def __init__(self, port, token=None):
        self.log, self.sent, self.fault, self.token = [], 0, None, token
        self.issued, self.lock = 0, threading.Lock()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                with contextlib.suppress(OSError):
                    proxy.handle(self, port)

            do_HEAD = do_POST = do_GET

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *args: None  # a client that is killed breaks connections
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def gets(self, part):
        return [r for r in self.log if r["method"] == "GET" and part in r["path"]]

    def answer(self, h, status, headers, body=b""):
        h.send_response_only(status)
        for k, v in headers.items():
            h.send_header(k, v)
        h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        h.wfile.write(body)

    def authorized(self, h):
        """With a token service: a token counts for as many requests as self.token says."""
        given = h.headers.get("Authorization", "")
        if h.path.startswith("/token"):
            basic = "Basic " + base64.b64encode(b"fritz:" + PASSWORD.encode()).decode()
            if given and given != basic:
                self.answer(h, 401, {}, b'{"errors":[{"code":"UNAUTHORIZED","message":"no such user"}]}')
                return False
            with self.lock:
                self.issued += 1
                self.left = self.token
            self.answer(h, 200, {"Content-Type": "application/json"},
                        json.dumps({"token": f"token-{self.issued}"}).encode())
            return False
        with self.lock:
            good = self.issued and given == f"Bearer token-{self.issued}" and self.left > 0
            if good:
                self.left -= 1
        if not good:
            self.answer(h, 401, {"WWW-Authenticate": f'Bearer realm="http://{self.host}/token",service="s",'
                                                     'scope="repository:a/b:pull"'})
        return good

    def handle(self, h, port):
        request = {"method": h.command, "path": h.path, "range": h.headers.get("Range"),
                   "authorization": h.headers.get("Authorization")}
        with self.lock:
            self.log.append(request)
            number = len(self.log)
        if self.token and not self.authorized(h):
            return
        f = (self.fault(number, request) if self.fault else None) or {}
        time.sleep(f.get("wait", 0))
        if "status" in f:
            self.answer(h, f["status"], f.get("headers", {}), f.get("body", b""))
            return
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        c.request(h.command, h.path, headers={k: v for k, v in h.headers.items()
                                              if k in ("Accept", "Range") and not (k == "Range" and "no_range" in f)})
        r = c.getresponse()
        body = f.get("change", lambda b: b)(r.read())
        h.send_response_only(r.status)
        for k, v in r.getheaders():
            if k.lower() not in ("content-length", "connection", "transfer-encoding"):
                h.send_header(k, v)
        chunked = "length" in f and f["length"] is None
        if h.command == "HEAD":
            h.send_header("Content-Length", r.getheader("Content-Length"))
        elif chunked:
            h.send_header("Transfer-Encoding", "chunked")
        else:
            h.send_header("Content-Length", str(f.get("length", len(body))))
        h.end_headers()
        c.close()
        part = body[:f["cut"]] if "cut" in f else body
        with self.lock:
            self.sent += len(part)
        h.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(part), part) if chunked and part else part)
        if "cut" in f or len(part) != f.get("length", len(part)):
            h.close_connection = True
            if not chunked:
                h.connection.shutdown(socket.SHUT_RDWR)
