/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_GUARD_H
#define MSB_IMAGE_GUARD_H

/*
 * Cleaning up after an interrupt.  The work runs in a child; if a signal ends that
 * (Ctrl-C, a termination, a crash), this process waits for all that it had started,
 * cleans up, and ends by the same signal.
 */

/* Return: what @work returned; 1 if it was killed by a signal that does not end us too. */
int guard_run(int (*work)(void *arg), void *arg, void (*clean)(void));

#endif
