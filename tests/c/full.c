/* Errors of the library on a full disk, and the files that it leaves. The current directory is an empty file system of
 * a few hundred kilobytes and a few dozen inodes. */

#define _DEFAULT_SOURCE

#include <errno.h>
#include <fcntl.h>

#include "check.h"

static char block[1 << 20];

/* The call fails for this reason, and the target is as it was. */
#define EXPECT_FULL(call)                                                                                              \
    do {                                                                                                               \
        EXPECT(AWRITE_ERROR, call);                                                                                    \
        CHECK(awrite_last_errno() == ENOSPC);                                                                          \
        CHECK(strstr(awrite_last_error(), "No space left on device") != NULL);                                         \
        CHECK(has_content("f", "old") && !exists("f.lock") && !exists("f.lease") && !exists("f.backup"));              \
    } while (0)

static int overfill(awrite_update_io *io, void *context)
{
    CHECK(awrite_update_write(io, block, sizeof block) == AWRITE_ERROR);
    CHECK(awrite_last_errno() == ENOSPC);
    return *(int *)context;
}

static void without_room_for_the_content(void)
{
    int answers[] = {0, 1}, zero = open("/dev/zero", O_RDONLY), i;
    uint64_t bytes = 7;
    awrite_result result = {.size = sizeof result, .bytes = 7};
    awrite_writer *writer;

    EXPECT_FULL(awrite_write("f", block, sizeof block, NULL, &result));
    CHECK(strcmp(awrite_last_error(), "f: No space left on device") == 0);
    CHECK(strstr(awrite_last_hint(), "unchanged") != NULL);
    CHECK(result.bytes == 7);

    EXPECT(AWRITE_OK, awrite_writer_open(&writer, "f", NULL));
    EXPECT(AWRITE_OK, awrite_writer_write(writer, block, 4096));
    EXPECT(AWRITE_ERROR, awrite_writer_write(writer, block, sizeof block));
    CHECK(awrite_last_errno() == ENOSPC);
    /* The staged content is incomplete, so it is not committed even if there is room again. */
    EXPECT(AWRITE_ERROR, awrite_writer_commit(writer, NULL));
    awrite_writer_free(writer);
    CHECK(has_content("f", "old") && !exists("f.lock"));

    CHECK(zero >= 0);
    EXPECT(AWRITE_OK, awrite_writer_open(&writer, "f", NULL));
    EXPECT(AWRITE_ERROR, awrite_writer_write_from(writer, zero, &bytes));
    CHECK(awrite_last_errno() == ENOSPC && bytes == 7);
    CHECK(strcmp(awrite_last_error(), "f: No space left on device") == 0);
    awrite_writer_free(writer);
    CHECK(close(zero) == 0);

    /* The error is the full disk, also if the callback ignores it. */
    for (i = 0; i < 2; i++)
        EXPECT_FULL(awrite_update("f", overfill, &answers[i], NULL, NULL));
}

static void without_a_free_block(void)
{
    awrite_lock_options by_link = {.size = sizeof by_link, .method = AWRITE_METHOD_LINK};
    awrite_write_options backup = {.size = sizeof backup, .backup_mode = 0600};
    int filler = open("filler", O_WRONLY | O_CREAT, 0600);
    awrite_lock *lock;
    awrite_lease *lease;

    CHECK(filler >= 0);
    while (write(filler, block, 4096) > 0)
        continue;
    CHECK(errno == ENOSPC && close(filler) == 0);

    EXPECT_FULL(awrite_write("f", "new", 3, NULL, NULL));
    EXPECT_FULL(awrite_write("f", NULL, 0, &backup, NULL));
    EXPECT_FULL(awrite_lock_acquire(&lock, "f", &by_link));
    CHECK(lock == NULL);
    EXPECT_FULL(awrite_lease_acquire(&lease, "f", "a", 60000, NULL));
    CHECK(lease == NULL);
    /* A lock by flock(2) has no content. */
    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "f", NULL));
    EXPECT(AWRITE_OK, awrite_lock_release(lock));
    awrite_lock_free(lock);
    CHECK(unlink("filler") == 0);
}

static void without_a_free_inode(void)
{
    awrite_housekeep_options options = {.size = sizeof options, .flags = AWRITE_CLEAN_LOCKS};
    awrite_housekeep_summary summary = {.size = sizeof summary};
    awrite_lock *lock;
    awrite_lease *lease;
    awrite_writer *writer;
    char name[32];
    int count = 0, made;

    do {
        snprintf(name, sizeof name, "%d.lock", count);
        made = open(name, O_WRONLY | O_CREAT, 0600);
        if (made >= 0)
            CHECK(close(made) == 0);
        count += made >= 0;
    } while (made >= 0);
    CHECK(errno == ENOSPC && count > 2);

    EXPECT_FULL(awrite_lock_acquire(&lock, "f", NULL));
    CHECK(lock == NULL);
    EXPECT_FULL(awrite_writer_open(&writer, "f", NULL));
    CHECK(writer == NULL);
    /* One inode is free now, which the lock file takes. There is none for the new content. */
    CHECK(unlink("0.lock") == 0);
    EXPECT_FULL(awrite_write("f", "new", 3, NULL, NULL));
    EXPECT_FULL(awrite_lease_acquire(&lease, "f", "a", 60000, NULL));
    CHECK(lease == NULL);

    EXPECT(AWRITE_OK, awrite_housekeep(".", &options, NULL, NULL, &summary));
    CHECK(summary.locks == (uint64_t)count - 1);
    EXPECT(AWRITE_OK, awrite_write("f", "new", 3, NULL, NULL));
    CHECK(has_content("f", "new"));
}

int main(void)
{
    make_file("f", "old");
    without_room_for_the_content();
    without_a_free_block();
    without_a_free_inode();
    return 0;
}
