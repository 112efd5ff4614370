/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_PROGRESS_H
#define MSB_IMAGE_PROGRESS_H

/*
 * What a person sees on stderr while an image is made: on a terminal one line that
 * changes, otherwise one line a step.  Nothing with -q.
 */

#include <stdbool.h>
#include <stdint.h>

void progress_init(bool quiet);

enum progress_mode { PROGRESS_QUIET, PROGRESS_LINES, PROGRESS_TTY };
enum progress_mode progress_mode(void);

/* Starts a step: "python: fetching packages". */
void progress_step(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* How far the step is; shown on a terminal only. @total 0 = not known. */
void progress_bytes(uint64_t done, uint64_t total);
void progress_percent(double percent);

/* Ends the line of the last step. */
void progress_end(void);

#endif
