/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: sandbox.fs.*
 *
 * Purpose: files of a sandbox, small enough for one answer: each call is one FILE_*
 * request to the guest's agent (docs/agent-protocol.md) and its answer.  The agent does the
 * work with the rights of a user of the guest, and replaces a file as a whole or not at
 * all.
 *
 * Content: JSON has text only, so bytes that are no UTF-8 travel as base64.  Text with NUL
 * counts as binary: it could not be sent back as text.
 *
 * Trust boundary: what the guest sends is bounded in bytes and entries before it is kept,
 * and names and messages are made UTF-8 before they are passed on.
 *
 * Ends, each of which answers or cancels the call once: the guest's last message, an
 * answer that is too large or wrong, the end of the sandbox (fs_gone), the client
 * vanishing (fs_cancel: the channel is closed, a file that was being written stays as it
 * was).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/base64.h"
#include "codec/utf8.h"
#include "server/api.h"
#include "server/box.h"
#include "server/file_info.h"

#define FS_CONTENT_MAX (8u << 20)
#define FS_ENTRIES_MAX 20000u
/* What so many entries take at most: length, name, and 28 bytes of numbers. */
#define FS_ENTRIES_BYTES (FS_ENTRIES_MAX * (4u + 4 + 255 + 28))

struct fs {
	struct rpc_call *call;
	struct box *box;
	struct box_call in_box;
	struct client_channel channel;
	struct corpse corpse;
	uint16_t type; /* FRAME_FILE_READ, … */
	const char *path; /* what the answer is about: of a RENAME the new one */
	bool base64;
	struct buf in; /* content or entries that came */
	size_t in_max;
	/* content that is still to be sent; it is in the parameters or in @decoded */
	struct buf decoded;
	const char *out;
	size_t out_left;
	uint32_t window;
};

static void fs_free(struct corpse *c)
{
	struct fs *x = container_of(c, struct fs, corpse);

	buf_fini(&x->in);
	buf_fini(&x->decoded);
	free(x);
}

/* Ends the request. Return: the call, to be answered; x is valid until the loop turns. */
static struct rpc_call *fs_end(struct fs *x)
{
	struct rpc_call *c = x->call;

	box_call_end(&x->in_box);
	client_close(&x->channel); /* of no effect after the last message */
	c->server->outputs.used -= buf_len(&x->in);
	server_bury(c->server, &x->corpse, fs_free);
	return c;
}

static void fs_cancel(struct rpc_call *c)
{
	fs_end(c->state);
}

static void fs_gone(struct box_call *in_box, const char *reason)
{
	struct fs *x = container_of(in_box, struct fs, in_box);

	rpc_fail(fs_end(x), RPC_SANDBOX_FAILED, "Sandbox %s ended: %s", x->box->name, reason);
}

/* ---- errors ------------------------------------------------------------------------------ */

static void fs_fail_call(struct rpc_call *c, const char *path, int code, const char *text)
{
	json_t *data = file_info_error(path, code);
	bool absent = code == ENOENT;

	c->http = absent ? 404 : 0;
	json_object_set_new(data, "code", json_integer(absent ? 4001 : 2001));
	rpc_fail_data(c, RPC_FILE_FAILED, data, "%s", text);
}

static void fs_fail(struct fs *x, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void fs_fail(struct fs *x, int code, const char *fmt, ...)
{
	const char *path = x->path;
	struct rpc_call *c = fs_end(x);
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fs_fail_call(c, path, code, text);
}

/* The agent never sends this: the guest's kernel or whoever took its place does. */
static void fs_invalid(struct fs *x)
{
	rpc_fail(fs_end(x), RPC_SANDBOX_FAILED, "Sandbox %s sent an invalid answer", x->box->name);
}

static void fs_error(struct fs *x, const struct frame *f)
{
	char text[1024];
	struct frame_error err;

	if (frame_decode(f, &err, sizeof(err)) || frame_str_copy(&err.message, text, sizeof(text))) {
		fs_invalid(x);
		return;
	}
	fs_fail(x, (int)(err.code & 0xffff), "%s", text);
}

static void fs_reply_info(struct fs *x, const struct frame_file_done *d)
{
	json_t *info = file_info(x->path, d);

	rpc_reply(fs_end(x), info);
}

/* ---- content -------------------------------------------------------------------------------- */

/* Where bytes stop being text; @n if they are text as a whole. */
static size_t fs_text_length(const uint8_t *p, size_t n)
{
	size_t at = 0;
	unsigned len, bad;

	while (at < n && p[at] && (len = utf8_next(p + at, n - at, &bad)))
		at += len;
	return at;
}

static void fs_reply_content(struct fs *x, const struct frame_file_done *d)
{
	size_t n = buf_len(&x->in), text;
	const uint8_t *p = n ? buf_data(&x->in) : (const uint8_t *)"";
	struct buf coded = BUF_INIT;
	json_t *content;

	if (x->base64) {
		content = base64_encode(&coded, p, n)
				  ? NULL
				  : json_stringn_nocheck(n ? (const char *)buf_data(&coded) : "",
							 buf_len(&coded));
		buf_fini(&coded);
	} else {
		text = fs_text_length(p, n);
		if (text < n) {
			fs_fail(x, EILSEQ,
				"read %.512s: it is no UTF-8 text (byte %zu of what was asked "
				"for): "
				"read it with encoding \"base64\"",
				x->path, text);
			return;
		}
		content = json_stringn_nocheck((const char *)p, n);
	}
	rpc_reply(fs_end(x), content ? json_pack("{s:o, s:s, s:I}", "content", content, "encoding",
						 x->base64 ? "base64" : "utf-8", "size",
						 file_info_size(d->size))
				     : NULL);
}

static void fs_too_large(struct fs *x)
{
	if (x->type == FRAME_FILE_LIST)
		fs_fail(x, E2BIG,
			"list %.512s: it has more than %u entries: list it with a command", x->path,
			FS_ENTRIES_MAX);
	else
		fs_fail(x, EFBIG,
			"read %.512s: it has more than %u bytes, the most of one call: give offset "
			"and length",
			x->path, FS_CONTENT_MAX);
}

/* ---- directories ------------------------------------------------------------------------------ */

static int fs_compare(const void *a, const void *b)
{
	const struct frame_dirent *x = a, *y = b;
	size_t n = x->name.len < y->name.len ? x->name.len : y->name.len;
	int c = n ? memcmp(x->name.p, y->name.p, n) : 0;

	return c ? c : (x->name.len > y->name.len) - (x->name.len < y->name.len);
}

/* Reads the records that came. Return: how many, -EPROTO, -E2BIG, -ENOMEM; *@out is malloc'ed. */
static int fs_read_entries(const struct buf *in, struct frame_dirent **out)
{
	auto_free struct frame_dirent *all = NULL;
	const uint8_t *p = buf_data(in);
	size_t left = buf_len(in), n = 0, room = 0;

	while (left) {
		struct frame_dirent d, *more;
		int used = frame_decode_dirent(p, left, &d);

		if (used <= 0)
			return -EPROTO;
		if (n == FS_ENTRIES_MAX)
			return -E2BIG;
		if (n == room) {
			room = room ? room * 2 : 64;
			more = reallocarray(all, room, sizeof(*all));
			if (!more)
				return -ENOMEM;
			all = more;
		}
		all[n++] = d;
		p += used;
		left -= (size_t)used;
	}
	*out = take_ptr(&all);
	return (int)n;
}

static void fs_reply_list(struct fs *x)
{
	auto_free struct frame_dirent *all = NULL;
	int n = fs_read_entries(&x->in, &all);
	json_t *entries = json_array();
	bool failed = n == -ENOMEM;

	if (n == -EPROTO || n == -E2BIG) {
		json_decref(entries);
		if (n == -E2BIG)
			fs_too_large(x);
		else
			fs_invalid(x);
		return;
	}
	if (n > 1)
		qsort(all, (size_t)n, sizeof(*all), fs_compare);
	for (int i = 0; i < n; i++)
		failed |= json_array_append_new(entries, file_info_entry(x->path, &all[i])) != 0;
	if (failed) {
		json_decref(entries);
		rpc_reply(fs_end(x), NULL);
		return;
	}
	rpc_reply(fs_end(x), json_pack("{s:o}", "entries", entries));
}

/* ---- the request -------------------------------------------------------------------------------- */

static void fs_done(struct fs *x, const struct frame *f)
{
	struct frame_file_done d;

	if (frame_decode(f, &d, sizeof(d)))
		fs_invalid(x);
	else if (x->type == FRAME_FILE_READ)
		fs_reply_content(x, &d);
	else if (x->type == FRAME_FILE_LIST)
		fs_reply_list(x);
	else
		fs_reply_info(x, &d);
}

static void fs_data(struct fs *x, const struct frame *f)
{
	struct lines_pool *pool = &x->call->server->outputs;

	if (!x->in_max || f->flags != STREAM_OUT) {
		fs_invalid(x);
		return;
	}
	if (f->len > x->in_max - buf_len(&x->in)) {
		fs_too_large(x);
		return;
	}
	if (f->len > pool->max - pool->used || buf_append(&x->in, f->body, f->len)) {
		rpc_fail(fs_end(x), RPC_LIMIT,
			 "the server is busy with large answers: try again later");
		return;
	}
	pool->used += f->len;
	client_credit(&x->channel, STREAM_OUT, f->len);
}

/* Sends as much content as the guest takes now. */
static void fs_send(struct fs *x)
{
	while (x->out && x->window) {
		size_t n = x->out_left;

		if (!n) {
			client_send(&x->channel, FRAME_EOF, STREAM_IN, NULL);
			x->out = NULL;
			return;
		}
		if (n > FRAME_DATA_MAX)
			n = FRAME_DATA_MAX;
		if (n > x->window)
			n = x->window;
		client_send_data(&x->channel, x->out, n);
		x->out += n;
		x->out_left -= n;
		x->window -= (uint32_t)n;
	}
}

static void fs_frame(struct client_channel *ch, const struct frame *f)
{
	struct fs *x = container_of(ch, struct fs, channel);
	struct frame_credit credit;

	switch (f->type) {
	case FRAME_DATA:
		fs_data(x, f);
		return;
	case FRAME_CREDIT:
		if (f->flags == STREAM_IN && !frame_decode(f, &credit, sizeof(credit))) {
			x->window += credit.bytes;
			fs_send(x);
		}
		return;
	case FRAME_FILE_DONE:
		fs_done(x, f);
		return;
	case FRAME_ERROR:
		fs_error(x, f);
		return;
	default:
		if (frame_type_ends_channel(f->type))
			fs_invalid(x);
	}
}

/* Return: NULL, and the call is answered, if there is no such sandbox or no memory. */
static struct fs *fs_create(struct rpc_call *c, uint16_t type)
{
	struct err e = ERR_INIT;
	struct box *b = box_find_running(c->server, c->ns, rpc_string(c->params, "sandbox"), &e);
	struct fs *x = b ? calloc(1, sizeof(*x)) : NULL;

	if (!b) {
		rpc_fail(c, e.code == EBUSY ? RPC_LIMIT : RPC_NOT_FOUND, "%s", err_text(&e));
		return NULL;
	}
	if (!x) {
		rpc_fail(c, JSONRPC_INTERNAL, "Internal server error: out of memory");
		return NULL;
	}
	x->call = c;
	x->box = b;
	x->type = type;
	x->in_box.gone = fs_gone;
	x->channel.on_frame = fs_frame;
	x->path = rpc_string(c->params, "path");
	x->window = FRAME_WINDOW;
	list_init(&x->channel.link);
	return x;
}

/* Makes the request. @x is taken over. */
static void fs_open(struct fs *x, struct frame_file *msg)
{
	const char *user = rpc_string(x->call->params, "user");
	struct rpc_call *c = x->call;
	double mode = 0;

	rpc_number(c->params, "mode", &mode);
	msg->mode = (uint32_t)mode;
	msg->path = frame_str_of(rpc_string(c->params, "path"));
	msg->user = frame_str_of(user ? user : box_meta(x->box, "user"));
	if (client_open(&x->box->client, &x->channel, x->type, msg)) {
		fs_free(&x->corpse);
		rpc_fail(c, RPC_SANDBOX_FAILED, "The sandbox's supervisor does not answer");
		return;
	}
	box_call_begin(x->box, &x->in_box);
	c->state = x;
	c->cancel = fs_cancel;
	fs_send(x);
}

static uint32_t fs_flag(const struct rpc_call *c, const char *name, uint32_t flag)
{
	return json_is_true(json_object_get(c->params, name)) ? flag : 0;
}

static bool fs_is_base64(const struct rpc_call *c)
{
	const char *encoding = rpc_string(c->params, "encoding");

	return encoding && !strcmp(encoding, "base64");
}

void method_sandbox_fs_read(struct rpc_call *c)
{
	struct fs *x = fs_create(c, FRAME_FILE_READ);
	double offset = 0, length = FS_CONTENT_MAX + 1; /* one too many shows that there is more */
	struct frame_file msg = { .flags = 0 };

	if (!x)
		return;
	rpc_number(c->params, "offset", &offset);
	rpc_number(c->params, "length", &length);
	msg.offset = (uint64_t)offset;
	msg.length = (uint64_t)length;
	x->base64 = fs_is_base64(c);
	x->in_max = FS_CONTENT_MAX;
	fs_open(x, &msg);
}

/* Sets x->out. Return: false, and the call is answered, if the content is wrong. */
static bool fs_set_content(struct fs *x)
{
	json_t *content = json_object_get(x->call->params, "content");
	struct rpc_call *c = x->call;

	x->out = json_string_value(content);
	x->out_left = json_string_length(content);
	if (fs_is_base64(c)) {
		if (base64_decode(&x->decoded, x->out, x->out_left)) {
			rpc_fail(c, JSONRPC_BAD_PARAMS,
				 "Invalid params: params.content is no base64 (RFC 4648, with "
				 "padding)");
			return false;
		}
		x->out_left = buf_len(&x->decoded);
		x->out = x->out_left ? (const char *)buf_data(&x->decoded) : "";
	}
	if (x->out_left > FS_CONTENT_MAX) {
		rpc_fail(c, JSONRPC_BAD_PARAMS,
			 "Invalid params: params.content has more than %u bytes, the most of one "
			 "call: append the rest",
			 FS_CONTENT_MAX);
		return false;
	}
	return true;
}

void method_sandbox_fs_write(struct rpc_call *c)
{
	struct fs *x = fs_create(c, FRAME_FILE_WRITE);
	struct frame_file msg = {
		.flags = fs_flag(c, "append", FILE_APPEND) | fs_flag(c, "exclusive", FILE_EXCL) |
			 fs_flag(c, "parents", FILE_PARENTS),
	};

	if (!x)
		return;
	if (fs_set_content(x))
		fs_open(x, &msg);
	else
		fs_free(&x->corpse);
}

void method_sandbox_fs_list(struct rpc_call *c)
{
	struct fs *x = fs_create(c, FRAME_FILE_LIST);
	struct frame_file msg = { .flags = 0 };

	if (!x)
		return;
	x->in_max = FS_ENTRIES_BYTES;
	fs_open(x, &msg);
}

void method_sandbox_fs_stat(struct rpc_call *c)
{
	struct fs *x = fs_create(c, FRAME_FILE_STAT);
	struct frame_file msg = { .flags = fs_flag(c, "follow", FILE_FOLLOW) };

	if (x)
		fs_open(x, &msg);
}

void method_sandbox_fs_mkdir(struct rpc_call *c)
{
	struct fs *x = fs_create(c, FRAME_FILE_MKDIR);
	struct frame_file msg = { .flags = fs_flag(c, "parents", FILE_PARENTS) };

	if (x)
		fs_open(x, &msg);
}

void method_sandbox_fs_remove(struct rpc_call *c)
{
	struct fs *x = fs_create(c, FRAME_FILE_REMOVE);
	struct frame_file msg = { .flags = fs_flag(c, "recursive", FILE_RECURSIVE) };

	if (x)
		fs_open(x, &msg);
}

void method_sandbox_fs_rename(struct rpc_call *c)
{
	struct fs *x = fs_create(c, FRAME_FILE_RENAME);
	struct frame_file msg = { .to = frame_str_of(rpc_string(c->params, "to")) };

	if (!x)
		return;
	x->path = rpc_string(c->params, "to");
	fs_open(x, &msg);
}
