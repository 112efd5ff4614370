/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail of msb-vmm, tried from inside.  First each thread's seccomp list, in a process of
 * our own.  Then the real thing: msb-vmm runs a guest, in its jail, and is made to do what
 * a guest that had taken it over would do: one of its threads is stopped, a system call
 * put into its registers, and let go.  Whatever is forbidden has to end the process by
 * SIGSYS.  As root, msb-vmm is started a second time by an ordinary user.
 *
 * The second part needs a /dev/kvm, and the right to trace.
 */
#include "unit/test.h"

#include <dirent.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "engine/kvm_control.h"
#include "unit/silent_vm.h"
#include "vmm/confine.h"

/* A sanitizer's run-time makes system calls of its own. */
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED true
#else
#define SANITIZED false
#endif

#define NOBODY 65534

/* ---- the lists, in a process of our own --------------------------------- */

enum role { ROLE_IO, ROLE_VCPU, ROLE_DISK, ROLES };

static const char *const role_names[ROLES] = { "I/O", "vCPU", "disk" };

static int role_confine(enum role role)
{
	switch (role) {
	case ROLE_IO:
		return vmm_confine_io(false, NULL);
	case ROLE_VCPU:
		return vmm_confine_vcpu(false, NULL);
	default:
		return vmm_confine_disk(false, NULL);
	}
}

/* Return: the signal that ended a confined process in @fn, or 256 + its exit status. */
static int role_run(enum role role, void (*fn)(enum role))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (role_confine(role))
			_exit(99);
		fn(role);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 256 + WEXITSTATUS(status);
}

/* Opened before, as in msb-vmm. */
static int work_eventfd, work_file, work_pair[2];

static void work_io(void)
{
	char c = 0;
	struct stat st;

	if (send(work_pair[0], "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1 ||
	    recv(work_pair[1], &c, 1, MSG_DONTWAIT) != 1 || c != 'x')
		_exit(10);
	if (getrandom(&c, 1, 0) != 1 || fstat(work_file, &st) || fcntl(work_file, F_GETFL) < 0 ||
	    fcntl(work_file, F_GET_SEALS) < 0)
		_exit(11);
	if (pwrite(work_file, "x", 1, 0) != 1 || ftruncate(work_file, 8192))
		_exit(12);
	/* Not KVM's: the request is let through, the descriptor refuses it. */
	if (ioctl(work_file, KVM_GET_CLOCK, NULL) != -1 || errno != ENOTTY)
		_exit(13);
}

static void work_disk(void)
{
	char c;
	struct iovec v = { &c, 1 };

	if (pwritev2(work_file, &v, 1, 0, RWF_DSYNC) != 1 || preadv2(work_file, &v, 1, 0, 0) != 1 ||
	    fdatasync(work_file) ||
	    fallocate(work_file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096))
		_exit(20);
}

static void role_works(enum role role)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
	struct timespec soon = { .tv_nsec = 1 };

	pthread_mutex_lock(&lock);
	pthread_cond_signal(&cond);
	pthread_cond_timedwait(&cond, &lock, &soon);
	pthread_mutex_unlock(&lock);
	free(malloc(10000));
	free(malloc(1 << 20));
	if (eventfd_write(work_eventfd, 1))
		_exit(1);
	signal(SIGABRT, SIG_DFL);
	if (pthread_kill(pthread_self(), 0))
		_exit(2);
	if (role == ROLE_IO)
		work_io();
	else if (role == ROLE_DISK)
		work_disk();
	else if (ioctl(work_file, KVM_RUN, 0) != -1 || errno != ENOTTY)
		_exit(3);
}

static void role_aborts(enum role role)
{
	(void)role;
	abort();
}

static void test_lists_allow_the_work(void **state)
{
	(void)state;
	if (SANITIZED)
		skip();
	work_eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	work_file = memfd_create("file", MFD_CLOEXEC);
	assert_int_equal(ftruncate(work_file, 4096), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, work_pair), 0);
	for (enum role r = 0; r < ROLES; r++) {
		int got = role_run(r, role_works);

		if (got != 256)
			fail_msg("%s: %d", role_names[r], got);
		/* A broken assertion of ours is told from a forbidden call. */
		assert_int_equal(role_run(r, role_aborts), SIGABRT);
	}
	close(work_eventfd);
	close(work_file);
	close(work_pair[0]);
	close(work_pair[1]);
}

/* ---- forbidden calls --------------------------------------------------- */

#define TEXT_PATH 0x7001 /* stands for the address of a path; the other for 256 zero bytes */
#define TEXT_ZERO 0x7002

static const struct forbidden {
	const char *what;
	int nr;
	long args[6];
	unsigned but; /* bit mask of the roles that may */
} forbidden[] = {
	{ "open a file", SYS_openat, { AT_FDCWD, TEXT_PATH, O_RDONLY } },
	{ "open a file (open)", SYS_open, { TEXT_PATH, O_RDONLY } },
	{ "open a file (openat2)", SYS_openat2, { AT_FDCWD, TEXT_PATH, TEXT_ZERO, 24 } },
	{ "look for a file", SYS_access, { TEXT_PATH, F_OK } },
	{ "look at a file", SYS_newfstatat, { AT_FDCWD, TEXT_PATH, TEXT_ZERO, 0 } },
	{ "remove a file", SYS_unlink, { TEXT_PATH } },
	{ "make a directory", SYS_mkdir, { TEXT_PATH, 0700 } },
	{ "make a memory file", SYS_memfd_create, { TEXT_ZERO, 0 } },
	{ "make a socket", SYS_socket, { AF_INET, SOCK_STREAM, 0 } },
	{ "make a unix socket", SYS_socket, { AF_UNIX, SOCK_STREAM, 0 } },
	{ "make a netlink socket", SYS_socket, { AF_NETLINK, SOCK_RAW, 0 } },
	{ "connect", SYS_connect, { 10, TEXT_ZERO, 16 } },
	{ "listen", SYS_listen, { 10, 1 } },
	{ "send to an address", SYS_sendto, { 10, TEXT_ZERO, 1, 0, TEXT_ZERO, 16 } },
	{ "run a program", SYS_execve, { TEXT_PATH, 0, 0 } },
	{ "run a program (execveat)", SYS_execveat, { AT_FDCWD, TEXT_PATH, 0, 0, 0 } },
	{ "fork", SYS_fork, { 0 } },
	{ "start a thread", SYS_clone, { CLONE_VM | CLONE_THREAD | CLONE_SIGHAND, 0 } },
	{ "start a process (clone3)", SYS_clone3, { TEXT_ZERO, 64 } },
	{ "make a user namespace", SYS_unshare, { CLONE_NEWUSER } },
	{ "make a user namespace by clone", SYS_clone, { CLONE_NEWUSER | SIGCHLD, 0 } },
	{ "make a network namespace", SYS_unshare, { CLONE_NEWNET } },
	{ "enter a namespace", SYS_setns, { 3, 0 } },
	{ "mount", SYS_mount, { TEXT_ZERO, TEXT_PATH, TEXT_ZERO, 0, 0 } },
	{ "change the root", SYS_chroot, { TEXT_PATH } },
	{ "trace", SYS_ptrace, { PTRACE_ATTACH, 2 } },
	{ "read another process's memory", SYS_process_vm_readv, { 2, TEXT_ZERO, 1, TEXT_ZERO, 1 } },
	{ "kill a neighbour", SYS_kill, { 2, SIGKILL } },
	{ "kill everybody", SYS_kill, { -1, SIGKILL } },
	{ "kill a thread of another process", SYS_tgkill, { 2, 2, SIGKILL } },
	{ "kill by thread number", SYS_tkill, { 2, SIGKILL } },
	{ "take a descriptor of another process", SYS_pidfd_open, { 2, 0 } },
	{ "map code",
	  SYS_mmap,
	  { 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1 } },
	{ "make memory code", SYS_mprotect, { 0, 4096, PROT_READ | PROT_EXEC } },
	{ "make memory code (pkey)", SYS_pkey_mprotect, { 0, 4096, PROT_EXEC, -1 } },
	{ "make a VM", SYS_ioctl, { 10, KVM_CREATE_VM, 0 } },
	{ "make a CPU", SYS_ioctl, { 10, KVM_CREATE_VCPU, 1 } },
	{ "give a guest other memory", SYS_ioctl, { 10, KVM_SET_USER_MEMORY_REGION, TEXT_ZERO } },
	{ "add a doorbell", SYS_ioctl, { 10, KVM_IOEVENTFD, TEXT_ZERO } },
	{ "type into a terminal", SYS_ioctl, { 2, 0x5412 /* TIOCSTI */, TEXT_ZERO } },
	{ "run a CPU", SYS_ioctl, { 10, KVM_RUN, 0 }, 1u << ROLE_VCPU },
	{ "read registers", SYS_ioctl, { 10, KVM_GET_REGS, TEXT_ZERO }, 1u << ROLE_IO },
	{ "read", SYS_read, { 10, TEXT_ZERO, 1 }, 1u << ROLE_IO },
	{ "write a file at a place", SYS_pwrite64, { 10, TEXT_ZERO, 1, 0 }, 1u << ROLE_IO },
	{ "receive", SYS_recvmsg, { 10, TEXT_ZERO, 0 }, 1u << ROLE_IO },
	{ "punch holes", SYS_fallocate, { 10, 3, 0, 4096 }, 1u << ROLE_DISK },
	{ "duplicate a descriptor", SYS_fcntl, { 0, F_DUPFD, 100 } },
	{ "duplicate a descriptor (dup)", SYS_dup, { 0 } },
	{ "change id", SYS_setuid, { 0 } },
	{ "be dumpable", SYS_prctl, { PR_SET_DUMPABLE, 1 } },
	{ "raise a limit", SYS_prlimit64, { 0, 7, TEXT_ZERO, 0 } },
	{ "use io_uring", SYS_io_uring_setup, { 1, TEXT_ZERO } },
	{ "use bpf", SYS_bpf, { 0, TEXT_ZERO, 0 } },
	{ "catch page faults", SYS_userfaultfd, { 0 } },
	{ "use keys", SYS_keyctl, { 0, 0 } },
	{ "wait on a lock with priorities", SYS_futex, { TEXT_ZERO, 6 /* FUTEX_LOCK_PI */, 0 } },
	{ "catch signals", SYS_rt_sigaction, { SIGSEGV, TEXT_ZERO, 0, 8 } },
	{ "call something that does not exist", 999, { 0 } },
};

static const struct forbidden *attempt;

static void role_attempts(enum role role)
{
	static char zero[256], path[] = "/etc/passwd";
	long a[6];

	(void)role;
	for (int i = 0; i < 6; i++)
		a[i] = attempt->args[i] == TEXT_PATH   ? (long)path
		       : attempt->args[i] == TEXT_ZERO ? (long)zero
						       : attempt->args[i];
	syscall(attempt->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void test_lists_forbid_the_rest(void **state)
{
	(void)state;
	if (SANITIZED)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++)
		for (enum role r = 0; r < ROLES; r++) {
			attempt = &forbidden[i];
			if (attempt->but & 1u << r)
				continue;
			if (role_run(r, role_attempts) != SIGSYS)
				fail_msg("%s: possible: %s", role_names[r], attempt->what);
		}
}

/* Another system call convention has other numbers: it must not be let in by the back door. */
static void role_calls_x32(enum role role)
{
	(void)role;
	syscall(0x40000000 | SYS_write, 1, "", 0);
}

static void test_lists_forbid_other_conventions(void **state)
{
	(void)state;
	if (SANITIZED)
		skip();
	for (enum role r = 0; r < ROLES; r++)
		assert_int_equal(role_run(r, role_calls_x32), SIGSYS);
}

/* ---- the real process ---------------------------------------------------- */

/* A copy of msb-vmm where everybody can reach it. */
static char program[] = "/tmp/msb-test-vmm-XXXXXX";
static bool by_user; /* started by an ordinary user */

static int program_copy(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 64);
	auto_close int from = -1, to = -1;
	struct stat st;
	off_t at = 0;

	if (n < 0)
		return -1;
	/* OUT/tests/unit/test_vmm_jail: OUT/lib/microsandbox/msb-vmm */
	path[n] = '\0';
	for (int i = 0; i < 3; i++)
		*strrchr(path, '/') = '\0';
	strcat(path, "/lib/microsandbox/msb-vmm");
	from = open(path, O_RDONLY | O_CLOEXEC);
	to = mkostemp(program, O_CLOEXEC);
	if (from < 0 || to < 0 || fstat(from, &st) < 0 || fchmod(to, 0755) < 0) {
		perror(path);
		return -1;
	}
	while (at < st.st_size)
		if (sendfile(to, from, &at, (size_t)(st.st_size - at)) <= 0)
			return -1;
	return 0;
}

/*
 * A process that starts the VM, as an ordinary user if by_user, tells its number and waits
 * for it.  Apart from us, who trace it as root.
 */
struct launcher {
	pid_t pid;
	int out; /* its reports */
	int go; /* closed: let the VM end */
	pid_t vm;
};

static _Noreturn void launcher_main(int kvm_fd, int out, int go)
{
	struct silent_vm_config cfg = {
		.program = program,
		.kvm_fd = kvm_fd,
		.null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC),
		.cpus = 1,
		.memory_bytes = 64u << 20,
		.state_fd = -1,
		.memory_fd = -1,
	};
	uint64_t ns[TRACE_RUN + 1];
	struct err e = ERR_INIT;
	struct silent_vm v;
	int status = 0;
	char c;

	if (by_user && (setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY)))
		_exit(1);
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	if (silent_vm_start(&v, &cfg, &e)) {
		fprintf(stderr, "%s\n", err_text(&e));
		_exit(1);
	}
	if (!silent_vm_await(&v, 1, ns) ||
	    write(out, &v.child.pid, sizeof(v.child.pid)) != sizeof(v.child.pid))
		_exit(1);
	/* Either the VM is killed, or we are told to end it. */
	struct pollfd p[2] = { { v.child.pidfd, POLLIN, 0 }, { go, POLLIN, 0 } };
	while (poll(p, 2, -1) < 0)
		;
	if (!p[0].revents) {
		(void)!read(go, &c, 1);
		silent_vm_stop(&v);
	} else {
		child_reap(&v.child, &status);
	}
	(void)!write(out, &status, sizeof(status));
	_exit(0);
}

static void launcher_start(struct launcher *l)
{
	int out[2], go[2], kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	assert_true(kvm_fd >= 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	l->pid = fork();
	if (l->pid == 0) {
		close(go[1]);
		close(out[0]);
		launcher_main(kvm_fd, out[1], go[0]);
	}
	close(kvm_fd);
	close(out[1]);
	close(go[0]);
	l->out = out[0];
	l->go = go[1];
	if (read(l->out, &l->vm, sizeof(l->vm)) != sizeof(l->vm))
		fail_msg("the VM does not run");
}

/* Return: the VM's status, as of waitpid(); 0 if we ended it. */
static int launcher_end(struct launcher *l)
{
	int status = -1;

	close(l->go);
	assert_int_equal(read(l->out, &status, sizeof(status)), sizeof(status));
	close(l->out);
	assert_int_equal(waitpid(l->pid, NULL, 0), l->pid);
	return status;
}

/*
 * The thread of the VM that has @role.  *@n gets the number of all its threads; the
 * kernel's own (kvm-nx-lpage-recovery, since Linux 6.13) are not counted.
 */
static pid_t vm_thread(pid_t vm, enum role role, unsigned *n)
{
	const char *want = role == ROLE_DISK ? "disk\n" : "msb-vmm\n";
	char path[64], name[32];
	struct dirent *d;
	pid_t found = 0;
	DIR *dir;

	*n = 0;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)vm);
	dir = opendir(path);
	assert_non_null(dir);
	while ((d = readdir(dir))) {
		pid_t tid = (pid_t)atoi(d->d_name);
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", (int)vm, (int)tid);
		f = tid > 0 ? fopen(path, "re") : NULL;
		if (!f)
			continue;
		if (fgets(name, sizeof(name), f) && strncmp(name, "kvm-", 4)) {
			(*n)++;
			if (!strcmp(name, want) && (tid == vm) == (role == ROLE_IO))
				found = tid;
		}
		fclose(f);
	}
	closedir(dir);
	assert_true(found > 0);
	return found;
}

/* The numbers of a line of /proc/PID/task/TID/status. */
static uint64_t vm_status(pid_t vm, pid_t tid, const char *key, int base)
{
	char path[64], line[256];
	uint64_t value = UINT64_MAX;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)vm, (int)tid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			value = strtoull(line + strlen(key), NULL, base);
	fclose(f);
	if (value == UINT64_MAX)
		fail_msg("%s: no %s", path, key);
	return value;
}

static void need_the_real_thing(void)
{
	struct err e = ERR_INIT;

	if (SANITIZED || geteuid() || access("/dev/kvm", R_OK | W_OK))
		skip();
	if (jail_probe(&e) == 0)
		return;
	print_message("skipped: %s\n", err_text(&e));
	skip();
}

/* What the kernel says about a VM that runs. */
static void test_vm_from_outside(void **state)
{
	static const char *const spaces[] = { "user", "mnt", "pid", "net", "ipc", "uts", "cgroup" };
	char path[64], ours[64], its[64];
	struct launcher l;
	unsigned threads;
	struct dirent *d;
	struct stat st;
	DIR *dir;

	(void)state;
	need_the_real_thing();
	launcher_start(&l);
	for (enum role r = 0; r < ROLES; r++) {
		pid_t tid = vm_thread(l.vm, r, &threads);

		assert_int_equal(threads, ROLES);
		assert_int_equal(vm_status(l.vm, tid, "Seccomp:", 10), 2);
		/* The floor of all jails, and the thread's own list. */
		assert_int_equal(vm_status(l.vm, tid, "Seccomp_filters:", 10), 2);
		assert_int_equal(vm_status(l.vm, tid, "NoNewPrivs:", 10), 1);
		assert_int_equal(vm_status(l.vm, tid, "CapPrm:", 16), 0);
		assert_int_equal(vm_status(l.vm, tid, "CapBnd:", 16), 0);
		assert_int_equal(vm_status(l.vm, tid, "CapAmb:", 16), 0);
		if (by_user)
			assert_int_equal(vm_status(l.vm, tid, "Uid:", 10), NOBODY);
		else
			assert_true(vm_status(l.vm, tid, "Uid:", 10) > 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)l.vm, spaces[i]);
		n = readlink(path, its, sizeof(its) - 1);
		assert_true(n > 0);
		its[n] = '\0';
		snprintf(path, sizeof(path), "/proc/self/ns/%s", spaces[i]);
		n = readlink(path, ours, sizeof(ours) - 1);
		assert_true(n > 0);
		ours[n] = '\0';
		if (!strcmp(ours, its))
			fail_msg("the VM shares our %s namespace", spaces[i]);
	}
	/* Its root: the program, in a directory, and nothing else. */
	snprintf(path, sizeof(path), "/proc/%d/root", (int)l.vm);
	dir = opendir(path);
	assert_non_null(dir);
	while ((d = readdir(dir)))
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..") && strcmp(d->d_name, "bin"))
			fail_msg("the VM's root has %s", d->d_name);
	closedir(dir);
	/* No descriptor of a directory, nor of a block device. */
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)l.vm);
	dir = opendir(path);
	assert_non_null(dir);
	while ((d = readdir(dir)))
		if (d->d_name[0] != '.' && !fstatat(dirfd(dir), d->d_name, &st, 0) &&
		    (S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode)))
			fail_msg("the VM has descriptor %s, a directory or a disk", d->d_name);
	closedir(dir);
	assert_int_equal(launcher_end(&l), 0);
}

static const struct engine_ops control_ops = { .event = kvm_control_event };

/* Freezes a running VM, lets it go on, freezes it again, and makes a second one of it. */
static int vm_freeze_and_restore(struct silent_vm_config *cfg, struct err *e)
{
	struct engine_snapshot to = {
		.state_fd = memfd_create("state", MFD_CLOEXEC),
		.memory_fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING),
	};
	uint64_t ns[TRACE_RUN + 1];
	struct silent_vm v;
	uint32_t id = 0;
	int rc = silent_vm_start(&v, cfg, e);

	if (rc)
		return rc;
	if (!silent_vm_await(&v, cfg->cpus, ns))
		rc = err_set(e, EIO, "the VM ended before it ran");
	for (int i = 0; !rc && i < 2; i++) {
		if ((rc = kvm_control_pause(v.control, ++id, e)) ||
		    (rc = engine_await(&control_ops, v.control, id, 60000, e)))
			break;
		if (i == 1 && ((rc = kvm_control_snapshot(v.control, ++id, &to, e)) ||
			       (rc = engine_await(&control_ops, v.control, id, 60000, e))))
			break;
		if ((rc = kvm_control_resume(v.control, ++id, e)) ||
		    (rc = engine_await(&control_ops, v.control, id, 60000, e)))
			break;
	}
	silent_vm_stop(&v);
	if (rc || fcntl(to.memory_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) < 0)
		return rc ? rc : -errno;
	cfg->state_fd = to.state_fd;
	cfg->memory_fd = to.memory_fd;
	rc = silent_vm_start(&v, cfg, e);
	if (rc)
		return rc;
	if (!silent_vm_await(&v, cfg->cpus, ns) || kvm_control_pause(v.control, ++id, e) ||
	    engine_await(&control_ops, v.control, id, 60000, e))
		rc = err_set(e, EIO, "the restored VM does not run");
	silent_vm_stop(&v);
	return rc;
}

/* None of what the real process has to do is forbidden to it. */
static void test_vm_does_its_work(void **state)
{
	struct silent_vm_config cfg = {
		.program = program,
		.null_fd = -1,
		.cpus = 3,
		.memory_bytes = 64u << 20,
		.state_fd = -1,
		.memory_fd = -1,
	};
	struct err e = ERR_INIT;
	int status;
	pid_t pid;

	(void)state;
	need_the_real_thing();
	cfg.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	assert_true(cfg.kvm_fd >= 0);
	pid = fork();
	if (pid == 0) {
		if (by_user &&
		    (setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY)))
			_exit(1);
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
		if (vm_freeze_and_restore(&cfg, &e)) {
			fprintf(stderr, "%s\n", err_text(&e));
			_exit(1);
		}
		_exit(0);
	}
	close(cfg.kvm_fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Writes @p into the memory of the stopped thread @tid, a multiple of 8 bytes. */
static void vm_poke(pid_t tid, uint64_t at, const void *p, size_t len)
{
	for (size_t i = 0; i < len; i += 8) {
		long word;

		memcpy(&word, (const char *)p + i, 8);
		assert_int_equal(ptrace(PTRACE_POKEDATA, tid, at + i, word), 0);
	}
}

/*
 * Stops @tid and has it make the system call of @f.  Return: did it come back from it?
 * Then it is left stopped.
 */
static bool vm_inject(pid_t tid, const struct forbidden *f)
{
	static const char path[16] = "/bin/msb-vmm", zero[256];
	struct user_regs_struct r;
	unsigned long long *args[6] = { &r.rdi, &r.rsi, &r.rdx, &r.r10, &r.r8, &r.r9 };
	uint64_t room;
	int status;

	assert_int_equal(ptrace(PTRACE_SEIZE, tid, 0, 0), 0);
	assert_int_equal(ptrace(PTRACE_INTERRUPT, tid, 0, 0), 0);
	assert_int_equal(waitpid(tid, &status, __WALL), tid);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(ptrace(PTRACE_GETREGS, tid, 0, &r), 0);
	/* It stopped in a system call: the instruction is the one before. */
	assert_true((long long)r.orig_rax >= 0);
	assert_int_equal(ptrace(PTRACE_PEEKTEXT, tid, r.rip - 2, 0) & 0xffff, 0x050f);
	room = (r.rsp - 4096) & ~15ull; /* below the red zone */
	vm_poke(tid, room, path, sizeof(path));
	vm_poke(tid, room + sizeof(path), zero, sizeof(zero));
	for (int i = 0; i < 6; i++)
		*args[i] = f->args[i] == TEXT_PATH   ? room
			   : f->args[i] == TEXT_ZERO ? room + sizeof(path)
						     : (unsigned long long)f->args[i];
	r.rip -= 2;
	r.rax = (unsigned long long)f->nr;
	r.orig_rax = (unsigned long long)-1; /* nothing is restarted */
	assert_int_equal(ptrace(PTRACE_SETREGS, tid, 0, &r), 0);
	/* It stops before the call, after it, also if it is to die of it, and at the next one. */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(ptrace(PTRACE_SYSCALL, tid, 0, 0), 0);
		assert_int_equal(waitpid(tid, &status, __WALL), tid);
		if (!WIFSTOPPED(status))
			return false;
	}
	return true;
}

static void test_vm_from_inside(void **state)
{
	(void)state;
	need_the_real_thing();
	for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++) {
		/* All threads have the whole list of attempts above; here they take turns. */
		enum role r = (enum role)(i % ROLES);
		struct launcher l;
		unsigned threads;
		int status;

		if (forbidden[i].but & 1u << r)
			continue;
		launcher_start(&l);
		if (vm_inject(vm_thread(l.vm, r, &threads), &forbidden[i]))
			fail_msg("%s thread: possible: %s", role_names[r], forbidden[i].what);
		/* Nobody tells the launcher to go: it ends when the VM has ended. */
		assert_int_equal(read(l.out, &status, sizeof(status)), sizeof(status));
		close(l.go);
		close(l.out);
		assert_int_equal(waitpid(l.pid, NULL, 0), l.pid);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("%s thread: %s: the VM ended with status 0x%x, not by SIGSYS",
				 role_names[r], forbidden[i].what, (unsigned)status);
	}
}

static const struct CMUnitTest lists[] = {
	TEST(test_lists_allow_the_work),
	TEST(test_lists_forbid_the_rest),
	TEST(test_lists_forbid_other_conventions),
};

static const struct CMUnitTest real[] = {
	TEST(test_vm_does_its_work),
	TEST(test_vm_from_outside),
	TEST(test_vm_from_inside),
};

int main(void)
{
	int failed = test_run(lists);

	if (program_copy() < 0)
		return 1;
	failed += test_run(real);
	if (geteuid() == 0) {
		by_user = true;
		failed += test_run(real);
	}
	unlink(program);
	return failed;
}
