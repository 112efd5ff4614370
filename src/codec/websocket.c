/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/websocket.h"

#include <errno.h>
#include <string.h>

#include "codec/base64.h"
#include "codec/sha1.h"

#define WS_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define WS_KEY_LEN (WS_KEY_SIZE - 1)

static int ws_fail(struct ws_reader *r, enum ws_close code, const char *reason)
{
	r->reason = reason;
	return -(int)code;
}

void ws_reader_init(struct ws_reader *r, uint64_t text_max)
{
	memset(r, 0, sizeof(*r));
	r->text_max = text_max;
	r->binary_max = UINT64_MAX;
	r->reason = "";
	r->header_want = 2;
}

void ws_reader_init_client(struct ws_reader *r, uint64_t max)
{
	ws_reader_init(r, max);
	r->binary_max = max;
	r->from_server = true;
}

static bool ws_is_control(uint8_t opcode)
{
	return opcode & 8;
}

static unsigned ws_mask_len(const struct ws_reader *r)
{
	return r->from_server ? 0 : WS_MASK_BYTES;
}

/* The first two bytes of a frame (RFC 6455 §5.2). */
static int ws_start(struct ws_reader *r)
{
	uint8_t opcode = r->header[0] & 15, len = r->header[1] & 127;
	bool fin = r->header[0] & 0x80, control = ws_is_control(opcode);

	if (r->header[0] & 0x70)
		return ws_fail(r, WS_CLOSE_PROTOCOL, "reserved bits are set");
	if (opcode > WS_PONG || (opcode > WS_BINARY && opcode < WS_CLOSE))
		return ws_fail(r, WS_CLOSE_PROTOCOL, "there is no such opcode");
	if (r->from_server == (r->header[1] >> 7))
		return ws_fail(r, WS_CLOSE_PROTOCOL,
			       r->from_server ? "a server's frames must not be masked"
					      : "a client's frames must be masked");
	if (control && (!fin || len > WS_CONTROL_MAX))
		return ws_fail(r, WS_CLOSE_PROTOCOL, "a control frame is long or in fragments");
	if (opcode == WS_CONTINUATION && !r->message)
		return ws_fail(r, WS_CLOSE_PROTOCOL, "nothing is to be continued");
	if (!control && opcode != WS_CONTINUATION && r->message)
		return ws_fail(r, WS_CLOSE_PROTOCOL, "a message begins inside another");
	r->header_want = 2u + (len == 126 ? 2u : len == 127 ? 8u : 0u) + ws_mask_len(r);
	return 0;
}

/* The whole header is there. */
static int ws_header_done(struct ws_reader *r)
{
	uint8_t opcode = r->header[0] & 15, len = r->header[1] & 127;
	unsigned bytes = r->header_want - 2 - ws_mask_len(r);
	uint64_t max;

	r->left = len;
	if (bytes) {
		r->left = 0;
		for (unsigned i = 0; i < bytes; i++)
			r->left = r->left << 8 | r->header[2 + i];
		if (r->left < (bytes == 2 ? 126u : 65536u) || r->left >> 63)
			return ws_fail(r, WS_CLOSE_PROTOCOL, "a length is not in its form");
	}
	if (!r->from_server)
		memcpy(r->mask, r->header + r->header_want - WS_MASK_BYTES, sizeof(r->mask));
	r->mask_at = 0;
	r->header_len = 0;
	r->header_want = 2;
	r->in_payload = true;
	r->piece_len = 0;
	r->fin = r->header[0] & 0x80;
	r->opcode = opcode;
	if (ws_is_control(opcode))
		return 0;
	if (opcode != WS_CONTINUATION) {
		r->message = opcode;
		r->message_len = 0;
		r->fresh = true;
		r->text = (struct utf8_check){ .n = 0 };
	}
	r->opcode = r->message;
	max = r->message == WS_TEXT ? r->text_max : r->binary_max;
	if (r->message_len > max || r->left > max - r->message_len)
		return ws_fail(r, WS_CLOSE_TOO_BIG, "the message is too long");
	return 0;
}

/* Into the piece, with no mask if there is one. */
static void ws_take(struct ws_reader *r, const uint8_t *p, size_t n)
{
	uint8_t *to = r->piece + r->piece_len;

	if (r->from_server)
		memcpy(to, p, n);
	else
		for (size_t i = 0; i < n; i++)
			to[i] = p[i] ^ r->mask[(r->mask_at + i) & 3];
	r->mask_at = (unsigned)((r->mask_at + n) & 3);
	r->piece_len += n;
	r->left -= n;
}

/* RFC 6455 §7.4: what may stand in a close frame. */
static bool ws_close_ok(uint16_t code)
{
	if (code >= 3000 && code <= 4999)
		return true;
	return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}

uint16_t ws_close_code(const struct ws_reader *r)
{
	return r->piece_len < 2 ? WS_CLOSE_NO_CODE : (uint16_t)(r->piece[0] << 8 | r->piece[1]);
}

static int ws_control_done(struct ws_reader *r)
{
	struct utf8_check text = { .n = 0 };

	r->in_payload = false;
	if (r->opcode != WS_CLOSE || !r->piece_len)
		return WS_EV_CONTROL;
	if (r->piece_len < 2 || !ws_close_ok(ws_close_code(r)))
		return ws_fail(r, WS_CLOSE_PROTOCOL, "a close frame has a bad code");
	if (!utf8_check_add(&text, r->piece + 2, r->piece_len - 2) || text.n)
		return ws_fail(r, WS_CLOSE_NOT_TEXT, "a close frame's reason is no UTF-8");
	return WS_EV_CONTROL;
}

static int ws_piece_done(struct ws_reader *r)
{
	r->first = r->fresh;
	r->fresh = false;
	r->message_len += r->piece_len;
	r->last = !r->left && r->fin;
	if (!r->left)
		r->in_payload = false;
	if (r->last)
		r->message = 0;
	if (r->opcode == WS_TEXT &&
	    (!utf8_check_add(&r->text, r->piece, r->piece_len) || (r->last && r->text.n)))
		return ws_fail(r, WS_CLOSE_NOT_TEXT, "a text message is no UTF-8");
	return WS_EV_PIECE;
}

/* Return: an event, an error, or WS_EV_MORE with *@used < @n: go on. */
static int ws_feed_payload(struct ws_reader *r, const uint8_t *p, size_t n, size_t *used)
{
	bool control = ws_is_control(r->opcode);
	size_t take;

	if (!control)
		r->piece_len = 0;
	take = sizeof(r->piece) - r->piece_len;
	if (take > n)
		take = n;
	if (take > r->left)
		take = (size_t)r->left;
	ws_take(r, p, take);
	*used += take;
	if (control)
		return r->left ? WS_EV_MORE : ws_control_done(r);
	return take || !r->left ? ws_piece_done(r) : WS_EV_MORE;
}

int ws_reader_feed(struct ws_reader *r, const uint8_t *p, size_t n, size_t *used)
{
	int rc;

	*used = 0;
	while (!r->in_payload) {
		if (*used == n)
			return WS_EV_MORE;
		r->header[r->header_len++] = p[(*used)++];
		rc = r->header_len == 2 ? ws_start(r) : 0;
		if (!rc && r->header_len == r->header_want)
			rc = ws_header_done(r);
		if (rc)
			return rc;
	}
	/* A frame without payload is complete with its header. */
	return ws_feed_payload(r, p + *used, n - *used, used);
}

size_t ws_header(uint8_t to[WS_HEADER_MAX], uint8_t opcode, uint64_t len)
{
	unsigned bytes = len < 126 ? 0 : len < 65536 ? 2 : 8;

	to[0] = 0x80 | opcode;
	to[1] = (uint8_t)(bytes == 2 ? 126 : bytes ? 127 : len);
	for (unsigned i = 0; i < bytes; i++)
		to[2 + i] = (uint8_t)(len >> 8 * (bytes - 1 - i));
	return 2 + bytes;
}

int ws_client_frame(struct buf *to, uint8_t opcode, const uint8_t mask[WS_MASK_BYTES],
		    const void *head, size_t head_len, const void *p, size_t n)
{
	const uint8_t *parts[] = { head, p };
	const size_t sizes[] = { head_len, n };
	uint8_t *at;
	size_t len, done = 0;
	int rc;

	if (n > SIZE_MAX - head_len - WS_HEADER_MAX - WS_MASK_BYTES)
		return -ENOBUFS;
	rc = buf_reserve(to, WS_HEADER_MAX + WS_MASK_BYTES + head_len + n, &at);
	if (rc)
		return rc;
	len = ws_header(at, opcode, head_len + n);
	at[1] |= 0x80;
	memcpy(at + len, mask, WS_MASK_BYTES);
	len += WS_MASK_BYTES;
	for (size_t k = 0; k < 2; k++)
		for (size_t i = 0; i < sizes[k]; i++, done++)
			at[len + done] = parts[k][i] ^ mask[done & 3];
	buf_commit(to, len + done);
	return 0;
}

bool ws_accept(const char *key, char to[WS_ACCEPT_SIZE])
{
	uint8_t digest[SHA1_BYTES];
	char text[WS_KEY_LEN + sizeof(WS_GUID)];
	struct buf bytes = BUF_INIT;
	size_t n = strlen(key);
	bool ok = n == WS_KEY_LEN && !base64_decode(&bytes, key, n) && buf_len(&bytes) == 16;

	buf_reset(&bytes);
	if (ok) {
		memcpy(text, key, n);
		memcpy(text + n, WS_GUID, sizeof(WS_GUID));
		sha1(text, n + sizeof(WS_GUID) - 1, digest);
		ok = !base64_encode(&bytes, digest, sizeof(digest));
	}
	if (ok) {
		memcpy(to, buf_data(&bytes), WS_ACCEPT_SIZE - 1);
		to[WS_ACCEPT_SIZE - 1] = '\0';
	}
	buf_fini(&bytes);
	return ok;
}
