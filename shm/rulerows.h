/*
 * rulerows.h - what is counted by rule, a [channel GLOB] section of the settings: a
 * bounded number of rows, of which each belongs to a glob and stays its own over
 * reloads and successors.
 *
 * Rules beyond the last row but one share the last: there is never more to count, or to
 * show, than this. A row is counted in once for each message that is passed on, or for
 * something that went wrong; never for each socket.
 *
 * Process  one writer: a worker in its page, the supervisor in memory of its own.
 * Readers look rows up by key, and see a row's counters only under the key that they
 *          belong to, but for the moment in which a row changes hands.
 */
#ifndef WSCAST_SHM_RULEROWS_H
#define WSCAST_SHM_RULEROWS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define RULE_ROWS 64 /* the last is for all rules beyond */
#define RULE_ROW_OTHERS (RULE_ROWS - 1)

/* X(name, help): the names are those of metrics, behind wscast_rule_. The first two are
 * the supervisor's, the others the workers'. */
#define RULE_COUNTERS(X)                                                               \
	X(messages, "messages put into the ring")                                      \
	X(message_bytes, "bytes of their payloads")                                    \
	X(deliveries, "messages passed on to subscribers, once for each of them")      \
	X(delivery_bytes, "bytes of the payloads of these")                            \
	X(publish_forbidden, "messages of clients that may not publish there")         \
	X(publish_too_large, "messages of clients above the rule's max_message_size")  \
	X(publish_too_fast, "messages of clients above the rule's rate")               \
	X(subscribe_forbidden, "requests of clients that may not subscribe there")     \
	X(closed_slow, "connections closed because they fell out of the ring")         \
	X(skipped, "times that such a connection was moved on, and not closed")        \
	X(skipped_messages, "messages that these were told to have missed")            \
	X(replaced, "messages not sent to who lags: a newer one stands for them")

enum rule_counter {
#define X(name, help) RULE_##name,
	RULE_COUNTERS(X)
#undef X
	    RULE_COUNTER_COUNT
};

struct rule_rows {
	struct {
		_Atomic uint64_t key; /* rule_key(); 0 = nobody's */
		_Atomic uint64_t counter[RULE_COUNTER_COUNT];
	} row[RULE_ROWS];
};

/* A glob's key; never 0. */
uint64_t rule_key(const char *glob);

/*
 * Give each rule its row: the one that its glob has, or one that none of these needs.
 *
 * keys     n of them, in the order of the rules; the same key has the same row.
 * ret_row  of the first RULE_ROW_OTHERS rules; all behind them have RULE_ROW_OTHERS.
 */
void rule_rows_take(
    struct rule_rows *t, const uint64_t *keys, size_t n, uint8_t *ret_row);

/* The row of a key, RULE_ROWS when there is none. guess: where to look first. */
unsigned rule_rows_find(const struct rule_rows *t, uint64_t key, unsigned guess);

/* Fill a new table with what another has. */
void rule_rows_continue(struct rule_rows *t, const struct rule_rows *before);

const char *rule_counter_name(enum rule_counter c);
const char *rule_counter_help(enum rule_counter c);

/* One writer: a plain load and store, no locked instruction. */
static inline void
rule_add(struct rule_rows *t, unsigned row, enum rule_counter c, uint64_t n)
{
	atomic_store_explicit(&t->row[row].counter[c],
	    atomic_load_explicit(&t->row[row].counter[c], memory_order_relaxed) + n,
	    memory_order_relaxed);
}

static inline uint64_t
rule_get(const struct rule_rows *t, unsigned row, enum rule_counter c)
{
	return atomic_load_explicit(&t->row[row].counter[c], memory_order_relaxed);
}

#endif
