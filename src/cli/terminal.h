/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_TERMINAL_H
#define MSB_CLI_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>

/* Is the person at a terminal with both their input and our output? */
bool terminal_interactive(void);

/* Raw mode on standard input; put back by terminal_restore(), and at exit in any case. */
void terminal_raw(void);
void terminal_restore(void);

/* Window size of the terminal; 24 x 80 if it cannot be told. */
void terminal_size(uint16_t *rows, uint16_t *cols);

/*
 * One line of progress on stderr, replaced by the next; nothing at all if stderr is no
 * terminal.
 */
void terminal_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void terminal_progress_end(void);

#endif
