/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: GET and PUT of /api/v1/sandboxes/NAME/files
 *
 * Purpose: the content of a file in the guest, of any size, through the agent's FILE_READ
 * and FILE_WRITE.  Nothing is gathered: who is slower stops who is faster, through the
 * credit of the agent's streams on one side and the windows of conn.h on the other.
 *
 * States of a GET: asked -> (first DATA, or FILE_DONE) the answer has begun -> FILE_DONE:
 * it is complete.  Before it has begun an error of the guest is an answer of its own,
 * after that the connection is broken off: part of a file must not pass for the whole.
 * (An EOF says nothing: it also comes before an error.)
 *
 * States of a PUT: the body is passed on as it comes -> all of it came: EOF -> FILE_DONE.
 * Abandoned before that, the agent leaves the file as it was.
 *
 * Ends, each of which answers or cancels the request once: the guest's last message, the
 * end of the sandbox, the client vanishing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"
#include "server/file_info.h"
#include "server/sandbox_path.h"

#define FILES_TYPE "application/octet-stream"
/* Credit is given back in such pieces. */
#define FILES_CREDIT (FRAME_WINDOW / 4)

struct transfer {
	struct conn *conn;
	struct server *server;
	struct box_call in_box;
	struct client_channel channel;
	struct corpse corpse;
	struct sandbox_target target; /* its box only until the channel is open */
	bool put, begun, eof_sent;
	uint32_t window; /* of a PUT: what the guest takes now */
	uint32_t owed; /* of a GET: bytes to give credit for */
	uint64_t offset, length; /* of a HEAD: which part is asked about */
};

static void files_free(struct corpse *c)
{
	free(container_of(c, struct transfer, corpse));
}

/*
 * Ends it.  @code: for the audit log, 0 = it was done.  Return: the connection, to be
 * answered; @t is valid until the loop turns.
 */
static struct conn *files_end(struct transfer *t, enum audit_outcome outcome, int code)
{
	struct conn *c = t->conn;

	sandbox_path_audit(t->server, &t->target, t->put ? "files.put" : "files.get", outcome, code);
	box_call_end(&t->in_box);
	t->server->n_streams--;
	server_bury(t->server, &t->corpse, files_free);
	return c;
}

static void files_cancel(struct conn *c)
{
	struct transfer *t = c->state;

	client_close(&t->channel);
	files_end(t, AUDIT_CANCELLED, 0);
}

/* ---- answers ------------------------------------------------------------------------- */

/* No answer has begun: says what the guest said. */
static void files_refuse(struct transfer *t, int code, const char *message)
{
	json_t *more = file_info_error(query_get(&t->target.query, "path"), code);
	int status = code == ENOENT ? 404 : 400;

	http_api_fail(files_end(t, AUDIT_ERROR, RPC_FILE_FAILED), status,
		      status == 404 ? 4001 : 2001, more, message);
}

/* It failed; what came of an answer must not pass for the whole. */
static void files_broken(struct transfer *t, const char *reason)
{
	if (t->begun) {
		log_info("event=file-broken-off name=%s reason=\"%s\"", t->target.name, reason);
		t->server->count.failed_calls++;
		conn_break(files_end(t, AUDIT_ERROR, RPC_SANDBOX_FAILED));
		return;
	}
	http_api_fail(files_end(t, AUDIT_ERROR, RPC_SANDBOX_FAILED), 500, 5002, NULL, reason);
}

static void files_fail(struct transfer *t, const char *reason)
{
	client_close(&t->channel);
	files_broken(t, reason);
}

static void files_gone(struct box_call *in_box, const char *reason)
{
	struct transfer *t = container_of(in_box, struct transfer, in_box);
	struct err e = ERR_INIT;

	err_set(&e, EPIPE, "Sandbox %s ended: %s", t->target.name, reason);
	files_broken(t, err_text(&e));
}

static void files_error(struct transfer *t, const struct frame *f)
{
	struct frame_error err;
	char text[1024];

	if (frame_decode(f, &err, sizeof(err)) ||
	    frame_str_copy(&err.message, text, sizeof(text)) || err.code > INT32_MAX) {
		err.code = EIO;
		snprintf(text, sizeof(text), "the sandbox refused it");
	}
	if (t->begun)
		files_fail(t, text);
	else
		files_refuse(t, (int)err.code, text);
}

/* ---- GET --------------------------------------------------------------------------------- */

/* The answer's head. Return: -EPIPE if the client is gone, and @t with it. */
static int files_begin(struct transfer *t)
{
	char headers[600];

	if (t->begun)
		return 0;
	t->begun = true;
	http_api_headers(t->conn, headers, sizeof(headers));
	snprintf(headers + strlen(headers), sizeof(headers) - strlen(headers),
		 "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n");
	return conn_begin(t->conn, 200, FILES_TYPE, headers);
}

static void files_credit(struct transfer *t, uint32_t least)
{
	if (t->owed < least || !t->owed || !conn_room(t->conn))
		return;
	client_credit(&t->channel, STREAM_OUT, t->owed);
	t->owed = 0;
}

static void files_room(struct conn *c)
{
	files_credit(c->state, 1);
}

static void files_data(struct transfer *t, const struct frame *f)
{
	if (files_begin(t) || conn_add(t->conn, f->body, f->len))
		return;
	t->server->count.stream_out_bytes += f->len;
	t->owed += f->len;
	files_credit(t, FILES_CREDIT);
}

/* HEAD: what a GET would bring. */
static void files_head(struct transfer *t, const struct frame_file_done *d)
{
	uint64_t size = d->size > t->offset ? d->size - t->offset : 0;
	char headers[400];
	struct conn *c;

	if ((d->mode & S_IFMT) != S_IFREG) {
		files_refuse(t, (d->mode & S_IFMT) == S_IFDIR ? EISDIR : EINVAL,
			     "it is not a regular file");
		return;
	}
	if (t->length && size > t->length)
		size = t->length;
	c = files_end(t, AUDIT_OK, 0);
	conn_reply(c, 200, FILES_TYPE, http_api_headers(c, headers, sizeof(headers)), NULL,
		   (size_t)size, false);
}

/* ---- PUT --------------------------------------------------------------------------------- */

/* Passes on what came and the guest takes. */
static void files_push(struct transfer *t)
{
	struct buf *body = conn_body(t->conn);

	while (t->window && buf_len(body)) {
		size_t n = buf_len(body);

		if (n > FRAME_DATA_MAX)
			n = FRAME_DATA_MAX;
		if (n > t->window)
			n = t->window;
		if (client_send_data(&t->channel, buf_data(body), n)) {
			files_fail(t, "the server is out of memory: try again later");
			return;
		}
		t->window -= (uint32_t)n;
		t->server->count.stream_in_bytes += n;
		conn_body_take(t->conn, n);
	}
	if (t->eof_sent || !t->conn->body_done || buf_len(body))
		return;
	t->eof_sent = true;
	client_send(&t->channel, FRAME_EOF, STREAM_IN, NULL);
}

static void files_body(struct conn *c)
{
	files_push(c->state);
}

static void files_more_window(struct transfer *t, const struct frame *f)
{
	struct frame_credit credit;
	struct conn *c = t->conn;

	if (f->flags != STREAM_IN || frame_decode(f, &credit, sizeof(credit)) ||
	    credit.bytes > FRAME_WINDOW_MAX - t->window)
		return;
	t->window += credit.bytes;
	files_push(t);
	conn_resume(c);
}

/* ---- both --------------------------------------------------------------------------------- */

static void files_done(struct transfer *t, const struct frame *f)
{
	struct frame_file_done d;
	char headers[400];
	json_t *info;
	struct conn *c;
	char *body;

	if (frame_decode(f, &d, sizeof(d))) {
		files_fail(t, "the sandbox sent an invalid answer");
		return;
	}
	if (!t->put && t->conn->head_only) {
		files_head(t, &d);
		return;
	}
	if (!t->put) {
		if (!files_begin(t))
			conn_end(files_end(t, AUDIT_OK, 0));
		return;
	}
	info = file_info(query_get(&t->target.query, "path"), &d);
	body = info ? json_dumps(info, JSON_COMPACT | JSON_REAL_PRECISION(16)) : NULL;
	json_decref(info);
	if (!body) {
		files_fail(t, "the server is out of memory; the file was written");
		return;
	}
	c = files_end(t, AUDIT_OK, 0);
	conn_reply(c, 200, "application/json", http_api_headers(c, headers, sizeof(headers)), body,
		   strlen(body), false);
	free(body);
}

static void files_frame(struct client_channel *ch, const struct frame *f)
{
	struct transfer *t = container_of(ch, struct transfer, channel);

	switch (f->type) {
	case FRAME_DATA:
		if (!t->put)
			files_data(t, f);
		return;
	case FRAME_CREDIT:
		if (t->put)
			files_more_window(t, f);
		return;
	case FRAME_FILE_DONE:
		files_done(t, f);
		return;
	case FRAME_ERROR:
		files_error(t, f);
		return;
	default:
		if (frame_type_ends_channel(f->type))
			files_fail(t, "the sandbox sent an invalid answer");
	}
}

/* Return: NULL if the request was answered. */
static struct transfer *files_create(struct conn *c, bool put, const char *const *params)
{
	struct transfer *t = calloc(1, sizeof(*t));

	if (!t) {
		http_api_fail(c, 503, 5003, NULL, "the server is out of memory: try again later");
		return NULL;
	}
	t->conn = c;
	t->server = c->server;
	t->put = put;
	t->window = FRAME_WINDOW;
	t->in_box.gone = files_gone;
	t->channel.on_frame = files_frame;
	list_init(&t->channel.link);
	if (sandbox_path_find(c, params, &t->target))
		return t;
	free(t);
	return NULL;
}

static void files_refuse_request(struct transfer *t, const struct err *e)
{
	sandbox_path_bad(t->conn, e);
	free(t);
}

static void files_open(struct transfer *t, uint16_t type, struct frame_file *msg)
{
	const char *user = query_get(&t->target.query, "user");
	struct box *b = t->target.box;
	struct conn *c = t->conn;

	t->offset = msg->offset;
	t->length = msg->length;
	msg->path = frame_str_of(query_get(&t->target.query, "path"));
	msg->user = frame_str_of(user ? user : box_meta(b, "user"));
	if (client_open(&b->client, &t->channel, type, msg)) {
		free(t);
		http_api_fail(c, 500, 5002, NULL, "The sandbox's supervisor does not answer");
		return;
	}
	box_call_begin(b, &t->in_box);
	c->server->n_streams++;
	c->server->count.streams++;
	c->state = t;
	c->cancel = files_cancel;
	c->on_room = files_room;
	c->on_body = t->put ? files_body : NULL;
}

/* The parameters that both have. Return: 0 or -EINVAL. */
static int files_common(const struct query *q, struct err *e)
{
	const char *path = query_get(q, "path"), *user = query_get(q, "user");

	if (!path || *path != '/' || strlen(path) > 4095)
		return err_set(e, EINVAL,
			       "path must be an absolute path in the sandbox, at most 4095 bytes");
	if (user && (!*user || strlen(user) > 255))
		return err_set(e, EINVAL, "user must have 1 to 255 bytes");
	return 0;
}

void http_files_get(struct conn *c, const char *unused)
{
	static const char *const params[] = { "path", "offset", "length", "user", NULL };
	uint16_t type = c->head_only ? FRAME_FILE_STAT : FRAME_FILE_READ;
	struct frame_file msg = { .flags = c->head_only ? FILE_FOLLOW : 0 };
	struct transfer *t = files_create(c, false, params);
	struct err e = ERR_INIT;
	const struct query *q;

	(void)unused;
	if (!t)
		return;
	q = &t->target.query;
	if (files_common(q, &e) || query_u64(q, "offset", 10, INT64_MAX, &msg.offset, &e) ||
	    query_u64(q, "length", 10, INT64_MAX - msg.offset, &msg.length, &e) ||
	    (query_get(q, "length") && !msg.length &&
	     err_set(&e, EINVAL, "length must be at least 1")))
		files_refuse_request(t, &e);
	else
		files_open(t, type, &msg);
}

/* The parameters of a PUT. Return: 0 or -EINVAL. */
static int files_put_request(const struct query *q, struct frame_file *msg, struct err *e)
{
	static const struct {
		const char *name;
		uint32_t flag;
	} switches[] = { { "append", FILE_APPEND },
			 { "exclusive", FILE_EXCL },
			 { "parents", FILE_PARENTS } };
	uint64_t mode = 0;

	if (files_common(q, e) || query_u64(q, "mode", 8, 07777, &mode, e))
		return -EINVAL;
	if (query_get(q, "mode") && !mode)
		return err_set(e, EINVAL, "mode must not be 0");
	msg->mode = (uint32_t)mode;
	for (size_t i = 0; i < ARRAY_SIZE(switches); i++) {
		bool on = false;

		if (query_bool(q, switches[i].name, &on, e))
			return -EINVAL;
		msg->flags |= on ? switches[i].flag : 0;
	}
	return 0;
}

void http_files_put(struct conn *c, const char *unused)
{
	static const char *const params[] = { "path",    "mode", "append", "exclusive",
					      "parents", "user", NULL };
	const struct http_request *q = &c->reader.request;
	struct transfer *t = files_create(c, true, params);
	struct frame_file msg = { .flags = 0 };
	struct err e = ERR_INIT;

	(void)unused;
	if (!t)
		return;
	if (files_put_request(&t->target.query, &msg, &e)) {
		files_refuse_request(t, &e);
		return;
	}
	/* A body that was forgotten is no empty file. */
	if (!q->has_body && !http_header(q, "content-length")) {
		free(t);
		http_api_fail(c, 411, 2001, NULL,
			      "a PUT needs its content as the body, with a Content-Length or in "
			      "chunks");
		return;
	}
	files_open(t, FRAME_FILE_WRITE, &msg);
}
