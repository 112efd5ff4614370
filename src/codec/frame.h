/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_FRAME_H
#define MSB_CODEC_FRAME_H

/*
 * DOC: The agent wire
 *
 * Purpose: one framed protocol between a client, the supervisor and the guest's
 * agent.  The same frames cross three kinds of byte stream: the virtio-console
 * ports `agent.ctl` and `agent.bulk` (supervisor <-> agent), and ctl.sock
 * (client <-> supervisor).
 *
 * Frame: a fixed little-endian header, then the body.
 *
 *     offset 0   u32  length of the body, at most FRAME_BODY_MAX
 *     offset 4   u32  channel; 0 is the link itself
 *     offset 8   u16  type, enum frame_type
 *     offset 10  u16  flags; of DATA, EOF and CREDIT: the stream
 *
 * Bodies are fixed binary: little-endian integers; a string is a u32 length and
 * its bytes; a list is a u32 count, a u32 byte length and that many bytes of
 * strings.  The tables in frame.c are the definition.  Messages are append-only:
 * a newer peer may add fields at the end, which an older one ignores; fields that
 * an older peer does not send read as zero.
 *
 * Link: the host opens with HELLO, which names the protocol versions it speaks,
 * and carries a generation (a random number for this connection), the wall clock
 * and fresh entropy.  The agent answers HELLO_ACK with the same generation.  Until
 * then each side discards what it receives, so that a partial frame or a reply
 * left over from an earlier connection can do no harm: frame_sync() finds the
 * hello in the bytes.  A HELLO at any later time starts the link afresh: every
 * channel of the old one is gone.
 *
 * Channels: the host side opens a channel by sending a request (EXEC, REPL_RUN,
 * FILE_*, METRICS, PING) on a number not in use.  The answer that closes the channel is
 * ERROR or the request's own last message (EXEC_EXIT, REPL_DONE, FILE_DONE,
 * METRICS_REPLY, PONG, NET_STATE).  CLOSE from the host abandons the channel: its processes are
 * killed, nothing more is sent on it but that last message.  The number is free
 * again when the last message has been seen.
 *
 * Flow control: each stream of a channel (STREAM_IN towards the guest, STREAM_OUT,
 * STREAM_ERR and STREAM_RESULT from it) starts with a window of FRAME_WINDOW bytes.  DATA uses it
 * up, CREDIT gives back; neither is ever of no bytes, and EOF comes once.  Whoever
 * sends more than the window is broken: the receiver ends the channel (or the link).
 * So a reader that stops holds up its own stream and nothing else, and the memory a
 * peer can make us use is bounded.
 *
 * Trust boundary: both ends treat the other as hostile.  Every length is checked
 * against the frame, and the frame against its maximum, before anything is read.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define FRAME_HEADER_SIZE 12u
#define FRAME_BODY_MAX (256u * 1024)
#define FRAME_DATA_MAX (32u * 1024) /* body of a DATA frame: keeps other channels prompt */
#define FRAME_WINDOW (256u * 1024) /* initial window of a stream, bytes */
#define FRAME_WINDOW_MAX (1024u * 1024) /* largest window that CREDIT may build up */
#define FRAME_CHANNELS_MAX 256u /* channels open at once on one link */
#define FRAME_PING_MAX 64u
#define FRAME_VERSION 1u
#define FRAME_NAME_MAX 255u /* bytes of a name, a MIME type, a note */
#define FRAME_MAGIC "MSBWIRE1"
#define FRAME_MAGIC_SIZE 8u
#define FRAME_ENTROPY_SIZE 64u

enum frame_type {
	/* the link */
	FRAME_HELLO = 1, /* host -> agent, channel 0 */
	FRAME_HELLO_ACK = 2, /* agent -> host, channel 0 */
	FRAME_ERROR = 3, /* ends a channel; on channel 0: ends the link */
	/*
	 * The body, at most FRAME_PING_MAX bytes, comes back as PONG on the same channel: on
	 * channel 0 from the other end of the link, on another (a request) from the agent.
	 */
	FRAME_PING = 4,
	FRAME_PONG = 5,
	/* any channel with streams; flags = enum frame_stream */
	FRAME_DATA = 16, /* raw bytes, 1 to FRAME_DATA_MAX */
	FRAME_EOF = 17, /* no more DATA on this stream */
	FRAME_CREDIT = 18, /* the receiver of the stream took this many bytes */
	FRAME_CLOSE = 19, /* host -> agent: abandon the channel */
	/* the machine */
	FRAME_CONFIGURE = 32, /* host -> agent, channel 0, once, before any request */
	FRAME_CONFIGURED = 33, /* agent -> host, channel 0: mounts and network are up */
	FRAME_CLOCK = 34, /* host -> agent, channel 0: set the wall clock */
	FRAME_METRICS = 35,
	FRAME_METRICS_REPLY = 36,
	FRAME_SHUTDOWN = 37, /* host -> agent, channel 0; the VM ends */
	/* processes */
	FRAME_EXEC = 48,
	FRAME_EXEC_STARTED = 49,
	FRAME_EXEC_RESIZE = 50, /* host -> agent: window size of the pty */
	FRAME_EXEC_SIGNAL = 51, /* host -> agent */
	FRAME_EXEC_EXIT = 52,
	/* interpreters */
	FRAME_REPL_RUN = 64, /* code follows as DATA on STREAM_IN, then EOF */
	FRAME_REPL_DONE = 65,
	FRAME_REPL_RESULT = 66, /* its data follows as DATA on STREAM_RESULT */
	/* files; on agent.bulk */
	FRAME_FILE_READ = 80, /* content comes as DATA on STREAM_OUT, EOF, FILE_DONE */
	FRAME_FILE_WRITE = 81, /* content follows as DATA on STREAM_IN, then EOF */
	FRAME_FILE_LIST = 82, /* struct frame_dirent records on STREAM_OUT, EOF, FILE_DONE */
	FRAME_FILE_STAT = 83,
	FRAME_FILE_MKDIR = 84,
	FRAME_FILE_REMOVE = 85,
	FRAME_FILE_RENAME = 86,
	FRAME_FILE_DONE = 87,
	/* the supervisor itself; on ctl.sock only, never sent to the guest */
	FRAME_SANDBOX_STATE = 128, /* supervisor -> client, channel 0, at each change */
	FRAME_SANDBOX_STOP = 129, /* client -> supervisor, channel 0 */
	FRAME_NET_GET = 130, /* client -> supervisor, a request: no body, answered NET_STATE */
	FRAME_NET_SET = 131, /* the same with other rules */
	FRAME_NET_STATE = 132, /* what holds from now on */
	/*
	 * client -> supervisor, channel 0.  A sandbox with a disk of its own that is not detached
	 * ends when nobody holds it.  Who lets go is told the state again: READY if others hold
	 * it, STOPPING if not.
	 */
	FRAME_SANDBOX_HOLD = 140,
};

enum frame_stream {
	STREAM_IN = 0,
	STREAM_OUT = 1,
	STREAM_ERR = 2,
	STREAM_RESULT = 3, /* only of a REPL_RUN with REPL_RESULTS */
	STREAM_COUNT = 4,
};

enum frame_link { LINK_CTL = 0, LINK_BULK = 1, LINK_CLIENT = 2, LINK_FUSE = 3 };

struct frame {
	uint32_t channel;
	uint16_t type;
	uint16_t flags;
	uint32_t len;
	const uint8_t *body; /* points into the caller's bytes */
};

/* Bytes inside a frame's body, not NUL-terminated. Strings hold no NUL byte. */
struct frame_str {
	const uint8_t *p;
	uint32_t len;
};

/* An encoded list of strings; read with frame_list_next(), built with frame_list_add(). */
struct frame_list {
	const uint8_t *p;
	uint32_t len, count;
};

struct frame_hello {
	uint8_t magic[FRAME_MAGIC_SIZE];
	uint16_t version, version_min; /* newest and oldest protocol spoken */
	uint8_t link; /* enum frame_link: is this the right pipe? */
	uint64_t generation;
	uint64_t realtime_ns; /* CLOCK_REALTIME of the host; 0 = leave the clock alone */
	uint8_t entropy[FRAME_ENTROPY_SIZE];
};

struct frame_hello_ack {
	uint8_t magic[FRAME_MAGIC_SIZE];
	uint16_t version; /* the one spoken from now on */
	uint8_t link;
	uint64_t generation;
	struct frame_str build; /* peer's version string, for people */
};

struct frame_error {
	uint32_t code; /* Linux errno number */
	struct frame_str message;
};

struct frame_credit {
	uint32_t bytes;
};

enum frame_configure_flags {
	CONFIGURE_UPPER = 1,
	CONFIGURE_NETWORK = 2,
	CONFIGURE_IPV6 = 4, /* with the addresses of codec/netaddr.h */
};

struct frame_configure {
	uint32_t flags; /* enum frame_configure_flags */
	struct frame_str hostname;
	uint32_t ipv4_addr, ipv4_gateway, ipv4_dns; /* host byte order, 10.0.2.15 = 0x0a00020f */
	uint8_t ipv4_prefix;
	uint16_t mtu; /* 0 = the device's own */
	struct frame_list hosts; /* further lines of /etc/hosts */
	/*
	 * What is mounted, parents first.  FRAME_VOLUME_STRINGS strings each: kind ("dir", "file",
	 * "tmpfs"), mode ("ro", "rw"), a number (of dir and file: on the port agent.fuse; of
	 * tmpfs: its size in bytes, 0 = the kernel's default), owner (a user, or empty), path
	 */
	struct frame_list volumes;
	uint32_t volume_timeout_ms; /* silence of the file server after which volumes are given up */
	/*
	 * What the image's configuration names, made if it is missing.  FRAME_DIRECTORY_STRINGS
	 * strings each: owner (a user, or empty: root), path
	 */
	struct frame_list directories;
	uint32_t stop_signal; /* what SHUTDOWN sends to EXEC_COMMAND; 0 = SIGTERM */
};

#define FRAME_VOLUME_STRINGS 5u
#define FRAME_DIRECTORY_STRINGS 2u

struct frame_configured {
	uint64_t uptime_ns; /* CLOCK_BOOTTIME when the agent was ready */
	struct frame_str kernel; /* uname -r */
};

struct frame_clock {
	uint64_t realtime_ns;
};

struct frame_metrics_reply {
	uint64_t uptime_ns;
	uint64_t cpu_user_ns, cpu_system_ns, cpu_idle_ns; /* sums over all CPUs since boot */
	uint32_t cpus;
	uint64_t mem_total, mem_available; /* bytes */
	uint64_t disk_total, disk_available; /* bytes, of the root file system's upper */
	uint64_t disk_files_total, disk_files_free;
	uint32_t processes; /* user processes: the agent and kernel threads are not counted */
	uint32_t load1_milli;
	uint64_t net_rx_bytes, net_tx_bytes;
};

/* A number of a guest, who may send any, as a signed one for programs. */
static inline int64_t frame_metrics_number(uint64_t v)
{
	return v > INT64_MAX ? INT64_MAX : (int64_t)v;
}

/* What is in use; a guest may also say that more is left than there is. */
static inline int64_t frame_metrics_used(uint64_t total, uint64_t available)
{
	return total > available ? frame_metrics_number(total - available) : 0;
}

struct frame_shutdown {
	uint32_t grace_ms; /* between SIGTERM and SIGKILL to all processes */
};

enum frame_exec_flags {
	EXEC_TTY = 1, /* a pty is the controlling terminal; output on STREAM_OUT only */
	EXEC_STDIN = 2, /* STREAM_IN is the standard input; else /dev/null */
	EXEC_COMMAND = 4, /* the sandbox's own command: SHUTDOWN sends it CONFIGURE's stop_signal */
};

struct frame_exec {
	uint32_t flags;
	uint64_t timeout_ms; /* 0 = none; then SIGKILL to the whole session */
	uint16_t rows, cols; /* of the pty */
	struct frame_str cwd; /* absolute; empty = "/" */
	struct frame_str user; /* "", name, uid, name:group, uid:gid; empty = root */
	struct frame_list argv; /* argv[0] is looked up in env's PATH if it has no '/' */
	struct frame_list env; /* K=V; HOME, PATH are added if absent */
	struct frame_list rlimits; /* "nofile=soft:hard", numbers or "unlimited" */
};

struct frame_exec_started {
	uint32_t pid; /* in the guest */
};

struct frame_exec_resize {
	uint16_t rows, cols;
};

struct frame_exec_signal {
	uint32_t signal; /* Linux x86-64 number */
	uint8_t group; /* 1 = the foreground process group, 0 = the process */
};

enum frame_exit_reason { EXIT_EXITED = 0, EXIT_SIGNALED = 1, EXIT_TIMEOUT = 2 };

struct frame_exec_exit {
	uint8_t reason; /* enum frame_exit_reason */
	uint32_t status; /* exit status 0-255, or the signal's number */
	uint64_t wall_ns, cpu_user_ns, cpu_system_ns;
	uint64_t max_rss_bytes;
};

enum frame_repl_flags {
	REPL_RESULTS = 1, /* the client takes REPL_RESULT and STREAM_RESULT */
};

struct frame_repl_run {
	struct frame_str language; /* "python", "node" (also "nodejs", "javascript"), "sh" */
	uint64_t timeout_ms; /* 0 = none */
	uint64_t code_len; /* bytes of DATA to come, at most FRAME_REPL_CODE_MAX */
	struct frame_str user; /* as in frame_exec; one interpreter per language and user */
	struct frame_str cwd; /* where the interpreter starts */
	struct frame_list env; /* of the interpreter when it starts */
	uint32_t flags; /* enum frame_repl_flags */
};

#define FRAME_REPL_CODE_MAX (16u * 1024 * 1024)
#define FRAME_RESULTS_MAX 64u /* REPL_RESULT messages of a call */
#define FRAME_RESULTS_BYTES (8u * 1024 * 1024) /* of their data together */
#define FRAME_RESULT_HEAD_MAX (4u + FRAME_NAME_MAX + 8u + 4u + FRAME_NAME_MAX) /* a body */

enum frame_repl_status {
	REPL_OK = 0,
	REPL_EXCEPTION = 1, /* the code raised; its report was written to STREAM_ERR */
	REPL_TIMEOUT = 2, /* interrupted; see state_lost */
	REPL_EXITED = 3, /* the interpreter ended, by itself or not; state is lost */
};

struct frame_repl_done {
	uint8_t status; /* enum frame_repl_status */
	uint8_t state_lost; /* 1 = the next call starts a fresh interpreter */
	uint32_t exit_code; /* of REPL_EXITED: 0-255, or 128 + signal; of sh: the code's status */
	uint64_t wall_ns;
};

/*
 * A value or picture that the code produced, apart from what it printed.  The next one, or
 * REPL_DONE, ends it; with less data than announced it was lost on the way.
 */
struct frame_repl_result {
	struct frame_str mime; /* "image/png" */
	uint64_t size; /* bytes of DATA that follow on STREAM_RESULT */
	struct frame_str note; /* why there is no data, one line for a person; else empty */
};

enum frame_file_flags {
	FILE_PARENTS = 1, /* MKDIR, WRITE: make missing parent directories */
	FILE_APPEND = 2, /* WRITE: at the end, instead of replacing the file */
	FILE_EXCL = 4, /* WRITE: the file must not exist */
	FILE_RECURSIVE = 8, /* REMOVE: directories with all they hold */
	FILE_FOLLOW = 16, /* STAT: follow a symbolic link at the end of the path */
};

/* FILE_READ, FILE_WRITE, FILE_LIST, FILE_STAT, FILE_MKDIR, FILE_REMOVE, FILE_RENAME */
struct frame_file {
	uint32_t flags;
	struct frame_str path; /* absolute */
	struct frame_str user; /* as whom; empty = root */
	uint32_t mode; /* of what is made; permission bits */
	uint64_t offset, length; /* READ: length 0 = to the end */
	struct frame_str to; /* RENAME: absolute */
};

struct frame_file_done {
	uint32_t mode; /* type and permission bits, as st_mode */
	uint32_t uid, gid;
	uint64_t size;
	uint64_t mtime_ns;
	uint64_t inode, nlink;
	struct frame_str target; /* of a symbolic link */
};

/* One entry of FILE_LIST; a stream of these records, each after its u32 length. */
struct frame_dirent {
	struct frame_str name;
	uint32_t mode, uid, gid;
	uint64_t size, mtime_ns;
};

enum sandbox_state {
	SANDBOX_STARTING = 0, /* processes are being started */
	SANDBOX_BOOTING = 1, /* the VM runs, the agent has not answered */
	SANDBOX_READY = 2,
	SANDBOX_STOPPING = 3,
	SANDBOX_STOPPED = 4, /* detail says why */
};

struct frame_sandbox_state {
	uint8_t state;
	struct frame_str engine; /* "tcg", "kvm" */
	struct frame_str isolation; /* "emulated", "hardware" */
	struct frame_str detail; /* of STOPPED: the reason, one line; else empty */
	uint32_t code; /* of STOPPED: 0 as asked, else an errno */
	uint64_t boot_ns; /* of READY: exec() of the VM process to CONFIGURED */
};

struct frame_sandbox_stop {
	uint32_t grace_ms; /* then the VM process is killed */
};

struct frame_net_set {
	struct frame_str rules; /* all that hold from now on, as in codec/netrule.h */
};

struct frame_net_state {
	struct frame_str scope;
	struct frame_str group; /* empty = none */
	struct frame_str rules;
	uint8_t closed; /* 1 = started with nothing open: it has no way out that rules could open */
	struct frame_list counters; /* "NAME NUMBER"; see docs/network.md */
	struct frame_list members; /* "NAME ADDRESS" of the others in the group */
};

struct frame_sandbox_hold {
	uint8_t hold; /* 0 = let go */
};

/**
 * frame_parse() - the first frame in some bytes
 * @p, @n: received bytes
 * @out:   the frame; its body points into @p
 *
 * Return: bytes the frame takes; 0 if more are needed; -EPROTO if no frame can
 * begin with these bytes (body over FRAME_BODY_MAX, or DATA over FRAME_DATA_MAX).
 */
int frame_parse(const uint8_t *p, size_t n, struct frame *out);

/**
 * frame_sync() - look for a hello among bytes of unknown origin
 * @type: FRAME_HELLO or FRAME_HELLO_ACK
 *
 * Return: how many bytes to discard.  What remains is empty or begins with
 * (perhaps the beginning of) a hello's header and magic.
 */
size_t frame_sync(const uint8_t *p, size_t n, uint16_t type);

/**
 * frame_encode() - append a message as one frame
 * @msg: the struct that belongs to @type (see the table in frame.c); ignored for
 *       types without a body
 *
 * Return: 0; -EMSGSIZE if the body would pass FRAME_BODY_MAX, a field its limit, or a
 * string or list is one that the peer would refuse (NUL byte, wrong count); -EINVAL for
 * an unknown @type; -ENOBUFS or -ENOMEM from the buffer.  On failure @b is as it was.
 */
int frame_encode(struct buf *b, uint32_t channel, uint16_t type, uint16_t flags, const void *msg);

/* Writes a frame's header to @p[0, FRAME_HEADER_SIZE): for a body that is read in place. */
void frame_header_put(uint8_t *p, size_t len, uint32_t channel, uint16_t type, uint16_t flags);

/* Appends a frame with a raw body: DATA, PING, PONG. */
int frame_encode_raw(struct buf *b, uint32_t channel, uint16_t type, uint16_t flags,
		     const void *body, size_t len);

/**
 * frame_decode() - read a frame's body
 * @msg: struct of the frame's type, @msg_size bytes; strings point into the body
 *
 * Return: 0; -EPROTO if the body is malformed; -ENOTSUP if the type has no struct
 * of this size.
 */
int frame_decode(const struct frame *f, void *msg, size_t msg_size);

/* Is this a type that this version knows? */
bool frame_type_known(uint16_t type);

/* Is this the last message of a channel, after which its number is free again? */
bool frame_type_ends_channel(uint16_t type);

/* "EXEC", …, or "?" */
const char *frame_type_name(uint16_t type);

/* Takes the next string off @l. Return: false at the end. */
bool frame_list_next(struct frame_list *l, struct frame_str *out);

/* Appends a string to a list under construction in @b. */
int frame_list_add(struct buf *b, struct frame_list *l, const void *p, size_t n);

/* Binds the list to the bytes that frame_list_add() collected; @b must outlive it. */
void frame_list_end(const struct buf *b, struct frame_list *l);

/* One directory entry of FILE_LIST, see struct frame_dirent. */
int frame_encode_dirent(struct buf *b, const struct frame_dirent *d);

/* Return: bytes taken, 0 = more are needed, -EPROTO. */
int frame_decode_dirent(const uint8_t *p, size_t n, struct frame_dirent *out);

/* Is it "type/subtype", as RFC 6838 has them, without parameters? */
bool frame_mime_valid(const struct frame_str *mime);

/*
 * Is data of this type text, in UTF-8: text/..., .../json, .../xml, .../javascript,
 * ...+json, ...+xml?  The rest are bytes.
 */
bool frame_mime_is_text(const struct frame_str *mime);

/*
 * The head of an entry in an interpreter's results: a u32 length, at most
 * FRAME_RESULT_HEAD_MAX, and so many bytes, the body of a REPL_RESULT.
 *
 * Return: bytes taken, or -EPROTO if that is not what is there, or the type is none.
 */
int frame_decode_result(const uint8_t *p, size_t n, struct frame_repl_result *out);

static inline struct frame_str frame_str_of(const char *s)
{
	return (struct frame_str){ (const uint8_t *)s, s ? (uint32_t)__builtin_strlen(s) : 0 };
}

/* Copies to a NUL-terminated string. Return: 0, or -ENAMETOOLONG. */
int frame_str_copy(const struct frame_str *s, char *to, size_t size);

bool frame_str_is(const struct frame_str *s, const char *text);

#endif
