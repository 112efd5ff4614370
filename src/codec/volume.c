/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/volume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define VOLUME_ADVICE "give HOST:GUEST[:ro], as in ./src:/src:ro"
#define VOLUME_TMPFS_ADVICE "give an absolute path, as in /scratch or /scratch:size=64M"
#define VOLUME_SIZE_MAX (1ull << 50)

void volume_fini(struct volume *v)
{
	free(v->source);
	free(v->guest);
	free(v->owner);
	*v = (struct volume){ .source = NULL };
}

void volume_list_fini(struct volume_list *l)
{
	for (unsigned i = 0; i < l->n; i++)
		volume_fini(&l->v[i]);
	l->n = 0;
}

bool volume_name_valid(const char *name)
{
	static const char first[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	static const char rest[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
	size_t n = strlen(name);

	return n && n <= VOLUME_NAME_MAX && strchr(first, name[0]) && strspn(name, rest) == n;
}

int volume_parse_size(const char *text, uint64_t *out)
{
	uint64_t v = 0;
	unsigned shift = 20;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		v = v * 10 + (uint64_t)(*p - '0');
		if (v > VOLUME_SIZE_MAX)
			return -EINVAL;
	}
	if (p == text)
		return -EINVAL;
	if (*p) {
		static const char units[] = "bkmgt";
		const char *u = strchr(units, *p | 0x20);

		if (!u || p[1])
			return -EINVAL;
		shift = (unsigned)(u - units) * 10;
	}
	if (!v || v > VOLUME_SIZE_MAX >> shift)
		return -EINVAL;
	*out = v << shift;
	return 0;
}

/* Is @path this directory of the kernel's, or in it? */
static bool volume_inside(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (!path[n] || path[n] == '/');
}

int volume_guest_path(const char *path, char **out, struct err *e)
{
	static const char *const kernel[] = { "/proc", "/sys", "/dev" };
	auto_free char *to = NULL;
	size_t len = 0;

	if (path[0] != '/')
		return err_set(e, EINVAL, "the path in the sandbox, '%.200s', is not absolute",
			       path);
	if (strlen(path) > VOLUME_PATH_MAX)
		return err_set(e, EINVAL, "the path in the sandbox has more than %u bytes",
			       VOLUME_PATH_MAX);
	to = malloc(strlen(path) + 2);
	if (!to)
		return err_errno(e, ENOMEM, "volume");
	for (const char *p = path; *p;) {
		size_t n;

		p += strspn(p, "/");
		n = strcspn(p, "/");
		if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return err_set(e, EINVAL,
				       "the path in the sandbox, '%.200s', has '.' or '..' in it",
				       path);
		if (!n)
			break;
		to[len++] = '/';
		memcpy(to + len, p, n);
		len += n;
		p += n;
	}
	to[len] = '\0';
	if (!len)
		return err_set(e, EINVAL, "a volume cannot take the place of the whole image ('/')");
	for (size_t i = 0; i < ARRAY_SIZE(kernel); i++)
		if (volume_inside(to, kernel[i]))
			return err_set(e, EINVAL, "'%.200s' is in %s, which is the kernel's", to,
				       kernel[i]);
	*out = take_ptr(&to);
	return 0;
}

static int volume_option(const char *o, struct volume *v, bool *mode_said, struct err *e)
{
	bool tmpfs = v->kind == VOLUME_TMPFS;

	if (!strcmp(o, "ro") || !strcmp(o, "rw")) {
		if (tmpfs && o[1] == 'o')
			return err_set(e, EINVAL, "an empty tmpfs that is read-only is of no use");
		if (*mode_said)
			return err_set(e, EINVAL, "ro or rw is given twice");
		*mode_said = true;
		v->readonly = o[1] == 'o';
		return 0;
	}
	if (tmpfs && !strncmp(o, "size=", 5)) {
		if (v->size)
			return err_set(e, EINVAL, "size is given twice");
		if (volume_parse_size(o + 5, &v->size))
			return err_set(e, EINVAL, "'%.100s': give a size such as 64M or 1G", o);
		return 0;
	}
	if (!tmpfs && !strncmp(o, "owner=", 6)) {
		size_t n = strlen(o + 6);

		if (v->owner)
			return err_set(e, EINVAL, "owner is given twice");
		if (!n || n > VOLUME_OWNER_MAX)
			return err_set(e, EINVAL, "'%.100s': give a user of the sandbox", o);
		v->owner = strdup(o + 6);
		return v->owner ? 0 : err_errno(e, ENOMEM, "volume");
	}
	return err_set(e, EINVAL, "unknown option '%.100s': there are %s", o,
		       tmpfs ? "rw and size=SIZE" : "ro, rw and owner=USER");
}

static int volume_options(char *text, struct volume *v, struct err *e)
{
	bool mode_said = false;
	char *save = NULL;
	int rc = 0;

	if (!*text)
		return err_set(e, EINVAL, "nothing stands behind the last colon");
	for (char *o = strtok_r(text, ",", &save); o && !rc; o = strtok_r(NULL, ",", &save))
		rc = volume_option(o, v, &mode_said, e);
	return rc;
}

static int volume_source(const char *source, struct volume *v, struct err *e)
{
	if (strlen(source) > VOLUME_PATH_MAX)
		return err_set(e, EINVAL, "the host's path has more than %u bytes", VOLUME_PATH_MAX);
	v->kind = strchr(source, '/') || source[0] == '.' ? VOLUME_HOST : VOLUME_NAMED;
	if (v->kind == VOLUME_NAMED && !volume_name_valid(source))
		return err_set(e, EINVAL,
			       "'%.100s' is neither a name of a volume nor a path: write ./%.100s "
			       "for a directory beside you",
			       source, source);
	v->source = strdup(source);
	return v->source ? 0 : err_errno(e, ENOMEM, "volume");
}

/* Is this the beginning of options rather than a path? */
static bool volume_is_options(const char *text)
{
	size_t n = strcspn(text, ",");

	return (n == 2 && text[0] == 'r' && (text[1] == 'o' || text[1] == 'w')) ||
	       !strncmp(text, "owner=", 6);
}

/* @text is cut to pieces. */
static int volume_parse_parts(char *text, bool tmpfs, struct volume *v, struct err *e)
{
	char *first = text, *second = NULL, *third = NULL;
	char *colon = strchr(text, ':');
	int rc;

	if (colon) {
		*colon = '\0';
		second = colon + 1;
		colon = strchr(second, ':');
		if (colon) {
			*colon = '\0';
			third = colon + 1;
		}
	}
	if (!*first)
		return err_set(e, EINVAL, "the first path is empty");
	/* PATH:OPTIONS: what stands behind the colon is no path. */
	if (tmpfs || !second || (!third && volume_is_options(second))) {
		if (third)
			return err_set(e, EINVAL, "one colon too many");
		third = second;
		second = first;
	}
	if (tmpfs)
		v->kind = VOLUME_TMPFS;
	else if ((rc = volume_source(first, v, e)))
		return rc;
	if (!*second)
		return err_set(e, EINVAL, "the path in the sandbox is empty");
	if (second == first && first[0] != '/' && !tmpfs)
		return err_set(e, EINVAL, "where in the sandbox is it to be?");
	rc = volume_guest_path(second, &v->guest, e);
	return rc || !third ? rc : volume_options(third, v, e);
}

int volume_parse(const char *text, bool tmpfs, struct volume *out, struct err *e)
{
	auto_free char *copy = strdup(text);
	struct volume v = { .source = NULL };
	int rc;

	if (!copy)
		return err_errno(e, ENOMEM, "volume");
	rc = volume_parse_parts(copy, tmpfs, &v, e);
	if (rc) {
		volume_fini(&v);
		err_wrap(e, "%s '%.300s' (%s)", tmpfs ? "tmpfs" : "volume", text,
			 tmpfs ? VOLUME_TMPFS_ADVICE : VOLUME_ADVICE);
		return rc;
	}
	*out = v;
	return 0;
}

int volume_list_add(struct volume_list *l, struct volume *v, struct err *e)
{
	int rc = 0;

	if (l->n == VOLUMES_MAX)
		rc = err_set(e, E2BIG, "more than %u volumes", VOLUMES_MAX);
	for (unsigned i = 0; i < l->n && !rc; i++)
		if (!strcmp(l->v[i].guest, v->guest))
			rc = err_set(e, EEXIST, "two volumes are to be at %.300s in the sandbox",
				     v->guest);
	if (rc) {
		volume_fini(v);
		return rc;
	}
	l->v[l->n++] = *v;
	*v = (struct volume){ .source = NULL };
	return 0;
}

static int volume_compare(const void *a, const void *b)
{
	/* A path is longer than those that it is in. */
	size_t x = strlen(((const struct volume *)a)->guest);
	size_t y = strlen(((const struct volume *)b)->guest);

	return x < y ? -1 : x > y;
}

void volume_list_sort(struct volume_list *l)
{
	qsort(l->v, l->n, sizeof(l->v[0]), volume_compare);
}
