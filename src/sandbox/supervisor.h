/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SANDBOX_SUPERVISOR_H
#define MSB_SANDBOX_SUPERVISOR_H

#include "base/err.h"

/**
 * supervisor_main() - `msb supervise`: run one sandbox from start to end
 * @dirfd:    its directory, locked (flock) by whoever made it; holds config.json.
 *            Taken over.
 * @dir_path: the same, for removing it at the end and for messages
 * @owner_fd: a connected socket whose end ends an ephemeral sandbox, or -1. Taken over.
 * @ports_fd: the first of the bound sockets of config.json's ports, in their order, or -1.
 *            Taken over.
 * @secrets_fd: what msb-net gets as --secrets-fd, or -1. Taken over, and not read.
 *
 * Return: exit status: 0 if the sandbox ended as asked.
 */
int supervisor_main(int dirfd, const char *dir_path, int owner_fd, int ports_fd, int secrets_fd);

#endif
