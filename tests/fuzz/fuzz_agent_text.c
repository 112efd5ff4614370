/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The texts that the agent reads: passwd and group of an image, resource limits of a
 * request, reports of a driver.  Input: the request's text up to a NUL, then passwd up
 * to the next, then group.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/repl.h"
#include "agent/spawn.h"
#include "agent/user.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *fuzz_part(const uint8_t **data, size_t *size, size_t *len)
{
	const uint8_t *end = *size ? memchr(*data, 0, *size) : NULL;
	char *text;

	*len = end ? (size_t)(end - *data) : *size;
	text = malloc(*len + 1);
	if (!text)
		abort();
	if (*len)
		memcpy(text, *data, *len);
	text[*len] = '\0';
	*data += *len + (end ? 1 : 0);
	*size -= *len + (end ? 1 : 0);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t spec_len, passwd_len, group_len;
	char *spec = fuzz_part(&data, &size, &spec_len);
	char *passwd = fuzz_part(&data, &size, &passwd_len);
	char *group = fuzz_part(&data, &size, &group_len);
	struct repl_report report;
	struct user_ident user;
	uint64_t soft, hard;
	int resource;

	if (!user_resolve(spec, passwd, passwd_len, group, group_len, &user, NULL)) {
		if (user.n_groups < 1 || user.n_groups > USER_GROUPS_MAX || user.home[0] != '/' ||
		    user.uid == (uid_t)-1 || user.gid == (gid_t)-1)
			abort();
		for (size_t i = 0; i < user.n_groups; i++)
			if (user.groups[i] == (gid_t)-1)
				abort();
	}
	if (!spawn_parse_rlimit(spec, &resource, &soft, &hard, NULL) && soft > hard)
		abort();
	repl_parse_report(spec, spec_len, &report);
	free(spec);
	free(passwd);
	free(group);
	return 0;
}
