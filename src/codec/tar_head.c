/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/tar_head.h"

#include <stdio.h>
#include <string.h>

#define TAR_OCTAL_MAX (1ull << 33) /* eleven octal digits */

/* struct posix_header of POSIX.1-1988 */
enum tar_field {
	TAR_NAME = 0,
	TAR_MODE = 100,
	TAR_UID = 108,
	TAR_GID = 116,
	TAR_SIZE = 124,
	TAR_MTIME = 136,
	TAR_SUM = 148,
	TAR_TYPE = 156,
	TAR_MAGIC = 257,
};

void tar_head_format(const char *name, bool dir, uint64_t size, uint8_t to[TAR_BLOCK])
{
	char *p = (char *)to;
	unsigned sum = 0;

	memset(to, 0, TAR_BLOCK);
	snprintf(p + TAR_NAME, 100, "%s%s", name, dir ? "/" : "");
	snprintf(p + TAR_MODE, 8, "%07o", dir ? 0755 : 0644);
	snprintf(p + TAR_UID, 8, "%07o", 0);
	snprintf(p + TAR_GID, 8, "%07o", 0);
	if (size < TAR_OCTAL_MAX) {
		snprintf(p + TAR_SIZE, 12, "%011llo", (unsigned long long)size);
	} else {
		to[TAR_SIZE] = 0x80;
		for (unsigned i = 0; i < 8; i++)
			to[TAR_SIZE + 11 - i] = (uint8_t)(size >> (8 * i));
	}
	snprintf(p + TAR_MTIME, 12, "%011o", 0);
	memset(p + TAR_SUM, ' ', 8);
	p[TAR_TYPE] = dir ? '5' : '0';
	memcpy(p + TAR_MAGIC, "ustar\00000", 8);
	for (unsigned i = 0; i < TAR_BLOCK; i++)
		sum += to[i];
	snprintf(p + TAR_SUM, 7, "%06o", sum);
}
