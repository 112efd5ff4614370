/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   /etc/hostname, /etc/hosts and /etc/resolv.conf of the sandbox.
 *
 * Trust boundary
 *   The tree is the image's: /etc may be a symbolic link, and so may each file.  /etc is
 *   resolved with the tree as its root, before anything of the kernel's is mounted in
 *   it; each file is written under a new name and renamed, which replaces a link
 *   instead of following it, and is never seen half written.
 */
#include "agent/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "base/mem.h"

static int etc_open_dir(int root_fd, struct err *e)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};
	long fd = syscall(SYS_openat2, root_fd, "etc", &how, sizeof(how));

	if (fd < 0 && errno == ENOENT && !mkdirat(root_fd, "etc", 0755))
		fd = syscall(SYS_openat2, root_fd, "etc", &how, sizeof(how));
	if (fd < 0)
		return err_errno(e, errno, "the image's /etc");
	return (int)fd;
}

/* Does the file hold just that?  A sandbox that is kept then boots although its disk is full. */
static bool etc_same(int dir_fd, const char *name, const struct buf *text)
{
	auto_close int fd =
		openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	char old[4096];
	struct stat st;

	return fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0644 &&
	       buf_len(text) < sizeof(old) &&
	       read(fd, old, sizeof(old)) == (ssize_t)buf_len(text) &&
	       !memcmp(old, buf_data(text), buf_len(text));
}

static int etc_write_new(int dir_fd, const char *name, const struct buf *text, struct err *e)
{
	char temp[64];
	auto_close int fd = -1;

	snprintf(temp, sizeof(temp), ".%s.msb", name);
	unlinkat(dir_fd, temp, 0);
	fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_errno(e, errno, "write /etc/%s", name);
	if (write(fd, buf_data(text), buf_len(text)) != (ssize_t)buf_len(text) ||
	    fchmod(fd, 0644) || renameat(dir_fd, temp, dir_fd, name)) {
		int code = errno ? errno : EIO;

		unlinkat(dir_fd, temp, 0);
		return err_errno(e, code, "write /etc/%s", name);
	}
	return 0;
}

static int etc_replace(int dir_fd, const char *name, const struct buf *text, struct err *e)
{
	struct err why = ERR_INIT;
	int rc;

	if (etc_same(dir_fd, name, text))
		return 0;
	rc = etc_write_new(dir_fd, name, text, &why);
	/* Its owner can make room only if it starts. */
	if (rc == -ENOSPC && !faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW)) {
		log_warn("event=etc reason=\"%s\"", err_text(&why));
		return 0;
	}
	return rc ? err_set(e, why.code, "%s", err_text(&why)) : 0;
}

static void etc_ipv4(uint32_t a, char to[16])
{
	snprintf(to, 16, "%u.%u.%u.%u", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
}

static int etc_puts(struct buf *b, const char *s)
{
	return buf_append(b, s, strlen(s));
}

static int etc_hosts(struct buf *b, const struct frame_configure *c, const char *hostname)
{
	struct frame_list hosts = c->hosts;
	struct frame_str line;
	char addr[16];
	int rc = etc_puts(b, "127.0.0.1\tlocalhost\n"
			     "::1\tlocalhost ip6-localhost ip6-loopback\n");

	etc_ipv4(c->flags & CONFIGURE_NETWORK ? c->ipv4_addr : 0x7f000101, addr);
	if (*hostname && !rc) {
		rc = etc_puts(b, addr);
		rc = rc ? rc : etc_puts(b, "\t");
		rc = rc ? rc : etc_puts(b, hostname);
		rc = rc ? rc : etc_puts(b, "\n");
	}
	while (!rc && frame_list_next(&hosts, &line)) {
		rc = buf_append(b, line.p, line.len);
		rc = rc ? rc : etc_puts(b, "\n");
	}
	return rc;
}

/* RFC 1123 labels, at most 63 bytes: what the kernel and every program accepts. */
static bool etc_hostname_valid(const char *s)
{
	if (!*s || *s == '-' || *s == '.')
		return false;
	for (; *s; s++)
		if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
		      (*s >= '0' && *s <= '9') || *s == '-' || *s == '.' || *s == '_'))
			return false;
	return true;
}

int etc_write(int root_fd, const struct frame_configure *c, struct err *e)
{
	struct buf b = BUF_INIT;
	auto_close int dir = -1;
	char hostname[65], addr[16];
	int rc;

	if (frame_str_copy(&c->hostname, hostname, sizeof(hostname)) ||
	    (*hostname && !etc_hostname_valid(hostname)))
		return err_set(e, EINVAL, "hostname '%.*s': letters, digits, '-' and '.' only",
			       (int)c->hostname.len, (const char *)c->hostname.p);
	dir = etc_open_dir(root_fd, e);
	if (dir < 0)
		return dir;
	if (*hostname) {
		if (sethostname(hostname, strlen(hostname)))
			return err_errno(e, errno, "set the hostname");
		rc = etc_puts(&b, hostname);
		rc = rc ? rc : etc_puts(&b, "\n");
		rc = rc ? err_errno(e, -rc, "/etc/hostname") : etc_replace(dir, "hostname", &b, e);
		buf_reset(&b);
		if (rc)
			return rc;
	}
	rc = etc_hosts(&b, c, hostname);
	rc = rc ? err_errno(e, -rc, "/etc/hosts") : etc_replace(dir, "hosts", &b, e);
	buf_reset(&b);
	if (rc || !(c->flags & CONFIGURE_NETWORK) || !c->ipv4_dns)
		return rc;
	etc_ipv4(c->ipv4_dns, addr);
	rc = etc_puts(&b, "nameserver ");
	rc = rc ? rc : etc_puts(&b, addr);
	rc = rc ? rc : etc_puts(&b, "\n");
	rc = rc ? err_errno(e, -rc, "/etc/resolv.conf") : etc_replace(dir, "resolv.conf", &b, e);
	buf_reset(&b);
	return rc;
}
