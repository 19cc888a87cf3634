/*
 * origin.h - whether a page of an origin may connect.
 *
 * Browsers alone send an Origin, and always do: a page of any site can open a WebSocket
 * to any other, with whatever cookies that other has set. Whoever is no browser can
 * send any Origin or none, so this is no protection from them.
 *
 * Source   RFC 6454 §6.2, §7; RFC 6455 §10.2; WHATWG HTML, "origin"
 */
#ifndef WSCAST_PROTO_ORIGIN_H
#define WSCAST_PROTO_ORIGIN_H

#include <stdbool.h>

#include "proto/slice.h"

/*
 * origins  the setting, a list of
 *            *                   all of them
 *            null                pages without an origin: files, sandboxed frames
 *            SCHEME://HOST[:PORT]  HOST and PORT may be globs; without a PORT it must
 * be the scheme's own HOST[:PORT]         with any scheme; without a PORT also with any
 * port empty: only the host and port that were asked. origin   value of the header;
 * absent: no browser, and allowed. host     value of the header Host (a proxy must pass
 * it on).
 */
bool origin_ok(const char *origins, struct slice origin, struct slice host);

#endif
