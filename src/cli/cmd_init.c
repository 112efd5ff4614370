/* SPDX-License-Identifier: Apache-2.0 */
/* `msb init`: a Sandboxfile to begin with, and what sandboxes leave behind kept out of git. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/project_opts.h"
#include "sys/file.h"

#define INIT_IGNORE_FILE ".gitignore"
#define INIT_IGNORE "menv/"
#define INIT_IGNORE_MAX (1u << 20)

enum { INIT_FILE };

const struct cli_opt init_opts[] = {
	[INIT_FILE] = PROJECT_OPT_FILE,
	{ NULL },
};

static const char init_text[] = "# The sandboxes of this project. `msb add NAME --image IMAGE` "
				"writes one here, `msb check`\n"
				"# says what would run, `msb help add` what there is to set.\n"
				"sandboxes:\n";

/* Is one of the lines of a .gitignore ours, in whatever form? */
static bool init_is_ignored(const char *text)
{
	static const char *const forms[] = { "menv", "menv/", "/menv", "/menv/" };

	for (const char *p = text; *p;) {
		size_t n = strcspn(p, "\r\n");

		for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
			if (strlen(forms[i]) == n && !strncmp(p, forms[i], n))
				return true;
		p += n;
		p += *p != '\0';
	}
	return false;
}

static int init_ignore(int dirfd, struct err *e)
{
	auto_free char *old = NULL;
	struct buf b = BUF_INIT;
	struct stat st;
	size_t len = 0;
	int rc = 0;

	if (!fstatat(dirfd, INIT_IGNORE_FILE, &st, AT_SYMLINK_NOFOLLOW))
		rc = file_read_at(dirfd, INIT_IGNORE_FILE, INIT_IGNORE_MAX, &old, &len, e);
	else if (errno != ENOENT)
		rc = err_errno(e, errno, INIT_IGNORE_FILE);
	else
		st.st_mode = 0644;
	if (rc || (old && init_is_ignored(old)))
		return rc;
	if (buf_append(&b, old, len) || (len && old[len - 1] != '\n' && buf_append(&b, "\n", 1)) ||
	    buf_append(&b, INIT_IGNORE "\n", strlen(INIT_IGNORE) + 1))
		rc = err_errno(e, ENOMEM, INIT_IGNORE_FILE);
	if (!rc)
		rc = file_write_at(dirfd, INIT_IGNORE_FILE, buf_data(&b), buf_len(&b),
				   st.st_mode & 0777, false, e);
	buf_fini(&b);
	return rc;
}

static int init_project(const struct project *p)
{
	auto_close int dirfd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_close int fd = -1;
	struct err e = ERR_INIT;
	bool new;

	if (dirfd < 0) {
		err_errno(&e, errno, "%s", p->dir);
		return cli_fail(&e);
	}
	fd = openat(dirfd, p->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	new = fd >= 0;
	if (!new &&errno != EEXIST) {
		err_errno(&e, errno, "%s", p->path);
		return cli_fail(&e);
	}
	if (new) {
		int rc = file_write_all(fd, init_text, strlen(init_text));

		if (rc) {
			unlinkat(dirfd, p->name, 0);
			err_errno(&e, -rc, "%s", p->path);
			return cli_fail(&e);
		}
	}
	if (init_ignore(dirfd, &e))
		return cli_fail(&e);
	cli_notice(new ? "made %s" : "%s is there already", p->path);
	return CLI_OK;
}

int cmd_init(const struct cli_command *cmd, int argc, char **argv)
{
	struct project p = { .dir = NULL };
	const char *file = NULL;
	struct err e = ERR_INIT;
	struct cli_args a;
	int opt, status;

	cli_args_init(&a, cmd, argc, argv);
	while ((opt = cli_args_next(&a)) >= 0)
		file = a.value;
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (a.n_words > 1 || (a.n_words && file))
		return cli_usage(cmd, "unexpected argument '%s'", a.words[a.n_words - 1]);
	if (a.n_words)
		file = a.words[0];
	status = project_locate(file, &p, &e) ? cli_fail(&e) : init_project(&p);
	project_fini(&p);
	return status;
}
