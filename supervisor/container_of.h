/*
 * container_of.h - from a part of a structure to the whole.
 */
#ifndef WSCAST_SUPERVISOR_CONTAINER_OF_H
#define WSCAST_SUPERVISOR_CONTAINER_OF_H

#include <stddef.h>

#define container_of(ptr, type, member)                                                \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
