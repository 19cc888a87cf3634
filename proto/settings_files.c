/* settings_files.c - the files that settings name; see settings.h */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/settings_loader.h"

int
settings_read_file(const char *path, size_t max, char **ret_data, size_t *ret_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;
	char *buf;
	int r;

	if (fd < 0)
		return -errno;
	buf = malloc(max + 1);
	if (buf == NULL) {
		r = -ENOMEM;
		goto fail;
	}
	do {
		n = read(fd, buf + len, max + 1 - len);
		if (n < 0) {
			r = -errno;
			goto fail;
		}
		len += (size_t)n;
	} while (n > 0 && len <= max);
	if (len > max) {
		r = -EFBIG;
		goto fail;
	}
	buf[len] = '\0';
	(void)close(fd);
	*ret_data = buf;
	*ret_len = len;
	return 0;
fail:
	free(buf);
	(void)close(fd);
	return r;
}

static void
wipe(struct settings_file *f)
{
	if (f->data != NULL)
		explicit_bzero(f->data, f->len);
	free(f->data);
	*f = (struct settings_file){0};
}

void
settings_drop_files(struct settings *s)
{
	for (unsigned i = 0; i < s->nfiles; i++)
		wipe(&s->files[i]);
	s->nfiles = 0;
}

/* A settings' file must be there at once: a pipe would make us wait for its writer. */
static int
read_plain(const char *path, size_t max, char **ret_data, size_t *ret_len)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	return settings_read_file(path, max, ret_data, ret_len);
}

static void
fault_unreadable(
    struct loader *l, const struct setting *k, const char *path, size_t max, int err)
{
	mark at = mark_of(l, k);
	char reason[128];

	if (err == -EFBIG)
		fault_at(l, at, "%s: %s is longer than %zu bytes", k->key, path, max);
	else if (err == -EINVAL)
		fault_at(l, at, "%s: %s is no plain file", k->key, path);
	else
		fault_at(l, at, "%s: cannot read %s: %s", k->key, path,
		    strerror_r(-err, reason, sizeof(reason)));
}

static void
read_one(struct loader *l, const struct setting *k)
{
	const char *path = *(char *const *)((const char *)l->s + k->offset);
	size_t max = k->max > 0 ? k->max : SETTINGS_FILE_MAX;
	struct settings_file *f = &l->s->files[l->s->nfiles];
	int r;

	if (*path == '\0')
		return;
	r = read_plain(path, max, &f->data, &f->len);
	if (r == -ENOMEM) {
		l->nomem = true;
	} else if (r < 0) {
		fault_unreadable(l, k, path, max, r);
	} else {
		(void)snprintf(f->name, sizeof(f->name), "%s.%s", k->section, k->key);
		f->readers = k->file;
		l->s->nfiles++;
	}
}

void
loader_read_files(struct loader *l)
{
	settings_drop_files(l->s);
	for (size_t i = 0; i < settings_table_len; i++)
		if (settings_table[i].file != FILE_NONE)
			read_one(l, &settings_table[i]);
}

int
settings_attach(struct settings *s, const char *name, const void *data, size_t len)
{
	struct settings_file *f = &s->files[s->nfiles];

	if (s->nfiles == SETTINGS_FILES_MAX || strlen(name) >= sizeof(f->name))
		return -EINVAL;
	f->data = malloc(len + 1);
	if (f->data == NULL)
		return -ENOMEM;
	if (len > 0)
		memcpy(f->data, data, len);
	f->data[len] = '\0';
	f->len = len;
	f->readers = FILE_WORKERS;
	memcpy(f->name, name, strlen(name) + 1);
	s->nfiles++;
	return 0;
}

const struct settings_file *
settings_file(const struct settings *s, const char *name)
{
	for (unsigned i = 0; i < s->nfiles; i++)
		if (strcmp(s->files[i].name, name) == 0)
			return &s->files[i];
	return NULL;
}
