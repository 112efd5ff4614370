/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request, to its end: endpoints in order, again after what may pass, from the byte
 * where it broke off.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/manifest.h"
#include "fetch/fetch.h"

#define TRANSFER_BACKOFF_MS 500u
#define TRANSFER_BACKOFF_MAX_MS 16000u
#define TRANSFER_RETRY_AFTER_MAX 60 /* seconds that a registry may let us wait */
#define TRANSFER_TRIES_MAX 200u /* also of one that delivers a byte each time */
#define TRANSFER_AUTH_MAX 3u

struct transfer {
	struct fetcher *f;
	CURL *easy;
	const struct fetch_request *r;
	struct fetch_answer a;
	unsigned endpoint;
	int pipe;
	uint64_t at; /* position of the next byte that is wanted */
	uint64_t skip; /* bytes of this answer that are there already */
	bool begun; /* this answer's body has */
	bool doc; /* the body is collected, and passed on when it is whole */
	struct buf body; /* a document's, or that of an error */
	struct err why; /* why a callback gave up; code EPIPE: nobody wants it */
};

static bool transfer_ok(long status)
{
	return status == 200 || status == 206;
}

/* The first bytes of a body that we want: is it the one that was asked for? */
static int transfer_begin(struct transfer *t)
{
	const struct fetch_request *r = t->r;
	struct fetch_answer *a = &t->a;
	curl_off_t length = -1;

	t->begun = true;
	curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	a->length = length;
	if (a->status == 206) {
		if (!a->has_range || a->range_bad || a->range_first != t->at)
			return err_set(&t->why, EPROTO,
				       "the registry sends another part than was asked for");
		if (length >= 0 && r->size && t->at + (uint64_t)length > r->size)
			return err_set(&t->why, EPROTO, "it is longer than the manifest says");
		return 0;
	}
	/* No part: all of it, from the start. */
	t->skip = t->at;
	if (length >= 0 && r->size && (uint64_t)length != r->size)
		return err_set(&t->why, EPROTO, "it has %lld bytes, but the manifest says %llu",
			       (long long)length, (unsigned long long)r->size);
	return 0;
}

static int transfer_write(struct transfer *t, const char *p, size_t n)
{
	while (n) {
		ssize_t k = write(t->pipe, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_set(&t->why, EPIPE, "nobody reads");
		p += k;
		n -= (size_t)k;
		t->at += (uint64_t)k;
	}
	return 0;
}

static size_t transfer_on_body(char *p, size_t size, size_t n, void *ctx)
{
	struct transfer *t = ctx;
	size_t all = n * size, old;

	n = all;
	if (!t->a.status)
		curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->a.status);
	if (!transfer_ok(t->a.status)) {
		/* What it says of an error is of interest, as far as it fits. */
		(void)buf_append(&t->body, p, n);
		return all;
	}
	if (!t->begun && transfer_begin(t))
		return 0;
	if (t->doc) {
		if (!buf_append(&t->body, p, n))
			return all;
		err_set(&t->why, EPROTO, "a document of more than %llu bytes",
			(unsigned long long)t->r->max);
		return 0;
	}
	old = n < t->skip ? n : (size_t)t->skip;
	t->skip -= old;
	p += old;
	n -= old;
	if (t->at + n > (t->r->size ? t->r->size : t->r->max)) {
		err_set(&t->why, EPROTO, "it is longer than the manifest says");
		return 0;
	}
	return transfer_write(t, p, n) ? 0 : all;
}

/* "https://host/v2/path/blobs/sha256:…" */
static int transfer_url(const struct transfer *t, bool http, char **out)
{
	const struct fetch_endpoint *ep = &t->f->setup.endpoints[t->endpoint];
	const char *base = ep->url;
	int n;

	if (http && !strncmp(base, "https://", 8))
		base += 8;
	else
		http = false;
	if (t->r->kind == FETCH_PING)
		n = asprintf(out, "%s%s/v2/", http ? "http://" : "", base);
	else
		n = asprintf(out, "%s%s/v2/%s/%s/%s", http ? "http://" : "", base, t->f->setup.path,
			     t->r->kind == FETCH_BLOB ? "blobs" : "manifests", t->r->what);
	return n < 0 ? -ENOMEM : 0;
}

static bool transfer_http(struct fetcher *f, unsigned i, bool set)
{
	bool was;

	pthread_mutex_lock(&f->lock);
	was = f->state[i].http;
	f->state[i].http |= set;
	pthread_mutex_unlock(&f->lock);
	return was;
}

static bool transfer_reached(struct fetcher *f, unsigned i, bool set)
{
	bool was;

	pthread_mutex_lock(&f->lock);
	was = f->state[i].reached;
	f->state[i].reached |= set;
	pthread_mutex_unlock(&f->lock);
	return was;
}

/* One exchange. *@seen: the token that it was made with. */
static int transfer_once(struct transfer *t, unsigned *seen)
{
	static const char accept[] = "Accept: " MEDIA_INDEX ", " MEDIA_MANIFEST
				     ", " MEDIA_DOCKER_LIST ", " MEDIA_DOCKER_MANIFEST;
	const struct fetch_endpoint *ep = &t->f->setup.endpoints[t->endpoint];
	bool http = transfer_http(t->f, t->endpoint, false) || !strncmp(ep->url, "http://", 7);
	struct curl_slist *headers = NULL, *l;
	auto_free char *url = NULL;
	CURL *c = t->easy;
	char range[48];
	int rc = transfer_url(t, http, &url);

	t->a = (struct fetch_answer){ .length = -1, .retry_after = -1 };
	t->begun = false;
	t->skip = 0;
	buf_reset(&t->body);
	t->body.max = t->doc ? t->r->max : REGISTRY_DOC_MAX;
	curl_easy_reset(c);
	fetch_common(t->f, c, ep, http);
	if (!rc)
		rc = fetch_authorization(t->f, t->endpoint, &headers, seen);
	if (!rc && (t->r->kind == FETCH_MANIFEST || t->r->kind == FETCH_HEAD)) {
		l = curl_slist_append(headers, accept);
		rc = l ? 0 : -ENOMEM;
		headers = l ? l : headers;
	}
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(c, CURLOPT_NOBODY, t->r->kind == FETCH_HEAD ? 1L : 0L);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, fetch_on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, &t->a);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, transfer_on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->a.error);
	if (t->at) {
		snprintf(range, sizeof(range), "%llu-", (unsigned long long)t->at);
		curl_easy_setopt(c, CURLOPT_RANGE, range);
	}
	if (!rc) {
		/* The head's callback clears all, the text of an error too: it is written later. */
		t->a.result = curl_easy_perform(c);
		curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &t->a.status);
	}
	curl_slist_free_all(headers);
	return rc;
}

/* May it pass by itself? */
static bool transfer_passes(const struct transfer *t)
{
	switch (t->a.result) {
	case CURLE_OK:
		return t->a.status == 408 || t->a.status == 429 || t->a.status == 500 ||
		       t->a.status == 502 || t->a.status == 503 || t->a.status == 504 ||
		       transfer_ok(t->a.status);
	case CURLE_COULDNT_CONNECT:
		return transfer_reached(t->f, t->endpoint, false);
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_PARTIAL_FILE:
	case CURLE_GOT_NOTHING:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		return true;
	default:
		return false;
	}
}

/* What went wrong, for a person. */
static int transfer_error(struct transfer *t, struct err *e)
{
	const struct fetch_answer *a = &t->a;
	char said[128];

	if (t->why.code)
		return err_set(e, t->why.code, "%s", err_text(&t->why));
	if (a->result == CURLE_COULDNT_RESOLVE_HOST || a->result == CURLE_COULDNT_CONNECT ||
	    a->result == CURLE_COULDNT_RESOLVE_PROXY)
		return err_set(e, EHOSTUNREACH, "%s",
			       a->error[0] ? a->error : curl_easy_strerror(a->result));
	if (a->result == CURLE_PEER_FAILED_VERIFICATION)
		return err_set(
			e, EPROTO,
			"%s (--ca-certs FILE names a certificate to trust; --insecure trusts "
			"any)",
			a->error[0] ? a->error : curl_easy_strerror(a->result));
	if (a->result != CURLE_OK)
		return err_set(e, transfer_passes(t) ? EAGAIN : EPROTO, "%s",
			       a->error[0] ? a->error : curl_easy_strerror(a->result));
	registry_error_text(buf_data(&t->body), buf_len(&t->body), said, sizeof(said));
	switch (a->status) {
	case 401:
	case 403:
		return err_set(e, EACCES, "the registry refuses it (HTTP status %ld%s%s)",
			       a->status, said[0] ? ", " : "", said);
	case 404:
		return err_set(e, ENOENT, "the registry has no such thing (HTTP status 404%s%s)",
			       said[0] ? ", " : "", said);
	case 200:
	case 206:
		return err_set(e, EAGAIN, "the registry sent only %llu bytes of %llu",
			       (unsigned long long)t->at, (unsigned long long)t->r->size);
	default:
		return err_set(e, transfer_passes(t) ? EAGAIN : EPROTO, "HTTP status %ld%s%s",
			       a->status, said[0] ? ": " : "", said);
	}
}

static bool transfer_complete(const struct transfer *t)
{
	if (t->a.result != CURLE_OK || t->why.code || !transfer_ok(t->a.status))
		return false;
	if (t->r->kind != FETCH_BLOB || !t->r->size)
		return true;
	return t->at == t->r->size;
}

/* Waits before the next try. Return: 0, or why there is none. */
static int transfer_wait(struct transfer *t, unsigned failures, struct err *why, struct err *e)
{
	uint32_t ms = TRANSFER_BACKOFF_MS, jitter = 0;
	struct timespec ts;

	for (unsigned i = 1; i < failures && ms < TRANSFER_BACKOFF_MAX_MS; i++)
		ms *= 2;
	/* Many who were turned away at once should not come back at once. */
	(void)!getrandom(&jitter, sizeof(jitter), 0);
	ms += jitter % (ms / 4);
	if (t->a.retry_after > TRANSFER_RETRY_AFTER_MAX)
		return err_set(e, EAGAIN, "%s: it may be asked again in %lld s only", err_text(why),
			       (long long)t->a.retry_after);
	if (t->a.retry_after >= 0)
		ms = (uint32_t)t->a.retry_after * 1000;
	fetch_tell(t->f, t->r, FETCH_EV_NOTE, 0, NULL, "%s; again in %.1f s, from byte %llu",
		   err_text(why), ms / 1000.0, (unsigned long long)t->at);
	ts = (struct timespec){ ms / 1000, (long)(ms % 1000) * 1000000 };
	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
	return 0;
}

/* All tries with one endpoint. */
static int transfer_from(struct transfer *t, struct err *e)
{
	const struct fetch_endpoint *ep = &t->f->setup.endpoints[t->endpoint];
	unsigned failures = 0, tries = 0, asked = 0, seen;
	int rc;

	for (;;) {
		struct err why = ERR_INIT;
		uint64_t before = t->at;

		rc = transfer_once(t, &seen);
		if (rc)
			return err_errno(e, -rc, "ask the registry");
		if (t->a.status)
			transfer_reached(t->f, t->endpoint, true);
		if (transfer_complete(t))
			return 0;
		if (t->why.code)
			return transfer_error(t, e);
		/* Nothing that speaks TLS is there, or nothing at its port. */
		if (ep->plain &&
		    (t->a.result == CURLE_SSL_CONNECT_ERROR ||
		     t->a.result == CURLE_COULDNT_CONNECT) &&
		    !transfer_reached(t->f, t->endpoint, false) &&
		    !transfer_http(t->f, t->endpoint, true))
			continue;
		if (t->a.result == CURLE_OK && t->a.status == 401 && asked++ < TRANSFER_AUTH_MAX) {
			rc = fetch_authorize(t->f, t->easy, t->endpoint, &t->a, seen, &why);
			if (!rc)
				continue;
			if (rc != -EAGAIN)
				return why.code ? err_set(e, why.code, "%s", err_text(&why))
						: transfer_error(t, e);
		} else {
			transfer_error(t, &why);
			if (!transfer_passes(t))
				return err_set(e, why.code, "%s", err_text(&why));
		}
		failures = t->at > before ? 1 : failures + 1;
		if (t->at > before)
			asked = 0;
		if (failures > t->f->setup.retries || ++tries > TRANSFER_TRIES_MAX)
			return err_set(e, why.code, "%s", err_text(&why));
		rc = transfer_wait(t, failures, &why, e);
		if (rc)
			return rc;
	}
}

void fetch_run(struct fetcher *f, CURL *easy, const struct fetch_request *r, int pipe)
{
	struct transfer t = {
		.f = f,
		.easy = easy,
		.r = r,
		.pipe = pipe,
		.at = r->offset,
		.doc = r->kind != FETCH_BLOB,
	};
	struct err e = ERR_INIT;
	int rc = -EHOSTUNREACH;

	for (unsigned i = 0; i < f->setup.n_endpoints; i++) {
		err_clear(&e);
		t.endpoint = i;
		rc = transfer_from(&t, &e);
		if (!rc || t.why.code == EPIPE)
			break;
		err_wrap(&e, "%s", f->setup.endpoints[i].url);
		err_clear(&t.why);
		if (i + 1 < f->setup.n_endpoints)
			fetch_tell(f, r, FETCH_EV_NOTE, 0, NULL, "%s", err_text(&e));
	}
	if (!rc && t.doc && buf_len(&t.body))
		transfer_write(&t, (const char *)buf_data(&t.body), buf_len(&t.body));
	buf_fini(&t.body);
	close_fd(&t.pipe);
	if (rc)
		fetch_tell(f, r, FETCH_EV_FAILED, e.code, NULL, "%s", err_text(&e));
	else
		fetch_tell(f, r, FETCH_EV_DONE, 0, &t.a, "%s", "");
}
