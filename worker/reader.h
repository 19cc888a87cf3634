/*
 * reader.h - frames from the client to whole messages.
 *
 * A connection has a parser only while it is inside a message. SLOT_READING is set
 * before bytes are taken from the kernel, and cleared when all that they brought was
 * acted upon and the connection is between two messages.
 *
 * Source   RFC 6455 §5, §7.4.1; RFC 7692 §6, §7.2.2; parsed by proto/inbound.c
 * Memory   one buffer and one inflater for all; a parser is 9 KiB, and
 *          limits.max_message_size beside it
 */
#ifndef WSCAST_WORKER_READER_H
#define WSCAST_WORKER_READER_H

#include "worker/worker.h"

#define READER_BUFFER (64u << 10) /* bounds what one connection may ask for at once */
#define READERS_MAX 4096          /* connections inside a message at the same time */
#define READERS_SPARE 64          /* parsers kept for the next */
#define READER_STUCK_TICKS 600    /* within one message */

struct readers;

int readers_new(struct worker *w, struct readers **ret)
    __attribute__((warn_unused_result));
void readers_free(struct readers *r);

/* The socket is readable, or ended: take what is there, once. */
void reader_readable(struct worker *w, uint32_t slot);

/* The connection goes: give back its parser. Never from within one of its messages. */
void reader_drop(struct worker *w, uint32_t slot);

/* How many connections are inside a message. */
unsigned readers_busy(const struct worker *w);

/* Once a tick: whoever has been inside one message for too long, dripping bytes, is
 * closed. Else a few could hold all parsers that there are. */
void readers_tick(struct worker *w);

/* READER_BUFFER bytes for whoever reads next; nothing stays in it. */
uint8_t *readers_buffer(struct worker *w);

#endif
