/*
 * certificates.h - what an administrator should know of the certificates that hold.
 */
#ifndef WSCAST_SUPERVISOR_CERTIFICATES_H
#define WSCAST_SUPERVISOR_CERTIFICATES_H

#include "proto/settings.h"

/* Warn of those that do not hold now. */
void certificates_look(const struct settings *s);

#endif
