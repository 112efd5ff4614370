/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_BASE_LIST_H
#define MSB_BASE_LIST_H

/* Intrusive circular doubly linked list; an empty head points at itself. */

#include <stdbool.h>

#include "base/mem.h"

struct list {
	struct list *next, *prev;
};

#define LIST_INIT(name) \
	{ \
		&(name), &(name) \
	}

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_insert(struct list *at, struct list *n)
{
	n->prev = at->prev;
	n->next = at;
	at->prev->next = n;
	at->prev = n;
}

/* Appends @n to the list whose head is @head. */
static inline void list_append(struct list *head, struct list *n)
{
	list_insert(head, n);
}

/* Unlinks @n and leaves it empty, so that a second removal is harmless. */
static inline void list_remove(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

#define list_entry(l, type, member) container_of(l, type, member)

/* @pos may be removed inside the loop body; no other entry may. */
#define list_for_each(pos, tmp, head) \
	for (struct list *pos = (head)->next, *tmp = pos->next; pos != (head); \
	     pos = tmp, tmp = pos->next)

#endif
