/* SPDX-License-Identifier: Apache-2.0 */
/* `msb doctor`: what sandboxes need here, and what to do about what is missing. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "engine/engine.h"
#include "engine/probe.h"
#include "sys/parts.h"

#define DOCTOR_FREE_MIN (1ull << 30)

enum { DOCTOR_JSON };

const struct cli_opt doctor_opts[] = {
	[DOCTOR_JSON] = { "json", NULL, "", NULL, "print one JSON object" },
	{ NULL },
};

enum doctor_level { DOCTOR_OK, DOCTOR_WARN, DOCTOR_BAD };

static const char *const doctor_words[] = { "ok", "warning", "problem" };

struct doctor {
	json_t *checks; /* array of {name, status, detail, advice} */
	unsigned bad;
	const struct engine_ops *engine; /* that sandboxes take by default, NULL = none */
};

static void doctor_add(struct doctor *d, const char *name, enum doctor_level level,
		       const char *detail, const char *advice)
{
	json_array_append_new(d->checks,
			      json_pack("{ss ss ss ss}", "name", name, "status",
					doctor_words[level], "detail", detail, "advice", advice));
	if (level == DOCTOR_BAD)
		d->bad++;
}

static void doctor_kvm(struct doctor *d)
{
	struct err e = ERR_INIT;

	if (engine_probe_kvm(&e))
		doctor_add(d, "kvm", DOCTOR_WARN, err_text(&e),
			   "sandboxes run in software emulation, slower and isolated by QEMU");
	else
		doctor_add(d, "kvm", DOCTOR_OK, "/dev/kvm runs guest code at full speed", "");
}

/* One line for each engine; the one that sandboxes take by default is d->engine. */
static void doctor_engines(struct doctor *d)
{
	char version[128], detail[256];
	struct err none = ERR_INIT;

	if (engine_choose("auto", &d->engine, NULL, 0, &none))
		doctor_add(d, "engine", DOCTOR_BAD, "none can be used", err_text(&none));
	for (const struct engine_ops *const *o = engine_list(); *o; o++) {
		struct err e = ERR_INIT;

		/* The reason is the line above, or that about kvm. */
		if (!d->engine || (*o)->probe(&e))
			continue;
		if ((*o)->version(version, sizeof(version), &e)) {
			doctor_add(d, "engine", *o == d->engine ? DOCTOR_BAD : DOCTOR_WARN,
				   (*o)->name, err_text(&e));
			continue;
		}
		snprintf(detail, sizeof(detail), "%s (isolation: %s): %s%s", (*o)->name,
			 (*o)->isolation, version, *o == d->engine ? "; used by default" : "");
		doctor_add(d, "engine", DOCTOR_OK, detail, "");
	}
}

static void doctor_jail(struct doctor *d)
{
	struct err e = ERR_INIT;

	if (jail_probe(&e))
		doctor_add(d, "jail", DOCTOR_BAD, "user namespaces cannot be used", err_text(&e));
	else
		doctor_add(d, "jail", DOCTOR_OK,
			   "full: namespaces, empty root, no capabilities, seccomp", "");
}

static void doctor_part(struct doctor *d, const char *name, const char *file, const char *advice)
{
	auto_free char *path = NULL;
	struct err e = ERR_INIT;
	char detail[512];
	struct stat st;

	if (parts_path(file, &path, &e)) {
		doctor_add(d, name, DOCTOR_BAD, file, err_text(&e));
		return;
	}
	if (stat(path, &st) < 0 || !st.st_size) {
		snprintf(detail, sizeof(detail), "%s: %s", path, strerror(errno));
		doctor_add(d, name, DOCTOR_BAD, detail, advice);
		return;
	}
	snprintf(detail, sizeof(detail), "%s (%lld KiB)", path, (long long)st.st_size / 1024);
	doctor_add(d, name, DOCTOR_OK, detail, "");
}

static void doctor_home(struct doctor *d)
{
	auto_free char *home = NULL;
	struct err e = ERR_INIT;
	struct statvfs fs;
	char detail[512];

	if (parts_home(&home, &e)) {
		doctor_add(d, "home", DOCTOR_BAD, "no usable directory", err_text(&e));
		return;
	}
	if (access(home, W_OK | X_OK) || statvfs(home, &fs)) {
		snprintf(detail, sizeof(detail), "%s: %s", home, strerror(errno));
		doctor_add(d, "home", DOCTOR_BAD, detail,
			   "set MICROSANDBOX_HOME to a directory that you may write");
		return;
	}
	snprintf(detail, sizeof(detail), "%s (%llu MiB free)", home,
		 (unsigned long long)fs.f_bavail * fs.f_frsize >> 20);
	if ((unsigned long long)fs.f_bavail * fs.f_frsize < DOCTOR_FREE_MIN)
		doctor_add(d, "home", DOCTOR_WARN, detail,
			   "images and sandboxes need room: free some");
	else
		doctor_add(d, "home", DOCTOR_OK, detail, "");
}

static void doctor_print(const struct doctor *d)
{
	size_t i;
	json_t *c;

	json_array_foreach(d->checks, i, c)
	{
		const char *advice = json_string_value(json_object_get(c, "advice"));

		printf("%-8s %-10s %s\n", json_string_value(json_object_get(c, "status")),
		       json_string_value(json_object_get(c, "name")),
		       json_string_value(json_object_get(c, "detail")));
		if (*advice)
			printf("%-8s %-10s -> %s\n", "", "", advice);
	}
	printf(d->bad ? "\nSandboxes cannot run here until the problems are solved.\n"
		      : "\nSandboxes can run here.\n");
}

int cmd_doctor(const struct cli_command *cmd, int argc, char **argv)
{
	struct doctor d = { .bad = 0 };
	bool as_json = false;
	struct cli_args a;
	json_t *all;
	int opt;

	cli_args_init(&a, cmd, argc, argv);
	while ((opt = cli_args_next(&a)) >= 0)
		as_json = true;
	if (opt != CLI_OPT_END)
		return cli_args_status(opt);
	if (a.n_words)
		return cli_usage(cmd, "unexpected argument '%s'", a.words[0]);
	d.checks = json_array();
	doctor_kvm(&d);
	doctor_engines(&d);
	doctor_jail(&d);
	doctor_part(&d, "kernel", "vmlinux", "build it: make kernel");
	doctor_part(&d, "initramfs", "initramfs.cpio.gz", "build it: make");
	doctor_part(&d, "network", "msb-net", "build it: make");
	doctor_part(&d, "images", "msb-image", "build it: make");
	doctor_home(&d);
	if (as_json) {
		all = json_pack("{sb ss? ss? sO}", "usable", !d.bad, "engine",
				d.engine ? d.engine->name : NULL, "isolation",
				d.engine ? d.engine->isolation : NULL, "checks", d.checks);
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(all);
	} else {
		doctor_print(&d);
	}
	json_decref(d.checks);
	return d.bad ? 1 : 0;
}
