/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/secret_opts.h"

#include <string.h>

#include "lib/secret_value.h"

int secret_opts_add(const struct cli_command *cmd, const char *value, struct secret_list *l)
{
	struct secret s = { .value = NULL };
	struct secret_source from;
	struct err e = ERR_INIT;
	int rc;

	rc = secret_parse(value, &s, &from, &e);
	if (!rc)
		rc = secret_value_find(&s, &from, &e);
	if (rc)
		secret_fini(&s);
	else
		rc = secret_list_add(l, &s, &e);
	/* What was typed may hold a value: only the message is printed. */
	return rc ? cli_usage(cmd, "--secret: %s", err_text(&e)) : 0;
}

int secret_opts_env(const struct secret_list *l, struct buf *bytes, struct frame_list *env)
{
	char text[SECRET_ENV_MAX];
	int rc = 0;

	for (unsigned i = 0; i < l->n && !rc; i++) {
		secret_env(&l->v[i], text);
		rc = frame_list_add(bytes, env, text, strlen(text));
	}
	return rc;
}
