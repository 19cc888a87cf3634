/*
 * fuzz_control.c - wsctl's protocol: bytes to lines, lines to requests and to a tail's
 * messages. However the bytes are cut, the lines must be the same.
 *
 * The first byte says how they are cut; the rest is what comes.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/control.h"
#include "tests/fuzz/target.h"

#define LINE_MAX_HERE 1000 /* so that a line too long is met */

static void
take_request(const char *line, size_t len)
{
	char why[200] = "", *error;
	json_t *request = NULL;
	void *payload = NULL;
	size_t payload_len = 0, error_len;

	if (control_request_parse(line, len, &request, why, sizeof(why)) < 0) {
		must(request == NULL && why[0] != '\0');
		error = control_error(CONTROL_BAD_REQUEST, &error_len, "%s", why);
		must(error != NULL && error[error_len - 1] == '\n' &&
		     memchr(error, '\n', error_len) == error + error_len - 1);
		free(error);
		return;
	}
	must(json_is_string(json_object_get(request, "cmd")));
	if (control_payload(request, &payload, &payload_len) == 0) {
		json_t *again = json_object();

		must(payload != NULL && again != NULL);
		must(control_put_payload(again, payload, payload_len) == 0);
		json_decref(again);
		free(payload);
	}
	json_decref(request);
}

static void
take_event(const char *line, size_t len)
{
	struct control_event e = {0};

	if (control_event_parse(line, len, &e) < 0)
		return;
	must(e.missed != 0 ||
	     (e.channel != NULL && (e.data != NULL || e.data_len == 0)));
	control_event_done(&e);
}

/* Returns a sum of the lines (FNV-1a), and how it ended. */
static uint64_t
run(const uint8_t *data, size_t len, size_t step, int *ret_end)
{
	struct control_line l;
	uint64_t hash = 0xcbf29ce484222325u;
	size_t room, line_len;
	char *line;

	*ret_end = 0;
	control_line_init(&l, LINE_MAX_HERE);
	while (len > 0 && *ret_end == 0) {
		void *to = control_line_room(&l, &room);
		size_t n = len < step ? len : step;

		if (to == NULL) {
			*ret_end = -errno;
			break;
		}
		n = n < room ? n : room;
		memcpy(to, data, n);
		control_line_fed(&l, n);
		data += n;
		len -= n;
		while ((*ret_end = control_line_next(&l, &line, &line_len)) > 0) {
			must(line_len <= LINE_MAX_HERE && line[line_len] == '\0');
			for (size_t i = 0; i <= line_len; i++)
				hash = (hash ^ (uint8_t)line[i]) * 0x100000001b3u;
			take_request(line, line_len);
			take_event(line, line_len);
		}
	}
	control_line_done(&l);
	return hash;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	int whole_end, parts_end;

	if (len < 2)
		return 0;
	must(run(data + 1, len - 1, len, &whole_end) ==
	     run(data + 1, len - 1, 1 + (size_t)data[0], &parts_end));
	must((whole_end < 0) == (parts_end < 0));
	return 0;
}
