/* wsctl_top.h - what wsctl_top.c lets wsctl_top_show.c show. */
#ifndef WSCAST_TOOLS_WSCTL_TOP_H
#define WSCAST_TOOLS_WSCTL_TOP_H

#include "tools/wsctl_sample.h"

/* How it is looked at. */
struct top_look {
	unsigned columns, rows; /* rows 0: as many as it takes */
	long interval_ms;
	size_t channels; /* at most so many; 0: as they fit */
	enum channel_order channel_order;
	enum worker_order worker_order;
	bool paused, help;
};

/* A screen full, or a report. malloc'd, *ret_len bytes; NULL without memory. */
char *top_text(const struct ctl *ctl, const struct maps *m, const struct top_view *v,
    const struct top_look *look, size_t *ret_len);
/* The same as an object. */
json_t *top_json(
    const struct maps *m, const struct top_view *v, const struct top_look *look);

#endif
