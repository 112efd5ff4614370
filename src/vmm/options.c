/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

const char options_usage[] =
	"usage: msb-vmm --kvm-fd N --cpus N --memory BYTES [--name SANDBOX]\n"
	"               --kernel-fd N [--initramfs-fd N] [--cmdline TEXT] |\n"
	"               --restore-state-fd N --restore-memory-fd N\n"
	"               [--disk fd=N,serial=S[,readonly]]... [--console-fd N]\n"
	"               [--port fd=N,name=S]... [--net fd=N,mac=XX:XX:XX:XX:XX:XX]\n"
	"               [--control-fd N] [--log-level error|warn|info|debug] [--seccomp-log]\n"
	"               [--trace-fd N]\n"
	"Runs one virtual machine on KVM; started by 'msb supervise'.\n";

enum {
	OPT_NAME = 1,
	OPT_CPUS,
	OPT_MEMORY,
	OPT_CMDLINE,
	OPT_DISK,
	OPT_PORT,
	OPT_NET,
	OPT_LOG_LEVEL,
	OPT_SECCOMP_LOG,
	/* Those that are a descriptor and nothing else, in the order of options_fd(). */
	OPT_KVM_FD,
	OPT_KERNEL_FD,
	OPT_INITRAMFS_FD,
	OPT_CONSOLE_FD,
	OPT_CONTROL_FD,
	OPT_RESTORE_STATE_FD,
	OPT_RESTORE_MEMORY_FD,
	OPT_TRACE_FD,
};

static const struct option options_table[] = {
	{ "name", required_argument, NULL, OPT_NAME },
	{ "cpus", required_argument, NULL, OPT_CPUS },
	{ "memory", required_argument, NULL, OPT_MEMORY },
	{ "cmdline", required_argument, NULL, OPT_CMDLINE },
	{ "disk", required_argument, NULL, OPT_DISK },
	{ "port", required_argument, NULL, OPT_PORT },
	{ "net", required_argument, NULL, OPT_NET },
	{ "log-level", required_argument, NULL, OPT_LOG_LEVEL },
	{ "seccomp-log", no_argument, NULL, OPT_SECCOMP_LOG },
	{ "kvm-fd", required_argument, NULL, OPT_KVM_FD },
	{ "kernel-fd", required_argument, NULL, OPT_KERNEL_FD },
	{ "initramfs-fd", required_argument, NULL, OPT_INITRAMFS_FD },
	{ "console-fd", required_argument, NULL, OPT_CONSOLE_FD },
	{ "control-fd", required_argument, NULL, OPT_CONTROL_FD },
	{ "restore-state-fd", required_argument, NULL, OPT_RESTORE_STATE_FD },
	{ "restore-memory-fd", required_argument, NULL, OPT_RESTORE_MEMORY_FD },
	{ "trace-fd", required_argument, NULL, OPT_TRACE_FD },
	{ NULL, 0, NULL, 0 },
};

static int *options_fd(struct options *o, int opt)
{
	int *const fds[] = {
		&o->kvm_fd,     &o->kernel_fd,        &o->initramfs_fd,      &o->console_fd,
		&o->control_fd, &o->restore_state_fd, &o->restore_memory_fd, &o->trace_fd,
	};

	return fds[opt - OPT_KVM_FD];
}

static int options_number(const char *s, uint64_t max, uint64_t *out)
{
	unsigned long long v;
	char *end;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || *end || v > max)
		return -EINVAL;
	*out = v;
	return 0;
}

static int options_open_fd(const char *s, int *out)
{
	uint64_t v;

	if (options_number(s, 1023, &v) || fcntl((int)v, F_GETFD) < 0)
		return -EINVAL;
	*out = (int)v;
	return 0;
}

static int options_mac(const char *s, uint8_t out[6])
{
	unsigned b[6];
	int used = 0;

	if (sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &used) != 6 ||
	    s[used] || strlen(s) != 17)
		return -EINVAL;
	for (int i = 0; i < 6; i++)
		out[i] = (uint8_t)b[i];
	return 0;
}

/*
 * "fd=N,KEY=TEXT[,FLAG]".  @text is modified.  *@value gets what follows KEY=, NULL if it
 * is not there; a word that is neither is an error.
 */
static int options_fields(char *text, int *fd, const char *key, const char **value,
			  const char *flag, bool *flag_set)
{
	size_t key_len = strlen(key);
	char *save = NULL;

	for (char *f = strtok_r(text, ",", &save); f; f = strtok_r(NULL, ",", &save)) {
		if (!strncmp(f, "fd=", 3)) {
			if (options_open_fd(f + 3, fd))
				return -EINVAL;
		} else if (!strncmp(f, key, key_len) && f[key_len] == '=') {
			*value = f + key_len + 1;
		} else if (flag && !strcmp(f, flag)) {
			*flag_set = true;
		} else {
			return -EINVAL;
		}
	}
	return *fd < 0 || !*value ? -EINVAL : 0;
}

static int options_add_disk(struct options *o, const char *arg, char *text, struct err *e)
{
	struct options_disk d = { .fd = -1 };
	const char *serial = NULL;

	if (options_fields(text, &d.fd, "serial", &serial, "readonly", &d.readonly) || !*serial ||
	    strlen(serial) > OPTIONS_SERIAL_MAX)
		return err_set(e, EINVAL,
			       "--disk %s: has to be fd=N,serial=S[,readonly], N an open "
			       "descriptor, S of 1 to %u bytes",
			       arg, OPTIONS_SERIAL_MAX);
	if (o->n_disks == OPTIONS_DISKS_MAX)
		return err_set(e, EINVAL, "--disk %s: more than %u disks", arg, OPTIONS_DISKS_MAX);
	memcpy(d.serial, serial, strlen(serial));
	o->disks[o->n_disks++] = d;
	return 0;
}

static int options_add_port(struct options *o, const char *arg, char *text, struct err *e)
{
	struct options_port p = { .fd = -1 };
	const char *name = NULL;

	if (options_fields(text, &p.fd, "name", &name, NULL, NULL) || !*name ||
	    strlen(name) > OPTIONS_PORT_NAME_MAX)
		return err_set(e, EINVAL,
			       "--port %s: has to be fd=N,name=S, N an open descriptor, S of 1 to "
			       "%u bytes",
			       arg, OPTIONS_PORT_NAME_MAX);
	if (o->n_ports == OPTIONS_PORTS_MAX)
		return err_set(e, EINVAL, "--port %s: more than %u ports", arg, OPTIONS_PORTS_MAX);
	memcpy(p.name, name, strlen(name));
	o->ports[o->n_ports++] = p;
	return 0;
}

static int options_set_net(struct options *o, const char *arg, char *text, struct err *e)
{
	const char *mac = NULL;

	if (options_fields(text, &o->net_fd, "mac", &mac, NULL, NULL) ||
	    options_mac(mac, o->net_mac))
		return err_set(e, EINVAL,
			       "--net %s: has to be fd=N,mac=XX:XX:XX:XX:XX:XX, N an open "
			       "descriptor",
			       arg);
	return 0;
}

/* Those whose argument has fields, which are taken apart in a copy. */
static int options_parse_fields(int opt, const char *arg, struct options *o, struct err *e)
{
	auto_free char *text = strdup(arg);

	if (!text)
		return err_errno(e, ENOMEM, "command line");
	switch (opt) {
	case OPT_DISK:
		return options_add_disk(o, arg, text, e);
	case OPT_PORT:
		return options_add_port(o, arg, text, e);
	default:
		return options_set_net(o, arg, text, e);
	}
}

static int options_parse_one(int opt, const char *arg, const char *name, struct options *o,
			     struct err *e)
{
	uint64_t v;

	switch (opt) {
	case OPT_NAME:
		o->name = arg;
		return 0;
	case OPT_CMDLINE:
		o->cmdline = arg;
		return 0;
	case OPT_CPUS:
		if (options_number(arg, 1u << 16, &v))
			return err_set(e, EINVAL, "--cpus %s is no number of CPUs", arg);
		o->cpus = (unsigned)v;
		return 0;
	case OPT_MEMORY:
		if (options_number(arg, 1ull << 52, &o->memory_bytes))
			return err_set(e, EINVAL, "--memory %s is no number of bytes", arg);
		return 0;
	case OPT_DISK:
	case OPT_PORT:
	case OPT_NET:
		return options_parse_fields(opt, arg, o, e);
	case OPT_LOG_LEVEL:
		if (log_level_parse(arg, &o->level))
			return err_set(e, EINVAL,
				       "--log-level %s: not one of error, warn, info, debug", arg);
		return 0;
	case OPT_SECCOMP_LOG:
		o->seccomp_log = true;
		return 0;
	case '?':
		return err_set(e, EINVAL, "unknown or incomplete option");
	default:
		if (options_open_fd(arg, options_fd(o, opt)))
			return err_set(e, EINVAL, "--%s %s is no open descriptor", name, arg);
		return 0;
	}
}

static int options_check(const struct options *o, struct err *e)
{
	bool restore = o->restore_state_fd >= 0;

	if (o->kvm_fd < 0)
		return err_set(e, EINVAL, "--kvm-fd is missing");
	if (!o->cpus)
		return err_set(e, EINVAL, "--cpus is missing, or 0");
	if (!o->memory_bytes)
		return err_set(e, EINVAL, "--memory is missing, or 0");
	if (restore != (o->restore_memory_fd >= 0))
		return err_set(e, EINVAL,
			       "--restore-state-fd and --restore-memory-fd belong together");
	if (restore == (o->kernel_fd >= 0))
		return err_set(e, EINVAL, "%s",
			       restore ? "a machine is restored, or starts a kernel: not both"
				       : "--kernel-fd is missing");
	return 0;
}

int options_parse(int argc, char **argv, struct options *out, struct err *e)
{
	struct options o = {
		.name = "-",
		.cmdline = "",
		.kvm_fd = -1,
		.kernel_fd = -1,
		.initramfs_fd = -1,
		.console_fd = -1,
		.net_fd = -1,
		.control_fd = -1,
		.restore_state_fd = -1,
		.restore_memory_fd = -1,
		.trace_fd = -1,
		.level = LOG_INFO,
	};
	int opt, index = 0, rc;

	opterr = 0;
	optind = 0; /* start anew, also when a test parses for the second time */
	while ((opt = getopt_long(argc, argv, "", options_table, &index)) != -1) {
		rc = options_parse_one(opt, optarg, options_table[index].name, &o, e);
		if (rc)
			return rc;
	}
	if (optind < argc)
		return err_set(e, EINVAL, "unexpected argument '%s'", argv[optind]);
	rc = options_check(&o, e);
	if (!rc)
		*out = o;
	return rc;
}
