/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_SANDBOX_PATH_H
#define MSB_SERVER_SANDBOX_PATH_H

/*
 * Requests about one sandbox: /api/v1/sandboxes/NAME/WHAT?namespace=NS&...
 *
 * Everything that such a path has in common is here: who may, which namespace, which
 * sandbox, which parameters of the query there are.
 */

#include "codec/query.h"
#include "server/audit.h"
#include "server/box.h"
#include "server/http_api.h"

struct sandbox_target {
	struct box *box; /* requests can be made in it */
	struct query query;
	char ns[RPC_NAME_SIZE], name[RPC_NAME_SIZE];
	struct principal who;
	uint64_t started_ns;
};

/* Does a request's path follow @pattern, in which "*" is the name of a sandbox? */
bool sandbox_path_match(const char *pattern, const char *path);

/*
 * Finds out which sandbox is meant.  @params: the names that the query may have besides
 * "namespace"; ended by NULL.  Return: false if the request was answered with an error.
 */
bool sandbox_path_find(struct conn *c, const char *const *params, struct sandbox_target *out);

/* The end of a request of which more is known than that it was refused, in the audit log. */
void sandbox_path_audit(struct server *s, const struct sandbox_target *t, const char *method,
			enum audit_outcome outcome, int code);

/* Answers 400 with the line in @e, about the request. */
void sandbox_path_bad(struct conn *c, const struct err *e);

#endif
