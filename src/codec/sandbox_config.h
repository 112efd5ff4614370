/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_SANDBOX_CONFIG_H
#define MSB_CODEC_SANDBOX_CONFIG_H

/*
 * What a supervisor has to know about its sandbox: plain data, kept as config.json in
 * the sandbox's directory.  Commands (argv, env, user) are not part of it; they come
 * over ctl.sock.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "codec/publish.h"
#include "codec/secret.h"
#include "codec/volume.h"

struct sandbox_config {
	char *name;
	char *image; /* reference as given, for people */
	char *image_path; /* ext4 root image */
	char *kernel, *initramfs;
	char *engine; /* auto, tcg, kvm */
	char *scope; /* none, group, public, any */
	char *group; /* of scope group: its name; else empty or NULL */
	char *group_dir; /* absolute: where its members find each other */
	char *net_log; /* absolute, or "-" for standard error: what was denied goes there, too */
	char *network; /* rules, as in codec/netrule.h; empty or NULL = the scope alone */
	char *jail; /* full, reduced */
	unsigned cpus;
	uint64_t memory_bytes;
	uint64_t disk_bytes; /* size of the upper */
	unsigned boot_timeout_s;
	struct publish_list ports; /* the descriptors come with the supervisor's start */
	struct volume_list volumes; /* host paths looked up and absolute; parents first */
	unsigned volume_timeout_s; /* a file server that is silent for so long is given up */
	/* Of the image's configuration (lib/imageconfig.h). */
	char *image_workdir; /* made if it is missing; "" or NULL = none */
	char *image_user; /* whom volumes that are made belong to; "" or NULL = root */
	char **image_volumes; /* directories, made if they are missing; NULL = none */
	unsigned stop_signal; /* of the sandbox's own command; 0 = SIGTERM */
	/* Never part of config.json: handed down over a descriptor, see lib/launch.h. */
	struct secret_list secrets;
	bool ephemeral; /* ends with its owner's connection; nothing of it is kept */
	bool detached; /* outlives its owner's connection, and whoever holds it */
};

#define SANDBOX_IMAGE_VOLUMES_MAX 256u
#define SANDBOX_VOLUME_TIMEOUT_S 30u
#define SANDBOX_VOLUME_TIMEOUT_MAX_S 86400u

/* Files of a sandbox's directory. */
#define SANDBOX_CONFIG_FILE "config.json"
#define SANDBOX_RUN_DIR "run"
#define SANDBOX_LOG_DIR "log"
#define SANDBOX_CTL_SOCK "run/ctl.sock"
#define SANDBOX_PID_FILE "run/pid"
#define SANDBOX_UPPER_FILE "upper.ext4" /* unless it is ephemeral */
#define SANDBOX_CONFIG_MAX (1u << 20) /* bytes of config.json */

/* Every string is malloc'ed. */
void sandbox_config_fini(struct sandbox_config *c);

/* The text of config.json, malloc'ed. */
int sandbox_config_format(const struct sandbox_config *c, char **text, struct err *e);

/* Reads and validates such a text; *@out is written on success only. */
int sandbox_config_parse(const char *text, size_t len, struct sandbox_config *out, struct err *e);

#endif
