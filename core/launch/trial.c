/* trial.c - see trial.h. */
#define _GNU_SOURCE

#include "core/launch/trial.h"

#include "core/base/error.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE = 10 }; /* seconds */

static const struct mo_section *find_section(const struct mo_config *config, const char *name) {
    const struct mo_section *section;
    for (size_t i = 0; (section = mo_config_section_at(config, i)) != NULL; i++)
        if (strcmp(section->name, name) == 0)
            return section;
    return NULL;
}

static int has_values(const struct mo_config *config, const struct mo_section *section) {
    const struct memopt_option *option;
    struct mo_origin origin;
    for (size_t i = 0; (option = mo_section_option(section, i)) != NULL; i++)
        if (mo_config_get(config, section->name, option->key, &origin) != NULL &&
            origin.kind != MO_ORIGIN_DEFAULT)
            return 1;
    return 0;
}

/* Of the keys that the message names, the first that has a value. */
static int blame(const struct mo_config *config, const struct mo_section *section,
                 struct memopt_error *error) {
    const struct memopt_option *option;
    struct mo_origin origin;
    for (size_t i = 0; (option = mo_section_option(section, i)) != NULL; i++) {
        char quoted[80];
        snprintf(quoted, sizeof(quoted), "'%s'", option->key);
        if (strstr(error->message, quoted) != NULL &&
            mo_config_get(config, section->name, option->key, &origin) != NULL &&
            origin.kind != MO_ORIGIN_DEFAULT)
            return mo_config_blame(config, section->name, option->key, error);
    }
    return mo_error_prefix(error, "[%s]", section->name);
}

static void say_nothing(int level, const char *kind, const char *text) {
    (void)level, (void)kind, (void)text;
}

/* In the child: whatever the plugin does is neither seen nor waited for long. */
static void be_silent(int fd) {
    int silent = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3 && silent >= 0; i++)
        if (i != fd)
            dup2(silent, i);
    mo_host_set_note(say_nothing);
    sigset_t alarms;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    signal(SIGALRM, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &alarms, NULL);
    alarm(PATIENCE);
}

static _Noreturn void open_it(const struct mo_plugin *plugin, const void *settings, int fd) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_malloc table = {.size = sizeof(table)};
    be_silent(fd);
    error.code = plugin->ops.allocator.open(&mo_host, settings, &table, &error);
    ssize_t ignored = write(fd, &error, sizeof(error));
    (void)ignored;
    _exit(0);
}

static _Noreturn void load_it(const char *path, int fd) {
    be_silent(fd);
    /* if it fails, that is for the registry to say */
    (void)dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    ssize_t ignored = write(fd, "", 1);
    (void)ignored;
    _exit(0);
}

int mo_try_plugin(const char *path, struct memopt_error *error) {
    int ends[2], status = 0;
    char loaded;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return mo_fail(error, -errno, "plugin '%s' can't be tried: %s", path, strerror(errno));
    pid_t pid = fork();
    if (pid == 0)
        load_it(path, ends[1]);
    int code = errno;
    close(ends[1]);
    ssize_t got = -1;
    if (pid > 0) { /* not for whoever else has the pipe: a process that the plugin started */
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        int flags = fcntl(ends[0], F_GETFL);
        if (flags >= 0 && fcntl(ends[0], F_SETFL, flags | O_NONBLOCK) == 0)
            got = read(ends[0], &loaded, 1);
    }
    close(ends[0]);
    if (pid < 0)
        return mo_fail(error, -code, "plugin '%s' can't be tried: %s", path, strerror(code));
    if (got == 1)
        return 0;
    if (!WIFSIGNALED(status))
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s' can't be loaded: it ends the process that loads it, with exit "
                       "status %d",
                       path, WEXITSTATUS(status));
    if (WTERMSIG(status) == SIGALRM)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s' can't be loaded: that takes more than %d seconds", path,
                       PATIENCE);
    return mo_fail(error, -ENOEXEC,
                   "plugin '%s' can't be loaded: it ends the process that loads it, with SIG%s",
                   path, sigabbrev_np(WTERMSIG(status)));
}

int mo_try_settings(struct mo_config *config, struct mo_plugin *plugin,
                    struct memopt_error *error) {
    char name[128];
    snprintf(name, sizeof(name), "allocator.%s", plugin->descriptor.name);
    const struct mo_section *section = find_section(config, name);
    if (section == NULL || (plugin->ops.allocator.flags & MEMOPT_ALLOCATOR_PRELOAD) != 0 ||
        !has_values(config, section))
        return 0;
    mo_auto_free void *settings = calloc(1, plugin->descriptor.settings_size + 1);
    if (settings == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    int r = mo_config_fill(config, name, plugin->table, settings, error);
    if (r < 0)
        return r;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return 0; /* the program will see */
    pid_t pid = fork();
    if (pid == 0)
        open_it(plugin, settings, ends[1]);
    close(ends[1]);
    struct memopt_error said = MEMOPT_ERROR_INIT;
    ssize_t got = -1;
    if (pid > 0) {
        while ((got = read(ends[0], &said, sizeof(said))) < 0 && errno == EINTR)
            ;
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    close(ends[0]);
    if (got != (ssize_t)sizeof(said) ||
        (said.code != -EINVAL && said.code != -ERANGE && said.code != -ENOTSUP))
        return 0;
    said.message[sizeof(said.message) - 1] = '\0';
    mo_fail(error, said.code, "%s", said.message);
    return blame(config, section, error);
}
