/* For all C tests: a check that says where it failed, and small files. */

#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "awrite.h"

#define CHECK(holds)                                                                                                   \
    do {                                                                                                               \
        if (!(holds)) {                                                                                                \
            fprintf(stderr, "%s:%d: %s\n    last error: %s\n", __FILE__, __LINE__, #holds, awrite_last_error());       \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* The call must return this status and, unless that is AWRITE_OK, set an error text. */
#define EXPECT(wanted, call)                                                                                           \
    do {                                                                                                               \
        awrite_status got_ = (call);                                                                                   \
        if (got_ != (wanted)) {                                                                                        \
            fprintf(stderr, "%s:%d: %s\n    returned %d (%s), not %d\n    last error: %s\n", __FILE__, __LINE__,       \
                    #call, (int)got_, awrite_strerror((int)got_), (int)(wanted), awrite_last_error());                 \
            exit(1);                                                                                                   \
        }                                                                                                              \
        CHECK(got_ == AWRITE_OK || awrite_last_error()[0] != '\0');                                                    \
    } while (0)

/* Takes a lock with these options (NULL: the defaults), but waits this long only; 0: not at all. */
static inline awrite_status lock_within(awrite_lock **lock, const char *target, unsigned ms,
                                        const awrite_lock_options *options)
{
    awrite_lock_options own = {.size = sizeof own};

    if (options != NULL)
        own = *options;
    own.wait = ms > 0 ? AWRITE_WAIT_LIMITED : AWRITE_WAIT_NO;
    own.timeout_ms = ms;
    return awrite_lock_acquire(lock, target, &own);
}

static inline awrite_status lock_now(awrite_lock **lock, const char *target, const awrite_lock_options *options)
{
    return lock_within(lock, target, 0, options);
}

static inline int has_content(const char *path, const char *wanted)
{
    char text[4096];
    FILE *file = fopen(path, "r");
    size_t length;

    if (file == NULL)
        return 0;
    length = fread(text, 1, sizeof text - 1, file);
    text[length] = '\0';
    fclose(file);
    return strcmp(text, wanted) == 0;
}

static inline int exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static inline void make_file(const char *path, const char *content)
{
    FILE *file = fopen(path, "w");

    CHECK(file != NULL);
    CHECK(fputs(content, file) >= 0);
    CHECK(fclose(file) == 0);
}

#endif
