/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * The protocol is described in frame.h.  Here each message is a table of fields,
 * and one encoder and one decoder walk the tables: no message has code of its own
 * that could forget a check.
 *
 * Append-only: a body may end early only at the boundary of a field, and not
 * before the fields that version 1 has (`required`); fields after the end of the
 * body are zero.  Bytes after the last known field are ignored.
 */
#include "codec/frame.h"

#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "base/mem.h"
#include "codec/netrule.h"

enum field_kind { FIELD_U8, FIELD_U16, FIELD_U32, FIELD_U64, FIELD_FIXED, FIELD_STR, FIELD_LIST };

struct field {
	enum field_kind kind;
	uint32_t offset; /* in the struct */
	uint32_t limit; /* FIXED: size; STR, LIST: most bytes */
};

struct message {
	uint16_t type;
	const char *name;
	uint32_t size; /* of the struct; 0 = no struct (raw or empty body) */
	uint8_t count, required;
	const struct field *fields;
};

#define PATH_LIMIT 4096u
#define TEXT_LIMIT 4096u
#define NAME_LIMIT FRAME_NAME_MAX

#define F_U8(s, m) \
	{ \
		FIELD_U8, offsetof(struct s, m), 0 \
	}
#define F_U16(s, m) \
	{ \
		FIELD_U16, offsetof(struct s, m), 0 \
	}
#define F_U32(s, m) \
	{ \
		FIELD_U32, offsetof(struct s, m), 0 \
	}
#define F_U64(s, m) \
	{ \
		FIELD_U64, offsetof(struct s, m), 0 \
	}
#define F_FIXED(s, m) \
	{ \
		FIELD_FIXED, offsetof(struct s, m), sizeof(((struct s *)0)->m) \
	}
#define F_STR(s, m, l) \
	{ \
		FIELD_STR, offsetof(struct s, m), (l) \
	}
#define F_LIST(s, m) \
	{ \
		FIELD_LIST, offsetof(struct s, m), FRAME_BODY_MAX \
	}

static const struct field hello_fields[] = {
	F_FIXED(frame_hello, magic),     F_U16(frame_hello, version),
	F_U16(frame_hello, version_min), F_U8(frame_hello, link),
	F_U64(frame_hello, generation),  F_U64(frame_hello, realtime_ns),
	F_FIXED(frame_hello, entropy),
};
static const struct field hello_ack_fields[] = {
	F_FIXED(frame_hello_ack, magic),
	F_U16(frame_hello_ack, version),
	F_U8(frame_hello_ack, link),
	F_U64(frame_hello_ack, generation),
	F_STR(frame_hello_ack, build, NAME_LIMIT),
};
static const struct field error_fields[] = {
	F_U32(frame_error, code),
	F_STR(frame_error, message, TEXT_LIMIT),
};
static const struct field credit_fields[] = { F_U32(frame_credit, bytes) };
static const struct field configure_fields[] = {
	F_U32(frame_configure, flags),        F_STR(frame_configure, hostname, 64),
	F_U32(frame_configure, ipv4_addr),    F_U32(frame_configure, ipv4_gateway),
	F_U32(frame_configure, ipv4_dns),     F_U8(frame_configure, ipv4_prefix),
	F_U16(frame_configure, mtu),          F_LIST(frame_configure, hosts),
	F_LIST(frame_configure, volumes),     F_U32(frame_configure, volume_timeout_ms),
	F_LIST(frame_configure, directories), F_U32(frame_configure, stop_signal),
};
static const struct field configured_fields[] = {
	F_U64(frame_configured, uptime_ns),
	F_STR(frame_configured, kernel, NAME_LIMIT),
};
static const struct field clock_fields[] = { F_U64(frame_clock, realtime_ns) };
static const struct field metrics_reply_fields[] = {
	F_U64(frame_metrics_reply, uptime_ns),
	F_U64(frame_metrics_reply, cpu_user_ns),
	F_U64(frame_metrics_reply, cpu_system_ns),
	F_U64(frame_metrics_reply, cpu_idle_ns),
	F_U32(frame_metrics_reply, cpus),
	F_U64(frame_metrics_reply, mem_total),
	F_U64(frame_metrics_reply, mem_available),
	F_U64(frame_metrics_reply, disk_total),
	F_U64(frame_metrics_reply, disk_available),
	F_U64(frame_metrics_reply, disk_files_total),
	F_U64(frame_metrics_reply, disk_files_free),
	F_U32(frame_metrics_reply, processes),
	F_U32(frame_metrics_reply, load1_milli),
	F_U64(frame_metrics_reply, net_rx_bytes),
	F_U64(frame_metrics_reply, net_tx_bytes),
};
static const struct field shutdown_fields[] = { F_U32(frame_shutdown, grace_ms) };
static const struct field exec_fields[] = {
	F_U32(frame_exec, flags),
	F_U64(frame_exec, timeout_ms),
	F_U16(frame_exec, rows),
	F_U16(frame_exec, cols),
	F_STR(frame_exec, cwd, PATH_LIMIT),
	F_STR(frame_exec, user, NAME_LIMIT),
	F_LIST(frame_exec, argv),
	F_LIST(frame_exec, env),
	F_LIST(frame_exec, rlimits),
};
static const struct field exec_started_fields[] = { F_U32(frame_exec_started, pid) };
static const struct field exec_resize_fields[] = {
	F_U16(frame_exec_resize, rows),
	F_U16(frame_exec_resize, cols),
};
static const struct field exec_signal_fields[] = {
	F_U32(frame_exec_signal, signal),
	F_U8(frame_exec_signal, group),
};
static const struct field exec_exit_fields[] = {
	F_U8(frame_exec_exit, reason),         F_U32(frame_exec_exit, status),
	F_U64(frame_exec_exit, wall_ns),       F_U64(frame_exec_exit, cpu_user_ns),
	F_U64(frame_exec_exit, cpu_system_ns), F_U64(frame_exec_exit, max_rss_bytes),
};
static const struct field repl_run_fields[] = {
	F_STR(frame_repl_run, language, NAME_LIMIT),
	F_U64(frame_repl_run, timeout_ms),
	F_U64(frame_repl_run, code_len),
	F_STR(frame_repl_run, user, NAME_LIMIT),
	F_STR(frame_repl_run, cwd, PATH_LIMIT),
	F_LIST(frame_repl_run, env),
	F_U32(frame_repl_run, flags),
};
static const struct field repl_done_fields[] = {
	F_U8(frame_repl_done, status),
	F_U8(frame_repl_done, state_lost),
	F_U32(frame_repl_done, exit_code),
	F_U64(frame_repl_done, wall_ns),
};
static const struct field repl_result_fields[] = {
	F_STR(frame_repl_result, mime, NAME_LIMIT),
	F_U64(frame_repl_result, size),
	F_STR(frame_repl_result, note, NAME_LIMIT),
};
static const struct field file_fields[] = {
	F_U32(frame_file, flags),
	F_STR(frame_file, path, PATH_LIMIT),
	F_STR(frame_file, user, NAME_LIMIT),
	F_U32(frame_file, mode),
	F_U64(frame_file, offset),
	F_U64(frame_file, length),
	F_STR(frame_file, to, PATH_LIMIT),
};
static const struct field file_done_fields[] = {
	F_U32(frame_file_done, mode),     F_U32(frame_file_done, uid),
	F_U32(frame_file_done, gid),      F_U64(frame_file_done, size),
	F_U64(frame_file_done, mtime_ns), F_U64(frame_file_done, inode),
	F_U64(frame_file_done, nlink),    F_STR(frame_file_done, target, PATH_LIMIT),
};
static const struct field dirent_fields[] = {
	F_STR(frame_dirent, name, NAME_LIMIT),
	F_U32(frame_dirent, mode),
	F_U32(frame_dirent, uid),
	F_U32(frame_dirent, gid),
	F_U64(frame_dirent, size),
	F_U64(frame_dirent, mtime_ns),
};
static const struct field sandbox_state_fields[] = {
	F_U8(frame_sandbox_state, state),
	F_STR(frame_sandbox_state, engine, NAME_LIMIT),
	F_STR(frame_sandbox_state, isolation, NAME_LIMIT),
	F_STR(frame_sandbox_state, detail, TEXT_LIMIT),
	F_U32(frame_sandbox_state, code),
	F_U64(frame_sandbox_state, boot_ns),
};
static const struct field sandbox_stop_fields[] = { F_U32(frame_sandbox_stop, grace_ms) };
static const struct field net_set_fields[] = { F_STR(frame_net_set, rules, NETPOLICY_TEXT_MAX) };
static const struct field net_state_fields[] = {
	F_STR(frame_net_state, scope, NAME_LIMIT),
	F_STR(frame_net_state, group, NAME_LIMIT),
	F_STR(frame_net_state, rules, NETPOLICY_TEXT_MAX),
	F_U8(frame_net_state, closed),
	F_LIST(frame_net_state, counters),
	F_LIST(frame_net_state, members),
};
static const struct field sandbox_hold_fields[] = { F_U8(frame_sandbox_hold, hold) };

#define MESSAGE(t, s, f) \
	{ \
		FRAME_##t, #t, sizeof(struct s), ARRAY_SIZE(f), ARRAY_SIZE(f), f \
	}
/* With fields that came after version 1: the first @n have to be there. */
#define MESSAGE_GROWN(t, s, f, n) \
	{ \
		FRAME_##t, #t, sizeof(struct s), ARRAY_SIZE(f), n, f \
	}
#define NO_STRUCT(t) \
	{ \
		FRAME_##t, #t, 0, 0, 0, NULL \
	}

static const struct message messages[] = {
	MESSAGE(HELLO, frame_hello, hello_fields),
	MESSAGE(HELLO_ACK, frame_hello_ack, hello_ack_fields),
	MESSAGE(ERROR, frame_error, error_fields),
	NO_STRUCT(PING),
	NO_STRUCT(PONG),
	NO_STRUCT(DATA),
	NO_STRUCT(EOF),
	MESSAGE(CREDIT, frame_credit, credit_fields),
	NO_STRUCT(CLOSE),
	MESSAGE_GROWN(CONFIGURE, frame_configure, configure_fields, 8),
	MESSAGE(CONFIGURED, frame_configured, configured_fields),
	MESSAGE(CLOCK, frame_clock, clock_fields),
	NO_STRUCT(METRICS),
	MESSAGE(METRICS_REPLY, frame_metrics_reply, metrics_reply_fields),
	MESSAGE(SHUTDOWN, frame_shutdown, shutdown_fields),
	MESSAGE(EXEC, frame_exec, exec_fields),
	MESSAGE(EXEC_STARTED, frame_exec_started, exec_started_fields),
	MESSAGE(EXEC_RESIZE, frame_exec_resize, exec_resize_fields),
	MESSAGE(EXEC_SIGNAL, frame_exec_signal, exec_signal_fields),
	MESSAGE(EXEC_EXIT, frame_exec_exit, exec_exit_fields),
	MESSAGE_GROWN(REPL_RUN, frame_repl_run, repl_run_fields, 6),
	MESSAGE(REPL_DONE, frame_repl_done, repl_done_fields),
	MESSAGE(REPL_RESULT, frame_repl_result, repl_result_fields),
	MESSAGE(FILE_READ, frame_file, file_fields),
	MESSAGE(FILE_WRITE, frame_file, file_fields),
	MESSAGE(FILE_LIST, frame_file, file_fields),
	MESSAGE(FILE_STAT, frame_file, file_fields),
	MESSAGE(FILE_MKDIR, frame_file, file_fields),
	MESSAGE(FILE_REMOVE, frame_file, file_fields),
	MESSAGE(FILE_RENAME, frame_file, file_fields),
	MESSAGE(FILE_DONE, frame_file_done, file_done_fields),
	MESSAGE(SANDBOX_STATE, frame_sandbox_state, sandbox_state_fields),
	MESSAGE(SANDBOX_STOP, frame_sandbox_stop, sandbox_stop_fields),
	NO_STRUCT(NET_GET),
	MESSAGE(NET_SET, frame_net_set, net_set_fields),
	MESSAGE(NET_STATE, frame_net_state, net_state_fields),
	MESSAGE(SANDBOX_HOLD, frame_sandbox_hold, sandbox_hold_fields),
};

static const struct message dirent_message = {
	0,
	"dirent",
	sizeof(struct frame_dirent),
	ARRAY_SIZE(dirent_fields),
	ARRAY_SIZE(dirent_fields),
	dirent_fields,
};

static const struct message *message_find(uint16_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(messages); i++)
		if (messages[i].type == type)
			return &messages[i];
	return NULL;
}

bool frame_type_known(uint16_t type)
{
	return message_find(type) != NULL;
}

bool frame_type_ends_channel(uint16_t type)
{
	switch (type) {
	case FRAME_EXEC_EXIT:
	case FRAME_REPL_DONE:
	case FRAME_FILE_DONE:
	case FRAME_METRICS_REPLY:
	case FRAME_PONG:
	case FRAME_NET_STATE:
	case FRAME_ERROR:
		return true;
	default:
		return false;
	}
}

const char *frame_type_name(uint16_t type)
{
	const struct message *m = message_find(type);

	return m ? m->name : "?";
}

static void put_le(uint8_t *p, uint64_t v, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const uint8_t *p, unsigned size)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < size; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

static unsigned field_int_size(enum field_kind kind)
{
	return kind == FIELD_U8 ? 1 : kind == FIELD_U16 ? 2 : kind == FIELD_U32 ? 4 : 8;
}

/* Integers in the structs have exactly the field's width, so memcpy moves them. */
static uint64_t field_load(const void *at, unsigned size)
{
	uint8_t v8;
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	switch (size) {
	case 1:
		memcpy(&v8, at, 1);
		return v8;
	case 2:
		memcpy(&v16, at, 2);
		return v16;
	case 4:
		memcpy(&v32, at, 4);
		return v32;
	default:
		memcpy(&v64, at, 8);
		return v64;
	}
}

static void field_store(void *at, unsigned size, uint64_t v)
{
	uint8_t v8 = (uint8_t)v;
	uint16_t v16 = (uint16_t)v;
	uint32_t v32 = (uint32_t)v;

	switch (size) {
	case 1:
		memcpy(at, &v8, 1);
		return;
	case 2:
		memcpy(at, &v16, 2);
		return;
	case 4:
		memcpy(at, &v32, 4);
		return;
	default:
		memcpy(at, &v, 8);
		return;
	}
}

static int append_int(struct buf *b, uint64_t v, unsigned size)
{
	uint8_t bytes[8];

	put_le(bytes, v, size);
	return buf_append(b, bytes, size);
}

/* Every string of a list lies inside it, holds no NUL, and the count is right. */
static bool list_valid(struct frame_list list)
{
	struct frame_str s;
	uint32_t n = 0;

	while (list.len) {
		uint32_t before = list.len;

		if (!frame_list_next(&list, &s) || list.len >= before)
			return false;
		if (s.len && memchr(s.p, 0, s.len))
			return false;
		n++;
		if (n > list.count)
			return false;
	}
	return n == list.count;
}

static int field_encode(struct buf *b, const struct field *f, const uint8_t *msg)
{
	const uint8_t *at = msg + f->offset;
	struct frame_list list;
	struct frame_str str;
	unsigned size;
	int rc;

	switch (f->kind) {
	case FIELD_FIXED:
		return buf_append(b, at, f->limit);
	case FIELD_STR:
		memcpy(&str, at, sizeof(str));
		if (str.len > f->limit || (str.len && memchr(str.p, 0, str.len)))
			return -EMSGSIZE;
		rc = append_int(b, str.len, 4);
		return rc ? rc : buf_append(b, str.p, str.len);
	case FIELD_LIST:
		memcpy(&list, at, sizeof(list));
		if (list.len > f->limit || !list_valid(list))
			return -EMSGSIZE;
		rc = append_int(b, list.count, 4);
		if (!rc)
			rc = append_int(b, list.len, 4);
		return rc ? rc : buf_append(b, list.p, list.len);
	default:
		size = field_int_size(f->kind);
		return append_int(b, field_load(at, size), size);
	}
}

static int field_decode(const struct field *f, const uint8_t **p, size_t *n, uint8_t *msg)
{
	uint8_t *at = msg + f->offset;
	struct frame_list list;
	struct frame_str str;
	unsigned size;

	switch (f->kind) {
	case FIELD_FIXED:
		if (*n < f->limit)
			return -EPROTO;
		memcpy(at, *p, f->limit);
		*p += f->limit;
		*n -= f->limit;
		return 0;
	case FIELD_STR:
		if (*n < 4)
			return -EPROTO;
		str.len = (uint32_t)get_le(*p, 4);
		str.p = *p + 4;
		if (str.len > f->limit || str.len > *n - 4 || (str.len && memchr(str.p, 0, str.len)))
			return -EPROTO;
		memcpy(at, &str, sizeof(str));
		*p += 4 + str.len;
		*n -= 4 + str.len;
		return 0;
	case FIELD_LIST:
		if (*n < 8)
			return -EPROTO;
		list.count = (uint32_t)get_le(*p, 4);
		list.len = (uint32_t)get_le(*p + 4, 4);
		list.p = *p + 8;
		if (list.len > *n - 8 || !list_valid(list))
			return -EPROTO;
		memcpy(at, &list, sizeof(list));
		*p += 8 + list.len;
		*n -= 8 + list.len;
		return 0;
	default:
		size = field_int_size(f->kind);
		if (*n < size)
			return -EPROTO;
		field_store(at, size, get_le(*p, size));
		*p += size;
		*n -= size;
		return 0;
	}
}

static int message_encode(struct buf *b, const struct message *m, const void *msg)
{
	int rc = 0;

	for (unsigned i = 0; i < m->count && !rc; i++)
		rc = field_encode(b, &m->fields[i], msg);
	return rc;
}

static int message_decode(const struct message *m, const uint8_t *p, size_t n, void *msg)
{
	memset(msg, 0, m->size);
	for (unsigned i = 0; i < m->count; i++) {
		int rc;

		if (!n && i >= m->required)
			return 0;
		rc = field_decode(&m->fields[i], &p, &n, msg);
		if (rc)
			return rc;
	}
	return 0;
}

void frame_header_put(uint8_t *p, size_t len, uint32_t channel, uint16_t type, uint16_t flags)
{
	put_le(p, len, 4);
	put_le(p + 4, channel, 4);
	put_le(p + 8, type, 2);
	put_le(p + 10, flags, 2);
}

int frame_encode(struct buf *b, uint32_t channel, uint16_t type, uint16_t flags, const void *msg)
{
	const struct message *m = message_find(type);
	size_t before = buf_len(b), len;
	uint8_t header[FRAME_HEADER_SIZE] = { 0 };
	int rc;

	if (!m)
		return -EINVAL;
	rc = buf_append(b, header, sizeof(header));
	if (rc)
		return rc;
	if (m->size)
		rc = message_encode(b, m, msg);
	len = buf_len(b) - before - FRAME_HEADER_SIZE;
	if (!rc && len > FRAME_BODY_MAX)
		rc = -EMSGSIZE;
	if (rc) {
		b->end = b->start + before;
		return rc;
	}
	frame_header_put(b->mem + b->start + before, len, channel, type, flags);
	return 0;
}

int frame_encode_raw(struct buf *b, uint32_t channel, uint16_t type, uint16_t flags,
		     const void *body, size_t len)
{
	uint8_t *p;
	int rc;

	if (len > FRAME_BODY_MAX || (type == FRAME_DATA && len > FRAME_DATA_MAX))
		return -EMSGSIZE;
	rc = buf_reserve(b, FRAME_HEADER_SIZE + len, &p);
	if (rc)
		return rc;
	frame_header_put(p, len, channel, type, flags);
	if (len)
		memcpy(p + FRAME_HEADER_SIZE, body, len);
	buf_commit(b, FRAME_HEADER_SIZE + len);
	return 0;
}

int frame_parse(const uint8_t *p, size_t n, struct frame *out)
{
	struct frame f;

	if (n < FRAME_HEADER_SIZE)
		return 0;
	f.len = (uint32_t)get_le(p, 4);
	f.channel = (uint32_t)get_le(p + 4, 4);
	f.type = (uint16_t)get_le(p + 8, 2);
	f.flags = (uint16_t)get_le(p + 10, 2);
	if (f.len > FRAME_BODY_MAX || (f.type == FRAME_DATA && f.len > FRAME_DATA_MAX))
		return -EPROTO;
	if (n - FRAME_HEADER_SIZE < f.len)
		return 0;
	f.body = p + FRAME_HEADER_SIZE;
	*out = f;
	return (int)(FRAME_HEADER_SIZE + f.len);
}

size_t frame_sync(const uint8_t *p, size_t n, uint16_t type)
{
	/* Channel, type, flags and magic; the length before them may differ by version. */
	uint8_t want[8 + FRAME_MAGIC_SIZE] = { 0 };

	put_le(want + 4, type, 2);
	memcpy(want + 8, FRAME_MAGIC, FRAME_MAGIC_SIZE);
	for (size_t i = 0; i < n; i++) {
		size_t have = n - i;

		if (have <= 4)
			return i; /* could be a length field: keep it */
		have -= 4;
		if (!memcmp(p + i + 4, want, have < sizeof(want) ? have : sizeof(want)))
			return i;
	}
	return n;
}

int frame_decode(const struct frame *f, void *msg, size_t msg_size)
{
	const struct message *m = message_find(f->type);

	if (!m || !m->size || m->size != msg_size)
		return -ENOTSUP;
	return message_decode(m, f->body, f->len, msg);
}

bool frame_list_next(struct frame_list *l, struct frame_str *out)
{
	uint32_t len;

	if (l->len < 4)
		return false;
	len = (uint32_t)get_le(l->p, 4);
	if (len > l->len - 4)
		return false;
	out->p = l->p + 4;
	out->len = len;
	l->p += 4 + len;
	l->len -= 4 + len;
	return true;
}

int frame_list_add(struct buf *b, struct frame_list *l, const void *p, size_t n)
{
	size_t before = buf_len(b);
	int rc;

	if (n > FRAME_BODY_MAX || buf_len(b) + n > FRAME_BODY_MAX)
		return -EMSGSIZE;
	rc = append_int(b, n, 4);
	if (!rc)
		rc = buf_append(b, p, n);
	if (rc) {
		b->end = b->start + before;
		return rc;
	}
	l->count++;
	return 0;
}

void frame_list_end(const struct buf *b, struct frame_list *l)
{
	l->p = buf_data(b);
	l->len = (uint32_t)buf_len(b);
}

int frame_encode_dirent(struct buf *b, const struct frame_dirent *d)
{
	size_t before = buf_len(b);
	int rc = append_int(b, 0, 4);

	if (!rc)
		rc = message_encode(b, &dirent_message, d);
	if (rc) {
		b->end = b->start + before;
		return rc;
	}
	put_le(b->mem + b->start + before, buf_len(b) - before - 4, 4);
	return 0;
}

int frame_decode_dirent(const uint8_t *p, size_t n, struct frame_dirent *out)
{
	uint32_t len;
	int rc;

	if (n < 4)
		return 0;
	len = (uint32_t)get_le(p, 4);
	if (len > FRAME_DATA_MAX)
		return -EPROTO;
	if (n - 4 < len)
		return 0;
	rc = message_decode(&dirent_message, p + 4, len, out);
	return rc ? rc : (int)(4 + len);
}

int frame_str_copy(const struct frame_str *s, char *to, size_t size)
{
	if (s->len >= size)
		return -ENAMETOOLONG;
	if (s->len)
		memcpy(to, s->p, s->len);
	to[s->len] = '\0';
	return 0;
}

bool frame_str_is(const struct frame_str *s, const char *text)
{
	return s->len == strlen(text) && (!s->len || !memcmp(s->p, text, s->len));
}
