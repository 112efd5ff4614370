/* SPDX-License-Identifier: Apache-2.0 */
/* Files of passwords: what is read can be written into them, and is found again. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/authfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct authfile_match m, again;
	static struct credential c;
	bool found;
	char *text;

	if (!authfile_find(data, size, "docker.io", "library/python", &m, NULL)) {
		assert(m.helper[0] || m.credential.secret[0]);
		assert(!strchr(m.helper, '/'));
		if (m.credential.secret[0] && !m.credential.identity) {
			text = authfile_update(NULL, 0, "localhost:5000", &m.credential, &found,
					       NULL);
			assert(text && !found);
			assert(!authfile_find(text, strlen(text), "localhost:5000", "a/b", &again,
					      NULL));
			assert(!strcmp(again.credential.user, m.credential.user));
			assert(!strcmp(again.credential.secret, m.credential.secret));
			free(text);
		}
	}
	if (!authfile_helper_parse(data, size, &c, NULL))
		assert(c.secret[0]);
	text = size ? authfile_update(data, size, "docker.io", NULL, &found, NULL) : NULL;
	if (text && !authfile_find(text, strlen(text), "docker.io", "", &m, NULL))
		assert(m.helper[0] || m.credential.secret[0]);
	free(text);
	return 0;
}
