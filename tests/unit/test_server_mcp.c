/* SPDX-License-Identifier: Apache-2.0 */
/* What MCP makes of the tools of the API and of their results. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "server/api.h"
#include "server/mcp.h"
#include "unit/test.h"

static struct server server;

static struct mcp_peer peer_of(enum mcp_version v, const char *ns)
{
	struct principal who = { .key = "" };
	struct mcp_peer p;

	snprintf(who.ns, sizeof(who.ns), "%s", ns);
	mcp_peer_init(&p, &server, &who, v);
	return p;
}

/* The result of a call of @tool that was answered with @json. */
static json_t *result_of(enum mcp_version v, const char *tool, const char *json)
{
	struct mcp_peer p = peer_of(v, "*");
	struct rpc_call call = { .result = json_loads(json, JSON_DECODE_ANY, NULL) };
	json_t *r;

	assert_non_null(call.result);
	r = mcp_tool_result(&p, mcp_tool_find(tool), &call);
	assert_non_null(r);
	assert_true(json_is_false(json_object_get(r, "isError")));
	rpc_call_fini(&call);
	return r;
}

static json_t *content_at(const json_t *r, size_t i)
{
	return json_array_get(json_object_get(r, "content"), i);
}

static const char *text_of(const json_t *content)
{
	assert_string_equal(rpc_string(content, "type"), "text");
	return rpc_string(content, "text");
}

static void results_are_text_and_structure(void **state)
{
	json_t *r = result_of(MCP_2025_06_18, "sandbox_stop", "\"Sandbox a stopped\"");

	(void)state;
	assert_string_equal(text_of(content_at(r, 0)), "\"Sandbox a stopped\"");
	/* A structure is an object. */
	assert_string_equal(rpc_string(json_object_get(r, "structuredContent"), "message"),
			    "Sandbox a stopped");
	json_decref(r);
	r = result_of(MCP_2025_03_26, "sandbox_list", "{\"sandboxes\":[]}");
	assert_null(json_object_get(r, "structuredContent"));
	assert_string_equal(text_of(content_at(r, 0)), "{\n  \"sandboxes\": []\n}");
	json_decref(r);
}

static void pictures_are_pictures(void **state)
{
	json_t *r = result_of(MCP_2025_06_18, "sandbox_run_code",
			      "{\"status\":\"success\",\"output\":[],\"results\":["
			      "{\"mime\":\"text/plain\",\"data\":\"<Figure>\"},"
			      "{\"mime\":\"image/png\",\"data\":\"iVBORw0K\"},"
			      "{\"mime\":\"image/svg+xml\",\"data\":\"<svg/>\"},"
			      "{\"mime\":\"image/jpeg\",\"data\":\"/9j/\"}]}");
	json_t *results = json_object_get(json_object_get(r, "structuredContent"), "results");

	(void)state;
	assert_int_equal(json_array_size(json_object_get(r, "content")), 3);
	assert_string_equal(rpc_string(content_at(r, 1), "type"), "image");
	assert_string_equal(rpc_string(content_at(r, 1), "data"), "iVBORw0K");
	assert_string_equal(rpc_string(content_at(r, 1), "mimeType"), "image/png");
	assert_string_equal(rpc_string(content_at(r, 2), "mimeType"), "image/jpeg");
	/* Their bytes are nowhere else; all the rest is where it was. */
	assert_null(strstr(text_of(content_at(r, 0)), "iVBORw0K"));
	assert_non_null(strstr(text_of(content_at(r, 0)), "<Figure>"));
	assert_int_equal(json_array_size(results), 4);
	assert_string_equal(rpc_string(json_array_get(results, 1), "mime"), "image/png");
	assert_null(json_object_get(json_array_get(results, 1), "data"));
	assert_string_equal(rpc_string(json_array_get(results, 2), "data"), "<svg/>");
	json_decref(r);
}

/* A guest may be behind it. */
/* @n bytes of output as JSON, each of which is @c. */
static struct rpc_call call_that_printed(size_t n, char c, bool failed)
{
	struct rpc_call call = { .message = "Command timeout after 1 seconds" };
	char *bytes = malloc(n + 1);
	json_t *o;

	assert_non_null(bytes);
	memset(bytes, c, n);
	o = json_pack("{s:[{s:s, s:s%}], s:i}", "output", "stream", "stdout", "text", bytes, n,
		      "code", 5002);
	free(bytes);
	assert_non_null(o);
	if (failed)
		call.data = o;
	else
		call.result = o;
	return call;
}

/* The result in the answer to a call. */
static json_t *answer_of(const struct mcp_peer *p, const struct rpc_call *call)
{
	json_t *id = json_integer(7), *o, *r;
	char *text = mcp_tool_answer(p, mcp_tool_find("sandbox_run_command"), call, id);

	assert_non_null(text);
	assert_true(strlen(text) <= RPC_ANSWER_MAX);
	o = json_loads(text, 0, NULL);
	assert_true(json_equal(json_object_get(o, "id"), id));
	r = json_incref(json_object_get(o, "result"));
	json_decref(o);
	json_decref(id);
	free(text);
	return r;
}

static void a_result_that_is_too_long_is_an_error(void **state)
{
	static const struct {
		size_t n;
		char c;
		bool failed, fits;
	} rows[] = {
		{ 8 << 20, 'x', false, true },
		{ 8 << 20, 'x', true, true },
		/* 6 bytes in the structure, 7 in the text */
		{ 8 << 20, '\1', false, false },
		{ 8 << 20, '\1', true, true }, /* no structure */
		{ 12 << 20, '\1', true, false },
		{ 3 << 20, '\1', false, true },
	};
	struct mcp_peer p = peer_of(MCP_2025_06_18, "*");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct rpc_call call = call_that_printed(rows[i].n, rows[i].c, rows[i].failed);
		json_t *r = answer_of(&p, &call);

		assert_int_equal(json_is_true(json_object_get(r, "isError")),
				 rows[i].failed || !rows[i].fits);
		if (!rows[i].fits) {
			assert_int_equal(json_array_size(json_object_get(r, "content")), 1);
			assert_non_null(strstr(text_of(content_at(r, 0)),
					       "more than one may have (72 MiB)"));
			assert_null(json_object_get(r, "structuredContent"));
		}
		json_decref(r);
		rpc_call_fini(&call);
	}
}

/* To the byte; the error says how long it would have been. */
static void the_bound_is_exact(void **state)
{
	struct mcp_peer p = peer_of(MCP_2025_03_26, "*");
	struct rpc_call call = call_that_printed(1, 'x', false);
	json_t *r, *id = json_string("an id");
	size_t extra, n, said;
	char *text;

	(void)state;
	/* What an answer has beside what was printed, each character of which is one byte. */
	text = mcp_tool_answer(&p, mcp_tool_find("sandbox_run_command"), &call, id);
	extra = strlen(text) - 1;
	free(text);
	rpc_call_fini(&call);
	for (n = RPC_ANSWER_MAX - extra; n <= RPC_ANSWER_MAX - extra + 1; n++) {
		call = call_that_printed(n, 'x', false);
		text = mcp_tool_answer(&p, mcp_tool_find("sandbox_run_command"), &call, id);
		assert_non_null(text);
		if (n + extra == RPC_ANSWER_MAX) {
			assert_int_equal(strlen(text), RPC_ANSWER_MAX);
		} else {
			r = json_loads(text, 0, NULL);
			assert_string_equal(rpc_string(r, "id"), "an id");
			assert_int_equal(sscanf(text_of(content_at(json_object_get(r, "result"), 0)),
						"Error: the answer has %zu bytes", &said),
					 1);
			assert_int_equal(said, RPC_ANSWER_MAX + 1);
			json_decref(r);
		}
		free(text);
		rpc_call_fini(&call);
	}
	json_decref(id);
}

static void text_is_written_and_counted(void **state)
{
	json_t *o = json_pack("{s:s, s:f}", "a", "\1\n", "b", 0.1);
	static const char want[] = "{\"a\":\"\\u0001\\n\",\"b\":0.1}";
	size_t n;
	char *text;

	(void)state;
	for (size_t max = 0; max < sizeof(want) + 2; max++) {
		text = rpc_text(json_incref(o), max, &n);
		assert_int_equal(n, sizeof(want) - 1);
		if (max < n)
			assert_null(text);
		else
			assert_string_equal(text, want);
		free(text);
	}
	json_decref(o);
	assert_null(rpc_text(NULL, SIZE_MAX, &n));
	assert_int_equal(n, 0);
}

static void results_that_are_odd(void **state)
{
	static const char *const odd[] = {
		"{\"results\":5}",
		"{\"results\":[5,null,{},{\"mime\":7},{\"mime\":\"image/png\"},"
		"{\"mime\":\"image/png\",\"data\":[]}]}",
		"[1]",
		"null",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
		json_t *r = result_of(MCP_UNKNOWN, "sandbox_run_code", odd[i]);

		assert_int_equal(json_array_size(json_object_get(r, "content")), 1);
		assert_non_null(text_of(content_at(r, 0)));
		json_decref(r);
	}
}

static void errors_speak_of_tools(void **state)
{
	struct mcp_peer p = peer_of(MCP_2025_06_18, "*");
	struct rpc_call call = { .message = "a is not running: start it with sandbox.start",
				 .data = json_pack("{s:i, s:[s]}", "code", 1, "output", "part") };
	json_t *r = mcp_tool_result(&p, mcp_tool_find("sandbox_stop"), &call);

	(void)state;
	assert_true(json_is_true(json_object_get(r, "isError")));
	assert_string_equal(text_of(content_at(r, 0)),
			    "Error: a is not running: start it with sandbox_start");
	assert_non_null(strstr(text_of(content_at(r, 1)), "part"));
	assert_null(json_object_get(r, "structuredContent"));
	json_decref(r);
	rpc_call_fini(&call);
}

/* No reference, and no keyword that is ours. */
static void check_schema(const json_t *schema)
{
	const json_t *type = json_object_get(schema, "type"), *sub;
	const char *name;

	assert_true(json_is_string(type) || json_is_array(type));
	assert_null(json_object_get(schema, "$ref"));
	json_object_foreach((json_t *)schema, name, sub)
		assert_int_not_equal(strncmp(name, "x-", 2), 0);
	json_object_foreach(json_object_get(schema, "properties"), name, sub) check_schema(sub);
	if (json_object_get(schema, "items"))
		check_schema(json_object_get(schema, "items"));
}

/* All that a client may ask for before it lets a model use a tool. */
static void check_hints(const json_t *hints)
{
	assert_true(json_is_boolean(json_object_get(hints, "readOnlyHint")));
	assert_true(json_is_boolean(json_object_get(hints, "openWorldHint")));
	/* What only reads destroys nothing: of no meaning there, by the specification. */
	if (json_is_true(json_object_get(hints, "readOnlyHint"))) {
		assert_null(json_object_get(hints, "destructiveHint"));
		assert_null(json_object_get(hints, "idempotentHint"));
		return;
	}
	assert_true(json_is_boolean(json_object_get(hints, "destructiveHint")));
	assert_true(json_is_boolean(json_object_get(hints, "idempotentHint")));
}

/* Is @text what the document of the API has for models (x-mcp-description)? */
static bool said_for_models(const char *method, const char *text)
{
	json_t *doc = json_loads(api_document, 0, NULL), *m;
	bool found = false;
	size_t i;

	json_array_foreach(json_object_get(doc, "methods"), i, m)
	{
		const char *said = rpc_string(m, "x-mcp-description");

		if (said && !strcmp(rpc_string(m, "name"), method))
			found = !strcmp(said, text);
	}
	json_decref(doc);
	return found;
}

static void every_method_with_a_tool_is_a_good_one(void **state)
{
	struct mcp_peer all = peer_of(MCP_NEWEST, "*"), one = peer_of(MCP_NEWEST, "team");
	json_t *tools = mcp_tools_list(&all), *fewer = mcp_tools_list(&one), *t;
	size_t i, n = 0;

	(void)state;
	while (api_tools[n].name)
		n++;
	assert_int_equal(json_array_size(json_object_get(tools, "tools")), n);
	json_array_foreach(json_object_get(tools, "tools"), i, t)
	{
		const json_t *hints = json_object_get(t, "annotations");
		const struct api_tool *tool = mcp_tool_find(rpc_string(t, "name"));
		bool wrapped = tool->wrap != NULL;

		assert_non_null(api_find_method(tool->method));
		assert_true(strlen(rpc_string(t, "title")) > 3);
		assert_true(strlen(rpc_string(t, "description")) > 20);
		check_schema(json_object_get(t, "inputSchema"));
		check_schema(json_object_get(t, "outputSchema"));
		assert_string_equal(rpc_string(json_object_get(t, "outputSchema"), "type"),
				    "object");
		assert_int_equal(json_object_get(json_object_get(t, "outputSchema"), "required") !=
					 NULL,
				 wrapped);
		check_hints(hints);
		/* What is made of the summary alone says too little to a model. */
		assert_true(said_for_models(tool->method, rpc_string(t, "description")));
	}
	json_array_foreach(json_object_get(fewer, "tools"), i, t) assert_null(
		json_object_get(json_object_get(json_object_get(t, "inputSchema"), "properties"),
				"namespace"));
	json_decref(tools);
	json_decref(fewer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(results_are_text_and_structure),
		cmocka_unit_test(pictures_are_pictures),
		cmocka_unit_test(a_result_that_is_too_long_is_an_error),
		cmocka_unit_test(the_bound_is_exact),
		cmocka_unit_test(text_is_written_and_counted),
		cmocka_unit_test(results_that_are_odd),
		cmocka_unit_test(errors_speak_of_tools),
		cmocka_unit_test(every_method_with_a_tool_is_a_good_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
