/*
 * init.c - the first process of the virtual machine of tests/vm/run: loads what it
 * finds in /modules, makes the host's files its own, runs the command, and ends.
 *
 * What the command writes goes into memory. The last line tells its exit status.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES 65536 /* descriptors */
#define COMMAND_MAX 65536
#define ROOT "/root"

struct mount {
	const char *what, *where, *type, *options;
	unsigned long flags;
};

static const struct mount own[] = {
    {"proc", "/proc", "proc", NULL, 0},
    {"dev", "/dev", "devtmpfs", NULL, 0},
};

/* The host's files, below ours. */
static const struct mount theirs[] = {
    {"host", "/host", "9p", "trans=virtio,version=9p2000.L,msize=512000,cache=loose",
	MS_RDONLY},
    {"memory", "/memory", "tmpfs", NULL, 0},
};
static const struct mount joined[] = {
    {"root", ROOT, "overlay",
	"lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work", 0},
    {"proc", ROOT "/proc", "proc", NULL, 0},
    {"sys", ROOT "/sys", "sysfs", NULL, 0},
    {"dev", ROOT "/dev", "devtmpfs", NULL, 0},
    {"shm", ROOT "/dev/shm", "tmpfs", NULL, 0},
    {"pts", ROOT "/dev/pts", "devpts", NULL, 0},
    {"run", ROOT "/run", "tmpfs", NULL, 0},
    {"tmp", ROOT "/tmp", "tmpfs", NULL, 0},
};

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static void end(int status) __attribute__((noreturn));

static void
end(int status)
{
	printf("\nvm: exit %d\n", status);
	(void)fflush(stdout);
	sync();
	(void)reboot(RB_AUTOBOOT); /* with -no-reboot qemu ends */
	for (;;)
		(void)pause();
}

static void
must(int r, const char *what, const char *name)
{
	if (r >= 0)
		return;
	printf("vm: cannot %s %s: %s\n", what, name, strerror(errno));
	end(125);
}

static void
mount_all(const struct mount *m, size_t n)
{
	for (; n > 0; m++, n--) {
		(void)mkdir(m->where, 0755);
		must(mount(m->what, m->where, m->type, m->flags, m->options), "mount",
		    m->where);
	}
}

/* In the order of their names. One that this processor has no use for refuses. */
static void
load_modules(void)
{
	glob_t found;

	if (glob("/modules/*", 0, NULL, &found) != 0)
		return;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		int fd = open(found.gl_pathv[i], O_RDONLY | O_CLOEXEC);

		if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST &&
		    errno != ENODEV)
			printf("vm: cannot load %s: %s\n", found.gl_pathv[i],
			    strerror(errno));
		(void)close(fd);
	}
	globfree(&found);
}

static void
loopback_up(void)
{
	struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	must(ioctl(fd, SIOCSIFFLAGS, &ifr), "bring up", "lo");
	(void)close(fd);
}

static int
run(const char *command)
{
	const struct rlimit files = {FILES, FILES};
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		(void)setsid();
		(void)setrlimit(RLIMIT_NOFILE, &files);
		(void)execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	must(child, "fork", "");
	for (pid_t pid = 0; pid != child;) /* and whoever lost its parent */
		pid = wait(&status);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int
main(void)
{
	static char command[COMMAND_MAX];
	int fd;

	mount_all(own, COUNT(own));
	fd = open("/dev/console", O_RDWR);
	for (int i = 0; i < 3; i++)
		(void)dup2(fd, i);
	setvbuf(stdout, NULL, _IOLBF, 0);
	load_modules();
	fd = open("/command", O_RDONLY | O_CLOEXEC);
	must((int)read(fd, command, sizeof(command) - 1), "read", "/command");
	mount_all(theirs, COUNT(theirs));
	(void)mkdir("/memory/upper", 0755);
	(void)mkdir("/memory/work", 0755);
	mount_all(joined, COUNT(joined));
	loopback_up();
	must(chroot(ROOT), "enter", ROOT);
	must(chdir("/"), "enter", "/");
	end(run(command));
}
