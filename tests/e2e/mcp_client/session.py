# SPDX-License-Identifier: Apache-2.0
"""session.py http URL | stdio PROGRAM ARGS...: an agent's session, with the client library `mcp`.

Runs in an environment of its own (test_mcp_client.py makes it), for two versions of the
protocol.  Prints "ok" at the end; anything unexpected is an exception.
"""
import asyncio
import contextlib
import json
import sys

import httpx
import jsonschema
import mcp.client.session
import mcp.types as types
from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

# The library asks for its newest version; an older client asks for an older one.
VERSIONS = [types.LATEST_PROTOCOL_VERSION, "2025-06-18", "2024-11-05"]
SPIN = ["-c", "echo $$ > /tmp/spin; exec sleep 100000"]


@contextlib.asynccontextmanager
async def connect(transport, *where):
    """A session that is not initialized yet, and a function that says its id."""
    if transport == "http":
        async with streamable_http_client(where[0]) as (read, write, get_id), ClientSession(read, write) as s:
            yield s, get_id
    else:
        async with stdio_client(StdioServerParameters(command=where[0], args=list(where[1:]), env=None)) as (read, write):
            async with ClientSession(read, write) as s:
                yield s, lambda: None


# Which tools a client may run without asking, and which it must ask for: they take something away.
READ_ONLY = {"sandbox_get", "sandbox_list", "sandbox_get_logs", "sandbox_get_metrics", "sandbox_read_file",
             "sandbox_list_files", "sandbox_stat_file", "sandbox_network_get"}
HARMLESS = {"sandbox_start", "sandbox_keep_alive", "sandbox_make_directory"}
REPEATABLE = HARMLESS | {"sandbox_stop", "sandbox_remove_file", "sandbox_network_set"}
OPEN = {"sandbox_run_code", "sandbox_run_command"}


def check_hints(tools):
    hints = {name: t.annotations for name, t in tools.items()}
    assert {n for n, h in hints.items() if h.readOnlyHint} == READ_ONLY
    assert {n for n, h in hints.items() if h.openWorldHint} == OPEN
    rest = {n: h for n, h in hints.items() if not h.readOnlyHint}
    assert {n for n, h in rest.items() if not h.destructiveHint} == HARMLESS
    assert {n for n, h in rest.items() if h.idempotentHint} == REPEATABLE
    for h in hints.values():
        assert isinstance(h.readOnlyHint, bool) and isinstance(h.openWorldHint, bool), h
        assert h.readOnlyHint or (isinstance(h.destructiveHint, bool) and isinstance(h.idempotentHint, bool)), h


async def look_around(s, newest):
    tools = {t.name: t for t in (await s.list_tools()).tools}
    assert {"sandbox_start", "sandbox_stop", "sandbox_list", "sandbox_run_code", "sandbox_run_command",
            "sandbox_get_metrics"} <= set(tools), tools
    if newest:
        check_hints(tools)
    for t in tools.values():
        assert len(t.description) > 60, t
        jsonschema.Draft202012Validator.check_schema(t.inputSchema)
        assert (t.outputSchema is not None) == newest and (t.title is not None) == newest
        if newest:
            jsonschema.Draft202012Validator.check_schema(t.outputSchema)
    prompts = (await s.list_prompts()).prompts
    assert [p.name for p in prompts] == ["create_python_sandbox", "create_node_sandbox"]
    got = await s.get_prompt("create_python_sandbox", {"sandbox_name": "box"})
    assert got.messages[0].role == "user" and "'box'" in got.messages[0].content.text
    await s.send_ping()
    for ask in (s.call_tool("no_such_tool", {}), s.get_prompt("no_such_prompt"), s.list_resources()):
        try:
            await ask
        except McpError as e:
            assert e.error.code in (types.INVALID_PARAMS, types.METHOD_NOT_FOUND), e.error
        else:
            raise AssertionError("an error was expected")


async def work(s, newest):
    told = []

    async def progress(done, total, what):
        told.append((done, what))

    # The library checks structured content against the schema of the tool.
    r = await s.call_tool("sandbox_start", {"sandbox": "box", "config": {"image": "microsandbox/python"}}, progress_callback=progress)
    assert not r.isError and "started successfully" in r.content[0].text, r
    assert told and sorted(told) == told, told
    await s.call_tool("sandbox_run_code", {"sandbox": "box", "language": "python", "code": "n = 6"})
    r = await s.call_tool("sandbox_run_code", {"sandbox": "box", "language": "python", "code": "n * 7"})
    assert json.loads(r.content[0].text)["output"] == [{"stream": "stdout", "text": "42"}]
    assert (r.structuredContent is not None) == newest
    r = await s.call_tool("sandbox_run_command", {"sandbox": "box", "command": "sh", "args": ["-c", "echo err >&2; exit 3"]})
    assert not r.isError and json.loads(r.content[0].text)["exit_code"] == 3
    for name in ("sandbox_list", "sandbox_get_metrics"):
        r = await s.call_tool(name, {})
        assert [b["name"] for b in json.loads(r.content[0].text)["sandboxes"]] == ["box"], r
    r = await s.call_tool("sandbox_run_code", {"sandbox": "absent", "language": "python", "code": "1"})
    assert r.isError and "absent is not running" in r.content[0].text


async def spinning(s):
    """Does the program that never ends run?"""
    r = await s.call_tool("sandbox_run_command", {"sandbox": "box", "command": "sh", "args": ["-c", 'kill -0 "$(cat /tmp/spin)"']})
    return json.loads(r.content[0].text)["exit_code"] == 0


async def until(probe):
    while not await probe():
        await asyncio.sleep(0.05)


async def cancel(s):
    id_ = s._request_id  # of the next request
    task = asyncio.ensure_future(s.call_tool("sandbox_run_command", {"sandbox": "box", "command": "sh", "args": SPIN}))
    await asyncio.sleep(0)  # it takes its id
    assert s._request_id == id_ + 1
    await until(lambda: spinning(s))
    params = types.CancelledNotificationParams(requestId=id_, reason="the test says so")
    await s.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))

    async def gone():
        return not await spinning(s)

    await until(gone)
    assert not task.done()  # nothing answers a request that was cancelled
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await s.send_ping()


async def session(version, transport, *where):
    types.LATEST_PROTOCOL_VERSION = version
    async with connect(transport, *where) as (s, get_id):
        r = await s.initialize()
        assert r.protocolVersion == version and r.serverInfo.name == "microsandbox-server", r
        newest = version >= "2025-06-18"
        await look_around(s, newest)
        await work(s, newest)
        await cancel(s)
        id_ = get_id()
        if transport == "http":
            assert id_
            await s.call_tool("sandbox_stop", {"sandbox": "box"})
        # Over stdio the sandbox is left to the end of the server.
    if transport == "http":
        async with httpx.AsyncClient() as c:
            r = await c.post(where[0], json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers={"Mcp-Session-Id": id_})
            assert r.status_code == 404, r


for v in VERSIONS:
    asyncio.run(session(v, *sys.argv[1:]))
print("ok")
