/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_ASSEMBLE_H
#define MSB_IMAGE_ASSEMBLE_H

/*
 * DOC: The assembler: the archives of packages to one layer
 *
 * Purpose.  Reads any number of tars one after the other and writes one: without
 * what the recipe leaves out, in Debian's merged-/usr layout (/bin, /sbin, /lib*
 * become links into /usr), each directory once, owners as numbers, with the files,
 * links and directories that the recipe adds at the end.
 *
 * Spec.  Debian policy 9.1; dpkg(1) --path-exclude.
 *
 * Trust boundary.  Packages were verified by apt, which trusts the distribution; the
 * child is jailed all the same.  Descriptors: 0 the tars, 3 the output, 4 reports
 * (struct convert_report), 5 the recipe's text (a copy without rules: nothing is
 * left out or added).
 *
 * Same input, same bytes: no clock, no order but that of the input.
 */

#include <stdbool.h>

#include "base/err.h"
#include "sys/child.h"

struct assemble_job {
	int in; /* readable end of a pipe, or a file */
	int out; /* empty file */
	const char *recipe; /* text; NULL = copy as it is */
	bool gzip;
};

/* Starts the assembler; *@report is to be given to assemble_finish(). */
int assemble_start(const struct assemble_job *job, struct child *child, int *report, struct err *e);

/* Waits for its end. */
int assemble_finish(struct child *child, int report, struct err *e);

/* What the child does; called by main() for `msb-image assemble`. Return: exit status. */
int assemble_main(int argc, char **argv);

#endif
