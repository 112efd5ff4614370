/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent wire: golden bytes of every message, written by hand, so that a change of
 * the wire cannot pass unnoticed; and what a hostile peer may send instead.
 */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "codec/frame.h"

#define BODY_SIZE 512

/* Reads "0a ff 'text'" into bytes. */
static size_t unhex(const char *s, uint8_t *to, size_t size)
{
	size_t n = 0;

	while (*s) {
		unsigned byte;

		if (*s == ' ') {
			s++;
			continue;
		}
		assert_true(n < size);
		if (*s == '\'') {
			for (s++; *s != '\''; s++) {
				assert_true(n < size);
				to[n++] = (uint8_t)*s;
			}
			s++;
			continue;
		}
		assert_int_equal(sscanf(s, "%2x", &byte), 1);
		to[n++] = (uint8_t)byte;
		s += 2;
	}
	return n;
}

/* Exactly @n bytes in memory of their own, so that a sanitizer sees a read past them. */
static uint8_t *exact(const void *p, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	assert_non_null(copy);
	if (n)
		memcpy(copy, p, n);
	return copy;
}

/* Decodes @n bytes as the body of @type. */
static int decode(uint16_t type, const uint8_t *body, size_t n, void *msg, size_t msg_size)
{
	struct frame f = { .channel = 1, .type = type, .len = (uint32_t)n, .body = body };

	return frame_decode(&f, msg, msg_size);
}

/* As decode(), for a hand-written body; what is decoded is not looked at. */
static int decode_hex(uint16_t type, size_t msg_size, const char *hex)
{
	uint8_t body[8192];
	size_t n = unhex(hex, body, sizeof(body));
	auto_free uint8_t *copy = exact(body, n);
	auto_free void *msg = calloc(1, msg_size);

	return decode(type, copy, n, msg, msg_size);
}

/* ---- golden bytes ---------------------------------------------------------------- */

#define TEXT(s) \
	{ \
		(const uint8_t *)(s), sizeof(s) - 1 \
	}
#define STRINGS(s, n) \
	{ \
		(const uint8_t *)(s), sizeof(s) - 1, n \
	}
#define ENTROPY "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.!"

#define LIST_TWO STRINGS("\x02\0\0\0-c\x04\0\0\0a\nb!", 2)
#define HEX_LIST_TWO "02 00 00 00  0e 00 00 00  02 00 00 00 '-c'  04 00 00 00 'a' 0a 'b!'"
#define LIST_ONE STRINGS("\x03\0\0\0K=V", 1)
#define HEX_LIST_ONE "01 00 00 00  07 00 00 00  03 00 00 00 'K=V'"
#define HEX_LIST_NONE "00 00 00 00  00 00 00 00"

#define FILE_FIELDS \
	.flags = FILE_PARENTS | FILE_FOLLOW, .path = TEXT("/a/b"), .user = TEXT("1000:5"), \
	.mode = 0755, .offset = 0x10, .length = 0x0100000000, .to = TEXT("/c")
#define HEX_FILE \
	"11 00 00 00  04 00 00 00 '/a/b'  06 00 00 00 '1000:5'  ed 01 00 00 " \
	"10 00 00 00 00 00 00 00  00 00 00 00 01 00 00 00  02 00 00 00 '/c'"

struct golden {
	uint16_t type;
	size_t size; /* of the struct; 0 = a body without one */
	const void *msg;
	const char *body;
};

#define GOLDEN(t, s, bytes, ...) \
	{ \
		FRAME_##t, sizeof(struct s), &(const struct s){ __VA_ARGS__ }, bytes \
	}
#define EMPTY(t) \
	{ \
		FRAME_##t, 0, NULL, "" \
	}

static const struct golden goldens[] = {
	GOLDEN(HELLO, frame_hello,
	       "'MSBWIRE1' 02 01  01 00  02  88 77 66 55 44 33 22 11  08 07 06 05 04 03 02 01 "
	       "'" ENTROPY "'",
	       .magic = FRAME_MAGIC, .version = 0x0102, .version_min = 1, .link = LINK_CLIENT,
	       .generation = 0x1122334455667788, .realtime_ns = 0x0102030405060708,
	       .entropy = ENTROPY),
	GOLDEN(HELLO_ACK, frame_hello_ack,
	       "'MSBWIRE1' 01 00  01  88 77 66 55 44 33 22 11  05 00 00 00 '0.1.0'",
	       .magic = FRAME_MAGIC, .version = 1, .link = LINK_BULK,
	       .generation = 0x1122334455667788, .build = TEXT("0.1.0")),
	GOLDEN(ERROR, frame_error, "02 00 00 00  07 00 00 00 'no file'", .code = ENOENT,
	       .message = TEXT("no file")),
	EMPTY(PING),
	EMPTY(PONG),
	EMPTY(DATA),
	EMPTY(EOF),
	GOLDEN(CREDIT, frame_credit, "04 03 02 01", .bytes = 0x01020304),
	EMPTY(CLOSE),
	GOLDEN(CONFIGURE, frame_configure,
	       "03 00 00 00  03 00 00 00 'box'  0f 02 00 0a  02 02 00 0a  03 02 00 0a  18  f0 ff "
	       "" HEX_LIST_ONE "  " HEX_LIST_TWO "  30 75 00 00  " HEX_LIST_TWO "  03 00 00 00",
	       .flags = CONFIGURE_UPPER | CONFIGURE_NETWORK, .hostname = TEXT("box"),
	       .ipv4_addr = 0x0a00020f, .ipv4_gateway = 0x0a000202, .ipv4_dns = 0x0a000203,
	       .ipv4_prefix = 24, .mtu = 65520, .hosts = LIST_ONE, .volumes = LIST_TWO,
	       .volume_timeout_ms = 30000, .directories = LIST_TWO, .stop_signal = 3),
	GOLDEN(CONFIGURED, frame_configured, "08 07 06 05 04 03 02 01  03 00 00 00 '6.1'",
	       .uptime_ns = 0x0102030405060708, .kernel = TEXT("6.1")),
	GOLDEN(CLOCK, frame_clock, "08 07 06 05 04 03 02 01", .realtime_ns = 0x0102030405060708),
	EMPTY(METRICS),
	GOLDEN(METRICS_REPLY, frame_metrics_reply,
	       "01 00 00 00 00 00 00 10  02 00 00 00 00 00 00 20  03 00 00 00 00 00 00 30 "
	       "04 00 00 00 00 00 00 40  05 00 00 50  06 00 00 00 00 00 00 60 "
	       "07 00 00 00 00 00 00 70  08 00 00 00 00 00 00 80  09 00 00 00 00 00 00 90 "
	       "0a 00 00 00 00 00 00 a0  0b 00 00 00 00 00 00 b0  0c 00 00 c0  0d 00 00 d0 "
	       "0e 00 00 00 00 00 00 e0  0f 00 00 00 00 00 00 f0",
	       .uptime_ns = 0x1000000000000001, .cpu_user_ns = 0x2000000000000002,
	       .cpu_system_ns = 0x3000000000000003, .cpu_idle_ns = 0x4000000000000004,
	       .cpus = 0x50000005, .mem_total = 0x6000000000000006,
	       .mem_available = 0x7000000000000007, .disk_total = 0x8000000000000008,
	       .disk_available = 0x9000000000000009, .disk_files_total = 0xa00000000000000a,
	       .disk_files_free = 0xb00000000000000b, .processes = 0xc000000c,
	       .load1_milli = 0xd000000d, .net_rx_bytes = 0xe00000000000000e,
	       .net_tx_bytes = 0xf00000000000000f),
	GOLDEN(SHUTDOWN, frame_shutdown, "10 27 00 00", .grace_ms = 10000),
	GOLDEN(EXEC, frame_exec,
	       "03 00 00 00  88 13 00 00 00 00 00 00  18 00  50 00  04 00 00 00 '/tmp' "
	       "06 00 00 00 'nobody'  " HEX_LIST_TWO "  " HEX_LIST_ONE "  " HEX_LIST_NONE,
	       .flags = EXEC_TTY | EXEC_STDIN, .timeout_ms = 5000, .rows = 24, .cols = 80,
	       .cwd = TEXT("/tmp"), .user = TEXT("nobody"), .argv = LIST_TWO, .env = LIST_ONE),
	GOLDEN(EXEC_STARTED, frame_exec_started, "39 30 00 00", .pid = 12345),
	GOLDEN(EXEC_RESIZE, frame_exec_resize, "28 00  84 00", .rows = 40, .cols = 132),
	GOLDEN(EXEC_SIGNAL, frame_exec_signal, "0f 00 00 00  01", .signal = 15, .group = 1),
	GOLDEN(EXEC_EXIT, frame_exec_exit,
	       "01  09 00 00 00  01 00 00 00 00 00 00 10  02 00 00 00 00 00 00 20 "
	       "03 00 00 00 00 00 00 30  04 00 00 00 00 00 00 40",
	       .reason = EXIT_SIGNALED, .status = 9, .wall_ns = 0x1000000000000001,
	       .cpu_user_ns = 0x2000000000000002, .cpu_system_ns = 0x3000000000000003,
	       .max_rss_bytes = 0x4000000000000004),
	GOLDEN(REPL_RUN, frame_repl_run,
	       "06 00 00 00 'python'  e8 03 00 00 00 00 00 00  03 00 00 00 00 00 00 00 "
	       "01 00 00 00 '7'  04 00 00 00 '/srv'  " HEX_LIST_ONE "  01 00 00 00",
	       .language = TEXT("python"), .timeout_ms = 1000, .code_len = 3, .user = TEXT("7"),
	       .cwd = TEXT("/srv"), .env = LIST_ONE, .flags = REPL_RESULTS),
	GOLDEN(REPL_DONE, frame_repl_done, "03  01  89 00 00 00  08 07 06 05 04 03 02 01",
	       .status = REPL_EXITED, .state_lost = 1, .exit_code = 137,
	       .wall_ns = 0x0102030405060708),
	GOLDEN(REPL_RESULT, frame_repl_result,
	       "09 00 00 00 'image/png'  08 07 06 05 04 03 02 01  03 00 00 00 'why'",
	       .mime = TEXT("image/png"), .size = 0x0102030405060708, .note = TEXT("why")),
	GOLDEN(FILE_READ, frame_file, HEX_FILE, FILE_FIELDS),
	GOLDEN(FILE_WRITE, frame_file, HEX_FILE, FILE_FIELDS),
	GOLDEN(FILE_LIST, frame_file, HEX_FILE, FILE_FIELDS),
	GOLDEN(FILE_STAT, frame_file, HEX_FILE, FILE_FIELDS),
	GOLDEN(FILE_MKDIR, frame_file, HEX_FILE, FILE_FIELDS),
	GOLDEN(FILE_REMOVE, frame_file, HEX_FILE, FILE_FIELDS),
	GOLDEN(FILE_RENAME, frame_file, HEX_FILE, FILE_FIELDS),
	GOLDEN(FILE_DONE, frame_file_done,
	       "ff a1 00 00  e8 03 00 00  e9 03 00 00  01 00 00 00 00 00 00 10 "
	       "02 00 00 00 00 00 00 20  03 00 00 00 00 00 00 30  04 00 00 00 00 00 00 40 "
	       "04 00 00 00 '../x'",
	       .mode = 0120777, .uid = 1000, .gid = 1001, .size = 0x1000000000000001,
	       .mtime_ns = 0x2000000000000002, .inode = 0x3000000000000003,
	       .nlink = 0x4000000000000004, .target = TEXT("../x")),
	GOLDEN(SANDBOX_STATE, frame_sandbox_state,
	       "04  03 00 00 00 'tcg'  08 00 00 00 'emulated'  08 00 00 00 'VM ended'  05 00 00 00 "
	       "08 07 06 05 04 03 02 01",
	       .state = SANDBOX_STOPPED, .engine = TEXT("tcg"), .isolation = TEXT("emulated"),
	       .detail = TEXT("VM ended"), .code = EIO, .boot_ns = 0x0102030405060708),
	GOLDEN(SANDBOX_STOP, frame_sandbox_stop, "88 13 00 00", .grace_ms = 5000),
	EMPTY(NET_GET),
	GOLDEN(NET_SET, frame_net_set, "08 00 00 00 'deny any'", .rules = TEXT("deny any")),
	GOLDEN(NET_STATE, frame_net_state,
	       "05 00 00 00 'group'  03 00 00 00 'web'  09 00 00 00 'allow any'  01 "
	       "01 00 00 00 0c 00 00 00 08 00 00 00 'passed 7'  "
	       "00 00 00 00 00 00 00 00",
	       .scope = TEXT("group"), .group = TEXT("web"), .rules = TEXT("allow any"),
	       .closed = 1, .counters = { (const uint8_t *)"\x08\0\0\0passed 7", 12, 1 }),
	GOLDEN(SANDBOX_HOLD, frame_sandbox_hold, "01", .hold = 1),
};

static const struct golden *golden_find(uint16_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(goldens); i++)
		if (goldens[i].type == type)
			return &goldens[i];
	return NULL;
}

static void every_known_type_has_golden_bytes(void **state)
{
	(void)state;
	for (unsigned type = 0; type <= UINT16_MAX; type++) {
		bool known = frame_type_known((uint16_t)type);

		if (known != (golden_find((uint16_t)type) != NULL))
			fail_msg("type %u: known %d", type, known);
		assert_int_equal(known, strcmp(frame_type_name((uint16_t)type), "?") != 0);
	}
}

/* The numbers themselves: both sides are built from one header, so only this would notice. */
static void type_numbers_never_change(void **state)
{
	static const struct {
		unsigned number;
		const char *name;
	} types[] = {
		{ 1, "HELLO" },          { 2, "HELLO_ACK" },
		{ 3, "ERROR" },          { 4, "PING" },
		{ 5, "PONG" },           { 16, "DATA" },
		{ 17, "EOF" },           { 18, "CREDIT" },
		{ 19, "CLOSE" },         { 32, "CONFIGURE" },
		{ 33, "CONFIGURED" },    { 34, "CLOCK" },
		{ 35, "METRICS" },       { 36, "METRICS_REPLY" },
		{ 37, "SHUTDOWN" },      { 48, "EXEC" },
		{ 49, "EXEC_STARTED" },  { 50, "EXEC_RESIZE" },
		{ 51, "EXEC_SIGNAL" },   { 52, "EXEC_EXIT" },
		{ 64, "REPL_RUN" },      { 65, "REPL_DONE" },
		{ 66, "REPL_RESULT" },   { 80, "FILE_READ" },
		{ 81, "FILE_WRITE" },    { 82, "FILE_LIST" },
		{ 83, "FILE_STAT" },     { 84, "FILE_MKDIR" },
		{ 85, "FILE_REMOVE" },   { 86, "FILE_RENAME" },
		{ 87, "FILE_DONE" },     { 128, "SANDBOX_STATE" },
		{ 129, "SANDBOX_STOP" }, { 130, "NET_GET" },
		{ 131, "NET_SET" },      { 132, "NET_STATE" },
		{ 140, "SANDBOX_HOLD" },
	};

	(void)state;
	assert_int_equal(ARRAY_SIZE(types), ARRAY_SIZE(goldens));
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		assert_string_equal(frame_type_name((uint16_t)types[i].number), types[i].name);
}

static void messages_have_their_golden_bytes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(goldens); i++) {
		const struct golden *g = &goldens[i];
		uint8_t want[FRAME_HEADER_SIZE + BODY_SIZE];
		size_t n = unhex(g->body, want + FRAME_HEADER_SIZE, BODY_SIZE);
		struct buf b = BUF_INIT;

		/* Length, channel 0x01020304, type, flags 2. */
		memcpy(want, "\0\0\0\0\x04\x03\x02\x01\0\0\x02\0", FRAME_HEADER_SIZE);
		want[0] = (uint8_t)n;
		want[1] = (uint8_t)(n >> 8);
		want[8] = (uint8_t)g->type;
		assert_int_equal(frame_encode(&b, 0x01020304, g->type, 2, g->msg), 0);
		if (buf_len(&b) != FRAME_HEADER_SIZE + n || memcmp(buf_data(&b), want, buf_len(&b)))
			fail_msg("%s: other bytes than before", frame_type_name(g->type));
		buf_fini(&b);
	}
}

static void messages_survive_decoding(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(goldens); i++) {
		const struct golden *g = &goldens[i];
		struct buf b = BUF_INIT, again = BUF_INIT;
		auto_free void *msg = calloc(1, g->size + 1);
		struct frame f;
		int n;

		assert_int_equal(frame_encode(&b, 7, g->type, 1, g->msg), 0);
		n = frame_parse(buf_data(&b), buf_len(&b), &f);
		assert_int_equal(n, buf_len(&b));
		assert_int_equal(f.channel, 7);
		assert_int_equal(f.type, g->type);
		assert_int_equal(f.flags, 1);
		assert_int_equal(f.len, buf_len(&b) - FRAME_HEADER_SIZE);
		assert_ptr_equal(f.body, buf_data(&b) + FRAME_HEADER_SIZE);
		assert_int_equal(frame_decode(&f, msg, g->size + 1), -ENOTSUP);
		assert_int_equal(frame_decode(&f, msg, g->size), g->size ? 0 : -ENOTSUP);
		if (g->size) {
			assert_int_equal(frame_encode(&again, 7, g->type, 1, msg), 0);
			assert_int_equal(buf_len(&again), buf_len(&b));
			assert_memory_equal(buf_data(&again), buf_data(&b), buf_len(&b));
		}
		buf_fini(&again);
		buf_fini(&b);
	}
}

static void decoded_fields_are_what_was_sent(void **state)
{
	uint8_t body[BODY_SIZE];
	size_t n = unhex(golden_find(FRAME_EXEC)->body, body, sizeof(body));
	struct frame_metrics_reply m;
	struct frame_exec x;
	struct frame_str s;
	char text[8];

	(void)state;
	assert_int_equal(decode(FRAME_EXEC, body, n, &x, sizeof(x)), 0);
	assert_int_equal(x.flags, EXEC_TTY | EXEC_STDIN);
	assert_int_equal(x.timeout_ms, 5000);
	assert_int_equal(x.rows, 24);
	assert_int_equal(x.cols, 80);
	assert_true(frame_str_is(&x.cwd, "/tmp"));
	assert_false(frame_str_is(&x.cwd, "/tm"));
	assert_false(frame_str_is(&x.cwd, "/tmp/"));
	assert_int_equal(frame_str_copy(&x.user, text, sizeof(text)), 0);
	assert_string_equal(text, "nobody");
	assert_int_equal(frame_str_copy(&x.user, text, 6), -ENAMETOOLONG);
	assert_int_equal(x.argv.count, 2);
	assert_true(frame_list_next(&x.argv, &s) && frame_str_is(&s, "-c"));
	assert_true(frame_list_next(&x.argv, &s) && frame_str_is(&s, "a\nb!"));
	assert_false(frame_list_next(&x.argv, &s));
	assert_true(frame_list_next(&x.env, &s) && frame_str_is(&s, "K=V"));
	assert_false(frame_list_next(&x.env, &s));
	assert_false(frame_list_next(&x.rlimits, &s));

	n = unhex(golden_find(FRAME_METRICS_REPLY)->body, body, sizeof(body));
	assert_int_equal(decode(FRAME_METRICS_REPLY, body, n, &m, sizeof(m)), 0);
	assert_true(m.cpus == 0x50000005 && m.processes == 0xc000000c);
	assert_true(m.mem_total == 0x6000000000000006 && m.net_tx_bytes == 0xf00000000000000f);
}

static void last_messages_end_their_channel(void **state)
{
	static const uint16_t ends[] = { FRAME_ERROR,     FRAME_PONG,      FRAME_METRICS_REPLY,
					 FRAME_EXEC_EXIT, FRAME_REPL_DONE, FRAME_FILE_DONE,
					 FRAME_NET_STATE };

	(void)state;
	for (unsigned type = 0; type <= UINT16_MAX; type++) {
		bool want = false;

		for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
			want |= ends[i] == type;
		assert_int_equal(frame_type_ends_channel((uint16_t)type), want);
	}
}

/* ---- hostile bodies -------------------------------------------------------------- */

/* May a golden body of @n bytes end at @cut: does a peer of an earlier version 1 end it there? */
static bool may_end(uint16_t type, size_t n, size_t cut)
{
	/* From the end: stop_signal; directories, LIST_TWO; volume_timeout_ms; volumes, LIST_TWO */
	if (type == FRAME_CONFIGURE)
		return cut == n - 4 || cut == n - 26 || cut == n - 30 || cut == n - 52;
	return type == FRAME_REPL_RUN && cut == n - 4;
}

static void a_body_cut_anywhere_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(goldens); i++) {
		const struct golden *g = &goldens[i];
		uint8_t body[BODY_SIZE];
		size_t n = unhex(g->body, body, sizeof(body));

		if (!g->size)
			continue;
		for (size_t cut = 0; cut < n; cut++) {
			auto_free uint8_t *part = exact(body, cut);
			auto_free void *msg = calloc(1, g->size);

			if (may_end(g->type, n, cut))
				continue;
			if (decode(g->type, part, cut, msg, g->size) != -EPROTO)
				fail_msg("%s cut to %zu bytes was taken", frame_type_name(g->type),
					 cut);
		}
	}
}

/* Messages are append-only: fields that an older peer does not send are zero. */
static void fields_that_an_older_peer_lacks_are_zero(void **state)
{
	uint8_t body[BODY_SIZE];
	size_t n = unhex(golden_find(FRAME_REPL_RUN)->body, body, sizeof(body));
	auto_free uint8_t *old = exact(body, n - 4);
	struct frame_repl_run r;

	(void)state;
	assert_int_equal(decode(FRAME_REPL_RUN, body, n, &r, sizeof(r)), 0);
	assert_int_equal(r.flags, REPL_RESULTS);
	assert_int_equal(decode(FRAME_REPL_RUN, old, n - 4, &r, sizeof(r)), 0);
	assert_int_equal(r.flags, 0);
	assert_true(frame_str_is(&r.cwd, "/srv") && r.env.count == 1);
}

/* Messages are append-only: the fields of a newer peer come at the end. */
static void fields_of_a_newer_peer_are_ignored(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(goldens); i++) {
		const struct golden *g = &goldens[i];
		uint8_t body[BODY_SIZE + 9] = { 0 };
		size_t n = unhex(g->body, body, BODY_SIZE);

		if (!g->size)
			continue;
		for (size_t more = 1; more <= 9; more++) {
			auto_free void *msg = calloc(1, g->size);
			struct buf b = BUF_INIT;

			memset(body + n, 0xee, more);
			auto_free uint8_t *copy = exact(body, n + more);
			assert_int_equal(decode(g->type, copy, n + more, msg, g->size), 0);
			assert_int_equal(frame_encode(&b, 1, g->type, 0, msg), 0);
			assert_int_equal(buf_len(&b), FRAME_HEADER_SIZE + n);
			assert_memory_equal(buf_data(&b) + FRAME_HEADER_SIZE, body, n);
			buf_fini(&b);
		}
	}
}

/* Nothing that a mutation makes of a message may be taken and then not be sendable. */
static void every_changed_byte_is_refused_or_consistent(void **state)
{
	static const uint8_t values[] = { 0x00, 0x01, 0x7f, 0x80, 0xff };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(goldens); i++) {
		const struct golden *g = &goldens[i];
		uint8_t body[BODY_SIZE];
		size_t n = unhex(g->body, body, sizeof(body));

		for (size_t at = 0; at < n * ARRAY_SIZE(values); at++) {
			auto_free uint8_t *copy = exact(body, n);
			auto_free void *msg = calloc(1, g->size);
			struct buf b = BUF_INIT;
			int rc;

			copy[at / ARRAY_SIZE(values)] = values[at % ARRAY_SIZE(values)];
			rc = decode(g->type, copy, n, msg, g->size);
			assert_true(rc == 0 || rc == -EPROTO);
			if (!rc) {
				assert_int_equal(frame_encode(&b, 1, g->type, 0, msg), 0);
				assert_true(buf_len(&b) <= FRAME_HEADER_SIZE + n);
				assert_memory_equal(buf_data(&b) + FRAME_HEADER_SIZE, copy,
						    buf_len(&b) - FRAME_HEADER_SIZE);
			}
			buf_fini(&b);
		}
	}
}

#define ERROR_HEX(body) decode_hex(FRAME_ERROR, sizeof(struct frame_error), body)

static void strings_are_checked(void **state)
{
	(void)state;
	assert_int_equal(ERROR_HEX("01 00 00 00  00 00 00 00"), 0);
	assert_int_equal(ERROR_HEX("01 00 00 00  03 00 00 00 'abc'"), 0);
	/* Longer than the body; so long that an addition would wrap. */
	assert_int_equal(ERROR_HEX("01 00 00 00  04 00 00 00 'abc'"), -EPROTO);
	assert_int_equal(ERROR_HEX("01 00 00 00  ff ff ff ff 'abc'"), -EPROTO);
	assert_int_equal(ERROR_HEX("01 00 00 00  fc ff ff ff 'abc'"), -EPROTO);
	/* A NUL would end the string early for whoever copies it. */
	assert_int_equal(ERROR_HEX("01 00 00 00  03 00 00 00 'a' 00 'c'"), -EPROTO);
	assert_int_equal(ERROR_HEX("01 00 00 00  01 00 00 00  00"), -EPROTO);
}

/* argv is the first list of EXEC; the two after it are empty. */
static int exec_with_argv(const char *argv)
{
	char hex[1024];

	snprintf(hex, sizeof(hex),
		 "00 00 00 00  00 00 00 00 00 00 00 00  00 00  00 00  00 00 00 00  00 00 00 00 "
		 "%s  " HEX_LIST_NONE "  " HEX_LIST_NONE,
		 argv);
	return decode_hex(FRAME_EXEC, sizeof(struct frame_exec), hex);
}

static void lists_are_checked(void **state)
{
	(void)state;
	assert_int_equal(exec_with_argv(HEX_LIST_NONE), 0);
	assert_int_equal(exec_with_argv(HEX_LIST_TWO), 0);
	assert_int_equal(exec_with_argv("01 00 00 00  04 00 00 00  00 00 00 00"), 0);
	/* The count lies. */
	assert_int_equal(exec_with_argv("00 00 00 00  04 00 00 00  00 00 00 00"), -EPROTO);
	assert_int_equal(exec_with_argv("02 00 00 00  04 00 00 00  00 00 00 00"), -EPROTO);
	assert_int_equal(exec_with_argv("ff ff ff ff  04 00 00 00  00 00 00 00"), -EPROTO);
	assert_int_equal(exec_with_argv("01 00 00 00  00 00 00 00"), -EPROTO);
	/* The length lies: past the body, into the next field, less than a string. */
	assert_int_equal(exec_with_argv("01 00 00 00  ff ff ff ff  00 00 00 00"), -EPROTO);
	assert_int_equal(exec_with_argv("01 00 00 00  15 00 00 00  00 00 00 00"), -EPROTO);
	assert_int_equal(exec_with_argv("01 00 00 00  05 00 00 00  00 00 00 00"), -EPROTO);
	assert_int_equal(exec_with_argv("01 00 00 00  03 00 00 00  00 00 00"), -EPROTO);
	/* A string in it lies, or holds a NUL. */
	assert_int_equal(exec_with_argv("01 00 00 00  05 00 00 00  02 00 00 00 'a'"), -EPROTO);
	assert_int_equal(exec_with_argv("01 00 00 00  05 00 00 00  ff ff ff ff 'a'"), -EPROTO);
	assert_int_equal(exec_with_argv("01 00 00 00  05 00 00 00  01 00 00 00 00"), -EPROTO);
}

/* A string field with its limit, reached by a message of nothing else. */
struct limit {
	uint16_t type;
	size_t size, offset;
	uint32_t limit;
};

#define LIMIT(t, s, m, l) \
	{ \
		FRAME_##t, sizeof(struct s), offsetof(struct s, m), l \
	}

static const struct limit limits[] = {
	LIMIT(HELLO_ACK, frame_hello_ack, build, 255),
	LIMIT(ERROR, frame_error, message, 4096),
	LIMIT(CONFIGURE, frame_configure, hostname, 64),
	LIMIT(CONFIGURED, frame_configured, kernel, 255),
	LIMIT(EXEC, frame_exec, cwd, 4096),
	LIMIT(EXEC, frame_exec, user, 255),
	LIMIT(REPL_RUN, frame_repl_run, language, 255),
	LIMIT(REPL_RUN, frame_repl_run, user, 255),
	LIMIT(REPL_RUN, frame_repl_run, cwd, 4096),
	LIMIT(REPL_RESULT, frame_repl_result, mime, 255),
	LIMIT(REPL_RESULT, frame_repl_result, note, 255),
	LIMIT(FILE_READ, frame_file, path, 4096),
	LIMIT(FILE_STAT, frame_file, user, 255),
	LIMIT(FILE_RENAME, frame_file, to, 4096),
	LIMIT(FILE_DONE, frame_file_done, target, 4096),
	LIMIT(SANDBOX_STATE, frame_sandbox_state, engine, 255),
	LIMIT(SANDBOX_STATE, frame_sandbox_state, isolation, 255),
	LIMIT(SANDBOX_STATE, frame_sandbox_state, detail, 4096),
};

static void strings_have_limits_both_ways(void **state)
{
	static uint8_t text[4097];

	(void)state;
	memset(text, 'x', sizeof(text));
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		const struct limit *l = &limits[i];
		struct frame_str str = { text, l->limit };
		auto_free uint8_t *msg = calloc(1, l->size);
		auto_free uint8_t *got = calloc(1, l->size);
		struct buf b = BUF_INIT;
		struct frame f;
		uint8_t *at;

		memcpy(msg + l->offset, &str, sizeof(str));
		assert_int_equal(frame_encode(&b, 1, l->type, 0, msg), 0);
		assert_true(frame_parse(buf_data(&b), buf_len(&b), &f) > 0);
		assert_int_equal(frame_decode(&f, got, l->size), 0);
		buf_reset(&b);

		str.len++;
		memcpy(msg + l->offset, &str, sizeof(str));
		assert_int_equal(frame_encode(&b, 1, l->type, 0, msg), -EMSGSIZE);
		assert_int_equal(buf_len(&b), 0);

		/* The same message from a peer without limits: one more byte in place. */
		str.len--;
		memcpy(msg + l->offset, &str, sizeof(str));
		assert_int_equal(frame_encode(&b, 1, l->type, 0, msg), 0);
		auto_free uint8_t *wide = malloc(buf_len(&b) + 1);
		memcpy(wide, buf_data(&b), buf_len(&b));
		at = memmem(wide, buf_len(&b), text, l->limit);
		assert_non_null(at);
		memmove(at + 1, at, (size_t)(wide + buf_len(&b) - at));
		at[-4]++;
		if (!at[-4])
			at[-3]++;
		assert_int_equal(decode(l->type, wide + FRAME_HEADER_SIZE,
					buf_len(&b) + 1 - FRAME_HEADER_SIZE, got, l->size),
				 -EPROTO);
		buf_fini(&b);
	}
}

/* ---- encoding -------------------------------------------------------------------- */

/* What a failed call left in @b is what the caller had there. */
static void assert_untouched(const struct buf *b)
{
	assert_int_equal(buf_len(b), 6);
	assert_memory_equal(buf_data(b), "before", 6);
}

static void a_failed_encode_leaves_the_buffer(void **state)
{
	static uint8_t big[FRAME_BODY_MAX + 1];
	struct frame_error err = { .message = TEXT("a\0b") };
	struct frame_exec x = { .flags = 0 };
	struct frame_dirent d = { .name = { big, 256 } };
	struct frame_list l = { 0 };
	struct buf b = BUF_INIT;

	(void)state;
	memset(big, 'x', sizeof(big));
	assert_int_equal(buf_append(&b, "before", 6), 0);
	assert_int_equal(frame_encode(&b, 1, 999, 0, NULL), -EINVAL);
	assert_untouched(&b);
	assert_int_equal(frame_encode(&b, 1, FRAME_ERROR, 0, &err), -EMSGSIZE);
	assert_untouched(&b);
	/* The list is within its limit, the body with the rest is not. */
	x.argv = (struct frame_list){ big, FRAME_BODY_MAX, 1 };
	memcpy(big, "\xfc\xff\x03\0", 4); /* one string of FRAME_BODY_MAX - 4 bytes */
	assert_int_equal(frame_encode(&b, 1, FRAME_EXEC, 0, &x), -EMSGSIZE);
	assert_untouched(&b);
	x.argv.len++;
	assert_int_equal(frame_encode(&b, 1, FRAME_EXEC, 0, &x), -EMSGSIZE);
	assert_untouched(&b);
	assert_int_equal(frame_encode_raw(&b, 1, FRAME_PING, 0, big, FRAME_BODY_MAX + 1), -EMSGSIZE);
	assert_untouched(&b);
	assert_int_equal(frame_encode_raw(&b, 1, FRAME_DATA, 0, big, FRAME_DATA_MAX + 1), -EMSGSIZE);
	assert_untouched(&b);
	assert_int_equal(frame_encode_dirent(&b, &d), -EMSGSIZE);
	assert_untouched(&b);
	assert_int_equal(frame_list_add(&b, &l, big, FRAME_BODY_MAX + 1), -EMSGSIZE);
	assert_int_equal(frame_list_add(&b, &l, big, FRAME_BODY_MAX), -EMSGSIZE);
	assert_int_equal(l.count, 0);
	assert_untouched(&b);
	buf_fini(&b);
}

static void a_full_buffer_is_left_as_it_was(void **state)
{
	const struct golden *g = golden_find(FRAME_EXEC);
	struct frame_list l = { 0 };
	size_t need;
	struct buf b;

	(void)state;
	buf_init(&b, 0);
	assert_int_equal(frame_encode(&b, 1, FRAME_EXEC, 0, g->msg), 0);
	need = buf_len(&b);
	buf_fini(&b);
	for (size_t room = 0; room < need; room++) {
		buf_init(&b, 6 + room);
		assert_int_equal(buf_append(&b, "before", 6), 0);
		assert_int_equal(frame_encode(&b, 1, FRAME_EXEC, 0, g->msg), -ENOBUFS);
		assert_untouched(&b);
		buf_fini(&b);
	}
	buf_init(&b, 10);
	assert_int_equal(buf_append(&b, "before", 6), 0);
	assert_int_equal(frame_list_add(&b, &l, "x", 1), -ENOBUFS);
	assert_int_equal(frame_encode_raw(&b, 1, FRAME_DATA, 0, "x", 1), -ENOBUFS);
	assert_int_equal(l.count, 0);
	assert_untouched(&b);
	buf_fini(&b);
}

static void a_list_that_a_peer_would_refuse_is_not_sent(void **state)
{
	const struct frame_list bad[] = {
		STRINGS("\x01\0\0\0a", 2), /* count */
		STRINGS("\x01\0\0\0a", 0), STRINGS("\x02\0\0\0a", 1), /* length */
		STRINGS("\x01\0\0", 1),    STRINGS("\x01\0\0\0\0", 1), /* NUL */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct frame_exec x = { .argv = bad[i] };
		struct buf b = BUF_INIT;

		assert_int_equal(frame_encode(&b, 1, FRAME_EXEC, 0, &x), -EMSGSIZE);
		assert_int_equal(buf_len(&b), 0);
		buf_fini(&b);
	}
}

static void lists_are_built_and_read(void **state)
{
	struct frame_list l = { 0 }, again;
	struct buf b = BUF_INIT, frame = BUF_INIT;
	struct frame_exec x = { .flags = 0 }, got;
	struct frame_str s;
	struct frame f;
	char text[16];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		int n = snprintf(text, sizeof(text), "%.*d", i % 7, i);

		assert_int_equal(frame_list_add(&b, &l, text, (size_t)n), 0);
	}
	frame_list_end(&b, &l);
	assert_int_equal(l.count, 1000);
	x.env = l;
	assert_int_equal(frame_encode(&frame, 1, FRAME_EXEC, 0, &x), 0);
	assert_true(frame_parse(buf_data(&frame), buf_len(&frame), &f) > 0);
	assert_int_equal(frame_decode(&f, &got, sizeof(got)), 0);
	assert_int_equal(got.env.count, 1000);
	again = got.env;
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "%.*d", i % 7, i);
		assert_true(frame_list_next(&again, &s));
		assert_true(frame_str_is(&s, text));
	}
	assert_false(frame_list_next(&again, &s));
	assert_int_equal(got.argv.count, 0);
	buf_fini(&frame);
	buf_fini(&b);
}

/* ---- framing --------------------------------------------------------------------- */

static int parse_header(uint32_t len, uint16_t type)
{
	uint8_t h[FRAME_HEADER_SIZE];
	struct frame f;

	frame_header_put(h, len, 1, type, 0);
	return frame_parse(h, sizeof(h), &f);
}

static void a_length_is_refused_before_the_body(void **state)
{
	(void)state;
	assert_int_equal(parse_header(0, FRAME_EOF), FRAME_HEADER_SIZE);
	assert_int_equal(parse_header(FRAME_BODY_MAX, FRAME_EXEC), 0);
	assert_int_equal(parse_header(FRAME_BODY_MAX + 1, FRAME_EXEC), -EPROTO);
	assert_int_equal(parse_header(UINT32_MAX, FRAME_EXEC), -EPROTO);
	assert_int_equal(parse_header(FRAME_DATA_MAX, FRAME_DATA), 0);
	assert_int_equal(parse_header(FRAME_DATA_MAX + 1, FRAME_DATA), -EPROTO);
	/* A type of a newer peer has the general limit. */
	assert_int_equal(parse_header(FRAME_BODY_MAX, 4711), 0);
	assert_int_equal(parse_header(FRAME_BODY_MAX + 1, 4711), -EPROTO);
}

static void parsing_waits_for_the_whole_frame(void **state)
{
	struct frame f, none = { .type = 4711 };
	struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(frame_encode_raw(&b, 3, FRAME_DATA, STREAM_ERR, "hello", 5), 0);
	assert_int_equal(frame_encode(&b, 3, FRAME_EOF, STREAM_ERR, NULL), 0);
	for (size_t cut = 0; cut <= buf_len(&b); cut++) {
		auto_free uint8_t *part = exact(buf_data(&b), cut);

		f = none;
		if (cut < FRAME_HEADER_SIZE + 5) {
			assert_int_equal(frame_parse(part, cut, &f), 0);
			assert_int_equal(f.type, 4711);
			continue;
		}
		assert_int_equal(frame_parse(part, cut, &f), FRAME_HEADER_SIZE + 5);
		assert_int_equal(f.len, 5);
		assert_memory_equal(f.body, "hello", 5);
	}
	buf_fini(&b);
}

static void encode_hello(struct buf *b, uint16_t type)
{
	assert_int_equal(frame_encode(b, 0, type, 0, golden_find(type)->msg), 0);
}

static void sync_finds_a_hello_behind_garbage(void **state)
{
	static const uint16_t types[] = { FRAME_HELLO, FRAME_HELLO_ACK };

	(void)state;
	for (size_t t = 0; t < ARRAY_SIZE(types); t++)
		for (size_t junk = 0; junk < 64; junk++) {
			struct buf b = BUF_INIT;
			uint8_t bytes[64];

			for (size_t i = 0; i < junk; i++)
				bytes[i] = (uint8_t)(0x41 + i * 7);
			buf_append(&b, bytes, junk);
			encode_hello(&b, types[t]);
			assert_int_equal(frame_sync(buf_data(&b), buf_len(&b), types[t]), junk);
			/* The other kind of hello is not it. */
			assert_true(frame_sync(buf_data(&b), buf_len(&b), types[!t]) > junk);
			buf_fini(&b);
		}
}

/* However the bytes arrive, a hello's beginning is never discarded. */
static void sync_keeps_the_beginning_of_a_hello(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	buf_append(&b, "\xff\xff\xff\xff\xff", 5);
	encode_hello(&b, FRAME_HELLO);
	for (size_t cut = 0; cut <= buf_len(&b); cut++) {
		auto_free uint8_t *part = exact(buf_data(&b), cut);
		size_t n = frame_sync(part, cut, FRAME_HELLO);

		assert_true(n <= 5 && n <= cut);
		/* And what cannot be one does go, or garbage would pile up. */
		if (cut >= 13)
			assert_int_equal(n, 5);
	}
	buf_fini(&b);
}

static void sync_drops_what_is_no_hello(void **state)
{
	uint8_t junk[4096];
	struct buf b = BUF_INIT;

	(void)state;
	memset(junk, 0xff, sizeof(junk));
	/* Only a length field may remain. */
	assert_int_equal(frame_sync(junk, sizeof(junk), FRAME_HELLO), sizeof(junk) - 4);
	memset(junk, 0, sizeof(junk));
	assert_true(frame_sync(junk, sizeof(junk), FRAME_HELLO) >= sizeof(junk) - 8);
	assert_int_equal(frame_sync(junk, 0, FRAME_HELLO), 0);

	/* A frame cut off, then a whole hello: the hello's bytes are no body. */
	encode_hello(&b, FRAME_HELLO);
	b.end = b.start + 40;
	encode_hello(&b, FRAME_HELLO);
	buf_consume(&b, 1);
	assert_int_equal(frame_sync(buf_data(&b), buf_len(&b), FRAME_HELLO), 39);

	/* Another channel, other flags, another magic. */
	for (size_t at = 4; at < FRAME_HEADER_SIZE + FRAME_MAGIC_SIZE; at++) {
		buf_reset(&b);
		encode_hello(&b, FRAME_HELLO);
		b.mem[b.start + at] ^= 0x80;
		assert_true(frame_sync(buf_data(&b), buf_len(&b), FRAME_HELLO) > 0);
	}
	buf_fini(&b);
}

/* ---- directory entries ----------------------------------------------------------- */

#define HEX_DIRENT \
	"23 00 00 00  03 00 00 00 'a' 0a 'b'  a4 81 00 00  e8 03 00 00  e9 03 00 00 " \
	"08 07 06 05 04 03 02 01  18 17 16 15 14 13 12 11"

static void directory_entries_have_their_golden_bytes(void **state)
{
	struct frame_dirent d = { .name = TEXT("a\nb"),
				  .mode = 0100644,
				  .uid = 1000,
				  .gid = 1001,
				  .size = 0x0102030405060708,
				  .mtime_ns = 0x1112131415161718 };
	struct frame_dirent got;
	struct buf b = BUF_INIT;
	uint8_t want[64];
	size_t n = unhex(HEX_DIRENT, want, sizeof(want));

	(void)state;
	assert_int_equal(frame_encode_dirent(&b, &d), 0);
	assert_int_equal(buf_len(&b), n);
	assert_memory_equal(buf_data(&b), want, n);
	assert_int_equal(frame_decode_dirent(buf_data(&b), buf_len(&b), &got), n);
	assert_true(frame_str_is(&got.name, "a\nb"));
	assert_true(got.mode == d.mode && got.uid == d.uid && got.gid == d.gid);
	assert_true(got.size == d.size && got.mtime_ns == d.mtime_ns);
	buf_fini(&b);
}

static void hostile_directory_entries_are_refused(void **state)
{
	uint8_t good[64], bytes[80];
	size_t n = unhex(HEX_DIRENT, good, sizeof(good));
	struct frame_dirent d;

	(void)state;
	/* Cut: wait for the rest. */
	for (size_t cut = 0; cut < n; cut++) {
		auto_free uint8_t *part = exact(good, cut);

		assert_int_equal(frame_decode_dirent(part, cut, &d), 0);
	}
	/* A record shorter than its fields. */
	for (uint8_t len = 0; len < n - 4; len++) {
		memcpy(bytes, good, n);
		bytes[0] = len;
		auto_free uint8_t *part = exact(bytes, n);
		assert_int_equal(frame_decode_dirent(part, n, &d), -EPROTO);
	}
	/* Longer: fields of a newer agent. */
	memcpy(bytes, good, n);
	memset(bytes + n, 0xee, 5);
	bytes[0] = (uint8_t)(n - 4 + 5);
	assert_int_equal(frame_decode_dirent(bytes, n + 5, &d), n + 5);
	/* More than a stream could hold at once is refused, not waited for. */
	assert_int_equal(frame_decode_dirent((const uint8_t *)"\0\x80\0\0", 4, &d), 0);
	assert_int_equal(frame_decode_dirent((const uint8_t *)"\x01\x80\0\0", 4, &d), -EPROTO);
	assert_int_equal(frame_decode_dirent((const uint8_t *)"\xff\xff\xff\xff", 4, &d), -EPROTO);
	/* A name with a NUL, and one past its record. */
	memcpy(bytes, good, n);
	bytes[9] = 0;
	assert_int_equal(frame_decode_dirent(bytes, n, &d), -EPROTO);
	bytes[9] = 'x';
	bytes[4] = 36;
	assert_int_equal(frame_decode_dirent(bytes, n, &d), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_known_type_has_golden_bytes),
		TEST(type_numbers_never_change),
		TEST(messages_have_their_golden_bytes),
		TEST(messages_survive_decoding),
		TEST(decoded_fields_are_what_was_sent),
		TEST(last_messages_end_their_channel),
		TEST(a_body_cut_anywhere_is_refused),
		TEST(fields_that_an_older_peer_lacks_are_zero),
		TEST(fields_of_a_newer_peer_are_ignored),
		TEST(every_changed_byte_is_refused_or_consistent),
		TEST(strings_are_checked),
		TEST(lists_are_checked),
		TEST(strings_have_limits_both_ways),
		TEST(a_failed_encode_leaves_the_buffer),
		TEST(a_full_buffer_is_left_as_it_was),
		TEST(a_list_that_a_peer_would_refuse_is_not_sent),
		TEST(lists_are_built_and_read),
		TEST(a_length_is_refused_before_the_body),
		TEST(parsing_waits_for_the_whole_frame),
		TEST(sync_finds_a_hello_behind_garbage),
		TEST(sync_keeps_the_beginning_of_a_hello),
		TEST(sync_drops_what_is_no_hello),
		TEST(directory_entries_have_their_golden_bytes),
		TEST(hostile_directory_entries_are_refused),
	};

	return test_run(tests);
}
