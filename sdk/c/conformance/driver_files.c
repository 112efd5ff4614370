/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a sandbox, and the data that requests and answers have. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

/* ---- bytes and texts ---- */

void driver_add(struct bytes *b, const void *p, size_t n)
{
	if (b->n + n >= b->room) {
		b->room = 2 * (b->n + n) + 64;
		b->p = realloc(b->p, b->room);
	}
	if (!b->p)
		abort();
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
	b->p[b->n] = '\0';
}

static const char driver_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

json_t *driver_base64(const struct bytes *b)
{
	const unsigned char *p = (const unsigned char *)b->p;
	char *text = malloc(b->n / 3 * 4 + 5), *to = text;
	json_t *o;

	for (size_t i = 0; i < b->n; i += 3) {
		size_t left = b->n - i;
		uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
			     (left > 2 ? p[i + 2] : 0);

		*to++ = driver_digits[v >> 18];
		*to++ = driver_digits[v >> 12 & 63];
		*to++ = left > 1 ? driver_digits[v >> 6 & 63] : '=';
		*to++ = left > 2 ? driver_digits[v & 63] : '=';
	}
	o = json_stringn(text, (size_t)(to - text));
	free(text);
	return o;
}

struct bytes driver_data(const json_t *q, const char *plain, const char *binary)
{
	const json_t *text = json_object_get(q, plain);
	const char *coded = driver_get(q, binary);
	struct bytes b = { .n = 0 };
	uint32_t v = 0;
	unsigned bits = 0;

	driver_add(&b, "", 0);
	if (!coded) {
		driver_add(&b, json_string_value(text), json_string_length(text));
		return b;
	}
	for (; *coded && *coded != '='; coded++) {
		unsigned char byte;

		v = v << 6 | (uint32_t)(strchr(driver_digits, *coded) - driver_digits);
		bits += 6;
		if (bits < 8)
			continue;
		bits -= 8;
		byte = (unsigned char)(v >> bits);
		driver_add(&b, &byte, 1);
	}
	return b;
}

/* Length of the character at @p; 0: it is not complete; below 0: so many bytes are none. */
static int driver_character(const unsigned char *p, size_t n)
{
	unsigned char low = 0x80, high = 0xbf;
	int want = p[0] < 0x80   ? 1
		   : p[0] < 0xc2 ? 0
		   : p[0] < 0xe0 ? 2
		   : p[0] < 0xf0 ? 3
		   : p[0] < 0xf5 ? 4
				 : 0;

	if (!want)
		return -1;
	if (p[0] == 0xe0)
		low = 0xa0;
	if (p[0] == 0xf0)
		low = 0x90;
	if (p[0] == 0xed)
		high = 0x9f;
	if (p[0] == 0xf4)
		high = 0x8f;
	for (int i = 1; i < want; i++) {
		if ((size_t)i == n)
			return 0;
		if (p[i] < low || p[i] > high)
			return -i;
		low = 0x80;
		high = 0xbf;
	}
	return want;
}

void driver_decode(struct bytes *text, struct bytes *b, bool end)
{
	size_t at = 0;

	while (at < b->n) {
		int n = driver_character((const unsigned char *)b->p + at, b->n - at);

		if (!n && !end)
			break;
		if (n > 0)
			driver_add(text, b->p + at, (size_t)n);
		else
			driver_add(text, "\xef\xbf\xbd", 3);
		at += n > 0 ? (size_t)n : n < 0 ? (size_t)-n : b->n - at;
	}
	b->n -= at;
	if (at)
		memmove(b->p, b->p + at, b->n);
}

/* ---- content of files ---- */

struct sink {
	struct bytes b;
	uint64_t calls, stop_after; /* 0: never */
};

static int driver_sink(void *context, const void *data, size_t len)
{
	struct sink *s = context;

	driver_add(&s->b, data, len);
	return ++s->calls == s->stop_after;
}

/* What tests/conformance/README.md says that upload sends. */
struct pattern {
	uint64_t at, size, chunk, fail_at;
	bool failed;
};

static ptrdiff_t driver_source(void *context, void *buf, size_t room)
{
	struct pattern *p = context;
	unsigned char *to = buf;
	uint64_t n = p->size - p->at;

	if (p->at >= p->fail_at && p->at < p->size) {
		p->failed = true;
		return -1;
	}
	n = n < p->chunk ? n : p->chunk;
	n = n < room ? n : room;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t k = (p->at + i) % 65521;

		to[i] = (unsigned char)(k * 7 + (k >> 8));
	}
	p->at += n;
	return (ptrdiff_t)n;
}

/* Bytes that are there. */
struct memory {
	struct bytes b;
	size_t at;
};

static ptrdiff_t driver_memory(void *context, void *buf, size_t room)
{
	struct memory *m = context;
	size_t n = m->b.n - m->at;

	n = n < room ? n : room;
	if (n)
		memcpy(buf, m->b.p + m->at, n);
	m->at += n;
	return (ptrdiff_t)n;
}

static uint64_t driver_number(const json_t *q, const char *key, uint64_t other)
{
	const json_t *v = json_object_get(q, key);

	return v ? (uint64_t)json_integer_value(v) : other;
}

static uint32_t driver_crc32(const struct bytes *b)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < b->n; i++) {
		crc ^= (unsigned char)b->p[i];
		for (int k = 0; k < 8; k++)
			crc = crc & 1 ? crc >> 1 ^ 0xedb88320 : crc >> 1;
	}
	return ~crc;
}

static json_t *driver_file(const struct msb_file *f)
{
	return json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:f, s:s?}", "name", f->name, "path",
			 f->path, "type", f->type, "mode", (int)f->mode, "uid", (json_int_t)f->uid,
			 "gid", (json_int_t)f->gid, "size", (json_int_t)f->size, "mtime", f->mtime,
			 "target", f->target);
}

/* Frees @f. */
static json_t *driver_one(struct msb_files *f)
{
	json_t *o = driver_file(msb_files_item(f, 0));

	msb_files_free(f);
	return o;
}

/* read_file, read_text, download: all of them msb_fs_get(); and msb_fs_read() itself. */
static int driver_read(const struct request *r, const char *op, const struct msb_fs *fs,
		       json_t **ok, struct msb_error **e)
{
	const char *path = driver_get(r->q, "path");
	struct sink s = { .stop_after = driver_number(r->q, "stop_after", 0) };
	void *data;
	int rc;

	if (strcmp(op, "fs_read")) {
		rc = msb_fs_get(driver_box(r->q), path, fs, driver_sink, &s, r->cancel, e);
	} else {
		rc = msb_fs_read(driver_box(r->q), path, fs, r->cancel, &data, &s.b.n, e);
		s.b.p = rc ? NULL : data;
	}
	if (rc) {
		free(s.b.p);
		return rc;
	}
	if (!strcmp(op, "read_text"))
		*ok = json_stringn(s.b.n ? s.b.p : "", s.b.n);
	else if (!strcmp(op, "download"))
		*ok = json_pack("{s:I, s:I}", "size", (json_int_t)s.b.n, "crc32",
				(json_int_t)driver_crc32(&s.b));
	else
		*ok = driver_base64(&s.b);
	msb_free(s.b.p);
	return 0;
}

/* write_file and upload are msb_fs_put(); and msb_fs_write(). */
static int driver_write(const struct request *r, const char *op, const struct msb_fs *fs,
			json_t **ok, struct msb_error **e)
{
	struct msb_sandbox *sb = driver_box(r->q);
	const char *path = driver_get(r->q, "path");
	struct memory m = { .b = driver_data(r->q, "text", "base64") };
	struct pattern p = { .size = driver_number(r->q, "size", 0) };
	struct msb_files *f = NULL;
	bool unknown = json_is_true(json_object_get(r->q, "unknown"));
	int rc;

	p.chunk = driver_number(r->q, "chunk", 100000);
	p.fail_at = driver_number(r->q, "fail_at", p.size);
	if (!strcmp(op, "upload"))
		rc = msb_fs_put(sb, path, fs, unknown ? -1 : (int64_t)p.size, driver_source, &p,
				r->cancel, &f, e);
	else if (!strcmp(op, "fs_write"))
		rc = msb_fs_write(sb, path, m.b.p, m.b.n, fs, r->cancel, &f, e);
	else
		rc = msb_fs_put(sb, path, fs, (int64_t)m.b.n, driver_memory, &m, r->cancel, &f, e);
	free(m.b.p);
	if (rc && p.failed) {
		msb_error_free(*e);
		*e = NULL;
		*ok = json_pack("{s:s}", "kind", "source");
		return DRIVER_SAID;
	}
	*ok = rc ? NULL : driver_one(f);
	return rc;
}

static void driver_read_fs(struct msb_fs *fs, const json_t *q)
{
	MSB_INIT(fs);
	fs->user = driver_get(q, "user");
	fs->offset = driver_number(q, "offset", 0);
	fs->length = driver_number(q, "length", 0);
	fs->mode = (uint32_t)driver_number(q, "mode", 0);
	fs->append = json_is_true(json_object_get(q, "append"));
	fs->exclusive = json_is_true(json_object_get(q, "exclusive"));
	fs->parents = json_is_true(json_object_get(q, "parents"));
	fs->recursive = json_is_true(json_object_get(q, "recursive"));
	if (json_object_get(q, "follow"))
		fs->follow = json_is_true(json_object_get(q, "follow")) ? 1 : -1;
}

int driver_on_file(const struct request *r, const char *op, json_t **ok, struct msb_error **e)
{
	struct msb_sandbox *sb = driver_box(r->q);
	const char *path = driver_get(r->q, "path");
	struct msb_files *f = NULL;
	struct msb_fs fs;
	int rc;

	driver_read_fs(&fs, r->q);
	if (!strcmp(op, "read_file") || !strcmp(op, "read_text") || !strcmp(op, "download") ||
	    !strcmp(op, "fs_read"))
		return driver_read(r, op, &fs, ok, e);
	if (!strcmp(op, "write_file") || !strcmp(op, "upload") || !strcmp(op, "fs_write"))
		return driver_write(r, op, &fs, ok, e);
	if (!strcmp(op, "list_files")) {
		rc = msb_fs_list(sb, path, &fs, r->cancel, &f, e);
		*ok = rc ? NULL : json_array();
		for (size_t i = 0; !rc && i < msb_files_count(f); i++)
			json_array_append_new(*ok, driver_file(msb_files_item(f, i)));
		msb_files_free(f);
		return rc;
	}
	if (!strcmp(op, "stat"))
		rc = msb_fs_stat(sb, path, &fs, r->cancel, &f, e);
	else if (!strcmp(op, "mkdir"))
		rc = msb_fs_mkdir(sb, path, &fs, r->cancel, &f, e);
	else if (!strcmp(op, "remove"))
		rc = msb_fs_remove(sb, path, &fs, r->cancel, &f, e);
	else if (!strcmp(op, "rename"))
		rc = msb_fs_rename(sb, path, driver_get(r->q, "to"), &fs, r->cancel, &f, e);
	else
		return DRIVER_OTHER;
	*ok = rc ? NULL : driver_one(f);
	return rc;
}
