/* Reading a target as a whole, and what a writer's descriptors do. The current directory must be empty. */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "check.h"

static void test_read(void)
{
    char digest[AWRITE_DIGEST_SIZE], later[AWRITE_DIGEST_SIZE];
    awrite_write_options options = AWRITE_WRITE_OPTIONS_INIT;
    awrite_lock_options lock_options = AWRITE_LOCK_OPTIONS_INIT;
    awrite_lock *lock;
    void *data = digest;
    size_t size = 7;

    EXPECT(AWRITE_ERROR, awrite_read("r", &data, &size, digest, NULL));
    CHECK(awrite_last_errno() == ENOENT && data == NULL && size == 0 && !exists("r.lock"));
    CHECK(strcmp(awrite_last_error(), "r: No such file or directory") == 0);

    EXPECT(AWRITE_OK, awrite_write("r", "a\0b", 3, NULL, NULL));
    EXPECT(AWRITE_OK, awrite_read("r", &data, &size, digest, NULL));
    CHECK(size == 3 && memcmp(data, "a\0b", 4) == 0 && !exists("r.lock"));
    awrite_free(data);
    EXPECT(AWRITE_OK, awrite_digest("r", later, sizeof later));
    CHECK(strcmp(digest, later) == 0);
    options.expect = digest;
    EXPECT(AWRITE_OK, awrite_write("r", "new", 3, &options, NULL));
    EXPECT(AWRITE_CONFLICT, awrite_write("r", "newer", 5, &options, NULL));

    make_file("r", "");
    EXPECT(AWRITE_OK, awrite_read("r", &data, &size, NULL, NULL));
    CHECK(size == 0 && data != NULL && *(char *)data == '\0');
    awrite_free(data);

    /* Readers share the lock with one another, and with no writer. */
    lock_options.wait = AWRITE_WAIT_NO;
    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "r", &lock_options));
    EXPECT(AWRITE_LOCKED, awrite_read("r", &data, &size, NULL, &lock_options));
    CHECK(data == NULL);
    awrite_lock_free(lock);
    lock_options.flags = AWRITE_LOCK_SHARED;
    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "r", &lock_options));
    EXPECT(AWRITE_OK, awrite_read("r", &data, &size, NULL, &lock_options));
    awrite_free(data);
    awrite_lock_free(lock);

    EXPECT(AWRITE_ERROR, awrite_read(".", &data, &size, NULL, NULL));
    CHECK(awrite_last_errno() == EISDIR);
    CHECK(mkfifo("fifo", 0600) == 0);
    EXPECT(AWRITE_ERROR, awrite_read("fifo", &data, &size, NULL, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_read(NULL, &data, &size, NULL, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_read("r", NULL, &size, NULL, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_read("r", &data, NULL, NULL, NULL));
    awrite_free(NULL);
}

/* What is written with stdio counts as what awrite_writer_write() writes. */
static void test_descriptor(void)
{
    static const awrite_write_flags all[] = {AWRITE_WRITE_DEFAULT, AWRITE_WRITE_APPEND, AWRITE_WRITE_LATE_LOCK,
                                             AWRITE_WRITE_APPEND | AWRITE_WRITE_LATE_LOCK};
    char digest[AWRITE_DIGEST_SIZE];
    size_t i;

    for (i = 0; i < sizeof all / sizeof *all; i++) {
        awrite_write_options options = AWRITE_WRITE_OPTIONS_INIT;
        awrite_result result = AWRITE_RESULT_INIT;
        awrite_writer *writer;
        const char *wanted = (all[i] & AWRITE_WRITE_APPEND) != 0 ? "old, one two three" : "one two three";
        FILE *file;
        int fd;

        CHECK(remove("w") == 0 || errno == ENOENT);
        make_file("w", "old, ");
        options.flags = all[i] | AWRITE_WRITE_VERIFY;
        EXPECT(AWRITE_OK, awrite_writer_open(&writer, "w", &options));
        EXPECT(AWRITE_OK, awrite_writer_write(writer, "one ", 4));
        fd = awrite_writer_fd(writer);
        CHECK(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0 && awrite_writer_fd(writer) == fd);
        file = fdopen(dup(fd), "w");
        CHECK(file != NULL && fprintf(file, "%s ", "two") > 0 && fclose(file) == 0);
        EXPECT(AWRITE_OK, awrite_writer_write(writer, "three", 5));
        CHECK(has_content("w", "old, "));
        EXPECT(AWRITE_OK, awrite_writer_commit(writer, &result));
        CHECK(has_content("w", wanted) && result.bytes == strlen(wanted));
        EXPECT(AWRITE_OK, awrite_digest("w", digest, sizeof digest));
        CHECK(strcmp(result.digest, digest) == 0);
        CHECK(awrite_writer_fd(writer) == -1);
        awrite_writer_free(writer);
    }
    CHECK(awrite_writer_fd(NULL) == -1);
}

static void test_old_content(void)
{
    awrite_write_options options = AWRITE_WRITE_OPTIONS_INIT;
    awrite_writer *writer;
    char text[8] = "";
    int fd = 7;

    EXPECT(AWRITE_OK, awrite_writer_open(&writer, "new", NULL));
    EXPECT(AWRITE_OK, awrite_writer_open_old(writer, &fd));
    CHECK(fd == -1);
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_open_old(writer, NULL));
    awrite_writer_free(writer);

    make_file("o", "old");
    EXPECT(AWRITE_OK, awrite_writer_open(&writer, "o", NULL));
    EXPECT(AWRITE_OK, awrite_writer_open_old(writer, &fd));
    CHECK(fd >= 0 && read(fd, text, sizeof text) == 3 && strcmp(text, "old") == 0);
    EXPECT(AWRITE_OK, awrite_writer_write(writer, "new", 3));
    EXPECT(AWRITE_OK, awrite_writer_commit(writer, NULL));
    /* It is the caller's, and still the old file. */
    CHECK(lseek(fd, 0, SEEK_SET) == 0 && read(fd, text, sizeof text) == 3 && strcmp(text, "old") == 0);
    CHECK(close(fd) == 0);
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_open_old(writer, &fd));
    CHECK(fd == -1);
    awrite_writer_free(writer);

    options.flags = AWRITE_WRITE_LATE_LOCK;
    EXPECT(AWRITE_OK, awrite_writer_open(&writer, "o", &options));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_open_old(writer, &fd));
    awrite_writer_free(writer);
}

/* The same of lock files: the error is about the lock file, and not about the target. */
static void test_bad_lock_files(void)
{
    static const struct {
        const char *path, *error;
        int code;
    } bad[] = {
        {"none/", "none/: Lock file is a directory", EISDIR},
        {"none/l", "none/l: No such file or directory", ENOENT},
        {"plain/l", "plain/l: Not a directory", ENOTDIR},
        {".", ".: Lock file is a directory", EISDIR},
        {"dir", "dir: Lock file is a directory", EISDIR},
        {"dir/", "dir/: Lock file is a directory", EISDIR},
        {"link", "link: Lock file is a symbolic link", ELOOP},
        {"dangling", "dangling: Lock file is a symbolic link", ELOOP},
        {"fifo", "fifo: Lock file is a FIFO", 0},
        {"/dev/null", "/dev/null: Lock file is a character device", 0},
#ifdef __linux__
        {"/proc/l", "/proc/l: No such file or directory (its directory was removed, or takes no new files)", ENOENT},
#endif
    };
    awrite_lock_options options = AWRITE_LOCK_OPTIONS_INIT;
    char longest[300];
    awrite_lock *lock;
    size_t i;

    make_file("plain", "");
    CHECK(mkdir("dir", 0700) == 0 && mkfifo("fifo", 0600) == 0);
    CHECK(symlink("plain", "link") == 0 && symlink("nowhere", "dangling") == 0);
    for (i = 0; i < 2 * (sizeof bad / sizeof *bad); i++) {
        options.method = i % 2 == 0 ? AWRITE_METHOD_FLOCK : AWRITE_METHOD_LINK;
        options.lock_file = bad[i / 2].path;
        EXPECT(AWRITE_ERROR, awrite_lock_acquire(&lock, "l", &options));
        CHECK(lock == NULL && strcmp(awrite_last_error(), bad[i / 2].error) == 0);
        CHECK(awrite_last_errno() == bad[i / 2].code);
    }
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    options.lock_file = longest;
    EXPECT(AWRITE_ERROR, awrite_lock_acquire(&lock, "l", &options));
    CHECK(awrite_last_errno() == ENAMETOOLONG);
    CHECK(unlink("plain") == 0 && unlink("fifo") == 0 && unlink("link") == 0 && unlink("dangling") == 0);
    CHECK(rmdir("dir") == 0 && !exists("l") && !exists("nowhere"));
}

/* Bad paths: the status, the text and the errno say what is wrong. */
static int tell_nobody(const awrite_hold *hold, void *context)
{
    (void)hold, (void)context;
    return 0;
}

static void test_bad_paths(void)
{
    static const struct {
        const char *path, *error;
        int code;
    } bad[] = {
        {"none/", "none/: No such file or directory", ENOENT},
        {"none/f", "none/f: No such file or directory", ENOENT},
        {"plain/f", "plain/f: Not a directory", ENOTDIR},
        {".", ".: Is a directory", EISDIR},
    };
    awrite_lock_options lock_options = AWRITE_LOCK_OPTIONS_INIT;
    awrite_write_options options = AWRITE_WRITE_OPTIONS_INIT;
    awrite_housekeep_options housekeep = AWRITE_HOUSEKEEP_OPTIONS_INIT;
    char digest[AWRITE_DIGEST_SIZE];
    awrite_lock *lock;
    size_t i;

    make_file("plain", "");
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT(AWRITE_ERROR, awrite_write(bad[i].path, "x", 1, NULL, NULL));
        CHECK(strcmp(awrite_last_error(), bad[i].error) == 0);
        CHECK(awrite_last_errno() == bad[i].code);
    }
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("", "x", 1, NULL, NULL));
    CHECK(strcmp(awrite_last_error(), "target is empty") == 0);
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_digest("", digest, sizeof digest));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_hold_list("", AWRITE_HOLDS_DEFAULT, NULL, tell_nobody, NULL));
    CHECK(strcmp(awrite_last_error(), "dir is empty") == 0);
    housekeep.flags = AWRITE_CLEAN_ALL;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_housekeep("", &housekeep, NULL, NULL, NULL));
    lock_options.lock_file = "";
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_acquire(&lock, "l", &lock_options));
    CHECK(strcmp(awrite_last_error(), "lock_file is empty") == 0);
    lock_options.lock_file = NULL;
    lock_options.lock_dir = "";
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_acquire(&lock, "l", &lock_options));
    options.backup_dir = "";
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("l", "x", 1, &options, NULL));
}

int main(void)
{
    test_bad_lock_files();
    test_bad_paths();
    test_read();
    test_descriptor();
    test_old_content();
    return 0;
}
