#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/wsbench_net.h"
#include "tools/wsbench_progress.h"
#include "tools/wsbench_report.h"
#include "tools/wsbench_result.h"

#define BAR 24
#define TERMINAL_NS 200000000u
#define LINES_NS 5000000000u

void
progress_init(struct progress *p, const struct options *o)
{
	memset(p, 0, sizeof(*p));
	p->off = o->quiet;
	p->terminal = isatty(STDERR_FILENO) == 1;
	p->at_ns = net_now_ns();
}

static void
draw_bar(double share)
{
	int full = share >= 1 ? BAR : share <= 0 ? 0 : (int)(share * BAR);

	fputc('[', stderr);
	for (int i = 0; i < BAR; i++)
		fputc(i < full ? '=' : i == full ? '>' : ' ', stderr);
	fputs("] ", stderr);
}

void
progress_show(struct progress *p, const struct run *r, const char *what, double share)
{
	uint64_t now_ns = net_now_ns(), opened, received;
	char open_text[32], rate_text[32], in_text[32];
	double seconds = (double)(now_ns - p->at_ns) / 1e9;

	if (p->off || now_ns - p->at_ns < (p->terminal ? TERMINAL_NS : LINES_NS))
		return;
	opened = result_sum(r, RESULT_opened);
	received = result_sum(r, RESULT_received);
	if (p->terminal)
		fputc('\r', stderr);
	fprintf(stderr, "%-11s ", what);
	if (p->terminal)
		draw_bar(share);
	else
		fprintf(stderr, "%3.0f %%  ", (share > 1 ? 1 : share) * 100);
	fprintf(stderr, "%s open, %s/s opened, %s/s received",
	    report_figure((double)result_sum(r, RESULT_open), open_text),
	    report_figure((double)(opened - p->opened) / seconds, rate_text),
	    report_figure((double)(received - p->received) / seconds, in_text));
	fputs(p->terminal ? "\033[K" : "\n", stderr);
	fflush(stderr);
	p->opened = opened;
	p->received = received;
	p->at_ns = now_ns;
	p->drawn = true;
}

void
progress_end(struct progress *p)
{
	if (p->drawn && p->terminal)
		fputs("\r\033[K", stderr);
	p->drawn = false;
}
