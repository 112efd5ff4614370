/* SPDX-License-Identifier: Apache-2.0 */
/* `msb supervise`: not for people; see sandbox/supervisor.h. */
#include "base/mem.h"
#include "cli/cli.h"
#include "sandbox/supervisor.h"

enum supervise_opt {
	SUPERVISE_DIR_FD,
	SUPERVISE_OWNER_FD,
	SUPERVISE_PORTS_FD,
	SUPERVISE_SECRETS_FD
};

const struct cli_opt supervise_opts[] = {
	[SUPERVISE_DIR_FD] = { "dir-fd", NULL, "", "N", "the sandbox's directory, locked" },
	[SUPERVISE_OWNER_FD] = { "owner-fd", NULL, "", "N", "the owner's connection" },
	[SUPERVISE_PORTS_FD] = { "ports-fd", NULL, "", "N",
				 "the first of the published ports' sockets" },
	[SUPERVISE_SECRETS_FD] = { "secrets-fd", NULL, "", "N", "the secrets, for msb-net" },
	{ NULL },
};

int cmd_supervise(const struct cli_command *cmd, int argc, char **argv)
{
	uint64_t fd[SUPERVISE_SECRETS_FD + 1] = { 0 };
	struct cli_args a;
	int opt;

	cli_args_init(&a, cmd, argc, argv);
	while ((opt = cli_args_next(&a)) >= 0)
		if (cli_parse_uint(a.value, 1023, &fd[opt]) || fd[opt] < 3)
			return cli_usage(cmd, "--%s is '%s': give a descriptor",
					 supervise_opts[opt].name, a.value);
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (!fd[SUPERVISE_DIR_FD] || a.n_words != 1)
		return cli_usage(cmd, "this command is for msb itself");
	return supervisor_main((int)fd[SUPERVISE_DIR_FD], a.words[0],
			       fd[SUPERVISE_OWNER_FD] ? (int)fd[SUPERVISE_OWNER_FD] : -1,
			       fd[SUPERVISE_PORTS_FD] ? (int)fd[SUPERVISE_PORTS_FD] : -1,
			       fd[SUPERVISE_SECRETS_FD] ? (int)fd[SUPERVISE_SECRETS_FD] : -1);
}
