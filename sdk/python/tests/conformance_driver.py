# SPDX-License-Identifier: Apache-2.0
"""What tests/conformance asks of the Python SDK: a JSON request a line in, an answer a line out.

With --sync the face without asyncio is used.  tests/conformance/README.md has the requests.
"""
import asyncio
import base64
import json
import sys
import threading
import warnings
import zlib
from dataclasses import asdict

import microsandbox
import microsandbox.sync
from microsandbox import errors

KINDS = {
    errors.NotStartedError: "not_started",
    errors.UnreachableError: "unreachable",
    errors.RequestTimeoutError: "timeout",
    errors.InvalidResponseError: "invalid_response",
    errors.AuthenticationError: "unauthorized",
    errors.AccessDeniedError: "denied",
    errors.InvalidParamsError: "invalid",
    errors.SandboxNotFoundError: "not_found",
    errors.SandboxFailedError: "sandbox_failed",
    errors.CommandNotRunError: "not_run",
    errors.CommandTimeoutError: "command_timeout",
    errors.LimitError: "limit",
    errors.FileError: "file",
    errors.ApiError: "server",
}


def describe(e):
    if isinstance(e, asyncio.CancelledError):
        return {"kind": "cancelled"}
    if isinstance(e, SourceFailed):
        return {"kind": "source"}
    if not isinstance(e, microsandbox.MicrosandboxError):
        return {"kind": "bad_argument", "message": str(e)}
    kind = next(kind for cls, kind in KINDS.items() if type(e) is cls or cls in type(e).__bases__)
    o = {"kind": kind, "message": str(e)}
    if isinstance(e, errors.ApiError):
        o.update(code=e.code, http_status=e.http_status)
    if isinstance(e, errors.CommandTimeoutError):
        o.update(stdout=e.stdout, stderr=e.stderr)
    if isinstance(e, errors.FileError):
        o.update(errno=e.errno_name, path=e.path)
    return o


class SourceFailed(Exception):
    """What an upload reads from."""


BLOCK = bytes((i * 7 + (i >> 8)) & 255 for i in range(65521))


def pattern(q):
    """Pieces of the content that README.md describes."""
    size, at, piece = q["size"], 0, q.get("chunk", 100000)
    while at < size:
        if at >= q.get("fail_at", size):
            raise SourceFailed
        n = min(piece, size - at)
        start = at % len(BLOCK)
        yield (BLOCK * ((start + n) // len(BLOCK) + 1))[start : start + n]
        at += n


class Sink:
    def __init__(self):
        self.crc32 = 0

    def write(self, data):
        self.crc32 = zlib.crc32(data, self.crc32)


def data_of(q, text="text", binary="base64"):
    return base64.b64decode(q[binary]) if binary in q else q.get(text)


async def anext(s, default):  # built in since 3.10
    try:
        return await s.__anext__()
    except StopAsyncIteration:
        return default


def some(q, *names):
    return {k: q[k] for k in names if k in q}


class Driver:
    """`m`: the module, of either face.  Every method may give a value or something to await."""

    def __init__(self, module, wait):
        self.m = module
        self.wait = wait  # makes a value of what a call gave
        self.boxes = {}
        self.streams = {}
        self.read = {}  # of a stream: what came since it was last said

    def cls(self, q):
        return {"python": self.m.PythonSandbox, "node": self.m.NodeSandbox}[q["language"]]

    def state(self, sb):
        return {
            "name": sb.name,
            "namespace": sb.namespace,
            "server_url": sb.server_url,
            "is_started": sb.is_started,
            "is_ready": sb.is_ready,
        }

    async def new(self, q):
        sb = self.boxes[q["box"]] = self.cls(q)(**q.get("options", {}))
        return {**self.state(sb), "default_image": await self.wait(sb.get_default_image)}

    async def create(self, q):
        sb = self.boxes[q["box"]] = await self.wait(lambda: self.cls(q).create(**q.get("options", {})))
        return self.state(sb)

    async def attach(self, q):
        options = dict(q["options"])
        name = options.pop("name")
        sb = self.boxes[q["box"]] = await self.wait(lambda: self.cls(q).attach(name, **options))
        return self.state(sb)

    async def start(self, q):
        sb = self.boxes[q["box"]]
        await self.wait(lambda: sb.start(**q.get("options", {})))
        return self.state(sb)

    async def stop(self, q):
        sb = self.boxes[q["box"]]
        await self.wait(sb.stop)
        return self.state(sb)

    async def texts(self, x):
        return {
            "output": await self.wait(x.output),
            "error": await self.wait(x.error),
            "stdout": x.stdout,
            "stderr": x.stderr,
            "lines": [[line.stream, line.text] for line in x.lines],
            "truncated": x.truncated,
            "timed": x.duration_ms is not None,
        }

    async def run(self, q):
        sb = self.boxes[q["box"]]
        heard, listeners = self.listeners(q)
        x = await self.wait(lambda: sb.run(q["code"], q.get("timeout"), **listeners))
        return {
            **await self.texts(x),
            **({"heard": {k: "".join(v) for k, v in heard.items()}} if heard else {}),
            "status": x.status,
            "language": x.language,
            "has_error": x.has_error(),
            "reason": x.reason,
            "exit_code": x.exit_code,
            "state_lost": x.state_lost,
            "timed_out": x.timed_out,
            "results": [[r.mime, r.text, r.data.hex(), r.note] for r in x.results],
        }

    async def command(self, q):
        sb = self.boxes[q["box"]]
        heard, listeners = self.listeners(q)
        more = {**some(q, "env", "cwd", "user"), **listeners}
        stdin = data_of(q, "stdin", "stdin_base64")
        x = await self.wait(lambda: sb.command.run(q["command"], q.get("args"), q.get("timeout"), stdin=stdin, **more))
        return {
            **await self.texts(x),
            **({"heard": {k: "".join(v) for k, v in heard.items()}} if heard else {}),
            "command": x.command,
            "args": x.args,
            "exit_code": x.exit_code,
            "success": x.success,
        }

    def listeners(self, q):
        if not q.get("listen"):
            return {}, {}
        heard = {"stdout": [], "stderr": []}
        return heard, {"on_stdout": heard["stdout"].append, "on_stderr": heard["stderr"].append}

    async def info(self, q):
        return asdict(await self.wait(self.boxes[q["box"]].info))

    async def keep_alive(self, q):
        return asdict(await self.wait(lambda: self.boxes[q["box"]].keep_alive(**some(q, "idle_timeout"))))

    async def network(self, q):
        box = self.boxes[q["box"]]
        return asdict(await self.wait(lambda: box.set_network(q["rules"]) if "rules" in q else box.network()))

    async def logs(self, q):
        return await self.wait(lambda: self.boxes[q["box"]].logs(**some(q, "source", "tail")))

    async def restart(self, q):
        sb = self.boxes[q["box"]]
        await self.wait(lambda: sb.restart(**some(q, "timeout")))
        return self.state(sb)

    # ---- files

    async def read_file(self, q):
        part = some(q, "offset", "length", "user")
        data = await self.wait(lambda: self.boxes[q["box"]].files.read(q["path"], **part))
        return base64.b64encode(data).decode()

    async def read_text(self, q):
        return await self.wait(lambda: self.boxes[q["box"]].fs.read_text(q["path"], **some(q, "user")))

    WRITE = ("mode", "append", "exclusive", "parents", "user")

    async def write_file(self, q):
        return vars(await self.wait(
            lambda: self.boxes[q["box"]].files.write(q["path"], data_of(q), **some(q, *self.WRITE))))

    async def upload(self, q):
        return vars(await self.wait(
            lambda: self.boxes[q["box"]].files.upload(q["path"], pattern(q), **some(q, *self.WRITE))))

    async def download(self, q):
        sink = Sink()
        size = await self.wait(
            lambda: self.boxes[q["box"]].files.download(q["path"], sink, **some(q, "offset", "length", "user")))
        return {"size": size, "crc32": sink.crc32}

    async def list_files(self, q):
        found = await self.wait(lambda: self.boxes[q["box"]].files.list(q["path"], **some(q, "user")))
        return [vars(o) for o in found]

    async def stat(self, q):
        return vars(await self.wait(lambda: self.boxes[q["box"]].files.stat(q["path"], **some(q, "follow", "user"))))

    async def mkdir(self, q):
        more = some(q, "parents", "mode", "user")
        return vars(await self.wait(lambda: self.boxes[q["box"]].files.mkdir(q["path"], **more)))

    async def remove(self, q):
        how = some(q, "recursive", "user")
        return vars(await self.wait(lambda: self.boxes[q["box"]].files.remove(q["path"], **how)))

    async def rename(self, q):
        return vars(await self.wait(lambda: self.boxes[q["box"]].files.rename(q["path"], q["to"], **some(q, "user"))))

    # ---- streams

    async def open(self, q):
        sb = self.boxes[q["box"]]
        if q["how"] == "code":
            s = await self.wait(lambda: sb.stream(q["code"], q.get("timeout")))
        else:
            method = {"command": sb.command.stream, "process": sb.command.start}[q["how"]]
            more = some(q, "env", "cwd", "user", "tty", "rows", "cols")
            stdin = data_of(q, "stdin", "stdin_base64")
            s = await self.wait(lambda: method(q["command"], q.get("args"), q.get("timeout"), stdin=stdin, **more))
        self.streams[q["stream"]] = s
        self.read[q["stream"]] = {"stdout": "", "stderr": "", "stdout_size": 0, "stderr_size": 0}
        return {"pid": getattr(s, "pid", None)}

    async def until(self, q):
        text = q.get("text")
        s, read = self.streams[q["stream"]], self.read[q["stream"]]
        while text is None or text not in read["stdout"]:
            output = await anext(s, None) if hasattr(s, "__anext__") else next(s, None)
            if output is None:
                break
            read[output.stream] += output.text
            read[output.stream + "_size"] += len(output.data)
        found = dict(read)
        read.update(stdout="", stderr="", stdout_size=0, stderr_size=0)
        return found

    async def finish(self, q):
        found = await self.until({"stream": q["stream"]})
        end = await self.wait(self.streams[q["stream"]].wait)
        known = ("exit_code", "success", "reason", "signal", "timed_out", "status", "language", "state_lost")
        more = {k: getattr(end, k) for k in known if hasattr(end, k)}
        return {**found, **more, "timed": end.duration_ms is not None}

    async def input(self, q):
        await self.wait(lambda: self.streams[q["stream"]].write(data_of(q)))

    async def close_input(self, q):
        await self.wait(self.streams[q["stream"]].close_stdin)

    async def resize(self, q):
        await self.wait(lambda: self.streams[q["stream"]].resize(q["rows"], q["cols"]))

    async def signal(self, q):
        await self.wait(lambda: self.streams[q["stream"]].signal(q["signal"]))

    async def close(self, q):
        s = self.streams.pop(q["stream"])
        await self.wait(s.aclose if hasattr(s, "aclose") else s.close)

    async def metrics(self, q):
        metrics = self.boxes[q["box"]].metrics
        return await self.wait(getattr(metrics, q["what"]))

    async def list(self, q):
        found = await self.wait(lambda: self.m.list_sandboxes(**q.get("options", {})))
        return sorted((asdict(i) for i in found), key=lambda o: (o["namespace"], o["name"]))

    async def answer(self, q):
        try:
            o = {"ok": await getattr(self, q["op"])(q)}
        except (microsandbox.MicrosandboxError, ValueError, SourceFailed, asyncio.CancelledError) as e:
            o = {"error": describe(e)}
        except Exception as e:
            o = {"error": {"kind": "bug", "message": repr(e)}}
        say({"id": q["id"], **o})


say_lock = threading.Lock()


def say(o):
    with say_lock:
        sys.stdout.write(json.dumps(o) + "\n")
        sys.stdout.flush()


def main_sync():
    async def wait(f):
        return f()

    driver = Driver(microsandbox.sync, wait)
    for line in sys.stdin:
        q = json.loads(line)
        # A thread cannot be cancelled; the requests say which faces they are for.
        threading.Thread(target=lambda q=q: asyncio.run(driver.answer(q)), daemon=True).start()


async def main_async():
    async def wait(f):
        return await f()  # a coroutine, or what create() and stream() return

    driver = Driver(microsandbox, wait)
    tasks = {}
    loop = asyncio.get_running_loop()
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if not line:
            return
        q = json.loads(line)
        if q["op"] == "cancel":
            tasks[q["target"]].cancel()
            say({"id": q["id"], "ok": None})
        else:
            tasks[q["id"]] = asyncio.create_task(driver.answer(q))


warnings.simplefilter("ignore", RuntimeWarning)
if sys.argv[1:] == ["--sync"]:
    main_sync()
else:
    asyncio.run(main_async())
