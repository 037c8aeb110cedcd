/*
 * plan.c - see plan.h.
 *
 *   1. the binding
 *   2. the environment: what is preloaded, what the backends want
 *   3. all of it in order
 */
#include "config.h"

#include "core/ledger/reader.h"
#include "core/launch/plan.h"

#include "core/base/error.h"
#include "core/base/preload.h"
#include "core/heap/section.h"
#include "core/import/lsan.h"
#include "core/launch/trial.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --------------------------------------------------------- 1. the binding */

int mo_choose_binding(const struct mo_binding_facts *facts, enum mo_binding *ret_binding,
                      struct memopt_error *error) {
    const char *against = NULL;
    char reason[160];
    if (!(facts->flags & MEMOPT_ALLOCATOR_DIRECT))
        against = "this allocator works behind memopt's dispatch only";
    else if (facts->trackers > 0)
        against = "a tracker has to see each call (-t '' leaves it out)";
    else if (facts->heap_rules)
        against = "[heap.default] has settings that apply to each call";
    else if (!facts->has_library && facts->links_malloc[0] != '\0') {
        snprintf(reason, sizeof(reason),
                 "the program is linked with '%s', whose malloc comes before the C library's",
                 facts->links_malloc);
        against = reason;
    } else if (facts->has_library && facts->part_of_new)
        against = "the program has its own operator new, but not all forms of it, and the library "
                  "would bring the others";
    if (facts->wanted == MO_BINDING_DIRECT && against != NULL)
        return mo_fail(error, -EINVAL, "binding = direct is impossible with allocator '%s': %s%s",
                       facts->allocator, against,
                       facts->is_bare ? "" : "; use binding = auto or dispatch");
    if (facts->own_call != NULL && facts->own_call[0] != '\0' &&
        (facts->wanted == MO_BINDING_DISPATCH || against != NULL))
        return mo_fail(
            error, -EINVAL,
            "the program calls '%s' of '%s' itself, past memopt's dispatch, and can only "
            "be bound directly to that library: %s",
            facts->own_call, facts->links_malloc,
            facts->wanted == MO_BINDING_DISPATCH ? "use binding = auto" : against);
    *ret_binding = facts->wanted == MO_BINDING_DISPATCH || against != NULL ? MO_BINDING_DISPATCH
                                                                           : MO_BINDING_DIRECT;
    return 0;
}

/* ----------------------------------------------------- 2. the environment */

/* ld.so splits LD_PRELOAD at blanks and colons and expands '$': a library with
 * such a path gets a plain name in the run directory. */
static const char special[] = " \t\n:$";

static int plain_path(const struct mo_session *session, const char *path, char plain[PATH_MAX],
                      struct memopt_error *error) {
    if (strpbrk(path, special) == NULL) {
        snprintf(plain, PATH_MAX, "%s", path);
        return 0;
    }
    const char *name = strrchr(path, '/') == NULL ? path : strrchr(path, '/') + 1;
    int length = snprintf(plain, PATH_MAX, "%s/%s", session->directory, name);
    if (length >= PATH_MAX || strpbrk(plain, special) != NULL)
        return mo_fail(error, -EINVAL,
                       "'%s' can't be preloaded: neither its path nor that of the run directory "
                       "'%s' may have blanks, colons or '$'",
                       path, session->directory);
    if (symlink(path, plain) != 0 && errno != EEXIST)
        return mo_fail(error, -errno, "can't link '%s' into the run directory: %s", path,
                       strerror(errno));
    return 0;
}

/* What an outer `memopt run` put into the environment is not the user's. */
static int forget_outer(struct mo_plan *plan, struct memopt_error *error) {
    struct mo_environment *environment = &plan->environment;
    const char *preloaded = mo_environment_get(environment, "MEMOPT_PRELOADED");
    const char *list = mo_environment_get(environment, "LD_PRELOAD");
    if (preloaded != NULL && list != NULL) {
        mo_auto_free char *rest = strdup(list);
        if (rest == NULL)
            return mo_fail(error, -ENOMEM, "out of memory");
        mo_preload_forget(rest, preloaded);
        if (rest[0] == '\0')
            mo_environment_unset(environment, "LD_PRELOAD");
        else
            mo_environment_set(environment, "LD_PRELOAD", rest);
    }
    mo_environment_unset(environment, "MEMOPT_RUN");
    mo_environment_unset(environment, "MEMOPT_PRELOADED");
    return 0;
}

static void notice(struct mo_plan *plan, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void notice(struct mo_plan *plan, const char *format, ...) {
    enum { MOST = sizeof(plan->notices) / sizeof(plan->notices[0]) };
    va_list arguments;
    va_start(arguments, format);
    for (size_t i = 0; i < MOST; i++)
        if (plan->notices[i][0] == '\0') {
            vsnprintf(plan->notices[i], sizeof(plan->notices[i]), format, arguments);
            break;
        }
    va_end(arguments);
}

static int is_same_file(const char *a, const char *b) {
    struct stat one, other;
    return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

/* A malloc that the user has preloaded is not used where memopt's comes before it. `list`
 * is LD_PRELOAD or the text of /etc/ld.so.preload, `backend` the allocator's library. */
static void notice_bypassed(struct mo_plan *plan, const char *list, const char *whose,
                            const char *backend) {
    size_t length;
    for (const char *at = list; (at = mo_preload_next(at, &length)) != NULL; at += length) {
        char name[PATH_MAX], path[PATH_MAX];
        if (length >= sizeof(name))
            continue;
        snprintf(name, sizeof(name), "%.*s", (int)length, at);
        if (mo_target_library_has_malloc(name, path) && !is_same_file(path, backend))
            notice(plan,
                   "'%.200s' in %s has a malloc of its own, which is not used: the program is on "
                   "allocator '%s'; -a libc without trackers would leave it in place",
                   name, whose, plan->allocator->descriptor.name);
    }
}

/* One entry a line or several, with comments: as LD_PRELOAD would have them. */
static void notice_bypassed_by_file(struct mo_plan *plan, const char *backend) {
    char text[4096];
    mo_auto_close int fd = open("/etc/ld.so.preload", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    text[length < 0 ? 0 : length] = '\0';
    for (char *at = text; *at != '\0'; at++) {
        if (*at == '#')
            while (*at != '\n' && at[1] != '\0')
                *at++ = ' ';
        if (*at == '\n' || *at == '\t')
            *at = ' ';
    }
    notice_bypassed(plan, text, "/etc/ld.so.preload", backend);
}

static int set_preload(struct mo_plan *plan, struct memopt_error *error) {
    char own[PATH_MAX], plain[PATH_MAX], backend[PATH_MAX];
    int direct = plan->binding == MO_BINDING_DIRECT;
    int r = mo_plugin_backend_library(plan->allocator, backend, sizeof(backend), error);
    if (r < 0)
        return r;
    const char *name = "libmemopt-preload.so";
    if (direct)
        name = "libmemopt-agent.so";
    r = mo_plugin_own_library(name, own, sizeof(own), error);
    if (r < 0)
        return r;
    r = plain_path(&plan->session, own, plain, error);
    if (r < 0)
        return r;
    mo_auto_free char *old = NULL;
    const char *users = mo_environment_get(&plan->environment, "LD_PRELOAD");
    if (users != NULL && (old = strdup(users)) == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    char pid[32];
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    mo_environment_set(&plan->environment, "LD_PRELOAD", plain);
    mo_environment_set(&plan->environment, "MEMOPT_PRELOADED", pid); /* core/base/preload.h */
    mo_environment_append(&plan->environment, "MEMOPT_PRELOADED", plain, ":");
    if (backend[0] != '\0' &&
        (direct || (plan->allocator->ops.allocator.flags & MEMOPT_ALLOCATOR_PRELOAD) != 0)) {
        r = plain_path(&plan->session, backend, plain, error);
        if (r < 0)
            return r;
        mo_environment_append(&plan->environment, "LD_PRELOAD", plain, ":");
        mo_environment_append(&plan->environment, "MEMOPT_PRELOADED", plain, ":");
    }
    if (!direct || backend[0] != '\0') {
        notice_bypassed(plan, old == NULL ? "" : old, "LD_PRELOAD", backend);
        notice_bypassed_by_file(plan, backend);
    }
    if (old != NULL && old[0] != '\0')
        mo_environment_append(&plan->environment, "LD_PRELOAD", old, ":");
    mo_environment_set(&plan->environment, "MEMOPT_RUN", plan->session.directory);
    return 0;
}

static void set_variable(void *context, const char *name, const char *value, char mode,
                         const char *separator) {
    struct mo_environment *environment = context;
    if (mode == '<')
        mo_environment_prepend(environment, name, value, separator);
    else if (mode == '+')
        mo_environment_append(environment, name, value, separator);
    else
        mo_environment_set(environment, name, value);
}

/* Where the variables go: memopt_setenv_fn with its context. */
struct variables {
    memopt_setenv_fn set;
    void *context;
    int has_tls_room; /* GLIBC_TUNABLES has the user's own */
};

static int has_tls_room(const char *tunables) {
    return tunables != NULL && strstr(tunables, "optional_static_tls") != NULL;
}

static struct variables into_environment(struct mo_plan *plan) {
    const char *tunables = mo_environment_get(&plan->environment, "GLIBC_TUNABLES");
    return (struct variables){set_variable, &plan->environment, has_tls_room(tunables)};
}

static int ask_plugin(const struct variables *to, struct mo_config *config,
                      struct mo_plugin *plugin, struct memopt_error *error) {
    if (plugin->ops.allocator.environment == NULL)
        return 0;
    char section[128];
    snprintf(section, sizeof(section), "allocator.%s", plugin->descriptor.name);
    mo_auto_free void *settings = calloc(1, plugin->descriptor.settings_size + 1);
    if (settings == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    int r = mo_config_fill(config, section, plugin->table, settings, error);
    if (r < 0)
        return r;
    r = plugin->ops.allocator.environment(&mo_host, settings, to->set, to->context, error);
    return r < 0 ? mo_error_prefix(error, "allocator '%s'", plugin->descriptor.name) : 0;
}

/* Allocators that only named heaps use: their variables, and room for the
 * thread-local storage of those that would be preloaded as the default heap. */
static int ask_heaps(const struct mo_plan *plan, const struct variables *to,
                     struct mo_config *config, struct memopt_error *error) {
    int has_room = to->has_tls_room;
    const char *heap;
    for (size_t i = 0; (heap = mo_config_section(config, "heap.", i)) != NULL; i++) {
        char section[256];
        struct mo_plugin *plugin;
        struct mo_settings_heap settings;
        snprintf(section, sizeof(section), "heap.%s", heap);
        int r = mo_config_fill(config, section, mo_section_heap.table, &settings, error);
        if (r == 0 && settings.allocator == NULL)
            continue;
        if (r == 0)
            r = mo_plugin_load(MEMOPT_ALLOCATOR, settings.allocator, &plugin, error);
        if (r < 0)
            return r;
        if (plugin == plan->allocator)
            continue;
        r = mo_try_settings(config, plugin, error);
        if (r < 0)
            return r;
        r = ask_plugin(to, config, plugin, error);
        if (r < 0)
            return r;
        if ((plugin->ops.allocator.flags & MEMOPT_ALLOCATOR_PRELOAD) != 0 && !has_room) {
            to->set(to->context, "GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=8192", '+', ":");
            has_room = 1;
        }
    }
    return 0;
}

/* After the default heap's allocator was tried: its variables, and those of other heaps'. */
static int ask_all(const struct mo_plan *plan, const struct variables *to, struct mo_config *config,
                   struct memopt_error *error) {
    int r = ask_plugin(to, config, plan->allocator, error);
    return r < 0 ? r : ask_heaps(plan, to, config, error);
}

/* What puts a program on the allocator with nothing of memopt's in it. `users`: its
 * LD_PRELOAD before that, or NULL. */
static int ask_bare(struct mo_plan *plan, const struct variables *to, const char *users,
                    struct mo_config *config, struct memopt_error *error) {
    char backend[PATH_MAX];
    int r = mo_try_settings(config, plan->allocator, error);
    if (r == 0)
        r = mo_plugin_backend_library(plan->allocator, backend, sizeof(backend), error);
    if (r < 0)
        return r;
    if (strpbrk(backend, special) != NULL)
        return mo_fail(error, -EINVAL,
                       "'%s' can't be preloaded: its path may not have blanks, colons or '$'",
                       backend);
    if (backend[0] != '\0') {
        notice_bypassed(plan, users == NULL ? "" : users, "LD_PRELOAD", backend);
        notice_bypassed_by_file(plan, backend);
        to->set(to->context, "LD_PRELOAD", backend, '<', ":");
    }
    return ask_all(plan, to, config, error);
}

/* The sanitizer writes to the run directory, unless the user has a place. */
static void set_sanitizer_log(struct mo_plan *plan) {
    static const char *const variables[] = {
        [MO_SANITIZER_ADDRESS] = "ASAN_OPTIONS",     [MO_SANITIZER_LEAK] = "LSAN_OPTIONS",
        [MO_SANITIZER_THREAD] = "TSAN_OPTIONS",      [MO_SANITIZER_MEMORY] = "MSAN_OPTIONS",
        [MO_SANITIZER_HWADDRESS] = "HWASAN_OPTIONS",
    };
    static const char *const all[] = {"ASAN_OPTIONS", "LSAN_OPTIONS",   "TSAN_OPTIONS",
                                      "MSAN_OPTIONS", "HWASAN_OPTIONS", "UBSAN_OPTIONS"};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        const char *value = mo_environment_get(&plan->environment, all[i]);
        if (value != NULL && strstr(value, "log_path") != NULL)
            return;
    }
    char option[PATH_MAX + 32];
    snprintf(option, sizeof(option), "log_path=\"%s/" MO_LSAN_FILE "\"", plan->session.directory);
    mo_environment_append(&plan->environment, variables[plan->target.sanitizer], option, ":");
    plan->sanitizes = 1;
}

/* -------------------------------------------------- 3. all of it in order */

static int write_file(const struct mo_plan *plan, const struct mo_config *config, const char *name,
                      int (*write)(const struct mo_plan *plan, const struct mo_config *config,
                                   FILE *stream, struct memopt_error *error),
                      struct memopt_error *error) {
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/%s", plan->session.directory, name);
    FILE *stream = fopen(path, "wxe");
    if (stream == NULL)
        return mo_fail(error, -errno, "can't create '%s': %s", path, strerror(errno));
    fchmod(fileno(stream), 0644); /* whatever the umask: see mo_session_create() */
    int r = write(plan, config, stream, error);
    if (fclose(stream) != 0 && r == 0)
        r = mo_fail(error, -errno, "can't write '%s': %s", path, strerror(errno));
    return r;
}

static int write_configuration(const struct mo_plan *plan, const struct mo_config *config,
                               FILE *stream, struct memopt_error *error) {
    (void)plan;
    return mo_config_write(config, stream, error);
}

/* What every process needs, found once: each that the program starts reads this first, and
 * the agent reads nothing else. */
static int write_run(const struct mo_plan *plan, const struct mo_config *config, FILE *stream,
                     struct memopt_error *error) {
    (void)config, (void)error;
    fprintf(stream, "[run]\nallocator = %s\nfollow = %s\n", plan->allocator->descriptor.name,
            plan->settings.follow ? "yes" : "no");
    /* one whose path can't stand in a line is looked for again */
    if (strpbrk(plan->allocator->path, "\r\n") == NULL)
        fprintf(stream, "plugin = %s\n", plan->allocator->path);
    for (size_t i = 0; i < plan->settings.trackers.count; i++) {
        struct mo_plugin *plugin;
        if (mo_plugin_load(MEMOPT_TRACKER, plan->settings.trackers.items[i], &plugin, NULL) == 0 &&
            strpbrk(plugin->path, "\r\n") == NULL)
            fprintf(stream, "tracker%zu = %s\n", i, plugin->path);
    }
    return 0;
}

static int write_settings(const struct mo_plan *plan, const struct mo_config *config,
                          struct memopt_error *error) {
    int r = write_file(plan, config, "settings.ini", write_configuration, error);
    if (r == 0)
        r = write_file(plan, config, "run.ini", write_run, error);
    if (r == 0 && (r = mo_ledgers_make(plan->session.fd, error)) < 0)
        mo_error_prefix(error, "'%s'", plan->session.directory);
    return r;
}

static int choose_allocator(struct mo_config *config, struct mo_plan *plan,
                            struct memopt_error *error) {
    int r = mo_config_fill(config, "memopt", mo_section_memopt.table, &plan->settings, error);
    if (r < 0)
        return r;
    const struct mo_settings_memopt *settings = &plan->settings;
    for (size_t i = 0; i < settings->plugin_path.count; i++) {
        r = mo_plugin_add_directory(settings->plugin_path.items[i], error);
        if (r < 0)
            return r;
    }
    r = mo_plugin_load(MEMOPT_ALLOCATOR, settings->allocator, &plan->allocator, error);
    if (r < 0)
        return r;
    const struct mo_plugin *allocator = plan->allocator;
    if ((allocator->ops.allocator.flags & MEMOPT_ALLOCATOR_HEAPS_ONLY) != 0) {
        mo_fail(error, -EINVAL,
                "allocator '%s' serves named heaps only ([heap.NAME] allocator = %s), not a "
                "program's malloc",
                allocator->descriptor.name, allocator->descriptor.name);
        return mo_config_blame(config, "memopt", "allocator", error);
    }
    return 0;
}

/* A program that calls functions of an allocator's library itself (mallocx, mi_malloc)
 * can't be on another allocator, as it may free with free() what those gave it, and the
 * other way round. */
static int follow_own_calls(struct mo_config *config, struct mo_plan *plan,
                            struct memopt_error *error) {
    const struct mo_target *target = &plan->target;
    if (target->own_call[0] == '\0' || target->obstacle != MO_OBSTACLE_NONE)
        return 0;
    struct mo_origin origin;
    mo_config_get(config, "memopt", "allocator", &origin);
    if (strcmp(plan->allocator->descriptor.name, target->own_allocator) != 0) {
        if (origin.kind != MO_ORIGIN_DEFAULT) {
            mo_fail(error, -EINVAL,
                    "'%s' can't run on allocator '%s': it calls '%s' of '%s' itself, and what that "
                    "hands out only that library can free; use -a %s, or name no allocator",
                    target->binary, plan->allocator->descriptor.name, target->own_call,
                    target->links_malloc, target->own_allocator);
            return mo_config_blame(config, "memopt", "allocator", error);
        }
        int r = mo_config_put(config, "memopt", "allocator", target->own_allocator,
                              target->own_call, error);
        if (r == 0)
            r = choose_allocator(config, plan, error);
        if (r < 0)
            return mo_error_prefix(error, "'%s' calls '%s' of '%s' itself", target->binary,
                                   target->own_call, target->links_malloc);
    }
    notice(plan, "'%s' calls '%s' of '%s' itself, so it is bound to that library (allocator '%s')",
           target->binary, target->own_call, target->links_malloc, target->own_allocator);
    return 0;
}

static int choose_binding(struct mo_config *config, struct mo_plan *plan, int is_bare,
                          struct memopt_error *error) {
    const struct mo_settings_memopt *settings = &plan->settings;
    const struct mo_plugin *allocator = plan->allocator;
    int heap_rules = 0;
    const char *heap;
    for (size_t i = 0; (heap = mo_config_section(config, "heap.", i)) != NULL; i++)
        heap_rules |= strcmp(heap, "default") == 0;
    struct mo_binding_facts facts = {
        .wanted = (enum mo_binding)settings->binding,
        .trackers = settings->trackers.count,
        .heap_rules = heap_rules,
        .flags = allocator->ops.allocator.flags,
        .allocator = allocator->descriptor.name,
        .has_library = allocator->ops.allocator.libraries != NULL,
        .links_malloc = plan->target.links_malloc,
        .part_of_new = plan->target.part_of_new,
        .own_call = plan->target.obstacle == MO_OBSTACLE_NONE ? plan->target.own_call : "",
        .is_bare = is_bare,
    };
    int r = mo_choose_binding(&facts, &plan->binding, error);
    return r < 0 ? mo_config_blame(config, "memopt", "binding", error) : 0;
}

/* What each of them leaves goes by its name. */
static int check_trackers(struct mo_config *config, const struct mo_plan *plan,
                          struct memopt_error *error) {
    const struct memopt_list *names = &plan->settings.trackers;
    for (size_t i = 1; i < names->count; i++)
        for (size_t k = 0; k < i; k++) {
            struct mo_plugin *a, *b;
            if (mo_plugin_load(MEMOPT_TRACKER, names->items[k], &a, NULL) < 0 ||
                mo_plugin_load(MEMOPT_TRACKER, names->items[i], &b, NULL) < 0 ||
                strcmp(a->descriptor.name, b->descriptor.name) != 0)
                continue;
            mo_fail(error, -EINVAL, "two trackers called '%s': '%s' and '%s'", a->descriptor.name,
                    names->items[k], names->items[i]);
            return mo_config_blame(config, "memopt", "trackers", error);
        }
    return 0;
}

static int prepare(struct mo_config *config, struct mo_plan *plan, struct memopt_error *error) {
    enum mo_obstacle obstacle = plan->target.obstacle;
    int r = mo_session_create(&plan->session, error);
    if (r == 0)
        r = write_settings(plan, config, error);
    if (r < 0) {
        /* the program matters more than the look at it */
        mo_session_remove(&plan->session);
        plan->watches = 1;
        snprintf(plan->obstacle, sizeof(plan->obstacle),
                 "%.400s; the program runs as it is, watched from outside", error->message);
        mo_fail(error, 0, "%s", "");
        return 0;
    }
    plan->watches = obstacle != MO_OBSTACLE_NONE;
    if (plan->watches) {
        char why[400];
        mo_target_explain(&plan->target, why, sizeof(why));
        snprintf(plan->obstacle, sizeof(plan->obstacle), "%s; it runs as it is, %s", why,
                 obstacle == MO_OBSTACLE_SANITIZED ? "and what the sanitizer reports is collected"
                                                   : "watched from outside");
    }
    /* a static program ignores LD_PRELOAD, but hands it on */
    plan->preloads =
        obstacle == MO_OBSTACLE_NONE || (obstacle == MO_OBSTACLE_STATIC && plan->settings.follow);
    if (plan->preloads) {
        struct variables to = into_environment(plan);
        r = mo_try_settings(config, plan->allocator, error);
        if (r == 0)
            r = set_preload(plan, error);
        if (r == 0)
            r = ask_all(plan, &to, config, error);
        if (r < 0)
            return r;
    }
    if (obstacle == MO_OBSTACLE_SANITIZED)
        set_sanitizer_log(plan);
    return 0;
}

int mo_plan_check(struct mo_config *config, struct memopt_error *error) {
    struct mo_plan plan = {.session = MO_SESSION_NONE};
    int r = choose_allocator(config, &plan, error);
    if (r == 0)
        r = choose_binding(config, &plan, 0, error);
    const char *name;
    for (size_t i = 0; r == 0 && (name = mo_config_section(config, "allocator.", i)) != NULL; i++) {
        struct mo_plugin *plugin;
        r = mo_plugin_load(MEMOPT_ALLOCATOR, name, &plugin, error);
        if (r == 0)
            r = mo_try_settings(config, plugin, error);
    }
    return r;
}

/* Directly: there is no run directory that the dispatch would find its settings in, and
 * nobody who would read what a tracker writes. */
static int choose_bare(struct mo_config *config, struct mo_plan *plan, const char *command,
                       struct memopt_error *error) {
    if (!(plan->allocator->ops.allocator.flags & MEMOPT_ALLOCATOR_DIRECT)) {
        mo_fail(error, -EINVAL,
                "allocator '%s' works behind memopt's dispatch only: use memopt run",
                plan->allocator->descriptor.name);
        return mo_config_blame(config, "memopt", "allocator", error);
    }
    if (plan->settings.trackers.count > 0) {
        mo_fail(error, -EINVAL,
                "trackers = %s needs dispatch, which %s can't give; --set memopt.trackers= "
                "leaves it out",
                mo_config_get(config, "memopt", "trackers", NULL), command);
        struct mo_origin origin;
        mo_config_get(config, "memopt", "trackers", &origin);
        /* elsewhere the setting is in the message */
        return origin.kind == MO_ORIGIN_FILE ? mo_config_blame(config, "memopt", "trackers", error)
                                             : error->code;
    }
    int r = choose_binding(config, plan, 1, error);
    if (r < 0 || plan->binding == MO_BINDING_DIRECT)
        return r;
    if (plan->settings.binding == MO_BINDING_DISPATCH) {
        mo_fail(error, -EINVAL,
                "binding = dispatch is impossible without memopt beside the "
                "program; use binding = auto");
        return mo_config_blame(config, "memopt", "binding", error);
    }
    plan->settings.binding = MO_BINDING_DIRECT;
    r = choose_binding(config, plan, 1, error); /* says why it is not direct */
    mo_error_hint(error, "%s can only bind a program directly: use memopt run", command);
    return r;
}

int mo_plan_variables(struct mo_config *config, memopt_setenv_fn set, void *context,
                      struct memopt_error *error) {
    struct memopt_error own = MEMOPT_ERROR_INIT;
    if (error == NULL)
        error = &own;
    struct mo_plan plan = {.session = MO_SESSION_NONE};
    int r = choose_allocator(config, &plan, error);
    if (r == 0)
        r = choose_bare(config, &plan, "memopt env", error);
    struct variables to = {set, context, has_tls_room(getenv("GLIBC_TUNABLES"))};
    return r < 0 ? r : ask_bare(&plan, &to, NULL, config, error);
}

static int prepare_bare(struct mo_config *config, struct mo_plan *plan,
                        struct memopt_error *error) {
    enum mo_obstacle obstacle = plan->target.obstacle;
    if (obstacle != MO_OBSTACLE_NONE) {
        char why[400];
        mo_target_explain(&plan->target, why, sizeof(why));
        snprintf(plan->obstacle, sizeof(plan->obstacle), "%s; it runs as it is", why);
    }
    plan->preloads =
        obstacle == MO_OBSTACLE_NONE || (obstacle == MO_OBSTACLE_STATIC && plan->settings.follow);
    if (!plan->preloads)
        return 0;
    struct variables to = into_environment(plan);
    return ask_bare(plan, &to, mo_environment_get(&plan->environment, "LD_PRELOAD"), config, error);
}

static int make(struct mo_config *config, char *const *argv, struct mo_plan *ret_plan, int is_bare,
                enum mo_plan_failure *ret_failure, struct memopt_error *error) {
    struct memopt_error own = MEMOPT_ERROR_INIT;
    if (error == NULL)
        error = &own;
    struct mo_plan plan = {.session = MO_SESSION_NONE};
    *ret_failure = MO_PLAN_MEMOPT;
    int r = choose_allocator(config, &plan, error);
    if (r < 0)
        return r;
    r = mo_target_find(argv[0], getenv("PATH"), &plan.target, error);
    if (r < 0) {
        *ret_failure = r == -ENOENT ? MO_PLAN_NO_PROGRAM : mo_plan_failure_of(r);
        return r;
    }
    r = follow_own_calls(config, &plan, error);
    if (r == 0)
        r = check_trackers(config, &plan, error);
    if (r == 0)
        r = is_bare ? choose_bare(config, &plan, "memopt run --exec", error)
                    : choose_binding(config, &plan, 0, error);
    if (r < 0)
        return r;
    mo_environment_init(&plan.environment, environ);
    r = forget_outer(&plan, error);
    if (r == 0)
        r = (is_bare ? prepare_bare : prepare)(config, &plan, error);
    if (r == 0 && mo_environment_error(&plan.environment) != 0)
        r = mo_fail(error, -ENOMEM, "out of memory");
    if (r < 0)
        mo_plan_free(&plan);
    else
        *ret_plan = plan;
    return r;
}

int mo_plan_make(struct mo_config *config, char *const *argv, struct mo_plan *ret_plan,
                 enum mo_plan_failure *ret_failure, struct memopt_error *error) {
    return make(config, argv, ret_plan, 0, ret_failure, error);
}

int mo_plan_make_bare(struct mo_config *config, char *const *argv, struct mo_plan *ret_plan,
                      enum mo_plan_failure *ret_failure, struct memopt_error *error) {
    return make(config, argv, ret_plan, 1, ret_failure, error);
}

void mo_plan_free(struct mo_plan *plan) {
    mo_session_remove(&plan->session);
    mo_environment_free(&plan->environment);
}

enum mo_plan_failure mo_plan_failure_of(int code) {
    switch (-code) {
    case EAGAIN:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        return MO_PLAN_MEMOPT;
    default:
        return MO_PLAN_CANNOT;
    }
}
