/*
 * parts.h - what the files of the engine have from each other; config.h is what others use.
 *
 *   config.c  the object: values and their origins; sections and what a name stands for;
 *             loading, in order
 *   read.c    files, lines, --set; problems
 *   check.c   raw settings become values
 *   write.c   the configuration as an INI
 */
#ifndef MO_CONFIG_PARTS_H
#define MO_CONFIG_PARTS_H

#include "core/config/config.h"

enum {
    MO_LINE_LIMIT = 8 << 10, /* bytes of a line, where inih lets us choose */
    MO_SECTION_LIMIT = 256,  /* of all files */
};

/* ------------------------------------------------------------------ config.c */

struct mo_cfg_block {
    struct mo_cfg_block *next;
    max_align_t data[];
};

struct mo_cfg_value {
    const char *text; /* NULL: the default counts */
    struct mo_origin origin;
    int source;
    int refused;                  /* a text that is not the value */
    int given_source, given_line; /* where it came last, refused or not; line 0: not in a file */
};

struct mo_cfg_section {
    struct mo_section type;
    struct mo_cfg_value *values; /* one for each mo_section_option() */
    int mentioned;
};

struct mo_config {
    struct mo_cfg_block *blocks;
    struct mo_allocator allocator;
    struct mo_cfg_section sections[MO_SECTION_LIMIT];
    size_t section_count;
    /* named by path, so that [allocator.NAME] finds them */
    struct mo_plugin *plugins[MO_SECTION_LIMIT];
    size_t plugin_count;
};

/* A file, or one --set. */
struct mo_cfg_source {
    enum mo_origin_kind kind;
    const char *label;     /* in messages */
    const char *origin;    /* mo_origin.file */
    const char *directory; /* where relative paths begin; NULL: nowhere */
    size_t problems;
};

/* One `key = value`, or a section's header (key NULL). */
struct mo_cfg_raw {
    int source, line;
    const char *section, *key, *value;
};

struct mo_cfg_problem {
    int source, line; /* source -1: the defaults */
    int code;
    const char *text;
    size_t order;
};

struct mo_cfg_loader {
    struct mo_config *config;
    struct mo_cfg_source *sources;
    size_t source_count;
    struct mo_cfg_raw *raws;
    size_t raw_count, raw_room;
    struct mo_cfg_problem *problems;
    size_t problem_count, problem_room;
    int no_room; /* for one more section: that is told once */
    int no_memory;
};

/* For mo_allocator; the context is the configuration. */
void *mo_config_alloc(void *context, size_t size);
char *mo_config_copy(struct mo_config *config, const char *text, size_t length);
const struct mo_cfg_section *mo_config_find(const struct mo_config *config, const char *name);
/* The index of a key's row; the number of rows if there is none. */
size_t mo_section_row(const struct mo_section *section, const char *key);
int mo_config_add_section(struct mo_config *config, const struct mo_section *type,
                          struct mo_cfg_section **ret_section, struct memopt_error *error);
/* Whether a name is that of a plugin's section. */
int mo_section_is_plugins(const char *name);

/* -------------------------------------------------------------------- read.c */

/* Copies; NULL: out of memory, and no_memory is set. */
const char *mo_loader_keep(struct mo_cfg_loader *loader, const char *text, size_t length);
/* So many problems in one source that the rest of it is not looked at. */
int mo_loader_full(const struct mo_cfg_loader *loader, int source);
void mo_loader_problem(struct mo_cfg_loader *loader, int source, int line, int code,
                       const char *format, ...) __attribute__((format(printf, 5, 6)));
/* All problems in the order of the files; returns the first one's code. */
int mo_loader_fail(struct mo_cfg_loader *loader, const struct mo_config_request *request,
                   struct memopt_error *error);
int mo_is_blank(char c);

/* How a file came to be read. */
enum mo_way {
    MO_WAY_SYSTEM, /* in the directory of memopt's own */
    MO_WAY_FOUND,  /* where the user is or lives: if it can be trusted */
    MO_WAY_NAMED,  /* by -c or MEMOPT_CONF: it must be there, and is read in any case */
};
void mo_read_file(struct mo_cfg_loader *loader, const char *path, enum mo_way way);
void mo_read_user_file(struct mo_cfg_loader *loader);
void mo_read_set(struct mo_cfg_loader *loader, const struct mo_config_set *set);
void mo_read_text(struct mo_cfg_loader *loader, int source, const char *text, size_t size);
int mo_loader_add_source(struct mo_cfg_loader *loader, enum mo_origin_kind kind, const char *label,
                         const char *origin, const char *directory);

/* ------------------------------------------------------------------- check.c */

/* Checks everything that was read; the loader's configuration is then that of the caller. */
int mo_check_all(struct mo_cfg_loader *loader, const struct mo_config_request *request,
                 struct mo_config **ret_config, struct memopt_error *error);

/* ------------------------------------------------------------------- write.c */

/* mo_config_write() writes a value as it is: refuses what inih would read back as another.
 * --set gives any text, and any directory may become part of a path. */
int mo_check_writable(const char *key, const char *text, struct memopt_error *error);

#endif
