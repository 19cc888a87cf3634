/* rules.c - see rules.h */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/page.h"
#include "supervisor/rules.h"

/* The row of a channel, as long as the entry and the settings are those. */
struct place {
	uint32_t gen;      /* the entry's */
	uint32_t settings; /* rules' own count of them */
	uint8_t row;
};

struct rules {
	const struct directory *dir;
	const struct settings *settings;
	uint32_t generation;
	uint64_t key[RULE_ROW_OTHERS]; /* of the first rules */
	uint8_t row[RULE_ROW_OTHERS];
	struct rule_rows rows;
	struct place *place; /* of each entry of the directory; touched when used */
};

int
rules_new(const struct directory *dir, struct rules **ret_rules)
{
	struct rules *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return -ENOMEM;
	r->dir = dir;
	r->place = calloc(dir->max, sizeof(*r->place));
	if (r->place == NULL) {
		rules_free(r);
		return -ENOMEM;
	}
	*ret_rules = r;
	return 0;
}

void
rules_free(struct rules *r)
{
	if (r == NULL)
		return;
	free(r->place);
	free(r);
}

/* How many have a row of their own. */
static size_t
own_rows(const struct rules *r)
{
	size_t n = r->settings->nrules;

	return n < RULE_ROW_OTHERS ? n : RULE_ROW_OTHERS;
}

void
rules_reload(struct rules *r, const struct settings *settings)
{
	r->settings = settings;
	r->generation++;
	for (size_t i = 0; i < own_rows(r); i++)
		r->key[i] = rule_key(settings->rules[i].glob);
	rule_rows_take(&r->rows, r->key, own_rows(r), r->row);
}

static uint8_t
row_of(struct rules *r, uint32_t channel)
{
	const struct directory_entry *e = &r->dir->entry[channel];
	uint32_t gen = atomic_load_explicit(&e->gen, memory_order_relaxed);
	struct place *p = &r->place[channel];

	if (p->gen != gen || p->settings != r->generation) {
		const struct rule *rule =
		    settings_rule(r->settings, e->name, e->name_len);
		size_t i = (size_t)(rule - r->settings->rules);

		p->gen = gen;
		p->settings = r->generation;
		p->row = i < RULE_ROW_OTHERS ? r->row[i] : RULE_ROW_OTHERS;
	}
	return p->row;
}

void
rules_message(struct rules *r, uint32_t channel, size_t len)
{
	uint8_t row = row_of(r, channel);

	rule_add(&r->rows, row, RULE_messages, 1);
	rule_add(&r->rows, row, RULE_message_bytes, len);
}

/* Add what a table has under a key; of all others without one. */
static void
add_rows(const struct rule_rows *t, unsigned row, struct rule_sum *sum)
{
	if (row == RULE_ROWS)
		return; /* that worker has not come to it yet */
	for (int c = 0; c < RULE_COUNTER_COUNT; c++)
		sum->counter[c] += rule_get(t, row, (enum rule_counter)c);
}

static void
sum_row(const struct rules *r, size_t i, struct page *const *pages, unsigned npages,
    struct rule_sum *sum)
{
	memset(sum, 0, sizeof(*sum));
	if (i == RULE_ROW_OTHERS) {
		add_rows(&r->rows, RULE_ROW_OTHERS, sum);
		for (unsigned w = 0; w < npages; w++)
			add_rows(&pages[w]->rules, RULE_ROW_OTHERS, sum);
		return;
	}
	sum->glob = r->settings->rules[i].glob;
	add_rows(&r->rows, r->row[i], sum);
	for (unsigned w = 0; w < npages; w++)
		add_rows(&pages[w]->rules,
		    rule_rows_find(&pages[w]->rules, r->key[i], r->row[i]), sum);
}

unsigned
rules_sum(const struct rules *r, struct page *const *pages, unsigned npages,
    struct rule_sum *ret_sums)
{
	size_t nown = own_rows(r);
	unsigned n = 0;

	for (size_t i = 0; i < nown; i++)
		sum_row(r, i, pages, npages, &ret_sums[n++]);
	if (r->settings->nrules > nown)
		sum_row(r, RULE_ROW_OTHERS, pages, npages, &ret_sums[n++]);
	return n;
}
