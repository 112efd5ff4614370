/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_TLS_H
#define MSB_SERVER_TLS_H

/*
 * DOC: TLS
 *
 * Purpose: bytes of a connection to plain bytes and back, with OpenSSL.  Knows no
 * descriptor: connections keep their buffers and their limits.
 *
 * OpenSSL is loaded when a certificate is given, and not before: every msx would pay for
 * it otherwise.  TLS 1.2 and 1.3, no renegotiation, no compression, ALPN http/1.1.
 */

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct tls_context;
struct tls;

/* Certificate (with its chain) and key are PEM files; the key's must be its owner's alone. */
int tls_context_create(const char *cert, const char *key, struct tls_context **out, struct err *e);
void tls_context_destroy(struct tls_context *c);

struct tls *tls_create(struct tls_context *c);
void tls_destroy(struct tls *t);

/*
 * Takes bytes off @from, decrypts up to @room bytes into @plain; what has to be sent goes
 * to @out.  Return: 0; -EPIPE: the peer said good-bye; -EPROTO; -ENOMEM, -ENOBUFS.
 */
int tls_decrypt(struct tls *t, struct buf *from, struct buf *plain, size_t room, struct buf *out);

/* Encrypts @p into @out. Return: 0, -EPROTO, -ENOMEM, -ENOBUFS. */
int tls_encrypt(struct tls *t, const void *p, size_t n, struct buf *out);

/* Says good-bye. */
void tls_finish(struct tls *t, struct buf *out);

#endif
