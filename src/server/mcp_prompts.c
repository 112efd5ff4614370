/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "server/mcp.h"

struct mcp_prompt {
	const char *name, *title, *description, *language, *image;
};

static const struct mcp_prompt mcp_prompts[] = {
	{ "create_python_sandbox", "Create a Python sandbox", "Create a sandbox for Python",
	  "Python", "microsandbox/python" },
	{ "create_node_sandbox", "Create a Node.js sandbox", "Create a sandbox for Node.js",
	  "Node.js", "microsandbox/node" },
	{ NULL },
};

json_t *mcp_prompts_list(const struct mcp_peer *p)
{
	bool titled = !p->version || p->version >= MCP_2025_06_18;
	json_t *all = json_array();

	for (const struct mcp_prompt *q = mcp_prompts; q->name; q++)
		json_array_append_new(all, json_pack("{s:s, s:s*, s:s, s:[{s:s, s:s, s:b}]}", "name",
						     q->name, "title", titled ? q->title : NULL,
						     "description", q->description, "arguments",
						     "name", "sandbox_name", "description",
						     "Name of the sandbox", "required", 1));
	return json_pack("{s:o}", "prompts", all);
}

json_t *mcp_prompts_get(const json_t *params, const char **reason)
{
	const char *name = rpc_string(params, "name");
	const char *sandbox = rpc_string(json_object_get(params, "arguments"), "sandbox_name");
	const struct mcp_prompt *p = mcp_prompts;
	json_t *text;

	while (p->name && (!name || strcmp(p->name, name)))
		p++;
	if (!p->name || !sandbox) {
		*reason = p->name ? "Invalid params: arguments.sandbox_name is missing"
				  : "Invalid params: there is no prompt of this name";
		return NULL;
	}
	text = json_sprintf(
		"Create a %s sandbox named '%s': use sandbox_start with the image %s, "
		"512 MiB of memory and 1 CPU. Then run code in it with sandbox_run_code.",
		p->language, sandbox, p->image);
	return json_pack("{s:s, s:[{s:s, s:{s:s, s:o}}]}", "description", p->description,
			 "messages", "role", "user", "content", "type", "text", "text", text);
}
