/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `msb image`, and its commands that have a name of their own (`msb pull`, `msb images`,
 * …): handed over to msb-image.  It is a program of its own because it reads archives,
 * with libraries that msb should not load at every start of a sandbox.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "sys/parts.h"

#define IMAGE_OPT_REGISTRY \
	{ "insecure", NULL, "", NULL, \
	  "plain HTTP, or a certificate that cannot be verified, will do" }, \
		{ "ca-certs", NULL, "", "FILE", "trust these certificates (PEM) too" }, \
		{ "retries", NULL, "", "N", "tries in a row that bring nothing (default 5)" }, \
		{ "timeout", NULL, "", "SECONDS", \
		  "give up a connection that is silent for so long (default 60)" }, \
	{ \
		"jail", NULL, "", "MODE", \
			"full (default), or reduced where user namespaces are refused" \
	}

const struct cli_opt pull_opts[] = {
	{ "platform", NULL, "", "OS/ARCH", "which variant of the image (default: this machine's)" },
	{ "parallel", NULL, "", "N", "layers that are fetched at a time (default 4)" },
	{ "public-only", NULL, "", NULL,
	  "no registry at a private address, unless registries.json has it" },
	{ "max-unpacked", NULL, "", "SIZE",
	  "refuse an image that holds more: 500M, 8G (default 64G)" },
	IMAGE_OPT_REGISTRY,
	{ "json", NULL, "", NULL, "a line for programs" },
	{ "quiet", NULL, "q", NULL, "no progress" },
	{ NULL },
};

const struct cli_opt login_opts[] = {
	{ "username", NULL, "u", "NAME", "do not ask for it" },
	{ "password-stdin", NULL, "", NULL, "read the password from standard input" },
	IMAGE_OPT_REGISTRY,
	{ "quiet", NULL, "q", NULL, "say nothing" },
	{ NULL },
};

const struct cli_opt logout_opts[] = { { "quiet", NULL, "q", NULL, "say nothing" }, { NULL } };

const struct cli_opt images_opts[] = { { "json", NULL, "", NULL, "for programs" }, { NULL } };

const struct cli_opt rmi_opts[] = {
	{ "force", NULL, "", NULL, "take the name away although a sandbox runs the image" },
	{ "json", NULL, "", NULL, "for programs" },
	{ NULL },
};

const struct cli_opt load_opts[] = {
	{ "input", NULL, "i", "FILE", "the archive (default: standard input)" },
	{ "name", NULL, "", "NAME[:TAG]", "name of an archive's only image" },
	{ "jail", NULL, "", "MODE", "full (default), or reduced where user namespaces are refused" },
	{ "json", NULL, "", NULL, "a line for programs" },
	{ "quiet", NULL, "q", NULL, "no progress" },
	{ NULL },
};

const struct cli_opt save_opts[] = {
	{ "output", NULL, "o", "FILE", "where to (default: standard output)" },
	{ "format", NULL, "", "FORMAT", "oci (default) or docker" },
	{ NULL },
};

const struct cli_opt df_opts[] = { { "json", NULL, "", NULL, "for programs" }, { NULL } };

const struct cli_opt prune_opts[] = {
	{ "all", NULL, "a", NULL, "all images that no sandbox runs" },
	{ "older-than", NULL, "", "TIME", "images that were not used for so long: 12h, 30d" },
	{ "max-size", NULL, "", "SIZE", "least recently used images until the rest fits: 20G" },
	{ "json", NULL, "", NULL, "for programs" },
	{ NULL },
};

static int image_exec(char **argv)
{
	auto_free char *path = NULL;
	struct err e = ERR_INIT;

	if (parts_path("msb-image", &path, &e))
		return cli_fail(&e);
	argv[0] = (char *)"msb image";
	execv(path, argv);
	err_errno(&e, errno, "cannot run %s", path);
	return cli_fail(&e);
}

int cmd_image(const struct cli_command *cmd, int argc, char **argv)
{
	(void)cmd;
	(void)argc;
	return image_exec(argv);
}

int cmd_image_part(const struct cli_command *cmd, int argc, char **argv)
{
	auto_free char **words = calloc((size_t)argc + 2, sizeof(*words));
	const char *name = cmd->name;
	struct err e = ERR_INIT;

	if (!words) {
		err_errno(&e, ENOMEM, "msb %s", name);
		return cli_fail(&e);
	}
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			cli_print_help(cmd);
			return CLI_OK;
		}
	if (!strcmp(name, "images"))
		name = "ls";
	else if (!strcmp(name, "rmi"))
		name = "rm";
	words[1] = (char *)name;
	for (int i = 1; i < argc; i++)
		words[i + 1] = argv[i];
	return image_exec(words);
}
