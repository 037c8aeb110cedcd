/* object.c - see object.h. */
#include "preload/object.h"

#include <string.h>

/* The loader has made addresses of the offsets, except where it can't write. */
static const void *pointer(uintptr_t base, uintptr_t value) {
    return (const void *)(value < base ? value + base : value);
}

static void read_dynamic(struct mo_object *object, const ElfW(Dyn) * dynamic) {
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        const void *there = pointer(object->base, dynamic->d_un.d_ptr);
        switch (dynamic->d_tag) {
        case DT_SYMTAB:
            object->symbols = there;
            break;
        case DT_STRTAB:
            object->strings = there;
            break;
        case DT_VERSYM:
            object->versions = there;
            break;
        case DT_GNU_HASH:
            object->gnu_hash = there;
            break;
        case DT_HASH:
            object->sysv_hash = there;
            break;
        default:
            break;
        }
    }
    if (object->symbols == NULL || object->strings == NULL)
        object->gnu_hash = object->sysv_hash = NULL;
}

struct walk {
    bool (*visit)(const struct mo_object *object, void *context);
    void *context;
    bool is_first;
};

static int look_at(struct dl_phdr_info *info, size_t size, void *context) {
    struct walk *walk = context;
    (void)size;
    struct mo_object object = {
        .name = info->dlpi_name,
        .is_executable = walk->is_first,
        .base = info->dlpi_addr,
        .segments = info->dlpi_phdr,
        .segment_count = info->dlpi_phnum,
    };
    walk->is_first = false;
    for (size_t i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            read_dynamic(&object,
                         (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr));
    return walk->visit(&object, walk->context);
}

bool mo_object_each(bool (*visit)(const struct mo_object *object, void *context), void *context) {
    struct walk walk = {visit, context, true};
    return dl_iterate_phdr(look_at, &walk) != 0;
}

/* A version that a program can only ask for by its name has the highest bit set. */
enum { VERSION_HIDDEN = 0x8000 };

static void *address_of(const struct mo_object *object, uint32_t index, const char *name) {
    const ElfW(Sym) *symbol = &object->symbols[index];
    unsigned type = ELF64_ST_TYPE(symbol->st_info), binding = ELF64_ST_BIND(symbol->st_info);
    if (symbol->st_shndx == SHN_UNDEF || (type != STT_FUNC && type != STT_OBJECT) ||
        (binding != STB_GLOBAL && binding != STB_WEAK) ||
        (object->versions != NULL && (object->versions[index] & VERSION_HIDDEN) != 0) ||
        strcmp(object->strings + symbol->st_name, name) != 0)
        return NULL;
    return (void *)(object->base + symbol->st_value);
}

/* The GNU table: buckets, a filter, counts; then for each bucket its first symbol, and for
 * each symbol its hash, whose lowest bit ends a bucket. */
static void *look_up_gnu(const struct mo_object *object, const char *name) {
    uint32_t hash = 5381;
    for (const unsigned char *p = (const unsigned char *)name; *p != '\0'; p++)
        hash = hash * 33 + *p;
    const uint32_t *table = object->gnu_hash;
    uint32_t bucket_count = table[0], first = table[1], filter_words = table[2];
    const uint32_t *buckets = table + 4 + filter_words * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
    const uint32_t *hashes = buckets + bucket_count;
    uint32_t index = bucket_count == 0 ? 0 : buckets[hash % bucket_count];
    if (index == 0 || index < first)
        return NULL;
    for (;; index++) {
        uint32_t own = hashes[index - first];
        void *found = (own | 1) == (hash | 1) ? address_of(object, index, name) : NULL;
        if (found != NULL || (own & 1) != 0)
            return found;
    }
}

static void *look_up_sysv(const struct mo_object *object, const char *name) {
    uint32_t hash = 0;
    for (const unsigned char *p = (const unsigned char *)name; *p != '\0'; p++) {
        hash = (hash << 4) + *p;
        hash = (hash ^ (hash >> 24 & 0xf0)) & 0x0fffffff;
    }
    uint32_t bucket_count = object->sysv_hash[0];
    const uint32_t *buckets = object->sysv_hash + 2, *chain = buckets + bucket_count;
    for (uint32_t index = bucket_count == 0 ? 0 : buckets[hash % bucket_count]; index != 0;
         index = chain[index]) {
        void *found = address_of(object, index, name);
        if (found != NULL)
            return found;
    }
    return NULL;
}

void *mo_object_symbol(const struct mo_object *object, const char *name) {
    if (object->gnu_hash != NULL)
        return look_up_gnu(object, name);
    return object->sysv_hash != NULL ? look_up_sysv(object, name) : NULL;
}

bool mo_object_holds(const struct mo_object *object, const void *address) {
    for (size_t i = 0; i < object->segment_count; i++)
        if (object->segments[i].p_type == PT_LOAD &&
            (uintptr_t)address - object->base - object->segments[i].p_vaddr <
                object->segments[i].p_memsz)
            return true;
    return false;
}
