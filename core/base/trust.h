/*
 * trust.h - whether a file is one that only the user or root can have written: what
 * settings are read from without being asked for, and what is loaded as code.
 *
 * It is judged by owner and mode, not by place. The file, each directory above it up to
 * the root, and each symbolic link on the way must belong to the user (the effective user
 * id) or to root, whose number the owner of "/" has in a user namespace. Neither others may write them nor a group other than the owner's own,
 * which is the one with the owner's number; a sticky directory may be written by anybody,
 * as nobody can take away there what is the user's or root's.
 *
 * The path is walked by descriptors, one component at a time, and the descriptor that is
 * returned is the one that was judged. As no one else can change anything on the way, the
 * same path may be opened again later.
 *
 * Safe in any process: nothing is allocated. The file system is the kernel's to judge:
 * what a server or another name space makes of owners is believed.
 */
#ifndef MO_BASE_TRUST_H
#define MO_BASE_TRUST_H

enum { MO_TRUST_WHY = 512 };

/* Opens `path` for reading if it can be trusted; a device or a pipe does not block.
 * `flags`: 0 or O_DIRECTORY. Negative errno: it can't be opened, and why is empty; or
 * -EPERM, and `why` has the reason: "it belongs to user 1001, neither you nor root". */
int mo_trust_open(const char *path, int flags, char why[MO_TRUST_WHY]);

/* Judges only the open file itself; 0, or -EPERM and the reason. */
int mo_trust_file(int fd, char why[MO_TRUST_WHY]);

#endif
