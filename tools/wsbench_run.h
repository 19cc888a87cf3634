/*
 * wsbench_run.h - one measurement from beginning to end: start the server or the floor,
 * fork generators and publisher, lead them through the phases, and put together what
 * they found.
 */
#ifndef WSCAST_TOOLS_WSBENCH_RUN_H
#define WSCAST_TOOLS_WSBENCH_RUN_H

#include <stdbool.h>

#include <jansson.h>

#include "tools/wsbench_options.h"

/*
 * given   borrowed.
 * target  "server", or a floor: "send", "send-share", "uring", "uring-share", which is
 *         started and stopped here, and gets the messages directly.
 *
 * Returns 0 with the figures as a new JSON object, also when ^C ended it early
 * ("interrupted" is true then); -errno when there is nothing to show, having said why.
 */
int run_once(const struct options *given, const char *target, json_t **ret)
    __attribute__((warn_unused_result));

/* Whether ^C came since run_catch_signals(). A second one ends the process. */
bool run_interrupted(void);
void run_catch_signals(void);

/* Floors and server in turn, o->rounds times. As above, with "runs", "medians" and
 * "ratios". */
int run_rounds(const struct options *o, json_t **ret)
    __attribute__((warn_unused_result));

#endif
