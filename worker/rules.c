/* rules.c - see rules.h */
#include "worker/rules.h"
#include "proto/dialect.h"
#include "proto/frame.h"

void
rules_renew(struct worker *w)
{
	uint64_t keys[RULE_ROW_OTHERS];
	size_t n = w->settings->nrules;

	if (n > RULE_ROW_OTHERS)
		n = RULE_ROW_OTHERS;
	for (size_t i = 0; i < n; i++)
		keys[i] = rule_key(w->settings->rules[i].glob);
	rule_rows_take(&w->page->rules, keys, n, w->rule_row);
}

uint8_t
rules_row(const struct worker *w, const struct rule *rule)
{
	size_t i = (size_t)(rule - w->settings->rules);

	return i < RULE_ROW_OTHERS ? w->rule_row[i] : RULE_ROW_OTHERS;
}

void
rules_count(struct worker *w, const struct rule *rule, enum rule_counter c)
{
	rule_add(&w->page->rules, rules_row(w, rule), c, 1);
}

void
rules_passed(struct worker *w, uint8_t row, uint64_t number, uint32_t n)
{
	const void *frame, *payload;
	enum opcode op;

	rule_add(&w->page->rules, row, RULE_deliveries, n);
	if (ring_frames(w->ring, DIALECT_RAW, number, number + 1, &frame) > 0)
		rule_add(&w->page->rules, row, RULE_delivery_bytes,
		    (uint64_t)n * frame_payload(frame, &op, &payload));
}
