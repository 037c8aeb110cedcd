/*
 * writer.c - a safetensors file that appears whole, see memopt/store.h.
 *
 * Which bytes of the data are written is kept as a list of ranges, sorted and
 * apart from each other: one range, if the tensors are written in the order of
 * their data; and the file is complete when it is one range from end to end.
 */
#include "core/base/error.h"
#include "core/base/newfile.h"
#include "core/store/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct range {
    uint64_t begin, end;
};

struct memopt_tensors_writer {
    struct mo_layout layout;
    char *path;       /* as messages name it */
    const char *name; /* its last part */
    int directory, fd;
    pid_t owner;
    bool replaces;        /* a file is there, */
    mode_t mode;          /* with these permissions */
    char *temporary;      /* in `directory`; NULL: committed, or none */
    uint64_t data_start;  /* from the beginning of the file; 0: not laid out */
    struct range *ranges; /* written, from the beginning of the data */
    size_t range_count, range_room;
    int failed; /* syncing did: a negative errno */
    bool committed;
};

static int fail_errno(const struct memopt_tensors_writer *writer, int code, const char *what,
                      struct memopt_error *error) {
    return mo_fail(error, -code, "'%s': %s: %s", writer->path, what, strerror(code));
}

/* ------------------------------------------------------------------ opening */

static int check_target(struct memopt_tensors_writer *writer, struct memopt_error *error) {
    struct stat st;
    if (writer->name[0] == '\0')
        return mo_fail(error, -EINVAL, "'%s': not a name for a file", writer->path);
    if (fstatat(writer->directory, writer->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : fail_errno(writer, errno, "can't be looked at", error);
    if (S_ISLNK(st.st_mode))
        return mo_fail(error, -ELOOP,
                       "'%s': a symbolic link, which is not followed: name the "
                       "file itself",
                       writer->path);
    if (!S_ISREG(st.st_mode))
        return mo_fail(error, -EINVAL, "'%s': there, and not a regular file", writer->path);
    writer->replaces = true;
    writer->mode = st.st_mode & 0777;
    return 0;
}

static int open_files(struct memopt_tensors_writer *writer, const char *path,
                      struct memopt_error *error) {
    if ((writer->path = strdup(path)) == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    char *slash = strrchr(writer->path, '/');
    writer->name = slash == NULL ? writer->path : slash + 1;
    mo_auto_free char *folder =
        slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - writer->path) + 1);
    if (folder == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    writer->directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (writer->directory < 0)
        return fail_errno(writer, errno, "its directory can't be opened", error);
    int r = check_target(writer, error);
    if (r < 0)
        return r;
    int fd = mo_newfile_create(writer->directory, writer->name,
                               writer->replaces ? writer->mode : 0666, &writer->temporary);
    if (fd < 0)
        return fail_errno(writer, -fd, "a file can't be created beside it", error);
    writer->fd = fd;
    /* the process's umask is not for what was there */
    if (writer->replaces && fchmod(fd, writer->mode) < 0)
        return fail_errno(writer, errno, "its permissions can't be given to the new file", error);
    return 0;
}

int memopt_tensors_writer_open(const char *path, struct memopt_tensors_writer **ret_writer,
                               struct memopt_error *error) {
    if (path == NULL || ret_writer == NULL)
        return mo_fail(error, -EINVAL,
                       "memopt_tensors_writer_open: a path and a result are needed");
    struct memopt_tensors_writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    writer->directory = writer->fd = -1;
    writer->owner = getpid();
    int r = open_files(writer, path, error);
    if (r < 0) {
        memopt_tensors_writer_close(writer);
        return r;
    }
    *ret_writer = writer;
    return 0;
}

void memopt_tensors_writer_close(struct memopt_tensors_writer *writer) {
    if (writer == NULL)
        return;
    if (writer->temporary != NULL && writer->owner == getpid())
        unlinkat(writer->directory, writer->temporary, 0);
    if (writer->fd >= 0)
        close(writer->fd);
    if (writer->directory >= 0)
        close(writer->directory);
    mo_layout_free(&writer->layout);
    free(writer->ranges);
    free(writer->temporary);
    free(writer->path);
    free(writer);
}

/* ---------------------------------------------------------------- declaring */

static int open_for_declaring(const struct memopt_tensors_writer *writer,
                              struct memopt_error *error) {
    if (writer == NULL)
        return mo_fail(error, -EINVAL, "no writer of tensors was given");
    if (writer->data_start > 0)
        return mo_fail(error, -EBUSY, "'%s': writing has begun; all is to be declared before that",
                       writer->path);
    return 0;
}

ssize_t memopt_tensors_writer_add(struct memopt_tensors_writer *writer, const char *name, int dtype,
                                  unsigned rank, const uint64_t *shape,
                                  struct memopt_error *error) {
    ssize_t r = open_for_declaring(writer, error);
    if (r < 0)
        return r;
    if ((r = mo_layout_add(&writer->layout, name, dtype, rank, shape, error)) < 0)
        mo_error_prefix(error, "'%s'", writer->path);
    return r;
}

int memopt_tensors_writer_metadata(struct memopt_tensors_writer *writer, const char *key,
                                   const char *value, struct memopt_error *error) {
    int r = open_for_declaring(writer, error);
    if (r < 0)
        return r;
    if ((r = mo_layout_metadata(&writer->layout, key, value, error)) < 0)
        mo_error_prefix(error, "'%s'", writer->path);
    return r;
}

/* ------------------------------------------------------------------ writing */

static int write_at(int fd, const char *data, size_t bytes, uint64_t offset) {
    struct mo_quiet quiet;
    int r = 0;
    mo_quiet_begin(&quiet);
    while (bytes > 0 && r == 0) {
        ssize_t put = pwrite(fd, data, bytes, (off_t)offset);
        if (put > 0) {
            data += put;
            bytes -= (size_t)put;
            offset += (uint64_t)put;
        } else if (put == 0) {
            r = -EIO;
        } else if (errno != EINTR) {
            r = -errno;
        }
    }
    mo_quiet_end(&quiet, r < 0);
    return r;
}

/* The file gets its full size at once, so that one that is too large for the
 * file system or RLIMIT_FSIZE is refused before its data are written. */
static int set_size(int fd, uint64_t size) {
    struct mo_quiet quiet;
    mo_quiet_begin(&quiet);
    int r = ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
    mo_quiet_end(&quiet, r < 0);
    return r;
}

static int lay_out(struct memopt_tensors_writer *writer, struct memopt_error *error) {
    size_t length;
    mo_auto_free char *header = NULL;
    if (writer->data_start > 0)
        return 0;
    int r = mo_layout_header(&writer->layout, &header, &length, error);
    if (r < 0) {
        mo_error_prefix(error, "'%s'", writer->path);
        return r;
    }
    if ((r = set_size(writer->fd, length + writer->layout.data_size)) < 0)
        return mo_fail(error, r, "'%s': can't have %llu bytes: %s", writer->path,
                       (unsigned long long)(length + writer->layout.data_size), strerror(-r));
    if ((r = write_at(writer->fd, header, length, 0)) < 0)
        return fail_errno(writer, -r, "its header can't be written", error);
    writer->data_start = length;
    return 0;
}

/* The first range that ends at or after `at`. */
static size_t find_range(const struct memopt_tensors_writer *writer, uint64_t at) {
    size_t low = 0, high = writer->range_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (writer->ranges[middle].end < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Room for one more range, so that add_range() can't fail. */
static int reserve_range(struct memopt_tensors_writer *writer) {
    if (writer->range_count < writer->range_room)
        return 0;
    size_t room = writer->range_room == 0 ? 16 : writer->range_room * 2;
    struct range *larger = reallocarray(writer->ranges, room, sizeof(*larger));
    if (larger == NULL)
        return -ENOMEM;
    writer->ranges = larger;
    writer->range_room = room;
    return 0;
}

static void add_range(struct memopt_tensors_writer *writer, uint64_t begin, uint64_t end) {
    struct range *ranges = writer->ranges;
    size_t first = find_range(writer, begin), after = first;
    while (after < writer->range_count && ranges[after].begin <= end)
        after++;
    if (after > first) { /* it touches those from first to after - 1 */
        begin = begin < ranges[first].begin ? begin : ranges[first].begin;
        end = end > ranges[after - 1].end ? end : ranges[after - 1].end;
    }
    memmove(ranges + first + 1, ranges + after, (writer->range_count - after) * sizeof(*ranges));
    writer->range_count -= after - first;
    writer->range_count++;
    ranges[first] = (struct range){begin, end};
}

static int usable(const struct memopt_tensors_writer *writer, struct memopt_error *error) {
    if (writer == NULL)
        return mo_fail(error, -EINVAL, "no writer of tensors was given");
    if (writer->committed)
        return mo_fail(error, -EINVAL, "'%s': it is committed; close the writer", writer->path);
    if (writer->owner != getpid())
        return mo_fail(error, -EPERM, "'%s': the writer belongs to process %ld", writer->path,
                       (long)writer->owner);
    if (writer->failed < 0)
        return fail_errno(writer, -writer->failed, "syncing it failed before", error);
    return 0;
}

int memopt_tensors_writer_write(struct memopt_tensors_writer *writer, size_t index, uint64_t offset,
                                const void *data, size_t bytes, struct memopt_error *error) {
    char shown[MO_SHOWN_MAX];
    int r = usable(writer, error);
    if (r < 0)
        return r;
    if (index >= writer->layout.count)
        return mo_fail(error, -EINVAL, "'%s': no tensor %zu; it has %zu, from 0", writer->path,
                       index, writer->layout.count);
    const struct mo_layout_tensor *tensor = writer->layout.tensors[index];
    mo_shown(tensor->name, shown);
    if (offset > tensor->bytes || bytes > tensor->bytes - offset)
        return mo_fail(error, -EINVAL,
                       "'%s': %zu bytes at %llu are not all in tensor '%s', which has %llu",
                       writer->path, bytes, (unsigned long long)offset, shown,
                       (unsigned long long)tensor->bytes);
    if (data == NULL && bytes > 0)
        return mo_fail(error, -EINVAL, "'%s': no data for tensor '%s'", writer->path, shown);
    if ((r = lay_out(writer, error)) < 0 || bytes == 0)
        return r;
    if (reserve_range(writer) < 0)
        return mo_fail(error, -ENOMEM, "out of memory");
    uint64_t begin = tensor->begin + offset;
    if ((r = write_at(writer->fd, data, bytes, writer->data_start + begin)) < 0)
        return mo_fail(error, r, "'%s': tensor '%s' can't be written: %s", writer->path, shown,
                       strerror(-r));
    add_range(writer, begin, begin + bytes);
    return 0;
}

/* ------------------------------------------------------------------- commit */

static int check_complete(const struct memopt_tensors_writer *writer, struct memopt_error *error) {
    const struct mo_layout *layout = &writer->layout;
    char shown[MO_SHOWN_MAX];
    uint64_t missing = 0; /* the first byte that is */
    if (writer->range_count > 0 && writer->ranges[0].begin == 0)
        missing = writer->ranges[0].end;
    if (missing == layout->data_size)
        return 0;
    for (size_t i = 0; i < layout->count; i++) {
        const struct mo_layout_tensor *tensor = layout->tensors[i];
        if (missing >= tensor->begin && missing - tensor->begin < tensor->bytes)
            return mo_fail(error, -ENODATA, "'%s': byte %llu of tensor '%s' was never written",
                           writer->path, (unsigned long long)(missing - tensor->begin),
                           mo_shown(tensor->name, shown));
    }
    return mo_fail(error, -ENODATA, "'%s': not all data was written", writer->path);
}

int memopt_tensors_writer_commit(struct memopt_tensors_writer *writer, struct memopt_error *error) {
    int r;
    if ((r = usable(writer, error)) < 0 || (r = lay_out(writer, error)) < 0 ||
        (r = check_complete(writer, error)) < 0)
        return r;
    while (fsync(writer->fd) < 0)
        if (errno != EINTR) {
            writer->failed = -errno;
            return fail_errno(writer, errno, "can't be synced", error);
        }
    if (renameat(writer->directory, writer->temporary, writer->directory, writer->name) < 0)
        return fail_errno(writer, errno, "can't be renamed from its temporary name", error);
    free(writer->temporary);
    writer->temporary = NULL;
    writer->committed = true;
    /* some file systems have nothing to sync in a directory */
    while (fsync(writer->directory) < 0)
        if (errno == EINVAL)
            break;
        else if (errno != EINTR)
            return fail_errno(writer, errno,
                              "the new file is there, but may be gone after a crash: its "
                              "directory can't be synced",
                              error);
    return 0;
}
