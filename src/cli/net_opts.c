/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/net_opts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int net_opts_add(const struct cli_command *cmd, const char *opt, const char *word,
		 const char *value, struct netpolicy *p)
{
	char line[NETRULE_TEXT_MAX + 16];
	struct err e = ERR_INIT;
	int n = snprintf(line, sizeof(line), "%s %s", word, value);

	/* What is cut here is longer than any rule. */
	if (netpolicy_add(p, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1, &e))
		return cli_usage(cmd, "--%s '%.80s': %s", opt, value, err_text(&e));
	return 0;
}

int net_opts_text(const struct netpolicy *p, char **out, struct err *e)
{
	struct buf b = BUF_INIT;
	int rc = netpolicy_format(p, &b);

	*out = rc ? NULL : strndup(buf_len(&b) ? (const char *)buf_data(&b) : "", buf_len(&b));
	buf_fini(&b);
	return *out ? 0 : err_errno(e, ENOMEM, "network policy");
}
