/* SPDX-License-Identifier: Apache-2.0 */
/* msb: one program, many commands; msx is `msb exe`, msr is `msb run`, msi is `msb install`. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

const struct cli_command cli_commands[] = {
	{
		.name = "exe",
		.alias = "x",
		.args = "IMAGE[~SCRIPT] [OPTIONS] [-- ARGS...]",
		.summary = "run a command in a throw-away sandbox (also: msx)",
		.details = "Starts a fresh microVM from IMAGE, runs one command in it with this "
			   "terminal or\n"
			   "these pipes, and removes it. Without ARGS the image's own command "
			   "runs; ARGS replace\n"
			   "what follows its program, so that `msx python -- -c 'print(1)'` works. "
			   "~shell runs\n"
			   "/bin/sh. The exit status is the command's; 124 after --timeout, 125 if "
			   "msb failed,\n"
			   "126 and 127 if the program could not be run or was not found, 128+n "
			   "after signal n.\n",
		.opts = exe_opts,
		.run = cmd_exe,
	},
	{
		.name = "init",
		.args = "[-f PATH]",
		.summary = "make a Sandboxfile, which describes a project's sandboxes",
		.details = "Also writes menv/, where its sandboxes keep what they have, into "
			   ".gitignore. What is there\n"
			   "already stays as it is.\n",
		.opts = init_opts,
		.run = cmd_init,
	},
	{
		.name = "add",
		.args = "NAME... --image IMAGE [OPTIONS] [-- COMMAND...]",
		.summary = "write sandboxes into the Sandboxfile",
		.details =
			"Comments, order and layout of the file stay. COMMAND is what runs where "
			"there is no\n"
			"script 'start'. For example:\n\n"
			"  msb add db --image python --memory 512 --env A=1\n"
			"  msb add web --image node --port 8080:80 --depends-on db --start 'node "
			"app.js'\n",
		.opts = add_opts,
		.run = cmd_add,
	},
	{
		.name = "remove",
		.alias = "rm",
		.args = "NAME... [-f PATH]",
		.summary = "take sandboxes out of the Sandboxfile",
		.details = "Only out of the file: what a sandbox wrote stays in menv/.\n",
		.opts = remove_opts,
		.run = cmd_remove,
	},
	{
		.name = "check",
		.args = "[-f PATH] [--json|--quiet|--schema]",
		.summary = "say what is wrong with a Sandboxfile, and what would run",
		.details = "Also looks whether its paths, files of variables and volumes are "
			   "there. The exit status\n"
			   "is 1 if something is wrong. --schema is for editors, as in\n"
			   "`msb check --schema > sandboxfile.schema.json`.\n",
		.opts = check_opts,
		.run = cmd_check,
	},
	{
		.name = "build",
		.args = "[NAME...] [OPTIONS]",
		.summary = "make the images that the Sandboxfile's builds describe",
		.details = "Each build's steps run in a throw-away sandbox of its base; what they "
			   "changed is kept as an\n"
			   "image, which sandboxes with `build: NAME` start from. A build of which "
			   "nothing has changed\n"
			   "takes no time. With names, those and what they stand on.\n",
		.opts = build_opts,
		.run = cmd_build,
	},
	{
		.name = "run",
		.alias = "r",
		.args = "NAME[~SCRIPT] [OPTIONS] [-- ARGS...]",
		.summary = "run a command in a sandbox of this project (also: msr)",
		.details =
			"Runs the script \"start\", or another one, of the sandbox NAME in the "
			"Sandboxfile; else\n"
			"its command, else its image's. ARGS replace the default arguments. A "
			"sandbox that runs\n"
			"already is used as it is; else it is started, and ends when the last "
			"command in it has\n"
			"ended. What it wrote is there the next time (menv/NAME; see msb clean). "
			"The exit status\n"
			"is the command's, as of msb exe.\n",
		.opts = run_opts,
		.run = cmd_run,
	},
	{
		.name = "shell",
		.args = "NAME [OPTIONS] [-- ARGS...]",
		.summary = "a shell in a sandbox of this project",
		.details = "The same as msb run NAME~shell.\n",
		.opts = run_opts,
		.run = cmd_shell,
	},
	{
		.name = "exec",
		.args = "NAME [OPTIONS] -- PROGRAM [ARGS...]",
		.summary = "run a program in a sandbox that runs",
		.details = "As msb run NAME --exec PROGRAM, but the sandbox is not started.\n",
		.opts = run_opts,
		.run = cmd_exec,
	},
	{
		.name = "up",
		.args = "[NAME...] [OPTIONS]",
		.summary = "start the sandboxes of this project, or some",
		.details =
			"Starts them, those that others depend on first. One with a script "
			"\"start\" or a command\n"
			"runs it and ends with it; one without runs until `msb down`. With "
			"--detach it returns\n"
			"when all are ready; without, it shows what they print, each line with its "
			"sandbox's\n"
			"name, until they have ended, and Ctrl-C stops them. The exit status is 1 "
			"if a command's\n"
			"was not 0.\n",
		.opts = up_opts,
		.run = cmd_up,
	},
	{
		.name = "down",
		.args = "[NAME...] [OPTIONS]",
		.summary = "stop the sandboxes of this project, or some",
		.details =
			"Their processes get SIGTERM and some time, then what they wrote is synced "
			"and the power\n"
			"goes. A sandbox that does not end by then is killed. What was written "
			"stays.\n",
		.opts = down_opts,
		.run = cmd_down,
	},
	{
		.name = "restart",
		.args = "[NAME...] [OPTIONS]",
		.summary = "down, then up --detach",
		.opts = up_opts,
		.run = cmd_restart,
	},
	{
		.name = "status",
		.alias = "ps",
		.args = "[NAME...] [--json]",
		.summary = "what the sandboxes of this project do and use",
		.details = "CPU is that of the last moments, 100 % being one processor; memory is "
			   "what the guest\n"
			   "has in use; disk what its writes take here.\n",
		.opts = status_opts,
		.run = cmd_status,
	},
	{
		.name = "stats",
		.args = "[NAME...] [--watch|--json]",
		.summary = "what the running sandboxes of this project use",
		.details = "As their guests tell it: CPU of the last moments, 100 % being one "
			   "processor; memory and\n"
			   "disk in use, and how much there is; bytes received and sent; "
			   "processes.\n",
		.opts = stats_opts,
		.run = cmd_stats,
	},
	{
		.name = "inspect",
		.args = "NAME",
		.summary = "all that is known of a sandbox of this project, as JSON",
		.details = "How it was started last, its state, image, ports, disk and paths, and "
			   "what its entry in\n"
			   "the Sandboxfile says for the next start.\n",
		.opts = inspect_opts,
		.run = cmd_inspect,
	},
	{
		.name = "cp",
		.args = "NAME:PATH PATH | PATH NAME:PATH [OPTIONS]",
		.summary = "copy files out of a sandbox of this project, or into it",
		.details = "Files, and directories with all they hold, with their modes; into a "
			   "directory that is\n"
			   "there, or as what the target is called. Links and devices are "
			   "not copied; the\n"
			   "exit status is 1 then.\n",
		.opts = cp_opts,
		.run = cmd_cp,
	},
	{
		.name = "list",
		.args = "[--installed] [--json]",
		.summary = "the sandboxes of this project, or the installed ones",
		.opts = list_opts,
		.run = cmd_list,
	},
	{
		.name = "log",
		.args = "NAME [OPTIONS]",
		.summary = "what the own command of a sandbox printed",
		.details = "What msb up or msb run --detach started; what msb run started prints "
			   "to its terminal.\n"
			   "Two files of 10 MiB are kept.\n",
		.opts = log_opts,
		.run = cmd_log,
	},
	{
		.name = "clean",
		.args = "NAME...|--all [OPTIONS]",
		.summary = "remove what sandboxes of this project wrote, and their logs",
		.opts = clean_opts,
		.run = cmd_clean,
	},
	{
		.name = "install",
		.alias = "i",
		.args = "IMAGE[~SCRIPT] [NAME] [OPTIONS] [-- ARGS...]",
		.summary = "make a command of a sandbox (also: msi)",
		.details =
			"After `msi python py-data` there is a command py-data, which runs "
			"anywhere: what the image\n"
			"runs, with the arguments that it is given, in a sandbox of its own that "
			"keeps what is\n"
			"written in it. Arguments, standard streams, terminal and exit status pass "
			"through.\n",
		.opts = install_opts,
		.run = cmd_install,
	},
	{
		.name = "uninstall",
		.args = "NAME...",
		.summary = "remove such a command, and what its sandbox wrote",
		.run = cmd_uninstall,
	},
	{
		.name = "image",
		.args = "ls|inspect|history|pull|import|build|prepare|load|save|rm|prune|df "
			"[OPTIONS]",
		.summary = "images in the local store",
		.details = "Runs msb-image; see `msb image --help`.\n",
		.run = cmd_image,
	},
	{
		.name = "pull",
		.args = "IMAGE... [OPTIONS]",
		.summary = "get an image from a registry",
		.details =
			"IMAGE is [REGISTRY/]PATH[:TAG][@sha256:DIGEST]; without a registry, "
			"Docker "
			"Hub is meant.\n"
			"What is there already is not fetched again, and a pull that was cut off "
			"goes on where it\n"
			"stopped. Mirrors, and registries without TLS, are set in "
			"~/.microsandbox/registries.json.\n",
		.opts = pull_opts,
		.run = cmd_image_part,
	},
	{
		.name = "login",
		.args = "[REGISTRY] [OPTIONS]",
		.summary = "keep a registry's password for `msb pull`",
		.details = "The registry is asked whether it takes it. Passwords that docker or "
			   "podman "
			   "keep, and their\n"
			   "credential helpers, are used without a login.\n",
		.opts = login_opts,
		.run = cmd_image_part,
	},
	{
		.name = "logout",
		.args = "[REGISTRY]",
		.summary = "forget a registry's password",
		.opts = logout_opts,
		.run = cmd_image_part,
	},
	{
		.name = "images",
		.args = "[--json]",
		.summary = "list the images (as: image ls)",
		.opts = images_opts,
		.run = cmd_image_part,
	},
	{
		.name = "rmi",
		.args = "IMAGE... [--force]",
		.summary = "remove images (as: image rm)",
		.opts = rmi_opts,
		.run = cmd_image_part,
	},
	{
		.name = "load",
		.args = "[OPTIONS]",
		.summary = "take images from an archive of docker, podman or `msb save`",
		.opts = load_opts,
		.run = cmd_image_part,
	},
	{
		.name = "save",
		.args = "IMAGE... [OPTIONS]",
		.summary = "write images to an archive",
		.opts = save_opts,
		.run = cmd_image_part,
	},
	{
		.name = "df",
		.args = "[--json]",
		.summary = "what images take of the disk",
		.opts = df_opts,
		.run = cmd_image_part,
	},
	{
		.name = "prune",
		.args = "[OPTIONS]",
		.summary = "remove what no image needs, and images by age or size",
		.details =
			"Without options no image is removed: only what is left of pulls that were "
			"cut off, and\n"
			"layers and root images of images that are gone.\n",
		.opts = prune_opts,
		.run = cmd_image_part,
	},
	{
		.name = "volume",
		.args = "create|ls|rm|inspect [NAME...] [OPTIONS]",
		.summary = "directories that outlive sandboxes, by name",
		.details =
			"What a sandbox writes to a volume, the next one finds there: `msb volume "
			"create data`,\n"
			"then `msx -v data:/data python`. With --size its files may take so much "
			"and "
			"no more.\n"
			"A volume that a running sandbox has cannot be removed.\n",
		.opts = volume_opts,
		.run = cmd_volume,
	},
	{
		.name = "net",
		.args = "show|set|wait NAME [PORT] [OPTIONS]",
		.summary = "the network of a sandbox while it runs",
		.details =
			"show says what it may reach, who is in its group, and what was denied so "
			"often; set gives\n"
			"it other rules in place of all that it has. They hold at once: what they "
			"do not allow is\n"
			"cut. wait comes back when a program in it accepts connections on TCP "
			"port PORT. NAME is a\n"
			"sandbox of the server or of msx, or a sandbox's directory. Which attempts "
			"were denied is in\n"
			"the sandbox's log/net.log: `msb server log NAME --source net`, or `msx "
			"--net-log FILE`.\n",
		.opts = net_opts,
		.run = cmd_net,
	},
	{
		.name = "doctor",
		.args = "[--json]",
		.summary = "check what sandboxes need, and say what to do",
		.opts = doctor_opts,
		.run = cmd_doctor,
	},
	{
		.name = "server",
		.args = "start|stop|status|list|keygen|revoke|log [SANDBOX...|KEY-ID] [OPTIONS]",
		.summary = "sandboxes over HTTP: JSON-RPC and MCP",
		.details =
			"start serves http://127.0.0.1:5555 until it is asked to end (Ctrl-C, or "
			"stop); its\n"
			"sandboxes end with it. Clients need a key (keygen), except with --dev. "
			"status says\n"
			"whether a server runs (exit status 1 if not), or what the sandboxes of "
			"the "
			"names\n"
			"use; list shows its sandboxes; log shows the server's log, or a "
			"sandbox's.\n"
			"The API is described at /api/v1/openrpc.json.\n",
		.opts = server_opts,
		.run = cmd_server,
	},
	{
		.name = "mcp",
		.args = "[OPTIONS]",
		.summary = "sandboxes for an agent, as MCP on standard input and output",
		.details =
			"For desktop agents, which start it themselves: it speaks the Model "
			"Context Protocol, one\n"
			"JSON message a line, and needs no server. Its sandboxes end with it, when "
			"its input ends\n"
			"or it is asked to, also if it is killed. Logs go to standard error. For "
			"agents that take\n"
			"a URL, see `msb server`, which has the same tools at /mcp.\n",
		.opts = mcp_opts,
		.run = cmd_mcp,
	},
	{
		.name = "completion",
		.args = "bash|zsh|fish",
		.summary = "print shell completion",
		.run = cmd_completion,
	},
	{ .name = "version", .args = "", .summary = "print the version", .run = cmd_version },
	{ .name = "help",
	  .args = "[COMMAND]",
	  .summary = "this list, or one command in detail",
	  .run = cmd_help },
	{
		.name = "supervise",
		.args = "--dir-fd N [--owner-fd N] DIR",
		.hidden = true,
		.summary = "own one sandbox (started by the other commands)",
		.opts = supervise_opts,
		.run = cmd_supervise,
	},
	{ .name = NULL },
};

const struct cli_command *cli_find_command(const char *name)
{
	for (const struct cli_command *c = cli_commands; c->name; c++)
		if (!strcmp(c->name, name) || (c->alias && !strcmp(c->alias, name)))
			return c;
	return NULL;
}

static int main_run(const char *name, int argc, char **argv)
{
	const struct cli_command *c = cli_find_command(name);

	if (!c) {
		cli_error("unknown command '%s'", name);
		fputs("Try: msb help\n", stderr);
		return CLI_USAGE;
	}
	return c->run(c, argc, argv);
}

/* What we open must never get the number of a standard stream that somebody closed. */
static void main_open_standard(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

int main(int argc, char **argv)
{
	const char *base = argc ? strrchr(argv[0], '/') : NULL;

	main_open_standard();
	base = base ? base + 1 : argc ? argv[0] : "msb";
	if (!strcmp(base, "msx")) {
		cli_program = "msx";
		return main_run("exe", argc, argv);
	}
	if (!strcmp(base, "msr")) {
		cli_program = "msr";
		return main_run("run", argc, argv);
	}
	if (!strcmp(base, "msi")) {
		cli_program = "msi";
		return main_run("install", argc, argv);
	}
	if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return main_run("help", 1, argv);
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))
		return main_run("version", 1, argv);
	return main_run(argv[1], argc - 1, argv + 1);
}
