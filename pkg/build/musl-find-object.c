/* Since gcc 12, gcc's unwinder asks glibc two things: which object contains an address, and where the frame table of
 * that object begins. musl lacks this function; here it is for musl. An unwinder made for glibc has no other way. If it
 * is told that no object is there, it takes the stack to end and aborts. A panic would then neither clean up nor be
 * caught. The structure is glibc's, for x86-64 and the others that have no base address of data (dl_find_object(3)). */
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct found {
    unsigned long long flags;
    void *start, *end;
    struct link_map *map;
    void *eh_frame;
    unsigned long long reserved[7];
};

struct search {
    uintptr_t address;
    struct found *found;
};

static int look(struct dl_phdr_info *object, size_t size, void *data)
{
    struct search *search = data;
    const ElfW(Phdr) *frames = NULL, *here = NULL;
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t start = object->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_GNU_EH_FRAME)
            frames = part;
        else if (part->p_type == PT_LOAD && search->address - start < part->p_memsz)
            here = part;
    }
    if (!here || !frames)
        return 0;
    search->found->start = (void *)(object->dlpi_addr + here->p_vaddr);
    search->found->end = (char *)search->found->start + here->p_memsz;
    search->found->eh_frame = (void *)(object->dlpi_addr + frames->p_vaddr);
    return 1;
}

/* The unwinder calls these if there are threads, but it does not ask the linker for them. A static program would have
 * threads, and null pointers in place of these. */
__attribute__((used)) static void *const needed[] = {
    (void *)pthread_once,        (void *)pthread_mutex_lock,  (void *)pthread_mutex_unlock,
    (void *)pthread_key_create,  (void *)pthread_getspecific, (void *)pthread_setspecific,
};

__attribute__((visibility("hidden"))) int _dl_find_object(void *address, struct found *found)
{
    struct search search = {(uintptr_t)address, found};
    *found = (struct found){0};
    return dl_iterate_phdr(look, &search) ? 0 : -1;
}
