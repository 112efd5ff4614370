/* SPDX-License-Identifier: Apache-2.0 */
/* A Sandboxfile: any bytes are an error with a place, or sandboxes within their limits. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "codec/sandboxfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_list(const struct sandboxfile_list *l)
{
	assert(l->n <= SANDBOXFILE_LIST_MAX);
	for (size_t i = 0; i < l->n; i++)
		assert(l->v[i] && l->at[i].line);
	assert(!l->v || !l->v[l->n]);
}

static void check_sandbox(const struct sandboxfile_sandbox *s)
{
	assert(sandboxfile_name_valid(s->name) && s->image && s->at.line && s->at.column);
	assert(!s->memory_bytes || s->memory_bytes >= 128u << 20);
	assert(s->cpus <= 16);
	for (unsigned i = 0; i < s->volumes.n; i++)
		assert(s->volumes.v[i].guest[0] == '/' && s->volume_at[i].line);
	for (size_t i = 0; i < s->ports.n; i++)
		assert(s->port_at[i].line);
	for (size_t i = 0; i < s->envs.n; i++)
		assert(strchr(s->envs.v[i], '='));
	for (size_t i = 0; i < s->scripts.n; i++)
		assert(!strchr(s->scripts.v[i].name, '/') && s->scripts.v[i].text);
	check_list(&s->envs);
	check_list(&s->env_file);
	check_list(&s->depends_on);
	check_list(&s->command);
	check_list(&s->secrets);
	assert(s->secrets.n <= 32 && !s->group == !(s->scope && !strcmp(s->scope, "group")));
	for (size_t i = 0; i < s->secrets.n; i++)
		assert(strchr(s->secrets.v[i], '@'));
	check_list(&s->meta.authors);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct sandboxfile_sandbox *order[SANDBOXFILE_SANDBOXES_MAX];
	static struct sandboxfile_notes notes;
	struct err e = ERR_INIT;
	struct sandboxfile *f;
	size_t n;

	if (sandboxfile_parse((const char *)data, size, "F", &f, &notes, &e)) {
		assert(e.code && notes.errors && notes.n);
		return 0;
	}
	assert(!notes.errors && f->n_sandboxes <= SANDBOXFILE_SANDBOXES_MAX);
	for (size_t i = 0; i < f->n_sandboxes; i++)
		check_sandbox(f->sandboxes[i]);
	for (size_t i = 0; i < f->n_builds; i++) {
		assert(f->builds[i]->image && strstr(f->builds[i]->result, f->builds[i]->name));
		check_list(&f->builds[i]->steps);
	}
	assert(!sandboxfile_order(f, NULL, 0, order, &n, NULL) && n == f->n_sandboxes);
	/* Each comes behind what it depends on. */
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < order[i]->depends_on.n; k++) {
			size_t j = 0;

			while (j < i && strcmp(order[j]->name, order[i]->depends_on.v[k]))
				j++;
			assert(j < i);
		}
	sandboxfile_free(f);
	return 0;
}
