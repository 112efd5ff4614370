/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   CONFIGURE: the read-only image and the writable upper become one overlay, which
 *   becomes the root directory in place of the initramfs.
 *
 * Trust boundary
 *   Both file systems are ext4 that a hostile image or an earlier run may have written.
 *   The kernel's parsing of them is inside the guest, where the guest harms itself.
 *   Mount points in the image may be symbolic links: they are looked up without
 *   following any, and replaced if they are not directories.
 *
 * States
 *   Afterwards the initramfs is still there below the root, and empty but for the
 *   mount points.  root_leave() goes back to it, so that the overlay can be unmounted.
 */
#include "agent/boot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"

#define ROOT_IMAGE "/image"
#define ROOT_UPPER "/upper"
#define ROOT_NEW "/root"

static int root_initramfs_fd = -1; /* the initramfs's root directory */

int root_find_disk(const char *serial, char *dev, size_t size, struct err *e)
{
	DIR *dir = opendir("/sys/block");
	struct dirent *d;
	int found = 0;

	if (!dir)
		return err_errno(e, errno, "/sys/block");
	while (!found && (d = readdir(dir))) {
		char path[300], text[64];
		auto_close int fd = -1;
		ssize_t n;

		if (strncmp(d->d_name, "vd", 2))
			continue;
		snprintf(path, sizeof(path), "%s/serial", d->d_name);
		fd = openat(dirfd(dir), path, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		if (n < 0)
			continue;
		text[n] = '\0';
		text[strcspn(text, "\n")] = '\0';
		found = !strcmp(text, serial) &&
			snprintf(dev, size, "/dev/%s", d->d_name) < (int)size;
	}
	closedir(dir);
	return found ? 0
		     : err_set(e, ENODEV, "the machine has no disk with the serial '%s'", serial);
}

static int root_mount_disk(const char *serial, const char *target, unsigned long flags,
			   struct err *e)
{
	char dev[64];
	int rc = root_find_disk(serial, dev, sizeof(dev), e);

	if (rc)
		return rc;
	if (mkdir(target, 0700) && errno != EEXIST)
		return err_errno(e, errno, "mkdir %s", target);
	if (mount(dev, target, "ext4", flags, NULL))
		return err_errno(e, errno, "mount the disk '%s' (ext4 expected)", serial);
	return 0;
}

/* The root's owner and mode are those of the upper directory: take the image's. */
static int root_make_upper(struct err *e)
{
	struct stat st;

	if (mkdir(ROOT_UPPER "/work", 0700) && errno != EEXIST)
		return err_errno(e, errno, "upper disk: work directory");
	if (mkdir(ROOT_UPPER "/upper", 0700)) {
		if (errno == EEXIST)
			return 0;
		return err_errno(e, errno, "upper disk: upper directory");
	}
	if (stat(ROOT_IMAGE, &st) || chown(ROOT_UPPER "/upper", st.st_uid, st.st_gid) ||
	    chmod(ROOT_UPPER "/upper", st.st_mode & 07777))
		return err_errno(e, errno, "upper disk: upper directory");
	return 0;
}

static int root_mount_overlay(const struct frame_configure *c, struct err *e)
{
	int rc = root_mount_disk("image", ROOT_IMAGE, MS_RDONLY | MS_NOATIME, e);

	if (!rc && (c->flags & CONFIGURE_UPPER))
		rc = root_mount_disk("upper", ROOT_UPPER, 0, e);
	if (rc)
		return rc;
	if (!(c->flags & CONFIGURE_UPPER)) {
		if ((mkdir(ROOT_UPPER, 0700) && errno != EEXIST) ||
		    mount("tmpfs", ROOT_UPPER, "tmpfs", 0, "mode=0700"))
			return err_errno(e, errno, "mount the upper tmpfs");
	}
	rc = root_make_upper(e);
	if (rc)
		return rc;
	if (mkdir(ROOT_NEW, 0755) && errno != EEXIST)
		return err_errno(e, errno, "mkdir %s", ROOT_NEW);
	if (mount("overlay", ROOT_NEW, "overlay", 0,
		  "lowerdir=" ROOT_IMAGE ",upperdir=" ROOT_UPPER "/upper,workdir=" ROOT_UPPER
		  "/work"))
		return err_errno(e, errno, "mount the overlay of image and upper");
	return 0;
}

/*
 * A directory of the new root, made if it is missing, replaced if it is something else.
 * Return: an O_PATH descriptor.
 */
static int root_directory(int root_fd, const char *name, mode_t mode, struct err *e)
{
	const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(root_fd, name, flags);

	if (fd >= 0)
		return fd;
	if (errno != ENOENT && unlinkat(root_fd, name, 0))
		return err_errno(e, errno, "the image's /%s", name);
	if (mkdirat(root_fd, name, mode) || (fd = openat(root_fd, name, flags)) < 0)
		return err_errno(e, errno, "the image's /%s", name);
	return fd;
}

static int root_move_mount(int root_fd, const char *name, struct err *e)
{
	auto_close int fd = root_directory(root_fd, name, 0755, e);
	char from[16], to[32];

	if (fd < 0)
		return fd;
	snprintf(from, sizeof(from), "/%s", name);
	snprintf(to, sizeof(to), "/proc/self/fd/%d", fd);
	if (mount(from, to, NULL, MS_MOVE, NULL))
		return err_errno(e, errno, "move /%s", name);
	return 0;
}

/* Directories that programs take for granted. What the image has stays as it is. */
static int root_make_directories(int root_fd, struct err *e)
{
	static const struct {
		const char *name;
		mode_t mode;
	} dirs[] = { { "tmp", 01777 }, { "run", 0755 } };

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		if (mkdirat(root_fd, dirs[i].name, dirs[i].mode) && errno != EEXIST)
			return err_errno(e, errno, "the image's /%s", dirs[i].name);
	return 0;
}

/* Frees what the initramfs held; the running program goes when nothing maps it. */
static void root_empty_initramfs(void)
{
	DIR *dir = fdopendir(openat(root_initramfs_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *d;

	if (!dir)
		return;
	while ((d = readdir(dir)))
		if (d->d_type == DT_REG)
			unlinkat(root_initramfs_fd, d->d_name, 0);
	closedir(dir);
}

int root_mount(struct agent *a, const struct frame_configure *c, struct err *e)
{
	static const char *const moved[] = { "dev", "sys", "proc" };
	auto_close int root_fd = -1;
	int rc = root_mount_overlay(c, e);

	if (rc)
		return rc;
	root_fd = open(ROOT_NEW, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	a->disk_fd = open(ROOT_UPPER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	root_initramfs_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0 || a->disk_fd < 0 || root_initramfs_fd < 0)
		return err_errno(e, errno, "open the new root");
	rc = etc_write(root_fd, c, e);
	if (!rc)
		rc = root_make_directories(root_fd, e);
	for (size_t i = 0; i < ARRAY_SIZE(moved) && !rc; i++)
		rc = root_move_mount(root_fd, moved[i], e);
	if (rc)
		return rc;
	/* Moved onto "/", not merely chrooted into: the kernel refuses user namespaces there. */
	if (fchdir(root_fd) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		return err_errno(e, errno, "move into the new root");
	root_empty_initramfs();
	return 0;
}

int root_leave(void)
{
	auto_close int overlay = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root_initramfs_fd < 0 || overlay < 0)
		return -1;
	if (fchdir(root_initramfs_fd) || chroot("."))
		log_warn("event=chroot what=initramfs: %m");
	return take_fd(&overlay);
}

void root_unmount(int overlay_fd)
{
	auto_close int upper = open("upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* First what matters if the rest hangs: the upper's data is on its disk. */
	if (upper >= 0)
		syncfs(upper);
	close_fd(&upper);
	/* "." is the only path that leads to a mount on top of the root directory. */
	if (fchdir(overlay_fd) || umount2(".", MNT_DETACH))
		log_warn("event=umount what=root: %m");
	if (fchdir(root_initramfs_fd))
		return;
	close(overlay_fd);
	/* If somebody still uses it: at least the file system is closed for writing. */
	if (umount2("upper", 0) && mount(NULL, "upper", NULL, MS_REMOUNT | MS_RDONLY, NULL))
		log_warn("event=umount what=upper: %m");
}
