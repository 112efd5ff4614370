/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_API_H
#define MSB_SERVER_API_H

/* Methods of the API: the tables that tools/gen-api makes, and the handlers. */

#include "server/rpc.h"
#include "server/schema.h"

struct api_method {
	const char *name;
	const struct schema *params;
	void (*run)(struct rpc_call *c);
	bool audit; /* it changes or reaches a sandbox: a line of the audit log */
};

/* What an error code means besides JSON-RPC. */
struct api_error {
	int code; /* JSON-RPC */
	int http; /* status of the answer to a single call */
	int legacy; /* error.data.code, the number that older clients know; 0 = none */
};

extern const struct api_method api_methods[]; /* ended by name NULL */
extern const struct api_error api_errors[]; /* ended by code 0 */
extern const char api_document[]; /* api/openrpc.json */

/* Bodies of requests that are no JSON-RPC. */
extern const struct schema *const api_exec_request, *const api_exec_socket_request;
extern const struct schema *const api_repl_request;

/* Methods as tools of MCP. */
struct api_tool {
	const char *name, *method;
	const char *wrap; /* the member that holds a result which is no object; NULL = it is one */
};
extern const struct api_tool api_tools[]; /* ended by name NULL */
extern const char api_tools_document[]; /* the result of tools/list */

const struct api_method *api_find_method(const char *name);
const struct api_error *api_find_error(int code);

void method_sandbox_start(struct rpc_call *c);
void method_sandbox_stop(struct rpc_call *c);
void method_sandbox_list(struct rpc_call *c);
void method_sandbox_get(struct rpc_call *c);
void method_sandbox_logs(struct rpc_call *c);
void method_sandbox_restart(struct rpc_call *c);
void method_sandbox_keep_alive(struct rpc_call *c);
void method_sandbox_network_get(struct rpc_call *c);
void method_sandbox_network_set(struct rpc_call *c);
void method_sandbox_metrics_get(struct rpc_call *c);
void method_sandbox_repl_run(struct rpc_call *c);
void method_sandbox_command_run(struct rpc_call *c);
void method_sandbox_fs_read(struct rpc_call *c);
void method_sandbox_fs_write(struct rpc_call *c);
void method_sandbox_fs_list(struct rpc_call *c);
void method_sandbox_fs_stat(struct rpc_call *c);
void method_sandbox_fs_mkdir(struct rpc_call *c);
void method_sandbox_fs_remove(struct rpc_call *c);
void method_sandbox_fs_rename(struct rpc_call *c);
void method_volume_create(struct rpc_call *c);
void method_volume_list(struct rpc_call *c);
void method_volume_get(struct rpc_call *c);
void method_volume_remove(struct rpc_call *c);

#endif
