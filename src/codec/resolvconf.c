/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/resolvconf.h"

static bool resolvconf_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* "192.0.2.1", "fe80::1%eth0" */
static bool resolvconf_server(const char *p, size_t len, struct resolvconf_server *out)
{
	const char *percent = memchr(p, '%', len);
	size_t head = percent ? (size_t)(percent - p) : len, zone = percent ? len - head - 1 : 0;
	char text[NETADDR_TEXT];

	if (head >= sizeof(text) || zone >= sizeof(out->zone) || (percent && !zone) ||
	    memchr(p, '\0', len))
		return false;
	memcpy(text, p, head);
	text[head] = '\0';
	if (netaddr_parse(text, &out->addr))
		return false;
	memcpy(out->zone, percent ? percent + 1 : "", zone);
	out->zone[zone] = '\0';
	return true;
}

static void resolvconf_line(const char *p, size_t len, struct resolvconf *out)
{
	static const char word[] = "nameserver";
	const size_t n = sizeof(word) - 1;
	size_t end;

	if (len <= n || memcmp(p, word, n) || !resolvconf_blank(p[n]))
		return;
	p += n;
	len -= n;
	while (len && resolvconf_blank(*p))
		p++, len--;
	for (end = 0; end < len && !resolvconf_blank(p[end]); end++)
		;
	if (out->n < RESOLVCONF_SERVERS_MAX && resolvconf_server(p, end, &out->servers[out->n]))
		out->n++;
}

void resolvconf_parse(const char *text, size_t len, struct resolvconf *out)
{
	*out = (struct resolvconf){ .n = 0 };
	while (len) {
		const char *end = memchr(text, '\n', len);
		size_t n = end ? (size_t)(end - text) : len;

		resolvconf_line(text, n, out);
		n += !!end;
		text += n;
		len -= n;
	}
	if (!out->n)
		out->servers[out->n++].addr = netaddr_v4(0x7f000001);
}
