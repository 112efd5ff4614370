/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_LIB_SECRET_VALUE_H
#define MSB_LIB_SECRET_VALUE_H

/* Where the value of a secret comes from on this machine.  No message holds any of it. */

#include "codec/secret.h"

/*
 * Sets the value of a parsed secret from a variable of this process, or from a file.  This process
 * leaves no core dump from then on, nor do those that it starts.
 */
int secret_value_find(struct secret *s, const struct secret_source *from, struct err *e);

/* From that file; one line end behind the value is not part of it. */
int secret_value_read(struct secret *s, const char *path, struct err *e);

#endif
