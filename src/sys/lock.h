/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SYS_LOCK_H
#define MSB_SYS_LOCK_H

/**
 * lock_wait() - flock(2), for a bounded time
 * @operation:  LOCK_EX or LOCK_SH
 * @timeout_ms: 0 = do not wait at all
 *
 * For programs with one thread: it uses SIGALRM while it waits.
 * Return: 0; -EBUSY: somebody else still has it; another negative errno.
 */
int lock_wait(int fd, int operation, unsigned timeout_ms);

#endif
