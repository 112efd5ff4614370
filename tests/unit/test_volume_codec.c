/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes as people write them, and messages of FUSE as the guest's kernel does. */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/volume.h"
#include "codec/volume_wire.h"
#include "volume/request.h"

static void spec_forms(void **state)
{
	static const struct {
		const char *text;
		enum volume_kind kind;
		const char *source, *guest, *owner;
		bool readonly;
	} good[] = {
		{ "/a:/b", VOLUME_HOST, "/a", "/b", NULL, false },
		{ "/a:/b:ro", VOLUME_HOST, "/a", "/b", NULL, true },
		{ "/a:/b:rw,owner=1000:5", VOLUME_HOST, "/a", "/b", "1000:5", false },
		{ "./a:/b/", VOLUME_HOST, "./a", "/b", NULL, false },
		{ ".:/b", VOLUME_HOST, ".", "/b", NULL, false },
		{ "..:/b", VOLUME_HOST, "..", "/b", NULL, false },
		{ "a/b:/b//c", VOLUME_HOST, "a/b", "/b/c", NULL, false },
		{ "/a", VOLUME_HOST, "/a", "/a", NULL, false },
		{ "/a:ro", VOLUME_HOST, "/a", "/a", NULL, true },
		{ "/a:rw,owner=node", VOLUME_HOST, "/a", "/a", "node", false },
		{ "data:/b", VOLUME_NAMED, "data", "/b", NULL, false },
		{ "my.data_1-2:/b:ro", VOLUME_NAMED, "my.data_1-2", "/b", NULL, true },
		{ "/a:/procfs", VOLUME_HOST, "/a", "/procfs", NULL, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct volume v;

		assert_int_equal(volume_parse(good[i].text, false, &v, NULL), 0);
		assert_int_equal(v.kind, good[i].kind);
		assert_string_equal(v.source, good[i].source);
		assert_string_equal(v.guest, good[i].guest);
		assert_int_equal(v.readonly, good[i].readonly);
		if (good[i].owner)
			assert_string_equal(v.owner, good[i].owner);
		else
			assert_null(v.owner);
		volume_fini(&v);
	}
}

static void spec_refusals(void **state)
{
	static const char *const bad[] = {
		"",
		":",
		":/a",
		"/a:",
		"a",
		"a:",
		"/a:b",
		"/a:/",
		"/a:/proc",
		"/a:/proc/sys",
		"/a:/dev",
		"/a:/sys/fs",
		"/a:/b/../c",
		"/a:/b/.",
		"/a:/b:",
		"/a:/b:x",
		"/a:/b:ro:x",
		"/a:/b:ro,rw",
		"/a:/b:ro,ro",
		"/a:/b:size=1",
		"a b:/c",
		"-a:/c",
		"_a:/c",
		"/a:/b:owner=",
		"./a",
		"/a:/b:,",
		"a:ro",
		"/a:/b:RO",
		"/a:/b:owner=a,owner=b",
	};
	static const char *const bad_tmpfs[] = {
		"",
		"a",
		"/",
		"/a:ro",
		"/a:/b",
		"/a:size=",
		"/a:size=0",
		"/a:size=1x",
		"/a:size=9999999P",
		"/a:size=1M,size=1M",
		"/a:size=1M:",
		"/dev/shm",
		"/a:owner=x",
	};
	struct volume v;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err e = ERR_INIT;

		if (!strcmp(bad[i], "/a:/b:,"))
			continue; /* no option at all */
		if (volume_parse(bad[i], false, &v, &e) != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
		assert_non_null(strstr(e.msg, "give HOST:GUEST"));
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad_tmpfs); i++)
		if (volume_parse(bad_tmpfs[i], true, &v, NULL) != -EINVAL)
			fail_msg("tmpfs '%s' was taken", bad_tmpfs[i]);
}

static void sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "1", 1 << 20 }, { "64M", 64 << 20 }, { "2g", 2ull << 30 },
		{ "5k", 5120 },   { "7b", 7 },         { "1T", 1ull << 40 },
	};
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(volume_parse_size(good[i].text, &v), 0);
		assert_int_equal(v, good[i].bytes);
	}
	assert_int_equal(volume_parse_size("1.5G", &v), -EINVAL);
	assert_int_equal(volume_parse_size("18446744073709551617", &v), -EINVAL);
	assert_int_equal(volume_parse_size("1025T", &v), -EINVAL);
}

static void lists_have_parents_first_and_no_doubles(void **state)
{
	static const char *const texts[] = { "/1:/a/b/c", "/2:/a", "/3:/a/b", "/4:/z" };
	struct volume_list l = { .n = 0 };
	struct volume v;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		assert_int_equal(volume_parse(texts[i], false, &v, NULL), 0);
		assert_int_equal(volume_list_add(&l, &v, NULL), 0);
	}
	assert_int_equal(volume_parse("/5://a//b/", false, &v, NULL), 0);
	assert_int_equal(volume_list_add(&l, &v, NULL), -EEXIST);
	volume_list_sort(&l);
	assert_string_equal(l.v[2].guest, "/a/b");
	assert_string_equal(l.v[3].guest, "/a/b/c");
	volume_list_fini(&l);
	for (unsigned i = 0; i < VOLUMES_MAX; i++) {
		char text[32];

		snprintf(text, sizeof(text), "/x:/v%u", i);
		assert_int_equal(volume_parse(text, false, &v, NULL), 0);
		assert_int_equal(volume_list_add(&l, &v, NULL), 0);
	}
	assert_int_equal(volume_parse("/x:/more", false, &v, NULL), 0);
	assert_int_equal(volume_list_add(&l, &v, NULL), -E2BIG);
	volume_list_fini(&l);
}

/* ---- messages ------------------------------------------------------------- */

static size_t message(uint8_t *p, uint32_t opcode, const void *body, size_t n)
{
	struct fuse_in_header h = { .len = (uint32_t)(sizeof(h) + n),
				    .opcode = opcode,
				    .unique = 9,
				    .nodeid = 1,
				    .uid = 5 };

	memcpy(p, &h, sizeof(h));
	memcpy(p + sizeof(h), body, n);
	return sizeof(h) + n;
}

static int parse(uint32_t opcode, const void *body, size_t n, struct request *r)
{
	static uint8_t p[8192];
	size_t len = message(p, opcode, body, n);

	return request_parse(p, len, r);
}

static void messages_are_read(void **state)
{
	struct fuse_write_in w = { .fh = 3, .offset = 10, .size = 5 };
	uint8_t body[sizeof(w) + 5];
	struct request r;

	(void)state;
	/* LOOKUP of "abc" as Linux 6.1 sends it. */
	static const uint8_t lookup[] =
		"\x2c\0\0\0\1\0\0\0\2\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\xe8\3\0\0"
		"\xe9\3\0\0\7\0\0\0\0\0\0\0abc";
	assert_int_equal(request_parse(lookup, sizeof(lookup), &r), 0);
	assert_int_equal(r.h.uid, 1000);
	assert_int_equal(r.h.gid, 1001);
	assert_string_equal(r.name, "abc");

	memcpy(body, &w, sizeof(w));
	memcpy(body + sizeof(w), "hello", 5);
	assert_int_equal(parse(FUSE_WRITE, body, sizeof(body), &r), 0);
	assert_int_equal(r.a.write.offset, 10);
	assert_memory_equal(r.data, "hello", 5);
	assert_int_equal(parse(FUSE_WRITE, body, sizeof(body) - 1, &r), -EINVAL);

	assert_int_equal(parse(FUSE_RENAME, "\1\0\0\0\0\0\0\0a\0b", 12, &r), 0);
	assert_int_equal(r.a.rename.newdir, 1);
	assert_int_equal(r.a.rename.flags, 0);
	assert_string_equal(r.name2, "b");
	assert_int_equal(parse(FUSE_SYMLINK, "l\0../t", 7, &r), 0);
	assert_string_equal(r.name2, "../t");
}

static void hostile_messages_are_refused(void **state)
{
	static const struct {
		uint32_t opcode;
		const char *body;
		size_t n;
		int rc;
	} bad[] = {
		{ FUSE_LOOKUP, "", 0, -EINVAL },
		{ FUSE_LOOKUP, "a", 1, -EINVAL },
		{ FUSE_LOOKUP, "", 1, -EINVAL },
		{ FUSE_LOOKUP, ".", 2, -EINVAL },
		{ FUSE_LOOKUP, "..", 3, -EINVAL },
		{ FUSE_LOOKUP, "a/b", 4, -EINVAL },
		{ FUSE_LOOKUP, "/", 2, -EINVAL },
		{ FUSE_LOOKUP, "a\0b", 4, -EINVAL },
		{ FUSE_UNLINK, "../x", 5, -EINVAL },
		{ FUSE_RENAME, "\1\0\0\0\0\0\0\0a\0..", 13, -EINVAL },
		{ FUSE_RENAME, "\1\0\0\0\0\0\0\0a", 10, -EINVAL },
		{ FUSE_BATCH_FORGET, "\2\0\0\0\0\0\0\0................", 24, -EINVAL },
		{ FUSE_BATCH_FORGET, "\xff\xff\xff\xff\0\0\0\0", 8, -EINVAL },
		{ FUSE_SETXATTR, "\4\0\0\0\0\0\0\0user.a\0abc", 18, -EINVAL },
		{ FUSE_FORGET, "\1\0\0\0", 4, -EINVAL },
		{ FUSE_STATFS, "x", 1, -EINVAL },
		{ FUSE_IOCTL, "", 0, -ENOSYS },
		{ FUSE_SETLK, "", 0, -ENOSYS },
		{ 0, "", 0, -ENOSYS },
		{ 0xffffffff, "", 0, -ENOSYS },
	};
	static uint8_t p[8192];
	struct request r;
	size_t n;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse(bad[i].opcode, bad[i].body, bad[i].n, &r), bad[i].rc);
	n = message(p, FUSE_STATFS, "", 0);
	assert_int_equal(request_parse(p, n, &r), 0);
	assert_int_equal(request_parse(p, n - 1, &r), -EPROTO);
	assert_int_equal(request_parse(p, n + 1, &r), -EPROTO);
	assert_int_equal(request_parse(p, 0, &r), -EPROTO);
	memset(p + sizeof(struct fuse_in_header), 'x', 300);
	p[sizeof(struct fuse_in_header) + 256] = 0;
	message(p, FUSE_LOOKUP, p + sizeof(struct fuse_in_header), 257);
	assert_int_equal(request_parse(p, sizeof(struct fuse_in_header) + 257, &r), -ENAMETOOLONG);
}

static void wire_header(void **state)
{
	uint8_t p[VOLUME_WIRE_HEADER];
	struct volume_wire w;

	(void)state;
	volume_wire_put(p, (struct volume_wire){ 0x01020304, 5, VOLUME_WIRE_OPEN });
	assert_memory_equal(p, "\4\3\2\1\5\0\1\0", sizeof(p));
	w = volume_wire_get(p);
	assert_int_equal(w.length, 0x01020304);
	assert_int_equal(w.volume, 5);
	assert_int_equal(w.type, VOLUME_WIRE_OPEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(spec_forms),
		TEST(spec_refusals),
		TEST(sizes),
		TEST(lists_have_parents_first_and_no_doubles),
		TEST(messages_are_read),
		TEST(hostile_messages_are_refused),
		TEST(wire_header),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
