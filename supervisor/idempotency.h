/*
 * idempotency.h - the ids of the messages of late, so that one that is published again
 * (its backend had no answer, and tried once more) is passed on once.
 *
 * Two sets of hashes, the newer of which takes what comes; when it is full, it becomes
 * the older one, whose ids are forgotten. So at least IDEMPOTENCY_WINDOW ids are
 * remembered, at most twice as many, and nothing is ever deleted by itself.
 */
#ifndef WSCAST_SUPERVISOR_IDEMPOTENCY_H
#define WSCAST_SUPERVISOR_IDEMPOTENCY_H

#include <stdbool.h>
#include <stddef.h>

#define IDEMPOTENCY_WINDOW 32768

struct idempotency;

int idempotency_new(struct idempotency **ret_ids) __attribute__((warn_unused_result));
void idempotency_free(struct idempotency *ids);
/* Whether an id of a channel is remembered. */
bool idempotency_has(const struct idempotency *ids, const char *channel,
    size_t channel_len, const void *id, size_t len);
/* Remember one. */
void idempotency_add(struct idempotency *ids, const char *channel, size_t channel_len,
    const void *id, size_t len);

#endif
