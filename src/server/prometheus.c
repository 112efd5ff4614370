/* SPDX-License-Identifier: Apache-2.0 */
#include "server/prometheus.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/box.h"

static int prometheus_add(struct buf *out, const char *name, const char *type, const char *help,
			  double value)
{
	char text[512];
	int n = snprintf(text, sizeof(text), "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help,
			 name, type, name, value);

	return buf_append(out, text, (size_t)n);
}

static double prometheus_resident(void)
{
	unsigned long size, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (!f)
		return 0;
	if (fscanf(f, "%lu %lu", &size, &resident) != 2)
		resident = 0;
	fclose(f);
	return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

int prometheus_text(const struct server *s, struct buf *out)
{
	const struct server_counters *n = &s->count;
	const struct {
		const char *name, *type, *help;
		double value;
	} rows[] = {
		{ "msb_uptime_seconds", "gauge", "Time since the server started.",
		  (double)(loop_now_ns() - s->started_ns) / 1e9 },
		{ "msb_connections", "gauge", "Open client connections.", s->n_conns },
		{ "msb_connections_total", "counter", "Connections accepted.",
		  (double)n->connections },
		{ "msb_connections_refused_total", "counter", "Connections refused at the limit.",
		  (double)n->refused },
		{ "msb_unread_bytes", "gauge", "Of answers, what clients have not taken.",
		  (double)s->unread_bytes },
		{ "msb_dropped_answers_total", "counter",
		  "Connections broken off because all together had too much unread.",
		  (double)n->dropped_answers },
		{ "msb_http_requests_total", "counter", "Complete HTTP requests.",
		  (double)n->requests },
		{ "msb_http_bad_requests_total", "counter", "Malformed or too slow requests.",
		  (double)n->bad_requests },
		{ "msb_denied_total", "counter", "Requests and calls without the right to be made.",
		  (double)n->denied },
		{ "msb_rpc_calls_total", "counter", "JSON-RPC calls.", (double)n->calls },
		{ "msb_rpc_failed_calls_total", "counter", "JSON-RPC calls answered by an error.",
		  (double)n->failed_calls },
		{ "msb_mcp_sessions", "gauge", "Sessions of MCP clients.", s->n_mcp_sessions },
		{ "msb_streams", "gauge",
		  "Files and programs whose bytes are passed on as they come.", s->n_streams },
		{ "msb_streams_total", "counter", "The same, since the start.", (double)n->streams },
		{ "msb_stream_received_bytes_total", "counter",
		  "Bytes passed on from clients to sandboxes.", (double)n->stream_in_bytes },
		{ "msb_stream_sent_bytes_total", "counter",
		  "Bytes passed on from sandboxes to clients.", (double)n->stream_out_bytes },
		{ "msb_sandboxes", "gauge", "Sandboxes that exist.", s->n_boxes },
		{ "msb_sandbox_starts_total", "counter", "Sandboxes started.", (double)n->started },
		{ "msb_sandbox_start_failures_total", "counter",
		  "Sandboxes that could not be started.", (double)n->start_failures },
		{ "process_resident_memory_bytes", "gauge", "Resident memory of the server.",
		  prometheus_resident() },
	};
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows) && !rc; i++)
		rc = prometheus_add(out, rows[i].name, rows[i].type, rows[i].help, rows[i].value);
	return rc;
}
