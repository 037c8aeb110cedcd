/*
 * guard_stack.c - stacks of the guard allocator: captured in malloc and free,
 * put into words for a report. See guard.h.
 *
 * libgcc's unwinder is linked in statically: it follows .eh_frame, so programs
 * need no frame pointers; it takes no lock and does not allocate (module look-up
 * goes through _dl_find_object where the C library has it). A frame is shown as
 * module and offset, as addr2line takes them, and each module's build id once at the end:
 * names are for the memopt command to find, which may open files.
 */
#define _GNU_SOURCE

#include "guard.h"

#include <dlfcn.h>
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

/* Modules whose innermost frames are left out: the plugin and the shim. */
static struct { uintptr_t start, end; } own[2];
static char program[512]; /* the executable's path */

static __thread int32_t tid;

int32_t guard_tid(void) {
    if (tid == 0)
        tid = (int32_t)syscall(SYS_gettid);
    return tid;
}

void guard_forget_tid(void) {
    tid = 0;
}

/* ------------------------------------------------------------------ capture */

struct module_search {
    uintptr_t address, start, end;
    int found;
};

/* The first module is the program itself, which is never left out. */
static int module_range(struct dl_phdr_info *info, size_t size, void *opaque) {
    struct module_search *search = opaque;
    (void)size;
    uintptr_t start = UINTPTR_MAX, end = 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD)
            continue;
        uintptr_t from = info->dlpi_addr + segment->p_vaddr;
        if (from < start)
            start = from;
        if (from + segment->p_memsz > end)
            end = from + segment->p_memsz;
    }
    if (search->address < start || search->address >= end)
        return 0;
    if (info->dlpi_name != NULL && info->dlpi_name[0] != 0) {
        search->start = start;
        search->end = end;
    }
    return 1;
}

void guard_stack_open(void) {
    struct module_search searches[2] = {{.address = (uintptr_t)guard_stack_open},
                                        {.address = (uintptr_t)guard.host->alloc}};
    for (int i = 0; i < 2; i++) {
        dl_iterate_phdr(module_range, &searches[i]);
        own[i].start = searches[i].start;
        own[i].end = searches[i].end;
    }
    ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
    program[length < 0 ? 0 : length] = 0;
}

struct capture {
    uintptr_t *frames;
    unsigned count, room;
    uintptr_t from; /* 0, or skip all before this instruction */
};

static _Unwind_Reason_Code capture_frame(struct _Unwind_Context *context, void *opaque) {
    struct capture *capture = opaque;
    int before_instruction = 0;
    uintptr_t ip = _Unwind_GetIPInfo(context, &before_instruction);
    if (ip == 0)
        return _URC_END_OF_STACK;
    if (capture->from != 0) {
        if (ip != capture->from)
            return _URC_NO_REASON;
        capture->from = 0;
    }
    uintptr_t site = before_instruction ? ip : ip - 1; /* of the call, not after it */
    if (capture->count == 0)
        for (int i = 0; i < 2; i++)
            if (site >= own[i].start && site < own[i].end)
                return _URC_NO_REASON;
    capture->frames[capture->count++] = site;
    return capture->count < capture->room ? _URC_NO_REASON : _URC_END_OF_STACK;
}

static uintptr_t pc_of(const void *context) {
#if defined(__x86_64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.pc;
#else
    (void)context;
    return 0;
#endif
}

/* Stacks can be broken, and unwind tables of hand-written assembly wrong. A fault
 * in the unwinder (which is part of this module) ends the walk and no more. Volatile: the
 * handler reads it. */
static __thread jmp_buf *volatile escape;

void guard_stack_try(void (*attempt)(void *opaque), void *opaque) {
    jmp_buf here, *outer = escape;
    if (_setjmp(here) == 0) {
        escape = &here;
        attempt(opaque);
    }
    escape = outer;
}

static void backtrace(void *capture) {
    _Unwind_Backtrace(capture_frame, capture);
}

static void walk(struct capture *capture) {
    guard_stack_try(backtrace, capture);
}

void guard_stack_escape(const void *context) {
    uintptr_t pc = pc_of(context);
    if (escape == NULL || pc < own[0].start || pc >= own[0].end)
        return;
    sigprocmask(SIG_SETMASK, &((const ucontext_t *)context)->uc_sigmask, NULL);
    _longjmp(*escape, 1);
}

unsigned guard_stack_here(uintptr_t *frames, unsigned room) {
    struct capture capture = {.frames = frames, .room = room};
    walk(&capture);
    return capture.count;
}

const char *guard_stack_access(const void *context) {
#if defined(__x86_64__)
    return (((const ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2) != 0 ? "write" : "read";
#else
    (void)context;
    return "access";
#endif
}

unsigned guard_stack_interrupted(const void *context, uintptr_t *frames, unsigned room) {
    struct capture capture = {.frames = frames, .room = room, .from = pc_of(context)};
    walk(&capture);
    if (capture.count == 0 && pc_of(context) != 0) /* a jump to nowhere: at least that */
        frames[capture.count++] = pc_of(context);
    return capture.count;
}

/* ------------------------------------------------------------------ modules */

struct module {
    const struct link_map *map;
    const char *start; /* of what is mapped of its file: the ELF header */
    size_t size;
};

static int module_of(uintptr_t address, struct module *ret_module) {
#if __GLIBC_PREREQ(2, 35)
    struct dl_find_object found;
    if (_dl_find_object((void *)address, &found) != 0 || found.dlfo_link_map == NULL)
        return 0;
    *ret_module =
        (struct module){found.dlfo_link_map, found.dlfo_map_start,
                        (size_t)((char *)found.dlfo_map_end - (char *)found.dlfo_map_start)};
#else
    Dl_info info;
    struct link_map *map = NULL;
    if (dladdr1((void *)address, &info, (void **)&map, RTLD_DL_LINKMAP) == 0 || map == NULL)
        return 0;
    *ret_module = (struct module){map, info.dli_fbase, address - (uintptr_t)info.dli_fbase};
#endif
    return 1;
}

static const char *path_of(const struct module *module) {
    return module->map->l_name[0] != 0 ? module->map->l_name : program;
}

static size_t round_up(size_t size) {
    return (size + 3) & ~(size_t)3;
}

/* The bytes of its build id, of which there are *ret_size; NULL: it has none that is mapped. */
static const unsigned char *build_id_of(const struct module *module, size_t *ret_size) {
    const ElfW(Ehdr) *header = (const void *)module->start;
    if (module->size < sizeof(*header) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_phentsize != sizeof(ElfW(Phdr)) || header->e_phoff > module->size ||
        header->e_phnum * sizeof(ElfW(Phdr)) > module->size - header->e_phoff)
        return NULL;
    const ElfW(Phdr) *segments = (const void *)(module->start + header->e_phoff);
    for (unsigned i = 0; i < header->e_phnum; i++) {
        size_t at = module->map->l_addr + segments[i].p_vaddr - (uintptr_t)module->start;
        if (segments[i].p_type != PT_NOTE || at > module->size ||
            segments[i].p_memsz > module->size - at)
            continue;
        const char *note = module->start + at;
        size_t left = segments[i].p_memsz;
        while (left >= sizeof(ElfW(Nhdr))) {
            const ElfW(Nhdr) *head = (const void *)note;
            size_t name = round_up(head->n_namesz), size = head->n_descsz;
            left -= sizeof(*head);
            if (name > left || round_up(size) > left - name)
                break;
            if (head->n_type == NT_GNU_BUILD_ID && head->n_namesz == 4 &&
                memcmp(head + 1, "GNU", 4) == 0) {
                *ret_size = size;
                return (const unsigned char *)(head + 1) + name;
            }
            note += sizeof(*head) + name + round_up(size);
            left -= name + round_up(size);
        }
    }
    return NULL;
}

/* Those that frames of the report are in: there is one report in a process. */
static struct module modules[32];
static size_t module_count;

static void remember(const struct module *module) {
    for (size_t i = 0; i < module_count; i++)
        if (modules[i].map == module->map)
            return;
    if (module_count < sizeof(modules) / sizeof(modules[0]))
        modules[module_count++] = *module;
}

/* -------------------------------------------------------------------- words */

static void put_char(struct guard_text *text, char c) {
    if (text->length < sizeof(text->bytes) - 1)
        text->bytes[text->length++] = c;
    text->bytes[text->length] = 0;
}

static void put_number(struct guard_text *text, uintptr_t value, unsigned radix) {
    char digits[24];
    unsigned n = 0;
    do
        digits[n++] = "0123456789abcdef"[value % radix];
    while ((value /= radix) != 0);
    while (n > 0)
        put_char(text, digits[--n]);
}

void guard_put(struct guard_text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    for (; *format != 0; format++) {
        if (*format != '%') {
            put_char(text, *format);
            continue;
        }
        switch (*++format) {
        case 's':
            for (const char *s = va_arg(arguments, const char *); *s != 0; s++)
                put_char(text, *s);
            break;
        case 'u':
            put_number(text, va_arg(arguments, size_t), 10);
            break;
        default: /* x */
            put_char(text, '0');
            put_char(text, 'x');
            put_number(text, va_arg(arguments, uintptr_t), 16);
        }
    }
    va_end(arguments);
}

void guard_put_stack(struct guard_text *text, const uintptr_t *frames, unsigned count) {
    if (count == 0)
        guard_put(text, "\n    (no stack)");
    for (unsigned i = 0; i < count; i++) {
        struct module module;
        guard_put(text, "\n    #%u ", (size_t)i);
        if (module_of(frames[i], &module)) {
            guard_put(text, "%s+%x", path_of(&module), frames[i] - module.map->l_addr);
            remember(&module);
        } else {
            guard_put(text, "%x", frames[i]);
        }
    }
}

void guard_put_build_ids(struct guard_text *text) {
    for (size_t i = 0; i < module_count; i++) {
        size_t size = 0;
        const unsigned char *id = build_id_of(&modules[i], &size);
        if (id == NULL)
            continue;
        guard_put(text, "\n  build-id ");
        for (size_t k = 0; k < size; k++) {
            put_char(text, "0123456789abcdef"[id[k] >> 4]);
            put_char(text, "0123456789abcdef"[id[k] & 15]);
        }
        guard_put(text, " %s", path_of(&modules[i]));
    }
}
