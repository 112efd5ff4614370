/* SPDX-License-Identifier: Apache-2.0 */
/* `msb server`: start, stop, status, list, keygen, revoke, log. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "lib/launch.h"
#include "server/server.h"
#include "sys/child.h"
#include "sys/file.h"
#include "sys/init.h"
#include "sys/parts.h"

#define SERVER_STOP_WAIT_MS 45000u
#define SERVER_SANDBOXES_MAX 256u
#define SERVER_KEY_HOURS 24u
#define SERVER_READY_FD 3

enum server_opt {
	SERVER_DEV,
	SERVER_HOST,
	SERVER_PORT_OPT,
	SERVER_UNIX,
	SERVER_PATH,
	SERVER_KEY,
	SERVER_KEY_FILE_OPT,
	SERVER_RESET_KEY,
	SERVER_TLS_CERT,
	SERVER_TLS_KEY,
	SERVER_KEEP,
	SERVER_MAX_SANDBOXES,
	SERVER_JAIL,
	SERVER_DETACH,
	SERVER_EXPIRE,
	SERVER_NAMESPACE,
	SERVER_FOLLOW,
	SERVER_TAIL,
	SERVER_JSON,
	SERVER_READY,
};

const struct cli_opt server_opts[] = {
	[SERVER_DEV] = { "dev", NULL, "", NULL, "start: no keys; this machine only" },
	[SERVER_HOST] = { "host", NULL, "", "IP",
			  "start: address to listen on (default 127.0.0.1)" },
	[SERVER_PORT_OPT] = { "port", NULL, "", "PORT", "start: port (default 5555; 0 = any)" },
	[SERVER_UNIX] = { "unix", NULL, "", "FILE", "start: listen on this socket as well" },
	[SERVER_PATH] = { "path", NULL, "p", "DIR",
			  "start, list, log: where namespaces are kept (default "
			  "~/.microsandbox/projects)" },
	[SERVER_KEY] = { "key", NULL, "k", "KEY", "refused: others could read it; use --key-file" },
	[SERVER_KEY_FILE_OPT] = { "key-file", NULL, "", "FILE",
				  "start, keygen: the secret (default "
				  "~/.microsandbox/server.key)" },
	[SERVER_RESET_KEY] = { "reset-key", NULL, "r", NULL,
			       "start: a new secret; every key given out stops working" },
	[SERVER_TLS_CERT] = { "tls-cert", NULL, "", "FILE",
			      "start: serve https with this certificate (PEM, with its chain)" },
	[SERVER_TLS_KEY] = { "tls-key", NULL, "", "FILE", "start: the certificate's key (PEM)" },
	[SERVER_KEEP] = { "keep", NULL, "", NULL, "start: leave sandboxes running at the end" },
	[SERVER_MAX_SANDBOXES] = { "max-sandboxes", NULL, "", "N",
				   "start: at most so many at once (default 256)" },
	[SERVER_JAIL] = { "jail", NULL, "", "MODE",
			  "start: full (default), or reduced where user namespaces are refused" },
	[SERVER_DETACH] = { "detach", NULL, "d", NULL, "start: in the background" },
	[SERVER_EXPIRE] = { "expire", NULL, "", "TIME",
			    "keygen: how long the key is valid: 30m, 12h, 7d, 2w, 3mo, 1y (default "
			    "24h)" },
	[SERVER_NAMESPACE] = { "namespace", NULL, "n", "NAME",
			       "keygen, list: the only namespace (default: all); log: the "
			       "sandbox's" },
	[SERVER_FOLLOW] = { "follow", NULL, "f", NULL, "log: go on as more is written" },
	[SERVER_TAIL] = { "tail", NULL, "t", "N", "log: the last N lines" },
	[SERVER_JSON] = { "json", NULL, "", NULL, "status, list: for programs" },
	[SERVER_READY] = { "ready-fd", NULL, "", "N", "start: tell this descriptor when serving" },
	{ NULL },
};

struct server_args {
	const struct cli_command *cmd;
	struct server_options o;
	bool detach, follow, json;
	int64_t expire_s;
	const char *ns;
	uint64_t tail; /* UINT64_MAX = all */
	char **words;
	int n_words;
	unsigned given; /* bits of enum server_opt */
};

/* "12h"; a bare number is hours. */
static int server_parse_expire(const char *s, int64_t *out)
{
	static const struct {
		const char *unit;
		int64_t seconds;
	} units[] = {
		{ "", 3600 },   { "s", 1 },         { "m", 60 },          { "h", 3600 },
		{ "d", 86400 }, { "w", 7 * 86400 }, { "mo", 30 * 86400 }, { "y", 365 * 86400 }
	};
	char *end;
	long n;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	n = strtol(s, &end, 10);
	if (errno || n < 1 || n > 1000000)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (!strcmp(end, units[i].unit)) {
			*out = n * units[i].seconds;
			return 0;
		}
	return -EINVAL;
}

static int server_parse_option(struct server_args *a, int opt, const char *v)
{
	uint64_t n;

	a->given |= 1u << opt;
	switch (opt) {
	case SERVER_DEV:
		a->o.dev = true;
		return 0;
	case SERVER_HOST:
		a->o.host = v;
		return 0;
	case SERVER_PORT_OPT:
		if (cli_parse_uint(v, 65535, &n))
			return cli_usage(a->cmd, "--port is '%s': give a number from 0 to 65535", v);
		a->o.port = (uint16_t)n;
		return 0;
	case SERVER_UNIX:
		a->o.unix_path = v;
		return 0;
	case SERVER_PATH:
		a->o.path = v;
		return 0;
	case SERVER_KEY:
		return cli_usage(a->cmd,
				 "--key: a secret on a command line can be read by everybody on "
				 "this machine: put it into a file and give --key-file FILE");
	case SERVER_KEY_FILE_OPT:
		a->o.key_file = v;
		return 0;
	case SERVER_RESET_KEY:
		a->o.reset_key = true;
		return 0;
	case SERVER_TLS_CERT:
		a->o.tls_cert = v;
		return 0;
	case SERVER_TLS_KEY:
		a->o.tls_key = v;
		return 0;
	case SERVER_KEEP:
		a->o.keep = true;
		return 0;
	case SERVER_MAX_SANDBOXES:
		if (cli_parse_uint(v, 10000, &n) || !n)
			return cli_usage(a->cmd, "--max-sandboxes is '%s': give a number from 1", v);
		a->o.max_sandboxes = (unsigned)n;
		return 0;
	case SERVER_JAIL:
		a->o.jail = v;
		if (strcmp(v, "full") && strcmp(v, "reduced"))
			return cli_usage(a->cmd, "--jail is '%s': use one of full, reduced", v);
		return 0;
	case SERVER_DETACH:
		a->detach = true;
		return 0;
	case SERVER_EXPIRE:
		if (server_parse_expire(v, &a->expire_s))
			return cli_usage(a->cmd,
					 "--expire is '%s': give hours, or 30m, 7d, 2w, 3mo, 1y",
					 v);
		return 0;
	case SERVER_NAMESPACE:
		a->ns = v;
		if (strcmp(v, "*") && !cli_is_name(v))
			return cli_usage(a->cmd, "--namespace is '%s': letters, digits, - and _", v);
		return 0;
	case SERVER_FOLLOW:
		a->follow = true;
		return 0;
	case SERVER_TAIL:
		if (cli_parse_uint(v, UINT32_MAX, &a->tail))
			return cli_usage(a->cmd, "--tail is '%s': give a number of lines", v);
		return 0;
	case SERVER_JSON:
		a->json = true;
		return 0;
	default: /* SERVER_READY */
		if (cli_parse_uint(v, 1023, &n) || n < 3)
			return cli_usage(a->cmd, "--ready-fd is '%s': give a descriptor", v);
		a->o.ready_fd = (int)n;
		return 0;
	}
}

/* ---- start ------------------------------------------------------------------------------ */

/* Reads the one line of a server that is starting. Return: 0 if it serves. */
static int server_wait_ready(int fd, char *address, size_t size)
{
	char line[300];
	size_t n = 0;
	ssize_t got;

	while (n < sizeof(line) - 1 && (got = read(fd, line + n, sizeof(line) - 1 - n)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			break;
		n += (size_t)got;
		if (line[n - 1] == '\n')
			break;
	}
	line[n] = '\0';
	if (strncmp(line, "ready ", 6))
		return -1;
	snprintf(address, size, "%.*s", (int)strcspn(line + 6, "\n"), line + 6);
	return 0;
}

/* What it wrote to its log since it started: why it does not serve. */
static void server_show_log(int log_fd, off_t from)
{
	char text[4096];
	ssize_t n = pread(log_fd, text, sizeof(text), from);

	if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
		return;
}

/* The same command line without --detach, in a session of its own. */
static int server_start_detached(struct server_args *a, int argc, char **argv)
{
	auto_free char **args = calloc((size_t)argc + 4, sizeof(char *));
	auto_free char *self = NULL;
	auto_free char *log = NULL;
	auto_close int log_fd = -1, ours = -1, theirs = -1;
	struct child child = CHILD_INIT;
	struct err e = ERR_INIT;
	char address[256], fd_text[12];
	int n = 0, fds[2];
	off_t from;

	if (!args || asprintf(&log, "%s/" SERVER_LOG_FILE, a->o.home) < 0) {
		log = NULL;
		err_errno(&e, ENOMEM, "server");
		return cli_fail(&e);
	}
	log_fd = open(log, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (log_fd < 0 || pipe2(fds, O_CLOEXEC) < 0 || parts_self(&self, &e)) {
		err_errno(&e, errno, "cannot write %s", log);
		return cli_fail(&e);
	}
	ours = fds[0];
	theirs = fds[1];
	from = lseek(log_fd, 0, SEEK_END);
	args[n++] = (char *)"msb";
	for (int i = 0; i < argc; i++)
		if (strcmp(argv[i], "--detach") && strcmp(argv[i], "-d"))
			args[n++] = argv[i];
	snprintf(fd_text, sizeof(fd_text), "%d", SERVER_READY_FD);
	args[n++] = (char *)"--ready-fd";
	args[n++] = fd_text;
	const struct child_fd child_fds[] = {
		{ log_fd, STDERR_FILENO },
		{ theirs, SERVER_READY_FD },
	};
	const struct child_spec spec = {
		.path = self,
		.argv = args,
		.envp = environ,
		.fds = child_fds,
		.n_fds = ARRAY_SIZE(child_fds),
		.new_session = true,
	};
	if (child_spawn(&spec, &child, &e))
		return cli_fail(&e);
	close_fd(&theirs);
	if (server_wait_ready(ours, address, sizeof(address))) {
		server_show_log(log_fd, from);
		child_kill(&child);
		return CLI_FAILED;
	}
	printf("Server started: %s (pid %d, log in %s)\n", address, child.pid, log);
	close_fd(&child.pidfd);
	return CLI_OK;
}

static int server_cmd_start(struct server_args *a, int argc, char **argv)
{
	struct server_info info;
	struct err e = ERR_INIT;
	int status, rc;

	if (!server_find(a->o.home, &info, NULL)) {
		cli_notice("a server is running already: %s (pid %d)", info.address, info.pid);
		return CLI_OK;
	}
	if (a->o.dev && (a->o.key_file || a->o.reset_key))
		return cli_usage(a->cmd,
				 "--dev needs no key: leave out --key-file and --reset-key");
	if (!a->o.tls_cert != !a->o.tls_key)
		return cli_usage(a->cmd, "--tls-cert and --tls-key go together");
	if (a->detach)
		return server_start_detached(a, argc, argv);
	/* In a container nobody else is there to wait for what killed supervisors leave. */
	if (init_is_first() && (rc = init_split(&status, &e)))
		return rc < 0 ? cli_fail(&e) : status;
	log_init(STDERR_FILENO, LOG_INFO, "server");
	return server_run(&a->o, &e) ? cli_fail(&e) : CLI_OK;
}

/* ---- stop, status --------------------------------------------------------------------------- */

static int server_cmd_stop(struct server_args *a)
{
	struct err e = ERR_INIT;

	if (server_stop(a->o.home, SERVER_STOP_WAIT_MS, &e))
		return cli_fail(&e);
	return CLI_OK;
}

static int server_cmd_status(struct server_args *a)
{
	struct server_info info = { .pid = 0 };
	struct err e = ERR_INIT;
	int rc = server_find(a->o.home, &info, &e);

	if (rc && rc != -ESRCH)
		return cli_fail(&e);
	if (a->json) {
		json_t *j = rc ? json_pack("{s:b}", "running", 0)
			       : json_pack("{s:b, s:i, s:s}", "running", 1, "pid", info.pid,
					   "address", info.address);

		json_dumpf(j, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(j);
	} else if (rc) {
		printf("not running\n");
	} else {
		printf("running: %s (pid %d)\n", info.address, info.pid);
	}
	return rc ? 1 : CLI_OK;
}

/* ---- keygen ------------------------------------------------------------------------------------ */

static int server_cmd_keygen(struct server_args *a)
{
	const char *ns = a->ns ? a->ns : "*";
	auto_free char *secret = NULL;
	struct server_key key = { .text = NULL };
	struct err e = ERR_INIT;
	char when[40];
	struct tm tm;
	time_t t;
	int rc;

	rc = server_key_load(a->o.home, a->o.key_file, false, false, &secret, &e);
	if (rc == -ENOENT && !a->o.key_file) {
		cli_error("there is no server.key yet: start the server once (without --dev)");
		return CLI_FAILED;
	}
	if (rc || server_key_make(secret, ns, a->expire_s, &key, &e))
		return cli_fail(&e);
	t = key.expires;
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S+00:00", gmtime_r(&t, &tm));
	printf("Token: %s\nToken expires: %s\nNamespace: %s\nKey id: %s\n", key.text, when, ns,
	       key.id);
	free(key.text);
	return CLI_OK;
}

static int server_cmd_revoke(struct server_args *a)
{
	struct err e = ERR_INIT;

	if (a->n_words < 2)
		return cli_usage(a->cmd, "revoke which key? Give its id, as keygen printed it");
	return server_key_revoke(a->o.home, a->words[1], &e) ? cli_fail(&e) : CLI_OK;
}

/* ---- log ------------------------------------------------------------------------------------------ */

/* Where the last @lines lines of a file begin. */
static off_t server_log_tail(int fd, uint64_t lines)
{
	off_t at = lseek(fd, 0, SEEK_END);
	uint64_t seen = 0;
	char block[4096];
	bool last = true;

	if (lines == UINT64_MAX)
		return 0;
	while (at > 0) {
		off_t from = at > (off_t)sizeof(block) ? at - (off_t)sizeof(block) : 0;
		ssize_t n = pread(fd, block, (size_t)(at - from), from);

		for (ssize_t i = n - 1; i >= 0; i--) {
			/* The newline at the very end begins no line. */
			if (block[i] == '\n' && !last && ++seen == lines)
				return from + i + 1;
			last = false;
		}
		at = from;
	}
	return lines ? 0 : lseek(fd, 0, SEEK_END);
}

static int server_log_copy(int fd)
{
	char block[16384];
	ssize_t n;

	while ((n = read(fd, block, sizeof(block))) > 0)
		if (write(STDOUT_FILENO, block, (size_t)n) != n)
			return -1;
	return n < 0 ? -1 : 0;
}

static int server_cmd_log(struct server_args *a)
{
	auto_free char *path = NULL;
	auto_close int fd = -1, watch = -1;
	char events[4096];
	int rc;

	if (a->n_words < 2)
		rc = asprintf(&path, "%s/" SERVER_LOG_FILE, a->o.home);
	else if (!cli_is_name(a->words[1]))
		return cli_usage(a->cmd, "'%s' is no name of a sandbox", a->words[1]);
	else if (a->o.path)
		rc = asprintf(&path, "%s/%s/menv/%s/log/supervisor.log", a->o.path,
			      a->ns ? a->ns : "default", a->words[1]);
	else
		rc = asprintf(&path, "%s/projects/%s/menv/%s/log/supervisor.log", a->o.home,
			      a->ns ? a->ns : "default", a->words[1]);
	fd = rc < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		if (a->n_words < 2)
			cli_error("there is no log yet (%s): a server writes it with --detach",
				  path);
		else
			cli_error("no sandbox %s runs in namespace %s (no %s)", a->words[1],
				  a->ns ? a->ns : "default", path);
		return CLI_FAILED;
	}
	if (a->follow) {
		watch = inotify_init1(IN_CLOEXEC);
		inotify_add_watch(watch, path,
				  IN_MODIFY | IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB);
	}
	lseek(fd, server_log_tail(fd, a->tail), SEEK_SET);
	while (!server_log_copy(fd) && watch >= 0) {
		struct stat st;

		if (fstat(fd, &st) < 0 || !st.st_nlink)
			break; /* the sandbox is gone */
		if (read(watch, events, sizeof(events)) <= 0)
			break;
	}
	return CLI_OK;
}

/* ---- list ----------------------------------------------------------------------------------------- */

struct server_listing {
	const char *ns;
	json_t *all;
};

/* What the server wrote down about a sandbox; one that does not say is listed all the same. */
static void server_list_one(void *ctx, const char *name, int dirfd)
{
	struct server_listing *l = ctx;
	auto_free char *text = NULL;
	const char *image, *since;
	json_t *meta = NULL;
	size_t len;

	if (!file_read_at(dirfd, "server.json", 2u << 20, &text, &len, NULL))
		meta = json_loadb(text, len, 0, NULL);
	image = json_string_value(json_object_get(meta, "image"));
	since = json_string_value(json_object_get(meta, "started_at"));
	json_array_append_new(l->all, json_pack("{s:s, s:s, s:s?, s:s?}", "namespace", l->ns,
						"name", name, "image", image, "started_at", since));
	json_decref(meta);
}

/* Works without a server: sandboxes do too. */
static int server_cmd_list(struct server_args *a)
{
	struct server_listing l = { .all = json_array() };
	auto_free char *made = NULL;
	const char *path = a->o.path;
	struct dirent *d;
	json_t *one;
	DIR *dir;
	size_t i;

	if (!path && asprintf(&made, "%s/projects", a->o.home) >= 0)
		path = made;
	dir = path ? opendir(path) : NULL;
	while (dir && (d = readdir(dir))) {
		auto_free char *parent = NULL;

		if (!cli_is_name(d->d_name) ||
		    (a->ns && strcmp(a->ns, "*") && strcmp(a->ns, d->d_name)) ||
		    asprintf(&parent, "%s/%s/menv", path, d->d_name) < 0)
			continue;
		l.ns = d->d_name;
		launch_each(parent, server_list_one, &l);
	}
	if (dir)
		closedir(dir);
	if (a->json) {
		json_dumpf(l.all, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (json_array_size(l.all)) {
		printf("%-20s %-24s %-28s %s\n", "NAMESPACE", "NAME", "IMAGE", "SINCE");
	}
	json_array_foreach(l.all, i, one)
	{
		const char *image = json_string_value(json_object_get(one, "image"));
		const char *since = json_string_value(json_object_get(one, "started_at"));

		if (!a->json)
			printf("%-20s %-24s %-28s %s\n",
			       json_string_value(json_object_get(one, "namespace")),
			       json_string_value(json_object_get(one, "name")), image ? image : "-",
			       since ? since : "-");
	}
	json_decref(l.all);
	return CLI_OK;
}

/* ---- server ----------------------------------------------------------------------------------------- */

static int server_dispatch(struct server_args *a, int argc, char **argv)
{
	const char *verb = a->n_words ? a->words[0] : "";
	int most = !strcmp(verb, "log") || !strcmp(verb, "revoke") ? 2 : 1;

	if (a->n_words > most)
		return cli_usage(a->cmd, "unexpected argument '%s'", a->words[most]);
	if (!strcmp(verb, "start"))
		return server_cmd_start(a, argc, argv);
	if (!strcmp(verb, "stop"))
		return server_cmd_stop(a);
	if (!strcmp(verb, "status"))
		return server_cmd_status(a);
	if (!strcmp(verb, "list"))
		return server_cmd_list(a);
	if (!strcmp(verb, "keygen"))
		return server_cmd_keygen(a);
	if (!strcmp(verb, "revoke"))
		return server_cmd_revoke(a);
	if (!strcmp(verb, "log"))
		return server_cmd_log(a);
	if (!*verb)
		return cli_usage(a->cmd, "what? start, stop, status, list, keygen, revoke or log");
	return cli_usage(
		a->cmd,
		"unknown command 'server %s': use start, stop, status, list, keygen, revoke or log",
		verb);
}

int cmd_server(const struct cli_command *cmd, int argc, char **argv)
{
	struct server_args a = {
		.cmd = cmd,
		.o = { .host = "127.0.0.1",
		       .port = SERVER_PORT,
		       .max_sandboxes = SERVER_SANDBOXES_MAX,
		       .jail = "full",
		       .ready_fd = -1 },
		.expire_s = SERVER_KEY_HOURS * 3600,
		.tail = UINT64_MAX,
	};
	auto_free char *home = NULL;
	auto_free char **given = NULL;
	struct err e = ERR_INIT;
	struct cli_args args;
	int opt, rc;

	/* Reading the arguments moves them about. */
	given = calloc((size_t)argc + 1, sizeof(char *));
	if (!given || parts_home(&home, &e))
		return cli_fail(&e);
	memcpy(given, argv, (size_t)argc * sizeof(char *));
	a.o.home = home;
	cli_args_init(&args, cmd, argc, argv);
	while ((opt = cli_args_next(&args)) >= 0) {
		rc = server_parse_option(&a, opt, args.value);
		if (rc)
			return rc;
	}
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	a.words = args.words;
	a.n_words = args.n_words;
	return server_dispatch(&a, argc, given);
}
