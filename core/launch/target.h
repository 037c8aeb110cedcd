/*
 * target.h - what kind of program is about to be started, found out before it is.
 *
 * Some programs can't be preloaded, and ld.so or their own run-time would say
 * nothing, print a riddle or stop them. They are recognised from the file
 * alone, so that memopt can say so in one sentence and do the best that is left
 * (core/launch/watch.h, core/import/lsan.h).
 *
 * Vocabulary
 *   program   what the user named; path: the file execve() gets
 *   binary    the ELF file that runs in the end: path itself, or the
 *             interpreter of a script
 *   obstacle  why nothing can be preloaded into the binary
 *
 * The functions are pure but for reading files; nothing is kept. Every byte
 * they read is checked. Used by the memopt command only.
 */
#ifndef MO_LAUNCH_TARGET_H
#define MO_LAUNCH_TARGET_H

#include "core/base/sanitizer.h"

#include <memopt/error.h>

#include <limits.h>
#include <stddef.h>
#include <sys/types.h>

enum mo_obstacle {
    MO_OBSTACLE_NONE,
    MO_OBSTACLE_STATIC,     /* no dynamic loader: LD_PRELOAD is ignored in silence */
    MO_OBSTACLE_SECURE,     /* set-uid and the like: ld.so drops LD_PRELOAD */
    MO_OBSTACLE_FOREIGN,    /* another word size or machine */
    MO_OBSTACLE_SANITIZED,  /* its malloc belongs to a sanitizer */
    MO_OBSTACLE_OWN_MALLOC, /* the executable defines malloc or free itself */
    MO_OBSTACLE_OTHER_LIBC, /* another C library than ours (musl) */
    MO_OBSTACLE_FORMAT,     /* not ELF: left to the kernel (binfmt_misc) */
};

struct mo_target {
    char path[PATH_MAX];
    char binary[PATH_MAX];
    int needs_shell; /* a text without "#!": /bin/sh runs it, as execvp() would do */
    enum mo_obstacle obstacle;
    enum mo_sanitizer sanitizer; /* when SANITIZED */
    char detail[96];             /* the machine, the allocator, the loader, what is secure */
    int part_of_new;             /* it defines some forms of operator new and delete, not all */
    char links_malloc[64];     /* a library it is linked with that has a malloc of its own, or "" */
    char own_call[64];         /* a function of that library's own that it allocates with, or "" */
    const char *own_allocator; /* and the plugin that has the library; NULL if own_call is "" */
};

/* Who runs it, for set-uid; mo_target_find() takes the process's own. */
struct mo_identity {
    uid_t uid;
    gid_t gid, egid;
    uid_t euid;
    int no_new_privileges;
};

/* Looks `name` up as execvp() does (`search`: $PATH or NULL for the default)
 * and examines it. -ENOENT: not found; -EACCES, -EISDIR, -ENOEXEC and others:
 * found, but not executable; the message says why. */
int mo_target_find(const char *name, const char *search, struct mo_target *ret_target,
                   struct memopt_error *error);

/* Whether starting a file of this owner and mode would be a secure execution
 * for `who`. `capabilities`: the security.capability attribute, size 0: none. */
int mo_target_is_secure(const struct mo_identity *who, uid_t owner, gid_t group, mode_t mode,
                        int nosuid, const void *capabilities, size_t capabilities_size);

/* Examines the image of an ELF file; fills obstacle, sanitizer and detail.
 * -ENOEXEC: it is no ELF file or is damaged. */
int mo_target_examine_elf(const void *image, size_t size, struct mo_target *target,
                          struct memopt_error *error);

/* Whether the shared library `name`, found as ld.so finds what LD_PRELOAD names, defines
 * malloc or free; `path` is then its file. What can't be found or read does not. */
int mo_target_library_has_malloc(const char *name, char path[PATH_MAX]);

/* What the obstacle is, half a sentence. "" if there is none. */
void mo_target_explain(const struct mo_target *target, char *buffer, size_t size);

#endif
