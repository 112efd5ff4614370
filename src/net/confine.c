/* SPDX-License-Identifier: Apache-2.0 */
#include "net/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define LOW32 0xffffffffull

/*
 * Where a call stands in parentheses, another architecture or libc uses it for the
 * same purpose.
 */
const struct jail_syscall net_syscalls[] = {
	/* The loop. */
	{ "ppoll", "wait for frames and sockets" },
	{ "recvfrom", "read frames; libslirp: read a connection" },
	{ "sendto", "write queued frames; libslirp: send a datagram" },
	{ "sendmsg", "write a frame and its length at once" },
	{ "recvmsg", "libslirp: read a datagram" },
	{ "clock_gettime", "libslirp's clock, where the vDSO has none" },
	{ "gettimeofday", "as clock_gettime" },
	{ "restart_syscall", "the kernel goes on after a stop" },
	{ "rt_sigreturn", "return from the SIGTERM handler" },

	/* Sockets towards the world, made by libslirp for the guest. */
	{ "socket", "a connection of the guest: IPv4 only", 0, LOW32, AF_INET },
	{ "socket", "libc: find an interface that resolv.conf names", 0, LOW32, AF_UNIX,
	  EAFNOSUPPORT },
	{ "connect", "its destination, after the policy" },
	{ "bind", "libslirp: the local end of a datagram socket" },
	{ "setsockopt", "libslirp: SO_REUSEADDR, SO_OOBINLINE, TCP_NODELAY" },
	{ "getsockopt", "libslirp: the result of a connect" },
	{ "getsockname", "libslirp: the port that the kernel chose" },
	{ "getpeername", "libslirp: is the connection up" },
	{ "shutdown", "half-closed connections" },
	{ "close", "end of a connection" },
	{ "read", "resolv.conf" },
	{ "readv", "libslirp: read into its ring buffer" },
	{ "writev", "libslirp: write from its ring buffer; abort messages of libc" },
	{ "write", "the log" },
	{ "ioctl", "libslirp: how many bytes wait in a datagram socket", 1, LOW32, FIONREAD },
	{ "ioctl", "libslirp: make a socket non-blocking", 1, LOW32, FIONBIO },
	{ "ioctl", "libc: as AF_UNIX; IPv4 does without", 1, LOW32, SIOCGIFINDEX, ENODEV },
	{ "ioctl", "glib: is its warning for a terminal", 1, LOW32, TCGETS, ENOTTY },
	{ "fcntl", "libslirp: close-on-exec, non-blocking" },

	/* DNS: the address of the host's resolver. */
	{ "openat", "resolv.conf, read-only", 2, O_ACCMODE, O_RDONLY },
	{ "newfstatat", "has resolv.conf changed" },
	{ "fstat", "(newfstatat)" },
	{ "stat", "(newfstatat)" },

	/* Memory; none of it executable. */
	{ "brk", "malloc" },
	{ "mmap", "malloc", 2, PROT_EXEC, 0 },
	{ "munmap", "free" },
	{ "mremap", "realloc" },
	{ "madvise", "free" },
	{ "futex", "locks in glib and libc" },

	/* The end. */
	{ "exit_group", "exit" },
	{ "getpid", "abort: to whom the signal goes" },
	{ "gettid", "as getpid" },
	{ "tgkill", "abort on a broken assertion in libslirp" },
	{ "rt_sigprocmask", "abort" },
	{ "rt_sigaction", "abort" },
	{ NULL, NULL },
};
