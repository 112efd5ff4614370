# SPDX-License-Identifier: Apache-2.0
"""Agents: the Model Context Protocol at /mcp."""
import http.client
import json
import os
import pathlib
import re
import shutil
import stat

import pytest

from conftest import BUILD, TIMEOUT, make_home, wait_for
from server_client import Server

BOTH = "application/json, text/event-stream"
VERSIONS = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]


@pytest.fixture(scope="module")
def server():
    s = Server()
    yield s
    assert s.stop() == 0, s.log()
    s.box.assert_nothing_left()
    s.close()


@pytest.fixture(scope="module")
def agent(server):
    """A sandbox that runs."""
    server.start("agent")
    yield "agent"
    server.call("sandbox.stop", sandbox="agent")


def message(method, params=None, id_=1):
    m = {"jsonrpc": "2.0", "method": method}
    if id_ is not None:
        m["id"] = id_
    if params is not None:
        m["params"] = params
    return m


def mcp(server, method, params=None, id_=1, headers=None):
    return server.post(message(method, params, id_), path="/mcp", headers={"Accept": BOTH, **(headers or {})})


def tool(server, name, **arguments):
    status, answer = mcp(server, "tools/call", {"name": name, "arguments": arguments})
    assert status == 200
    return answer["result"]


def initialize(server, version=VERSIONS[0], **headers):
    """Returns the headers of a session and the result."""
    body = json.dumps(message("initialize", {"protocolVersion": version, "capabilities": {},
                                             "clientInfo": {"name": "test", "version": "1"}}))
    status, got, answer = server.http("POST", "/mcp", body, {"Accept": BOTH, **headers})
    assert status == 200, answer
    result = json.loads(answer)["result"]
    return {"Mcp-Session-Id": got["mcp-session-id"], "MCP-Protocol-Version": result["protocolVersion"], **headers}, result


class Stream:
    """A POST whose answer may be a stream of events."""

    def __init__(self, server, m, headers=None):
        self.conn = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        self.conn.request("POST", "/mcp", json.dumps(m), {"Accept": BOTH, **(headers or {})})

    def answer(self):
        self.response = self.conn.getresponse()
        return self.response.status, self.response.getheader("content-type")

    def events(self):
        """Each message, and None for a comment."""
        data = []
        for line in self.response:
            line = line.decode().rstrip("\n")
            if line.startswith(":"):
                yield None
            elif line.startswith("data: "):
                data.append(line[6:])
            elif not line and data:
                yield json.loads("\n".join(data))
                data = []

    def close(self):
        self.conn.close()


def spin(sandbox, name):
    """A command that leaves its pid and does not end."""
    return {"name": "sandbox_run_command",
            "arguments": {"sandbox": sandbox, "command": "sh", "args": ["-c", f"echo $$ > /tmp/{name}; exec sleep 100000"]}}


def alive(server, sandbox, name):
    """Is it there? None: it has not begun."""
    r = server.call("sandbox.command.run", sandbox=sandbox, command="sh",
                    args=["-c", f'test -s /tmp/{name} || exit 3; kill -0 "$(cat /tmp/{name})" 2>/dev/null'])
    return {0: True, 1: False, 3: None}[r["exit_code"]]


# ---- versions, messages ----------------------------------------------------------------------


@pytest.mark.parametrize("asked,given", [(v, v) for v in VERSIONS] + [("2099-01-01", VERSIONS[0])])
def test_versions_are_negotiated(server, asked, given):
    headers, result = initialize(server, asked)
    assert result["protocolVersion"] == given
    assert result["serverInfo"]["name"] == "microsandbox-server"
    assert set(result["capabilities"]) == {"tools", "prompts"}
    assert mcp(server, "tools/list", headers={"MCP-Protocol-Version": given})[0] == 200
    assert mcp(server, "tools/list", headers=headers)[0] == 200
    assert mcp(server, "tools/list", headers={"MCP-Protocol-Version": "1.0"})[0] == 400
    assert mcp(server, "tools/list", headers={**headers, "MCP-Protocol-Version": "2024-11-5"})[0] == 400


def test_what_needs_no_answer_gets_none(server):
    assert mcp(server, "notifications/initialized", id_=None) == (202, None)
    assert mcp(server, "notifications/cancelled", {"requestId": 5}, id_=None) == (202, None)
    assert mcp(server, "notifications/cancelled", {}, id_=None) == (202, None)
    assert server.post({"jsonrpc": "2.0", "id": 9, "result": {}}, path="/mcp") == (202, None)
    assert mcp(server, "ping") == (200, {"jsonrpc": "2.0", "id": 1, "result": {}})


def test_requests_that_are_wrong(server):
    for body, status, code in [("{", 400, -32700), ("[]", 400, -32600), ("{}", 400, -32600), ("5", 400, -32700),
                               ('{"jsonrpc":"2.0","id":null,"method":"ping"}', 400, -32600),
                               ('{"jsonrpc":"2.0","id":{},"method":"ping"}', 400, -32600),
                               ('{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', 400, -32602),
                               ("[" * 100 + "]" * 100, 400, -32700)]:
        got, answer = server.post(body, path="/mcp")
        assert got == status and answer["error"]["code"] == code, body
        assert answer["id"] is None or answer["id"] == 1
    assert mcp(server, "no/such")[1]["error"]["code"] == -32601
    assert mcp(server, "ü" * 200)[1]["error"]["code"] == -32601
    assert mcp(server, "tools/call", {"name": "ü" * 200})[1]["error"]["code"] == -32602
    assert mcp(server, "tools/call", {"name": ["sandbox_list"]})[1]["error"]["code"] == -32602
    assert mcp(server, "tools/call", {"name": "sandbox_list", "arguments": 5})[1]["error"]["code"] == -32602
    assert mcp(server, "tools/list", {"cursor": "2"})[1]["error"]["code"] == -32602
    assert mcp(server, "initialize", {"protocolVersion": 5})[1]["error"]["code"] == -32602
    assert mcp(server, "prompts/get", {"name": "create_python_sandbox"})[1]["error"]["code"] == -32602


def test_methods_of_the_path(server):
    for method in ("GET", "PUT"):
        status, headers, _ = server.http(method, "/mcp", headers={"Accept": "text/event-stream"})
        assert status == 405 and headers["allow"] == "POST, DELETE, OPTIONS"
    _, headers, _ = server.http("OPTIONS", "/mcp", headers={"Origin": "http://localhost:6274"})
    assert "Mcp-Session-Id" in headers["access-control-allow-headers"]
    _, headers, _ = server.http("POST", "/mcp", json.dumps(message("ping")), {"Origin": "http://localhost:6274"})
    assert headers["access-control-expose-headers"] == "Mcp-Session-Id"


def test_batches_are_of_one_version_only(server):
    batch = [message("ping", id_=1), message("notifications/x", id_=None), message("no/such", id_="b"), 5,
             message("initialize", {"protocolVersion": "2025-03-26"}, id_=3), message("tools/call", {"name": "sandbox_list"}, id_=4)]
    headers, _ = initialize(server, "2025-03-26")
    for h in (headers, {"MCP-Protocol-Version": "2025-03-26"}, {}):
        status, answer = server.post(batch, path="/mcp", headers=h)
        assert status == 200 and [a["id"] for a in answer] == [1, "b", None, 3, 4]
        assert [a["error"]["code"] for a in answer[1:4]] == [-32601, -32600, -32600]
        assert answer[4]["result"]["isError"] is False
    assert server.post([message("notifications/x", id_=None)] * 3, path="/mcp", headers=headers) == (202, None)
    for version in set(VERSIONS) - {"2025-03-26"}:
        for h in (initialize(server, version)[0], {"MCP-Protocol-Version": version}):
            status, answer = server.post(batch, path="/mcp", headers=h)
            assert status == 400 and answer["error"]["code"] == -32600


# ---- what there is -----------------------------------------------------------------------------


def test_tools_have_schemas(server):
    tools = {t["name"]: t for t in mcp(server, "tools/list")[1]["result"]["tools"]}
    assert {"sandbox_start", "sandbox_stop", "sandbox_run_code", "sandbox_run_command", "sandbox_get_metrics",
            "sandbox_list"} <= set(tools)
    assert tools["sandbox_run_code"]["inputSchema"]["required"] == ["sandbox", "language", "code"]
    config = tools["sandbox_start"]["inputSchema"]["properties"]["config"]
    assert config["properties"]["memory"]["type"] == "integer"
    # Only what a model can make use of.
    assert not {"shell", "exec", "scripts", "depends_on"} & set(config["properties"])
    assert "$ref" not in json.dumps(tools) and "x-mcp" not in json.dumps(tools)
    for t in tools.values():
        assert t["description"] and t["title"] and t["inputSchema"]["type"] == t["outputSchema"]["type"] == "object"
        assert re.fullmatch(r"[a-z_]{1,64}", t["name"])
        hints = t["annotations"]
        assert hints["readOnlyHint"] or "destructiveHint" in hints
    assert tools["sandbox_list"]["annotations"]["readOnlyHint"] and not tools["sandbox_stop"]["annotations"]["readOnlyHint"]
    assert tools["sandbox_stop"]["annotations"]["destructiveHint"] and not tools["sandbox_start"]["annotations"]["destructiveHint"]


def test_older_versions_get_what_they_know(server):
    def members(version):
        answer = mcp(server, "tools/list", headers={"MCP-Protocol-Version": version})[1]
        return set(answer["result"]["tools"][0])

    assert members("2024-11-05") == {"name", "description", "inputSchema"}
    assert members("2025-03-26") == {"name", "description", "inputSchema", "annotations"}
    assert members("2025-06-18") == {"name", "description", "inputSchema", "annotations", "title", "outputSchema"}
    call = {"name": "sandbox_list", "arguments": {}}
    for version, structured in [("2025-03-26", False), ("2025-06-18", True)]:
        answer = mcp(server, "tools/call", call, headers={"MCP-Protocol-Version": version})[1]
        assert ("structuredContent" in answer["result"]) == structured


def test_prompts(server):
    prompts = mcp(server, "prompts/list")[1]["result"]["prompts"]
    assert [p["name"] for p in prompts] == ["create_python_sandbox", "create_node_sandbox"]
    assert prompts[0]["arguments"][0]["name"] == "sandbox_name"
    result = mcp(server, "prompts/get", {"name": "create_node_sandbox", "arguments": {"sandbox_name": "web"}})[1]["result"]
    text = result["messages"][0]["content"]["text"]
    assert result["messages"][0]["role"] == "user" and "microsandbox/node" in text and "'web'" in text


def test_a_tool_that_fails_says_so_to_the_model(server):
    for name, arguments, text in [("sandbox_stop", {"sandbox": "absent"}, "absent is not running"),
                                  ("sandbox_stop", {"sandbox": 5}, "params.sandbox must be a string"),
                                  ("sandbox_run_code", {}, "is missing"),
                                  # It is told of the tool, not of the method.
                                  ("sandbox_run_code", {"sandbox": "absent", "language": "python", "code": ""}, "start it with sandbox_start"),
                                  ("sandbox_start", {"sandbox": "a", "config": {"image": "nope"}}, "nope")]:
        result = tool(server, name, **arguments)
        assert result["isError"] is True and text in result["content"][0]["text"], result
        assert result["content"][0]["text"].startswith("Error: ") and "structuredContent" not in result


def test_an_agents_work(server):
    result = tool(server, "sandbox_start", sandbox="work", config={"image": "microsandbox/python"})
    assert result["content"] == [{"type": "text", "text": '"Sandbox work started successfully"'}]
    assert result["structuredContent"] == {"message": "Sandbox work started successfully"} and result["isError"] is False
    tool(server, "sandbox_run_code", sandbox="work", language="python", code="x = 6 * 7")
    result = tool(server, "sandbox_run_code", sandbox="work", language="python", code="x")
    assert json.loads(result["content"][0]["text"])["output"] == [{"stream": "stdout", "text": "42"}]
    assert result["structuredContent"]["status"] == "success" and result["isError"] is False
    result = tool(server, "sandbox_run_command", sandbox="work", command="sh", timeout=1, args=["-c", "echo part; sleep 100"])
    # What it had printed, for the model to read.
    assert result["isError"] is True and json.loads(result["content"][1]["text"])["output"][0]["text"] == "part"
    result = tool(server, "sandbox_get_metrics", sandbox="work")
    assert result["structuredContent"]["sandboxes"][0]["running"] is True
    assert tool(server, "sandbox_stop", sandbox="work")["isError"] is False


PRINT = "head -c 8000000 /dev/zero | tr '\\000' '\\001'"


def test_results_that_are_too_long(server):
    """A control character is six bytes as JSON, and seven in the text of a tool: an error says so, and all goes on."""
    server.start("long")
    json_only = {"Accept": "application/json"}  # what takes more than 5 seconds would be events
    status, answer = mcp(server, "tools/call", {"name": "sandbox_run_command", "arguments": {
        "sandbox": "long", "command": "sh", "args": ["-c", PRINT]}}, headers=json_only)
    result = answer["result"]
    assert result["isError"] is True and len(result["content"]) == 1 and "structuredContent" not in result
    assert re.fullmatch(r"Error: the answer has [0-9]{9} bytes as JSON, more than one may have \(72 MiB\): .*",
                        result["content"][0]["text"])
    # As a method there is room for it, and for all that a call shows besides, also as the last of a batch.
    r = server.call("sandbox.command.run", sandbox="long", command="sh", args=["-c", PRINT])
    assert r["output"] == [{"stream": "stdout", "text": "\1" * 8000000}]
    code = "class A:\n def _repr_html_(self): return chr(1) * 2000000\nprint(chr(1) * 8000000, end='')\nA()"
    run = {"sandbox": "long", "command": "sh", "args": ["-c", "head -c 8000000 /dev/zero | tr '\\000' x"]}
    status, answers = server.post([message("sandbox.command.run", run, 1), message("sandbox.repl.run", {
        "sandbox": "long", "language": "python", "code": code}, 2), message("sandbox.list", {}, 3)])
    assert status == 200 and [a["id"] for a in answers] == [1, 2, 3]
    assert answers[0]["result"]["output"] == [{"stream": "stdout", "text": "x" * 8000000}]
    assert answers[1]["result"]["output"][0]["text"].startswith("\1" * 8000000)
    assert answers[1]["result"]["results"][1]["data"] == "\1" * 2000000
    assert answers[2]["error"]["code"] == -32005 and "batch" in answers[2]["error"]["message"]
    # A batch of tools is bounded as well; the others have their answers.
    run = {"sandbox": "long", "command": "sh", "args": ["-c", "head -c 6000000 /dev/zero | tr '\\000' '\\001'"]}
    batch = [message("tools/call", {"name": "sandbox_run_command", "arguments": run}, i) for i in (1, 2)] + [message("ping", None, 3)]
    status, answers = server.post(batch, path="/mcp", headers={**json_only, "MCP-Protocol-Version": "2025-03-26"})
    assert status == 200 and ["result" in a for a in answers] == [True, False, True], [a.keys() for a in answers]
    assert answers[1]["error"]["code"] == -32005 and "batch" in answers[1]["error"]["message"]
    server.call("sandbox.stop", sandbox="long")


# ---- sessions -----------------------------------------------------------------------------------


def test_a_session_ends_when_its_client_says_so(server):
    headers, _ = initialize(server)
    assert re.fullmatch(r"[0-9a-f]{32}", headers["Mcp-Session-Id"])
    assert mcp(server, "ping", headers=headers)[0] == 200
    # It is initialized, once.
    status, answer = mcp(server, "initialize", {"protocolVersion": VERSIONS[0]}, headers=headers)
    assert status == 400 and answer["error"]["code"] == -32600
    assert server.http("DELETE", "/mcp", headers=headers)[0] == 204
    status, answer = mcp(server, "ping", headers=headers)
    assert status == 404 and answer["error"]["message"].startswith("Session not found")
    assert server.http("DELETE", "/mcp", headers=headers)[0] == 404
    assert server.http("DELETE", "/mcp")[0] == 400


@pytest.mark.parametrize("id_", ["x", "0" * 32, "é" * 16, "0" * 33, " ", "0" * 4000])
def test_sessions_that_are_made_up(server, id_):
    assert mcp(server, "ping", headers={"Mcp-Session-Id": id_.encode()})[0] == 404


def test_sessions_are_bounded(server):
    first, _ = initialize(server)
    second, _ = initialize(server)
    for _ in range(254):
        initialize(server)
    # A used one stays, the longest unused one makes room.
    assert mcp(server, "ping", headers=first)[0] == 200
    last, _ = initialize(server)
    assert mcp(server, "ping", headers=second)[0] == 404
    assert mcp(server, "ping", headers=first)[0] == 200 and mcp(server, "ping", headers=last)[0] == 200


def test_a_session_is_of_its_key():
    s = Server(dev=False)
    try:
        def key(ns):
            out = s.box.msb("server", "keygen", "-n", ns).stdout.decode()
            return {"Authorization": "Bearer " + re.search(r"Token: (\S+)", out)[1]}

        a, a2, b = key("a"), key("a"), key("b")
        headers, _ = initialize(s, **a)
        assert mcp(s, "ping", headers=headers)[0] == 200
        for other in (a2, b):
            assert mcp(s, "ping", headers={**headers, **other})[0] == 404
            assert s.http("DELETE", "/mcp", headers={**headers, **other})[0] == 404
        assert s.http("DELETE", "/mcp", headers={"Mcp-Session-Id": headers["Mcp-Session-Id"]})[0] == 401
        # Who has one namespace is not asked for it.
        tools = mcp(s, "tools/list", headers=headers)[1]["result"]["tools"]
        assert all("namespace" not in t["inputSchema"]["properties"] for t in tools)
        answer = mcp(s, "tools/call", {"name": "sandbox_list", "arguments": {"namespace": "b"}}, headers=headers)[1]
        assert answer["result"]["isError"] and "namespace a" in answer["result"]["content"][0]["text"]
        assert mcp(s, "ping", headers=headers)[0] == 200
        assert s.stop() == 0
    finally:
        s.close()


# ---- streams, progress, cancellation -----------------------------------------------------------------


@pytest.mark.parametrize("accept,status,kind", [
    (BOTH, 200, "application/json"), ("*/*", 200, "application/json"), ("text/event-stream", 200, "text/event-stream"),
    ("text/html", 406, "application/json"), ("text/event-stream;q=0, application/json;q=0", 406, "application/json")])
def test_what_a_client_accepts(server, accept, status, kind):
    got, headers, body = server.http("POST", "/mcp", json.dumps(message("ping")), {"Accept": accept})
    assert got == status and headers["content-type"] == kind
    if kind == "text/event-stream":
        assert body == b'event: message\ndata: {"jsonrpc":"2.0","result":{},"id":1}\n\n'
    assert server.http("POST", "/mcp", json.dumps(message("notifications/x", id_=None)), {"Accept": BOTH})[::2] == (202, b"")


def test_progress_of_a_start(server):
    call = {"name": "sandbox_start", "arguments": {"sandbox": "slow", "config": {"image": "python"}}, "_meta": {"progressToken": "tok"}}
    s = Stream(server, message("tools/call", call, id_="start"))
    assert s.answer() == (200, "text/event-stream")
    *notes, last = [e for e in s.events() if e]
    assert last["id"] == "start" and last["result"]["isError"] is False
    assert notes and all(n["method"] == "notifications/progress" and n["params"]["progressToken"] == "tok" for n in notes)
    assert "booting" in [n["params"]["message"] for n in notes]
    steps = [n["params"]["progress"] for n in notes]
    assert all(a < b for a, b in zip(steps, steps[1:]))
    s.close()
    # Who takes no events is told at the end only, and who has not asked gets one document.
    call["arguments"]["sandbox"] = "slow2"
    status, headers, _ = server.http("POST", "/mcp", json.dumps(message("tools/call", call)), {"Accept": "application/json"})
    assert (status, headers["content-type"]) == (200, "application/json")
    for name in ("slow", "slow2"):
        server.call("sandbox.stop", sandbox=name)


def test_a_long_call_is_a_stream_that_lives(server, agent):
    headers, _ = initialize(server)
    s = Stream(server, message("tools/call", spin(agent, "long"), id_=7), headers)
    assert s.answer() == (200, "text/event-stream")
    assert next(s.events()) is None
    s.close()
    assert mcp(server, "notifications/cancelled", {"requestId": 7}, id_=None, headers=headers)[0] == 202
    wait_for(lambda: alive(server, agent, "long") is False)


@pytest.mark.parametrize("id_", [5, "five", -1.5])
def test_a_call_is_cancelled(server, agent, id_):
    headers, _ = initialize(server)
    other, _ = initialize(server)
    name = f"cancel{id_}"
    s = Stream(server, message("tools/call", spin(agent, name), id_=id_), headers)
    wait_for(lambda: alive(server, agent, name))
    # One id, one request.
    assert mcp(server, "ping", id_=id_, headers=headers)[0] == 400
    # Not by others, nor by what merely looks like it.
    for h, params in [(other, {"requestId": id_}), ({}, {"requestId": id_}), (headers, {"requestId": [id_]}),
                      (headers, {"requestId": f"{id_}x"}), (headers, None)]:
        assert mcp(server, "notifications/cancelled", params, id_=None, headers=h)[0] == 202
    assert alive(server, agent, name) is True
    cancel = {"requestId": id_, "reason": "enough\nof\x1b[31m it"}
    assert mcp(server, "notifications/cancelled", cancel, id_=None, headers=headers)[0] == 202
    status, kind = s.answer()
    # No answer comes to a request that was cancelled.
    assert (status == 202 and s.response.read() == b"") or (kind == "text/event-stream" and not [e for e in s.events() if e])
    wait_for(lambda: alive(server, agent, name) is False)
    assert mcp(server, "ping", id_=id_, headers=headers)[0] == 200
    assert "\x1b" not in server.log()


def test_calls_of_a_session_that_ends_are_ended(server, agent):
    headers, _ = initialize(server)
    s = Stream(server, message("tools/call", spin(agent, "ended"), id_=1), headers)
    wait_for(lambda: alive(server, agent, "ended"))
    assert server.http("DELETE", "/mcp", headers=headers)[0] == 204
    status, kind = s.answer()
    answer = json.loads(s.response.read()) if kind == "application/json" else [e for e in s.events() if e][-1]
    assert answer["id"] == 1 and "Session not found" in answer["error"]["message"] and status in (200, 404)
    wait_for(lambda: alive(server, agent, "ended") is False)


def test_a_client_that_vanishes(server, agent):
    """Without a session its call ends; with one it goes on: a connection is no session."""
    headers, _ = initialize(server)
    plain, kept = Stream(server, message("tools/call", spin(agent, "plain"))), \
        Stream(server, message("tools/call", spin(agent, "kept"), id_="k"), headers)
    wait_for(lambda: alive(server, agent, "plain") and alive(server, agent, "kept"))
    plain.close()
    kept.close()
    wait_for(lambda: alive(server, agent, "plain") is False)
    assert alive(server, agent, "kept") is True
    assert mcp(server, "notifications/cancelled", {"requestId": "k"}, id_=None, headers=headers)[0] == 202
    wait_for(lambda: alive(server, agent, "kept") is False)


def test_a_call_in_a_batch_is_cancelled(server, agent):
    headers, _ = initialize(server, "2025-03-26")
    batch = [message("ping", id_=1), message("tools/call", spin(agent, "batch"), id_=2), message("ping", id_=3)]
    s = Stream(server, batch, headers)
    wait_for(lambda: alive(server, agent, "batch"))
    assert mcp(server, "notifications/cancelled", {"requestId": 2}, id_=None, headers=headers)[0] == 202
    status, kind = s.answer()
    answers = json.loads(s.response.read()) if kind == "application/json" else [e for e in s.events() if e][-1]
    assert status == 200 and [a["id"] for a in answers] == [1, 3]


# ---- images that are being made -----------------------------------------------------------------------

BUILDER = """#!/bin/sh
echo "python: fetching 3 packages" >&2
echo "python: unpacking 3 packages" >&2
echo "error: no mirror answers" >&2
exit 1
"""


def test_progress_of_an_image(tmp_path):
    """An installation whose msb-image says what it does, and fails."""
    (tmp_path / "bin").mkdir()
    shutil.copy(BUILD / "bin/msb", tmp_path / "bin/msb")
    parts = tmp_path / "lib/microsandbox"
    parts.mkdir(parents=True)
    for p in pathlib.Path(BUILD / "lib/microsandbox").iterdir():
        if p.name != "msb-image":
            (parts / p.name).symlink_to(p.resolve())
    (parts / "msb-image").write_text(BUILDER)
    (parts / "msb-image").chmod(stat.S_IRWXU)
    home = make_home()
    os.unlink(os.path.join(home, "images"))
    s = Server(home=home, msb=str(tmp_path / "bin/msb"))
    try:
        call = {"name": "sandbox_start", "arguments": {"sandbox": "a", "config": {"image": "python"}}, "_meta": {"progressToken": 0}}
        stream = Stream(s, message("tools/call", call))
        assert stream.answer() == (200, "text/event-stream")
        *notes, last = [e for e in stream.events() if e]
        said = [n["params"]["message"] for n in notes]
        assert said[0] == "its image is being put together" and "python: fetching 3 packages" in said
        assert last["result"]["isError"] and "no mirror answers" in last["result"]["content"][0]["text"]
        assert s.stop() == 0
    finally:
        s.close()
