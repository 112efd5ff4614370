/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `msb image`: hands over to msb-image.  It is a program of its own because it reads
 * archives, with libraries that msb should not load at every start of a sandbox.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "sys/parts.h"

int cmd_image(const struct cli_command *cmd, int argc, char **argv)
{
	auto_free char *path = NULL;
	struct err e = ERR_INIT;

	(void)cmd;
	(void)argc;
	if (parts_path("msb-image", &path, &e))
		return cli_fail(&e);
	argv[0] = (char *)"msb image";
	execv(path, argv);
	err_errno(&e, errno, "cannot run %s", path);
	return cli_fail(&e);
}
