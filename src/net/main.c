/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msb-net: the network of one sandbox.
 *
 * Started by the supervisor in a jail (docs/network.md) with the VM's NIC as a
 * descriptor.  Ends with status 0 when the VM closes it, or on SIGTERM.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/confine.h"
#include "net/secrets.h"
#include "net/stack.h"
#include "sys/signals.h"

#define MAIN_USAGE \
	"usage: msb-net --frames-fd N [--scope public|any|group|none] [--name SANDBOX]\n" \
	"               [--guest-mac XX:XX:XX:XX:XX:XX] [--log-level error|warn|info|debug]\n" \
	"               [--policy TEXT] [--control-fd N] [--ipv6] [--closed] [--group NUMBER]\n" \
	"               [--publish N:tcp|udp:GUEST-PORT]... [--secrets-fd N] [--seccomp-log]\n" \
	"Carries the frames of a VM's NIC (descriptor N); started by 'msb supervise'.\n"

struct main_options {
	struct stack_config stack;
	const char *name;
	enum log_level level;
	bool seccomp_log; /* development: log forbidden system calls instead of dying */
};

static int main_parse_fd(const char *s, int *out)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(s, &end, 10);
	if (errno || end == s || *end || v < 0 || v > 1023 || fcntl((int)v, F_GETFD) < 0)
		return -EINVAL;
	*out = (int)v;
	return 0;
}

/* "5:tcp:8000": a bound socket of a published port, and the guest's port. */
static int main_parse_publish(const char *s, struct stack_config *cfg)
{
	struct ports_config *p = &cfg->ports[cfg->n_ports];
	int type, want, used = 0;
	socklen_t len = sizeof(type);
	unsigned fd, guest;
	char proto[4];

	if (cfg->n_ports == PORTS_MAX ||
	    sscanf(s, "%4u:%3[a-z]:%5u%n", &fd, proto, &guest, &used) != 3 || s[used] ||
	    fd >= PORTS_FDS || !guest || guest > 65535)
		return -EINVAL;
	p->udp = !strcmp(proto, "udp");
	if (!p->udp && strcmp(proto, "tcp"))
		return -EINVAL;
	want = p->udp ? SOCK_DGRAM : SOCK_STREAM;
	if (getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != want)
		return -ENOTSOCK;
	p->fd = (int)fd;
	p->guest = (uint16_t)guest;
	cfg->n_ports++;
	return 0;
}

static int main_parse_group(const char *s, unsigned *out)
{
	int used = 0;

	if (sscanf(s, "%4u%n", out, &used) != 1 || s[used] || !*out || *out > NETGROUP_MEMBERS_MAX)
		return -EINVAL;
	return 0;
}

static int main_parse_mac(const char *s, uint8_t out[6])
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

static int main_parse_option(int opt, const char *arg, struct main_options *o, struct err *e)
{
	switch (opt) {
	case 'f':
		if (main_parse_fd(arg, &o->stack.frames_fd) < 0)
			return err_set(e, EINVAL, "--frames-fd %s is no open descriptor", arg);
		return 0;
	case 's':
		if (net_scope_parse(arg, &o->stack.scope) < 0)
			return err_set(e, EINVAL, "--scope %s: not one of public, any, group, none",
				       arg);
		return 0;
	case 'c':
		if (main_parse_fd(arg, &o->stack.control_fd) < 0)
			return err_set(e, EINVAL, "--control-fd %s is no open descriptor", arg);
		return 0;
	case 'x':
		if (main_parse_fd(arg, &o->stack.secrets_fd) < 0)
			return err_set(e, EINVAL, "--secrets-fd %s is no open descriptor", arg);
		return 0;
	case '6':
		o->stack.ipv6 = true;
		return 0;
	case 'C':
		o->stack.closed = true;
		return 0;
	case 'g':
		if (main_parse_group(arg, &o->stack.group) < 0)
			return err_set(e, EINVAL, "--group %s is no number from 1 to %u", arg,
				       NETGROUP_MEMBERS_MAX);
		return 0;
	case 'P':
		if (netpolicy_parse(arg, strlen(arg), &o->stack.rules, e) < 0)
			return err_wrap(e, "--policy");
		return 0;
	case 'n':
		o->name = arg;
		return 0;
	case 'm':
		if (main_parse_mac(arg, o->stack.guest_mac) < 0)
			return err_set(e, EINVAL, "--guest-mac %s is no MAC address", arg);
		return 0;
	case 'l':
		if (log_level_parse(arg, &o->level) < 0)
			return err_set(e, EINVAL,
				       "--log-level %s: not one of error, warn, info, "
				       "debug",
				       arg);
		return 0;
	case 'p':
		if (main_parse_publish(arg, &o->stack) < 0)
			return err_set(e, EINVAL,
				       "--publish %s: not DESCRIPTOR:tcp|udp:GUEST-PORT of a bound "
				       "socket, or more than %u",
				       arg, PORTS_MAX);
		return 0;
	case 'S':
		o->seccomp_log = true;
		return 0;
	default:
		return err_set(e, EINVAL, "unknown or incomplete option");
	}
}

static int main_parse(int argc, char **argv, struct main_options *o, struct err *e)
{
	static const struct option options[] = {
		{ "frames-fd", required_argument, NULL, 'f' },
		{ "scope", required_argument, NULL, 's' },
		{ "control-fd", required_argument, NULL, 'c' },
		{ "secrets-fd", required_argument, NULL, 'x' },
		{ "ipv6", no_argument, NULL, '6' },
		{ "closed", no_argument, NULL, 'C' },
		{ "group", required_argument, NULL, 'g' },
		{ "policy", required_argument, NULL, 'P' },
		{ "name", required_argument, NULL, 'n' },
		{ "guest-mac", required_argument, NULL, 'm' },
		{ "log-level", required_argument, NULL, 'l' },
		{ "publish", required_argument, NULL, 'p' },
		{ "seccomp-log", no_argument, NULL, 'S' },
		{ NULL, 0, NULL, 0 },
	};
	int opt, rc;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		rc = main_parse_option(opt, optarg, o, e);
		if (rc < 0)
			return rc;
	}
	if (optind < argc)
		return err_set(e, EINVAL, "unexpected argument '%s'", argv[optind]);
	if (o->stack.frames_fd < 0)
		return err_set(e, EINVAL, "--frames-fd is missing");
	if ((o->stack.scope == NET_SCOPE_GROUP) != !!o->stack.group)
		return err_set(e, EINVAL, "--scope group and --group go together");
	return 0;
}

static bool main_is_socket(int fd, int want)
{
	socklen_t len = sizeof(int);
	int type;

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == want;
}

static int main_check_sockets(const struct stack_config *c, struct err *e)
{
	if (!main_is_socket(c->frames_fd, SOCK_STREAM))
		return err_set(e, EINVAL, "--frames-fd %d is no stream socket", c->frames_fd);
	if (c->control_fd >= 0 && !main_is_socket(c->control_fd, SOCK_SEQPACKET))
		return err_set(e, EINVAL, "--control-fd %d is no socket of packets", c->control_fd);
	return 0;
}

/*
 * libslirp takes connections to published ports with this one (ports.c); nothing else here
 * accepts any.  Visible, since the dynamic linker has to find it before the C library's; in this
 * file, since it must not get into other programs that are linked with src/net.
 */
__attribute__((visibility("default"))) int accept(int fd, __SOCKADDR_ARG addr,
						  socklen_t *restrict len)
{
	return ports_accept(fd, addr.__sockaddr__, len);
}

/* And with this one it opens those of the guest, some of which get secrets (secrets.c). */
__attribute__((visibility("default"))) int connect(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
	return secrets_connect(fd, addr.__sockaddr__, len);
}

/*
 * A connection has two buffers of 144 KiB in libslirp, just more than what libc takes from the
 * kernel and gives back each time: page faults and system calls that cost more than all the
 * rest of a short connection.  A megabyte may stay.
 */
static void main_keep_memory(void)
{
	mallopt(M_MMAP_THRESHOLD, 512 * 1024);
	mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
}

static int main_serve(struct main_options *o, struct err *e)
{
	struct stack *stack = NULL;
	const volatile sig_atomic_t *stop;
	sigset_t mask;
	int rc = main_check_sockets(&o->stack, e);

	if (rc < 0)
		return rc;
	if (getrandom(&o->stack.key, sizeof(o->stack.key), 0) != sizeof(o->stack.key))
		return err_errno(e, errno, "random number");
	stop = signals_stop_flag(&mask);
	main_keep_memory();
	o->stack.name = o->name;
	rc = stack_create(&stack, &o->stack, e);
	if (rc < 0)
		return rc;
	/* Nothing from the guest has been read yet. */
	rc = jail_seccomp(o->stack.closed ? net_syscalls_closed : net_syscalls, o->seccomp_log, e);
	if (rc == 0)
		rc = stack_run(stack, stop, &mask, e);
	if (rc == 0)
		stack_log_summary(stack);
	stack_destroy(stack);
	return rc;
}

int main(int argc, char **argv)
{
	struct main_options o = {
		.stack = {
			.frames_fd = -1,
			.control_fd = -1,
			.secrets_fd = -1,
			.scope = NET_SCOPE_PUBLIC,
			.guest_mac = { 0x02, 0, 0, 0, 0, 0x0f },
		},
		.name = "-",
		.level = LOG_INFO,
	};
	struct err e = ERR_INIT;
	char ident[64];

	if (main_parse(argc, argv, &o, &e) < 0) {
		fprintf(stderr, "msb-net: %s\n%s", err_text(&e), MAIN_USAGE);
		return 2;
	}
	snprintf(ident, sizeof(ident), "net/%s", o.name);
	log_init(STDERR_FILENO, o.level, ident);
	if (main_serve(&o, &e) < 0) {
		log_err("event=failed detail=\"%s\"", err_text(&e));
		return 1;
	}
	return 0;
}
