/* SPDX-License-Identifier: Apache-2.0 */
/* The secret of a server, and the API keys that it signs (codec/token.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/token.h"
#include "server/internal.h"
#include "sys/file.h"

#define KEYS_SECRET_LEN 32u
#define KEYS_SECRET_MAX 4096u
#define KEYS_SECRET_MIN 16u
#define KEYS_REVOKED_MAX (1 << 20)

static int keys_random(char *to, size_t n, struct err *e)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	uint8_t byte;

	for (size_t i = 0; i < n;) {
		if (getrandom(&byte, 1, 0) != 1)
			return err_errno(e, errno, "getrandom");
		if (byte < 4 * (sizeof(set) - 1)) /* else some would be likelier */
			to[i++] = set[byte % (sizeof(set) - 1)];
	}
	to[n] = '\0';
	return 0;
}

/* Readable by others it would be no secret. */
static int keys_check_file(int dirfd, const char *name, const char *shown, struct err *e)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(e, errno, "cannot read the server's key %s", shown);
	if (st.st_mode & 077)
		return err_set(e, EPERM,
			       "%s can be read by others: chmod 600 %s, or make a new one "
			       "with --reset-key",
			       shown, shown);
	return 0;
}

static int keys_read(int dirfd, const char *name, const char *shown, char **out, struct err *e)
{
	auto_free char *text = NULL;
	size_t len;
	int rc = keys_check_file(dirfd, name, shown, e);

	if (!rc)
		rc = file_read_at(dirfd, name, KEYS_SECRET_MAX, &text, &len, e);
	if (rc)
		return rc;
	while (len && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		text[--len] = '\0';
	if (len < KEYS_SECRET_MIN || strlen(text) != len)
		return err_set(e, EINVAL, "%s must hold a line of text of at least %u characters",
			       shown, KEYS_SECRET_MIN);
	*out = take_ptr(&text);
	return 0;
}

int server_key_load(const char *home, const char *file, bool make, bool reset, char **out,
		    struct err *e)
{
	auto_close int dirfd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_free char *shown = NULL;
	char secret[KEYS_SECRET_LEN + 1];
	int rc;

	if (file)
		return keys_read(AT_FDCWD, file, file, out, e);
	if (dirfd < 0)
		return err_errno(e, errno, "cannot open %s", home);
	if (asprintf(&shown, "%s/" SERVER_KEY_FILE, home) < 0) {
		shown = NULL;
		return err_errno(e, ENOMEM, SERVER_KEY_FILE);
	}
	if (reset || (make && faccessat(dirfd, SERVER_KEY_FILE, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
		      errno == ENOENT)) {
		rc = keys_random(secret, KEYS_SECRET_LEN, e);
		if (!rc)
			rc = file_write_at(dirfd, SERVER_KEY_FILE, secret, KEYS_SECRET_LEN, 0600,
					   true, e);
		explicit_bzero(secret, sizeof(secret));
		if (rc)
			return rc;
	}
	return keys_read(dirfd, SERVER_KEY_FILE, shown, out, e);
}

int server_key_make(const char *secret, const char *ns, int64_t seconds,
		    const struct token_limits *limits, struct server_key *out, struct err *e)
{
	struct token_claims c = { .issued = time(NULL), .limits = *limits };
	uint8_t id[16];
	int rc;

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return err_errno(e, errno, "getrandom");
	for (size_t i = 0; i < sizeof(id); i++)
		snprintf(c.id + 2 * i, 3, "%02x", id[i]);
	c.expires = c.issued + seconds;
	snprintf(c.ns, sizeof(c.ns), "%s", ns);
	rc = token_make(secret, strlen(secret), &c, &out->text);
	if (rc)
		return err_errno(e, -rc, "cannot make a key");
	snprintf(out->id, sizeof(out->id), "%s", c.id);
	out->expires = c.expires;
	return 0;
}

/* ---- keys that are valid no more ------------------------------------------------------- */

static bool keys_is_id(const char *s)
{
	return strlen(s) == SERVER_KEY_ID_SIZE - 1 &&
	       strspn(s, "0123456789abcdef") == SERVER_KEY_ID_SIZE - 1;
}

int server_key_revoke(const char *home, const char *id, struct err *e)
{
	auto_close int dirfd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_close int fd = -1;
	char line[SERVER_KEY_ID_SIZE + 1];
	struct stat st;

	if (!keys_is_id(id))
		return err_set(e, EINVAL,
			       "'%s' is no key's id: give the 32 digits that keygen printed "
			       "as \"Key id\"",
			       id);
	fd = dirfd < 0 ? -1
		       : openat(dirfd, SERVER_REVOKED_FILE,
				O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, errno, "cannot write %s/" SERVER_REVOKED_FILE, home);
	if (st.st_size + (off_t)sizeof(line) > KEYS_REVOKED_MAX)
		return err_set(e, EFBIG,
			       "too many revoked keys: make a new secret with --reset-key");
	/* One write of one line: whoever reads meanwhile sees it whole or not at all. */
	snprintf(line, sizeof(line), "%s\n", id);
	if (write(fd, line, strlen(line)) != (ssize_t)strlen(line) || fsync(fd) < 0)
		return err_errno(e, errno, "cannot write %s/" SERVER_REVOKED_FILE, home);
	return 0;
}

void revoked_fini(struct revoked *r)
{
	free(r->text);
	*r = (struct revoked){ .text = NULL };
}

/* Reads the file again if it is another than last time. Return: is what we have its content? */
static bool revoked_refresh(struct revoked *r, const char *home)
{
	auto_close int dirfd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct err e = ERR_INIT;
	struct stat st;
	size_t len;
	char *text;

	if (dirfd < 0)
		return false;
	if (fstatat(dirfd, SERVER_REVOKED_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		revoked_fini(r);
		return errno == ENOENT;
	}
	if (r->text && st.st_ino == r->ino && st.st_size == r->size)
		return true;
	if (file_read_at(dirfd, SERVER_REVOKED_FILE, KEYS_REVOKED_MAX, &text, &len, &e)) {
		log_err("event=revoked-unreadable reason=\"%s\"", err_text(&e));
		return false;
	}
	revoked_fini(r);
	*r = (struct revoked){ .text = text, .ino = st.st_ino, .size = (off_t)len };
	return true;
}

bool revoked_has(struct revoked *r, const char *home, const char *id)
{
	/* Which keys are revoked is not known: then none is good. */
	if (!revoked_refresh(r, home))
		return true;
	return keys_is_id(id) && r->text && strstr(r->text, id);
}
