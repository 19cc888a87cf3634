/*
 * replay.c - feed a fuzz target with its kept seeds, and each cut of the short ones,
 * without clang's fuzzer: every `make check` does that, under any sanitizer.
 *
 * Each input lies at the end of an allocation of exactly its size, so that a
 * sanitizer sees a byte read too far.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/target.h"

#define CUT_MAX 2048 /* longer seeds are fed whole only: cuts cost their square */

static unsigned long inputs;

static void
feed(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, data, len);
	(void)LLVMFuzzerTestOneInput(copy, len);
	free(copy);
	inputs++;
}

static int
feed_file(const char *path)
{
	static uint8_t buf[1 << 20];
	FILE *f = fopen(path, "re");
	size_t len;

	if (f == NULL)
		return -errno;
	len = fread(buf, 1, sizeof(buf), f);
	(void)fclose(f);
	if (len <= CUT_MAX)
		for (size_t cut = 1; cut < len; cut++)
			feed(buf, cut);
	feed(buf, len);
	return 0;
}

int
main(int argc, char **argv)
{
	char path[4096];
	const struct dirent *e;
	DIR *dir;

	feed((const uint8_t *)"", 0);
	dir = argc > 1 ? opendir(argv[1]) : NULL;
	/* A target may have no seeds yet: the empty input is one. */
	while (dir != NULL && (e = readdir(dir)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", argv[1], e->d_name);
		if (feed_file(path) < 0) {
			perror(path);
			return 1;
		}
	}
	if (dir != NULL)
		(void)closedir(dir);
	printf("replayed %lu inputs\n", inputs);
	return 0;
}
