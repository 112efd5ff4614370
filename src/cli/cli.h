/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_CLI_H
#define MSB_CLI_CLI_H

/*
 * The command line: one table of commands (main.c), each with a table of options.
 * Help, usage errors and shell completion are all made from these tables.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
	CLI_OK = 0,
	CLI_USAGE = 2, /* the command line is wrong */
	CLI_FAILED = 125, /* msb itself failed (as env(1), docker and podman have it) */
	CLI_NOT_RUN = 126, /* the command was found and could not be run */
	CLI_NOT_FOUND = 127, /* the command was not found */
	CLI_TIMEOUT = 124, /* as timeout(1) */
};

struct cli_opt {
	const char *name; /* "memory" */
	const char *alias; /* second long name, or NULL */
	char letter[3]; /* up to two short ones, "" = none */
	const char *arg; /* "MIB"; NULL = a switch */
	const char *help; /* one line */
};

struct cli_command {
	const char *name, *alias; /* alias: short name, or NULL */
	const char *args; /* "IMAGE[~SCRIPT] [-- ARGS...]" */
	const char *summary; /* one line, in the list of commands */
	const char *details; /* for `msb help NAME`; may be NULL */
	const struct cli_opt *opts; /* ended by name NULL; may be NULL */
	int (*run)(const struct cli_command *cmd, int argc, char **argv);
	bool hidden;
};

/* Progress of reading one command's arguments. */
struct cli_args {
	const struct cli_command *cmd;
	const char *value; /* of the option last returned */
	char **words; /* positional arguments, in order */
	int n_words;
	char **rest; /* what stood behind "--", NULL-terminated; NULL = there was none */
	int n_rest;
	/* internal */
	int argc, next;
	char **argv;
	const char *cluster; /* rest of a group of short options */
};

enum { CLI_OPT_END = -1, CLI_OPT_BAD = -2, CLI_OPT_HELP = -3 };

/* @argv[0] is the command's name. */
void cli_args_init(struct cli_args *a, const struct cli_command *cmd, int argc, char **argv);

/*
 * The next option: its index in the command's table; CLI_OPT_END; CLI_OPT_BAD after a
 * message (return CLI_USAGE); CLI_OPT_HELP after --help was served (return CLI_OK).
 */
int cli_args_next(struct cli_args *a);

/* The exit status for CLI_OPT_BAD and CLI_OPT_HELP. */
static inline int cli_args_status(int opt)
{
	return opt == CLI_OPT_HELP ? CLI_OK : CLI_USAGE;
}

/* "msx: error: …" on stderr. */
void cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void cli_notice(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Code of an error, no errno, of which a program that we started has told the user already. */
#define CLI_TOLD 4096

/* Prints the error, unless it has been told, and returns CLI_FAILED. */
int cli_fail(const struct err *e);

/* As cli_error(), with a pointer to the command's help; returns CLI_USAGE. */
int cli_usage(const struct cli_command *cmd, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* What --engine, --jail and the servers' --publish take, ended by NULL. */
extern const char *const cli_engines[], *const cli_jails[], *const cli_publish[];

/*
 * Is @v one of @set, in any case of letters? *@out: that one, as it stands in @set.
 * Return: 0, or a usage error's status.
 */
int cli_one_of(const struct cli_command *cmd, const char *opt, const char *v,
	       const char *const *set, const char **out);

/* Of --boot-timeout: whole seconds. Return: 0, or a usage error's status. */
int cli_boot_timeout(const struct cli_command *cmd, const char *v, unsigned *seconds);

/* The name people called us by: "msb" or "msx". */
extern const char *cli_program;

void cli_print_help(const struct cli_command *cmd);

/* All commands, ended by name NULL. */
extern const struct cli_command cli_commands[];

/* By name or short name; NULL if there is none. */
const struct cli_command *cli_find_command(const char *name);

/* "512", "512M", "2G", "1.5G" -> bytes; a bare number is MiB. */
int cli_parse_memory(const char *s, uint64_t *bytes);
/* "90", "1.5", "90s", "2m", "1h", "250ms" -> milliseconds; a bare number is seconds. */
int cli_parse_duration(const char *s, uint64_t *ms);
int cli_parse_uint(const char *s, uint64_t max, uint64_t *out);
/* Is it a name of a sandbox or namespace: letters, digits, - and _, at most 63 bytes? */
bool cli_is_name(const char *s);

int cmd_clean(const struct cli_command *cmd, int argc, char **argv);
int cmd_down(const struct cli_command *cmd, int argc, char **argv);
int cmd_exec(const struct cli_command *cmd, int argc, char **argv);
int cmd_exe(const struct cli_command *cmd, int argc, char **argv);
int cmd_add(const struct cli_command *cmd, int argc, char **argv);
int cmd_build(const struct cli_command *cmd, int argc, char **argv);
int cmd_check(const struct cli_command *cmd, int argc, char **argv);
int cmd_init(const struct cli_command *cmd, int argc, char **argv);
int cmd_remove(const struct cli_command *cmd, int argc, char **argv);
int cmd_image(const struct cli_command *cmd, int argc, char **argv);
/* A command of msb-image that msb has under the same name (images: ls, rmi: rm). */
int cmd_image_part(const struct cli_command *cmd, int argc, char **argv);
int cmd_doctor(const struct cli_command *cmd, int argc, char **argv);
int cmd_install(const struct cli_command *cmd, int argc, char **argv);
int cmd_list(const struct cli_command *cmd, int argc, char **argv);
int cmd_log(const struct cli_command *cmd, int argc, char **argv);
int cmd_mcp(const struct cli_command *cmd, int argc, char **argv);
int cmd_net(const struct cli_command *cmd, int argc, char **argv);
int cmd_restart(const struct cli_command *cmd, int argc, char **argv);
int cmd_run(const struct cli_command *cmd, int argc, char **argv);
int cmd_server(const struct cli_command *cmd, int argc, char **argv);
int cmd_shell(const struct cli_command *cmd, int argc, char **argv);
int cmd_cp(const struct cli_command *cmd, int argc, char **argv);
int cmd_inspect(const struct cli_command *cmd, int argc, char **argv);
int cmd_stats(const struct cli_command *cmd, int argc, char **argv);
int cmd_status(const struct cli_command *cmd, int argc, char **argv);
int cmd_supervise(const struct cli_command *cmd, int argc, char **argv);
int cmd_uninstall(const struct cli_command *cmd, int argc, char **argv);
int cmd_up(const struct cli_command *cmd, int argc, char **argv);
int cmd_volume(const struct cli_command *cmd, int argc, char **argv);
int cmd_version(const struct cli_command *cmd, int argc, char **argv);
int cmd_help(const struct cli_command *cmd, int argc, char **argv);
int cmd_completion(const struct cli_command *cmd, int argc, char **argv);

extern const struct cli_opt exe_opts[], doctor_opts[], mcp_opts[], net_opts[], server_opts[],
	supervise_opts[], volume_opts[];
extern const struct cli_opt add_opts[], build_opts[], check_opts[], init_opts[], remove_opts[];
extern const struct cli_opt clean_opts[], cp_opts[], down_opts[], install_opts[], list_opts[],
	log_opts[], inspect_opts[], run_opts[], stats_opts[], status_opts[], up_opts[];
extern const struct cli_opt pull_opts[], login_opts[], logout_opts[], images_opts[], rmi_opts[],
	load_opts[], save_opts[], df_opts[], prune_opts[];

#endif
