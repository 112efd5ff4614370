/* SPDX-License-Identifier: Apache-2.0 */
#include "server/file_info.h"

#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "codec/utf8.h"

json_t *file_info_text(const void *p, size_t n)
{
	struct buf clean = BUF_INIT;
	json_t *text = NULL;

	if (!utf8_clean(&clean, p, n))
		text = json_stringn(n ? (const char *)buf_data(&clean) : "", buf_len(&clean));
	buf_fini(&clean);
	return text;
}

static const char *file_info_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFBLK:
		return "block";
	case S_IFCHR:
		return "char";
	default:
		return "file";
	}
}

json_int_t file_info_size(uint64_t size)
{
	return size > INT64_MAX ? INT64_MAX : (json_int_t)size;
}

/* @name and @path are taken over. */
static json_t *file_info_pack(json_t *name, json_t *path, const struct frame_dirent *d)
{
	return json_pack("{s:o, s:o, s:s, s:I, s:I, s:I, s:I, s:f}", "name", name, "path", path,
			 "type", file_info_type(d->mode), "mode", (json_int_t)(d->mode & 07777),
			 "uid", (json_int_t)d->uid, "gid", (json_int_t)d->gid, "size",
			 file_info_size(d->size), "mtime", (double)d->mtime_ns / 1e9);
}

/* The last component of a path; of "/" that. */
static json_t *file_info_name(const char *path)
{
	size_t n = strlen(path), from;

	while (n > 1 && path[n - 1] == '/')
		n--;
	for (from = n; from && path[from - 1] != '/';)
		from--;
	return n == 1 && *path == '/' ? json_string("/") : file_info_text(path + from, n - from);
}

json_t *file_info(const char *path, const struct frame_file_done *d)
{
	const struct frame_dirent e = {
		.mode = d->mode,
		.uid = d->uid,
		.gid = d->gid,
		.size = d->size,
		.mtime_ns = d->mtime_ns,
	};
	json_t *info = file_info_pack(file_info_name(path), file_info_text(path, strlen(path)), &e);

	if (info && S_ISLNK(d->mode) &&
	    json_object_set_new(info, "target", file_info_text(d->target.p, d->target.len))) {
		json_decref(info);
		info = NULL;
	}
	return info;
}

json_t *file_info_entry(const char *dir, const struct frame_dirent *d)
{
	size_t len = strlen(dir);
	struct buf path = BUF_INIT;
	json_t *info = NULL;

	while (len && dir[len - 1] == '/')
		len--;
	if (!buf_append(&path, dir, len) && !buf_append(&path, "/", 1) &&
	    !buf_append(&path, d->name.p, d->name.len))
		info = file_info_pack(file_info_text(d->name.p, d->name.len),
				      file_info_text(buf_data(&path), buf_len(&path)), d);
	buf_fini(&path);
	return info;
}

json_t *file_info_error(const char *path, int code)
{
	const char *name = strerrorname_np(code);

	return json_pack("{s:s, s:o}", "errno", name ? name : "EIO", "path",
			 file_info_text(path, strlen(path)));
}
