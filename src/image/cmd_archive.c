/* SPDX-License-Identifier: Apache-2.0 */
/* msb-image load, save. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/cmd.h"
#include "image/load.h"

static bool cmd_load_json;

static void cmd_loaded(const char *name, const char *digest)
{
	if (cmd_load_json)
		printf("{\"name\":\"%s\",\"digest\":\"%s\"}\n", name, digest);
	else
		printf("%s %s\n", name, digest);
	fflush(stdout);
}

int cmd_load(struct cmd_options *o, int argc, char **argv, struct err *e)
{
	const char *from = o->input ? o->input : "-";
	char name[REFERENCE_MAX];
	struct store_writer *w;
	auto_close int fd = -1;
	int rc = 0;

	(void)argv;
	if (argc)
		return cmd_usage(e, "load [--input FILE|-] [--name NAME[:TAG]]");
	if (!strcmp(from, "-") && isatty(STDIN_FILENO))
		return cmd_usage(e, "load --input FILE, or the archive on standard input");
	if (o->name)
		rc = cmd_full_name(o->name, name, e);
	if (rc)
		return rc;
	fd = strcmp(from, "-") ? open(from, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
	if (fd < 0)
		return err_errno(e, errno, "open %s", from);
	rc = cmd_writer(&w, e);
	if (rc)
		return rc;
	cmd_load_json = o->json;
	rc = load_archive(w, fd, o->name ? name : NULL, cmd_loaded, e);
	store_writer_close(w);
	return rc ? err_wrap(e, "load %s", from) : 0;
}

/* A plain file appears when it is whole; what is there and is none is written to. */
static int cmd_save_to(struct cmd_options *o, struct store *s, char *const *names, size_t n,
		       enum save_format format, struct err *e)
{
	auto_free char *temp = NULL;
	auto_close int fd = -1;
	struct stat st;
	bool plain = stat(o->output, &st) < 0 || S_ISREG(st.st_mode);
	int rc;

	if (asprintf(&temp, "%s.%d.tmp", o->output, getpid()) < 0)
		return err_errno(e, ENOMEM, "write %s", o->output);
	fd = open(plain ? temp : o->output, O_WRONLY | O_CLOEXEC | (plain ? O_CREAT | O_EXCL : 0),
		  0666);
	if (fd < 0)
		return err_errno(e, errno, "write %s", o->output);
	rc = save_archive(s, names, n, format, fd, e);
	if (!plain)
		return rc;
	if (!rc && (fsync(fd) < 0 || rename(temp, o->output) < 0))
		rc = err_errno(e, errno, "write %s", o->output);
	if (rc)
		unlink(temp);
	return rc;
}

int cmd_save(struct cmd_options *o, int argc, char **argv, struct err *e)
{
	bool to_stdout = !o->output || !strcmp(o->output, "-");
	enum save_format format = SAVE_OCI;
	struct store *s;
	int rc;

	if (!argc)
		return cmd_usage(e, "save [--format oci|docker] [--output FILE] IMAGE...");
	if (o->format && strcmp(o->format, "oci") && strcmp(o->format, "docker"))
		return err_set(e, EINVAL, "--format is oci or docker, not '%s'", o->format);
	if (o->format && !strcmp(o->format, "docker"))
		format = SAVE_DOCKER;
	if (to_stdout && isatty(STDOUT_FILENO))
		return cmd_usage(e, "save --output FILE IMAGE..., or into a pipe");
	rc = cmd_store(&s, e);
	if (rc)
		return rc;
	rc = to_stdout ? save_archive(s, argv, (size_t)argc, format, STDOUT_FILENO, e)
		       : cmd_save_to(o, s, argv, (size_t)argc, format, e);
	store_close(s);
	return rc;
}
