/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Sessions of MCP over HTTP
 *
 * A session holds what initialize negotiated and the calls that run, so that a later
 * request can cancel them.  Its id is 128 random bits and works only with the key that it
 * was made with.  Nothing in a sandbox depends on it: sandboxes are the namespace's.
 *
 * Limits: MCP_SESSIONS_MAX, and of one key MCP_SESSIONS_KEY_MAX, so that a client that
 * forgets its sessions does not end those of others.  The longest unused one makes room;
 * its client gets 404 and initializes again.  One that is not used for MCP_SESSION_IDLE_MS
 * ends.  A session in which a call runs is in use.
 */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/token.h"
#include "server/mcp.h"

#define MCP_SESSIONS_MAX 1024u
#define MCP_SESSIONS_KEY_MAX 256u
#define MCP_SESSION_IDLE_MS (30u * 60 * 1000)

static void mcp_session_sweep(struct loop_timer *t)
{
	struct server *s = container_of(t, struct server, mcp_timer);
	uint64_t now = loop_now_ns(), life = MCP_SESSION_IDLE_MS * 1000000ull;

	list_for_each (pos, tmp, &s->mcp_sessions) {
		struct mcp_session *m = list_entry(pos, struct mcp_session, link);

		if (now - m->used_ns < life) {
			loop_timer_set(s->loop, t, (life - (now - m->used_ns)) / 1000000 + 1);
			return;
		}
		if (list_empty(&m->peer.exchanges)) {
			mcp_session_end(m);
		} else {
			m->used_ns = now;
			list_remove(&m->link);
			list_append(&s->mcp_sessions, &m->link);
		}
	}
	/* Those that are left have just been used. */
	if (!list_empty(&s->mcp_sessions))
		loop_timer_set(s->loop, t, MCP_SESSION_IDLE_MS);
}

void mcp_sessions_init(struct server *s)
{
	list_init(&s->mcp_sessions);
	loop_timer_init(&s->mcp_timer, mcp_session_sweep);
}

void mcp_sessions_fini(struct server *s)
{
	list_for_each (pos, tmp, &s->mcp_sessions)
		mcp_session_end(list_entry(pos, struct mcp_session, link));
	loop_timer_cancel(&s->mcp_timer);
}

static bool mcp_session_is_of(const struct mcp_session *m, const struct principal *who)
{
	return !strcmp(m->peer.who.ns, who->ns) && !strcmp(m->peer.who.key, who->key);
}

/* Makes room for one more. */
static void mcp_session_evict(struct server *s, const struct principal *who)
{
	struct mcp_session *oldest = NULL, *own = NULL;
	unsigned n = 0;

	list_for_each (pos, tmp, &s->mcp_sessions) {
		struct mcp_session *m = list_entry(pos, struct mcp_session, link);
		bool mine = mcp_session_is_of(m, who);

		n += mine;
		/* One that works is not ended for one that may never. */
		if (!list_empty(&m->peer.exchanges))
			continue;
		if (!oldest)
			oldest = m;
		if (mine && !own)
			own = m;
	}
	if (n >= MCP_SESSIONS_KEY_MAX && own)
		mcp_session_end(own);
	else if (s->n_mcp_sessions >= MCP_SESSIONS_MAX && oldest)
		mcp_session_end(oldest);
}

struct mcp_session *mcp_session_create(struct server *s, const struct principal *who,
				       enum mcp_version version)
{
	struct mcp_session *m;
	uint8_t random[16];

	mcp_session_evict(s, who);
	if (s->n_mcp_sessions >= MCP_SESSIONS_MAX ||
	    getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random) ||
	    !(m = calloc(1, sizeof(*m))))
		return NULL;
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(m->id + 2 * i, 3, "%02x", random[i]);
	mcp_peer_init(&m->peer, s, who, version);
	m->peer.initialized = true;
	m->used_ns = loop_now_ns();
	list_append(&s->mcp_sessions, &m->link);
	s->n_mcp_sessions++;
	if (!s->mcp_timer.at_ns)
		loop_timer_set(s->loop, &s->mcp_timer, MCP_SESSION_IDLE_MS);
	return m;
}

struct mcp_session *mcp_session_find(struct server *s, const struct principal *who, const char *id)
{
	if (strlen(id) != MCP_SESSION_ID_SIZE - 1)
		return NULL;
	list_for_each (pos, tmp, &s->mcp_sessions) {
		struct mcp_session *m = list_entry(pos, struct mcp_session, link);

		if (!token_equal(m->id, id, MCP_SESSION_ID_SIZE - 1) || !mcp_session_is_of(m, who))
			continue;
		m->used_ns = loop_now_ns();
		list_remove(&m->link);
		list_append(&s->mcp_sessions, &m->link);
		return m;
	}
	return NULL;
}

static void mcp_session_free(struct corpse *c)
{
	free(container_of(c, struct mcp_session, corpse));
}

void mcp_session_end(struct mcp_session *m)
{
	struct server *s = m->peer.server;

	list_remove(&m->link);
	s->n_mcp_sessions--;
	while (!list_empty(&m->peer.exchanges))
		mcp_exchange_abort(list_entry(m->peer.exchanges.next, struct mcp_exchange, link),
				   404, "Session not found: it has ended");
	server_bury(s, &m->corpse, mcp_session_free);
}
