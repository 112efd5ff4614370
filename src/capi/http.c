/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose: one HTTP/1.1 exchange at a time over libcurl, kept open for the next one, that can
 * be given up at any moment.
 *
 * Spec: RFC 9110, RFC 9112, as libcurl reads them.
 *
 * Sent once: libcurl sends a request again when a connection that it used before breaks
 * without an answer.  The call may have taken place, so that is refused here: once a byte of
 * the body was handed out, neither a new socket nor a rewind is given.  A request without a
 * body (a file that is read) may be repeated; it changes nothing.
 *
 * Ends too early: libcurl takes the end of the connection within the head of an answer for the
 * end of the answer.  It is whole only when the empty line was seen.
 *
 * States: a slot is idle (in the client's list, with at most one open connection) or lent to
 * one exchange.  An exchange that does not end well takes its connection with it.
 *
 * Failure: what libcurl says is sorted into unreachable (never connected; broke), time-out,
 * and an answer that is no HTTP.
 *
 * Limits: the head of an answer, trailers included; the body.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "capi/curl.h"
#include "capi/internal.h"

#define HTTP_IDLE_MAX 8
#define HTTP_POLL_MAX_MS 60000

struct http_slot {
	CURLM *multi; /* owns the connection */
	CURL *easy;
	struct http_slot *next;
};

struct capi_client {
	struct capi_endpoint at;
	char *namespace_name;
	size_t max_answer;
	pthread_mutex_t lock; /* of idle, n_idle */
	struct http_slot *idle;
	unsigned n_idle;
};

/* An exchange under way. */
struct http_job {
	struct capi_client *client;
	struct capi_exchange *x;
	CURL *easy;
	size_t sent, head; /* bytes of the body handed out; of the head seen */
	bool head_done, resend; /* resend: libcurl wanted to */
	double heard; /* when something came, or was taken; seconds */
	int kind; /* why a callback ended it */
	struct msb_error *why; /* of that kind */
	char text[CURL_ERROR_SIZE];
};

static pthread_once_t http_once = PTHREAD_ONCE_INIT;

static void http_init_curl(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

double capi_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- callbacks of libcurl ---- */

/* Is the answer of the type that was asked for? Its parameters do not matter. */
static bool http_type_fits(struct http_job *j)
{
	const char *want = j->x->answer_type, *type = NULL;
	size_t n = want ? strlen(want) : 0;

	if (!want)
		return true;
	curl_easy_getinfo(j->easy, CURLINFO_CONTENT_TYPE, &type);
	return type && !strncasecmp(type, want, n) && (!type[n] || strchr("; \t", type[n]));
}

static size_t http_on_head(char *p, size_t size, size_t n, void *user)
{
	struct http_job *j = user;
	long status = 0;

	(void)size;
	j->heard = capi_now();
	j->head += n;
	if (j->head > CAPI_HEAD_MAX) {
		j->kind = capi_fail(&j->why, MSB_ERR_INVALID_RESPONSE,
				    "the head of the answer is too long");
		return 0;
	}
	if (n && (p[0] == '\r' || p[0] == '\n')) {
		curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &status);
		j->head_done = status >= 200;
		if (status == 200 && !http_type_fits(j)) {
			j->kind = capi_fail(&j->why, MSB_ERR_INVALID_RESPONSE,
					    "the answer to %s is no %s", j->x->what,
					    j->x->answer_type);
			return 0;
		}
	}
	return n;
}

static size_t http_on_body(char *p, size_t size, size_t n, void *user)
{
	struct http_job *j = user;
	long status = 0;
	size_t limit = j->client->max_answer;

	(void)size;
	j->heard = capi_now();
	curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &status);
	if (j->x->take && status == 200) {
		j->kind = j->x->take(j->x->take_context, p, n, &j->why);
		j->heard = capi_now(); /* the time that a caller takes is no silence */
		return j->kind ? 0 : n;
	}
	if (j->x->take && limit > CAPI_HEAD_MAX)
		limit = CAPI_HEAD_MAX; /* an error, where a file or a stream was wanted */
	if (n > limit - buf_len(&j->x->answer))
		j->kind = capi_fail(&j->why, MSB_ERR_INVALID_RESPONSE,
				    "the answer is longer than %zu bytes", limit);
	else if (buf_append(&j->x->answer, p, n))
		j->kind = capi_no_memory(&j->why);
	return j->kind ? 0 : n;
}

static size_t http_on_read(char *p, size_t size, size_t n, void *user)
{
	struct http_job *j = user;
	size_t room = size * n, left;
	ptrdiff_t got;

	j->heard = capi_now(); /* the server takes what we send: it is there */
	if (!j->x->source) {
		left = j->x->body_len - j->sent;
		room = room < left ? room : left;
		if (room)
			memcpy(p, (const char *)j->x->body + j->sent, room);
		j->sent += room;
		return room;
	}
	got = j->x->source(j->x->source_context, p, room);
	if (got < 0 || (size_t)got > room) {
		j->kind = capi_fail(&j->why, MSB_ERR_CANCELLED, "the source of the data gave up");
		return CURL_READFUNC_ABORT;
	}
	j->sent += (size_t)got;
	return (size_t)got;
}

/* libcurl asks for the start again when it wants to send again. */
static int http_on_seek(void *user, curl_off_t offset, int origin)
{
	struct http_job *j = user;

	if (!j->sent && !offset && origin == SEEK_SET)
		return CURL_SEEKFUNC_OK;
	j->resend = true;
	return CURL_SEEKFUNC_FAIL;
}

static curl_socket_t http_on_socket(void *user, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct http_job *j = user;

	if (purpose != CURLSOCKTYPE_IPCXN || j->sent) {
		j->resend = true;
		return CURL_SOCKET_BAD;
	}
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* ---- slots ---- */

static void http_slot_free(struct http_slot *s)
{
	if (s->easy)
		curl_easy_cleanup(s->easy);
	if (s->multi)
		curl_multi_cleanup(s->multi);
	free(s);
}

static struct http_slot *http_slot_take(struct capi_client *c)
{
	struct http_slot *s;

	pthread_mutex_lock(&c->lock);
	s = c->idle;
	if (s) {
		c->idle = s->next;
		c->n_idle--;
	}
	pthread_mutex_unlock(&c->lock);
	if (s) {
		curl_easy_reset(s->easy);
		return s;
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->multi = curl_multi_init();
	s->easy = curl_easy_init();
	if (!s->multi || !s->easy) {
		http_slot_free(s);
		return NULL;
	}
	curl_multi_setopt(s->multi, CURLMOPT_MAXCONNECTS, 1L);
	return s;
}

static void http_slot_give(struct capi_client *c, struct http_slot *s)
{
	bool keep;

	pthread_mutex_lock(&c->lock);
	keep = c->n_idle < HTTP_IDLE_MAX;
	if (keep) {
		s->next = c->idle;
		c->idle = s;
		c->n_idle++;
	}
	pthread_mutex_unlock(&c->lock);
	if (!keep)
		http_slot_free(s);
}

/* ---- the client ---- */

int capi_client_new(struct capi_client **out, const struct msb_server *server,
		    struct msb_error **err)
{
	struct msb_server s;
	struct capi_client *c;
	int rc = capi_options(&s, sizeof(s), server, "msb_server", err);

	if (rc)
		return rc;
	pthread_once(&http_once, http_init_curl);
	c = calloc(1, sizeof(*c));
	if (!c)
		return capi_no_memory(err);
	pthread_mutex_init(&c->lock, NULL);
	c->max_answer = s.max_answer ? s.max_answer : CAPI_ANSWER_MAX;
	rc = capi_endpoint_init(&c->at, s.url, s.api_key, err);
	if (!rc && s.namespace_name) {
		c->namespace_name = strdup(s.namespace_name);
		if (!c->namespace_name)
			rc = capi_no_memory(err);
	}
	if (rc) {
		capi_client_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

void capi_client_close_idle(struct capi_client *c)
{
	struct http_slot *s, *next;

	pthread_mutex_lock(&c->lock);
	s = c->idle;
	c->idle = NULL;
	c->n_idle = 0;
	pthread_mutex_unlock(&c->lock);
	for (; s; s = next) {
		next = s->next;
		http_slot_free(s);
	}
}

void capi_client_free(struct capi_client *c)
{
	if (!c)
		return;
	capi_client_close_idle(c);
	pthread_mutex_destroy(&c->lock);
	capi_endpoint_fini(&c->at);
	free(c->namespace_name);
	free(c);
}

const char *capi_client_url(const struct capi_client *c)
{
	return c->at.url;
}

const char *capi_client_namespace(const struct capi_client *c)
{
	return c->namespace_name;
}

size_t capi_client_max_answer(const struct capi_client *c)
{
	return c->max_answer;
}

const struct capi_endpoint *capi_client_endpoint(const struct capi_client *c)
{
	return &c->at;
}

/* ---- one exchange ---- */

static struct curl_slist *http_add(struct curl_slist *list, const char *name, const char *value)
{
	struct curl_slist *longer;
	char *line = NULL;

	if (!list || asprintf(&line, "%s: %s", name, value) < 0) {
		curl_slist_free_all(list);
		return NULL;
	}
	longer = curl_slist_append(list, line);
	free(line);
	if (!longer)
		curl_slist_free_all(list);
	return longer;
}

/* NULL: no memory. */
static struct curl_slist *http_headers(const struct capi_client *c, const struct capi_exchange *x)
{
	/* A body is sent at once, whatever its size. */
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");
	char *bearer = NULL;

	list = http_add(list, "Accept", x->accept);
	if (x->content_type)
		list = http_add(list, "Content-Type", x->content_type);
	if (c->at.api_key && asprintf(&bearer, "Bearer %s", c->at.api_key) < 0) {
		curl_slist_free_all(list);
		return NULL;
	}
	if (bearer)
		list = http_add(list, "Authorization", bearer);
	free(bearer);
	return list;
}

static bool http_prepare_body(CURL *h, const struct capi_exchange *x)
{
	curl_off_t length = x->source ? (curl_off_t)x->length : (curl_off_t)x->body_len;
	CURLcode bad = CURLE_OK;

	if (!strcmp(x->method, "GET"))
		return !curl_easy_setopt(h, CURLOPT_HTTPGET, 1L);
	if (!strcmp(x->method, "PUT")) {
		bad |= curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
		bad |= curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, length);
	} else {
		bad |= curl_easy_setopt(h, CURLOPT_POST, 1L);
		bad |= curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, length);
	}
	return !bad;
}

bool capi_curl_prepare(CURL *h, const struct capi_client *c, const char *url, char *text)
{
	const struct capi_endpoint *at = &c->at;
	CURLcode bad = CURLE_OK;

	bad |= curl_easy_setopt(h, CURLOPT_URL, url);
	bad |= curl_easy_setopt(h, CURLOPT_ERRORBUFFER, text);
	bad |= curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	bad |= curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	bad |= curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
	/* The server is on this machine or in one's own network. */
	bad |= curl_easy_setopt(h, CURLOPT_PROXY, "");
	bad |= curl_easy_setopt(h, CURLOPT_NOPROXY, "*");
	if (at->unix_path)
		bad |= curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, at->unix_path);
	if (at->ca_file)
		bad |= curl_easy_setopt(h, CURLOPT_CAINFO, at->ca_file);
	if (at->ca_dir)
		bad |= curl_easy_setopt(h, CURLOPT_CAPATH, at->ca_dir);
	return !bad;
}

static bool http_prepare(struct http_job *j, const char *url, struct curl_slist *headers)
{
	CURL *h = j->easy;
	CURLcode bad = CURLE_OK;

	bad |= curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
	bad |= curl_easy_setopt(h, CURLOPT_USERAGENT, CAPI_USER_AGENT);
	bad |= curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, http_on_head);
	bad |= curl_easy_setopt(h, CURLOPT_HEADERDATA, j);
	bad |= curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, http_on_body);
	bad |= curl_easy_setopt(h, CURLOPT_WRITEDATA, j);
	bad |= curl_easy_setopt(h, CURLOPT_READFUNCTION, http_on_read);
	bad |= curl_easy_setopt(h, CURLOPT_READDATA, j);
	bad |= curl_easy_setopt(h, CURLOPT_SEEKFUNCTION, http_on_seek);
	bad |= curl_easy_setopt(h, CURLOPT_SEEKDATA, j);
	bad |= curl_easy_setopt(h, CURLOPT_OPENSOCKETFUNCTION, http_on_socket);
	bad |= curl_easy_setopt(h, CURLOPT_OPENSOCKETDATA, j);
	return !bad && capi_curl_prepare(h, j->client, url, j->text) && http_prepare_body(h, j->x);
}

/* Return: 0 (libcurl is done), MSB_ERR_CANCELLED, MSB_ERR_TIMEOUT or MSB_ERR_NO_MEMORY. */
static int http_wait(struct http_job *j, CURLM *multi)
{
	struct curl_waitfd extra = { .events = CURL_WAIT_POLLIN };
	double silence = j->x->silence > 0 ? j->x->silence : HUGE_VAL, end, left;
	int running = 1;

	j->heard = capi_now();
	end = j->heard + j->x->limit;
	extra.fd = capi_cancel_fd(j->x->cancel);
	for (;;) {
		/* First, so that what was cancelled before does nothing. */
		if (capi_cancelled(j->x->cancel))
			return MSB_ERR_CANCELLED;
		if (curl_multi_perform(multi, &running))
			return MSB_ERR_NO_MEMORY;
		if (!running)
			return 0;
		left = j->heard + silence < end ? j->heard + silence : end;
		left = (left - capi_now()) * 1000;
		if (left <= 0)
			return MSB_ERR_TIMEOUT;
		left = left < HTTP_POLL_MAX_MS ? left + 1 : HTTP_POLL_MAX_MS;
		if (curl_multi_poll(multi, &extra, j->x->cancel ? 1 : 0, (int)left, NULL))
			return MSB_ERR_NO_MEMORY;
	}
}

static CURLcode http_result(CURLM *multi)
{
	CURLMsg *m;
	int n;

	while ((m = curl_multi_info_read(multi, &n)))
		if (m->msg == CURLMSG_DONE)
			return m->data.result;
	return CURLE_RECV_ERROR;
}

/* What libcurl says, as a kind of ours. @rc is not CURLE_OK. */
static int http_sort(const struct http_job *j, CURLcode rc, struct msb_error **err)
{
	const char *url = j->client->at.url;
	const char *text = j->text[0] ? j->text : curl_easy_strerror(rc);
	curl_off_t asked = 0; /* when the request was sent */

	if (j->resend)
		return capi_fail(err, MSB_ERR_UNREACHABLE,
				 "the server at %s closed the connection before it had answered",
				 url);
	switch (rc) {
	case CURLE_OUT_OF_MEMORY:
		curl_easy_getinfo(j->easy, CURLINFO_PRETRANSFER_TIME_T, &asked);
		if (!asked || j->head_done)
			return capi_no_memory(err);
		/* Also a line of the head beyond libcurl's own limit of 100 KiB; TOO_LARGE since 8.6. */
		return capi_fail(err, MSB_ERR_INVALID_RESPONSE,
				 "the head of the answer is too long");
	case CURLE_GOT_NOTHING:
	case CURLE_PARTIAL_FILE:
	case CURLE_SEND_ERROR:
	case CURLE_SEND_FAIL_REWIND:
		break;
	case CURLE_RECV_ERROR:
		/* The only code for what is wrong with chunks, too. */
		if (!strcasestr(text, "chunk"))
			break;
		/* fall through */
	case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9, or nothing like HTTP */
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_BAD_CONTENT_ENCODING:
	case CURLE_FILESIZE_EXCEEDED:
#if LIBCURL_VERSION_NUM >= 0x080600
	case CURLE_TOO_LARGE:
#endif
	case CURLE_WRITE_ERROR:
		return capi_fail(err, MSB_ERR_INVALID_RESPONSE,
				 "the answer of %s is no HTTP: %s; is this the address of a "
				 "microsandbox server?",
				 url, text);
	default:
		return capi_fail(
			err, MSB_ERR_UNREACHABLE,
			"cannot reach the server at %s: %s; is it running (msb server start)?", url,
			text);
	}
	return capi_fail(err, MSB_ERR_UNREACHABLE, "the connection to %s broke: %s", url, text);
}

static int http_outcome(struct http_job *j, int ended, CURLcode rc, struct msb_error **err)
{
	const char *url = j->client->at.url;
	long status = 0;

	if (j->kind) { /* a callback ended it, and has said why */
		if (err)
			*err = take_ptr(&j->why);
		return j->kind;
	}
	if (ended == MSB_ERR_CANCELLED)
		return capi_fail(err, ended, "%s was cancelled", j->x->what);
	if (ended == MSB_ERR_TIMEOUT && j->x->silence > 0 && capi_now() - j->heard >= j->x->silence)
		return capi_fail(err, ended, "the server at %s said nothing for %g seconds", url,
				 j->x->silence);
	if (ended == MSB_ERR_TIMEOUT)
		return capi_fail(err, ended, "the server at %s did not answer %s within %g seconds",
				 url, j->x->what, j->x->limit);
	if (ended)
		return capi_no_memory(err);
	if (rc)
		return http_sort(j, rc, err);
	if (!j->head_done)
		return capi_fail(err, MSB_ERR_UNREACHABLE,
				 "the server at %s closed the connection before it had answered",
				 url);
	curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &status);
	j->x->status = (int)status;
	return 0;
}

int capi_exchange(struct capi_client *c, struct capi_exchange *x, struct msb_error **err)
{
	struct http_job j = { .client = c, .x = x };
	struct http_slot *s = http_slot_take(c);
	struct curl_slist *headers = http_headers(c, x);
	char *url = NULL;
	int ended, rc;
	CURLcode result = CURLE_OK;

	if (s)
		j.easy = s->easy;
	if (!s || !headers || asprintf(&url, "%s%s", c->at.base, x->path) < 0 ||
	    !http_prepare(&j, url, headers) || curl_multi_add_handle(s->multi, s->easy)) {
		rc = capi_no_memory(err);
		if (s)
			http_slot_free(s);
	} else {
		ended = http_wait(&j, s->multi);
		if (!ended)
			result = http_result(s->multi);
		rc = http_outcome(&j, ended, result, err);
		/* Closes the connection, if the exchange is not over. */
		curl_multi_remove_handle(s->multi, s->easy);
		http_slot_give(c, s);
	}
	msb_error_free(j.why);
	curl_slist_free_all(headers);
	free(url);
	return rc;
}
