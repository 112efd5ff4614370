/* SPDX-License-Identifier: Apache-2.0 */
/* msb-image pull, login, logout. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/build.h"
#include "image/cmd.h"
#include "image/credentials.h"
#include "image/fetch.h"
#include "image/pull.h"
#include "sys/parts.h"

#define CMD_CTRL_C 3

/* No registry answers: a name of ours can be made here all the same. */
static int cmd_pull_recipe(struct store_writer *w, const char *name, struct err *e)
{
	char built[REFERENCE_MAX];
	auto_free char *dir = NULL;
	auto_free char *path = NULL;
	bool was_there;

	if (parts_path("recipes", &dir, NULL) || recipe_find(dir, name, &path))
		return -ENOENT;
	fprintf(stderr, "note: %s\nnote: building the image from its recipe instead\n", err_text(e));
	err_clear(e);
	if (build_recipe(w, path, NULL, false, built, &was_there, e))
		return -e->code;
	printf("%s\n", built);
	return 0;
}

static int cmd_pull_one(struct cmd_options *o, const char *home, struct store_writer *w,
			const char *name, struct err *e)
{
	const struct pull_args args = { .registry = o->registry,
					.platform = o->platform,
					.max_unpacked = o->max_unpacked };
	struct pull_result res;
	int rc = pull_image(home, w, name, &args, &res, e);

	if (rc == -EHOSTUNREACH && cmd_pull_recipe(w, name, e) != -ENOENT)
		return e->code ? -e->code : 0;
	if (rc)
		return rc;
	if (o->json)
		printf("{\"name\":\"%s\",\"digest\":\"%s\",\"fetched_bytes\":%llu,\"unchanged\":%s}"
		       "\n",
		       res.name, res.digest, (unsigned long long)res.fetched,
		       res.unchanged ? "true" : "false");
	else
		printf("%s %s%s\n", res.name, res.digest, res.unchanged ? " (unchanged)" : "");
	fflush(stdout);
	return 0;
}

int cmd_pull(struct cmd_options *o, int argc, char **argv, struct err *e)
{
	auto_free char *home = NULL;
	struct store_writer *w;
	int rc;

	if (!argc)
		return cmd_usage(
			e, "pull [--platform OS/ARCH] [--insecure] [--ca-certs FILE] IMAGE...");
	rc = parts_home(&home, e);
	if (!rc)
		rc = store_writer_open(home, &w, e);
	if (rc)
		return rc;
	for (int i = 0; !rc && i < argc; i++)
		rc = cmd_pull_one(o, home, w, argv[i], e);
	store_writer_close(w);
	return rc;
}

/* ---- login ---- */

/* "host:port" alone; what stands for Docker Hub is docker.io. */
static int cmd_registry_name(const char *given, char to[128], struct err *e)
{
	char text[REFERENCE_MAX];
	struct reference ref;
	size_t n;

	if (!strncmp(given, "https://", 8))
		given += 8;
	n = strlen(given);
	while (n && given[n - 1] == '/')
		n--;
	if (n < 128)
		snprintf(text, sizeof(text), "%.*s/x", (int)n, given);
	if (n >= 128 || reference_parse(text, strlen(text), &ref, NULL) || !ref.registry[0])
		return err_set(e, EINVAL, "'%.80s' is no registry: give HOST or HOST:PORT", given);
	snprintf(to, 128, "%s",
		 !strcmp(ref.registry, "index.docker.io") ? "docker.io" : ref.registry);
	return 0;
}

/* A line of @fd, without its end. */
static int cmd_read_line(int fd, char *to, size_t size, struct err *e)
{
	size_t n = 0;
	ssize_t k;

	while ((k = read(fd, to + n, 1)) != 0) {
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_errno(e, errno, "read it");
		if (to[n] == '\n')
			break;
		if (to[n] == CMD_CTRL_C)
			return err_set(e, EINTR, "given up");
		if (++n == size)
			return err_set(e, EINVAL, "that is too long");
	}
	if (n && to[n - 1] == '\r')
		n--;
	to[n] = '\0';
	return n ? 0 : err_set(e, EINVAL, "nothing was given");
}

/* Asks at the terminal; a password is not shown. */
static int cmd_ask(const char *what, bool hide, char *to, size_t size, struct err *e)
{
	auto_close int tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
	struct termios old, new;
	int rc;

	if (tty < 0)
		return err_set(e, EINVAL,
			       "there is no terminal to ask at: give --username NAME "
			       "--password-stdin");
	dprintf(tty, "%s: ", what);
	hide = hide && tcgetattr(tty, &old) == 0;
	if (hide) {
		new = old;
		/* Ctrl-C would end us and leave the terminal mute: it ends the line instead. */
		new.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
		new.c_cc[VEOL] = CMD_CTRL_C;
		tcsetattr(tty, TCSAFLUSH, &new);
	}
	rc = cmd_read_line(tty, to, size, e);
	if (hide) {
		tcsetattr(tty, TCSAFLUSH, &old);
		dprintf(tty, "\n");
	}
	return rc ? err_wrap(e, "%s", what) : 0;
}

static int cmd_login_ask(const struct cmd_options *o, struct credential *c, struct err *e)
{
	int rc = 0;

	if (o->user && strlen(o->user) < sizeof(c->user))
		snprintf(c->user, sizeof(c->user), "%s", o->user);
	else if (o->user)
		rc = err_set(e, EINVAL, "the user name is too long");
	else if (o->password_stdin)
		rc = err_set(e, EINVAL, "--password-stdin needs --username");
	else
		rc = cmd_ask("Username", false, c->user, sizeof(c->user), e);
	if (rc)
		return rc;
	if (strchr(c->user, ':'))
		return err_set(e, EINVAL, "a user name has no ':'");
	if (!o->password_stdin)
		return cmd_ask("Password", true, c->secret, sizeof(c->secret), e);
	rc = cmd_read_line(STDIN_FILENO, c->secret, sizeof(c->secret), e);
	return rc ? err_wrap(e, "password on standard input") : 0;
}

/* Does the registry take them? */
static int cmd_login_try(const struct cmd_options *o, const char *home, const char *registry,
			 const struct credential *c, struct err *e)
{
	struct fetch_setup *setup = calloc(1, sizeof(*setup));
	struct fetch fetch = FETCH_INIT;
	struct fetch_event done;
	auto_free char *ca = NULL;
	int rc = setup ? registry_setup(home, registry, "", &o->registry, c, setup, &ca, e)
		       : err_errno(e, ENOMEM, "ask the registry");

	if (!rc)
		rc = fetch_start(setup, ca, &fetch, e);
	if (!rc)
		rc = fetch_doc(&fetch, FETCH_PING, "", 0, NULL, NULL, NULL, &done, e);
	fetch_stop(&fetch);
	if (setup)
		explicit_bzero(setup, sizeof(*setup));
	free(setup);
	return rc;
}

int cmd_login(struct cmd_options *o, int argc, char **argv, struct err *e)
{
	struct credential *c = calloc(1, sizeof(*c));
	const char *given = argc ? argv[0] : "docker.io";
	auto_free char *home = NULL;
	char registry[128];
	bool found;
	int rc;

	if (argc > 1) {
		free(c);
		return cmd_usage(e, "login [--username NAME] [--password-stdin] [REGISTRY]");
	}
	rc = c ? parts_home(&home, e) : err_errno(e, ENOMEM, "log in");
	if (!rc)
		rc = cmd_registry_name(given, registry, e);
	if (!rc)
		rc = cmd_login_ask(o, c, e);
	if (!rc)
		rc = cmd_login_try(o, home, registry, c, e);
	if (!rc)
		rc = credentials_store(home, registry, c, &found, e);
	if (!rc && !o->quiet)
		printf("logged in to %s as %s\n", registry, c->user);
	if (c)
		explicit_bzero(c, sizeof(*c));
	free(c);
	return rc;
}

int cmd_logout(struct cmd_options *o, int argc, char **argv, struct err *e)
{
	struct credential *c = calloc(1, sizeof(*c));
	auto_free char *home = NULL;
	char registry[128];
	bool found = false;
	int rc;

	if (argc > 1) {
		free(c);
		return cmd_usage(e, "logout [REGISTRY]");
	}
	rc = c ? parts_home(&home, e) : err_errno(e, ENOMEM, "log out");
	if (!rc)
		rc = cmd_registry_name(argc ? argv[0] : "docker.io", registry, e);
	if (!rc)
		rc = credentials_store(home, registry, NULL, &found, e);
	if (!rc && !found)
		rc = err_set(e, ENOENT, "not logged in to %s", registry);
	if (!rc && !o->quiet)
		printf("logged out of %s\n", registry);
	/* Another program's files are not ours to change. */
	if (!rc && credentials_find(home, registry, "", c, NULL) == 0 && !o->quiet)
		fprintf(stderr, "note: another program's file still has a password for %s\n",
			registry);
	if (c)
		explicit_bzero(c, sizeof(*c));
	free(c);
	return rc;
}
