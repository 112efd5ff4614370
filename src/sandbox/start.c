/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Starting the processes of a sandbox
 *
 * Order: root image opened and checked, upper made, sockets, msb-volume, msb-net, VM; the VM's jail
 * is made beside all this (engine_prepare()).  All of it happens before the guest's first
 * instruction, so that a missing part is one clear error and not a guest that hangs.
 * Whatever was started before a failure ends with the supervisor (die_with_parent), which
 * leaves at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/netrule.h"
#include "image/rootimage.h"
#include "image/store.h"
#include "sandbox/internal.h"
#include "sys/parts.h"

#define GUEST_ADDR 0x0a00020fu /* 10.0.2.15 */
#define GUEST_GATEWAY 0x0a000202u /* 10.0.2.2, also the DNS server */
#define GUEST_PREFIX 24
/* The largest that msb-net takes (NET_MTU in net/policy.h): far fewer frames to handle. */
#define GUEST_MTU 65520

#define START_NET_PROGRAM "/bin/msb-net" /* in its jail */
#define START_FRAMES_FD 3 /* of --frames-fd */
#define START_CONTROL_FD 4
#define START_PORTS_FD 5
#define START_SECRETS_FD (START_PORTS_FD + (int)PUBLISH_MAX)
#define START_PORT_TEXT 24 /* "131:udp:65535" */

static enum jail_mode start_jail_mode(const struct supervisor *s)
{
	return strcmp(s->cfg.jail, "reduced") ? JAIL_FULL : JAIL_REDUCED;
}

/* The writable disk of an ephemeral sandbox has no name: it cannot be left behind. */
static int start_make_upper(struct supervisor *s, int *out, struct err *e)
{
	auto_close int fd = openat(s->dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int rc;

	if (fd < 0) {
		/* A file system without O_TMPFILE. */
		fd = openat(s->dirfd, "upper.tmp", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0 || unlinkat(s->dirfd, "upper.tmp", 0) < 0)
			return err_errno(e, errno, "cannot make the sandbox's disk in %s",
					 s->dir_path);
	}
	rc = rootimage_make_upper(fd, s->cfg.disk_bytes, false, e);
	if (rc)
		return err_wrap(e, "cannot make the sandbox's disk in %s", s->dir_path);
	*out = take_fd(&fd);
	return 0;
}

static int start_socketpair(int *ours, int *theirs, struct err *e)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return err_errno(e, errno, "socketpair");
	*ours = sv[0];
	*theirs = sv[1];
	return 0;
}

int supervisor_log_pipe(struct supervisor *s, struct taillog *t, const char *name, int *theirs,
			struct err *e)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, errno, "pipe");
	*theirs = fds[1];
	return taillog_init(t, s->loop, fds[0], s->logdirfd, name, e);
}

/* What msb-net gets: a descriptor and an argument for each published port, and the rest. */
struct start_net_args {
	char *argv[18 + 2 * PUBLISH_MAX];
	struct child_fd fds[4 + PUBLISH_MAX];
	size_t n_argv, n_fds;
	char ports[PUBLISH_MAX][START_PORT_TEXT], group[12], secrets[START_PORT_TEXT];
};

static void start_net_arg(struct start_net_args *a, const char *text)
{
	a->argv[a->n_argv++] = (char *)text;
}

static void start_net_args(const struct supervisor *s, int frames_fd, int control_fd, int log_fd,
			   struct start_net_args *a)
{
	a->n_argv = a->n_fds = 0;
	start_net_arg(a, "msb-net");
	start_net_arg(a, "--frames-fd");
	start_net_arg(a, "3");
	start_net_arg(a, "--control-fd");
	start_net_arg(a, "4");
	start_net_arg(a, "--scope");
	start_net_arg(a, s->cfg.scope);
	start_net_arg(a, "--name");
	start_net_arg(a, s->cfg.name);
	start_net_arg(a, "--policy");
	start_net_arg(a, s->cfg.network);
	if (s->ipv6)
		start_net_arg(a, "--ipv6");
	if (s->closed)
		start_net_arg(a, "--closed");
	if (s->group.own.number) {
		snprintf(a->group, sizeof(a->group), "%u", s->group.own.number);
		start_net_arg(a, "--group");
		start_net_arg(a, a->group);
	}
	a->fds[a->n_fds++] = (struct child_fd){ log_fd, STDERR_FILENO };
	a->fds[a->n_fds++] = (struct child_fd){ frames_fd, START_FRAMES_FD };
	a->fds[a->n_fds++] = (struct child_fd){ control_fd, START_CONTROL_FD };
	for (size_t i = 0; i < s->cfg.ports.n; i++) {
		const struct publish *p = &s->cfg.ports.v[i];
		int to = START_PORTS_FD + (int)i;

		snprintf(a->ports[i], START_PORT_TEXT, "%d:%s:%u", to, p->udp ? "udp" : "tcp",
			 p->guest);
		start_net_arg(a, "--publish");
		start_net_arg(a, a->ports[i]);
		a->fds[a->n_fds++] = (struct child_fd){ s->ports_fd + (int)i, to };
	}
	if (s->secrets_fd >= 0) {
		snprintf(a->secrets, START_PORT_TEXT, "%d", START_SECRETS_FD);
		start_net_arg(a, "--secrets-fd");
		start_net_arg(a, a->secrets);
		a->fds[a->n_fds++] = (struct child_fd){ s->secrets_fd, START_SECRETS_FD };
	}
	a->argv[a->n_argv] = NULL;
}

/* msb-net has them now; what is bound here would stay bound when msb-net is gone. */
static void start_close_ports(struct supervisor *s)
{
	for (size_t i = 0; s->ports_fd >= 0 && i < s->cfg.ports.n; i++)
		close(s->ports_fd + (int)i);
	s->ports_fd = -1;
}

static int start_check_ports(const struct supervisor *s, struct err *e)
{
	for (size_t i = 0; i < s->cfg.ports.n; i++)
		if (s->ports_fd < 0 || fcntl(s->ports_fd + (int)i, F_GETFD) < 0)
			return err_set(e, EBADF, "the socket of published port %zu is missing", i);
	return 0;
}

/* Where a person wants to read what was denied. */
static int start_copy_net_log(struct supervisor *s, struct err *e)
{
	const char *path = s->cfg.net_log;
	int fd;

	if (!path || !*path)
		return 0;
	if (!strcmp(path, "-"))
		fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	else
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
			  0600);
	if (fd < 0)
		return err_errno(e, errno, "cannot open the network's log %s", path);
	taillog_copy_to(&s->net_log, fd);
	return 0;
}

/*
 * msb-net keeps the host's network and nothing else: its libraries, and the resolver's
 * address.  One that has nothing open to the outside has neither, but a network of its own,
 * which is empty.
 */
static int start_net(struct supervisor *s, int frames_fd, struct err *e)
{
	auto_free struct start_net_args *args = malloc(sizeof(*args));
	auto_free char *program = NULL;
	auto_close int log_fd = -1, control_fd = -1;
	int rc = args ? parts_path("msb-net", &program, e) : err_errno(e, ENOMEM, "msb-net");

	if (!rc)
		rc = supervisor_log_pipe(s, &s->net_log, "net.log", &log_fd, e);
	if (!rc)
		rc = start_copy_net_log(s, e);
	if (!rc)
		rc = netctl_open(&s->netctl, &control_fd, e);
	if (rc)
		return rc;
	start_net_args(s, frames_fd, control_fd, log_fd, args);
	const struct jail_bind binds[] = {
		{ program, START_NET_PROGRAM, true, false },
		{ "/lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2", true, false },
		{ "/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", true, false },
		{ "/etc/ld.so.cache", "/etc/ld.so.cache", false, true },
		{ "/etc/resolv.conf", "/etc/resolv.conf", false, true }, /* the last one */
	};
	const struct jail jail = {
		.mode = start_jail_mode(s),
		.host_network = !s->closed,
		.binds = binds,
		.n_binds = ARRAY_SIZE(binds) - s->closed,
		/* One a connection of the guest; closed, a member of the group each. */
		.max_fds = s->closed ? 32 + NETGROUP_MEMBERS_MAX : 1024,
		.max_processes = 4,
	};
	const struct child_spec spec = {
		.path = jail.mode == JAIL_FULL ? START_NET_PROGRAM : program,
		.argv = args->argv,
		.fds = args->fds,
		.n_fds = args->n_fds,
		.jail = &jail,
		.new_session = true,
		.die_with_parent = true,
	};
	rc = child_spawn(&spec, &s->net, e);
	start_close_ports(s);
	close_fd(&s->secrets_fd);
	return rc ? err_wrap(e, "cannot start the network (msb-net)") : 0;
}

static int start_check_file(const char *path, const char *what, const char *advice, struct err *e)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_errno(e, errno, "%s %s: %s", what, path, advice);
	if (!S_ISREG(st.st_mode) || !st.st_size)
		return err_set(e, EINVAL, "%s %s is not a regular file: %s", what, path, advice);
	/* The VM process is not root, not even when we are. */
	if (!geteuid() && !(st.st_mode & S_IROTH))
		return err_set(e, EACCES, "%s %s must be readable by everybody: chmod a+r", what,
			       path);
	return 0;
}

/*
 * Has the host a way to the IPv6 internet?  Nothing is sent: the kernel looks for a route and
 * for the address that it would send from.  One that only this link knows leads nowhere.
 */
static bool start_has_ipv6(void)
{
	auto_close int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in6 sa = { .sin6_family = AF_INET6, .sin6_port = htons(53) };
	socklen_t len = sizeof(sa);
	struct netaddr own;
	enum netaddr_kind kind;

	sa.sin6_addr.s6_addr[0] = 0x20;
	sa.sin6_addr.s6_addr[15] = 1;
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return false;
	memcpy(own.b, &sa.sin6_addr, sizeof(own.b));
	kind = netaddr_kind(&own);
	return kind == NETADDR_PUBLIC || kind == NETADDR_PRIVATE;
}

static void start_on_member(struct membership *g, const struct netmember *m, int fd)
{
	netctl_member(&container_of(g, struct supervisor, group)->netctl, m, fd);
}

/* A sandbox without a group to be in must not run as one that reaches nobody. */
static int start_join_group(struct supervisor *s, struct err *e)
{
	const bool wanted = s->cfg.group && *s->cfg.group;

	if (strcmp(s->cfg.scope, "group"))
		return wanted ? err_set(e, EINVAL,
					SANDBOX_CONFIG_FILE ": a group is for scope group")
			      : 0;
	if (!wanted || !s->cfg.group_dir || *s->cfg.group_dir != '/')
		return err_set(e, EINVAL,
			       SANDBOX_CONFIG_FILE ": scope group needs a group and its directory");
	s->group.on_member = start_on_member;
	return membership_join(&s->group, s->loop, s->cfg.group_dir, s->cfg.name, e);
}

/* Is there a way to the outside? With scopes none and group only if something opens one. */
static int start_check_network(struct supervisor *s, struct err *e)
{
	auto_free struct netpolicy *p = malloc(sizeof(*p));
	const bool none = !strcmp(s->cfg.scope, "none");
	int rc;

	if (!p)
		return err_errno(e, ENOMEM, "network policy");
	rc = netpolicy_parse(s->cfg.network, strlen(s->cfg.network), p, e);
	if (rc)
		return err_wrap(e, SANDBOX_CONFIG_FILE ": network"), rc;
	s->closed = (none || !strcmp(s->cfg.scope, "group")) && !netpolicy_opens_outside(p);
	if (s->closed && none && s->cfg.ports.n)
		return err_set(
			e, EINVAL,
			"ports cannot be published with scope none: nothing comes in or goes "
			"out");
	s->closed = s->closed && !s->cfg.ports.n;
	if (s->closed && s->secrets_fd >= 0)
		return err_set(e, EINVAL,
			       "secrets need a network, and with scope %s there is none: add a "
			       "rule that opens their hosts",
			       s->cfg.scope);
	s->ipv6 = !s->closed && start_has_ipv6();
	return 0;
}

/* What the image's configuration names, and who gets it: see docs/images.md. */
static int start_directories(const struct supervisor *s, struct frame_configure *c, struct buf *b,
			     struct err *e)
{
	const char *user = s->cfg.image_user;
	char *const *v = s->cfg.image_volumes;
	int rc = 0;

	for (; v && *v && !rc; v++)
		rc = frame_list_add(b, &c->directories, user, strlen(user)) ||
		     frame_list_add(b, &c->directories, *v, strlen(*v));
	if (*s->cfg.image_workdir && !rc)
		rc = frame_list_add(b, &c->directories, "", 0) ||
		     frame_list_add(b, &c->directories, s->cfg.image_workdir,
				    strlen(s->cfg.image_workdir));
	frame_list_end(b, &c->directories);
	c->stop_signal = s->cfg.stop_signal;
	return rc ? err_set(e, E2BIG, "the paths of the image's configuration are too long") : 0;
}

static int start_relay(struct supervisor *s, const struct relay_ops *ops, int ctl, int bulk,
		       struct err *e)
{
	struct frame_configure c = {
		.flags = CONFIGURE_UPPER | CONFIGURE_NETWORK,
		.hostname = frame_str_of(s->cfg.name),
		.ipv4_addr = GUEST_ADDR,
		.ipv4_gateway = GUEST_GATEWAY,
		.ipv4_dns = GUEST_GATEWAY,
		.ipv4_prefix = GUEST_PREFIX,
		.mtu = GUEST_MTU,
	};
	struct buf hosts = BUF_INIT, volumes = BUF_INIT, dirs = BUF_INIT;
	int rc;

	c.flags |= s->ipv6 ? CONFIGURE_IPV6 : 0;
	if (!s->closed) {
		static const char host[] = "10.0.2.4 host.microsandbox.internal";

		frame_list_add(&hosts, &c.hosts, host, sizeof(host) - 1);
	}
	frame_list_end(&hosts, &c.hosts);
	rc = volumes_configure(&s->cfg, &c, &volumes, e);
	if (!rc)
		rc = start_directories(s, &c, &dirs, e);
	if (rc) {
		close(ctl);
		close(bulk);
	} else {
		s->relay_up = true;
		rc = relay_init(&s->relay, s->loop, ops, ctl, bulk, &c, e);
	}
	buf_fini(&dirs);
	buf_fini(&volumes);
	buf_fini(&hosts);
	return rc;
}

/* What the VM is made of, but for its descriptors. */
static struct engine_vm_desc start_desc(const struct supervisor *s)
{
	return (struct engine_vm_desc){
		.name = s->cfg.name,
		.kernel = s->cfg.kernel,
		.initramfs = s->cfg.initramfs,
		.cpus = s->cfg.cpus,
		.memory_bytes = s->cfg.memory_bytes,
		.net_fd = -1,
		.control_fd = -1,
		.jail = start_jail_mode(s),
	};
}

/*
 * Opens everything that @desc still lacks, and starts the VM, which uses desc->cell up.
 * @kept_fd: the disk of a sandbox that is kept, else -1.
 */
static int start_vm(struct supervisor *s, const struct relay_ops *ops, struct engine_vm_desc *desc,
		    int kept_fd, struct err *e)
{
	auto_close int image_fd = -1, made_fd = -1, console_fd = -1, log_fd = -1;
	auto_close int ctl_fd = -1, bulk_fd = -1, fuse_fd = -1, net_fd = -1, net_theirs = -1;
	int ours = -1, ctl, bulk, rc;

	if ((rc = rootimage_open(s->cfg.image_path, &image_fd, e)) ||
	    (kept_fd < 0 && (rc = start_make_upper(s, &made_fd, e))) ||
	    (rc = start_socketpair(&ours, &console_fd, e)) ||
	    (rc = taillog_init(&s->console, s->loop, ours, s->logdirfd, "console.log", e)) ||
	    (rc = supervisor_log_pipe(s, &s->vm_log, "vm.log", &log_fd, e)) ||
	    (rc = start_socketpair(&ctl, &ctl_fd, e)))
		return rc;
	rc = start_socketpair(&bulk, &bulk_fd, e);
	if (rc) {
		close(ctl);
		return rc;
	}
	if ((rc = start_relay(s, ops, ctl, bulk, e)) || (rc = volumes_start(s, &fuse_fd, e)))
		return rc;
	if ((rc = start_socketpair(&net_fd, &net_theirs, e)) || (rc = start_net(s, net_theirs, e)))
		return rc;
	desc->disks[0] = (struct engine_disk){ image_fd, true, "image" };
	desc->disks[1] = (struct engine_disk){ kept_fd < 0 ? made_fd : kept_fd, false, "upper" };
	desc->n_disks = 2;
	desc->console_fd = console_fd;
	desc->port_fds[ENGINE_PORT_CTL] = ctl_fd;
	desc->port_fds[ENGINE_PORT_BULK] = bulk_fd;
	desc->port_fds[ENGINE_PORT_FUSE] = fuse_fd;
	desc->net_fd = net_fd;
	desc->log_fd = log_fd;
	s->started_ns = loop_now_ns();
	rc = s->engine->start(desc, &s->vm, e);
	desc->cell = NULL;
	return rc;
}

int supervisor_start_vm(struct supervisor *s, const struct relay_ops *ops, struct err *e)
{
	struct engine_vm_desc desc = start_desc(s);
	auto_close int kept_fd = -1;
	int rc;

	/* Before the jail is made: how far its files may grow is known then. */
	if (!s->cfg.ephemeral && (rc = upper_open(s, &kept_fd, e)))
		return rc;
	if ((rc = start_check_network(s, e)) || (rc = start_check_ports(s, e)) ||
	    (rc = start_join_group(s, e)) ||
	    (rc = start_check_file(s->cfg.kernel, "guest kernel",
				   "build it with `make kernel`, or give one with --kernel", e)) ||
	    (rc = start_check_file(s->cfg.initramfs, "guest initramfs", "build it with `make`",
				   e)) ||
	    (rc = engine_prepare(s->engine, &desc, s->cfg.disk_bytes, &desc.cell, e)))
		return rc;
	rc = start_vm(s, ops, &desc, kept_fd, e);
	engine_abandon(s->engine, desc.cell);
	return rc;
}
