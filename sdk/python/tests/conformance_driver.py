# SPDX-License-Identifier: Apache-2.0
"""What tests/conformance asks of the Python SDK: a JSON request a line in, an answer a line out.

With --sync the face without asyncio is used.  tests/conformance/README.md has the requests.
"""
import asyncio
import json
import sys
import threading
import warnings

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
    errors.ApiError: "server",
}


def describe(e):
    if isinstance(e, asyncio.CancelledError):
        return {"kind": "cancelled"}
    if type(e) is ValueError:
        return {"kind": "bad_argument", "message": str(e)}
    o = {"kind": KINDS[type(e)], "message": str(e)}
    if isinstance(e, errors.ApiError):
        o.update(code=e.code, http_status=e.http_status)
    if isinstance(e, errors.CommandTimeoutError):
        o.update(stdout=e.stdout, stderr=e.stderr)
    return o


class Driver:
    """`m`: the module, of either face.  Every method may give a value or something to await."""

    def __init__(self, module, wait):
        self.m = module
        self.wait = wait  # makes a value of what a call gave
        self.boxes = {}

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
        x = await self.wait(lambda: sb.run(q["code"], q.get("timeout")))
        return {
            **await self.texts(x),
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
        x = await self.wait(lambda: sb.command.run(q["command"], q.get("args"), q.get("timeout")))
        return {
            **await self.texts(x),
            "command": x.command,
            "args": x.args,
            "exit_code": x.exit_code,
            "success": x.success,
        }

    async def metrics(self, q):
        metrics = self.boxes[q["box"]].metrics
        return await self.wait(getattr(metrics, q["what"]))

    async def list(self, q):
        found = await self.wait(lambda: self.m.list_sandboxes(**q.get("options", {})))
        return sorted((vars(i) for i in found), key=lambda o: (o["namespace"], o["name"]))

    async def answer(self, q):
        try:
            o = {"ok": await getattr(self, q["op"])(q)}
        except (microsandbox.MicrosandboxError, ValueError, asyncio.CancelledError) as e:
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
        return await f()

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
