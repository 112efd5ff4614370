/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/print_json.h"

#include <stdio.h>

#include "cli/cli.h"

int print_json(json_t *j)
{
	int bad = !j || json_dumpf(j, stdout, JSON_INDENT(2)) || putchar('\n') == EOF ||
		  fflush(stdout) == EOF;

	json_decref(j);
	if (!bad)
		return CLI_OK;
	cli_error("cannot print it as JSON");
	return CLI_FAILED;
}
