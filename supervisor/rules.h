/*
 * rules.h - what the supervisor counts by rule, and the sum of all that is counted so.
 *
 * A message's rule is that of its channel, whoever asks ({sub} stands for any subject).
 * It is looked for once for each channel and reload, not for each message.
 */
#ifndef WSCAST_SUPERVISOR_RULES_H
#define WSCAST_SUPERVISOR_RULES_H

#include <stddef.h>
#include <stdint.h>

#include "proto/settings.h"
#include "shm/directory.h"
#include "shm/rulerows.h"

struct page;
struct rules;

/* dir: borrowed. Returns 0 or -ENOMEM; rules_reload() comes next. */
int rules_new(const struct directory *dir, struct rules **ret_rules)
    __attribute__((warn_unused_result));
void rules_free(struct rules *r);

/* Other settings hold: borrowed until the next call. */
void rules_reload(struct rules *r, const struct settings *settings);

/* A message of len bytes was published to the channel. */
void rules_message(struct rules *r, uint32_t channel, size_t len);

/* A line of metrics: one rule, or those that have no row of their own. */
struct rule_sum {
	const char *glob; /* borrowed from the settings; NULL: all others */
	uint64_t counter[RULE_COUNTER_COUNT];
};

/*
 * What was counted for each rule, by the supervisor and in all pages.
 *
 * ret_sums  RULE_ROWS of them.
 *
 * Returns how many were filled.
 */
unsigned rules_sum(const struct rules *r, struct page *const *pages, unsigned npages,
    struct rule_sum *ret_sums);

#endif
