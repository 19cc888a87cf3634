/* rulerows.c - see rulerows.h */
#include <stdbool.h>

#include "shm/rulerows.h"

static const char *const names[RULE_COUNTER_COUNT] = {
#define X(name, help) #name,
    RULE_COUNTERS(X)
#undef X
};

static const char *const helps[RULE_COUNTER_COUNT] = {
#define X(name, help) help,
    RULE_COUNTERS(X)
#undef X
};

const char *
rule_counter_name(enum rule_counter c)
{
	return names[c];
}

const char *
rule_counter_help(enum rule_counter c)
{
	return helps[c];
}

/* FNV-1a. The globs are the operator's own: nobody looks for two of one key. */
uint64_t
rule_key(const char *glob)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *glob != '\0'; glob++)
		h = (h ^ (uint8_t)*glob) * UINT64_C(0x100000001b3);
	return h != 0 ? h : 1;
}

static uint64_t
key_of(const struct rule_rows *t, unsigned row)
{
	return atomic_load_explicit(&t->row[row].key, memory_order_acquire); /* K1 */
}

/*
 * K0 key = 0, then the counters
 * K1 the counters, then the new key  |  K1 key, then the counters
 *    Whoever saw a key sees no count that is older than it.
 */
static void
row_give(struct rule_rows *t, unsigned row, uint64_t key)
{
	atomic_store_explicit(&t->row[row].key, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release); /* K0 */
	for (int c = 0; c < RULE_COUNTER_COUNT; c++)
		atomic_store_explicit(&t->row[row].counter[c], 0, memory_order_relaxed);
	atomic_store_explicit(&t->row[row].key, key, memory_order_release); /* K1 */
}

unsigned
rule_rows_find(const struct rule_rows *t, uint64_t key, unsigned guess)
{
	if (guess < RULE_ROW_OTHERS && key_of(t, guess) == key)
		return guess;
	for (unsigned row = 0; row < RULE_ROW_OTHERS; row++)
		if (key_of(t, row) == key)
			return row;
	return RULE_ROWS;
}

static bool
is_one_of(const uint64_t *keys, size_t n, uint64_t key)
{
	for (size_t i = 0; i < n; i++)
		if (keys[i] == key)
			return true;
	return false;
}

/* A row that none of these has. There is one: the rows are at least as many. */
static unsigned
row_free(const struct rule_rows *t, const uint64_t *keys, size_t n)
{
	unsigned row = 0;

	while (is_one_of(keys, n, key_of(t, row)))
		row++;
	return row;
}

void
rule_rows_take(struct rule_rows *t, const uint64_t *keys, size_t n, uint8_t *ret_row)
{
	if (n > RULE_ROW_OTHERS)
		n = RULE_ROW_OTHERS;
	for (size_t i = 0; i < n; i++) {
		unsigned row = rule_rows_find(t, keys[i], (unsigned)i);

		if (row == RULE_ROWS) {
			row = row_free(t, keys, n);
			row_give(t, row, keys[i]);
		}
		ret_row[i] = (uint8_t)row;
	}
}

void
rule_rows_continue(struct rule_rows *t, const struct rule_rows *before)
{
	for (unsigned row = 0; row < RULE_ROWS; row++) {
		for (int c = 0; c < RULE_COUNTER_COUNT; c++)
			rule_add(t, row, (enum rule_counter)c,
			    rule_get(before, row, (enum rule_counter)c));
		atomic_store_explicit(
		    &t->row[row].key, key_of(before, row), memory_order_release);
	}
}
