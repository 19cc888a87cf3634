/*
 * sandbox.h - what the serving process may still ask of the kernel, once it is about to
 * parse what strangers send.
 *
 * It goes on with the descriptors that it has, and with the connections that it
 * accepts: it opens no file and no socket, executes nothing, makes no process, traces
 * and signals nobody but itself, makes no memory executable, and closes none of the
 * launch's descriptors, which its successor needs. A system call beyond that ends the
 * process at once, by SIGSYS, and its successor adopts the clients.
 *
 * Who makes a part of the serving process call something new after its start adds it to
 * the lists in sandbox.c, with the reason.
 */
#ifndef WSCAST_WORKER_SANDBOX_H
#define WSCAST_WORKER_SANDBOX_H

#include <stdbool.h>

/*
 * Enter it, for good. Also makes the process undumpable: no core file of it, and no
 * debugger of the same user.
 *
 * first_fd  descriptors below it are the launch's, and stay open.
 * ktls      the kernel's TLS is asked for, too.
 *
 * Returns 0; -EOPNOTSUPP when this kernel filters no system calls, or when the program
 * carries a sanitizer, whose reports need more: nothing was changed then; or -errno.
 */
int sandbox_enter(int first_fd, bool ktls) __attribute__((warn_unused_result));

#endif
