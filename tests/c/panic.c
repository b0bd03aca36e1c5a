/* A panic in the library must become a status, and everything must be cleaned up. No input is known that makes the
 * library panic. So this program has its own clock_gettime(), which fails: Rust's standard library panics then. The
 * library itself is the installed one, unchanged. The current directory must be empty. */

#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>

#include "check.h"

/* The clock fails after this many calls. Below 0 it never fails. */
static long calls_left = -1;

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (calls_left == 0) {
        calls_left = -1;
        errno = EIO;
        return -1;
    }
    if (calls_left > 0)
        calls_left--;
    return (int)syscall(SYS_clock_gettime, clock, now);
}

static int change(awrite_update_io *io, void *context)
{
    (void)context;
    return awrite_update_write(io, "new", 3) != AWRITE_OK;
}

static awrite_status by_write(void)
{
    return awrite_write("f", "new", 3, NULL, NULL);
}

static awrite_status by_update(void)
{
    return awrite_update("f", change, NULL, NULL, NULL);
}

static awrite_status by_file(void)
{
    awrite_writer *writer;
    awrite_status status = awrite_writer_open(&writer, "f", NULL);

    CHECK((status == AWRITE_OK) == (writer != NULL));
    if (status == AWRITE_OK)
        status = awrite_writer_write(writer, "new", 3);
    if (status == AWRITE_OK)
        status = awrite_writer_commit(writer, NULL);
    awrite_writer_free(writer);
    return status;
}

static awrite_status by_lock(void)
{
    awrite_lock *lock;
    awrite_status status = lock_within(&lock, "f", 60000, NULL);

    CHECK((status == AWRITE_OK) == (lock != NULL));
    awrite_lock_free(lock);
    return status;
}

/* For a lock that this program holds. */
static awrite_status by_waiting(void)
{
    awrite_lock *lock;
    awrite_status status = lock_within(&lock, "held", 3, NULL);

    CHECK(lock == NULL);
    return status;
}

static awrite_status by_lease(void)
{
    awrite_lease *lease;
    awrite_status status = awrite_lease_acquire(&lease, "f", "a", 60000, NULL);

    CHECK((status == AWRITE_OK) == (lease != NULL));
    if (status == AWRITE_OK)
        status = awrite_lease_refresh(lease);
    if (status == AWRITE_OK)
        status = awrite_lease_release(lease);
    awrite_lease_free(lease);
    return status;
}

static awrite_status by_housekeep(void)
{
    awrite_housekeep_options options = {.size = sizeof options, .flags = AWRITE_CLEAN_LOCKS | AWRITE_CLEAN_BACKUPS};

    return awrite_housekeep(".", &options, NULL, NULL, NULL);
}

static int entries(void)
{
    DIR *dir = opendir(".");
    int count = 0;

    CHECK(dir != NULL);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

/* Makes the call again and again. Each time another of its calls of the clock fails, until all have. */
static void try_each(const char *name, awrite_status (*call)(void), awrite_status wanted)
{
    int before, panics;

    make_file("f", "old");
    before = entries();
    for (panics = 0;; panics++) {
        awrite_status status;
        int reached;

        calls_left = panics;
        status = call();
        reached = calls_left < 0;
        calls_left = -1;
        if (!reached) {
            EXPECT(wanted, status);
            break;
        }
        EXPECT(AWRITE_INTERNAL, status);
        CHECK(strncmp(awrite_last_error(), "internal error: ", 16) == 0);
        CHECK(awrite_last_errno() == 0);
        CHECK(has_content("f", "old") || has_content("f", "new"));
        /* A lease that could not be released expires by itself. */
        EXPECT(AWRITE_OK, awrite_lease_release_claimed("f", "a", 0, NULL));
        CHECK(entries() == before);
    }
    printf("%s: %d\n", name, panics);
    CHECK(panics > 0);
}

int main(void)
{
    awrite_lock *held;

    try_each("write", by_write, AWRITE_OK);
    try_each("update", by_update, AWRITE_OK);
    try_each("file", by_file, AWRITE_OK);
    try_each("lock", by_lock, AWRITE_OK);
    EXPECT(AWRITE_OK, awrite_lock_acquire(&held, "held", NULL));
    try_each("waiting", by_waiting, AWRITE_LOCKED);
    EXPECT(AWRITE_OK, awrite_lock_release(held));
    awrite_lock_free(held);
    try_each("lease", by_lease, AWRITE_OK);
    try_each("housekeep", by_housekeep, AWRITE_OK);
    return 0;
}
