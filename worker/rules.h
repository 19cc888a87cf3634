/*
 * rules.h - what this worker counts by rule, in its page.
 *
 * A rule is named by its place in the settings that hold, a row by what rules_row()
 * said: it holds until the next reload.
 */
#ifndef WSCAST_WORKER_RULES_H
#define WSCAST_WORKER_RULES_H

#include "shm/rulerows.h"
#include "worker/worker.h"

struct rule;

/* w->settings are new: before all that asks for a row. */
void rules_renew(struct worker *w);

uint8_t rules_row(const struct worker *w, const struct rule *rule);

void rules_count(struct worker *w, const struct rule *rule, enum rule_counter c);

/* The message with this number, of a channel of this row, was passed on to n
 * subscribers. */
void rules_passed(struct worker *w, uint8_t row, uint64_t number, uint32_t n);

#endif
