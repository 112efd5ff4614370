/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_BOX_OPTS_H
#define MSB_CLI_BOX_OPTS_H

/* Options that commands share, for their tables: each is said once. */

#define BOX_OPT_CPUS \
	{ \
		"cpus", "cpu", "", "N", "virtual CPUs (default 1, at most 16)" \
	}
#define BOX_OPT_MEMORY \
	{ \
		"memory", NULL, "", "SIZE", "memory, MiB or with a unit: 512, 2G (default 512)" \
	}
#define BOX_OPT_DISK \
	{ \
		"disk", NULL, "", "SIZE", "room for what the sandbox writes (default 4G)" \
	}
#define BOX_OPT_VOLUME \
	{ \
		"volume", NULL, "v", "HOST:GUEST[:ro]", \
			"share a directory or file, or a named volume (repeatable)" \
	}
#define BOX_OPT_TMPFS \
	{ \
		"tmpfs", NULL, "", "PATH[:size=SIZE]", \
			"an empty directory in the sandbox's memory (repeatable)" \
	}
#define BOX_OPT_ENV \
	{ \
		"env", NULL, "", "KEY=VALUE", "set an environment variable (repeatable)" \
	}
#define BOX_OPT_WORKDIR \
	{ \
		"workdir", NULL, "", "DIR", "directory to start in (default: the image's)" \
	}
#define BOX_OPT_USER \
	{ \
		"user", NULL, "u", "USER", \
			"name, uid, name:group or uid:gid (default: the image's)" \
	}
#define BOX_OPT_TIMEOUT \
	{ \
		"timeout", NULL, "", "TIME", \
			"kill the command after 30, 1.5s, 2m, 1h (status 124)" \
	}
#define BOX_OPT_ENGINE \
	{ \
		"engine", NULL, "", "ENGINE", "auto (default), kvm, tcg" \
	}
#define BOX_OPT_JAIL \
	{ \
		"jail", NULL, "", "MODE", \
			"full (default), or reduced where user namespaces are refused" \
	}
#define BOX_OPT_BOOT_TIMEOUT \
	{ \
		"boot-timeout", NULL, "", "TIME", \
			"give up if a guest does not answer (default 60s)" \
	}
#define BOX_OPT_TTY \
	{ \
		"tty", NULL, "t", NULL, "give the command a terminal although ours is none" \
	}
#define BOX_OPT_NO_TTY \
	{ \
		"no-tty", NULL, "T", NULL, "plain streams although we have a terminal" \
	}
#define BOX_OPT_QUIET \
	{ \
		"quiet", NULL, "q", NULL, "no notices and no progress" \
	}

#endif
