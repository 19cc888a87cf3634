/*
 * namemap.h - a private hash map from names to 32-bit numbers, keyed with a random
 * SipHash key so that nobody can choose names that collide.
 *
 * The map does not keep the names: it asks its owner for the name of a number.
 */
#ifndef WSCAST_SHM_NAMEMAP_H
#define WSCAST_SHM_NAMEMAP_H

#include <stddef.h>
#include <stdint.h>

#define NAMEMAP_NONE UINT32_MAX

/* The name of a number that is in the map; *ret_len its bytes. */
typedef const char *(*namemap_name_fn)(void *owner, uint32_t number, size_t *ret_len);

struct namemap {
	struct namemap_cell *cells;
	uint32_t mask;
	uint32_t len;
	namemap_name_fn name;
	void *owner;
	unsigned char key[16];
};

void namemap_init(struct namemap *m, namemap_name_fn name, void *owner);
void namemap_done(struct namemap *m);
uint32_t namemap_get(const struct namemap *m, const char *name, size_t len);
/* The number's name must not be in the map yet. Returns 0 or -ENOMEM. */
int namemap_put(struct namemap *m, uint32_t number) __attribute__((warn_unused_result));
void namemap_del(struct namemap *m, uint32_t number);

#endif
