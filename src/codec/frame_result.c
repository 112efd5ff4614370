/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is wanted of a REPL_RESULT beyond its encoding.  The name of its type goes into
 * answers to clients, so it is a name and nothing else.
 */
#include "codec/frame.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define MIME_MAX 127u /* of type and subtype, RFC 6838 §4.2 */

static bool mime_char(uint8_t c, bool first)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return true;
	return !first && c && strchr("!#$&-^_.+", c);
}

/* One restricted-name of RFC 6838. */
static bool mime_part(const uint8_t *p, size_t n)
{
	if (!n || n > MIME_MAX || !mime_char(p[0], true))
		return false;
	for (size_t i = 1; i < n; i++)
		if (!mime_char(p[i], false))
			return false;
	return true;
}

bool frame_mime_valid(const struct frame_str *mime)
{
	const uint8_t *slash = mime->len ? memchr(mime->p, '/', mime->len) : NULL;
	size_t type;

	if (!slash)
		return false;
	type = (size_t)(slash - mime->p);
	return mime_part(mime->p, type) && mime_part(slash + 1, mime->len - type - 1);
}

static bool mime_begins(const struct frame_str *mime, const char *with)
{
	size_t n = strlen(with);

	return mime->len >= n && !strncasecmp((const char *)mime->p, with, n);
}

static bool mime_ends(const struct frame_str *mime, const char *with)
{
	size_t n = strlen(with);

	return mime->len >= n && !strncasecmp((const char *)mime->p + mime->len - n, with, n);
}

bool frame_mime_is_text(const struct frame_str *mime)
{
	return mime_begins(mime, "text/") || mime_ends(mime, "/json") || mime_ends(mime, "+json") ||
	       mime_ends(mime, "/xml") || mime_ends(mime, "+xml") || mime_ends(mime, "/javascript");
}

int frame_decode_result(const uint8_t *p, size_t n, struct frame_repl_result *out)
{
	struct frame f = { .type = FRAME_REPL_RESULT };

	if (n < 4)
		return -EPROTO;
	f.len = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
	f.body = p + 4;
	if (f.len > FRAME_RESULT_HEAD_MAX || f.len > n - 4 || frame_decode(&f, out, sizeof(*out)) ||
	    !frame_mime_valid(&out->mime))
		return -EPROTO;
	return (int)(4 + f.len);
}
