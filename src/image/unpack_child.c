/* SPDX-License-Identifier: Apache-2.0 */
/* What runs in the unpacker's jail; see unpack.h. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/unpack.h"
#include "sys/file.h"
#include "sys/jail.h"

#define UNPACK_IN STDIN_FILENO
#define UNPACK_OUT 4
#define UNPACK_REPORT 5
#define UNPACK_READ (256u << 10)

static const struct jail_syscall unpack_syscalls[] = {
	{ SYS_read, "the archive" },
	{ SYS_lseek, "libarchive skips in plain files" },
	{ SYS_write, "the stream" },
	{ SYS_fstat, "kind of a file" },
	{ SYS_newfstatat, "the C library's fstat()" },
	{ SYS_fcntl, "libarchive" },
	{ SYS_ioctl, "libarchive asks for a tape" },
	{ SYS_close, "the end" },
	{ SYS_mmap, "memory" },
	{ SYS_mremap, "memory" },
	{ SYS_munmap, "memory" },
	{ SYS_mprotect, "memory arenas of the C library" },
	{ SYS_madvise, "memory given back" },
	{ SYS_brk, "memory" },
	{ SYS_getrandom, "the C library" },
	{ SYS_futex, "locks of libraries" },
	{ SYS_getpid, "assertion messages" },
	{ SYS_gettid, "assertion messages" },
	{ SYS_tgkill, "abort()" },
	{ SYS_rt_sigprocmask, "abort()" },
	{ SYS_rt_sigaction, "abort()" },
	{ SYS_rt_sigreturn, "return from a signal handler" },
	{ SYS_clock_gettime, "times, where the vDSO has none" },
	{ SYS_exit_group, "the end" },
	{ JAIL_SYSCALL_END },
};

static int unpack_send(const struct unpack_member *m, struct err *e)
{
	int rc = file_write_all(UNPACK_OUT, m, sizeof(*m));

	return rc ? err_errno(e, -rc, "pass the archive on") : 0;
}

/* The bytes of a file: as many as its size says, or it is an error. */
static int unpack_data(struct archive *a, uint64_t size, char *buf, struct err *e)
{
	while (size) {
		la_ssize_t n = archive_read_data(a, buf, size < UNPACK_READ ? size : UNPACK_READ);
		int rc;

		if (n <= 0)
			return err_set(e, EINVAL, "the archive is damaged: %s",
				       n ? archive_error_string(a) : "a file ends too early");
		rc = file_write_all(UNPACK_OUT, buf, (size_t)n);
		if (rc)
			return err_errno(e, -rc, "pass the archive on");
		size -= (uint64_t)n;
	}
	return 0;
}

static int unpack_entry(struct archive *a, struct archive_entry *entry, char *buf, struct err *e)
{
	const char *name = archive_entry_pathname(entry), *link = archive_entry_hardlink(entry);
	struct unpack_member m = { .kind = UNPACK_FILE };
	int rc;

	if (!link && archive_entry_filetype(entry) == AE_IFLNK)
		link = archive_entry_symlink(entry);
	if (!link && archive_entry_filetype(entry) != AE_IFREG)
		return 0;
	if (!name || strlen(name) >= sizeof(m.name) || (link && strlen(link) >= sizeof(m.text)))
		return err_set(e, EINVAL, "a name in the archive is too long for an image's");
	if (archive_entry_size(entry) < 0)
		return err_set(e, EINVAL, "a file in the archive has a negative size");
	snprintf(m.name, sizeof(m.name), "%s", name);
	if (link) {
		m.kind = UNPACK_LINK;
		snprintf(m.text, sizeof(m.text), "%s", link);
		return unpack_send(&m, e);
	}
	m.size = (uint64_t)archive_entry_size(entry);
	rc = unpack_send(&m, e);
	return rc ? rc : unpack_data(a, m.size, buf, e);
}

static int unpack_all(struct archive *a, struct err *e)
{
	auto_free char *buf = malloc(UNPACK_READ);
	struct unpack_member end = { .kind = UNPACK_END };
	struct archive_entry *entry;
	int rc = buf ? 0 : err_errno(e, ENOMEM, "read the archive");

	archive_read_support_format_tar(a);
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_zstd(a);
	if (!rc && archive_read_open_fd(a, UNPACK_IN, UNPACK_READ) != ARCHIVE_OK)
		rc = err_set(e, EINVAL, "not a tar archive: %s", archive_error_string(a));
	while (!rc) {
		int k = archive_read_next_header(a, &entry);

		if (k == ARCHIVE_EOF)
			return unpack_send(&end, e);
		if (k != ARCHIVE_OK)
			rc = err_set(e, EINVAL, "not a tar archive, or a damaged one: %s",
				     archive_error_string(a));
		else
			rc = unpack_entry(a, entry, buf, e);
	}
	return rc;
}

int unpack_main(int argc, char **argv)
{
	struct unpack_failure failed = { .code = 0 };
	struct archive *a = archive_read_new();
	struct err e = ERR_INIT;
	int rc;

	(void)argc;
	(void)argv;
	if (!a || !setlocale(LC_CTYPE, "C.UTF-8"))
		rc = err_set(&e, ENOTSUP, "the archive's reader cannot be set up");
	else
		rc = jail_seccomp(unpack_syscalls, false, &e);
	if (!rc)
		rc = unpack_all(a, &e);
	if (!rc)
		return 0;
	failed.code = (uint32_t)e.code;
	snprintf(failed.text, sizeof(failed.text), "%.250s", err_text(&e));
	(void)file_write_all(UNPACK_REPORT, &failed, sizeof(failed));
	return 1;
}
