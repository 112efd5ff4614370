/* SPDX-License-Identifier: Apache-2.0 */
#include "net/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define LOW32 0xffffffffull

/*
 * Where a call stands in parentheses, another architecture or libc uses it for the
 * same purpose.
 */
const struct jail_syscall net_syscalls[] = {
	/* The loop. */
	{ SYS_ppoll, "wait for frames and sockets" },
	{ SYS_recvfrom, "read frames; libslirp: read a connection" },
	{ SYS_sendto, "write queued frames; libslirp: send a datagram" },
	{ SYS_sendmsg, "write a frame and its length at once; answer a datagram to a port" },
	{ SYS_recvmsg,
	  "read a datagram: libslirp, and of published ports; the control descriptor" },
	{ SYS_clock_gettime, "libslirp's clock, where the vDSO has none" },
	{ SYS_gettimeofday, "as clock_gettime" },
	{ SYS_restart_syscall, "the kernel goes on after a stop" },
	{ SYS_rt_sigreturn, "return from the SIGTERM handler" },

	/* Sockets towards the world, made by libslirp for the guest, and by us for DNS. */
	{ SYS_socket, "a connection of the guest; a question to a resolver", 0, LOW32, AF_INET },
	{ SYS_socket, "a question to a resolver that has an IPv6 address", 0, LOW32, AF_INET6 },
	{ SYS_socketpair, "what stands between a connection and its secrets", 0, LOW32, AF_UNIX },
	{ SYS_dup3, "the same, in the place of libslirp's socket" },
	{ SYS_connect, "its destination, after the policy" },
	{ SYS_accept4, "a connection to a published port" },
	{ SYS_bind, "libslirp: the local end of a datagram socket" },
	{ SYS_setsockopt, "libslirp: SO_REUSEADDR, SO_OOBINLINE, TCP_NODELAY; ports: SO_LINGER" },
	{ SYS_getsockopt, "libslirp: the result of a connect" },
	{ SYS_getsockname, "libslirp: the port that the kernel chose" },
	{ SYS_getpeername, "libslirp: is the connection up" },
	{ SYS_shutdown, "half-closed connections" },
	{ SYS_close, "end of a connection" },
	{ SYS_read, "resolv.conf" },
	{ SYS_readv, "libslirp: read into its ring buffer" },
	{ SYS_writev, "libslirp: write from its ring buffer; abort messages of libc" },
	{ SYS_write, "the log" },
	{ SYS_ioctl, "libslirp: how many bytes wait in a datagram socket", 1, LOW32, FIONREAD },
	{ SYS_ioctl, "libslirp: make a socket non-blocking", 1, LOW32, FIONBIO },
	{ SYS_ioctl, "the interface of a link-local resolver", 1, LOW32, SIOCGIFINDEX },
	{ SYS_ioctl, "glib: is its warning for a terminal", 1, LOW32, TCGETS, ENOTTY },
	{ SYS_fcntl, "libslirp: close-on-exec, non-blocking" },

	/* DNS: the addresses of the host's resolvers, and ids that nobody guesses. */
	{ SYS_getrandom, "the id of a question" },
	{ SYS_openat, "resolv.conf, read-only", 2, O_ACCMODE, O_RDONLY },
	{ SYS_newfstatat, "has resolv.conf changed" },
	{ SYS_fstat, "(newfstatat)" },
#ifdef SYS_stat
	{ SYS_stat, "(newfstatat)" },
#endif

	/* Memory; none of it executable. */
	{ SYS_brk, "malloc" },
	{ SYS_mmap, "malloc", 2, PROT_EXEC, 0 },
	{ SYS_munmap, "free" },
	{ SYS_mremap, "realloc" },
	{ SYS_madvise, "free" },
	{ SYS_futex, "locks in glib and libc" },

	/* The end. */
	{ SYS_exit_group, "exit" },
	{ SYS_getpid, "abort: to whom the signal goes" },
	{ SYS_gettid, "as getpid" },
	{ SYS_tgkill, "abort on a broken assertion in libslirp" },
	{ SYS_rt_sigprocmask, "abort" },
	{ SYS_rt_sigaction, "abort" },
	{ JAIL_SYSCALL_END },
};

/* Without a stack: it reads and writes what it was given, and no more. */
const struct jail_syscall net_syscalls_closed[] = {
	{ SYS_ppoll, "wait for frames" },
	{ SYS_recvfrom, "read frames, of the guest and of members" },
	{ SYS_recvmsg, "the control descriptor, and the sockets of members that come with it" },
	{ SYS_sendto, "write queued frames; answers on the control descriptor" },
	{ SYS_sendmsg, "write a frame and its length at once; a frame for a member" },
	{ SYS_getsockopt, "is it a member's socket" },
	{ SYS_close, "a member's socket" },
	{ SYS_write, "the log" },
	{ SYS_clock_gettime, "the clock, where the vDSO has none" },
	{ SYS_gettimeofday, "as clock_gettime" },
	{ SYS_getrandom, "numbers of DNS connections" },
	{ SYS_restart_syscall, "the kernel goes on after a stop" },
	{ SYS_rt_sigreturn, "return from the SIGTERM handler" },
	{ SYS_brk, "malloc" },
	{ SYS_mmap, "malloc", 2, PROT_EXEC, 0 },
	{ SYS_munmap, "free" },
	{ SYS_mremap, "realloc" },
	{ SYS_madvise, "free" },
	{ SYS_futex, "locks in libc" },
	{ SYS_exit_group, "exit" },
	{ SYS_writev, "abort messages of libc" },
	{ SYS_getpid, "abort: to whom the signal goes" },
	{ SYS_gettid, "as getpid" },
	{ SYS_tgkill, "abort" },
	{ SYS_rt_sigprocmask, "abort" },
	{ SYS_rt_sigaction, "abort" },
	{ JAIL_SYSCALL_END },
};
