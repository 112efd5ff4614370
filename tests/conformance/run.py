#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the shared cases through the SDKs and compares what comes out, also with one another.

run.py [--sdk NAME]... [--only WORD] [--quick] [--msb PATH] [--rust-driver PATH] [--c-driver PATH]
       [--verbose] SUITE...

README.md beside this file says how suites are written.
"""
import argparse
import asyncio
import json
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile

import peer

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SDK = ROOT / "sdk"
STORE = pathlib.Path(os.environ.get("MICROSANDBOX_HOME", os.path.expanduser("~/.microsandbox"))) / "images"
# Only a hang gets there: virtual machines may be emulated, on a busy machine.
STEP_LIMIT = 300
LINE_MAX = 256 << 20


def drivers(args):
    python = [sys.executable, str(SDK / "python/tests/conformance_driver.py")]
    return {
        "python": python,
        "python-sync": [*python, "--sync"],
        "javascript": ["node", str(SDK / "javascript/test/conformance-driver.mjs")],
        "rust": [os.path.abspath(args.rust_driver)],  # each runs in a folder of its own
        "c": [os.path.abspath(args.c_driver)],
    }


# ---- expectations ---------------------------------------------------------------------------


def mismatch(want, got, where="answer"):
    """What is wrong, or None."""
    if isinstance(want, dict):
        if len(want) == 1 and next(iter(want)).startswith("$"):
            (rule, value), = want.items()
            return None if RULES[rule](value, got) else f"{where}: {shorten(got)} is not as {rule} {value!r}"
        if not isinstance(got, dict):
            return f"{where}: an object is expected, not {shorten(got)}"
        for key, value in want.items():
            if key not in got:
                return f"{where}.{key}: there is none in {shorten(got)}"
            bad = mismatch(value, got[key], f"{where}.{key}")
            if bad:
                return bad
        return None
    if isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        for i, value in enumerate(want):
            bad = mismatch(value, got[i], f"{where}[{i}]")
            if bad:
                return bad
        return None
    return None if want == got and type(want) is type(got) else f"{where}: {shorten(got)}, not {shorten(want)}"


RULES = {
    "$contains": lambda v, got: v in got,
    "$lacks": lambda v, got: v not in got,
    "$match": lambda v, got: re.search(v, got) is not None,
    "$length": lambda v, got: len(got) == v,
    "$at_least": lambda v, got: got >= v,
    "$number": lambda v, got: isinstance(got, (int, float)) and not isinstance(got, bool),
    "$some": lambda v, got: any(mismatch(v, x) is None for x in got),
    "$repeat": lambda v, got: got == v[0] * v[1],
    "$json": lambda v, got: mismatch(v, json.loads(got)) is None,
}


def shorten(v):
    text = json.dumps(v, ensure_ascii=False)
    return text if len(text) < 600 else text[:300] + " … " + text[-200:]


# ---- one SDK ---------------------------------------------------------------------------------


class Failure(Exception):
    pass


class Driver:
    """A program of an SDK that takes requests."""

    def __init__(self, process):
        self.process = process
        self.next_id = 0
        self.waiting = {}
        self.reader = asyncio.create_task(self.read())

    @classmethod
    async def start(cls, command, env, cwd):
        return cls(await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=env, cwd=cwd, limit=LINE_MAX))

    async def read(self):
        while line := await self.process.stdout.readline():
            answer = json.loads(line)
            self.waiting.pop(answer.pop("id")).set_result(answer)
        for future in self.waiting.values():
            future.set_result({"error": {"kind": "the driver ended"}})

    def send(self, request):
        """Return: the id, and a future for the answer."""
        self.next_id += 1
        future = asyncio.get_running_loop().create_future()
        self.waiting[self.next_id] = future
        self.process.stdin.write(json.dumps({"id": self.next_id, **request}).encode() + b"\n")
        return self.next_id, future

    async def stop(self):
        """Return: its exit status: a sanitizer's report at the end of a driver is a failure, too."""
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 30)
        except asyncio.TimeoutError:
            self.process.kill()
            await self.process.wait()
        self.reader.cancel()
        return self.process.returncode


def expand(v, names, expected=False):
    """Fills in $NAME, and texts given as {"$lines": [...]} or {"$repeat": [text, times]}; in what is
    expected the latter is a rule."""
    if isinstance(v, str):
        for name, value in names.items():
            v = v.replace(f"${name}", value)
        return v
    if isinstance(v, list):
        return [expand(x, names, expected) for x in v]
    if isinstance(v, dict):
        if list(v) == ["$lines"]:
            return "\n".join(expand(v["$lines"], names))
        if list(v) == ["$repeat"] and not expected:
            return v["$repeat"][0] * v["$repeat"][1]
        return {k: expand(x, names, expected) for k, x in v.items()}
    return v


class Run:
    """One suite through one SDK."""

    def __init__(self, sdk, driver, names):
        self.sdk = sdk
        self.driver = driver
        self.names = names
        self.background = {}
        self.seen = {}  # case -> list of answers, for the comparison

    async def step(self, step):
        """Return: [(step, answer)], in the order of the steps."""
        if "parallel" in step:
            done = await asyncio.gather(*(self.step(s) for s in step["parallel"]))
            return [pair for pairs in done for pair in pairs]
        if "wait" in step:
            future = self.background.pop(step["wait"])[1]
        else:
            request = {k: expand(v, self.names) for k, v in step.items() if k not in ("expect", "as", "vary")}
            if request["op"] == "cancel":
                request["target"] = self.background[request["target"]][0]
            sent = self.driver.send(request)
            if "as" in step:
                self.background[step["as"]] = sent
                return []
            future = sent[1]
        try:
            answer = await asyncio.wait_for(asyncio.shield(future), STEP_LIMIT)
        except asyncio.TimeoutError:
            raise Failure(f"no answer within {STEP_LIMIT} s to {shorten(step)}") from None
        want = step.get("expect", {"ok": {}})
        if want == {"ok": {}}:
            bad = None if "ok" in answer else f"an error: {shorten(answer)}"
        else:
            bad = mismatch(expand(want, self.names, expected=True), answer)
        if bad:
            raise Failure(f"{bad}\n      step: {shorten(step)}\n      answer: {shorten(answer)}")
        return [(step, answer)]

    async def case(self, case):
        """Return: None, or what failed."""
        seen = self.seen[case["name"]] = []
        try:
            for step in case["steps"]:
                seen += await self.step(step)
        except Failure as e:
            return str(e)
        return None


# ---- servers -----------------------------------------------------------------------------------


class MsbServer:
    """`msb server start` with a home of its own that shares the machine's images."""

    def __init__(self, msb, options):
        self.msb = msb
        self.options = options
        self.home = tempfile.mkdtemp(prefix="msb-sdk-")
        self.env = dict(os.environ, MICROSANDBOX_HOME=self.home)
        STORE.mkdir(parents=True, exist_ok=True)
        os.symlink(STORE, os.path.join(self.home, "images"))
        self.process = None
        self.names = {"HOME": self.home}

    async def __aenter__(self):
        if "$HOME/cert.pem" in self.options:
            await self.make_certificate()
        ready, writer = os.pipe()
        self.process = await asyncio.create_subprocess_exec(
            self.msb, "server", "start", "--port", "0", "--ready-fd", str(writer), *expand(self.options, self.names),
            env=self.env, stdin=asyncio.subprocess.DEVNULL, pass_fds=[writer])
        os.close(writer)
        with open(ready) as f:
            line = await asyncio.get_running_loop().run_in_executor(None, f.readline)
        if not line.startswith("ready http"):
            raise SystemExit(f"run.py: msb server start said {line!r}")
        self.names["URL"] = line.split()[1]
        if "--dev" not in self.options:
            self.names["KEY"] = await self.keygen()
            self.names["TEAMKEY"] = await self.keygen("--namespace", "team")
        return self

    async def make_certificate(self):
        p = await asyncio.create_subprocess_exec(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext", "basicConstraints=critical,CA:FALSE",
            "-keyout", self.home + "/key.pem", "-out", self.home + "/cert.pem", stderr=asyncio.subprocess.DEVNULL)
        if await p.wait():
            raise SystemExit("run.py: openssl made no certificate")
        os.chmod(self.home + "/key.pem", 0o600)

    async def keygen(self, *options):
        p = await asyncio.create_subprocess_exec(
            self.msb, "server", "keygen", *options, env=self.env, stdout=asyncio.subprocess.PIPE)
        out = (await p.communicate())[0].decode()
        found = re.search(r"msb_[A-Za-z0-9_.-]+", out)
        if not found:
            raise SystemExit(f"run.py: msb server keygen printed no key: {out!r}")
        return found[0]

    async def __aexit__(self, *_):
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        await self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


class PeerServer:
    names = {}

    async def __aenter__(self):
        self.server, url = await peer.start()
        self.names = {"URL": url}
        return self

    async def __aexit__(self, *_):
        self.server.close()


# ---- suites --------------------------------------------------------------------------------------


async def run_sdk(sdk, command, suite, cases, names, failures, verbose):
    """Return: the Run."""
    names = {**names, "SDK": sdk}
    with tempfile.TemporaryDirectory(prefix="msb-sdk-") as cwd:
        for name, text in suite.get("files", {}).items():
            pathlib.Path(cwd, name).write_text(expand(text, names))
        env = {k: v for k, v in os.environ.items() if not k.startswith("MSB_")}
        env.update({k: expand(v, names) for k, v in suite.get("env", {}).items()})
        env["PYTHONPATH"] = str(SDK / "python/src")
        run = Run(sdk, await Driver.start(command, env, cwd), names)
        for case in cases:
            if sdk not in case.get("faces", [sdk]):
                continue
            bad = await run.case(case)
            if bad:
                failures.append(f"{sdk}: {suite['name']}: {case['name']}: {bad}")
            if bad or verbose:
                print(f"{'FAILED' if bad else 'ok':6} {sdk:11} {case['name']}", flush=True)
        status = await run.driver.stop()
        if status:
            failures.append(f"{sdk}: {suite['name']}: its program ended with status {status}")
    return run


def differences(runs, cases):
    """Yields where the answers of the SDKs to a case are not the same."""
    for case in cases:
        seen = [(r.sdk, r.seen[case["name"]]) for r in runs if r.seen.get(case["name"])]
        for sdk, answers in seen[1:]:
            for (step, a), (_, b) in zip(seen[0][1], answers):
                a, b = (comparable(x, s, step) for x, s in ((a, seen[0][0]), (b, sdk)))
                if a != b:
                    yield f"{seen[0][0]} and {sdk} differ: {case['name']}: {shorten(a)} and {shorten(b)}"


def comparable(answer, sdk, step):
    if "expect" not in step or step.get("vary") is True:
        return None
    drop = set(step.get("vary", []))
    # Names of boxes, as "py-c", and no options of commands, as "-c".
    text = re.sub(rf'(?<=[a-z0-9])-{sdk}(?=[" ])', "-$SDK", json.dumps(answer))
    part = json.loads(text)
    for value in part.values():
        if isinstance(value, dict):
            for key in drop:
                value.pop(key, None)
            # How a connection fails is told in the words of the language's library.
            if value.get("kind") in ("unreachable", "invalid_response", "bad_argument"):
                value.pop("message", None)
    return part


async def run_suite(path, args, failures):
    suite = json.loads(path.read_text())
    cases = [c for c in suite["cases"] if not args.only or args.only in c["name"] or c.get("always")]
    cases = [c for c in cases if not (args.quick and c.get("slow"))]
    server = PeerServer() if suite["server"] == "peer" else MsbServer(args.msb, suite["server"])
    sdks = [s for s in drivers(args) if s in args.sdk and s in suite.get("faces", [s])]
    async with server:
        jobs = [run_sdk(s, drivers(args)[s], suite, cases, server.names, failures, args.verbose) for s in sdks]
        # Sandboxes are heavy, so one SDK after the other; the peer is not.
        runs = await asyncio.gather(*jobs) if suite["server"] == "peer" else [await j for j in jobs]
    failures.extend(differences(runs, cases))
    done = sum(len(r.seen) for r in runs)
    print(f"{suite['name']}: {len(cases)} cases, {done} runs, SDKs: {', '.join(sdks)}", flush=True)
    return done


async def main():
    names = ["python", "python-sync", "javascript", "rust", "c"]
    p = argparse.ArgumentParser()
    p.add_argument("--sdk", action="append", choices=names)
    p.add_argument("--only", help="only cases whose name has this in it")
    p.add_argument("--quick", action="store_true", help="without the cases that wait for a time limit")
    p.add_argument("--msb", default=str(ROOT / "build/bin/msb"))
    p.add_argument("--rust-driver", default=str(ROOT / "build/sdk/rust/debug/examples/conformance_driver"))
    p.add_argument("--c-driver", default=str(ROOT / "build/sdk/c/conformance/driver"))
    p.add_argument("--verbose", "-v", action="store_true")
    p.add_argument("suites", nargs="*", type=pathlib.Path, default=sorted(HERE.glob("*.json")))
    args = p.parse_args()
    args.sdk = args.sdk or names
    failures = []
    done = 0
    for path in args.suites:
        done += await run_suite(path, args, failures)
    for f in failures:
        print(f"\n{f}")
    print(f"{done - len(failures)} passed, {len(failures)} failed")
    return 1 if failures or not done else 0


sys.exit(asyncio.run(main()))
