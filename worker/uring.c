#include <errno.h>
#ifdef HAVE_LIBURING
#include <liburing.h>
#endif
#include <stdlib.h>
#include <sys/socket.h>

#include "worker/uring.h"

#ifdef HAVE_LIBURING

struct uring {
	struct io_uring ring;
	unsigned queued;
};

/* Allow sends, and nothing else, for good. */
static int
restrict_to_sends(struct io_uring *ring)
{
	struct io_uring_restriction res[] = {
	    {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_SEND},
	    {.opcode = IORING_RESTRICTION_REGISTER_OP,
		.register_op = IORING_REGISTER_ENABLE_RINGS},
	};
	/* liburing 2.3 (Debian 12) declares functions of their own for these two, but
	 * does not export them. */
	int r = io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_RESTRICTIONS,
	    res, sizeof(res) / sizeof(res[0]));

	if (r < 0)
		return r;
	return io_uring_register(
	    (unsigned)ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

static int
queue_init(struct io_uring *ring)
{
	/* Completions are reaped by us alone, right after the submission. */
	struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED |
						  IORING_SETUP_SINGLE_ISSUER |
						  IORING_SETUP_DEFER_TASKRUN};
	int r = io_uring_queue_init_params(URING_BATCH, ring, &params);

	if (r == -EINVAL) { /* before Linux 6.1 */
		params = (struct io_uring_params){.flags = IORING_SETUP_R_DISABLED};
		r = io_uring_queue_init_params(URING_BATCH, ring, &params);
	}
	return r;
}

int
uring_new(struct uring **ret)
{
	struct uring *u = calloc(1, sizeof(*u));
	int r;

	if (u == NULL)
		return -ENOMEM;
	r = queue_init(&u->ring);
	if (r < 0)
		goto fail;
	r = restrict_to_sends(&u->ring);
	if (r < 0) {
		io_uring_queue_exit(&u->ring);
		goto fail;
	}
	*ret = u;
	return 0;
fail:
	free(u);
	return r;
}

void
uring_free(struct uring *u)
{
	if (u == NULL)
		return;
	io_uring_queue_exit(&u->ring);
	free(u);
}

void
uring_put(struct uring *u, int fd, const void *buf, size_t len, uint64_t tag)
{
	/* The queue has room for a batch, and each submission empties it. */
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	io_uring_prep_send(sqe, fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	sqe->user_data = tag;
	u->queued++;
}

unsigned
uring_queued(const struct uring *u)
{
	return u->queued;
}

int
uring_submit(struct uring *u, uring_result_fn on_result, void *owner)
{
	while (u->queued > 0) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;
		int r = io_uring_submit_and_wait(&u->ring, u->queued);

		if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY)
			return r;
		io_uring_for_each_cqe(&u->ring, head, cqe)
		{
			on_result(owner, cqe->user_data, cqe->res);
			seen++;
		}
		io_uring_cq_advance(&u->ring, seen);
		u->queued -= seen;
	}
	return 0;
}

#else /* HAVE_LIBURING */

int
uring_new(struct uring **ret)
{
	return -ENOSYS;
}

void
uring_free(struct uring *u)
{
}

void
uring_put(struct uring *u, int fd, const void *buf, size_t len, uint64_t tag)
{
}

unsigned
uring_queued(const struct uring *u)
{
	return 0;
}

int
uring_submit(struct uring *u, uring_result_fn on_result, void *owner)
{
	return -ENOSYS;
}

#endif /* HAVE_LIBURING */
