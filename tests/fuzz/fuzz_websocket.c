/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of a WebSocket's other side: the reader never takes more than it was given, keeps its
 * limits, lets no text through that is not UTF-8, and comes to the same messages however
 * the bytes are cut.  The first byte of the input says how, and its highest bit that they are
 * a server's.
 */
#include <assert.h>
#include <string.h>

#include "codec/websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEXT_MAX 300u

struct outcome {
	uint64_t hash;
	int end; /* 0 or the error */
	unsigned events;
};

static void mix(struct outcome *o, const void *p, size_t n)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++)
		o->hash = (o->hash ^ b[i]) * 1099511628211u;
}

static struct outcome run(struct ws_reader *r, bool client, const uint8_t *p, size_t n, size_t piece)
{
	struct outcome o = { 0 };
	struct utf8_check text = { .n = 0 };
	uint64_t message = 0;
	size_t at = 0, used;

	if (client)
		ws_reader_init_client(r, TEXT_MAX);
	else
		ws_reader_init(r, TEXT_MAX);
	while (at < n) {
		size_t len = n - at < piece ? n - at : piece;
		int rc = ws_reader_feed(r, p + at, len, &used);

		assert(used <= len);
		at += used;
		if (rc < 0) {
			assert(rc >= -1009 && rc <= -1002 && r->reason[0] &&
			       strlen(r->reason) <= WS_CONTROL_MAX - 2);
			o.end = rc;
			break;
		}
		if (rc == WS_EV_MORE) {
			assert(used == len);
			continue;
		}
		assert(used && r->piece_len <= WS_PIECE_MAX);
		if (rc == WS_EV_CONTROL) {
			assert(r->opcode >= WS_CLOSE && r->piece_len <= WS_CONTROL_MAX);
			mix(&o, &r->opcode, 1);
			mix(&o, r->piece, r->piece_len);
			continue;
		}
		assert(r->opcode == WS_TEXT || r->opcode == WS_BINARY);
		message = r->first ? r->piece_len : message + r->piece_len;
		assert(!client || message <= TEXT_MAX);
		if (r->first)
			text = (struct utf8_check){ .n = 0 };
		if (r->opcode == WS_TEXT) {
			assert(message <= TEXT_MAX);
			assert(utf8_check_add(&text, r->piece, r->piece_len));
			assert(!r->last || !text.n);
		}
		if (r->last) {
			o.events++;
			mix(&o, &r->opcode, 1);
			mix(&o, &message, sizeof(message));
		}
	}
	return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct ws_reader r;
	struct outcome whole, cut;
	size_t piece;
	bool client;

	if (!size)
		return 0;
	client = data[0] & 0x80;
	piece = data[0] & 0x7f;
	whole = run(&r, client, data + 1, size - 1, size);
	cut = run(&r, client, data + 1, size - 1, piece ? piece : 1);
	assert(whole.hash == cut.hash && whole.end == cut.end && whole.events == cut.events);
	return 0;
}
