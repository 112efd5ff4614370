/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail, tried from inside: this program starts itself in jails and attempts
 * what must not work.  Each attempt prints a line if it succeeds.  As root, every
 * test runs a second time as nobody.
 */
#include "unit/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "sys/jail_internal.h"

/* A sanitizer's run-time has signal handlers, system calls and files of its own. */
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED true
#else
#define SANITIZED false
#endif

#define NOBODY 65534
#define FILE_LIMIT 4096
#define FD_LIMIT 32
#define PROCESS_LIMIT 5

/* ---- inside ---------------------------------------------------------- */

static int escapes;

/* @worked: something forbidden was possible. */
static void forbid(bool worked, const char *what)
{
	if (!worked)
		return;
	printf("possible: %s (errno %d)\n", what, errno);
	escapes++;
}

static void forbid_files(bool full)
{
	if (full) {
		forbid(access("/etc/passwd", F_OK) == 0, "see /etc/passwd");
		forbid(access("/home", F_OK) == 0, "see /home");
		forbid(access("/dev/kvm", F_OK) == 0, "see /dev/kvm");
		forbid(access("/proc/self", F_OK) == 0, "see /proc");
		forbid(access("/../../etc/passwd", F_OK) == 0, "climb out of the root");
		forbid(open("/new", O_WRONLY | O_CREAT, 0600) >= 0, "write in the root");
		forbid(mkdir("/empty/new", 0700) == 0, "write in an empty directory");
		forbid(open("/usr/new", O_WRONLY | O_CREAT, 0600) >= 0, "write in a bind");
		forbid(chmod("/empty", 0777) == 0, "change the root's modes");
		forbid(access("/absent", F_OK) == 0, "see an optional bind that is absent");
		forbid(execl("/data/true", "true", NULL) == 0, "run from a noexec bind");
		int fd = open("/data/true", O_RDONLY | O_CLOEXEC);
		forbid(fd < 0, "not read a bound file");
		forbid(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) != MAP_FAILED,
		       "map code from a noexec bind");
		close(fd);
	}
	/* Descriptor 3 is a file of FILE_LIMIT bytes, open for writing. */
	forbid(pwrite(3, "x", 1, FILE_LIMIT - 1) != 1, "not write below the file limit");
	forbid(pwrite(3, "x", 1, FILE_LIMIT) == 1, "write above the file limit");
}

static void forbid_network(bool host_network)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int tcp = socket(AF_INET, SOCK_STREAM, 0), unx = socket(AF_UNIX, SOCK_STREAM, 0);

	/* The outer test listens on this port and on this abstract name. */
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	in.sin_port = htons((uint16_t)atoi(getenv("PORT")));
	snprintf(un.sun_path + 1, sizeof(un.sun_path) - 1, "msb-test-%s", getenv("PORT"));
	forbid((connect(tcp, (struct sockaddr *)&in, sizeof(in)) == 0) != host_network,
	       "reach the host's loopback (or not, with its network)");
	forbid((connect(unx, (struct sockaddr *)&un, sizeof(un)) == 0) != host_network,
	       "reach an abstract socket (or not, with its network)");
	close(tcp);
	close(unx);
}

static void forbid_processes(bool full)
{
	pid_t outside = (pid_t)atoi(getenv("OUTSIDE"));

	if (full) {
		forbid(getpid() != 1, "not be process 1");
		forbid(kill(outside, 0) == 0 || errno != ESRCH, "see an outside process");
	}
	forbid(ptrace(PTRACE_ATTACH, outside, 0, 0) == 0, "trace an outside process");
	forbid(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0, "ask to be traced");
	forbid(syscall(SYS_process_vm_readv, outside, NULL, 0, NULL, 0, 0) >= 0, "read memory");
}

static void forbid_privileges(bool full)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2] = { 0 };
	struct rlimit big = { RLIM_INFINITY, RLIM_INFINITY };
	uint32_t want = getenv("CHROOT") ? 1u << CAP_SYS_CHROOT : 0;

	syscall(SYS_capget, &head, caps);
	forbid(caps[0].effective != want || caps[0].permitted != want || caps[1].permitted != 0,
	       "have other capabilities than asked for");
	forbid((chroot("/") == 0) != (want != 0), "chroot (or not, with the capability)");
	forbid(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1, "gain privileges by exec");
	forbid(setrlimit(RLIMIT_FSIZE, &big) == 0, "raise a limit");
	forbid(prctl(PR_CAPBSET_READ, CAP_NET_ADMIN, 0, 0, 0) == 1 && full, "keep a bounding set");
	if (full)
		forbid(setuid(0) == 0 || setgid(0) == 0, "become root");
	forbid(unshare(CLONE_NEWUSER) == 0, "unshare a user namespace");
	forbid(unshare(CLONE_NEWNET) == 0, "unshare a network namespace");
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, 0);
	if (pid == 0)
		_exit(0);
	forbid(pid > 0, "clone a user namespace");
	forbid(syscall(SYS_clone3, NULL, 0) >= 0 || errno != ENOSYS, "clone3");
	forbid(mount("none", "/", "tmpfs", 0, NULL) == 0 || errno != EPERM, "mount");
	forbid(umount2("/", MNT_DETACH) == 0, "umount");
	forbid(syscall(SYS_bpf, 0, NULL, 0) >= 0 || errno != EPERM, "bpf");
	forbid(syscall(SYS_io_uring_setup, 1, NULL) >= 0 || errno != EPERM, "io_uring");
	forbid(syscall(SYS_keyctl, 0, 0) >= 0 || errno != EPERM, "keyctl");
	forbid(syscall(SYS_userfaultfd, 0) >= 0 || errno != EPERM, "userfaultfd");
}

static void forbid_excess(bool full)
{
	int fds[FD_LIMIT + 1], n = 0, kids = 0;
	struct rlimit r;

	for (int fd = 4; fd < 1024; fd++)
		forbid(fcntl(fd, F_GETFD) >= 0, "have an inherited descriptor");
	while (n <= FD_LIMIT && (fds[n] = dup(0)) >= 0)
		n++;
	forbid(n != FD_LIMIT - 4 || errno != EMFILE, "open more descriptors");
	while (n)
		close(fds[--n]);
	getrlimit(RLIMIT_CORE, &r);
	forbid(r.rlim_max != 0, "dump core");
	if (!full)
		return;
	for (;;) {
		pid_t pid = fork();

		if (pid < 0)
			break;
		if (pid == 0) {
			pause();
			_exit(0);
		}
		if (++kids > PROCESS_LIMIT)
			break;
	}
	forbid(kids != PROCESS_LIMIT - 1, "start more processes");
	kill(-1, SIGKILL);
	while (wait(NULL) > 0)
		;
}

static int inside_main(const char *role)
{
	bool full = strcmp(role, "reduced");

	signal(SIGXFSZ, SIG_IGN); /* so that a write above the limit fails instead */
	if (!strcmp(role, "sleep"))
		for (;;)
			pause();
	if (!strcmp(role, "read"))
		return open("/secret", O_RDONLY) >= 0 ? 0 : errno;
	if (!strcmp(role, "make")) {
		int fd = openat(AT_FDCWD, "/shared/made", O_CREAT | O_EXCL | O_WRONLY, 0644);
		int code = fd < 0 ? errno : 0;

		/* Of same_ids: root with one power over files, and no other privilege. */
		if (!code && !geteuid() && fchown(fd, 4321, 4321))
			code = 201;
		if (!code && mknod("/shared/dev", S_IFCHR | 0600, 0x103) == 0)
			code = 200;
		return code;
	}
	if (!strcmp(role, "proc")) {
		forbid(access("/proc/self/fd/0", F_OK) != 0, "not see the own descriptors");
		forbid(access("/proc/1", F_OK) != 0, "not see the own process");
		forbid(access("/proc/sys", F_OK) == 0, "see the kernel's settings");
		forbid(access("/proc/meminfo", F_OK) == 0, "see the machine");
		return escapes;
	}
	forbid_excess(full);
	forbid_files(full);
	forbid_network(!full || getenv("HOSTNET"));
	forbid_processes(full);
	forbid_privileges(full);
	return escapes;
}

/* ---- outside --------------------------------------------------------- */

/* A copy of this program, in a place that the user nobody can reach. */
static char self_path[] = "/tmp/msb-test-jail-XXXXXX";

static const struct jail_bind binds[] = {
	{ .source = "/usr", .target = "/usr", .exec = true },
	{ .source = "/lib", .target = "/lib", .exec = true, .optional = true },
	{ .source = "/lib64", .target = "/lib64", .exec = true, .optional = true },
	{ .source = "/etc/ld.so.cache", .target = "/etc/ld.so.cache", .optional = true },
	{ .source = self_path, .target = "/test", .exec = true },
	{ .source = "/usr/bin", .target = "/data" },
	{ .source = "/absent/file", .target = "/absent", .optional = true },
};
static const char *const dirs[] = { "/empty" };

static const struct jail full_jail = {
	.mode = JAIL_FULL,
	.binds = binds,
	.n_binds = ARRAY_SIZE(binds),
	.dirs = dirs,
	.n_dirs = ARRAY_SIZE(dirs),
	.max_file_bytes = FILE_LIMIT,
	.max_fds = FD_LIMIT,
	.max_processes = PROCESS_LIMIT,
};

struct listeners {
	int tcp, unx;
	int file; /* FILE_LIMIT bytes */
	char port[32], outside[32]; /* environment */
};

static void listeners_open(struct listeners *l)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(in);

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	l->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	l->unx = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(l->tcp, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(l->tcp, 16), 0);
	getsockname(l->tcp, (struct sockaddr *)&in, &len);
	snprintf(l->port, sizeof(l->port), "PORT=%u", ntohs(in.sin_port));
	snprintf(un.sun_path + 1, sizeof(un.sun_path) - 1, "msb-test-%u", ntohs(in.sin_port));
	assert_int_equal(bind(l->unx, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(l->unx, 16), 0);
	snprintf(l->outside, sizeof(l->outside), "OUTSIDE=%d", getpid());
	l->file = memfd_create("file", MFD_CLOEXEC);
	assert_int_equal(ftruncate(l->file, FILE_LIMIT), 0);
}

static void listeners_close(struct listeners *l)
{
	close(l->tcp);
	close(l->unx);
	close(l->file);
}

/* Where the machine refuses full jails, say why and leave these tests out. */
static void need_full_jail(bool to_run_in)
{
	struct err e = ERR_INIT;

	if (SANITIZED && to_run_in)
		skip();
	if (jail_probe(&e) == 0)
		return;
	print_message("skipped: %s\n", err_text(&e));
	skip();
}

static int jail_start(const struct jail *j, const char *role, char *const *env, int file, int out,
		      struct child *c, struct err *e)
{
	const char *self = j->mode == JAIL_FULL ? "/test" : self_path;
	char *argv[] = { (char *)self, (char *)"--inside", (char *)role, NULL };
	struct child_fd fds[] = { { out, 1 }, { file, 3 } };
	struct child_spec spec = {
		.path = self,
		.argv = argv,
		.envp = env,
		.fds = fds,
		.n_fds = file >= 0 ? 2 : 1,
		.jail = j,
		.die_with_parent = true,
	};

	return spawn_either(&spec, c, e);
}

/* Runs @role in @j. Return: its exit status; what it printed goes to our stderr. */
static int jail_run(const struct jail *j, const char *role, const char *extra_env)
{
	struct listeners l;
	struct child c = CHILD_INIT;
	struct err e = ERR_INIT;
	char line[4096];
	int p[2], status;
	ssize_t n;

	listeners_open(&l);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	char *env[] = { l.port, l.outside, (char *)extra_env, NULL };
	if (jail_start(j, role, env, l.file, p[1], &c, &e) < 0)
		fail_msg("%s", err_text(&e));
	close(p[1]);
	while ((n = read(p[0], line, sizeof(line))) > 0)
		print_error("%.*s", (int)n, line);
	close(p[0]);
	assert_int_equal(child_reap(&c, &status), 0);
	listeners_close(&l);
	if (!WIFEXITED(status))
		fail_msg("killed by signal %d", WTERMSIG(status));
	return WEXITSTATUS(status);
}

static void test_forbidden(void **state)
{
	(void)state;
	need_full_jail(true);
	assert_int_equal(jail_run(&full_jail, "full", NULL), 0);
}

static void test_host_network_and_capability(void **state)
{
	struct jail j = full_jail;

	(void)state;
	need_full_jail(true);
	j.host_network = true;
	assert_int_equal(jail_run(&j, "full", "HOSTNET=1"), 0);
	j.host_network = false;
	j.keep_caps = 1u << CAP_SYS_CHROOT;
	assert_int_equal(jail_run(&j, "full", "CHROOT=1"), 0);
}

static void test_reduced(void **state)
{
	struct jail j = full_jail;

	(void)state;
	if (SANITIZED)
		skip();
	j.mode = JAIL_REDUCED;
	assert_int_equal(jail_run(&j, "reduced", NULL), 0);
}

static void test_proc(void **state)
{
	struct jail j = full_jail;

	(void)state;
	need_full_jail(true);
	j.proc = true;
	assert_int_equal(jail_run(&j, "proc", NULL), 0);
}

/* A file that only its owner may read: root's jail is not its owner, a user's is. */
static void test_owner(void **state)
{
	char path[] = "/tmp/msb-test-owner-XXXXXX";
	struct jail_bind more[ARRAY_SIZE(binds) + 1];
	struct jail j = full_jail;
	int fd;

	(void)state;
	need_full_jail(true);
	fd = mkstemp(path);
	assert_true(fd >= 0);
	memcpy(more, binds, sizeof(binds));
	more[ARRAY_SIZE(binds)] = (struct jail_bind){ .source = path, .target = "/secret" };
	j.binds = more;
	j.n_binds++;
	assert_int_equal(jail_run(&j, "read", NULL), geteuid() == 0 ? EACCES : 0);
	fchmod(fd, 0644);
	assert_int_equal(jail_run(&j, "read", NULL), 0);
	close(fd);
	unlink(path);
}

/* A directory that is shared for writing, or not, or is not what it was. */
static void test_shared_directory(void **state)
{
	char dir[] = "/tmp/msb-test-shared-XXXXXX", made[64], link[64];
	struct jail_bind more[ARRAY_SIZE(binds) + 1];
	struct jail_bind *shared = &more[ARRAY_SIZE(binds)];
	struct jail j = full_jail;
	struct child c = CHILD_INIT;
	struct err e = ERR_INIT;
	struct stat st;

	(void)state;
	need_full_jail(true);
	assert_non_null(mkdtemp(dir));
	snprintf(made, sizeof(made), "%s/made", dir);
	snprintf(link, sizeof(link), "%s.link", dir);
	assert_int_equal(symlink(dir, link), 0);
	memcpy(more, binds, sizeof(binds));
	*shared = (struct jail_bind){ .source = dir, .target = "/shared" };
	j.binds = more;
	j.n_binds++;
	j.same_ids = true;
	j.keep_caps = 1ull << CAP_CHOWN;
	assert_int_equal(jail_run(&j, "make", NULL), EROFS);
	shared->writable = true;
	shared->no_links = true;
	assert_int_equal(jail_run(&j, "make", NULL), 0);
	assert_int_equal(stat(made, &st), 0);
	assert_int_equal(st.st_uid, geteuid() ? geteuid() : 4321);
	assert_int_equal(unlink(made), 0);
	/* Without same_ids root's jail is somebody else's. */
	j.same_ids = false;
	assert_int_equal(jail_run(&j, "make", NULL), geteuid() ? 0 : EACCES);
	shared->source = link;
	assert_int_equal(jail_start(&j, "make", NULL, -1, 2, &c, &e), -ELOOP);
	unlink(made);
	unlink(link);
	assert_int_equal(rmdir(dir), 0);
}

static unsigned outside_uid(pid_t pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	assert_int_equal(stat(path, &st), 0);
	return st.st_uid;
}

static void test_outside_id_and_death(void **state)
{
	struct child c = CHILD_INIT;
	struct err e = ERR_INIT;
	int status;

	(void)state;
	need_full_jail(true);
	if (jail_start(&full_jail, "sleep", NULL, -1, 2, &c, &e) < 0)
		fail_msg("%s", err_text(&e));
	if (geteuid() == 0)
		assert_int_equal(outside_uid(c.pid), JAIL_OUTSIDE_ID_BASE + (unsigned)c.pid);
	else
		assert_int_equal(outside_uid(c.pid), geteuid());
	/* Process 1 without a handler: only SIGKILL counts. */
	assert_int_equal(kill(c.pid, SIGTERM), 0);
	assert_int_equal(kill(c.pid, SIGKILL), 0);
	assert_int_equal(child_reap(&c, &status), 0);
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void expect_bad(const struct jail *j, int code, const char *text)
{
	struct child c = CHILD_INIT;
	struct err e = ERR_INIT;

	assert_int_equal(jail_start(j, "full", NULL, -1, 2, &c, &e), -code);
	if (!strstr(err_text(&e), text))
		fail_msg("'%s' does not say '%s'", err_text(&e), text);
}

static void test_bad_description(void **state)
{
	static const char *const targets[] = { "x", "/", "/a//b", "/a/", "/../a", "/a/.", "/a/.." };
	struct jail_bind b = { .source = "/absent/file", .target = "/absent" };
	struct jail j = { .mode = JAIL_FULL, .binds = &b, .n_binds = 1 };

	(void)state;
	need_full_jail(false);
	expect_bad(&j, ENOENT, "open to bind /absent/file");
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		b.target = targets[i];
		expect_bad(&j, EINVAL, "bad bind target");
	}
	b = (struct jail_bind){ .source = "relative", .target = "/x" };
	expect_bad(&j, EINVAL, "not absolute");
	b = (struct jail_bind){ .source = "/dev/null", .target = "/null" };
	expect_bad(&j, ENOENT, "is not in its jail");
	j.n_binds = JAIL_BINDS_MAX + 1;
	expect_bad(&j, EINVAL, "at most");
}

/* Runs @fn in a process of its own. Return: its exit status, or 256 + signal. */
static int forked(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(fn());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

static int probe_expect(int code, const char *text)
{
	struct err e = ERR_INIT;

	if (jail_probe(&e) == -code && strstr(err_text(&e), text) &&
	    strstr(err_text(&e), "--jail=reduced"))
		return 0;
	print_error("probe: %s\n", err_text(&e));
	return 1;
}

/* As a container's default profile does it. */
static int refused_by_seccomp(void)
{
	static const struct jail_syscall no_userns[] = {
		{ SYS_clone, "as a user", 0, CLONE_NEWUSER, CLONE_NEWUSER, EPERM },
		{ JAIL_SYSCALL_END },
	};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    jail_filter_load(no_userns, SECCOMP_RET_ALLOW, 0, NULL))
		return 2;
	return probe_expect(EPERM, "seccomp filter");
}

static int refused_by_sysctl(void)
{
	int fd;

	/* A namespace of our own, so that the machine's setting stays. */
	if (unshare(CLONE_NEWUSER) < 0)
		return 2;
	fd = open("/proc/sys/user/max_user_namespaces", O_WRONLY);
	if (fd < 0 || write(fd, "0", 1) != 1)
		return 3;
	return probe_expect(ENOSPC, "sysctl user.max_user_namespaces");
}

static void test_probe(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	need_full_jail(false);
	if (jail_probe(&e) < 0)
		fail_msg("%s", err_text(&e));
	assert_int_equal(forked(refused_by_seccomp), 0);
	assert_int_equal(forked(refused_by_sysctl), 0);
}

static const struct jail_syscall few[] = {
	{ SYS_exit_group, "end" },
	{ SYS_getppid, "the test calls it" },
	{ JAIL_SYSCALL_END },
};

static int seccomp_allowed(void)
{
	if (jail_seccomp(few, false, NULL) < 0)
		return 1;
	syscall(SYS_getppid);
	syscall(SYS_exit_group, 7);
	return 1;
}

static int seccomp_forbidden(void)
{
	if (jail_seccomp(few, false, NULL) < 0)
		return 1;
	syscall(SYS_getuid);
	syscall(SYS_exit_group, 7);
	return 1;
}

static int seccomp_logged(void)
{
	if (jail_seccomp(few, true, NULL) < 0)
		return 1;
	syscall(SYS_getuid);
	syscall(SYS_exit_group, 7);
	return 1;
}

/* The filter of one thread leaves the others alone; that of the process does not. */
static int seccomp_threads(void *(*other)(void *))
{
	pthread_t t;
	void *result;

	if (pthread_create(&t, NULL, other, NULL) || pthread_join(t, &result) || result)
		return 1;
	syscall(SYS_getuid);
	return 7;
}

static void *seccomp_thread_main(void *arg)
{
	static const struct jail_syscall none_but_uid[] = {
		{ SYS_getuid, "fails", .fail = ENOLINK },
		{ SYS_madvise, "the thread's stack is given back" },
		{ SYS_rt_sigprocmask, "the thread ends" },
		{ SYS_exit, "the thread ends" },
		{ JAIL_SYSCALL_END },
	};

	(void)arg;
	if (jail_seccomp_thread(none_but_uid, false, NULL))
		return &escapes;
	return syscall(SYS_getuid) == -1 && errno == ENOLINK ? NULL : &escapes;
}

static int seccomp_one_thread(void)
{
	return seccomp_threads(seccomp_thread_main);
}

static void test_seccomp(void **state)
{
	static const struct jail_syscall wrong[] = { { SYS_read, "arguments are 0 to 5", 6, 1, 1 },
						     { JAIL_SYSCALL_END } };
	static const struct jail_syscall never[] = { { SYS_read, "never applies", 0, 1, 2 },
						     { JAIL_SYSCALL_END } };
	struct jail_syscall many[JAIL_SYSCALLS_MAX + 2] = { { SYS_read, "one of too many" } };
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(forked(seccomp_allowed), 7);
	assert_int_equal(forked(seccomp_forbidden), 256 + SIGSYS);
	assert_int_equal(forked(seccomp_logged), 7);
	if (!SANITIZED)
		assert_int_equal(forked(seccomp_one_thread), 7);
	assert_int_equal(jail_filter_load(wrong, SECCOMP_RET_ALLOW, 0, &e), -EINVAL);
	assert_non_null(strstr(err_text(&e), "arguments are 0 to 5"));
	assert_int_equal(jail_filter_load(never, SECCOMP_RET_ALLOW, 0, NULL), -EINVAL);
	for (size_t i = 1; i <= JAIL_SYSCALLS_MAX; i++)
		many[i] = many[0];
	many[JAIL_SYSCALLS_MAX + 1].nr = JAIL_SYSCALL_END;
	assert_int_equal(jail_filter_load(many, SECCOMP_RET_ALLOW, 0, NULL), -EINVAL);
}

/* ---- filters, run by ourselves ---------------------------------------- */

/* Classic BPF as the kernel runs it (Documentation/networking/filter.rst). */
static uint32_t bpf_run(const struct sock_filter *code, unsigned n, const struct seccomp_data *d)
{
	uint32_t a = 0;

	for (unsigned at = 0; at < n; at++) {
		const struct sock_filter *f = &code[at];

		switch (f->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(f->k % 4 == 0 && f->k < sizeof(*d));
			memcpy(&a, (const uint8_t *)d + f->k, 4);
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= f->k;
			break;
		case BPF_JMP | BPF_JA:
			at += f->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			at += a == f->k ? f->jt : f->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			at += a >= f->k ? f->jt : f->jf;
			break;
		case BPF_RET | BPF_K:
			return f->k;
		default:
			fail_msg("instruction %u: code 0x%x", at, f->code);
		}
	}
	fail_msg("the program has no end");
	return 0;
}

/* What the list says, looked up one entry after the other. */
static uint32_t list_run(const struct jail_syscall *c, uint32_t otherwise,
			 const struct seccomp_data *d)
{
	for (; c->nr != JAIL_SYSCALL_END; c++)
		if (c->nr == d->nr && (d->args[c->arg] & c->mask) == c->value)
			return c->fail ? SECCOMP_RET_ERRNO | c->fail : SECCOMP_RET_ALLOW;
	return otherwise;
}

static uint64_t few_values(void)
{
	static const uint64_t masks[] = { 0,          1,           3,
					  0xffffffff, 0x100000000, 0xffffffff00000000,
					  UINT64_MAX };

	return masks[(unsigned)rand() % ARRAY_SIZE(masks)];
}

static struct jail_syscall random_entry(int nr)
{
	struct jail_syscall c = { .nr = nr, .reason = "random", .arg = (unsigned)rand() % 6 };

	if (rand() % 2)
		c.mask = few_values();
	c.value = few_values() & c.mask;
	c.fail = rand() % 4 ? 0 : 1 + (unsigned)rand() % 100;
	return c;
}

static void check_list(const struct jail_syscall *list, unsigned numbers)
{
	struct sock_filter code[JAIL_FILTER_MAX];
	int n = jail_filter_build(list, SECCOMP_RET_TRAP, code, NULL);
	struct seccomp_data d = { .arch = JAIL_AUDIT_ARCH };

	assert_in_range(n, 1, JAIL_FILTER_MAX);
	for (d.nr = 0; d.nr < (int)numbers; d.nr++)
		for (int k = 0; k < 8; k++) {
			for (int i = 0; i < 6; i++)
				d.args[i] = few_values();
			if (bpf_run(code, (unsigned)n, &d) != list_run(list, SECCOMP_RET_TRAP, &d))
				fail_msg("call %d is answered wrongly", d.nr);
		}
	d.nr |= (int)JAIL_X32_BIT;
	assert_int_equal(bpf_run(code, (unsigned)n, &d), SECCOMP_RET_KILL_PROCESS);
	d = (struct seccomp_data){ .arch = JAIL_AUDIT_ARCH ^ 1 };
	assert_int_equal(bpf_run(code, (unsigned)n, &d), SECCOMP_RET_KILL_PROCESS);
}

static void test_filter_programs(void **state)
{
	struct jail_syscall list[JAIL_SYSCALLS_MAX + 1];

	(void)state;
	srand(1);
	for (int round = 0; round < 400; round++) {
		/* From a few numbers with many entries each to many with one each. */
		unsigned n = (unsigned)rand() % (JAIL_SYSCALLS_MAX + 1);
		unsigned numbers = 1 + (unsigned)rand() % (round % 4 ? 400 : 8);

		for (unsigned i = 0; i < n; i++)
			list[i] = random_entry(rand() % (int)numbers);
		list[n].nr = JAIL_SYSCALL_END;
		check_list(list, numbers + 2);
	}
	/* One number with as many alike entries as there can be, and all numbers different. */
	for (int i = 0; i < JAIL_SYSCALLS_MAX; i++)
		list[i] = (struct jail_syscall){ 5, "alike", 1, UINT32_MAX, (uint64_t)i };
	list[JAIL_SYSCALLS_MAX].nr = JAIL_SYSCALL_END;
	check_list(list, 8);
	for (int i = 0; i < JAIL_SYSCALLS_MAX; i++)
		list[i] = (struct jail_syscall){ 2 * i, "apart", 5, UINT64_MAX, UINT64_MAX };
	check_list(list, 2 * JAIL_SYSCALLS_MAX + 2);
}

static const struct CMUnitTest tests[] = {
	TEST_BOTH(test_forbidden),
	TEST_BOTH(test_host_network_and_capability),
	TEST_BOTH(test_reduced),
	TEST_BOTH(test_proc),
	TEST_BOTH(test_owner),
	TEST_BOTH(test_shared_directory),
	TEST_BOTH(test_outside_id_and_death),
	TEST_BOTH(test_bad_description),
	TEST(test_probe),
	TEST(test_seccomp),
	TEST(test_filter_programs),
};

static int copy_self(void)
{
	auto_close int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	auto_close int to = mkostemp(self_path, O_CLOEXEC);
	struct stat st;
	off_t at = 0;

	if (from < 0 || to < 0 || fstat(from, &st) < 0 || fchmod(to, 0755) < 0)
		return -1;
	while (at < st.st_size)
		if (sendfile(to, from, &at, (size_t)(st.st_size - at)) <= 0)
			return -1;
	return 0;
}

static int as_nobody(void)
{
	if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return 1;
	/* As after an exec: a process that changed its id is undumpable until then. */
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	return test_run(tests);
}

int main(int argc, char **argv)
{
	int failed;

	if (argc > 2 && !strcmp(argv[1], "--inside"))
		return inside_main(argv[2]);
	if (copy_self() < 0) {
		perror(self_path);
		return 1;
	}
	failed = test_run(tests);
	if (geteuid() == 0)
		failed += forked(as_nobody);
	unlink(self_path);
	return failed;
}
