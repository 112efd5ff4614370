/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/procnet.h"

#include <stdbool.h>
#include <string.h>

#define PROCNET_LISTEN 0x0a /* TCP_LISTEN in include/net/tcp_states.h */

struct procnet_text {
	const char *p, *end;
};

static void procnet_blanks(struct procnet_text *t)
{
	while (t->p < t->end && *t->p == ' ')
		t->p++;
}

static bool procnet_char(struct procnet_text *t, char c)
{
	if (t->p == t->end || *t->p != c)
		return false;
	t->p++;
	return true;
}

static int procnet_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* So many hexadecimal digits, written without their value. Return: where they are; NULL. */
static const char *procnet_hex(struct procnet_text *t, size_t min, size_t max, size_t *n,
			       unsigned *value)
{
	const char *start = t->p;
	int d;

	*value = 0;
	for (*n = 0; t->p < t->end && *n < max && (d = procnet_digit(*t->p)) >= 0; t->p++, ++*n)
		*value = *value << 4 | (unsigned)d;
	return *n >= min ? start : NULL;
}

/* An address as the kernel writes it: words of 32 bits in its own byte order. */
static bool procnet_is_local(const char *addr, size_t n)
{
	static const char v6[] = "00000000000000000000000001000000";
	static const char mapped[] = "0000000000000000FFFF0000";

	if (n == 32 && !memcmp(addr, v6, 32))
		return true;
	if (n == 32 && memcmp(addr, mapped, 24))
		return false;
	/* 127.x.y.z is z.y.x.127 on x86. */
	return !memcmp(addr + n - 2, "7F", 2);
}

/* "   0: 00000000:1F90 00000000:0000 0A …" */
static enum procnet_state procnet_line(struct procnet_text t, uint16_t port)
{
	const char *local;
	unsigned v, have;
	size_t n, k;

	procnet_blanks(&t);
	while (t.p < t.end && *t.p >= '0' && *t.p <= '9')
		t.p++;
	if (!procnet_char(&t, ':'))
		return PROCNET_SHUT;
	procnet_blanks(&t);
	local = procnet_hex(&t, 8, 32, &n, &v);
	if (!local || (n != 8 && n != 32) || !procnet_char(&t, ':') ||
	    !procnet_hex(&t, 4, 4, &k, &have) || !procnet_char(&t, ' ') ||
	    !procnet_hex(&t, 8, 32, &k, &v) || !procnet_char(&t, ':') ||
	    !procnet_hex(&t, 4, 4, &k, &v) || !procnet_char(&t, ' ') ||
	    !procnet_hex(&t, 2, 2, &k, &v) || v != PROCNET_LISTEN || have != port)
		return PROCNET_SHUT;
	return procnet_is_local(local, n) ? PROCNET_LOCAL : PROCNET_OPEN;
}

enum procnet_state procnet_listens(const char *text, size_t len, uint16_t port)
{
	enum procnet_state most = PROCNET_SHUT;
	const char *end = text + len;

	while (text < end) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		const char *stop = nl ? nl : end;
		enum procnet_state s = procnet_line((struct procnet_text){ text, stop }, port);

		if (s > most)
			most = s;
		text = stop + 1;
	}
	return most;
}
