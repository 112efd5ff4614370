/* SPDX-License-Identifier: Apache-2.0 */
#include "volume/confine.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define LOW32 0xffffffffull

const struct jail_syscall volume_syscalls[] = {
	/* The loop. */
	{ SYS_ppoll, "wait for requests" },
	{ SYS_recvfrom, "read requests" },
	{ SYS_sendto, "write answers" },
	{ SYS_restart_syscall, "the kernel goes on after a stop" },
	{ SYS_rt_sigreturn, "return from the SIGTERM handler" },

	/* Finding and opening. */
	{ SYS_openat2, "an entry of a directory, never past a link" },
	{ SYS_openat, "open what an O_PATH descriptor is, by its number" },
	{ SYS_close, "forget it" },
	{ SYS_statx, "attributes" },
	{ SYS_fstatfs, "STATFS" },
	{ SYS_readlinkat, "READLINK" },
	{ SYS_getdents64, "READDIR" },

	/* Names. */
	{ SYS_mkdirat, "MKDIR" },
	{ SYS_mknodat, "MKNOD: files, fifos and sockets; devices take a privilege we lack" },
	{ SYS_symlinkat, "SYMLINK" },
	{ SYS_linkat, "LINK" },
	{ SYS_unlinkat, "UNLINK, RMDIR" },
	{ SYS_renameat2, "RENAME" },

	/* Attributes. */
	{ SYS_fchmodat, "SETATTR: no program gets set-id bits", 2, S_ISUID, 0 },
	{ SYS_fchmodat, "SETATTR with S_ISUID", .fail = EPERM },
#ifdef SYS_chmod
	{ SYS_chmod, "(fchmodat)", 1, S_ISUID, 0 },
	{ SYS_chmod, "(fchmodat)", .fail = EPERM },
#endif
	{ SYS_fchownat, "SETATTR; whose a new file is" },
	{ SYS_utimensat, "SETATTR" },
	{ SYS_ftruncate, "SETATTR" },
	{ SYS_getxattr, "GETXATTR, user.* alone" },
	{ SYS_setxattr, "SETXATTR" },
	{ SYS_listxattr, "LISTXATTR" },
	{ SYS_removexattr, "REMOVEXATTR" },

	/* Bytes. */
	{ SYS_pread64, "READ" },
	{ SYS_pwrite64, "WRITE" },
	{ SYS_pwritev2, "WRITE at the end" },
	{ SYS_fsync, "FSYNC" },
	{ SYS_fdatasync, "FSYNC" },
	{ SYS_fallocate, "FALLOCATE" },
	{ SYS_lseek, "LSEEK; go to a place in a directory" },
	{ SYS_copy_file_range, "COPY_FILE_RANGE" },

	/* The log and memory; none of it executable. */
	{ SYS_write, "the log" },
	{ SYS_writev, "abort messages of libc" },
	{ SYS_clock_gettime, "times in the log, where the vDSO has none" },
	{ SYS_brk, "malloc" },
	{ SYS_mmap, "malloc", 2, PROT_EXEC, 0 },
	{ SYS_munmap, "free" },
	{ SYS_mremap, "realloc" },
	{ SYS_madvise, "free" },
	{ SYS_futex, "locks in libc" },

	/* The end. */
	{ SYS_exit_group, "exit" },
	{ SYS_getpid, "abort: to whom the signal goes" },
	{ SYS_gettid, "as getpid" },
	{ SYS_tgkill, "abort" },
	{ SYS_rt_sigprocmask, "abort" },
	{ SYS_rt_sigaction, "abort" },
	{ JAIL_SYSCALL_END },
};
