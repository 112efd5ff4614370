/* SPDX-License-Identifier: Apache-2.0 */
#include "server/mcp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/utf8.h"
#include "server/api.h"

struct mcp {
	struct conn *conn; /* NULL = gone */
	struct server *server;
	struct principal who;
	struct jsonrpc_message msg;
	struct jsonrpc_call current;
	struct rpc_call call; /* of tools/call */
	struct corpse corpse;
};

/* Newest first. */
static const char *const mcp_versions[] = { "2025-06-18", "2025-03-26", "2024-11-05", NULL };

static void mcp_free(struct corpse *c)
{
	struct mcp *m = container_of(c, struct mcp, corpse);

	rpc_call_fini(&m->call);
	jsonrpc_message_fini(&m->msg);
	free(m);
}

static void mcp_cancel(struct conn *c)
{
	struct mcp *m = c->state;

	m->conn = NULL;
	rpc_cancel(&m->call);
	server_bury(m->server, &m->corpse, mcp_free);
}

/* ---- answers ------------------------------------------------------------------------ */

/* @answer is taken over; NULL with status 202: nothing to say. */
static void mcp_answer(struct mcp *m, int status, json_t *answer)
{
	char *body = answer ? json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
	struct conn *c = m->conn;

	json_decref(answer);
	if (c && !body && status != 202)
		http_api_reply(c, 503, "application/json", "{}", 2);
	else if (c)
		http_api_reply(c, status, "application/json", body, body ? strlen(body) : 0);
	free(body);
	m->conn = NULL;
	server_bury(m->server, &m->corpse, mcp_free);
}

static void mcp_result(struct mcp *m, json_t *result)
{
	mcp_answer(m, 200, jsonrpc_result(result, m->current.id));
}

static void mcp_error(struct mcp *m, int status, int code, const char *message)
{
	json_t *id = m->current.id ? m->current.id : json_null(), *answer;
	struct buf clean = BUF_INIT;

	/* It may quote the client, and be cut in the middle of a character. */
	if (utf8_clean(&clean, message, strlen(message) + 1))
		answer = NULL;
	else
		answer = jsonrpc_error(code, (const char *)buf_data(&clean), NULL, id);
	buf_fini(&clean);
	mcp_answer(m, status, answer);
}

/* ---- methods ------------------------------------------------------------------------- */

static bool mcp_version_known(const char *v)
{
	for (const char *const *k = mcp_versions; v && *k; k++)
		if (!strcmp(*k, v))
			return true;
	return false;
}

static void mcp_initialize(struct mcp *m)
{
	const char *asked = rpc_string(m->current.params, "protocolVersion");

	mcp_result(m,
		   json_pack("{s:s, s:{s:{s:b}, s:{s:b}}, s:{s:s, s:s}, s:s}", "protocolVersion",
			     mcp_version_known(asked) ? asked : mcp_versions[0], "capabilities",
			     "tools", "listChanged", 0, "prompts", "listChanged", 0, "serverInfo",
			     "name", "microsandbox-server", "version", MSB_VERSION, "instructions",
			     "Start a sandbox first (sandbox_start with an image such as "
			     "microsandbox/python), run code or commands in it, and stop it when "
			     "done. Code keeps its variables from call to call."));
}

static void mcp_tools_list(struct mcp *m)
{
	mcp_result(m, json_loads(api_tools_document, 0, NULL));
}

/* What a tool says, as text for the model; results that are objects also as they are. */
static void mcp_tool_done(struct rpc_call *call)
{
	struct mcp *m = container_of(call, struct mcp, call);
	json_t *said = call->result ? call->result : call->data, *result;
	char *text = NULL;
	char line[sizeof(call->message) + 16];

	if (!m->conn)
		return;
	m->conn->cancel = NULL;
	if (call->result)
		text = json_dumps(said, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
	snprintf(line, sizeof(line), "Error: %s", call->message);
	result = json_pack("{s:[{s:s, s:s}], s:b}", "content", "type", "text", "text",
			   text ? text : line, "isError", !call->result);
	free(text);
	/* An error's data has, for example, what a command printed before its time was up. */
	if (result && json_is_object(said) && json_object_size(said) > (call->result ? 0 : 1))
		json_object_set(result, "structuredContent", said);
	mcp_result(m, result);
}

static void mcp_tools_call(struct mcp *m)
{
	const char *name = rpc_string(m->current.params, "name");
	json_t *args = json_object_get(m->current.params, "arguments");
	const struct api_tool *t = api_tools;
	char message[160];

	while (t->name && (!name || strcmp(t->name, name)))
		t++;
	if (!t->name) {
		snprintf(message, sizeof(message), "Unknown tool: %.64s", name ? name : "");
		mcp_error(m, 200, JSONRPC_BAD_PARAMS,
			  name ? message : "Invalid params: name is missing");
		return;
	}
	if (args && !json_is_object(args) && !json_is_null(args)) {
		mcp_error(m, 200, JSONRPC_BAD_PARAMS, "Invalid params: arguments must be an object");
		return;
	}
	m->call = (struct rpc_call){
		.server = m->server,
		.who = m->who,
		.params = json_is_object(args) ? args : NULL,
		.done = mcp_tool_done,
	};
	rpc_start(&m->call, t->method);
}

struct mcp_prompt {
	const char *name, *description, *language, *image;
};

static const struct mcp_prompt mcp_prompts[] = {
	{ "create_python_sandbox", "Create a sandbox for Python", "Python", "microsandbox/python" },
	{ "create_node_sandbox", "Create a sandbox for Node.js", "Node.js", "microsandbox/node" },
	{ NULL },
};

static void mcp_prompts_list(struct mcp *m)
{
	json_t *all = json_array();

	for (const struct mcp_prompt *p = mcp_prompts; p->name; p++)
		json_array_append_new(all,
				      json_pack("{s:s, s:s, s:[{s:s, s:s, s:b}]}", "name", p->name,
						"description", p->description, "arguments", "name",
						"sandbox_name", "description",
						"Name of the sandbox", "required", 1));
	mcp_result(m, json_pack("{s:o}", "prompts", all));
}

static void mcp_prompts_get(struct mcp *m)
{
	const char *name = rpc_string(m->current.params, "name");
	const char *sandbox =
		rpc_string(json_object_get(m->current.params, "arguments"), "sandbox_name");
	const struct mcp_prompt *p = mcp_prompts;
	json_t *text;

	while (p->name && (!name || strcmp(p->name, name)))
		p++;
	if (!p->name || !sandbox) {
		mcp_error(m, 200, JSONRPC_BAD_PARAMS,
			  p->name ? "Invalid params: arguments.sandbox_name is missing"
				  : "Invalid params: there is no prompt of this name");
		return;
	}
	text = json_sprintf(
		"Create a %s sandbox named '%s': use sandbox_start with the image %s, "
		"512 MiB of memory and 1 CPU. Then run code in it with sandbox_run_code.",
		p->language, sandbox, p->image);
	mcp_result(m,
		   json_pack("{s:s, s:[{s:s, s:{s:s, s:o}}]}", "description", p->description,
			     "messages", "role", "user", "content", "type", "text", "text", text));
}

static void mcp_ping(struct mcp *m)
{
	mcp_result(m, json_object());
}

static const struct {
	const char *name;
	void (*run)(struct mcp *m);
} mcp_methods[] = {
	{ "initialize", mcp_initialize },     { "ping", mcp_ping },
	{ "tools/list", mcp_tools_list },     { "tools/call", mcp_tools_call },
	{ "prompts/list", mcp_prompts_list }, { "prompts/get", mcp_prompts_get },
};

static void mcp_dispatch(struct mcp *m)
{
	char message[128];

	for (size_t i = 0; i < ARRAY_SIZE(mcp_methods); i++)
		if (!strcmp(mcp_methods[i].name, m->current.method)) {
			mcp_methods[i].run(m);
			return;
		}
	snprintf(message, sizeof(message), "Method not found: %.64s", m->current.method);
	mcp_error(m, 200, JSONRPC_NO_METHOD, message);
}

/* An answer of the client's, which we never asked for. */
static bool mcp_is_response(const struct mcp *m)
{
	return !json_object_get(m->msg.root, "method") &&
	       (json_object_get(m->msg.root, "result") || json_object_get(m->msg.root, "error"));
}

void mcp_request(struct conn *c, const struct principal *who)
{
	const char *version = http_header(&c->reader.request, "mcp-protocol-version");
	struct buf *body = &c->reader.request.body;
	struct mcp *m = calloc(1, sizeof(*m));
	char reason[256];
	int code;

	if (!m) {
		http_api_reply(c, 503, "application/json", "{}", 2);
		return;
	}
	m->conn = c;
	m->server = c->server;
	m->who = *who;
	c->state = m;
	c->cancel = mcp_cancel;
	code = jsonrpc_parse((const char *)buf_data(body), buf_len(body), &m->msg, reason,
			     sizeof(reason));
	if (code) {
		mcp_error(m, 400, code, reason);
		return;
	}
	if (version && !mcp_version_known(version)) {
		mcp_error(m, 400, JSONRPC_INVALID, "this MCP-Protocol-Version is not spoken here");
		return;
	}
	if (m->msg.batch) {
		mcp_error(m, 400, JSONRPC_INVALID, "MCP has no batches: send one message");
		return;
	}
	if (mcp_is_response(m)) {
		mcp_answer(m, 202, NULL);
		return;
	}
	jsonrpc_call_at(&m->msg, 0, &m->current);
	if (m->current.error)
		mcp_error(m, 400, m->current.error, m->current.reason);
	else if (!m->current.id) /* a notification */
		mcp_answer(m, 202, NULL);
	else
		mcp_dispatch(m);
}
