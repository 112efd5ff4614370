/* SPDX-License-Identifier: Apache-2.0 */
#include "server/tls.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"

#define TLS_LIBRARY "libssl.so.3"
#define TLS_CHUNK 16384u /* the largest record */

/* What is used of OpenSSL, by name and type as its headers declare it. */
#define TLS_SYMBOLS(X) \
	X(TLS_server_method) \
	X(SSL_CTX_new) \
	X(SSL_CTX_free) \
	X(SSL_CTX_ctrl) \
	X(SSL_CTX_set_options) \
	X(SSL_CTX_use_certificate_chain_file) \
	X(SSL_CTX_use_PrivateKey_file) \
	X(SSL_CTX_check_private_key) \
	X(SSL_CTX_set_alpn_select_cb) \
	X(SSL_select_next_proto) \
	X(SSL_new) \
	X(SSL_free) \
	X(SSL_set_accept_state) \
	X(SSL_set_bio) \
	X(SSL_read) \
	X(SSL_write) \
	X(SSL_get_error) \
	X(SSL_shutdown) \
	X(BIO_s_mem) \
	X(BIO_new) \
	X(BIO_read) \
	X(BIO_write) \
	X(BIO_ctrl_pending) \
	X(ERR_get_error) \
	X(ERR_clear_error) \
	X(ERR_reason_error_string)

static struct {
	void *library;
#define X(name) __typeof__(name) *name;
	TLS_SYMBOLS(X)
#undef X
} ssl;

struct tls_context {
	SSL_CTX *ctx;
};

struct tls {
	SSL *ssl;
	BIO *in, *out; /* owned by ssl */
};

static int tls_load(struct err *e)
{
	if (ssl.library)
		return 0;
	ssl.library = dlopen(TLS_LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!ssl.library)
		return err_set(e, ENOENT, "TLS needs OpenSSL 3 (Debian package libssl3): %s",
			       dlerror());
#define X(name) \
	ssl.name = (__typeof__(ssl.name))dlsym(ssl.library, #name); \
	if (!ssl.name) \
		return err_set(e, ENOSYS, "TLS: %s has no " #name, TLS_LIBRARY);
	TLS_SYMBOLS(X)
#undef X
	return 0;
}

static int tls_fail(struct err *e, const char *what, const char *file)
{
	const char *reason = ssl.ERR_reason_error_string(ssl.ERR_get_error());

	return err_set(e, EINVAL, "%s %s: %s", what, file, reason ? reason : "cannot be used");
}

static int tls_choose_protocol(SSL *s, const unsigned char **out, unsigned char *out_len,
			       const unsigned char *in, unsigned in_len, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";

	(void)s;
	(void)arg;
	/* Whoever offers only others gets none, and may speak HTTP/1.1 all the same. */
	return ssl.SSL_select_next_proto((unsigned char **)out, out_len, ours, sizeof(ours) - 1, in,
					 in_len) == OPENSSL_NPN_NEGOTIATED
		       ? SSL_TLSEXT_ERR_OK
		       : SSL_TLSEXT_ERR_NOACK;
}

static int tls_context_fill(SSL_CTX *ctx, const char *cert, const char *key, struct err *e)
{
	struct stat st;

	if (stat(cert, &st) < 0)
		return err_errno(e, errno, "--tls-cert %s", cert);
	if (stat(key, &st) < 0)
		return err_errno(e, errno, "--tls-key %s", key);
	if (st.st_mode & 077)
		return err_set(e, EPERM, "--tls-key %s can be read by others: chmod 600 %s", key,
			       key);
	ssl.ERR_clear_error();
	ssl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL);
	ssl.SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					     SSL_OP_IGNORE_UNEXPECTED_EOF);
	ssl.SSL_CTX_set_alpn_select_cb(ctx, tls_choose_protocol, NULL);
	if (ssl.SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
		return tls_fail(e, "--tls-cert", cert);
	if (ssl.SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		return tls_fail(e, "--tls-key", key);
	if (ssl.SSL_CTX_check_private_key(ctx) != 1)
		return tls_fail(e, "--tls-key", key);
	return 0;
}

int tls_context_create(const char *cert, const char *key, struct tls_context **out, struct err *e)
{
	struct tls_context *c;
	int rc = tls_load(e);

	if (rc)
		return rc;
	c = calloc(1, sizeof(*c));
	if (c)
		c->ctx = ssl.SSL_CTX_new(ssl.TLS_server_method());
	if (!c || !c->ctx) {
		free(c);
		return err_errno(e, ENOMEM, "TLS");
	}
	rc = tls_context_fill(c->ctx, cert, key, e);
	if (rc)
		tls_context_destroy(c);
	else
		*out = c;
	return rc;
}

void tls_context_destroy(struct tls_context *c)
{
	if (!c)
		return;
	ssl.SSL_CTX_free(c->ctx);
	free(c);
}

struct tls *tls_create(struct tls_context *c)
{
	struct tls *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->ssl = ssl.SSL_new(c->ctx);
	t->in = ssl.BIO_new(ssl.BIO_s_mem());
	t->out = ssl.BIO_new(ssl.BIO_s_mem());
	if (!t->ssl || !t->in || !t->out) {
		tls_destroy(t);
		return NULL;
	}
	ssl.SSL_set_bio(t->ssl, t->in, t->out);
	ssl.SSL_set_accept_state(t->ssl);
	return t;
}

void tls_destroy(struct tls *t)
{
	if (!t)
		return;
	ssl.SSL_free(t->ssl);
	free(t);
}

/* Moves what has to be sent. */
static int tls_collect(struct tls *t, struct buf *out)
{
	size_t n;

	while ((n = ssl.BIO_ctrl_pending(t->out)) > 0) {
		uint8_t *to;
		int got, rc = buf_reserve(out, n < TLS_CHUNK ? n : TLS_CHUNK, &to);

		if (rc)
			return rc;
		got = ssl.BIO_read(t->out, to, n < TLS_CHUNK ? (int)n : (int)TLS_CHUNK);
		if (got <= 0)
			break;
		buf_commit(out, (size_t)got);
	}
	return 0;
}

/* Return: 1 if a record was decrypted, 0 if more bytes are needed, or an error. */
static int tls_read_some(struct tls *t, struct buf *plain, size_t room)
{
	uint8_t *to;
	int n, rc = buf_reserve(plain, room, &to);

	if (rc)
		return rc;
	ssl.ERR_clear_error();
	n = ssl.SSL_read(t->ssl, to, (int)room);
	if (n > 0) {
		buf_commit(plain, (size_t)n);
		return 1;
	}
	switch (ssl.SSL_get_error(t->ssl, n)) {
	case SSL_ERROR_WANT_READ:
		return 0;
	case SSL_ERROR_ZERO_RETURN:
		return -EPIPE;
	default:
		return -EPROTO;
	}
}

int tls_decrypt(struct tls *t, struct buf *from, struct buf *plain, size_t room, struct buf *out)
{
	int rc = 1, sent;

	while (rc > 0 && room) {
		size_t had = buf_len(plain), n = buf_len(from);

		rc = tls_read_some(t, plain, room < TLS_CHUNK ? room : TLS_CHUNK);
		room -= buf_len(plain) - had;
		if (rc || !n)
			continue;
		/* It needs more: as much as a record, and the rest stays with its owner. */
		if (n > TLS_CHUNK)
			n = TLS_CHUNK;
		if (ssl.BIO_write(t->in, buf_data(from), (int)n) != (int)n)
			return -ENOMEM;
		buf_consume(from, n);
		rc = 1;
	}
	sent = tls_collect(t, out); /* also an alert that says what was wrong */
	return rc < 0 ? rc : sent;
}

int tls_encrypt(struct tls *t, const void *p, size_t n, struct buf *out)
{
	const uint8_t *at = p;

	while (n) {
		int len = n > TLS_CHUNK ? (int)TLS_CHUNK : (int)n, rc;

		ssl.ERR_clear_error();
		if (ssl.SSL_write(t->ssl, at, len) != len)
			return -EPROTO;
		rc = tls_collect(t, out);
		if (rc)
			return rc;
		at += len;
		n -= (size_t)len;
	}
	return 0;
}

void tls_finish(struct tls *t, struct buf *out)
{
	ssl.ERR_clear_error();
	ssl.SSL_shutdown(t->ssl);
	tls_collect(t, out);
}
