/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from a hostile peer, as the agent takes them: find a hello, then frame by frame.
 * What decodes can be sent again, and means the same.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

union message {
	struct frame_hello hello;
	struct frame_hello_ack hello_ack;
	struct frame_error error;
	struct frame_credit credit;
	struct frame_configure configure;
	struct frame_configured configured;
	struct frame_clock clock;
	struct frame_metrics_reply metrics_reply;
	struct frame_shutdown shutdown;
	struct frame_exec exec;
	struct frame_exec_started exec_started;
	struct frame_exec_resize exec_resize;
	struct frame_exec_signal exec_signal;
	struct frame_exec_exit exec_exit;
	struct frame_repl_run repl_run;
	struct frame_repl_done repl_done;
	struct frame_repl_result repl_result;
	struct frame_file file;
	struct frame_file_done file_done;
	struct frame_sandbox_state sandbox_state;
	struct frame_sandbox_stop sandbox_stop;
};

static const struct {
	uint16_t type;
	size_t size;
} messages[] = {
	{ FRAME_HELLO, sizeof(struct frame_hello) },
	{ FRAME_HELLO_ACK, sizeof(struct frame_hello_ack) },
	{ FRAME_ERROR, sizeof(struct frame_error) },
	{ FRAME_CREDIT, sizeof(struct frame_credit) },
	{ FRAME_CONFIGURE, sizeof(struct frame_configure) },
	{ FRAME_CONFIGURED, sizeof(struct frame_configured) },
	{ FRAME_CLOCK, sizeof(struct frame_clock) },
	{ FRAME_METRICS_REPLY, sizeof(struct frame_metrics_reply) },
	{ FRAME_SHUTDOWN, sizeof(struct frame_shutdown) },
	{ FRAME_EXEC, sizeof(struct frame_exec) },
	{ FRAME_EXEC_STARTED, sizeof(struct frame_exec_started) },
	{ FRAME_EXEC_RESIZE, sizeof(struct frame_exec_resize) },
	{ FRAME_EXEC_SIGNAL, sizeof(struct frame_exec_signal) },
	{ FRAME_EXEC_EXIT, sizeof(struct frame_exec_exit) },
	{ FRAME_REPL_RUN, sizeof(struct frame_repl_run) },
	{ FRAME_REPL_DONE, sizeof(struct frame_repl_done) },
	{ FRAME_REPL_RESULT, sizeof(struct frame_repl_result) },
	{ FRAME_FILE_READ, sizeof(struct frame_file) },
	{ FRAME_FILE_WRITE, sizeof(struct frame_file) },
	{ FRAME_FILE_LIST, sizeof(struct frame_file) },
	{ FRAME_FILE_STAT, sizeof(struct frame_file) },
	{ FRAME_FILE_MKDIR, sizeof(struct frame_file) },
	{ FRAME_FILE_REMOVE, sizeof(struct frame_file) },
	{ FRAME_FILE_RENAME, sizeof(struct frame_file) },
	{ FRAME_FILE_DONE, sizeof(struct frame_file_done) },
	{ FRAME_SANDBOX_STATE, sizeof(struct frame_sandbox_state) },
	{ FRAME_SANDBOX_STOP, sizeof(struct frame_sandbox_stop) },
	{ FRAME_SANDBOX_HOLD, sizeof(struct frame_sandbox_hold) },
};

static size_t message_size(uint16_t type)
{
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++)
		if (messages[i].type == type)
			return messages[i].size;
	return 0;
}

static void walk_list(struct frame_list l)
{
	struct frame_str s;
	uint32_t n = 0;

	while (frame_list_next(&l, &s)) {
		assert(!s.len || !memchr(s.p, 0, s.len));
		n++;
	}
	assert(!l.len && n == l.count);
}

/* The body may have more than is known; what is known comes back byte for byte. */
static void check_message(const struct frame *f)
{
	size_t size = message_size(f->type);
	union message m, again;
	struct buf b = BUF_INIT;
	struct frame g;
	int rc;

	memset(&m, 0x5a, sizeof(m));
	rc = frame_decode(f, &m, size);
	assert(size ? rc == 0 || rc == -EPROTO : rc == -ENOTSUP);
	if (rc)
		return;
	if (f->type == FRAME_EXEC) {
		walk_list(m.exec.argv);
		walk_list(m.exec.env);
		walk_list(m.exec.rlimits);
	} else if (f->type == FRAME_CONFIGURE) {
		walk_list(m.configure.hosts);
	} else if (f->type == FRAME_REPL_RUN) {
		walk_list(m.repl_run.env);
	}
	assert(frame_encode(&b, f->channel, f->type, f->flags, &m) == 0);
	assert(frame_parse(buf_data(&b), buf_len(&b), &g) == (int)buf_len(&b));
	assert(g.channel == f->channel && g.type == f->type && g.flags == f->flags);
	assert(!memcmp(g.body, f->body, g.len < f->len ? g.len : f->len));
	/* Fields that an older peer did not send. */
	for (uint32_t i = f->len; i < g.len; i++)
		assert(!g.body[i]);
	assert(frame_decode(&g, &again, size) == 0);
	buf_fini(&b);
}

/* The stream of a FILE_LIST. */
static void check_dirents(const uint8_t *p, size_t n)
{
	struct frame_dirent d;
	int rc;

	while ((rc = frame_decode_dirent(p, n, &d)) > 0) {
		struct buf b = BUF_INIT;

		assert((size_t)rc <= n);
		assert(frame_encode_dirent(&b, &d) == 0);
		assert(buf_len(&b) <= (size_t)rc);
		assert(!memcmp(buf_data(&b) + 4, p + 4, buf_len(&b) - 4));
		buf_fini(&b);
		p += rc;
		n -= (size_t)rc;
	}
}

/* What an interpreter wrote into its results. */
static void check_result(const uint8_t *p, size_t n)
{
	struct frame_repl_result r;
	int rc = frame_decode_result(p, n, &r);

	assert(rc == -EPROTO || (rc >= 4 && (size_t)rc <= n));
	if (rc < 0)
		return;
	assert(frame_mime_valid(&r.mime) && memchr(r.mime.p, '/', r.mime.len));
	(void)frame_mime_is_text(&r.mime);
	assert(!r.note.len || (r.note.p >= p && r.note.p + r.note.len <= p + rc));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t skip, cut;
	struct frame f;
	int n;

	if (!size)
		return 0;
	/* The first byte: where the stream was cut by an earlier read. */
	cut = size * data[0] / 256;
	data++;
	size--;
	skip = frame_sync(data, size, FRAME_HELLO);
	assert(skip <= size);
	/* Fewer bytes never discard more, so that a hello in two parts is found. */
	if (cut <= size)
		assert(frame_sync(data, cut, FRAME_HELLO) <= skip);
	data += skip;
	size -= skip;
	assert(frame_sync(data, size, FRAME_HELLO) == 0);
	while ((n = frame_parse(data, size, &f)) > 0) {
		assert((size_t)n == FRAME_HEADER_SIZE + f.len && (size_t)n <= size);
		assert(f.body == data + FRAME_HEADER_SIZE);
		check_message(&f);
		if (f.type == FRAME_DATA)
			check_dirents(f.body, f.len);
		if (f.type == FRAME_DATA)
			check_result(f.body, f.len);
		data += n;
		size -= (size_t)n;
	}
	assert(n == 0 || n == -EPROTO);
	return 0;
}
