/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_PROMETHEUS_H
#define MSB_SERVER_PROMETHEUS_H

/* The server's own figures in Prometheus' text format 0.0.4. */

#include "base/buf.h"
#include "server/internal.h"

int prometheus_text(const struct server *s, struct buf *out);

#endif
