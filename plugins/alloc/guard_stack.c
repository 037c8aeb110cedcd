/*
 * guard_stack.c - stacks of the guard allocator: captured in malloc and free,
 * turned into names in a report. See guard.h.
 *
 * libgcc's unwinder is linked in statically: it follows .eh_frame, so programs
 * need no frame pointers; it takes no lock and does not allocate (module look-up
 * goes through _dl_find_object where the C library has it). Names come from the
 * modules' dynamic symbol tables, read in place, so that a signal handler can do
 * it; what isn't exported there is shown as module and offset, as addr2line
 * takes them.
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
 * in the unwinder (which is part of this module) ends the walk and no more. */
static __thread jmp_buf *escape;

static void walk(struct capture *capture) {
    jmp_buf here, *outer = escape;
    if (_setjmp(here) == 0) {
        escape = &here;
        _Unwind_Backtrace(capture_frame, capture);
    }
    escape = outer;
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

/* -------------------------------------------------------------------- names */

static const struct link_map *module_of(uintptr_t address) {
#if __GLIBC_PREREQ(2, 35)
    struct dl_find_object found;
    return _dl_find_object((void *)address, &found) == 0 ? found.dlfo_link_map : NULL;
#else
    Dl_info info;
    struct link_map *map = NULL;
    return dladdr1((void *)address, &info, (void **)&map, RTLD_DL_LINKMAP) != 0 ? map : NULL;
#endif
}

/* The dynamic section's pointers are absolute after relocation, but not in
 * modules whose section can't be written (the vDSO). */
static const void *dynamic_pointer(const struct link_map *map, const ElfW(Dyn) * entry) {
    uintptr_t value = entry->d_un.d_ptr;
    return (const void *)(value < map->l_addr ? value + map->l_addr : value);
}

static size_t symbols_by_gnu_hash(const uint32_t *table) {
    uint32_t buckets = table[0], first = table[1], words = table[2], last = 0;
    const uint32_t *bucket = table + 4 + words * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
    const uint32_t *chain = bucket + buckets;
    for (uint32_t i = 0; i < buckets; i++)
        if (bucket[i] > last)
            last = bucket[i];
    if (last < first)
        return first;
    while ((chain[last - first] & 1) == 0)
        last++;
    return (size_t)last + 1;
}

/* The exported function that holds `address`, or NULL. */
static const char *symbol_of(const struct link_map *map, uintptr_t address, uintptr_t *ret_offset) {
    const ElfW(Sym) *symbols = NULL;
    const char *strings = NULL;
    size_t count = 0;
    for (const ElfW(Dyn) *entry = map->l_ld; entry != NULL && entry->d_tag != DT_NULL; entry++) {
        const void *value = dynamic_pointer(map, entry);
        if (entry->d_tag == DT_SYMTAB)
            symbols = value;
        else if (entry->d_tag == DT_STRTAB)
            strings = value;
        else if (entry->d_tag == DT_HASH)
            count = ((const uint32_t *)value)[1];
        else if (entry->d_tag == DT_GNU_HASH && count == 0)
            count = symbols_by_gnu_hash(value);
    }
    if (symbols == NULL || strings == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        uintptr_t start = map->l_addr + symbols[i].st_value;
        if (symbols[i].st_shndx != SHN_UNDEF && ELF64_ST_TYPE(symbols[i].st_info) == STT_FUNC &&
            address >= start && address - start < symbols[i].st_size) {
            *ret_offset = address - start;
            return strings + symbols[i].st_name;
        }
    }
    return NULL;
}

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
        const struct link_map *map = module_of(frames[i]);
        guard_put(text, "\n    #%u ", (size_t)i);
        if (map == NULL) {
            guard_put(text, "%x", frames[i]);
            continue;
        }
        uintptr_t offset;
        const char *name = symbol_of(map, frames[i], &offset);
        if (name != NULL)
            guard_put(text, "%s+%x ", name, offset);
        guard_put(text, "(%s+%x)", map->l_name[0] != 0 ? map->l_name : program,
                  frames[i] - map->l_addr);
    }
}
