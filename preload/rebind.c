/*
 * rebind.c - the linker is the fastest dispatcher: the program's own jumps to malloc
 * and free are pointed past the shim's functions of these names, at what the table has
 * for them. That is the backend itself where there is nothing to do per call.
 *
 * An object calls malloc through a slot of its own (a JUMP_SLOT relocation), which the
 * dynamic loader has filled with the shim's address, or will at the first call. Here
 * the slots of the objects that the program started with are filled anew. It is
 * nothing but a shorter way, as these stay what they were:
 *
 *   what the program sees   Only jumps are changed, not the relocations that take an
 *                           address: &malloc is the shim's.
 *   everybody else          The loader, the C library, the backend and what is loaded
 *                           later go through the shim, which serves them as ever.
 *   the boot range          What the shim's free knows by its range check nobody else
 *                           does: free (and delete, where that is the same) is turned only if
 *                           no block of that range can come there. The blocks that our
 *                           constructor causes stay with the loader, the C library and
 *                           what it has loaded; of those from before there must be none
 *                           but the C++ run-time's own.
 *   what can't be changed   A slot that leads elsewhere, a page that stays protected
 *                           against writing, a program whose jumps somebody audits.
 *
 * A slot is written with one store; other threads may jump through it and the loader
 * may fill it: whoever is last, the call arrives. operator new is not turned: it throws,
 * which the table's malloc doesn't.
 */
#include "config.h"

#include "preload/rebind.h"

#include "core/dispatch/dispatch.h"
#include "preload/operators.h"
#include "preload/process.h"

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if HAVE_VALGRIND_MEMCHECK_H
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#ifdef __x86_64__

/* delete and delete[], without and with the size: preload/operators.c */
void _ZdlPv(void *p);
void _ZdaPv(void *p);
void _ZdlPvm(void *p, size_t size);
void _ZdaPvm(void *p, size_t size);

enum { TURNS = 6 };

static size_t objects_before;   /* there before any constructor ran */
static bool boot_gave_away;     /* somebody has a block of the boot range */
static const void *cxx_runtime; /* an address in it, if it has the only one */
static const void *libc;        /* an address in it */

/* The C++ run-time takes a reserve for exceptions when it starts: larger than anything
 * else that its own code asks malloc for, and never freed but by itself. */
void mo_rebind_prepare(void) {
    size_t size;
    const void *caller = mo_boot_only_caller(&size);
    Dl_info where;
    objects_before = mo_boot_objects();
    boot_gave_away = mo_boot_used() > 0;
    if (caller != NULL && size >= 64 << 10 && dladdr(caller, &where) != 0 &&
        strstr(where.dli_fname, "/libstdc++.so") != NULL) {
        cxx_runtime = caller;
        boot_gave_away = false;
    }
    libc = mo_libc_symbol("malloc"); /* now, as it allocates: later that would be counted */
}

struct walk {
    struct turn {
        const char *name;
        void *from, *to;
        bool unbound_too; /* the loader would fill an empty slot with `from` */
    } turns[TURNS];
    size_t left; /* objects to look at */
    const void *not_in[5];
};

struct object {
    const struct dl_phdr_info *info;
    const ElfW(Sym) * symbols;
    const char *names;
    const ElfW(Rela) * jumps;
    size_t jump_bytes;
    uintptr_t guarded, guarded_end; /* pages that the loader has protected */
};

static bool holds(const struct dl_phdr_info *info, const void *address) {
    for (size_t i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD &&
            (uintptr_t)address - info->dlpi_addr - info->dlpi_phdr[i].p_vaddr <
                info->dlpi_phdr[i].p_memsz)
            return true;
    return false;
}

static uintptr_t page_of(uintptr_t address) {
    return address & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
}

/* The loader has made addresses of the offsets, but where it can't write. */
static const void *pointer(const struct dl_phdr_info *info, uintptr_t value) {
    return (const void *)(value < info->dlpi_addr ? value + info->dlpi_addr : value);
}

/* False: it has no such jumps. */
static bool read_object(const struct dl_phdr_info *info, struct object *object) {
    const ElfW(Dyn) *dynamic = NULL;
    *object = (struct object){.info = info};
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + header->p_vaddr;
        if (header->p_type == PT_DYNAMIC)
            dynamic = (const ElfW(Dyn) *)start;
        if (header->p_type == PT_GNU_RELRO) {
            object->guarded = page_of(start);
            object->guarded_end = page_of(start + header->p_memsz);
        }
    }
    for (; dynamic != NULL && dynamic->d_tag != DT_NULL; dynamic++) {
        if (dynamic->d_tag == DT_SYMTAB)
            object->symbols = pointer(info, dynamic->d_un.d_ptr);
        else if (dynamic->d_tag == DT_STRTAB)
            object->names = pointer(info, dynamic->d_un.d_ptr);
        else if (dynamic->d_tag == DT_JMPREL)
            object->jumps = pointer(info, dynamic->d_un.d_ptr);
        else if (dynamic->d_tag == DT_PLTRELSZ)
            object->jump_bytes = dynamic->d_un.d_val;
    }
    return object->symbols != NULL && object->names != NULL && object->jumps != NULL;
}

/* An empty slot leads back into its object, to what calls the loader. One with a
 * definition in the object may be meant to lead there for good. */
static bool is_empty(const struct object *object, const ElfW(Sym) * symbol, const void *slot) {
    return symbol->st_shndx == SHN_UNDEF && holds(object->info, slot);
}

/* Where the slot is to lead; NULL: where it does. */
static void *new_value(const struct walk *walk, const struct object *object,
                       const ElfW(Sym) * symbol, const void *now) {
    const char *name = object->names + symbol->st_name;
    for (size_t i = 0; i < TURNS; i++) {
        const struct turn *turn = &walk->turns[i];
        if (strcmp(name, turn->name) == 0)
            return now == turn->from || (turn->unbound_too && is_empty(object, symbol, now))
                       ? turn->to
                       : NULL;
    }
    return NULL;
}

static void fill(const struct object *object, void **slot, void *value) {
    uintptr_t at = (uintptr_t)slot;
    void *page = (void *)page_of(at);
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    bool guarded = at >= object->guarded && at < object->guarded_end;
    if (guarded && mprotect(page, size, PROT_READ | PROT_WRITE) != 0)
        return;
    __atomic_store_n(slot, value, __ATOMIC_RELEASE);
    if (guarded)
        mprotect(page, size, PROT_READ);
}

static int visit(struct dl_phdr_info *info, size_t size, void *context) {
    struct walk *walk = context;
    struct object object;
    (void)size;
    if (walk->left-- == 0)
        return 1;
    for (size_t i = 0; i < sizeof(walk->not_in) / sizeof(walk->not_in[0]); i++)
        if (walk->not_in[i] != NULL && holds(info, walk->not_in[i]))
            return 0;
    if (!read_object(info, &object))
        return 0;
    for (size_t i = 0; i < object.jump_bytes / sizeof(object.jumps[0]); i++) {
        const ElfW(Rela) *jump = &object.jumps[i];
        if (ELF64_R_TYPE(jump->r_info) != R_X86_64_JUMP_SLOT)
            continue;
        void **slot = (void **)(info->dlpi_addr + jump->r_offset);
        void *value = new_value(walk, &object, &object.symbols[ELF64_R_SYM(jump->r_info)], *slot);
        if (value != NULL)
            fill(&object, slot, value);
    }
    return 0;
}

void mo_rebind(const void *backend) {
    void *to_free = boot_gave_away ? NULL : (void *)mo_dispatch.free;
    void *to_delete = mo_operators_replaced() ? NULL : to_free;
    struct walk walk = {
        .turns = {{.name = "malloc", .from = (void *)malloc, .to = (void *)mo_dispatch.malloc},
                  {.name = "free", .from = (void *)free, .to = to_free},
                  {.name = "_ZdlPv", .from = (void *)_ZdlPv, .to = to_delete},
                  {.name = "_ZdaPv", .from = (void *)_ZdaPv, .to = to_delete},
                  {.name = "_ZdlPvm", .from = (void *)_ZdlPvm, .to = to_delete},
                  {.name = "_ZdaPvm", .from = (void *)_ZdaPvm, .to = to_delete}},
        .left = objects_before,
        .not_in = {(void *)mo_rebind, &_r_debug, libc, backend, cxx_runtime},
    };
    /* Valgrind replaces functions by their names: malloc, not what it would lead to. */
    if (getenv("LD_AUDIT") != NULL || RUNNING_ON_VALGRIND)
        return;
    for (size_t i = 0; i < TURNS; i++)
        walk.turns[i].unbound_too = mo_program_calls(walk.turns[i].name, walk.turns[i].from);
    dl_iterate_phdr(visit, &walk);
}

#else /* the slots of other machines are written likewise, but nobody has tried it */
void mo_rebind_prepare(void) {
}
void mo_rebind(const void *backend) {
    (void)backend;
}
#endif
