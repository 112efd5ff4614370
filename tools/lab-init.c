/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lab-init: PID 1 of the lab's outer machine (tools/lab)
 *
 * DOC: Theory of operation
 *
 * Purpose
 *   Loads the kernel modules of its initramfs, moves into the root file system on the
 *   first disk, makes the machine usable (devices, proc, tmpfs, cgroup2, tracefs,
 *   loopback) and runs one command for tools/lab, with its output and its status.
 *
 * Protocol
 *   One virtio-console port, "lab", carries frames {type: 1 byte, length: 4 bytes
 *   little-endian, payload}, so that output and status cannot overtake each other.
 *
 *   from the host   R  run: flags byte, cwd, number of arguments as text, the arguments,
 *                      the environment; NUL after each
 *                   I  standard input; an empty one is its end
 *                   W  size of the terminal: rows, columns, 2 bytes each
 *   to the host     H  alive; every 5 s in which there is nothing else
 *                   O, E  standard output, standard error
 *                   F  the content of the file that the command left at LAB_REPORT
 *                   X  exit status, 1 byte; the last frame
 *
 * Trust boundary
 *   None: machine and command belong to who started them.
 *
 * Failure
 *   What goes wrong before the command runs is told on the kernel's console, and the
 *   machine ends; tools/lab then shows that console.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <net/if.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define INIT_FRAME_MAX (64u << 10)
#define INIT_WORDS_MAX 1024u
#define INIT_REPORT "/run/lab-report"
#define INIT_FLAG_TTY 1
#define INIT_ALIVE_MS 5000

struct frame_head {
	uint8_t type;
	uint8_t length[4];
};

struct command {
	bool tty;
	char *cwd;
	char *argv[INIT_WORDS_MAX + 1];
	char *env[INIT_WORDS_MAX + 1];
};

/* The running command; a descriptor is -1 when it has ended. */
struct job {
	pid_t pid;
	int in, out, err; /* ours; all three the same terminal if there is one */
	bool tty;
	bool ended;
	int status;
};

static int port = -1;
/* Frames are short-lived and there is one thread. */
static uint8_t payload[INIT_FRAME_MAX];

static void __attribute__((noreturn)) die(const char *what)
{
	dprintf(STDERR_FILENO, "lab-init: %s: %s\n", what, strerror(errno));
	reboot(RB_AUTOBOOT);
	_exit(1);
}

static void load_modules(void)
{
	struct dirent **names;
	int n;

	if (chdir("/modules") || (n = scandir(".", &names, NULL, alphasort)) < 0)
		die("/modules");
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.') {
			int fd = open(names[i]->d_name, O_RDONLY | O_CLOEXEC);

			if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
				die(names[i]->d_name);
			close(fd);
		}
		free(names[i]);
	}
	free(names);
}

static void mount_at(const char *type, const char *source, const char *dir, const char *data)
{
	(void)mkdir(dir, 0755);
	if (mount(source, dir, type, 0, data))
		die(dir);
}

/* The disks in the order of tools/lab: root, store of images, project. */
static void enter_root(void)
{
	mount_at("devtmpfs", "dev", "/dev", NULL);
	(void)mkdir("/root", 0755);
	if (mount("/dev/vda", "/root", "ext4", MS_NOATIME, NULL) ||
	    mount("/dev/vdb", "/root/store", "ext4", MS_NOATIME, NULL) ||
	    mount("/dev/vdc", "/root/lab", "ext4", MS_NOATIME, NULL))
		die("mount the disks");
	if (mount("/dev", "/root/dev", NULL, MS_MOVE, NULL) || chdir("/root") ||
	    mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		die("enter the root file system");
}

static void raise_loopback(void)
{
	struct ifreq req = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &req))
		die("lo");
	req.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &req))
		die("lo");
	close(fd);
}

static void set_up_machine(void)
{
	mount_at("proc", "proc", "/proc", NULL);
	mount_at("sysfs", "sys", "/sys", NULL);
	mount_at("cgroup2", "cgroup", "/sys/fs/cgroup", NULL);
	mount_at("tracefs", "tracefs", "/sys/kernel/tracing", NULL);
	mount_at("devpts", "devpts", "/dev/pts", "mode=620,gid=5,ptmxmode=666");
	mount_at("tmpfs", "shm", "/dev/shm", "mode=1777");
	mount_at("tmpfs", "tmp", "/tmp", "mode=1777");
	mount_at("tmpfs", "run", "/run", "mode=755");
	(void)mkdir("/run/lock", 01777);
	(void)symlink("/proc/self/fd", "/dev/fd");
	(void)symlink("/proc/self/fd/0", "/dev/stdin");
	(void)symlink("/proc/self/fd/1", "/dev/stdout");
	(void)symlink("/proc/self/fd/2", "/dev/stderr");
	/* As udev's rules on a Debian machine: group kvm may use it. */
	if (chown("/dev/kvm", 0, 104) || chmod("/dev/kvm", 0660))
		die("/dev/kvm");
	if (sethostname("lab", 3))
		die("hostname");
	raise_loopback();
}

/* The port's number depends on the machine; its name does not. */
static void open_port(void)
{
	static const char class[] = "/sys/class/virtio-ports";
	DIR *d = opendir(class);
	char path[512], name[32];
	struct dirent *entry;

	if (!d)
		die(class);
	while ((entry = readdir(d))) {
		ssize_t n = 0;
		int fd;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s/name", class, entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			n = read(fd, name, sizeof(name));
			close(fd);
		}
		if (n < 4 || memcmp(name, "lab\n", 4) != 0)
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		port = open(path, O_RDWR | O_CLOEXEC);
		if (port < 0)
			die(path);
	}
	closedir(d);
	if (port < 0)
		die("no virtio port has the name 'lab'");
}

static void read_full(void *to, size_t n)
{
	for (uint8_t *p = to; n;) {
		ssize_t got = read(port, p, n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			die("read from the host");
		p += got;
		n -= (size_t)got;
	}
}

static void write_full(int fd, const void *from, size_t n)
{
	for (const uint8_t *p = from; n;) {
		ssize_t done = write(fd, p, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return;
		p += done;
		n -= (size_t)done;
	}
}

static void send_frame(char type, const void *data, size_t n)
{
	struct frame_head head = { .type = (uint8_t)type };

	for (unsigned i = 0; i < 4; i++)
		head.length[i] = (uint8_t)(n >> 8 * i);
	write_full(port, &head, sizeof(head));
	write_full(port, data, n);
}

/* Returns the frame's type; its payload is in @payload. */
static char receive_frame(size_t *n)
{
	struct frame_head head;

	read_full(&head, sizeof(head));
	*n = head.length[0] | head.length[1] << 8 | head.length[2] << 16 |
	     (size_t)head.length[3] << 24;
	if (*n > sizeof(payload)) {
		errno = EMSGSIZE;
		die("frame of the host");
	}
	read_full(payload, *n);
	return (char)head.type;
}

/* Words of an R frame; they stay in a copy that is never freed. */
static void parse_command(size_t n, struct command *c)
{
	char *text = malloc(n + 1), *p, *end;
	unsigned long args = 0, n_env = 0;

	if (!text || n < 1)
		die("command");
	memcpy(text, payload, n);
	text[n] = '\0';
	end = text + n;
	c->tty = text[0] & INIT_FLAG_TTY;
	c->cwd = text + 1;
	p = c->cwd + strlen(c->cwd) + 1;
	if (p < end) {
		args = strtoul(p, NULL, 10);
		p += strlen(p) + 1;
	}
	errno = EINVAL;
	if (!args || args > INIT_WORDS_MAX)
		die("command");
	for (unsigned long i = 0; i < args; i++, p += strlen(p) + 1) {
		if (p >= end)
			die("command");
		c->argv[i] = p;
	}
	for (; p < end && n_env < INIT_WORDS_MAX; p += strlen(p) + 1)
		c->env[n_env++] = p;
}

static void __attribute__((noreturn)) exec_command(const struct command *c)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (chdir(c->cwd)) {
		dprintf(STDERR_FILENO, "lab: %s: %s\n", c->cwd, strerror(errno));
		_exit(126);
	}
	environ = (char **)c->env;
	execvp(c->argv[0], c->argv);
	dprintf(STDERR_FILENO, "lab: %s: %s\n", c->argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static void start_on_terminal(const struct command *c, struct job *job)
{
	job->tty = true;
	job->pid = forkpty(&job->out, NULL, NULL, NULL);
	if (job->pid < 0)
		die("forkpty");
	if (!job->pid)
		exec_command(c);
	(void)fcntl(job->out, F_SETFD, FD_CLOEXEC);
	job->in = job->out;
	job->err = -1;
}

static void start_on_pipes(const struct command *c, struct job *job)
{
	int in[2], out[2], err[2];

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		die("pipe");
	job->pid = fork();
	if (job->pid < 0)
		die("fork");
	if (!job->pid) {
		setsid();
		if (dup2(in[0], 0) < 0 || dup2(out[1], 1) < 0 || dup2(err[1], 2) < 0)
			_exit(126);
		exec_command(c);
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	job->in = in[1];
	job->out = out[0];
	job->err = err[0];
}

static void job_close_input(struct job *job)
{
	if (job->in < 0 || job->tty)
		return;
	close(job->in);
	job->in = -1;
}

/* Frames of the host while the command runs. */
static void job_serve_host(struct job *job)
{
	size_t n;

	switch (receive_frame(&n)) {
	case 'I':
		if (!n)
			job_close_input(job);
		else if (job->in >= 0)
			write_full(job->in, payload, n);
		break;
	case 'W':
		if (job->tty && n == 4) {
			struct winsize size = {
				.ws_row = (unsigned short)(payload[0] | payload[1] << 8),
				.ws_col = (unsigned short)(payload[2] | payload[3] << 8),
			};

			(void)ioctl(job->in, TIOCSWINSZ, &size);
		}
		break;
	}
}

/* Passes on what the command wrote. Returns false at its end. */
static bool job_pass(int fd, char type)
{
	static uint8_t buf[INIT_FRAME_MAX];
	ssize_t n = read(fd, buf, sizeof(buf));

	/* EIO: the last process of a terminal is gone. */
	if (n <= 0)
		return n < 0 && errno == EINTR;
	send_frame(type, buf, (size_t)n);
	return true;
}

static void job_reap(struct job *job)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != job->pid)
			continue;
		job->ended = true;
		job->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	}
}

/*
 * Until the command has ended and what it wrote is passed on: its end decides, not that
 * of its output, which a process that it left behind may hold open.
 */
static void job_run(struct job *job, int signals)
{
	struct signalfd_siginfo info;

	while (!job->ended || job->out >= 0 || job->err >= 0) {
		struct pollfd fds[] = {
			{ .fd = signals, .events = POLLIN },
			{ .fd = port, .events = POLLIN },
			{ .fd = job->out, .events = POLLIN },
			{ .fd = job->err, .events = POLLIN },
		};
		int n = poll(fds, 4, job->ended ? 0 : INIT_ALIVE_MS);

		if (n < 0 && errno != EINTR)
			die("poll");
		if (n <= 0) {
			if (job->ended)
				break;
			if (!n)
				send_frame('H', NULL, 0);
			continue;
		}
		if (fds[0].revents && read(signals, &info, sizeof(info)) > 0)
			job_reap(job);
		if (fds[1].revents & POLLIN)
			job_serve_host(job);
		if (fds[2].revents && !job_pass(job->out, 'O'))
			job->out = -1;
		if (fds[3].revents && !job_pass(job->err, 'E'))
			job->err = -1;
		if (job->ended && !fds[2].revents && !fds[3].revents)
			break;
	}
}

static void send_report(void)
{
	static uint8_t buf[INIT_FRAME_MAX];
	int fd = open(INIT_REPORT, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		send_frame('F', buf, (size_t)n);
	close(fd);
}

static void run_command(void)
{
	static struct command command;
	struct job job = { 0 };
	sigset_t set;
	uint8_t status;
	int signals;
	size_t n;

	if (receive_frame(&n) != 'R')
		die("the host asked for nothing");
	parse_command(n, &command);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (signals < 0)
		die("signalfd");
	signal(SIGPIPE, SIG_IGN);
	if (command.tty)
		start_on_terminal(&command, &job);
	else
		start_on_pipes(&command, &job);
	job_run(&job, signals);
	send_report();
	status = (uint8_t)job.status;
	send_frame('X', &status, 1);
}

/*
 * The kernel turns parts of itself on and off by writing a breakpoint over code that all CPUs
 * run (static keys).  QEMU 7.2 may keep the translated breakpoint when it is gone from memory;
 * CPUs that come by then take it for ever.  Most of it happens at boot and when modules are
 * loaded, so until then there is one CPU (maxcpus=1): what it writes it also sees.
 */
static void wake_cpus(void)
{
	char path[64];

	for (int cpu = 1; cpu < 64; cpu++) {
		int fd;

		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			return;
		if (write(fd, "1", 1) != 1)
			die(path);
		close(fd);
	}
}

/*
 * A VM that never runs and never ends.  KVM does the same in the scheduler with its first VM
 * and with the last one (preempt notifiers; the like for CPUs whose APIC is disabled).  One
 * start of a VM in some 150 was the end of the machine.
 */
static void hold_vm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

	if (vm < 0 || ioctl(vm, KVM_CREATE_IRQCHIP, 0) || ioctl(vm, KVM_CREATE_VCPU, 0) < 0)
		die("a VM of /dev/kvm");
}

int main(void)
{
	load_modules();
	enter_root();
	set_up_machine();
	hold_vm();
	wake_cpus();
	open_port();
	send_frame('H', NULL, 0);
	run_command();
	/* The host ends the machine when it has read the last frame. */
	for (;;)
		pause();
}
