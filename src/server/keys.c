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

#include "base/mem.h"
#include "codec/token.h"
#include "server/server.h"
#include "sys/file.h"

#define KEYS_SECRET_LEN 32u
#define KEYS_SECRET_MAX 4096u
#define KEYS_SECRET_MIN 16u

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

int server_key_make(const char *secret, const char *ns, int64_t seconds, char **key,
		    int64_t *expires, struct err *e)
{
	struct token_claims c = { .issued = time(NULL) };
	uint8_t id[16];
	int rc;

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return err_errno(e, errno, "getrandom");
	for (size_t i = 0; i < sizeof(id); i++)
		snprintf(c.id + 2 * i, 3, "%02x", id[i]);
	c.expires = c.issued + seconds;
	snprintf(c.ns, sizeof(c.ns), "%s", ns);
	rc = token_make(secret, strlen(secret), &c, key);
	if (rc)
		return err_errno(e, -rc, "cannot make a key");
	*expires = c.expires;
	return 0;
}
