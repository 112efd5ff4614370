/* SPDX-License-Identifier: Apache-2.0 */
/* What every exchange with a registry has in common. */
#include <errno.h>
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
