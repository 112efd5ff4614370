/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens and passwords: what a registry that answers 401 gets to see. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/base64.h"
#include "fetch/fetch.h"

#define AUTH_TOKEN_S 60L
#define AUTH_CLIENT "microsandbox"

static int auth_header(struct curl_slist **headers, const char *scheme, const char *value)
{
	auto_free char *line = NULL;
	struct curl_slist *l;

	if (asprintf(&line, "Authorization: %s %s", scheme, value) < 0)
		return -ENOMEM;
	l = curl_slist_append(*headers, line);
	if (!l)
		return -ENOMEM;
	*headers = l;
	return 0;
}

static int auth_basic(struct curl_slist **headers, const struct credential *c)
{
	struct buf text = BUF_INIT;
	auto_free char *both = NULL;
	int n = asprintf(&both, "%s:%s", c->user, c->secret);
	int rc = n < 0 ? -ENOMEM : base64_encode(&text, both, (size_t)n);

	if (!rc)
		rc = buf_append(&text, "", 1);
	if (!rc)
		rc = auth_header(headers, "Basic", (const char *)buf_data(&text));
	buf_fini(&text);
	return rc;
}

int fetch_authorization(struct fetcher *f, unsigned i, struct curl_slist **headers, unsigned *seen)
{
	int rc = 0;

	pthread_mutex_lock(&f->lock);
	*seen = f->state[i].generation;
	if (f->state[i].token[0])
		rc = auth_header(headers, "Bearer", f->state[i].token);
	else if (f->state[i].basic)
		rc = auth_basic(headers, &f->setup.endpoints[i].credential);
	pthread_mutex_unlock(&f->lock);
	return rc;
}

/* "key=escaped&" */
static int auth_param(CURL *easy, struct buf *to, const char *key, const char *value)
{
	char *text;
	int rc;

	if (!*value)
		return 0;
	text = curl_easy_escape(easy, value, (int)strlen(value));
	if (!text)
		return -ENOMEM;
	rc = buf_append(to, key, strlen(key));
	if (!rc)
		rc = buf_append(to, "=", 1);
	if (!rc)
		rc = buf_append(to, text, strlen(text));
	if (!rc)
		rc = buf_append(to, "&", 1);
	curl_free(text);
	return rc;
}

/*
 * The request to the token service: a GET with the password, if there is one, or with an
 * identity token the POST of OAuth 2.
 */
static int auth_request(struct fetcher *f, CURL *easy, const struct fetch_endpoint *ep,
			const struct challenge *c, const char *scope, struct buf *url,
			struct buf *form, struct curl_slist **headers)
{
	const struct credential *cred = &ep->credential;
	struct buf *params = cred->identity ? form : url;
	int rc = buf_append(url, c->realm, strlen(c->realm));

	(void)f;
	if (!rc && !cred->identity)
		rc = buf_append(url, strchr(c->realm, '?') ? "&" : "?", 1);
	if (!rc)
		rc = auth_param(easy, params, "service", c->service);
	if (!rc)
		rc = auth_param(easy, params, "scope", scope);
	if (!rc && cred->identity) {
		if ((rc = auth_param(easy, params, "grant_type", "refresh_token")) ||
		    (rc = auth_param(easy, params, "client_id", AUTH_CLIENT)) ||
		    (rc = auth_param(easy, params, "refresh_token", cred->secret)) ||
		    (rc = buf_append(form, "", 1)))
			return rc;
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, buf_data(form));
	} else if (!rc && cred->secret[0]) {
		rc = auth_basic(headers, cred);
	}
	if (!rc)
		rc = buf_append(url, "", 1);
	curl_easy_setopt(easy, CURLOPT_URL, buf_data(url));
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, *headers);
	return rc;
}

static int auth_answer(CURL *easy, CURLcode rc, const char *why, const struct buf *body,
		       const char *host, char token[REGISTRY_TOKEN_MAX], struct err *e)
{
	char text[128];
	long status = 0;

	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	if (rc != CURLE_OK)
		return err_set(e, EAGAIN, "no token from %.200s: %s", host,
			       *why ? why : curl_easy_strerror(rc));
	registry_error_text(buf_data(body), buf_len(body), text, sizeof(text));
	if (status == 401 || status == 403)
		return err_set(e, EACCES, "%.200s gives no token (HTTP status %ld)%s%s", host,
			       status, text[0] ? ": " : "", text);
	if (status < 200 || status > 299)
		return err_set(e, status == 429 || status >= 500 ? EAGAIN : EPROTO,
			       "%.200s gives no token (HTTP status %ld)%s%s", host, status,
			       text[0] ? ": " : "", text);
	return registry_token_parse(buf_data(body), buf_len(body), token, e);
}

/* Called with the lock held: one asks, the others wait for what it gets. */
static int auth_token(struct fetcher *f, unsigned i, const struct challenge *c, struct err *e)
{
	const struct fetch_endpoint *ep = &f->setup.endpoints[i];
	struct buf url = BUF_INIT, form = BUF_INIT, body = BUF_INIT;
	char scope[sizeof(f->setup.path) + 32] = "", why[CURL_ERROR_SIZE] = "";
	bool http = f->state[i].http, clear = !strncmp(c->realm, "http://", 7);
	struct curl_slist *headers = NULL;
	CURL *easy;
	int rc;

	if (strncmp(c->realm, "https://", 8) && !clear)
		return err_set(e, EPROTO, "the registry names no token service");
	if (clear && !http && !ep->unverified)
		return err_set(e, EPROTO, "the registry's token service %.200s is not encrypted",
			       c->realm);
	easy = curl_easy_init();
	if (!easy)
		return err_errno(e, ENOMEM, "get a token");
	body.max = REGISTRY_DOC_MAX;
	if (f->setup.path[0])
		snprintf(scope, sizeof(scope), "repository:%s:pull", f->setup.path);
	fetch_common(f, easy, ep, http || clear);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT, AUTH_TOKEN_S);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, why);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, fetch_on_buffer);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, &body);
	rc = auth_request(f, easy, ep, c, c->scope[0] ? c->scope : scope, &url, &form, &headers);
	if (rc)
		rc = err_errno(e, -rc, "get a token");
	else
		rc = auth_answer(easy, curl_easy_perform(easy), why, &body, c->realm,
				 f->state[i].token, e);
	curl_easy_cleanup(easy);
	curl_slist_free_all(headers);
	buf_fini(&url);
	buf_fini(&form);
	buf_fini(&body);
	return rc;
}

int fetch_authorize(struct fetcher *f, CURL *easy, unsigned i, const struct fetch_answer *a,
		    unsigned seen, struct err *e)
{
	const struct credential *cred = &f->setup.endpoints[i].credential;
	struct challenge c;
	int rc = 0;

	(void)easy;
	if (a->challenge_bad || challenge_parse(a->challenge, strlen(a->challenge), &c))
		return err_set(e, EPROTO, "the registry's WWW-Authenticate makes no sense");
	pthread_mutex_lock(&f->lock);
	if (f->state[i].generation != seen)
		; /* another worker was here meanwhile */
	else if (c.scheme == CHALLENGE_BEARER)
		rc = auth_token(f, i, &c, e);
	else if (c.scheme == CHALLENGE_BASIC && cred->secret[0] && !cred->identity &&
		 !f->state[i].basic)
		f->state[i].basic = true;
	else
		rc = -EACCES;
	if (!rc && f->state[i].generation == seen)
		f->state[i].generation++;
	pthread_mutex_unlock(&f->lock);
	return rc;
}
