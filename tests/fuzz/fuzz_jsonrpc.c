/* SPDX-License-Identifier: Apache-2.0 */
/* Text of a request: every call is either sound or has an error, and answers are JSON. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/jsonrpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void answer(const struct jsonrpc_call *c)
{
	json_t *j = c->error ? jsonrpc_error(c->error, c->reason, NULL, c->id)
			     : jsonrpc_result(json_true(), c->id);
	char *text = json_dumps(j, JSON_COMPACT);

	assert(j && text);
	free(text);
	json_decref(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct jsonrpc_message m;
	struct jsonrpc_call c;
	char reason[256] = "";

	if (jsonrpc_parse((const char *)data, size, &m, reason, sizeof(reason))) {
		assert(reason[0]);
		return 0;
	}
	assert(m.n >= 1 && m.n <= JSONRPC_BATCH_MAX);
	for (size_t i = 0; i < m.n; i++) {
		jsonrpc_call_at(&m, i, &c);
		assert(c.error ? c.reason != NULL : c.method != NULL);
		assert(!c.params || json_is_object(c.params));
		answer(&c);
	}
	jsonrpc_message_fini(&m);
	return 0;
}
