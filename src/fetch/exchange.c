/* SPDX-License-Identifier: Apache-2.0 */
/* What every exchange with a registry has in common. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include "fetch/fetch.h"

#define FETCH_CONNECT_S 15L
#define FETCH_REDIRECTS 5L

/* Of 10/8, 127/8 and the like, of fc00::/7, fe80::/10, ::1, and IPv4 inside IPv6. */
static bool fetch_is_private4(uint32_t a)
{
	static const struct {
		uint32_t net, mask;
	} nets[] = {
		{ 0x00000000, 0xff000000 }, { 0x0a000000, 0xff000000 }, { 0x64400000, 0xffc00000 },
		{ 0x7f000000, 0xff000000 }, { 0xa9fe0000, 0xffff0000 }, { 0xac100000, 0xfff00000 },
		{ 0xc0a80000, 0xffff0000 }, { 0xc6120000, 0xfffe0000 }, { 0xe0000000, 0xe0000000 },
	};

	for (size_t i = 0; i < sizeof(nets) / sizeof(nets[0]); i++)
		if ((a & nets[i].mask) == nets[i].net)
			return true;
	return false;
}

static bool fetch_is_private6(const struct in6_addr *a)
{
	static const uint8_t nat64[12] = { 0, 0x64, 0xff, 0x9b };
	const uint8_t *b = a->s6_addr;
	uint32_t v4 = (uint32_t)b[12] << 24 | (uint32_t)b[13] << 16 | (uint32_t)b[14] << 8 | b[15];

	if (IN6_IS_ADDR_V4MAPPED(a) || IN6_IS_ADDR_V4COMPAT(a) || !memcmp(b, nat64, sizeof(nat64)))
		return fetch_is_private4(v4);
	return (b[0] & 0xe0) != 0x20; /* 2000::/3 is what is public */
}

bool fetch_is_private(const struct sockaddr *a)
{
	if (a->sa_family == AF_INET)
		return fetch_is_private4(ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr));
	if (a->sa_family == AF_INET6)
		return fetch_is_private6(&((const struct sockaddr_in6 *)a)->sin6_addr);
	return true;
}

/* Called with the address that a name turned out to be, and of each redirection. */
static curl_socket_t fetch_on_socket(void *user, curlsocktype purpose, struct curl_sockaddr *a)
{
	(void)user;
	(void)purpose;
	if (fetch_is_private(&a->addr))
		return CURL_SOCKET_BAD;
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* What somebody's proxy may reach is for the proxy to say. */
static bool fetch_has_proxy(void)
{
	static const char *const names[] = { "http_proxy", "https_proxy", "HTTPS_PROXY",
					     "all_proxy", "ALL_PROXY" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (getenv(names[i]))
			return true;
	return false;
}

void fetch_common(const struct fetcher *f, CURL *easy, const struct fetch_endpoint *ep, bool http)
{
	const char *protocols = http ? "http,https" : "https";

	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, protocols);
	curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, protocols);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
	curl_easy_setopt(easy, CURLOPT_MAXREDIRS, FETCH_REDIRECTS);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, FETCH_CONNECT_S);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)f->setup.stall_s);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 512L << 10);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "microsandbox/" MSB_VERSION);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (ep->unverified) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (ep->public && !fetch_has_proxy())
		curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, fetch_on_socket);
	if (f->ca.len)
		curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &f->ca);
}

/* The value of a header line, if it is that header's. */
static const char *fetch_header(const char *line, size_t n, const char *name, size_t *len)
{
	size_t k = strlen(name);

	if (n <= k || strncasecmp(line, name, k) || line[k] != ':')
		return NULL;
	line += k + 1;
	n -= k + 1;
	while (n && (*line == ' ' || *line == '\t')) {
		line++;
		n--;
	}
	while (n && (line[n - 1] == '\r' || line[n - 1] == '\n' || line[n - 1] == ' '))
		n--;
	*len = n;
	return line;
}

static void fetch_copy(char *to, size_t size, const char *s, size_t len)
{
	if (len >= size)
		len = 0;
	memcpy(to, s, len);
	to[len] = '\0';
}

/* Several challenges may come in headers of their own: they are one list. */
static void fetch_on_challenge(struct fetch_answer *a, const char *s, size_t len)
{
	size_t had = strlen(a->challenge);

	if (had + len + 3 > sizeof(a->challenge)) {
		a->challenge_bad = true;
		return;
	}
	snprintf(a->challenge + had, sizeof(a->challenge) - had, "%s%.*s", had ? ", " : "",
		 (int)len, s);
}

static void fetch_answer_reset(struct fetch_answer *a)
{
	*a = (struct fetch_answer){ .length = -1, .retry_after = -1 };
}

size_t fetch_on_header(char *line, size_t size, size_t n, void *answer)
{
	struct fetch_answer *a = answer;
	const char *v;
	uint32_t seconds;
	size_t len;

	n *= size;
	if (n > 5 && !memcmp(line, "HTTP/", 5))
		fetch_answer_reset(a); /* of a redirection, or after 100 Continue */
	else if ((v = fetch_header(line, n, "WWW-Authenticate", &len)))
		fetch_on_challenge(a, v, len);
	else if ((v = fetch_header(line, n, "Content-Type", &len)))
		fetch_copy(a->media_type, sizeof(a->media_type), v, strcspn(v, ";\r\n"));
	else if ((v = fetch_header(line, n, "Docker-Content-Digest", &len)))
		fetch_copy(a->digest, sizeof(a->digest), v, len);
	else if ((v = fetch_header(line, n, "Content-Range", &len)))
		a->range_bad = content_range_parse(v, len, &a->range_first) != 0,
		a->has_range = true;
	else if ((v = fetch_header(line, n, "Retry-After", &len)) &&
		 retry_after_parse(v, len, time(NULL), &seconds) == 0)
		a->retry_after = seconds;
	return n;
}

size_t fetch_on_buffer(char *p, size_t size, size_t n, void *buf)
{
	return buf_append(buf, p, size * n) ? 0 : size * n;
}

void fetch_tell(struct fetcher *f, const struct fetch_request *r, enum fetch_event_kind kind,
		int code, const struct fetch_answer *a, const char *fmt, ...)
{
	struct fetch_event ev = { .kind = kind, .id = r->id, .code = (uint32_t)code };
	va_list ap;

	if (a) {
		memcpy(ev.media_type, a->media_type, sizeof(ev.media_type));
		memcpy(ev.digest, a->digest, sizeof(ev.digest));
	}
	va_start(ap, fmt);
	vsnprintf(ev.text, sizeof(ev.text), fmt, ap);
	va_end(ap);
	/* Nobody listens any more: then nothing that is done here matters. */
	while (send(f->sock, &ev, sizeof(ev), MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}
