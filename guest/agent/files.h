/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_AGENT_FILES_H
#define MSB_AGENT_FILES_H

#include <limits.h>

#include "agent/agent.h"

/* FRAME_FILE_*: starts a helper and opens the channel for it, or answers ERROR. */
void files_open(struct link *l, const struct frame *f);

/* FRAME_METRICS (metrics.c) */
void metrics_open(struct link *l, const struct frame *f);

#define FILE_SHOWN_MAX 512 /* of a path in a message: its end */

/* A request in the form that the helper gets it. */
struct file_job {
	uint16_t type; /* FRAME_FILE_* */
	const char *what; /* "read" */
	uint32_t flags, mode;
	uint64_t offset, length;
	char path[PATH_MAX], to[PATH_MAX];
	char shown[FILE_SHOWN_MAX + 4];
	char user[512];
	int in_fd; /* WRITE: pipe with the content; else -1 */
	int out_fd; /* READ, LIST: pipe for it; else -1 */
	int proc_fd; /* the kernel's own /proc, or -1 */
};

struct file_result {
	struct err err; /* code 0 = success */
	struct frame_file_done done; /* without target */
	uint32_t target_len;
	char target[PATH_MAX];
};

/* In the helper (file_helper.c): becomes the user, does the job. */
void file_helper_run(const struct file_job *job, struct file_result *result);

#endif
