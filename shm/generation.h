/*
 * generation.h - the settings as all processes of the host have them: their text and
 * the bytes of the files that they name, replaced as a whole.
 *
 * The map has two halves. A generation is written into the half that is not the
 * current one, and is then made the current one by a single store, so that whoever
 * reads finds the last whole one at any time: also when the writer was killed in the
 * middle. What was replaced is overwritten with zeros, since it may be a key.
 *
 *   [u32 name_len][u32 len][name][bytes][pad to 8]   one such piece for each part
 *
 * Process  one writer; any number of readers on read-only maps.
 * Order    edges G1 and G2, explained in generation.c.
 */
#ifndef WSCAST_SHM_GENERATION_H
#define WSCAST_SHM_GENERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GENERATION_VERSION 1
#define GENERATION_MAX                                                                 \
	(8u << 20) /* bytes of a generation, names and heads included                  \
		    */
#define GENERATION_PARTS_MAX 64
#define GENERATION_SETTINGS "settings" /* the part that is the settings' text */

struct generation;

struct generation_part {
	const char *name; /* NUL-terminated, of at most 64 bytes */
	const void *data;
	size_t len;
};

/* A generation in the reader's own memory. */
struct generation_copy {
	uint64_t number; /* counts from 1 */
	size_t nparts;
	struct generation_part part[GENERATION_PARTS_MAX];
};

/*
 * Make the map in a new memfd, as its writer; it holds no generation yet.
 *
 * ret_fd  close-on-exec, the caller's to close. Memory is used as it is filled.
 */
int generation_create(struct generation **ret_gen, int *ret_fd)
    __attribute__((warn_unused_result));
/* Map one for reading. Returns 0, -EPROTO when the layout is none of ours, or -errno.
 */
int generation_open(int fd, struct generation **ret_gen)
    __attribute__((warn_unused_result));
void generation_close(struct generation *g);

/*
 * Make these parts the current generation.
 *
 * parts  borrowed; nparts of them.
 *
 * Returns 0; -EMSGSIZE when they are more than GENERATION_MAX or GENERATION_PARTS_MAX;
 * -EINVAL for a name that is too long; -ENOMEM. On failure the old one stays.
 */
int generation_write(struct generation *g, const struct generation_part *parts,
    size_t nparts) __attribute__((warn_unused_result));

/* The current one's number; 0 = none yet. */
uint64_t generation_number(const struct generation *g);

/*
 * Copy the current generation.
 *
 * ret_copy  malloc'd, for generation_copy_free().
 *
 * Returns 0; -ENODATA when there is none yet; -EPROTO when it is malformed; -EBUSY when
 * it was replaced again and again while it was read; -ENOMEM.
 */
int generation_read(const struct generation *g, struct generation_copy **ret_copy)
    __attribute__((warn_unused_result));
/* NULL when it has no such part. */
const struct generation_part *generation_find(
    const struct generation_copy *copy, const char *name);
/* Overwrites it first: it may hold keys. */
void generation_copy_free(struct generation_copy *copy);

#endif
