/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api.h"
#include "server/mcp.h"

/* Pictures that clients show; others stay text. */
static const char *const mcp_pictures[] = { "image/png", "image/jpeg", "image/gif", "image/webp",
					    NULL };

/* Is it of a version that has what 2025-06-18 brought? Who has not said may have it. */
static bool mcp_is_new(const struct mcp_peer *p)
{
	return !p->version || p->version >= MCP_2025_06_18;
}

json_t *mcp_tools_list(const struct mcp_peer *p)
{
	json_t *doc = json_loads(api_tools_document, 0, NULL), *t;
	size_t i;

	json_array_foreach(json_object_get(doc, "tools"), i, t)
	{
		json_t *input = json_object_get(t, "inputSchema");

		if (!mcp_is_new(p)) {
			json_object_del(t, "title");
			json_object_del(t, "outputSchema");
		}
		if (p->version == MCP_2024_11_05)
			json_object_del(t, "annotations");
		/* Whoever may use one namespace only need not think of it. */
		if (strcmp(p->who.ns, "*"))
			json_object_del(json_object_get(input, "properties"), "namespace");
	}
	return doc;
}

const struct api_tool *mcp_tool_find(const char *name)
{
	for (const struct api_tool *t = api_tools; t->name; t++)
		if (!strcmp(t->name, name))
			return t;
	return NULL;
}

static json_t *mcp_text(const char *text)
{
	return json_pack("{s:s, s:s}", "type", "text", "text", text);
}

/* Pretty, for a model to read. */
static json_t *mcp_json_text(const json_t *value)
{
	char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
	json_t *content = text ? mcp_text(text) : NULL;

	free(text);
	return content;
}

static bool mcp_is_picture(const char *mime)
{
	for (const char *const *m = mcp_pictures; mime && *m; m++)
		if (!strcmp(*m, mime))
			return true;
	return false;
}

/*
 * Moves the pictures of an interpreter's results ([{mime, data}]) into @content, where
 * clients show them; a picture as text costs a model dearly and tells it nothing.
 * Return: the result without their data; @result itself if there are none.
 */
static json_t *mcp_take_pictures(json_t *result, json_t *content)
{
	json_t *all = json_object_get(result, "results"), *one, *rest;
	bool found = false;
	size_t i;

	json_array_foreach(all, i, one)
	{
		const char *mime = rpc_string(one, "mime");
		json_t *data = json_object_get(one, "data");

		if (!mcp_is_picture(mime) || !json_is_string(data))
			continue;
		found = true;
		json_array_append_new(content, json_pack("{s:s, s:O, s:s}", "type", "image", "data",
							 data, "mimeType", mime));
	}
	if (!found)
		return json_incref(result);
	rest = json_copy(result);
	if (!rest || json_object_set_new(rest, "results", json_array()))
		return rest;
	json_array_foreach(all, i, one)
	{
		const char *mime = rpc_string(one, "mime");

		json_array_append_new(json_object_get(rest, "results"),
				      mcp_is_picture(mime) ? json_pack("{s:s}", "mime", mime)
							   : json_incref(one));
	}
	return rest;
}

/* Messages speak of methods (sandbox.start); a model knows them as tools (sandbox_start). */
static bool mcp_name_tools(struct buf *to, const char *message)
{
	for (const char *p = message; *p;) {
		const struct api_tool *t = api_tools;
		size_t n = 0;

		while (t->name && strncmp(p, t->method, n = strlen(t->method)) != 0)
			t++;
		if (buf_append(to, t->name ? t->name : p, t->name ? strlen(t->name) : 1))
			return false;
		p += t->name ? n : 1;
	}
	return !buf_append(to, "", 1);
}

static json_t *mcp_tool_error(const struct rpc_call *call)
{
	json_t *content = json_array();
	struct buf line = BUF_INIT;

	if (!buf_append(&line, "Error: ", 7) && mcp_name_tools(&line, call->message))
		json_array_append_new(content, mcp_text((const char *)buf_data(&line)));
	buf_fini(&line);
	/* Its data has, for example, what a command printed before its time was up. */
	if (json_object_size(call->data) > 1)
		json_array_append_new(content, mcp_json_text(call->data));
	return json_pack("{s:o, s:b}", "content", content, "isError", 1);
}

json_t *mcp_tool_result(const struct mcp_peer *p, const struct api_tool *t,
			const struct rpc_call *call)
{
	json_t *content, *said, *result;

	if (!call->result)
		return mcp_tool_error(call);
	content = json_array();
	/* The text first: what older clients look at. */
	json_array_append_new(content, json_null());
	said = mcp_take_pictures(call->result, content);
	if (!said || json_array_set_new(content, 0, mcp_json_text(said))) {
		json_decref(content);
		json_decref(said);
		return NULL;
	}
	result = json_pack("{s:o, s:b}", "content", content, "isError", 0);
	if (result && mcp_is_new(p))
		json_object_set_new(result, "structuredContent",
				    t->wrap ? json_pack("{s:O}", t->wrap, said) : json_incref(said));
	json_decref(said);
	return result;
}

/*
 * A result that is too long as a message is an error that says so: cut off it would still
 * cost a model more than it can have.  It is written into JSON twice, so bounds of bytes say
 * little.
 */
char *mcp_tool_answer(const struct mcp_peer *p, const struct api_tool *t,
		      const struct rpc_call *call, json_t *id)
{
	char line[256];
	size_t n;
	char *text = rpc_text(jsonrpc_result(mcp_tool_result(p, t, call), id), RPC_ANSWER_MAX, &n);

	if (n <= RPC_ANSWER_MAX)
		return text;
	snprintf(line, sizeof(line), "Error: " RPC_TOO_LONG, n, RPC_ANSWER_MAX >> 20);
	return rpc_text(jsonrpc_result(json_pack("{s:[o], s:b}", "content", mcp_text(line),
						 "isError", 1),
				       id),
			SIZE_MAX, &n);
}
