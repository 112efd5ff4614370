/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of a sandbox: small ones through sandbox.fs.*, as base64 in JSON; any size through
 * /api/v1/sandboxes/NAME/files, as they are.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capi/internal.h"

/* Which members of struct msb_fs a function has. */
enum {
	FS_RANGE = 1, /* offset, length */
	FS_MODE = 2,
	FS_WRITE = 4, /* append, exclusive */
	FS_PARENTS = 8,
	FS_RECURSIVE = 16,
	FS_FOLLOW = 32,
};

struct msb_files {
	json_t *o; /* keeps all texts below */
	struct msb_file *items;
	size_t n;
};

/* ---- answers ---- */

static int files_take(struct msb_file *f, const json_t *o, struct msb_error **err)
{
	int64_t mode = -1, uid = -1, gid = -1;
	int rc = 0;

	*f = (struct msb_file){ .size = -1, .mtime = NAN };
	rc = rc ? rc : capi_get_text(o, "name", &f->name, err);
	rc = rc ? rc : capi_get_text(o, "path", &f->path, err);
	rc = rc ? rc : capi_get_text(o, "type", &f->type, err);
	rc = rc ? rc : capi_opt_integer(o, "mode", &mode, err);
	rc = rc ? rc : capi_opt_integer(o, "uid", &uid, err);
	rc = rc ? rc : capi_opt_integer(o, "gid", &gid, err);
	rc = rc ? rc : capi_opt_integer(o, "size", &f->size, err);
	rc = rc ? rc : capi_opt_number(o, "mtime", &f->mtime, err);
	rc = rc ? rc : capi_opt_text(o, "target", &f->target, err);
	if (rc)
		return rc;
	if (mode < 0 || mode > 07777)
		return capi_bad_member("mode", err);
	if (uid < 0 || uid > UINT32_MAX)
		return capi_bad_member("uid", err);
	if (gid < 0 || gid > UINT32_MAX)
		return capi_bad_member("gid", err);
	if (f->size < 0)
		return capi_bad_member("size", err);
	if (isnan(f->mtime))
		return capi_bad_member("mtime", err);
	f->mode = (uint32_t)mode;
	f->uid = (uint32_t)uid;
	f->gid = (uint32_t)gid;
	return 0;
}

/* Takes over @array. */
static int files_new(struct msb_files **out, json_t *array, struct msb_error **err)
{
	struct msb_files *f = calloc(1, sizeof(*f));
	int rc = 0;

	if (!f || !array) {
		free(f);
		json_decref(array);
		return capi_no_memory(err);
	}
	f->o = array;
	f->n = json_array_size(array);
	f->items = calloc(f->n + 1, sizeof(*f->items));
	if (!f->items)
		rc = capi_no_memory(err);
	for (size_t i = 0; i < f->n && !rc; i++)
		rc = files_take(&f->items[i], json_array_get(array, i), err);
	if (rc)
		msb_files_free(f);
	else
		*out = f;
	return rc;
}

/* Takes over @o, one FileInfo; @out may be NULL. */
static int files_one(struct msb_files **out, json_t *o, struct msb_error **err)
{
	struct msb_files *f;
	int rc = files_new(&f, json_pack("[o]", o), err);

	if (rc)
		return rc;
	if (out)
		*out = f;
	else
		msb_files_free(f);
	return 0;
}

size_t msb_files_count(const struct msb_files *f)
{
	return f->n;
}

const struct msb_file *msb_files_item(const struct msb_files *f, size_t i)
{
	return i < f->n ? &f->items[i] : NULL;
}

void msb_files_free(struct msb_files *f)
{
	if (!f)
		return;
	free(f->items);
	json_decref(f->o);
	free(f);
}

/* ---- requests ---- */

static int files_options(struct msb_fs *to, const struct msb_fs *from, unsigned has,
			 struct msb_error **err)
{
	const char *bad = NULL;
	int rc = capi_options(to, sizeof(*to), from, "msb_fs", err);

	if (rc)
		return rc;
	if (!(has & FS_RANGE) && (to->offset || to->length))
		bad = "offset and length are";
	if (!(has & FS_MODE) && to->mode)
		bad = "mode is";
	if (!(has & FS_WRITE) && (to->append || to->exclusive))
		bad = "append and exclusive are";
	if (!(has & FS_PARENTS) && to->parents)
		bad = "parents is";
	if (!(has & FS_RECURSIVE) && to->recursive)
		bad = "recursive is";
	if (!(has & FS_FOLLOW) && to->follow)
		bad = "follow is";
	if (bad)
		return capi_fail(err, MSB_ERR_ARGUMENT, "struct msb_fs: %s not for this function",
				 bad);
	if (to->mode > 07777)
		return capi_fail(err, MSB_ERR_ARGUMENT, "mode %o has more than permission bits",
				 to->mode);
	if (to->offset > INT64_MAX || to->length > INT64_MAX)
		return capi_fail(err, MSB_ERR_ARGUMENT, "offset or length is too large");
	return 0;
}

static int files_params(struct msb_sandbox *sb, const char *path, const struct msb_fs *fs,
			json_t **out, struct msb_error **err)
{
	json_t *o = NULL;
	int rc = capi_check_started(sb, err);

	rc = rc ? rc : capi_need(path, "path", err);
	rc = rc ? rc : capi_sandbox_params(sb, &o, err);
	rc = rc ? rc : capi_set_text(o, "path", path, err);
	rc = rc ? rc : capi_set_text(o, "user", fs->user, err);
	if (!rc && fs->offset)
		rc = capi_set(o, "offset", json_integer((json_int_t)fs->offset), err);
	if (!rc && fs->length)
		rc = capi_set(o, "length", json_integer((json_int_t)fs->length), err);
	if (!rc && fs->mode)
		rc = capi_set(o, "mode", json_integer(fs->mode), err);
	if (!rc && fs->append)
		rc = capi_set(o, "append", json_true(), err);
	if (!rc && fs->exclusive)
		rc = capi_set(o, "exclusive", json_true(), err);
	if (!rc && fs->parents)
		rc = capi_set(o, "parents", json_true(), err);
	if (!rc && fs->recursive)
		rc = capi_set(o, "recursive", json_true(), err);
	if (!rc && fs->follow)
		rc = capi_set(o, "follow", json_boolean(fs->follow > 0), err);
	if (rc)
		json_decref(o);
	else
		*out = o;
	return rc;
}

/* A call with the options that @has says. *@result: the caller's. */
static int files_call(struct msb_sandbox *sb, const char *method, const char *path,
		      const struct msb_fs *given, unsigned has, json_t *more,
		      struct msb_cancel *cancel, json_t **result, struct msb_error **err)
{
	struct msb_fs fs;
	json_t *params = NULL;
	int rc = files_options(&fs, given, has, err);

	rc = rc ? rc : files_params(sb, path, &fs, &params, err);
	if (!rc && more && json_object_update(params, more)) {
		json_decref(params);
		rc = capi_no_memory(err);
	}
	json_decref(more);
	/* Slow disks and large files: as long as it takes. */
	return rc ? rc
		  : capi_call(capi_sandbox_client(sb), method, params, HUGE_VAL, cancel, result,
			      err);
}

/* One that answers with a FileInfo. */
static int files_call_one(struct msb_sandbox *sb, const char *method, const char *path,
			  const struct msb_fs *fs, unsigned has, json_t *more,
			  struct msb_cancel *cancel, struct msb_files **out, struct msb_error **err)
{
	json_t *o = NULL;
	int rc = files_call(sb, method, path, fs, has, more, cancel, &o, err);

	return rc ? rc : files_one(out, o, err);
}

int msb_fs_read(struct msb_sandbox *sb, const char *path, const struct msb_fs *fs,
		struct msb_cancel *cancel, void **data, size_t *len, struct msb_error **err)
{
	json_t *more = json_pack("{s:s}", "encoding", "base64"), *o = NULL;
	const char *encoding = NULL, *content = NULL;
	uint8_t *bytes;
	size_t n;
	int rc;

	if (!more)
		return capi_no_memory(err);
	rc = files_call(sb, "sandbox.fs.read", path, fs, FS_RANGE, more, cancel, &o, err);
	rc = rc ? rc : capi_get_text(o, "content", &content, err);
	rc = rc ? rc : capi_get_text(o, "encoding", &encoding, err);
	if (!rc && strcmp(encoding, "base64"))
		rc = capi_bad_member("encoding", err);
	if (!rc) {
		n = json_string_length(json_object_get(o, "content"));
		switch (capi_base64_decode(content, n, &bytes, &n)) {
		case 0:
			*data = bytes;
			*len = n;
			break;
		case -ENOMEM:
			rc = capi_no_memory(err);
			break;
		default:
			rc = capi_bad_member("content", err);
		}
	}
	json_decref(o);
	return rc;
}

int msb_fs_write(struct msb_sandbox *sb, const char *path, const void *data, size_t len,
		 const struct msb_fs *fs, struct msb_cancel *cancel, struct msb_files **out,
		 struct msb_error **err)
{
	auto_free char *text = NULL;
	json_t *more;

	if (len > CAPI_FILE_MAX)
		return capi_fail(
			err, MSB_ERR_ARGUMENT,
			"%zu bytes are more than msb_fs_write() takes (%zu): use msb_fs_put()", len,
			CAPI_FILE_MAX);
	text = capi_base64_encode(data, len);
	more = text ? json_pack("{s:s, s:s}", "content", text, "encoding", "base64") : NULL;
	if (!more)
		return capi_no_memory(err);
	return files_call_one(sb, "sandbox.fs.write", path, fs, FS_MODE | FS_WRITE | FS_PARENTS,
			      more, cancel, out, err);
}

int msb_fs_list(struct msb_sandbox *sb, const char *path, const struct msb_fs *fs,
		struct msb_cancel *cancel, struct msb_files **out, struct msb_error **err)
{
	json_t *o = NULL, *entries;
	int rc = files_call(sb, "sandbox.fs.list", path, fs, 0, NULL, cancel, &o, err);

	rc = rc ? rc : capi_get_array(o, "entries", &entries, err);
	rc = rc ? rc : files_new(out, json_incref(entries), err);
	json_decref(o);
	return rc;
}

int msb_fs_stat(struct msb_sandbox *sb, const char *path, const struct msb_fs *fs,
		struct msb_cancel *cancel, struct msb_files **out, struct msb_error **err)
{
	return files_call_one(sb, "sandbox.fs.stat", path, fs, FS_FOLLOW, NULL, cancel, out, err);
}

int msb_fs_mkdir(struct msb_sandbox *sb, const char *path, const struct msb_fs *fs,
		 struct msb_cancel *cancel, struct msb_files **out, struct msb_error **err)
{
	return files_call_one(sb, "sandbox.fs.mkdir", path, fs, FS_MODE | FS_PARENTS, NULL, cancel,
			      out, err);
}

int msb_fs_remove(struct msb_sandbox *sb, const char *path, const struct msb_fs *fs,
		  struct msb_cancel *cancel, struct msb_files **out, struct msb_error **err)
{
	return files_call_one(sb, "sandbox.fs.remove", path, fs, FS_RECURSIVE, NULL, cancel, out,
			      err);
}

int msb_fs_rename(struct msb_sandbox *sb, const char *path, const char *to, const struct msb_fs *fs,
		  struct msb_cancel *cancel, struct msb_files **out, struct msb_error **err)
{
	json_t *more = json_object();
	int rc = more ? capi_need(to, "to", err) : capi_no_memory(err);

	rc = rc ? rc : capi_set_text(more, "to", to, err);
	if (rc) {
		json_decref(more);
		return rc;
	}
	return files_call_one(sb, "sandbox.fs.rename", path, fs, 0, more, cancel, out, err);
}

/* ---- streams ---- */

/* malloc()ed; NULL: no memory. */
static char *files_stream_path(struct msb_sandbox *sb, const char *path, const struct msb_fs *fs)
{
	char *p = capi_path_add(capi_sandbox_path(sb, "files"), "path", path);
	char number[32];

	p = capi_path_add(p, "user", fs->user);
	snprintf(number, sizeof(number), "%" PRIu64, fs->offset);
	p = capi_path_add(p, "offset", fs->offset ? number : NULL);
	snprintf(number, sizeof(number), "%" PRIu64, fs->length);
	p = capi_path_add(p, "length", fs->length ? number : NULL);
	snprintf(number, sizeof(number), "%04o", fs->mode);
	p = capi_path_add(p, "mode", fs->mode ? number : NULL);
	p = capi_path_add(p, "append", fs->append ? "1" : NULL);
	p = capi_path_add(p, "exclusive", fs->exclusive ? "1" : NULL);
	return capi_path_add(p, "parents", fs->parents ? "1" : NULL);
}

struct files_sink {
	msb_sink_fn *sink;
	void *context;
};

static int files_on_data(void *context, const void *data, size_t len, struct msb_error **err)
{
	struct files_sink *s = context;

	if (!s->sink(s->context, data, len))
		return 0;
	return capi_fail(err, MSB_ERR_CANCELLED, "the receiver of the data gave up");
}

/* Prepares, carries out, and leaves the answer in @x for the caller to free. */
static int files_stream(struct msb_sandbox *sb, const char *path, const struct msb_fs *fs,
			struct capi_exchange *x, struct msb_error **err)
{
	auto_free char *url = NULL;
	int rc = capi_check_started(sb, err);

	rc = rc ? rc : capi_need(path, "path", err);
	if (rc)
		return rc;
	url = files_stream_path(sb, path, fs);
	if (!url)
		return capi_no_memory(err);
	x->path = url;
	rc = capi_exchange(capi_sandbox_client(sb), x, err);
	x->path = NULL;
	if (!rc && x->status != 200 && x->status != 201)
		rc = capi_refused(x->status, buf_data(&x->answer), buf_len(&x->answer), err);
	return rc;
}

int msb_fs_get(struct msb_sandbox *sb, const char *path, const struct msb_fs *given,
	       msb_sink_fn *sink, void *context, struct msb_cancel *cancel, struct msb_error **err)
{
	struct files_sink s = { .sink = sink, .context = context };
	struct capi_exchange x = {
		.method = "GET",
		.what = "GET files",
		.accept = "application/octet-stream, application/json",
		.limit = HUGE_VAL,
		.cancel = cancel,
		.take = files_on_data,
		.take_context = &s,
		.answer = BUF_INIT,
	};
	struct msb_fs fs;
	int rc = files_options(&fs, given, FS_RANGE, err);

	if (!rc && !sink)
		rc = capi_fail(err, MSB_ERR_ARGUMENT, "no sink is given");
	rc = rc ? rc : files_stream(sb, path, &fs, &x, err);
	buf_fini(&x.answer);
	return rc;
}

int msb_fs_put(struct msb_sandbox *sb, const char *path, const struct msb_fs *given, int64_t length,
	       msb_source_fn *source, void *context, struct msb_cancel *cancel,
	       struct msb_files **out, struct msb_error **err)
{
	struct capi_exchange x = {
		.method = "PUT",
		.what = "PUT files",
		.accept = "application/json",
		.content_type = "application/octet-stream",
		.source = source,
		.source_context = context,
		.length = length,
		.limit = HUGE_VAL,
		.cancel = cancel,
		.answer = BUF_INIT,
	};
	struct msb_fs fs;
	json_t *o;
	int rc = files_options(&fs, given, FS_MODE | FS_WRITE | FS_PARENTS, err);

	if (!rc && (!source || length < -1))
		rc = capi_fail(err, MSB_ERR_ARGUMENT, "no source is given, or no proper length");
	rc = rc ? rc : files_stream(sb, path, &fs, &x, err);
	if (!rc) {
		o = json_loadb(buf_len(&x.answer) ? (const char *)buf_data(&x.answer) : "",
			       buf_len(&x.answer), JSON_ALLOW_NUL, NULL);
		rc = o ? files_one(out, o, err)
		       : capi_fail(err, MSB_ERR_INVALID_RESPONSE,
				   "the server's answer to PUT files is no JSON");
	}
	buf_fini(&x.answer);
	return rc;
}
