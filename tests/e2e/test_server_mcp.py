# SPDX-License-Identifier: Apache-2.0
"""Agents: the Model Context Protocol at /mcp."""
import json

import pytest

from server_client import Server


@pytest.fixture(scope="module")
def server():
    s = Server()
    yield s
    assert s.stop() == 0, s.log()
    s.box.assert_nothing_left()
    s.close()


def mcp(server, method, params=None, id_=1, headers=None):
    message = {"jsonrpc": "2.0", "method": method}
    if id_ is not None:
        message["id"] = id_
    if params is not None:
        message["params"] = params
    return server.post(message, path="/mcp", headers={"Accept": "application/json, text/event-stream", **(headers or {})})


def tool(server, name, **arguments):
    status, answer = mcp(server, "tools/call", {"name": name, "arguments": arguments})
    assert status == 200
    return answer["result"]


@pytest.mark.parametrize("asked,given", [("2025-06-18", "2025-06-18"), ("2025-03-26", "2025-03-26"),
                                         ("2024-11-05", "2024-11-05"), ("2099-01-01", "2025-06-18")])
def test_versions_are_negotiated(server, asked, given):
    status, answer = mcp(server, "initialize", {"protocolVersion": asked, "capabilities": {},
                                                "clientInfo": {"name": "test", "version": "1"}})
    result = answer["result"]
    assert status == 200 and result["protocolVersion"] == given
    assert result["serverInfo"]["name"] == "microsandbox-server"
    assert set(result["capabilities"]) == {"tools", "prompts"}
    assert mcp(server, "tools/list", headers={"MCP-Protocol-Version": given})[0] == 200
    assert mcp(server, "tools/list", headers={"MCP-Protocol-Version": "1.0"})[0] == 400


def test_what_needs_no_answer_gets_none(server):
    assert mcp(server, "notifications/initialized", id_=None) == (202, None)
    assert mcp(server, "notifications/cancelled", {"requestId": 5}, id_=None) == (202, None)
    assert server.post({"jsonrpc": "2.0", "id": 9, "result": {}}, path="/mcp") == (202, None)
    assert mcp(server, "ping") == (200, {"jsonrpc": "2.0", "id": 1, "result": {}})


def test_requests_that_are_wrong(server):
    assert server.http("GET", "/mcp")[0] == 405
    for body, status, code in [("{", 400, -32700), ("[]", 400, -32600), ('[{"jsonrpc":"2.0","id":1,"method":"ping"}]', 400, -32600),
                               ("{}", 400, -32600)]:
        got, answer = server.post(body, path="/mcp")
        assert got == status and answer["error"]["code"] == code, body
    assert mcp(server, "no/such")[1]["error"]["code"] == -32601
    assert mcp(server, "ü" * 200)[1]["error"]["code"] == -32601
    assert mcp(server, "tools/call", {"name": "ü" * 200})[1]["error"]["code"] == -32602
    assert mcp(server, "tools/call", {"name": "sandbox_list", "arguments": 5})[1]["error"]["code"] == -32602
    assert mcp(server, "prompts/get", {"name": "create_python_sandbox"})[1]["error"]["code"] == -32602


def test_tools_have_schemas(server):
    tools = {t["name"]: t for t in mcp(server, "tools/list")[1]["result"]["tools"]}
    assert {"sandbox_start", "sandbox_stop", "sandbox_run_code", "sandbox_run_command", "sandbox_get_metrics",
            "sandbox_list"} <= set(tools)
    assert tools["sandbox_run_code"]["inputSchema"]["required"] == ["sandbox", "language", "code"]
    assert tools["sandbox_start"]["inputSchema"]["properties"]["config"]["properties"]["memory"]["type"] == "integer"
    assert "$ref" not in json.dumps(tools) and all(t["description"] for t in tools.values())


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
                                  ("sandbox_start", {"sandbox": "a", "config": {"image": "nope"}}, "nope")]:
        result = tool(server, name, **arguments)
        assert result["isError"] is True and text in result["content"][0]["text"], result
        assert result["content"][0]["text"].startswith("Error: ")


def test_an_agents_session(server):
    result = tool(server, "sandbox_start", sandbox="agent", config={"image": "microsandbox/python"})
    assert result == {"content": [{"type": "text", "text": '"Sandbox agent started successfully"'}], "isError": False}
    tool(server, "sandbox_run_code", sandbox="agent", language="python", code="x = 6 * 7")
    result = tool(server, "sandbox_run_code", sandbox="agent", language="python", code="x")
    assert json.loads(result["content"][0]["text"])["output"] == [{"stream": "stdout", "text": "42"}]
    assert result["structuredContent"]["status"] == "success" and result["isError"] is False
    result = tool(server, "sandbox_run_command", sandbox="agent", command="sh", timeout=1, args=["-c", "echo part; sleep 100"])
    assert result["isError"] is True and result["structuredContent"]["output"][0]["text"] == "part"
    result = tool(server, "sandbox_get_metrics", sandbox="agent")
    assert result["structuredContent"]["sandboxes"][0]["running"] is True
    assert tool(server, "sandbox_stop", sandbox="agent")["isError"] is False
