/* SPDX-License-Identifier: Apache-2.0 */
/* What runs in the converter's jail; see convert.h. */
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/mem.h"
#include "image/chain.h"
#include "image/convert.h"
#include "image/layer.h"
#include "sys/jail.h"

#define FD_OUT 3
#define FD_REPORT 4
#define FD_LAYERS 5
#define LAYERS_MAX 1024u

static const struct jail_syscall convert_syscalls[] = {
	{ SYS_read, "layers" },
	{ SYS_recvmsg, "the layers' descriptors" },
	{ SYS_lseek, "libarchive and libext2fs seek in plain files" },
	{ SYS_pread64, "libext2fs reads back blocks that it changes" },
	{ SYS_pwrite64, "the root image" },
	{ SYS_write, "reports" },
	{ SYS_ftruncate, "size of the root image" },
	{ SYS_fallocate, "blocks of replaced files are given back" },
	{ SYS_fadvise64, "libext2fs, before it reads" },
	{ SYS_fcntl, "libext2fs looks at the mode of a descriptor" },
	{ SYS_fstat, "kind and size of a file" },
	{ SYS_newfstatat, "the C library's fstat()" },
	{ SYS_fsync, "libext2fs syncs what it closes" },
	{ SYS_close, "libext2fs closes its descriptor" },
	{ SYS_ioctl, "libext2fs asks whether a file is a block device" },
	{ SYS_mmap, "memory" },
	{ SYS_mremap, "memory" },
	{ SYS_munmap, "memory" },
	{ SYS_mprotect, "memory arenas of the C library" },
	{ SYS_madvise, "memory given back" },
	{ SYS_brk, "memory" },
	{ SYS_getrandom, "the tree's hash key, the C library" },
	{ SYS_futex, "locks inside OpenSSL" },
	{ SYS_getpid, "OpenSSL notices a fork by it" },
	{ SYS_gettid, "assertion messages" },
	{ SYS_tgkill, "abort()" },
	{ SYS_getuid, "libext2fs looks for set-uid" },
	{ SYS_geteuid, "libext2fs looks for set-uid" },
	{ SYS_getgid, "libext2fs looks for set-uid" },
	{ SYS_getegid, "libext2fs looks for set-uid" },
	{ SYS_prctl, "libext2fs asks whether it may dump core" },
	{ SYS_clock_gettime, "times, where the vDSO has none" },
#ifdef SYS_time
	{ SYS_time, "libext2fs" },
#endif
	{ SYS_getrlimit, "libext2fs, the file size limit" },
	{ SYS_prlimit64, "libext2fs, the file size limit" },
	{ SYS_sysinfo, "qsort() asks how much memory there is" },
	{ SYS_uname, "libext2fs asks for the kernel's version" },
	{ SYS_rt_sigprocmask, "abort()" },
	{ SYS_rt_sigaction, "abort()" },
	{ SYS_rt_sigreturn, "return from a signal handler" },
	{ SYS_exit_group, "the end" },
	{ JAIL_SYSCALL_END },
};

/* A report is never lost, except progress where the parent is slow. */
static void convert_report(const struct convert_report *r)
{
	while (write(FD_REPORT, r, sizeof(*r)) < 0 && errno == EINTR)
		;
}

static void convert_fail(const struct err *e)
{
	struct convert_report r = { .kind = CONVERT_FAILED, .code = (uint32_t)e->code };

	snprintf(r.text, sizeof(r.text), "%s", err_text(e));
	convert_report(&r);
}

struct convert_progress {
	uint64_t before; /* bytes of the layers that are done */
};

static void convert_on_progress(void *ctx, uint64_t bytes)
{
	const struct convert_progress *p = ctx;
	struct convert_report r = { .kind = CONVERT_PROGRESS, .bytes = p->before + bytes };

	convert_report(&r);
}

/* Receives the next layer's descriptor. */
static int convert_get_layer(int *out, struct convert_layer *layer, struct err *e)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { layer, sizeof(*layer) };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	const struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(FD_LAYERS, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	c = n == (ssize_t)sizeof(*layer) ? CMSG_FIRSTHDR(&m) : NULL;
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
		return err_set(e, EPROTO, "the layer did not arrive");
	memcpy(out, CMSG_DATA(c), sizeof(int));
	return 0;
}

static int convert_layers(struct rootimage *r, unsigned n, uint64_t max_bytes, uint8_t *chain,
			  uint32_t *dropped, struct err *e)
{
	struct convert_progress p = { .before = 0 };
	uint64_t left = max_bytes;

	for (unsigned i = 0; i < n; i++) {
		struct convert_report rep = { .kind = CONVERT_LAYER };
		struct layer_result res;
		struct stat st;
		struct convert_layer layer;
		auto_close int fd = -1;
		int rc = convert_get_layer(&fd, &layer, e);

		if (!rc)
			rc = layer_apply(fd, r, left, layer.has_known ? layer.known : NULL,
					 convert_on_progress, &p, &res, e);
		if (rc) {
			if (n > 1)
				err_wrap(e, "layer %u", i + 1);
			return rc;
		}
		chain_add(chain, res.diff_id);
		left -= min_u64(left, res.bytes);
		if (fstat(fd, &st) == 0)
			p.before += (uint64_t)st.st_size;
		*dropped += res.xattrs_dropped;
		rep.bytes = res.bytes;
		memcpy(rep.digest, res.diff_id, sizeof(rep.digest));
		convert_report(&rep);
	}
	return 0;
}

static int convert_child(const struct rootimage_limits *limits, unsigned n, struct err *e)
{
	struct convert_report done = { .kind = CONVERT_DONE };
	struct rootimage_stats stats = { .bytes = 0 };
	uint8_t chain[DIGEST_BYTES] = { 0 };
	struct rootimage *r;
	uint32_t dropped = 0;
	int rc = rootimage_create(FD_OUT, limits, &r, e);

	if (rc)
		return rc;
	rc = convert_layers(r, n, limits->max_bytes, chain, &dropped, e);
	if (!rc)
		rc = rootimage_finish(r, chain, &stats, e);
	rootimage_destroy(r);
	if (rc)
		return rc;
	done.bytes = stats.bytes;
	done.count = stats.inodes;
	done.dropped = stats.xattrs_dropped + dropped;
	convert_report(&done);
	return 0;
}

int convert_main(int argc, char **argv)
{
	struct rootimage_limits limits = { 0 };
	uint8_t scratch[DIGEST_BYTES];
	struct err e = ERR_INIT;
	struct digest *warm;
	unsigned n;
	int rc;

	if (argc != 5)
		return 2;
	limits.max_bytes = strtoull(argv[2], NULL, 10);
	limits.max_entries = (uint32_t)strtoul(argv[3], NULL, 10);
	n = (unsigned)strtoul(argv[4], NULL, 10);
	/* Names in pax headers are UTF-8; libarchive converts them to the locale's encoding. */
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		rc = err_set(&e, ENOTSUP, "the C library has no locale C.UTF-8");
	else
		rc = n <= LAYERS_MAX ? 0 : err_set(&e, EINVAL, "more than %u layers", LAYERS_MAX);
	/* OpenSSL reads its configuration at the first use, which the list below forbids. */
	if (!rc)
		rc = digest_create(&warm, &e);
	if (!rc) {
		digest_final(warm, scratch);
		digest_destroy(warm);
		rc = jail_seccomp(convert_syscalls, false, &e);
	}
	if (!rc)
		rc = convert_child(&limits, n, &e);
	if (rc)
		convert_fail(&e);
	return rc ? 1 : 0;
}
