/* SPDX-License-Identifier: Apache-2.0 */
/* `msb server`: start, stop, status, list, keygen, revoke, log. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/server_show.h"
#include "lib/volumes.h"
#include "server/server.h"
#include "sys/child.h"
#include "sys/file.h"
#include "sys/init.h"
#include "sys/parts.h"

#define SERVER_STOP_WAIT_MS 45000u
#define SERVER_SANDBOXES_MAX 256u
#define SERVER_KEY_HOURS 24u
#define SERVER_READY_FD 3
#define SERVER_VOLUMES_MAX 16u
#define SERVER_VOLUMES_BYTES (16ull << 30)
#define SERVER_ALLOW_MAX 32u /* --allow-volumes */

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
	SERVER_PULL,
	SERVER_PUBLISH,
	SERVER_DETACH,
	SERVER_EXPIRE,
	SERVER_NAMESPACE,
	SERVER_FOLLOW,
	SERVER_TAIL,
	SERVER_JSON,
	SERVER_READY,
	SERVER_MAX_MEMORY,
	SERVER_RATE,
	SERVER_AUDIT_LOG,
	SERVER_SOURCE,
	SERVER_ALLOW_VOLUMES,
	SERVER_MAX_VOLUMES,
	SERVER_MAX_VOLUME_SIZE,
};

const struct cli_opt server_opts[] = {
	[SERVER_DEV] = { "dev", NULL, "", NULL, "start: no keys; this machine only" },
	[SERVER_HOST] = { "host", NULL, "", "IP",
			  "start: address to listen on (default 127.0.0.1)" },
	[SERVER_PORT_OPT] = { "port", NULL, "", "PORT", "start: port (default 5555; 0 = any)" },
	[SERVER_UNIX] = { "unix", NULL, "", "FILE", "start: listen on this socket as well" },
	[SERVER_PATH] = { "path", NULL, "p", "DIR",
			  "start, list, status, log: where namespaces are kept (default: the "
			  "running server's, or ~/.microsandbox/projects)" },
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
				   "start: at most so many at once (default 256); keygen: so many "
				   "of the key's" },
	[SERVER_JAIL] = { "jail", NULL, "", "MODE",
			  "start: full (default), or reduced where user namespaces are refused" },
	[SERVER_PULL] = { "pull", NULL, "", "WHEN",
			  "start: missing (default): images that are not there are pulled; never" },
	[SERVER_PUBLISH] = { "publish", NULL, "", "WHERE",
			     "start: where sandboxes may publish ports: local (default), any, "
			     "none" },
	[SERVER_DETACH] = { "detach", NULL, "d", NULL, "start: in the background" },
	[SERVER_EXPIRE] = { "expire", NULL, "", "TIME",
			    "keygen: how long the key is valid: 30m, 12h, 7d, 2w, 3mo, 1y (default "
			    "24h)" },
	[SERVER_NAMESPACE] = { "namespace", NULL, "n", "NAME",
			       "keygen, list, status: the only namespace (default: all); log: the "
			       "sandbox's (default \"default\")" },
	[SERVER_FOLLOW] = { "follow", NULL, "f", NULL, "log: go on as more is written" },
	[SERVER_TAIL] = { "tail", NULL, "t", "N", "log: the last N lines" },
	[SERVER_JSON] = { "json", NULL, "", NULL, "status, list, keygen: for programs" },
	[SERVER_READY] = { "ready-fd", NULL, "", "N",
			   "start: tell this descriptor when serving, in the foreground" },
	[SERVER_MAX_MEMORY] = { "max-memory", NULL, "", "MIB",
				"keygen: memory of all sandboxes of the key together" },
	[SERVER_RATE] = { "rate", NULL, "", "N", "keygen: requests a second" },
	[SERVER_AUDIT_LOG] = { "audit-log", NULL, "", "FILE|none",
			       "start: who reached which sandbox (default "
			       "~/.microsandbox/server.audit.log)" },
	[SERVER_SOURCE] = { "source", NULL, "", "WHICH",
			    "log: of a sandbox: supervisor (default), console, vm or net" },
	[SERVER_ALLOW_VOLUMES] = { "allow-volumes", NULL, "", "DIR",
				   "start: clients may share this directory of the host, and what "
				   "is "
				   "in it (repeatable; default: named volumes only)" },
	[SERVER_MAX_VOLUMES] = { "max-volumes", NULL, "", "N",
				 "start: clients make at most so many named volumes in a namespace "
				 "(default 16; 0 = none)" },
	[SERVER_MAX_VOLUME_SIZE] = { "max-volume-size", NULL, "", "SIZE",
				     "start: the quotas of these together (default 16G)" },
	{ NULL },
};

struct server_args {
	const struct cli_command *cmd;
	struct server_options o;
	bool detach, follow, json;
	int64_t expire_s;
	struct token_limits limits; /* of a key; its sandboxes are o.max_sandboxes */
	const char *ns, *source;
	uint64_t tail; /* UINT64_MAX = all */
	char **words;
	int n_words;
	unsigned given; /* bits of enum server_opt */
	char *allow[SERVER_ALLOW_MAX]; /* owned */
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

static bool server_is_source(const char *s)
{
	return !strcmp(s, "supervisor") || !strcmp(s, "console") || !strcmp(s, "vm") ||
	       !strcmp(s, "net");
}

static int server_allow_volumes(struct server_args *a, const char *dir)
{
	struct err e = ERR_INIT;

	if (a->o.n_allow_volumes == SERVER_ALLOW_MAX)
		return cli_usage(a->cmd, "--allow-volumes is given more than %u times",
				 SERVER_ALLOW_MAX);
	if (volumes_allow(dir, &a->allow[a->o.n_allow_volumes], &e))
		return cli_usage(a->cmd, "--allow-volumes: %s", err_text(&e));
	a->o.n_allow_volumes++;
	a->o.allow_volumes = (const char *const *)a->allow;
	return 0;
}

static int server_limit_volumes(struct server_args *a, int opt, const char *v)
{
	uint64_t n;

	if (opt == SERVER_MAX_VOLUME_SIZE) {
		if (!volume_parse_size(v, &a->o.volumes.bytes))
			return 0;
		return cli_usage(a->cmd,
				 "--max-volume-size is '%s': give MiB or a size such as 512M or "
				 "10G",
				 v);
	}
	if (cli_parse_uint(v, 1024, &n))
		return cli_usage(a->cmd, "--max-volumes is '%s': give a number to 1024", v);
	a->o.volumes.n = (unsigned)n;
	return 0;
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
		return cli_one_of(a->cmd, "jail", v, cli_jails, &a->o.jail);
	case SERVER_PULL:
		a->o.no_pull = !strcmp(v, "never");
		if (strcmp(v, "never") && strcmp(v, "missing"))
			return cli_usage(a->cmd, "--pull is '%s': use one of missing, never", v);
		return 0;
	case SERVER_PUBLISH:
		return cli_one_of(a->cmd, "publish", v, cli_publish, &a->o.publish);
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
	case SERVER_MAX_MEMORY:
		if (cli_parse_uint(v, UINT32_MAX, &n) || !n)
			return cli_usage(a->cmd, "--max-memory is '%s': give MiB from 1", v);
		a->limits.memory_mib = (uint32_t)n;
		return 0;
	case SERVER_RATE:
		if (cli_parse_uint(v, 1000000, &n) || !n)
			return cli_usage(a->cmd, "--rate is '%s': give a number from 1 to 1000000",
					 v);
		a->limits.rate = (uint32_t)n;
		return 0;
	case SERVER_AUDIT_LOG:
		a->o.audit_log = v;
		return *v ? 0 : cli_usage(a->cmd, "--audit-log: give a file, or none");
	case SERVER_MAX_VOLUMES:
	case SERVER_MAX_VOLUME_SIZE:
		return server_limit_volumes(a, opt, v);
	case SERVER_ALLOW_VOLUMES:
		return server_allow_volumes(a, v);
	case SERVER_SOURCE:
		a->source = v;
		if (server_is_source(v))
			return 0;
		return cli_usage(a->cmd, "--source is '%s': use supervisor, console, vm or net", v);
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
static void server_print_log(int log_fd, off_t from)
{
	char text[4096];
	ssize_t n = pread(log_fd, text, sizeof(text), from);

	if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
		return;
}

/* The same command line, in a session of its own; --ready-fd says that this is it. */
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
	if (parts_self(&self, &e))
		return cli_fail(&e);
	if (log_fd < 0 || pipe2(fds, O_CLOEXEC) < 0) {
		err_errno(&e, errno, "cannot write %s", log);
		return cli_fail(&e);
	}
	ours = fds[0];
	theirs = fds[1];
	from = lseek(log_fd, 0, SEEK_END);
	args[n++] = (char *)"msb";
	/* In front of the rest: there may be a "--". */
	args[n++] = argv[0];
	snprintf(fd_text, sizeof(fd_text), "%d", SERVER_READY_FD);
	args[n++] = (char *)"--ready-fd";
	args[n++] = fd_text;
	for (int i = 1; i < argc; i++)
		args[n++] = argv[i];
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
		server_print_log(log_fd, from);
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
	if (a->detach && a->o.ready_fd < 0)
		return server_start_detached(a, argc, argv);
	/* In a container nobody else is there to wait for what killed supervisors leave. */
	if (init_is_first() && (rc = init_split(&status, &e)))
		return rc < 0 ? cli_fail(&e) : status;
	log_init(STDERR_FILENO, LOG_INFO, "server");
	return server_run(&a->o, &e) ? cli_fail(&e) : CLI_OK;
}

/* ---- stop ----------------------------------------------------------------------------------- */

static int server_cmd_stop(struct server_args *a)
{
	struct err e = ERR_INIT;

	if (server_stop(a->o.home, SERVER_STOP_WAIT_MS, &e))
		return cli_fail(&e);
	return CLI_OK;
}

/* ---- keygen ------------------------------------------------------------------------------------ */

static void server_print_key(const struct server_args *a, const struct server_key *key,
			     const char *ns, const char *when)
{
	const struct token_limits *l = &a->limits;
	json_t *j;

	if (a->json) {
		j = json_pack("{s:s, s:s, s:s, s:s, s:{}}", "token", key->text, "expires", when,
			      "namespace", ns, "id", key->id, "limits");
		if (l->sandboxes)
			json_object_set_new(json_object_get(j, "limits"), "max_sandboxes",
					    json_integer(l->sandboxes));
		if (l->memory_mib)
			json_object_set_new(json_object_get(j, "limits"), "max_memory",
					    json_integer(l->memory_mib));
		if (l->rate)
			json_object_set_new(json_object_get(j, "limits"), "rate",
					    json_integer(l->rate));
		json_dumpf(j, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(j);
		return;
	}
	printf("Token: %s\nToken expires: %s\nNamespace: %s\nKey id: %s\n", key->text, when, ns,
	       key->id);
	if (l->sandboxes)
		printf("Sandboxes at once: %u\n", l->sandboxes);
	if (l->memory_mib)
		printf("Memory: %u MiB\n", l->memory_mib);
	if (l->rate)
		printf("Requests a second: %u\n", l->rate);
}

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

	if (a->given & 1u << SERVER_MAX_SANDBOXES)
		a->limits.sandboxes = a->o.max_sandboxes;
	rc = server_key_load(a->o.home, a->o.key_file, false, false, &secret, &e);
	if (rc == -ENOENT && !a->o.key_file) {
		cli_error("there is no server.key yet: start the server once (without --dev)");
		return CLI_FAILED;
	}
	if (rc || server_key_make(secret, ns, a->expire_s, &a->limits, &key, &e))
		return cli_fail(&e);
	t = key.expires;
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S+00:00", gmtime_r(&t, &tm));
	server_print_key(a, &key, ns, when);
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

/* ---- server ----------------------------------------------------------------------------------------- */

static int server_dispatch(struct server_args *a, int argc, char **argv)
{
	const char *verb = a->n_words ? a->words[0] : "";
	int most = !strcmp(verb, "log") || !strcmp(verb, "revoke") ? 2 : 1;
	const struct server_show show = {
		.cmd = a->cmd,
		.home = a->o.home,
		.path = a->o.path,
		.ns = a->ns,
		.source = a->source,
		.json = a->json,
		.follow = a->follow,
		.tail = a->tail,
		.names = a->words + 1,
		.n_names = a->n_words - 1,
	};

	if (!strcmp(verb, "status"))
		most = a->n_words;

	if (a->n_words > most)
		return cli_usage(a->cmd, "unexpected argument '%s'", a->words[most]);
	if (!strcmp(verb, "start"))
		return server_cmd_start(a, argc, argv);
	if (!strcmp(verb, "stop"))
		return server_cmd_stop(a);
	if (!strcmp(verb, "status"))
		return server_show_status(&show);
	if (!strcmp(verb, "list"))
		return server_show_list(&show);
	if (!strcmp(verb, "keygen"))
		return server_cmd_keygen(a);
	if (!strcmp(verb, "revoke"))
		return server_cmd_revoke(a);
	if (!strcmp(verb, "log"))
		return server_show_log(&show);
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
		       .publish = "local",
		       .volumes = { SERVER_VOLUMES_MAX, SERVER_VOLUMES_BYTES },
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
