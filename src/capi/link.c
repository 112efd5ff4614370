/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: a WebSocket's connection: made and secured by libcurl, then ours to send and receive
 * on, in both directions at once.
 *
 * Spec: RFC 6455 §4.1 (the handshake), RFC 9112.
 *
 * libcurl's own WebSockets are not there in the versions that distributions have.  With
 * CURLOPT_CONNECT_ONLY it connects as for any other call (addresses, unix sockets, TLS), and
 * curl_easy_send() and curl_easy_recv() are the bytes.  A handle that stays in its multi handle
 * keeps its connection; one that leaves it closes it.
 *
 * States: connecting -> handshake -> open -> shut.  A link that did not get as far as open was
 * never there: capi_link_open() fails and says why, with the server's own words if it has any.
 *
 * Threads: libcurl's handle is for one thread at a time: send and recv are called under a lock of
 * the owner's.  Neither waits; capi_link_wait(), which does, and capi_link_shut() know only the
 * descriptor, and may be called beside everything.
 *
 * Limits: the head of the answer, and the body of one that refuses.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "capi/curl.h"
#include "capi/internal.h"
#include "codec/ws_answer.h"

#define LINK_POLL_MAX_MS 60000

struct capi_link {
	CURLM *multi; /* owns the connection */
	CURL *easy;
	int fd; /* libcurl's */
	char *url; /* told to people */
	char text[CURL_ERROR_SIZE];
};

/* ---- bytes ---- */

int capi_link_wait(struct capi_link *l, short events, double until, const struct msb_cancel *cancel)
{
	struct pollfd fds[2] = {
		{ .fd = l->fd, .events = events },
		{ .fd = capi_cancel_fd(cancel), .events = POLLIN }, /* -1 is passed over */
	};
	double left;

	for (;;) {
		left = (until - capi_now()) * 1000;
		if (left <= 0)
			return MSB_ERR_TIMEOUT;
		left = left < LINK_POLL_MAX_MS ? left + 1 : LINK_POLL_MAX_MS;
		if (poll(fds, 2, (int)left) <= 0)
			continue; /* a signal, or not yet */
		return fds[1].revents ? MSB_ERR_CANCELLED : 0;
	}
}

/* Return: @n, -EAGAIN, or -EIO, which capi_link_broke() has words for. */
static ssize_t link_result(struct capi_link *l, CURLcode rc, size_t n)
{
	if (rc == CURLE_OK)
		return (ssize_t)n;
	if (rc == CURLE_AGAIN)
		return -EAGAIN;
	if (!l->text[0])
		snprintf(l->text, sizeof(l->text), "%s", curl_easy_strerror(rc));
	return -EIO;
}

ssize_t capi_link_send(struct capi_link *l, const void *p, size_t n)
{
	size_t sent = 0;
	CURLcode rc = curl_easy_send(l->easy, p, n, &sent);

	return link_result(l, rc, sent);
}

ssize_t capi_link_recv(struct capi_link *l, void *to, size_t room)
{
	size_t got = 0;
	CURLcode rc = curl_easy_recv(l->easy, to, room, &got);

	return link_result(l, rc, got);
}

int capi_link_broke(const struct capi_link *l, struct msb_error **err)
{
	return capi_fail(err, MSB_ERR_UNREACHABLE, "the connection to %s broke: %s", l->url,
			 l->text);
}

int capi_link_fd(const struct capi_link *l)
{
	return l->fd;
}

const char *capi_link_url(const struct capi_link *l)
{
	return l->url;
}

void capi_link_shut(struct capi_link *l)
{
	shutdown(l->fd, SHUT_RDWR);
}

void capi_link_free(struct capi_link *l)
{
	if (!l)
		return;
	if (l->multi && l->easy)
		curl_multi_remove_handle(l->multi, l->easy);
	if (l->easy)
		curl_easy_cleanup(l->easy);
	if (l->multi)
		curl_multi_cleanup(l->multi);
	free(l->url);
	free(l);
}

/* ---- connecting ---- */

static curl_socket_t link_on_socket(void *user, curlsocktype purpose, struct curl_sockaddr *a)
{
	(void)user;
	if (purpose != CURLSOCKTYPE_IPCXN)
		return CURL_SOCKET_BAD;
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static int link_silent(const struct capi_link *l, struct msb_error **err)
{
	return capi_fail(err, MSB_ERR_TIMEOUT, "the server at %s said nothing for %g seconds",
			 l->url, CAPI_SILENCE_LIMIT);
}

/* Waits until libcurl is done. Return: 0 and its result in *@rc, or a kind. */
static int link_run(struct capi_link *l, const struct msb_cancel *cancel, CURLcode *rc)
{
	struct curl_waitfd extra = { .events = CURL_WAIT_POLLIN, .fd = capi_cancel_fd(cancel) };
	double end = capi_now() + CAPI_SILENCE_LIMIT, left;
	int running = 1, n;
	CURLMsg *m;

	for (;;) {
		if (capi_cancelled(cancel))
			return MSB_ERR_CANCELLED;
		if (curl_multi_perform(l->multi, &running))
			return MSB_ERR_NO_MEMORY;
		if (!running)
			break;
		left = (end - capi_now()) * 1000;
		if (left <= 0)
			return MSB_ERR_TIMEOUT;
		if (curl_multi_poll(l->multi, &extra, cancel ? 1 : 0, (int)left + 1, NULL))
			return MSB_ERR_NO_MEMORY;
	}
	*rc = CURLE_COULDNT_CONNECT;
	while ((m = curl_multi_info_read(l->multi, &n)))
		if (m->msg == CURLMSG_DONE)
			*rc = m->data.result;
	return 0;
}

static int link_connect(struct capi_link *l, const struct capi_client *c, const char *what,
			const struct msb_cancel *cancel, struct msb_error **err)
{
	curl_socket_t fd = CURL_SOCKET_BAD;
	CURLcode bad = CURLE_OK, rc = CURLE_OK;
	int ended;

	bad |= curl_easy_setopt(l->easy, CURLOPT_CONNECT_ONLY, 1L);
	bad |= curl_easy_setopt(l->easy, CURLOPT_OPENSOCKETFUNCTION, link_on_socket);
	if (bad || !capi_curl_prepare(l->easy, c, capi_client_endpoint(c)->base, l->text) ||
	    curl_multi_add_handle(l->multi, l->easy))
		return capi_no_memory(err);
	ended = link_run(l, cancel, &rc);
	if (ended == MSB_ERR_CANCELLED)
		return capi_fail(err, ended, "%s was cancelled", what);
	if (ended == MSB_ERR_TIMEOUT)
		return link_silent(l, err);
	if (ended || rc == CURLE_OUT_OF_MEMORY)
		return capi_no_memory(err);
	if (rc || curl_easy_getinfo(l->easy, CURLINFO_ACTIVESOCKET, &fd) || fd == CURL_SOCKET_BAD)
		return capi_fail(err, MSB_ERR_UNREACHABLE,
				 "cannot reach the server at %s: %s; is it running (msb server "
				 "start)?",
				 l->url, l->text[0] ? l->text : curl_easy_strerror(rc));
	l->fd = fd;
	return 0;
}

/* ---- the handshake ---- */

/* HOST[:PORT], and the path before ours, of an address that endpoint.c has checked. Return: 0 or -1. */
static int link_target(const char *base, char **host, char **prefix)
{
	char *name = NULL, *port = NULL, *path = NULL;
	CURLU *u = curl_url();
	int rc = -1;

	*host = *prefix = NULL;
	if (u && !curl_url_set(u, CURLUPART_URL, base, 0) &&
	    !curl_url_get(u, CURLUPART_HOST, &name, 0) &&
	    !curl_url_get(u, CURLUPART_PATH, &path, 0)) {
		curl_url_get(u, CURLUPART_PORT, &port, CURLU_NO_DEFAULT_PORT);
		if (asprintf(host, "%s%s%s", name, port ? ":" : "", port ? port : "") < 0)
			*host = NULL;
		/* It is "/" if there is none. */
		*prefix = strdup(strcmp(path, "/") ? path : "");
		rc = *host && *prefix ? 0 : -1;
	}
	curl_free(name);
	curl_free(port);
	curl_free(path);
	curl_url_cleanup(u);
	return rc;
}

/* malloc()ed; NULL: no memory. */
static char *link_request(const struct capi_endpoint *at, const char *path, const char *key)
{
	auto_free char *host = NULL, *prefix = NULL;
	char *text = NULL;

	if (link_target(at->base, &host, &prefix) ||
	    asprintf(&text,
		     "GET %s%s HTTP/1.1\r\n"
		     "Host: %s\r\n"
		     "User-Agent: " CAPI_USER_AGENT "\r\n"
		     "Accept: application/json\r\n"
		     "Connection: Upgrade\r\n"
		     "Upgrade: websocket\r\n"
		     "Sec-WebSocket-Version: 13\r\n"
		     "Sec-WebSocket-Key: %s\r\n"
		     "%s%s%s\r\n",
		     prefix, path, host, key, at->api_key ? "Authorization: Bearer " : "",
		     at->api_key ? at->api_key : "", at->api_key ? "\r\n" : "") < 0)
		return NULL;
	return text;
}

/* What capi_link_wait() says, in words; 0 stays 0. */
static int link_waited(const struct capi_link *l, int rc, const char *what, struct msb_error **err)
{
	if (rc == MSB_ERR_CANCELLED)
		return capi_fail(err, rc, "%s was cancelled", what);
	return rc ? link_silent(l, err) : 0;
}

static int link_send_all(struct capi_link *l, const char *text, const char *what,
			 const struct msb_cancel *cancel, struct msb_error **err)
{
	size_t left = strlen(text);
	int rc = 0;

	while (left && !rc) {
		ssize_t n = capi_link_send(l, text, left);

		if (n >= 0) {
			text += n;
			left -= (size_t)n;
		} else if (n == -EAGAIN) {
			rc = link_waited(l,
					 capi_link_wait(l, POLLOUT, capi_now() + CAPI_SILENCE_LIMIT,
							cancel),
					 what, err);
		} else {
			rc = capi_link_broke(l, err);
		}
	}
	return rc;
}

static int link_bad_answer(const struct capi_link *l, const struct ws_answer *a, int rc,
			   struct msb_error **err)
{
	switch (rc) {
	case -ENOMEM:
		return capi_no_memory(err);
	case -ENOBUFS:
		return capi_fail(err, MSB_ERR_INVALID_RESPONSE,
				 "the answer of %s to the WebSocket's handshake is too long",
				 l->url);
	case -EPIPE:
		return capi_fail(err, MSB_ERR_UNREACHABLE,
				 "the server at %s closed the connection before it had answered",
				 l->url);
	default:
		return capi_fail(err, MSB_ERR_INVALID_RESPONSE,
				 "the answer of %s is no HTTP: %s; is this the address of a "
				 "microsandbox server?",
				 l->url, a->reason);
	}
}

/* Reads until the answer is whole, or has switched; what came after it is put to @rest. */
static int link_read_answer(struct capi_link *l, struct ws_answer *a, struct buf *rest,
			    const char *what, const struct msb_cancel *cancel,
			    struct msb_error **err)
{
	uint8_t bytes[4096];
	size_t used = 0;
	ssize_t n;
	int rc = 0;

	while (!rc) {
		n = capi_link_recv(l, bytes, sizeof(bytes));
		if (n == -EAGAIN) {
			rc = link_waited(l,
					 capi_link_wait(l, POLLIN, capi_now() + CAPI_SILENCE_LIMIT,
							cancel),
					 what, err);
			if (rc)
				return rc;
			continue;
		}
		if (n == -EIO)
			return capi_link_broke(l, err);
		rc = n ? ws_answer_feed(a, bytes, (size_t)n, &used) : ws_answer_end(a);
		if (rc < 0)
			return link_bad_answer(l, a, rc, err);
	}
	if (n && buf_append(rest, bytes + used, (size_t)n - used))
		return capi_no_memory(err);
	return 0;
}

static int link_handshake(struct capi_link *l, const struct capi_client *c, const char *path,
			  const char *what, const struct msb_cancel *cancel, struct buf *rest,
			  struct msb_error **err)
{
	uint8_t random[WS_KEY_BYTES];
	auto_free char *key = NULL, *request = NULL;
	struct ws_answer a;
	int rc;

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return capi_fail(err, MSB_ERR_ARGUMENT, "no random bytes for a WebSocket");
	key = capi_base64_encode(random, sizeof(random));
	request = key ? link_request(capi_client_endpoint(c), path, key) : NULL;
	if (!request)
		return capi_no_memory(err);
	ws_answer_init(&a, CAPI_HEAD_MAX, CAPI_HEAD_MAX);
	rc = link_send_all(l, request, what, cancel, err);
	rc = rc ? rc : link_read_answer(l, &a, rest, what, cancel, err);
	if (!rc && a.status != 101)
		rc = capi_refused((int)a.status, buf_data(&a.body), buf_len(&a.body), err);
	else if (!rc && !ws_answer_fits(&a, key))
		rc = capi_fail(
			err, MSB_ERR_INVALID_RESPONSE,
			"the server's answer to the WebSocket's handshake is not one to ours");
	ws_answer_fini(&a);
	return rc;
}

int capi_link_open(struct capi_link **out, struct capi_client *c, const char *path,
		   const char *what, const struct msb_cancel *cancel, struct buf *rest,
		   struct msb_error **err)
{
	struct capi_link *l = calloc(1, sizeof(*l));
	int rc = 0;

	if (!l)
		return capi_no_memory(err);
	l->fd = -1;
	l->url = strdup(capi_client_url(c));
	l->multi = curl_multi_init();
	l->easy = curl_easy_init();
	if (!l->url || !l->multi || !l->easy)
		rc = capi_no_memory(err);
	rc = rc ? rc : link_connect(l, c, what, cancel, err);
	rc = rc ? rc : link_handshake(l, c, path, what, cancel, rest, err);
	if (rc) {
		capi_link_free(l);
		return rc;
	}
	*out = l;
	return 0;
}
