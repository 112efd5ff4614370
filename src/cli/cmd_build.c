/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * `msb build`: the builds of a Sandboxfile, each to an image.
 *
 * A throw-away sandbox of the base image runs all steps, by one command, whose standard output
 * goes to the error stream.  If they succeed the command becomes the agent's `layer`, which writes
 * what the disk has over the image, a tar, to standard output: here to a nameless file.  Only
 * when that command ended well `msb-image` makes an image of the base's layers and this one.
 *
 * The image's name holds the hash of what the file says (codec/sandboxfile_build.c), a label of it
 * the digest of the base: if an image of that name with that base is in the store, there is
 * nothing to do.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/box_opts.h"
#include "cli/image_find.h"
#include "cli/project_opts.h"
#include "cli/session.h"
#include "engine/engine.h"
#include "image/store.h"
#include "lib/launch.h"
#include "sys/parts.h"

#define BUILD_MEMORY_DEFAULT (1024ull << 20)
#define BUILD_DISK_DEFAULT (8ull << 30)
#define BUILD_LAYER_EXTRA (64ull << 20)
#define BUILD_BOOT_TIMEOUT_S 120u
#define BUILD_END_TIMEOUT_MS 10000u
#define BUILD_LABEL_KEY "msb.build.base"
#define BUILD_LABEL BUILD_LABEL_KEY "="

/* $1 is the shell, what follows are the steps. Root may use the agent's program. */
#define BUILD_DRIVER \
	"sh=$1; shift; n=0\n" \
	"for step; do\n" \
	"  n=$((n+1)); echo \"step $n of $#\" >&2\n" \
	"  \"$sh\" -ec \"$step\" >&2 </dev/null || exit\n" \
	"done\n" \
	"exec /proc/1/exe layer\n"

enum { BUILD_FILE, BUILD_FORCE, BUILD_QUIET, BUILD_ENGINE, BUILD_JAIL };

const struct cli_opt build_opts[] = {
	[BUILD_FILE] = PROJECT_OPT_FILE,
	[BUILD_FORCE] = { "force", NULL, "", NULL, "run the steps although nothing has changed" },
	[BUILD_QUIET] = { "quiet", NULL, "q", NULL, "print nothing but errors" },
	[BUILD_ENGINE] = BOX_OPT_ENGINE,
	[BUILD_JAIL] = BOX_OPT_JAIL,
	{ NULL },
};

struct build {
	const struct cli_command *cmd;
	const char *file, *engine, *jail, *home;
	bool force, quiet;
};

/* Is the image there that these steps make of this base? */
static bool build_is_done(const struct build *b, const struct sandboxfile_sandbox *s,
			  const struct image *base)
{
	char label[sizeof(BUILD_LABEL) + DIGEST_SIZE];
	struct image *image = NULL;
	struct store *store;
	bool done = false;
	int fd = -1;

	if (store_open(b->home, &store, NULL))
		return false;
	snprintf(label, sizeof(label), BUILD_LABEL "%s", base->digest);
	if (!store_resolve(store, s->result, &image, NULL)) {
		for (char **l = image->config.labels; l && *l; l++)
			done |= !strcmp(*l, label);
		done = done && !rootimage_open(image->rootfs, &fd, NULL);
		close_fd(&fd);
		image_free(image);
	}
	store_close(store);
	return done;
}

/* ---- running the steps ---- */

static int build_strdup(char **to, const char *s, struct err *e)
{
	*to = strdup(s);
	return *to ? 0 : err_errno(e, ENOMEM, "sandbox configuration");
}

static int build_config(const struct build *b, const struct sandboxfile_sandbox *s,
			const struct image *base, struct sandbox_config *c, struct err *e)
{
	int rc;

	c->cpus = s->cpus ? (unsigned)s->cpus : 1;
	c->memory_bytes = s->memory_bytes ? s->memory_bytes : BUILD_MEMORY_DEFAULT;
	c->disk_bytes = s->disk_bytes ? s->disk_bytes : BUILD_DISK_DEFAULT;
	c->boot_timeout_s = BUILD_BOOT_TIMEOUT_S;
	c->volume_timeout_s = SANDBOX_VOLUME_TIMEOUT_S;
	if ((rc = build_strdup(&c->image, s->image, e)) ||
	    (rc = build_strdup(&c->image_path, base->rootfs, e)) ||
	    (rc = build_strdup(&c->image_workdir, base->config.workdir ? base->config.workdir : "",
			       e)) ||
	    (rc = build_strdup(&c->engine, b->engine, e)) ||
	    (rc = build_strdup(&c->scope, s->scope ? s->scope : "public", e)) ||
	    (rc = build_strdup(&c->network, s->network ? s->network : "", e)) ||
	    (rc = build_strdup(&c->jail, b->jail, e)) ||
	    (rc = parts_path("initramfs.cpio.gz", &c->initramfs, e)))
		return rc;
	return parts_path("vmlinux", &c->kernel, e);
}

static int build_add(struct buf *b, struct frame_list *l, const char *s)
{
	return frame_list_add(b, l, s, strlen(s));
}

/* The command that runs them all, and its environment. */
static int build_command(const struct sandboxfile_sandbox *s, const struct image *base,
			 struct buf *argv_bytes, struct buf *env_bytes, struct frame_exec *exec,
			 struct err *e)
{
	const char *shell = s->shell ? s->shell : "/bin/sh";
	const char *const words[] = { shell, "-c", BUILD_DRIVER, "build", shell };
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(words) && !rc; i++)
		rc = build_add(argv_bytes, &exec->argv, words[i]);
	for (size_t i = 0; i < s->steps.n && !rc; i++)
		rc = build_add(argv_bytes, &exec->argv, s->steps.v[i]);
	for (char *const *p = base->config.env; p && *p && !rc; p++)
		rc = build_add(env_bytes, &exec->env, *p);
	for (size_t i = 0; i < s->envs.n && !rc; i++)
		rc = build_add(env_bytes, &exec->env, s->envs.v[i]);
	if (rc)
		return err_set(e, E2BIG, "the steps are too long (limit %u bytes together)",
			       FRAME_BODY_MAX);
	frame_list_end(argv_bytes, &exec->argv);
	frame_list_end(env_bytes, &exec->env);
	exec->cwd = frame_str_of(s->workdir ? s->workdir : base->config.workdir);
	exec->user = frame_str_of("0:0");
	exec->timeout_ms = s->timeout_ms;
	return 0;
}

/* Standard input and output of this process, and its limit, while a sandbox has them. */
struct build_streams {
	int in, out;
	struct rlimit limit;
};

/*
 * The guest writes what it likes: it gets no more of our disk than its own has, and a part for the
 * archive's headers.  (SIGXFSZ ignored, the write fails and the session ends.)
 */
static int build_limit(const struct build_streams *saved, uint64_t disk)
{
	struct rlimit now = saved->limit;
	uint64_t most = disk + disk / 4 + BUILD_LAYER_EXTRA;

	if (most < now.rlim_cur)
		now.rlim_cur = most;
	signal(SIGXFSZ, SIG_IGN);
	return setrlimit(RLIMIT_FSIZE, &now);
}

static int build_redirect(struct build_streams *saved, int layer, uint64_t disk, struct err *e)
{
	auto_close int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	fflush(stdout);
	if (getrlimit(RLIMIT_FSIZE, &saved->limit) < 0)
		return err_errno(e, errno, "redirect the steps' streams");
	saved->in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	saved->out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	if (null < 0 || saved->in < 0 || saved->out < 0 || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(layer, STDOUT_FILENO) < 0 || build_limit(saved, disk) < 0)
		return err_errno(e, errno, "redirect the steps' streams");
	return 0;
}

static void build_restore(struct build_streams *saved)
{
	if (saved->in >= 0)
		dup2(saved->in, STDIN_FILENO);
	if (saved->out >= 0) {
		dup2(saved->out, STDOUT_FILENO);
		setrlimit(RLIMIT_FSIZE, &saved->limit);
	}
	close_fd(&saved->in);
	close_fd(&saved->out);
}

/* Runs the steps; the layer goes to @layer. Return: the command's status, or CLI_*. */
static int build_run(const struct build *b, const struct sandboxfile_sandbox *s,
		     const struct image *base, int layer)
{
	struct build_streams saved = { .in = -1, .out = -1 };
	struct buf argv_bytes = BUF_INIT, env_bytes = BUF_INIT;
	struct sandbox_config cfg = { .name = NULL };
	struct launch launch = LAUNCH_INIT;
	struct frame_exec exec = { .timeout_ms = 0 };
	struct err e = ERR_INIT;
	int status = 0;

	if (build_command(s, base, &argv_bytes, &env_bytes, &exec, &e) ||
	    build_config(b, s, base, &cfg, &e) || launch_ephemeral(b->home, &cfg, &launch, &e)) {
		status = cli_fail(&e);
	} else if (build_redirect(&saved, layer, cfg.disk_bytes, &e)) {
		close_fd(&launch.fd);
		launch_end(&launch, BUILD_END_TIMEOUT_MS);
		status = cli_fail(&e);
	} else {
		struct session_spec spec = {
			.fd = take_fd(&launch.fd),
			.exec = &exec,
			.what = s->image,
			.quiet = b->quiet,
			.timeout_ms = s->timeout_ms,
		};
		status = session_run(&spec);
		launch_end(&launch, BUILD_END_TIMEOUT_MS);
	}
	build_restore(&saved);
	sandbox_config_fini(&cfg);
	buf_fini(&argv_bytes);
	buf_fini(&env_bytes);
	return status;
}

/* ---- making the image ---- */

struct build_args {
	char *v[64 + 2 * SANDBOXFILE_LIST_MAX];
	size_t n;
	bool failed, full;
};

/* Adds "--config KEY=VALUE". */
static void build_arg(struct build_args *a, const char *key, const char *value)
{
	char *text;

	a->full |= a->n + 3 > ARRAY_SIZE(a->v);
	if (a->full || asprintf(&text, "%s=%s", key, value) < 0) {
		a->failed = true;
		return;
	}
	a->v[a->n++] = strdup("--config");
	a->v[a->n++] = text;
	a->failed |= !a->v[a->n - 2];
}

static void build_args_fini(struct build_args *a)
{
	while (a->n)
		free(a->v[--a->n]);
}

static int build_commit(const struct build *b, const struct sandboxfile_sandbox *s,
			const struct image *base, int layer, struct err *e)
{
	const char *const fixed[] = { "msb-image",  "import", "--quiet", "--jail",
				      b->jail,      "--name", s->result, "--base",
				      base->digest, "--tar",  "-" };
	struct build_args a = { .n = 0 };
	int rc;

	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
		a.v[a.n] = strdup(fixed[i]);
		a.failed |= !a.v[a.n++];
	}
	build_arg(&a, "label=" BUILD_LABEL_KEY, base->digest);
	if (s->workdir)
		build_arg(&a, "workdir", s->workdir);
	/* A list that is given takes the place of the base's. */
	for (char *const *p = s->envs.n ? base->config.env : NULL; p && *p; p++)
		build_arg(&a, "env", *p);
	for (size_t i = 0; i < s->envs.n; i++)
		build_arg(&a, "env", s->envs.v[i]);
	a.v[a.n] = NULL;
	rc = a.full ? err_set(e, E2BIG, "the base's variables and those of the build are too many")
	     : a.failed                      ? err_errno(e, ENOMEM, "make the image")
	     : lseek(layer, 0, SEEK_SET) < 0 ? err_errno(e, errno, "read the layer back")
					     : image_program(a.v, layer, -1, e);
	build_args_fini(&a);
	return rc;
}

/* ---- the command ---- */

static int build_one(const struct build *b, const struct sandboxfile_sandbox *s)
{
	const struct image_find find = { .home = b->home, .jail = b->jail, .quiet = b->quiet };
	auto_close int layer = -1;
	struct image *base = NULL;
	struct err e = ERR_INIT;
	int status = 0;

	if (image_find(&find, s->image, &base, &e)) {
		err_wrap(&e, "build '%s'", s->name);
		return cli_fail(&e);
	}
	if (!b->force && build_is_done(b, s, base)) {
		if (!b->quiet)
			cli_notice("build '%s': nothing has changed", s->name);
		image_free(base);
		return CLI_OK;
	}
	layer = open(b->home, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (layer < 0) {
		err_errno(&e, errno, "a temporary file in %s", b->home);
		status = cli_fail(&e);
	}
	if (!status) {
		if (!b->quiet)
			cli_notice("build '%s': %zu steps over %s", s->name, s->steps.n, s->image);
		status = build_run(b, s, base, layer);
		if (status)
			cli_error("build '%s': the steps failed (status %d); nothing was kept",
				  s->name, status);
	}
	if (!status && build_commit(b, s, base, layer, &e))
		status = cli_fail(&e);
	if (!status && !b->quiet)
		cli_notice("build '%s': %s", s->name, s->result);
	image_free(base);
	return status ? CLI_FAILED : CLI_OK;
}

/* Is it named, or does one that is named stand on it? */
static bool build_is_wanted(const struct sandboxfile *f, const struct sandboxfile_sandbox *s,
			    char *const *names, int n)
{
	if (!n)
		return true;
	for (int i = 0; i < n; i++) {
		const struct sandboxfile_sandbox *x = sandboxfile_find_build(f, names[i]);

		while (x && x != s)
			x = x->build ? sandboxfile_find_build(f, x->build) : NULL;
		if (x)
			return true;
	}
	return false;
}

static int build_all(struct build *b, char *const *names, int n)
{
	const struct engine_ops *engine;
	char notice[ENGINE_NOTICE_MAX];
	struct project p = { .dir = NULL };
	struct err e = ERR_INIT;
	int status = project_opts_load(b->file, b->quiet, &p, &e) ? cli_fail(&e) : CLI_OK;

	for (int i = 0; i < n && !status; i++)
		if (!sandboxfile_find_build(p.file, names[i])) {
			cli_error("%s: no build '%.80s'", p.path, names[i]);
			status = CLI_FAILED;
		}
	if (!status && engine_choose(b->engine, &engine, notice, sizeof(notice), &e))
		status = cli_fail(&e);
	for (size_t i = 0; !status && i < p.file->n_builds; i++)
		if (build_is_wanted(p.file, p.file->builds[i], names, n))
			status = build_one(b, p.file->builds[i]);
	if (!status && !b->quiet && !p.file->n_builds)
		cli_notice("%s has no builds", p.path);
	project_fini(&p);
	return status;
}

int cmd_build(const struct cli_command *cmd, int argc, char **argv)
{
	struct build b = { .cmd = cmd, .engine = "auto", .jail = "full" };
	auto_free char *home = NULL;
	struct err e = ERR_INIT;
	struct cli_args a;
	int opt;

	cli_args_init(&a, cmd, argc, argv);
	while ((opt = cli_args_next(&a)) >= 0) {
		int rc = 0;

		if (opt == BUILD_FILE)
			b.file = a.value;
		else if (opt == BUILD_ENGINE)
			rc = cli_one_of(cmd, "engine", a.value, cli_engines, &b.engine);
		else if (opt == BUILD_JAIL)
			rc = cli_one_of(cmd, "jail", a.value, cli_jails, &b.jail);
		if (rc)
			return rc;
		b.force |= opt == BUILD_FORCE;
		b.quiet |= opt == BUILD_QUIET;
	}
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (parts_home(&home, &e))
		return cli_fail(&e);
	b.home = home;
	return build_all(&b, a.words, a.n_words);
}
