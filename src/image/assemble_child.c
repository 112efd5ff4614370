/* SPDX-License-Identifier: Apache-2.0 */
/* What runs in the assembler's jail; see assemble.h. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/recipe.h"
#include "image/assemble.h"
#include "image/convert.h"
#include "image/tree.h"
#include "sys/jail.h"

#define FD_IN 0
#define FD_OUT 3
#define FD_REPORT 4
#define FD_RECIPE 5
#define READ_SIZE (256u << 10)
#define JOIN_MAX (32u << 20) /* bytes of all files to be joined */
#define OLDEST 946684800 /* 2000-01-01: zip files cannot say less than 1980 */

static const struct jail_syscall assemble_syscalls[] = {
	{ SYS_read, "the tars" },
	{ SYS_write, "the layer, reports" },
	{ SYS_lseek, "libarchive looks whether it can seek" },
	{ SYS_fstat, "kind of a file" },
	{ SYS_newfstatat, "the C library's fstat()" },
	{ SYS_fcntl, "libarchive looks at the mode of a descriptor" },
	{ SYS_close, "end of the archive" },
	{ SYS_mmap, "memory" },
	{ SYS_mremap, "memory" },
	{ SYS_munmap, "memory" },
	{ SYS_mprotect, "memory arenas of the C library" },
	{ SYS_madvise, "memory given back" },
	{ SYS_brk, "memory" },
	{ SYS_getrandom, "the tree's hash key, the C library" },
	{ SYS_sysinfo, "qsort() asks how much memory there is" },
	{ SYS_futex, "locks of the C library" },
	{ SYS_clock_gettime, "libarchive, where the vDSO has no clock" },
	{ SYS_getpid, "abort()" },
	{ SYS_gettid, "abort()" },
	{ SYS_tgkill, "abort()" },
	{ SYS_rt_sigprocmask, "abort()" },
	{ SYS_rt_sigaction, "abort()" },
	{ SYS_rt_sigreturn, "return from a signal handler" },
	{ SYS_exit_group, "the end" },
	{ JAIL_SYSCALL_END },
};

/* A file whose content goes into a joined one. */
struct joined {
	size_t step;
	char *path, *bytes;
	size_t len;
};

struct assembler {
	struct recipe recipe;
	bool rules; /* a recipe was given */
	struct archive *in, *out;
	struct tree *seen; /* what has been written */
	struct joined *joined;
	size_t n_joined, joined_bytes;
	time_t newest; /* of the packages' files so far: the time of what has none */
	struct err *e;
};

static int assemble_error(struct assembler *a, struct archive *from, const char *what)
{
	return err_set(a->e, archive_errno(from) > 0 ? archive_errno(from) : EIO, "%s: %s", what,
		       archive_error_string(from));
}

/*
 * The name in the image, without leading slash: "./bin/sh" is usr/bin/sh.  Return: 1,
 * or 0 for the root and the merged folders themselves.
 */
static int assemble_name(struct assembler *a, const char *path, char to[TREE_PATH_MAX])
{
	static const char *const merged[] = { "bin", "sbin", "lib", "lib32", "lib64", "libx32" };
	size_t len;

	while (*path == '/' || (path[0] == '.' && (path[1] == '/' || !path[1])))
		path++;
	len = strlen(path);
	while (len && path[len - 1] == '/')
		len--;
	if (!len)
		return 0;
	if (len + 5 > TREE_PATH_MAX)
		return err_set(a->e, EINVAL, "a package has a name of more than 4090 bytes");
	for (size_t i = 0; a->rules && i < ARRAY_SIZE(merged); i++) {
		size_t n = strlen(merged[i]);

		if (strncmp(path, merged[i], n) || (len > n && path[n] != '/'))
			continue;
		if (len == n)
			return 0;
		memcpy(to, "usr/", 4);
		memcpy(to + 4, path, len);
		to[len + 4] = '\0';
		return 1;
	}
	memcpy(to, path, len);
	to[len] = '\0';
	return 1;
}

static int assemble_write_header(struct assembler *a, struct archive_entry *entry)
{
	int rc = archive_write_header(a->out, entry);

	return rc >= ARCHIVE_WARN ? 0 : assemble_error(a, a->out, "write the layer");
}

static int assemble_note(struct assembler *a, const char *name, mode_t type)
{
	struct tree_attr attr = { .mode = type == S_IFLNK ? S_IFREG : type };
	uint32_t inode;

	return tree_add(a->seen, name, strlen(name), &attr, &inode, a->e);
}

/* An entry of our own: owned by root, as old as the newest file so far. */
static int assemble_put(struct assembler *a, const char *name, mode_t mode, const char *target,
			const char *bytes, size_t len)
{
	struct archive_entry *entry = archive_entry_new();
	int rc;

	if (!entry)
		return err_errno(a->e, ENOMEM, "write the layer");
	archive_entry_set_pathname(entry, name);
	archive_entry_set_mode(entry, mode);
	archive_entry_set_mtime(entry, a->newest, 0);
	archive_entry_set_size(entry, (la_int64_t)len);
	if (target)
		archive_entry_set_symlink(entry, target);
	rc = assemble_write_header(a, entry);
	if (!rc && len && archive_write_data(a->out, bytes, len) != (la_ssize_t)len)
		rc = assemble_error(a, a->out, "write the layer");
	archive_entry_free(entry);
	return rc ? rc : assemble_note(a, name, mode & S_IFMT);
}

/* Directories above @name that have not been written (their own entry was left out). */
static int assemble_parents(struct assembler *a, const char *name)
{
	char path[TREE_PATH_MAX];
	int rc = 0;

	for (size_t i = 1; !rc && name[i]; i++) {
		if (name[i] != '/')
			continue;
		memcpy(path, name, i);
		path[i] = '\0';
		if (tree_find(a->seen, path) == TREE_NONE)
			rc = assemble_put(a, path, S_IFDIR | 0755, NULL, NULL, 0);
	}
	return rc;
}

/* Reads the current entry's content. */
static int assemble_slurp(struct assembler *a, size_t len, char **out)
{
	char *p = malloc(len + 1);
	size_t n = 0;

	if (!p)
		return err_errno(a->e, ENOMEM, "read a package");
	while (n < len) {
		la_ssize_t k = archive_read_data(a->in, p + n, len - n);

		if (k <= 0) {
			free(p);
			return assemble_error(a, a->in, "a package is damaged");
		}
		n += (size_t)k;
	}
	*out = p;
	return 0;
}

static int assemble_join_keep(struct assembler *a, size_t step, const char *path, size_t len,
			      const char *bytes)
{
	struct joined *v = reallocarray(a->joined, a->n_joined + 1, sizeof(*v));
	struct joined *j;

	if (!v)
		return err_errno(a->e, ENOMEM, "read a package");
	a->joined = v;
	j = &v[a->n_joined++];
	*j = (struct joined){ .step = step, .len = len };
	j->path = strdup(path);
	j->bytes = malloc(len + 1);
	if (!j->path || !j->bytes)
		return err_errno(a->e, ENOMEM, "read a package");
	memcpy(j->bytes, bytes, len);
	return 0;
}

static int assemble_copy_data(struct assembler *a)
{
	const void *buf;
	la_int64_t offset;
	size_t size;
	int rc;

	for (;;) {
		rc = archive_read_data_block(a->in, &buf, &size, &offset);
		if (rc == ARCHIVE_EOF)
			return 0;
		if (rc != ARCHIVE_OK)
			return assemble_error(a, a->in, "a package is damaged");
		if (archive_write_data(a->out, buf, size) != (la_ssize_t)size)
			return assemble_error(a, a->out, "write the layer");
	}
}

static int assemble_copy_entry(struct assembler *a, struct archive_entry *entry, const char *name,
			       const char *bytes, size_t len)
{
	const char *hard = archive_entry_hardlink(entry);
	char target[TREE_PATH_MAX];
	int rc = assemble_parents(a, name);

	if (rc)
		return rc;
	archive_entry_set_pathname(entry, name);
	archive_entry_set_uname(entry, NULL);
	archive_entry_set_gname(entry, NULL);
	if (hard) {
		rc = assemble_name(a, hard, target);
		if (rc <= 0 || tree_find(a->seen, target) == TREE_NONE)
			return err_set(a->e, EINVAL,
				       "/%s is a hard link to a file that the recipe leaves out",
				       name);
		archive_entry_set_hardlink(entry, target);
		archive_entry_set_size(entry, 0);
	}
	rc = assemble_write_header(a, entry);
	if (!rc && bytes && len && archive_write_data(a->out, bytes, len) != (la_ssize_t)len)
		rc = assemble_error(a, a->out, "write the layer");
	if (!rc && !bytes && !hard && archive_entry_filetype(entry) == AE_IFREG)
		rc = assemble_copy_data(a);
	return rc ? rc : assemble_note(a, name, archive_entry_filetype(entry));
}

static int assemble_take(struct assembler *a, struct archive_entry *entry)
{
	const char *path = archive_entry_pathname(entry);
	auto_free char *bytes = NULL;
	char name[TREE_PATH_MAX], absolute[TREE_PATH_MAX + 1];
	size_t len = (size_t)archive_entry_size(entry);
	uint32_t old;
	int rc;

	if (!path)
		return err_set(a->e, EINVAL, "a package has an entry without a name");
	rc = assemble_name(a, path, name);
	if (rc <= 0)
		return rc;
	if (archive_entry_mtime(entry) > a->newest)
		a->newest = archive_entry_mtime(entry);
	snprintf(absolute, sizeof(absolute), "/%s", name);
	for (size_t i = 0; i < a->recipe.n_steps; i++) {
		if (a->recipe.steps[i].kind != RECIPE_JOIN ||
		    archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) ||
		    !recipe_match(a->recipe.steps[i].arg, absolute))
			continue;
		if (archive_entry_size(entry) < 0 || len > JOIN_MAX - a->joined_bytes)
			return err_set(a->e, EFBIG, "the files to be joined have more than 32 MiB");
		a->joined_bytes += len;
		if (!bytes && (rc = assemble_slurp(a, len, &bytes)))
			return rc;
		rc = assemble_join_keep(a, i, absolute, len, bytes);
		if (rc)
			return rc;
	}
	if (!recipe_keeps(&a->recipe, absolute))
		return 0;
	old = tree_find(a->seen, name);
	/* Packages share directories; the first one that has it decides. */
	if (old != TREE_NONE && archive_entry_filetype(entry) == AE_IFDIR)
		return 0;
	return assemble_copy_entry(a, entry, name, bytes, len);
}

static int assemble_read(struct assembler *a)
{
	struct archive_entry *entry;
	int rc;

	if (archive_read_open_fd(a->in, FD_IN, READ_SIZE) != ARCHIVE_OK)
		return assemble_error(a, a->in, "read the packages");
	for (;;) {
		rc = archive_read_next_header(a->in, &entry);
		if (rc == ARCHIVE_EOF)
			return 0;
		if (rc != ARCHIVE_OK)
			return assemble_error(a, a->in, "a package is damaged");
		rc = assemble_take(a, entry);
		if (rc < 0)
			return rc;
	}
}

static int assemble_merged_links(struct assembler *a)
{
	static const char *const names[] = { "bin", "sbin", "lib", "lib64" };
	char target[16];
	int rc = assemble_put(a, "usr", S_IFDIR | 0755, NULL, NULL, 0);

	for (size_t i = 0; !rc && i < ARRAY_SIZE(names); i++) {
		snprintf(target, sizeof(target), "usr/%s", names[i]);
		rc = assemble_put(a, target, S_IFDIR | 0755, NULL, NULL, 0);
		if (!rc)
			rc = assemble_put(a, names[i], S_IFLNK | 0777, target, NULL, 0);
	}
	return rc;
}

static int assemble_joined_order(const void *x, const void *y)
{
	return strcmp(((const struct joined *)x)->path, ((const struct joined *)y)->path);
}

static int assemble_join(struct assembler *a, size_t step, const char *name)
{
	const struct recipe_step *s = &a->recipe.steps[step];
	auto_free char *all = malloc(a->joined_bytes + a->n_joined + 1);
	size_t n = 0, files = 0;

	if (!all)
		return err_errno(a->e, ENOMEM, "write %s", s->path);
	if (a->n_joined)
		qsort(a->joined, a->n_joined, sizeof(*a->joined), assemble_joined_order);
	for (size_t i = 0; i < a->n_joined; i++) {
		const struct joined *j = &a->joined[i];

		if (j->step != step)
			continue;
		memcpy(all + n, j->bytes, j->len);
		n += j->len;
		if (j->len && all[n - 1] != '\n')
			all[n++] = '\n';
		files++;
	}
	if (!files)
		return err_set(a->e, EINVAL, "no package has a file %s for %s", s->arg, s->path);
	return assemble_put(a, name, S_IFREG | s->mode, NULL, all, n);
}

static int assemble_steps(struct assembler *a)
{
	char name[TREE_PATH_MAX];
	int rc = 0;

	for (size_t i = 0; !rc && i < a->recipe.n_steps; i++) {
		const struct recipe_step *s = &a->recipe.steps[i];

		rc = assemble_name(a, s->path, name);
		if (rc == 0)
			rc = err_set(a->e, EINVAL, "%s is a link into /usr", s->path);
		if (rc > 0)
			rc = assemble_parents(a, name);
		if (rc < 0)
			break;
		switch (s->kind) {
		case RECIPE_DIR:
			rc = assemble_put(a, name, S_IFDIR | s->mode, NULL, NULL, 0);
			break;
		case RECIPE_LINK:
			rc = assemble_put(a, name, S_IFLNK | 0777, s->arg, NULL, 0);
			break;
		case RECIPE_FILE:
			rc = assemble_put(a, name, S_IFREG | s->mode, NULL, s->arg, s->arg_len);
			break;
		case RECIPE_JOIN:
			rc = assemble_join(a, i, name);
			break;
		}
	}
	return rc;
}

static int assemble_open(struct assembler *a, bool gzip)
{
	int rc = tree_create(4u << 20, 1ull << 30, &a->seen, a->e);

	if (!rc)
		rc = tree_layer_begin(a->seen, a->e);
	if (rc)
		return rc;
	a->in = archive_read_new();
	a->out = archive_write_new();
	if (!a->in || !a->out)
		return err_errno(a->e, ENOMEM, "assemble the layer");
	archive_read_support_format_tar(a->in);
	archive_read_support_format_empty(a->in);
	/* Zeros between two archives are not the end. */
	if (archive_read_set_option(a->in, "tar", "read_concatenated_archives", "1") != ARCHIVE_OK)
		return assemble_error(a, a->in, "read the packages");
	archive_write_set_format_pax_restricted(a->out);
	/* Fast rather than small; no time and no name in the header. */
	if (gzip &&
	    (archive_write_add_filter_gzip(a->out) != ARCHIVE_OK ||
	     archive_write_set_options(a->out, "gzip:compression-level=1,gzip:!timestamp") !=
		     ARCHIVE_OK))
		return assemble_error(a, a->out, "write the layer");
	archive_write_set_bytes_in_last_block(a->out, 1);
	if (archive_write_open_fd(a->out, FD_OUT) != ARCHIVE_OK)
		return assemble_error(a, a->out, "write the layer");
	return 0;
}

static int assemble_run(struct assembler *a, bool gzip)
{
	int rc = assemble_open(a, gzip);

	if (!rc && a->rules)
		rc = assemble_merged_links(a);
	if (!rc)
		rc = assemble_read(a);
	if (!rc && a->rules)
		rc = assemble_steps(a);
	if (!rc && archive_write_close(a->out) != ARCHIVE_OK)
		rc = assemble_error(a, a->out, "write the layer");
	archive_read_free(a->in);
	archive_write_free(a->out);
	tree_destroy(a->seen);
	return rc;
}

static int assemble_load_recipe(struct assembler *a)
{
	auto_free char *text = malloc(RECIPE_TEXT_MAX + 1);
	size_t n = 0;
	ssize_t k;
	int rc;

	if (!text)
		return err_errno(a->e, ENOMEM, "read the recipe");
	while (n <= RECIPE_TEXT_MAX && (k = read(FD_RECIPE, text + n, RECIPE_TEXT_MAX + 1 - n)) > 0)
		n += (size_t)k;
	if (!n)
		return 0;
	rc = recipe_parse(text, n, &a->recipe, a->e);
	a->rules = !rc;
	return rc;
}

int assemble_main(int argc, char **argv)
{
	struct convert_report report = { .kind = CONVERT_DONE };
	struct err e = ERR_INIT;
	struct assembler a = { .newest = OLDEST, .e = &e };
	int rc = 0;

	if (argc != 3)
		return 2;
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		rc = err_set(&e, ENOTSUP, "the C library has no locale C.UTF-8");
	if (!rc)
		rc = jail_seccomp(assemble_syscalls, false, &e);
	if (!rc)
		rc = assemble_load_recipe(&a);
	if (!rc)
		rc = assemble_run(&a, !strcmp(argv[2], "gzip"));
	if (rc) {
		report.kind = CONVERT_FAILED;
		report.code = (uint32_t)e.code;
		snprintf(report.text, sizeof(report.text), "%s", err_text(&e));
	}
	while (write(FD_REPORT, &report, sizeof(report)) < 0 && errno == EINTR)
		;
	return rc ? 1 : 0;
}
