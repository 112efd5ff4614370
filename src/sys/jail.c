/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   Puts a process into an empty machine room before its program starts: whatever
 *   takes the program over finds no files, no network, no other processes, no
 *   privileges and no way to get any of them.
 *
 * Spec
 *   clone(2), user_namespaces(7), mount_setattr(2), move_mount (Linux 5.2),
 *   mount_setattr (5.12), pivot_root(2), capabilities(7).  Needs Linux 5.14, where
 *   RLIMIT_NPROC began to be counted per user namespace.
 *
 * Trust boundary
 *   The description of the jail comes from our own code.  What runs inside is
 *   assumed to be hostile after exec.
 *
 * States
 *   Stage 1, parent (jail_map_ids): the child sits in new namespaces, unmapped.
 *     Should: give it exactly one user and one group id.
 *     Mustn't: map root, or anybody who owns files of the host.
 *   Meanwhile, child (jail_begin): unmapped, but capable in its user namespace.
 *     Should: make its network namespace, which takes longest.
 *   Stage 2, child (jail_enter): still the caller's id, capable in its namespace.
 *     Should: take hold of the host files to bind while it can still reach them,
 *     become the mapped id, build the root, move into it, drop the old one.
 *     Mustn't: allocate, or touch anything after the move by a host path.
 *   Stage 3, child (jail_seal, jail_set_limits): its descriptors, and exec, are all that is left.
 *     Should: drop every capability but the listed ones, set limits.
 *     Mustn't: be followed by anything that needs a privilege.
 *
 * Failure
 *   Each step reports {stage, errno, index}; the parent turns it into one line.
 *   Where the kernel or a container refuses namespaces, jail_explain() looks for
 *   the switch that does it.  There is no silent fall-back.
 *
 * Limits
 *   The outside id of root's jails is unique per pid namespace: two containers
 *   that share ids may hand out the same one.
 */
#include "sys/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/mem.h"
#include "sys/jail_internal.h"

#define JAIL_PATH_MAX 256
#define JAIL_NOBODY 65534u

/* The root holds mount points and empty directories only. */
#define JAIL_ROOT_SIZE "64k"
#define JAIL_ROOT_INODES "1024"

static int jail_fault(struct child_fault *f, enum child_stage stage, size_t index)
{
	*f = (struct child_fault){ .stage = (int)stage, .err = errno, .index = (int)index };
	return -1;
}

/* ---- parent ---------------------------------------------------------- */

/* An absolute path of names only, so that resolving it cannot leave the root. */
static bool jail_target_valid(const char *path)
{
	if (!path || path[0] != '/' || !path[1] || strlen(path) >= JAIL_PATH_MAX)
		return false;
	for (const char *p = path; *p;) {
		size_t n = strcspn(++p, "/");

		if (!n || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		p += n;
	}
	return true;
}

int jail_check(const struct jail *j, struct err *e)
{
	if (j->mode != JAIL_FULL && j->mode != JAIL_REDUCED)
		return err_set(e, EINVAL, "jail: unknown mode %d", (int)j->mode);
	if (j->n_binds > JAIL_BINDS_MAX)
		return err_set(e, EINVAL, "jail: %zu binds, at most %d", j->n_binds, JAIL_BINDS_MAX);
	for (size_t i = 0; i < j->n_binds; i++) {
		if (!j->binds[i].source || j->binds[i].source[0] != '/')
			return err_set(e, EINVAL, "jail: bind source '%s' is not absolute",
				       j->binds[i].source ? j->binds[i].source : "");
		if (!jail_target_valid(j->binds[i].target))
			return err_set(e, EINVAL, "jail: bad bind target '%s'",
				       j->binds[i].target ? j->binds[i].target : "");
	}
	for (size_t i = 0; i < j->n_dirs; i++)
		if (!jail_target_valid(j->dirs[i]))
			return err_set(e, EINVAL, "jail: bad directory '%s'",
				       j->dirs[i] ? j->dirs[i] : "");
	return 0;
}

unsigned long jail_clone_flags(const struct jail *j)
{
	if (j->mode != JAIL_FULL)
		return 0;
	return CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS |
	       CLONE_NEWCGROUP;
}

/* Does our own user namespace know @id?  @map: "uid_map" or "gid_map". */
static bool jail_id_mapped(const char *map, unsigned id)
{
	char path[64];
	unsigned first, outside, count;
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/%s", map);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && fscanf(f, "%u %u %u", &first, &outside, &count) == 3)
		found = id >= first && id - first < count;
	fclose(f);
	return found;
}

static int jail_write_proc(pid_t pid, const char *name, const char *text, struct err *e)
{
	auto_close int fd = -1;
	char path[64];
	size_t n = strlen(text);

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_errno(e, errno, "jail: open %s (is /proc mounted?)", path);
	if (write(fd, text, n) != (ssize_t)n)
		return jail_explain(errno, "map the user ids of the jail", e);
	return 0;
}

/* The ids of our own namespace, each as itself. */
static int jail_map_same(pid_t pid, const char *map, struct err *e)
{
	char path[64], text[4096];
	unsigned first, outside, count;
	size_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/%s", map);
	f = fopen(path, "re");
	if (!f)
		return err_errno(e, errno, "jail: open %s (is /proc mounted?)", path);
	while (n < sizeof(text) && fscanf(f, "%u %u %u", &first, &outside, &count) == 3)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%u %u %u\n", first, first, count);
	fclose(f);
	if (n >= sizeof(text))
		return err_set(e, E2BIG, "jail: %s has too many lines", path);
	return jail_write_proc(pid, map, text, e);
}

int jail_map_ids(const struct jail *j, pid_t pid, struct err *e)
{
	unsigned uid = geteuid(), gid = getegid();
	bool root = uid == 0;
	char map[64];
	int rc;

	if (root && j->same_ids) {
		rc = jail_map_same(pid, "uid_map", e);
		return rc ? rc : jail_map_same(pid, "gid_map", e);
	}
	if (root) {
		const unsigned wanted[] = { JAIL_OUTSIDE_ID_BASE + (unsigned)pid, JAIL_NOBODY };

		/* None of them exists in a one-id namespace: there root is nobody special. */
		for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
			if (!jail_id_mapped("uid_map", wanted[i]) ||
			    !jail_id_mapped("gid_map", wanted[i]))
				continue;
			uid = gid = wanted[i];
			break;
		}
	}
	/* Who may not choose groups has to give up changing them, user_namespaces(7). */
	if (!root || gid == getegid()) {
		rc = jail_write_proc(pid, "setgroups", "deny", e);
		if (rc < 0)
			return rc;
	}
	snprintf(map, sizeof(map), "%u %u 1", JAIL_INSIDE_ID, uid);
	rc = jail_write_proc(pid, "uid_map", map, e);
	if (rc < 0)
		return rc;
	snprintf(map, sizeof(map), "%u %u 1", JAIL_INSIDE_ID, gid);
	return jail_write_proc(pid, "gid_map", map, e);
}

/* The first character of a one-line file of /proc/sys, 0 if there is none. */
static char jail_sysctl(const char *path)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	char c = 0;

	return fd >= 0 && read(fd, &c, 1) == 1 ? c : 0;
}

static bool jail_under_seccomp(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	bool yes = false;

	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		yes |= !strncmp(line, "Seccomp:\t2", 10);
	fclose(f);
	return yes;
}

bool jail_refused(const struct jail *j, const struct child_fault *f)
{
	if (!j || j->mode != JAIL_FULL)
		return false;
	if (f->stage == STAGE_NETWORK)
		return true;
	if (f->err != EPERM && f->err != EACCES && f->err != ENOSYS)
		return false;
	/* EACCES on one bind is a file's mode, on the rest it is a policy of the host. */
	return f->stage > STAGE_SYNC && f->stage <= STAGE_PRIVS &&
	       !(f->stage == STAGE_BIND_OPEN && f->err == EACCES);
}

int jail_explain(int code, const char *what, struct err *e)
{
	const char *why, *todo;

	if (jail_sysctl("/proc/sys/user/max_user_namespaces") == '0') {
		why = "user namespaces are switched off";
		todo = "set sysctl user.max_user_namespaces above 0";
	} else if (jail_sysctl("/proc/sys/kernel/unprivileged_userns_clone") == '0' && geteuid()) {
		why = "user namespaces are refused to ordinary users";
		todo = "set sysctl kernel.unprivileged_userns_clone=1";
	} else if (jail_sysctl("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == '1' &&
		   geteuid()) {
		why = "AppArmor restricts user namespaces";
		todo = "give msb an AppArmor profile with 'userns,', or set sysctl "
		       "kernel.apparmor_restrict_unprivileged_userns=0";
	} else if (jail_under_seccomp()) {
		why = "a seccomp filter, such as a container's default profile, forbids it";
		todo = "run the container with a profile that allows namespaces and mounts, such "
		       "as "
		       "podman's (--security-opt seccomp=/usr/share/containers/seccomp.json)";
	} else if (code == ENOSYS || code == EINVAL) {
		why = "the kernel lacks something that the jail needs";
		todo = "use Linux 5.14 or later with user, mount, pid, net, ipc, uts and cgroup "
		       "namespaces";
	} else if (code == ENOSPC || code == EUSERS) {
		why = "the limit of namespaces is reached, or they are nested too deeply";
		todo = "raise the sysctls user.max_*_namespaces";
	} else {
		why = "the host forbids it";
		todo = "allow user namespaces (a chroot, SELinux or a container's policy "
		       "can forbid them)";
	}
	return err_set(e, code,
		       "jail: cannot %s: %s: %s; %s, or accept less isolation with "
		       "--jail=reduced",
		       what, strerror(code), why, todo);
}

/* ---- child ----------------------------------------------------------- */

/* Makes the parents of @path under @root, and its last name too if @last. */
static int jail_mkdirs(int root, const char *path, bool last)
{
	char part[JAIL_PATH_MAX];
	size_t n = strlen(path);

	for (size_t i = 1; i <= n; i++) {
		if (path[i] != '/' && !(last && i == n))
			continue;
		memcpy(part, path + 1, i - 1);
		part[i - 1] = '\0';
		if (mkdirat(root, part, 0755) < 0 && errno != EEXIST)
			return -1;
	}
	return 0;
}

static int jail_open_bind(const struct jail_bind *b)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS };
	const unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE;
	int path, fd;

	if (!b->no_links)
		return open_tree(AT_FDCWD, b->source, flags);
	path = (int)syscall(SYS_openat2, AT_FDCWD, b->source, &how, sizeof(how));
	if (path < 0)
		return -1;
	fd = open_tree(path, "", flags | AT_EMPTY_PATH);
	close(path);
	return fd;
}

/* Takes hold of the host's files: from here on they are not looked up again. */
static int jail_open_binds(const struct jail *j, int *fds, bool *is_dir, struct child_fault *f)
{
	for (size_t i = 0; i < j->n_binds; i++) {
		const struct jail_bind *b = &j->binds[i];
		struct mount_attr attr = {
			.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
				    (b->writable ? 0 : MOUNT_ATTR_RDONLY) |
				    (b->exec ? 0 : MOUNT_ATTR_NOEXEC),
			/* What the host mounts there later must not show up inside. */
			.propagation = MS_PRIVATE,
		};
		struct stat st;

		fds[i] = jail_open_bind(b);
		if (fds[i] < 0 && b->optional && (errno == ENOENT || errno == ENOTDIR))
			continue;
		if (fds[i] < 0 || fstat(fds[i], &st) < 0)
			return jail_fault(f, STAGE_BIND_OPEN, i);
		is_dir[i] = S_ISDIR(st.st_mode);
		if (mount_setattr(fds[i], "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
			return jail_fault(f, STAGE_BIND_ATTR, i);
	}
	return 0;
}

static int jail_set_ids(const struct jail *j, struct child_fault *f)
{
	/* Nobody but root has 0 mapped, and then as same_ids says. */
	unsigned id = j->same_ids && !syscall(SYS_geteuid) ? 0 : JAIL_INSIDE_ID;

	/* Without this, leaving the unmapped id could cost the capabilities. */
	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) < 0)
		return jail_fault(f, STAGE_IDS, 0);
	/* EPERM: an ordinary user's namespace, where groups cannot be changed. */
	if (syscall(SYS_setgroups, 0, NULL) < 0 && errno != EPERM)
		return jail_fault(f, STAGE_IDS, 0);
	/* System calls, not glibc's wrappers, which would ask other threads to follow. */
	if (syscall(SYS_setresgid, id, id, id) < 0 || syscall(SYS_setresuid, id, id, id) < 0)
		return jail_fault(f, STAGE_IDS, 0);
	return 0;
}

static int jail_new_fs(const char *type, const char *const (*options)[2], unsigned attrs)
{
	int fs = fsopen(type, FSOPEN_CLOEXEC), mnt;

	if (fs < 0)
		return -1;
	for (; (*options)[0]; options++)
		if (fsconfig(fs, FSCONFIG_SET_STRING, (*options)[0], (*options)[1], 0) < 0)
			return -1;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, attrs);
	close(fs);
	return mnt;
}

static int jail_mount_proc(int root, struct child_fault *f)
{
	static const char *const options[][2] = {
		{ "hidepid", "2" }, /* only the own processes */
		{ "subset", "pid" }, /* none of the kernel's other files */
		{ NULL, NULL },
	};
	int fd = jail_new_fs("proc", options,
			     MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
				     MOUNT_ATTR_NOEXEC);

	if (fd < 0 || move_mount(fd, "", root, "proc", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return jail_fault(f, STAGE_PROC, 0);
	return 0;
}

/* Every mount point and directory of the root, while it can still be written. */
static int jail_fill_root(const struct jail *j, int root, const int *fds, const bool *is_dir,
			  struct child_fault *f)
{
	for (size_t i = 0; i < j->n_dirs; i++)
		if (jail_mkdirs(root, j->dirs[i], true) < 0)
			return jail_fault(f, STAGE_ROOT_DIR, i);
	if (j->proc && mkdirat(root, "proc", 0755) < 0 && errno != EEXIST)
		return jail_fault(f, STAGE_PROC, 0);
	for (size_t i = 0; i < j->n_binds; i++) {
		const char *target = j->binds[i].target;

		if (fds[i] < 0)
			continue;
		if (jail_mkdirs(root, target, is_dir[i]) < 0)
			return jail_fault(f, STAGE_BIND_TARGET, i);
		if (!is_dir[i] && mknodat(root, target + 1, S_IFREG | 0444, 0) < 0 &&
		    errno != EEXIST)
			return jail_fault(f, STAGE_BIND_TARGET, i);
	}
	for (size_t i = 0; i < j->n_binds; i++) {
		if (fds[i] < 0)
			continue;
		if (move_mount(fds[i], "", root, j->binds[i].target + 1, MOVE_MOUNT_F_EMPTY_PATH) <
		    0)
			return jail_fault(f, STAGE_BIND_MOUNT, i);
		close(fds[i]);
	}
	return j->proc ? jail_mount_proc(root, f) : 0;
}

int jail_begin(const struct jail *j, struct child_fault *f)
{
	if (!j->host_network && unshare(CLONE_NEWNET) < 0)
		return jail_fault(f, STAGE_NETWORK, 0);
	return 0;
}

int jail_enter(const struct jail *j, struct child_fault *f)
{
	static const char *const options[][2] = {
		{ "size", JAIL_ROOT_SIZE },
		{ "nr_inodes", JAIL_ROOT_INODES },
		{ "mode", "0755" },
		{ NULL, NULL },
	};
	struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };
	int fds[JAIL_BINDS_MAX];
	bool is_dir[JAIL_BINDS_MAX];
	int root;

	if (jail_open_binds(j, fds, is_dir, f) < 0 || jail_set_ids(j, f) < 0)
		return -1;
	/*
	 * It only hides the host's name.  Container profiles refuse it (podman's does) to
	 * whoever has no CAP_SYS_ADMIN outside, and that is no reason to do without the rest.
	 */
	if (sethostname("jail", 4) < 0 && errno != EPERM)
		return jail_fault(f, STAGE_HOSTNAME, 0);

	root = jail_new_fs("tmpfs", options,
			   MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (root < 0)
		return jail_fault(f, STAGE_ROOT_CREATE, 0);
	/* On top of the old root, where it hides nothing that is still needed. */
	if (move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return jail_fault(f, STAGE_ROOT_MOUNT, 0);
	if (jail_fill_root(j, root, fds, is_dir, f) < 0)
		return -1;
	if (mount_setattr(root, "", AT_EMPTY_PATH, &ro, sizeof(ro)) < 0)
		return jail_fault(f, STAGE_ROOT_MOUNT, 0);

	/* pivot_root(".", ".") stacks the old root on the new one: detach it there. */
	if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return jail_fault(f, STAGE_PIVOT, 0);
	close(root);
	return 0;
}

static int jail_limit(int which, uint64_t value)
{
	struct rlimit now, want;

	if (getrlimit((__rlimit_resource_t)which, &now) < 0)
		return -1;
	/* Never above what the parent has, which would need a privilege. */
	want.rlim_max =
		now.rlim_max == RLIM_INFINITY || value < now.rlim_max ? value : now.rlim_max;
	want.rlim_cur = want.rlim_max;
	return setrlimit((__rlimit_resource_t)which, &want);
}

int jail_set_limits(const struct jail *j, struct child_fault *f)
{
	if (jail_limit(RLIMIT_CORE, 0) < 0 || /* a dump would hold the guest's memory */
	    jail_limit(RLIMIT_FSIZE, j->max_file_bytes) < 0 || jail_limit(RLIMIT_MSGQUEUE, 0) < 0)
		return jail_fault(f, STAGE_LIMITS, 0);
	if (j->max_fds && jail_limit(RLIMIT_NOFILE, j->max_fds) < 0)
		return jail_fault(f, STAGE_LIMITS, 0);
	/* Without a user namespace this would count all processes of the user. */
	if (j->max_processes && j->mode == JAIL_FULL &&
	    jail_limit(RLIMIT_NPROC, j->max_processes) < 0)
		return jail_fault(f, STAGE_LIMITS, 0);
	return 0;
}

static int jail_capset(uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	for (int i = 0; i < 2; i++) {
		data[i].permitted = (uint32_t)(permitted >> (32 * i));
		data[i].effective = data[i].permitted;
		data[i].inheritable = (uint32_t)(inheritable >> (32 * i));
	}
	return (int)syscall(SYS_capset, &head, data);
}

/*
 * Leaves @keep in all five sets.  The ambient set carries it over exec(), for the
 * program's file has no capabilities and the id is not 0.
 */
static int jail_keep_caps(uint64_t keep)
{
	const unsigned bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
			      SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
			      SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

	for (unsigned cap = 0; cap < 64; cap++) {
		if (keep & (1ull << cap))
			continue;
		/* EINVAL: the kernel's last capability was the one before. */
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
			if (errno == EINVAL)
				break;
			return -1;
		}
	}
	if (jail_capset(keep | 1ull << CAP_SETPCAP, keep) < 0)
		return -1;
	for (unsigned cap = 0; cap < 64; cap++)
		if ((keep & (1ull << cap)) &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			return -1;
	if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0)
		return -1;
	return jail_capset(keep, keep);
}

int jail_seal(const struct jail *j, struct child_fault *f)
{
	/*
	 * Reduced: capabilities would be the host's own, so none is kept, also for
	 * root: no_new_privs keeps exec() from giving them back.
	 */
	if ((j->mode == JAIL_FULL ? jail_keep_caps(j->keep_caps) : jail_capset(0, 0)) < 0)
		return jail_fault(f, STAGE_CAPS, 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return jail_fault(f, STAGE_PRIVS, 0);
	if (jail_filter_install() < 0)
		return jail_fault(f, STAGE_FILTER, 0);
	return 0;
}
