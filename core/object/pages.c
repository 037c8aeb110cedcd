/*
 * pages.c - copy-on-write by pages (see pages.h, memopt/cow.h).
 *
 *   1. images: the memory files
 *   2. mappings
 *   3. runs of a view's own pages
 *   4. from one state to the other
 *   5. the operations
 *   6. fork
 *
 * An image is a memory file; a view is a mapping of it. A view is
 *
 *   open    it is the image's only view and maps it shared: what it writes, the image
 *           has, and the next clone need copy nothing
 *   closed  it maps the image privately and read-only, but for its own pages: those
 *           it was asked to make writable, which are in a bitmap. The image does not
 *           change, whoever else maps it.
 *
 * clone closes an open view. A closed view that is left alone with its image can be
 * opened: its own pages are written back.
 *
 * After fork another process has the image, too: it is `foreign`, and must not change
 * any more. An open view of such an image maps it privately, and is open only in that
 * all of it may be written; cloning it takes a new image.
 *
 * One lock, over the images' counts, what views are, and the list of views. The heap
 * is charged, and asked for memory, without it.
 */
#include "core/object/pages.h"

#include "core/base/error.h"
#include "core/base/poison.h"
#include "core/heap/heap.h"
#include "core/object/object.h"
#include "core/runtime/fork.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct image {
    struct memopt_heap *heap;
    size_t mapped; /* bytes, charged */
    size_t views;
    int fd;
    bool foreign;
    dev_t device; /* of the file that fd was: the program may have closed it */
    ino_t inode;
};

struct mo_pages {
    struct mo_pages *previous, *next; /* all views */
    struct memopt_heap *heap;
    struct image *image;
    char *address;
    size_t size, mapped; /* mapped: size in whole pages */
    size_t own_count;    /* closed: bits in `own`, each charged */
    bool open;
    bool shared_at_fork; /* could not be made private: the child must not have it */
    uint64_t own[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mo_pages all = {.previous = &all, .next = &all};

static size_t page_size(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Behind each view, under a checker: what reads too far faults. */
static size_t guard_size(void) {
    return mo_checked() ? page_size() : 0;
}

/* ------------------------------------------------------------------ 1. images */

static int out_of_memory(struct memopt_heap *heap, size_t bytes, struct memopt_error *error) {
    return mo_fail(error, -ENOMEM, "heap '%s' has no %zu bytes for a copy-on-write buffer",
                   memopt_heap_name(heap), bytes);
}

static bool is_fd(const struct image *image) {
    struct stat status;
    return fstat(image->fd, &status) == 0 && status.st_dev == image->device &&
           status.st_ino == image->inode;
}

static void image_free(struct image *image) {
    if (image == NULL)
        return;
    if (is_fd(image))
        close(image->fd);
    mo_heap_uncharge(image->heap, image->mapped);
    memopt_heap_free(image->heap, image);
}

static int image_new(struct memopt_heap *heap, size_t mapped, struct image **ret_image,
                     struct memopt_error *error) {
    struct stat status;
    int code;
    struct image *image = memopt_heap_calloc(heap, 1, sizeof(*image));
    if (image == NULL)
        return out_of_memory(heap, sizeof(*image), error);
    if (mo_heap_charge(heap, mapped) < 0) {
        code = out_of_memory(heap, mapped, error);
        goto free_image;
    }
    struct rlimit limit; /* over it the kernel would send SIGXFSZ */
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        mapped > limit.rlim_cur) {
        code = mo_fail(error, -EFBIG, "a memory file of %zu bytes is over RLIMIT_FSIZE", mapped);
        goto uncharge;
    }
    image->fd = memfd_create("memopt-cow", MFD_CLOEXEC);
    if (image->fd < 0) {
        code = mo_fail(error, -errno, "can't make a memory file: %s", strerror(errno));
        goto uncharge;
    }
    if (ftruncate(image->fd, (off_t)mapped) < 0 || fstat(image->fd, &status) < 0) {
        code = mo_fail(error, -errno, "can't make a memory file of %zu bytes: %s", mapped,
                       strerror(errno));
        goto close_file;
    }
    image->heap = heap;
    image->mapped = mapped;
    image->device = status.st_dev;
    image->inode = status.st_ino;
    *ret_image = image;
    return 0;

close_file:
    close(image->fd);
uncharge:
    mo_heap_uncharge(heap, mapped);
free_image:
    memopt_heap_free(heap, image);
    return code;
}

static int write_image(const struct image *image, const char *from, size_t offset, size_t end) {
    while (offset < end) {
        ssize_t got = pwrite(image->fd, from + offset, end - offset, (off_t)offset);
        if (got > 0)
            offset += (size_t)got;
        else if (got == 0 || errno != EINTR)
            return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- 2. mappings */

/* The view's range shows `image` from now on; false: nothing has changed. */
static bool map_image(const struct mo_pages *pages, const struct image *image, int protection,
                      int sharing) {
    if (mmap(pages->address, pages->mapped, protection, sharing | MAP_FIXED, image->fd, 0) ==
        MAP_FAILED)
        return false;
    mo_poison(pages->address + pages->size, pages->mapped - pages->size);
    return true;
}

static void unmap(struct mo_pages *pages) {
    if (pages->address == NULL)
        return;
    mo_unpoison_defined(pages->address, pages->mapped);
    munmap(pages->address, pages->mapped + guard_size());
}

/* A first mapping. */
static int map_first(struct mo_pages *pages, const struct image *image, int protection, int sharing,
                     struct memopt_error *error) {
    size_t guard = guard_size();
    void *address =
        mmap(NULL, pages->mapped + guard, guard != 0 ? PROT_NONE : protection,
             guard != 0 ? MAP_PRIVATE | MAP_ANONYMOUS : sharing, guard != 0 ? -1 : image->fd, 0);
    if (address == MAP_FAILED)
        return mo_fail(error, -errno, "can't map %zu bytes of a copy-on-write buffer: %s",
                       pages->mapped, strerror(errno));
    pages->address = address;
    if (guard != 0 && !map_image(pages, image, protection, sharing)) {
        int code = mo_fail(error, -errno, "can't map %zu bytes of a copy-on-write buffer: %s",
                           pages->mapped, strerror(errno));
        munmap(address, pages->mapped + guard);
        pages->address = NULL;
        return code;
    }
    return 0;
}

/* -------------------------------------------------------------------- 3. runs */

static bool is_own(const struct mo_pages *pages, size_t page) {
    return (pages->own[page / 64] >> page % 64 & 1) != 0;
}

static void make_own(struct mo_pages *pages, size_t page) {
    if (!is_own(pages, page))
        pages->own_count++;
    pages->own[page / 64] |= UINT64_C(1) << page % 64;
}

static size_t bitmap_size(size_t mapped) {
    return (mapped / page_size() + 63) / 64 * sizeof(uint64_t);
}

static void own_nothing(struct mo_pages *pages) {
    memset(pages->own, 0, bitmap_size(pages->mapped));
    pages->own_count = 0;
}

/* The next run of own pages from page *first on: [*first, *last). */
static bool next_run(const struct mo_pages *pages, size_t *first, size_t *last) {
    size_t count = pages->mapped / page_size(), i = *first;
    while (i < count && !is_own(pages, i))
        i += i % 64 == 0 && pages->own[i / 64] == 0 ? 64 : 1;
    if (i >= count)
        return false;
    *first = i;
    while (i < count && is_own(pages, i))
        i++;
    *last = i;
    return true;
}

/* Where a page begins, or the buffer ends if that is before. */
static size_t byte_of(const struct mo_pages *pages, size_t page) {
    size_t byte = page * page_size();
    return byte < pages->size ? byte : pages->size;
}

/* ------------------------------------------------ 4. states; the lock is held */

/* A closed view that nobody shares its image with is opened. *ret_uncharge: what it no
 * longer has of its own. Not if that can't be: it stays as it was. */
static void open_if_alone(struct mo_pages *pages, size_t *ret_uncharge) {
    struct image *image = pages->image;
    if (pages->open || image->views != 1 || image->foreign || !is_fd(image))
        return;
    for (size_t first = 0, last; next_run(pages, &first, &last); first = last)
        if (write_image(image, pages->address, byte_of(pages, first), byte_of(pages, last)) < 0)
            return;
    if (!map_image(pages, image, PROT_READ | PROT_WRITE, MAP_SHARED))
        return;
    *ret_uncharge += pages->own_count * page_size();
    own_nothing(pages);
    pages->open = true;
}

/* An open view of a foreign image takes `fresh` with its contents. */
static int replace_image(struct mo_pages *pages, struct image *fresh) {
    if (write_image(fresh, pages->address, 0, pages->size) < 0 ||
        !map_image(pages, fresh, PROT_READ | PROT_WRITE, MAP_SHARED))
        return -1;
    pages->image->views--;
    pages->image = fresh;
    fresh->views = 1;
    return 0;
}

/* Where scattered pages need more mappings than a process may have, the whole view:
 * all that is lost is that a write nobody asked for faults. */
static bool make_writable(struct mo_pages *pages, size_t offset, size_t length) {
    return mprotect(pages->address + offset, length, PROT_READ | PROT_WRITE) == 0 ||
           mprotect(pages->address, pages->mapped, PROT_READ | PROT_WRITE) == 0;
}

/* The clone's own pages are those of the original. */
static int copy_own(struct mo_pages *clone, const struct mo_pages *pages) {
    for (size_t first = 0, last; next_run(pages, &first, &last); first = last) {
        size_t offset = byte_of(pages, first), length = byte_of(pages, last) - offset;
        if (!make_writable(clone, offset, length))
            return -1;
        memcpy(clone->address + offset, pages->address + offset, length);
    }
    memcpy(clone->own, pages->own, bitmap_size(pages->mapped));
    clone->own_count = pages->own_count;
    return 0;
}

static void add_view(struct mo_pages *pages, struct image *image) {
    pages->image = image;
    image->views++;
    pages->previous = all.previous;
    pages->next = &all;
    all.previous->next = pages;
    all.previous = pages;
}

/* --------------------------------------------------------------- 5. operations */

static struct mo_pages *view_new(struct memopt_heap *heap, size_t size, size_t mapped) {
    struct mo_pages *pages = memopt_heap_calloc(heap, 1, sizeof(*pages) + bitmap_size(mapped));
    if (pages != NULL) {
        pages->heap = heap;
        pages->size = size;
        pages->mapped = mapped;
    }
    return pages;
}

static void view_free(struct mo_pages *pages) {
    unmap(pages);
    memopt_heap_free(pages->heap, pages);
}

int mo_pages_create(struct memopt_heap *heap, size_t size, struct mo_pages **ret_pages,
                    struct memopt_error *error) {
    int code = mo_object_start(error);
    if (code < 0)
        return code;
    if (size > PTRDIFF_MAX - page_size())
        return out_of_memory(heap, size, error);
    size_t mapped = (size + page_size() - 1) / page_size() * page_size();
    struct mo_pages *pages = view_new(heap, size, mapped);
    if (pages == NULL)
        return out_of_memory(heap, sizeof(*pages), error);
    struct image *image;
    code = image_new(heap, mapped, &image, error);
    if (code == 0) {
        code = map_first(pages, image, PROT_READ | PROT_WRITE, MAP_SHARED, error);
        if (code < 0)
            image_free(image);
    }
    if (code < 0) {
        view_free(pages);
        return code;
    }
    pages->open = true;
    pthread_mutex_lock(&lock);
    add_view(pages, image);
    pthread_mutex_unlock(&lock);
    *ret_pages = pages;
    return 0;
}

/* With the lock. `charged` bytes are paid for, and `fresh` is there if it was
 * needed. */
static int clone_locked(struct mo_pages *pages, struct mo_pages *clone, struct image *fresh,
                        struct memopt_error *error) {
    if (pages->open && pages->image->foreign && (fresh == NULL || replace_image(pages, fresh) < 0))
        return mo_fail(error, -ENOMEM, "can't copy %zu bytes of a buffer from before fork",
                       pages->size);
    struct image *image = pages->image;
    if (!is_fd(image))
        return mo_fail(error, -EBADF,
                       "the descriptor of a copy-on-write buffer was closed by somebody else");
    int code = map_first(clone, image, PROT_READ, MAP_PRIVATE, error);
    if (code < 0)
        return code;
    if (pages->open) {
        if (!map_image(pages, image, PROT_READ, MAP_PRIVATE))
            return mo_fail(error, -ENOMEM, "can't map %zu bytes of a copy-on-write buffer: %s",
                           pages->mapped, strerror(errno));
        pages->open = false;
    } else if (copy_own(clone, pages) < 0) {
        return mo_fail(error, -ENOMEM, "can't make pages of a copy-on-write buffer writable: %s",
                       strerror(errno));
    }
    add_view(clone, image);
    return 0;
}

int mo_pages_clone(struct mo_pages *pages, struct mo_pages **ret_clone,
                   struct memopt_error *error) {
    struct memopt_heap *heap = pages->heap;
    struct image *fresh = NULL, *old = NULL;
    size_t charged, spare = 0;
    struct mo_pages *clone = view_new(heap, pages->size, pages->mapped);
    if (clone == NULL)
        return out_of_memory(heap, sizeof(*clone), error);
    /* Only other clones of this view can come between the locks, and those make less
     * of what is prepared here necessary. */
    pthread_mutex_lock(&lock);
    open_if_alone(pages, &spare);
    charged = pages->own_count * page_size();
    bool must_copy = pages->open && pages->image->foreign;
    pthread_mutex_unlock(&lock);
    mo_heap_uncharge(heap, spare);
    int code = 0;
    if (charged > 0 && mo_heap_charge(heap, charged) < 0) {
        code = out_of_memory(heap, charged, error);
        charged = 0;
    }
    if (code == 0 && must_copy)
        code = image_new(heap, pages->mapped, &fresh, error);
    if (code == 0) {
        pthread_mutex_lock(&lock);
        struct image *before = pages->image;
        code = clone_locked(pages, clone, fresh, error);
        if (pages->image == fresh) {
            fresh = NULL;
            old = before->views == 0 ? before : NULL;
        }
        if (code == 0)
            charged -= clone->own_count * page_size();
        pthread_mutex_unlock(&lock);
    }
    mo_heap_uncharge(heap, charged);
    image_free(fresh);
    image_free(old);
    if (code < 0) {
        view_free(clone);
        return code;
    }
    *ret_clone = clone;
    return 0;
}

void *mo_pages_address(const struct mo_pages *pages) {
    return pages->address;
}

int mo_pages_write(struct mo_pages *pages, size_t offset, size_t length,
                   struct memopt_error *error) {
    size_t uncharge = 0, charge = 0, page = page_size();
    size_t first = offset / page, last = (offset + length - 1) / page + 1;
    pthread_mutex_lock(&lock);
    open_if_alone(pages, &uncharge);
    bool open = pages->open;
    pthread_mutex_unlock(&lock);
    mo_heap_uncharge(pages->heap, uncharge);
    for (size_t i = first; !open && i < last; i++)
        charge += is_own(pages, i) ? 0 : page;
    if (charge == 0)
        return 0;
    if (mo_heap_charge(pages->heap, charge) < 0)
        return mo_fail(error, -ENOMEM, "heap '%s' has no %zu bytes more for a copy-on-write buffer",
                       memopt_heap_name(pages->heap), charge);
    pthread_mutex_lock(&lock);
    bool done = make_writable(pages, first * page, (last - first) * page);
    for (size_t i = first; done && i < last; i++)
        make_own(pages, i);
    pthread_mutex_unlock(&lock);
    if (done)
        return 0;
    mo_heap_uncharge(pages->heap, charge);
    return mo_fail(error, -ENOMEM, "can't make %zu bytes of a copy-on-write buffer writable",
                   length);
}

void mo_pages_destroy(struct mo_pages *pages) {
    struct image *image = pages->image;
    pthread_mutex_lock(&lock);
    pages->previous->next = pages->next;
    pages->next->previous = pages->previous;
    bool last = --image->views == 0;
    pthread_mutex_unlock(&lock);
    mo_heap_uncharge(pages->heap, pages->own_count * page_size());
    view_free(pages);
    if (last)
        image_free(image);
}

void mo_pages_count(const struct mo_pages *pages, uint64_t *ret_views, uint64_t *ret_private,
                    uint64_t *ret_all) {
    pthread_mutex_lock(&lock);
    *ret_views = pages->image->views;
    *ret_all = pages->mapped;
    *ret_private = pages->image->views == 1 ? pages->mapped : pages->own_count * page_size();
    pthread_mutex_unlock(&lock);
}

/* --------------------------------------------------------------------- 6. fork */

void mo_pages_fork(enum mo_fork_moment moment) {
    if (moment == MO_FORK_BEFORE)
        mo_fork_lock(&lock);
    for (struct mo_pages *pages = all.next; pages != &all; pages = pages->next) {
        if (moment == MO_FORK_BEFORE) {
            if (pages->open && !pages->image->foreign)
                pages->shared_at_fork =
                    !map_image(pages, pages->image, PROT_READ | PROT_WRITE, MAP_PRIVATE);
            pages->image->foreign = true;
        } else {
            if (moment == MO_FORK_CHILD && pages->shared_at_fork)
                mprotect(pages->address, pages->mapped, PROT_NONE);
            pages->shared_at_fork = false;
        }
    }
    if (moment != MO_FORK_BEFORE)
        mo_fork_unlock(&lock);
}
