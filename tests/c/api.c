/* Every function of the library, right and wrong, in the current directory, which is empty. */

#define _DEFAULT_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"

static void test_status(void)
{
    int status;

    CHECK(strcmp(awrite_version(), AWRITE_VERSION) == 0);
    CHECK(awrite_version_number() == AWRITE_VERSION_NUMBER);
    CHECK(strcmp(awrite_last_error(), "") == 0);
    CHECK(strcmp(awrite_last_hint(), "") == 0);
    CHECK(awrite_last_errno() == 0);
    CHECK(strcmp(awrite_last_found(), "") == 0);
    for (status = 0; status < 9; status++)
        CHECK(strcmp(awrite_strerror(status), awrite_strerror(99)) != 0);
    CHECK(strcmp(awrite_strerror(-1), "unknown status") == 0);
}

static void test_write(void)
{
    awrite_write_options options = {.size = sizeof options};
    awrite_result result = {.size = sizeof result};

    EXPECT(AWRITE_OK, awrite_write("f", "one\n", 4, NULL, NULL));
    CHECK(has_content("f", "one\n"));
    EXPECT(AWRITE_OK, awrite_write("f", "two\n", 4, &options, &result));
    CHECK(has_content("f", "two\n"));
    CHECK(result.size == sizeof result && result.bytes == 4 && result.changed == 1 && result.backup == NULL);

    options.flags = AWRITE_WRITE_IF_CHANGED | AWRITE_WRITE_APPEND | AWRITE_WRITE_ALLOW_EMPTY;
    EXPECT(AWRITE_OK, awrite_write("f", NULL, 0, &options, &result));
    CHECK(result.changed == 0 && result.bytes == 4);

    options.flags = AWRITE_WRITE_BACKUP;
    options.sync = AWRITE_SYNC_NONE;
    options.mode = 0640;
    options.backup_suffix = ".old";
    EXPECT(AWRITE_OK, awrite_write("f", "three", 5, &options, &result));
    CHECK(result.backup != NULL && strcmp(result.backup, "f.old") == 0);
    awrite_free(result.backup);
    CHECK(has_content("f.old", "two\n"));
    {
        struct stat status;
        CHECK(stat("f", &status) == 0 && (status.st_mode & 07777) == 0640);
    }

    options = (awrite_write_options){.size = sizeof options, .backup_keep = 1};
    make_file("kept", "1");
    EXPECT(AWRITE_OK, awrite_write("kept", "2", 1, &options, NULL));
    EXPECT(AWRITE_OK, awrite_write("kept", "3", 1, &options, &result));
    CHECK(result.backup != NULL && has_content(result.backup, "2"));
    CHECK(strncmp(result.backup, "kept.2", 6) == 0 && strlen(result.backup) > strlen("kept.backup"));
    awrite_free(result.backup);
    {
        glob_t found;
        CHECK(glob("kept.*.backup", 0, NULL, &found) == 0 && found.gl_pathc == 1);
        globfree(&found);
    }
    options.flags = AWRITE_WRITE_DRY_RUN;
    EXPECT(AWRITE_OK, awrite_write("kept", "dry run", 7, &options, &result));
    CHECK(result.bytes == 7 && result.changed == 1 && result.backup == NULL);
    CHECK(has_content("kept", "3") && access("kept.lock", F_OK) != 0);
    options.flags |= AWRITE_WRITE_IF_CHANGED;
    EXPECT(AWRITE_OK, awrite_write("kept", "3", 1, &options, &result));
    CHECK(result.changed == 0);
    options.flags = 0;

    /* Nothing to write is an error, unless told otherwise. */
    options = (awrite_write_options){.size = sizeof options, .flags = AWRITE_WRITE_ALLOW_EMPTY};
    EXPECT(AWRITE_ERROR, awrite_write("f", NULL, 0, NULL, NULL));
    CHECK(strstr(awrite_last_hint(), "AWRITE_WRITE_ALLOW_EMPTY") != NULL);
    CHECK(has_content("f", "three"));
    EXPECT(AWRITE_OK, awrite_write("f", NULL, 0, &options, NULL));
    CHECK(has_content("f", ""));

    options.flags = AWRITE_WRITE_MKDIR;
    EXPECT(AWRITE_OK, awrite_write("new/dir/f", "x", 1, &options, NULL));
    CHECK(has_content("new/dir/f", "x"));
}

static void test_modes(void)
{
    awrite_lock_options lock = {.size = sizeof lock, .lock_mode = AWRITE_MODE_NONE};
    awrite_write_options options = {.size = sizeof options, .mode = AWRITE_MODE_NONE, .backup_mode = AWRITE_MODE_NONE};
    awrite_lock *held;
    struct stat status;

    make_file("m", "old");
    EXPECT(AWRITE_OK, awrite_write("m", "new", 3, &options, NULL));
    CHECK(stat("m", &status) == 0 && (status.st_mode & 07777) == 0);
    CHECK(stat("m.backup", &status) == 0 && (status.st_mode & 07777) == 0);
    EXPECT(AWRITE_OK, awrite_lock_acquire(&held, "of-nobody", &lock));
    CHECK(stat("of-nobody.lock", &status) == 0 && (status.st_mode & 07777) == 0);
    awrite_lock_free(held);
    /* A whole st_mode, with the file type, is refused. */
    options.mode = S_IFREG | 0644;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("m", "x", 1, &options, NULL));
    options.mode = AWRITE_MODE_NONE | 0644;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("m", "x", 1, &options, NULL));
}

static int accept_none(const char *new_file, const char *target, void *context)
{
    CHECK(strcmp(target, "checked") == 0);
    CHECK(has_content(new_file, "new") && has_content(target, "old"));
    return *(int *)context;
}

static int put_right(const char *new_file, const char *target, void *context)
{
    (void)target, (void)context;
    make_file(new_file, "righted");
    return 0;
}

static int replace_it(const char *new_file, const char *target, void *context)
{
    (void)target, (void)context;
    CHECK(unlink(new_file) == 0);
    make_file(new_file, "another file");
    return 0;
}

static void test_check(void)
{
    int answer = 3;
    awrite_write_options options = {.size = sizeof options, .check = accept_none, .check_context = &answer};
    awrite_writer *writer;

    make_file("checked", "old");
    EXPECT(AWRITE_STOPPED, awrite_write("checked", "new", 3, &options, NULL));
    CHECK(strcmp(awrite_last_error(), "checked: the callback returned 3") == 0);
    EXPECT(AWRITE_OK, awrite_writer_open(&writer, "checked", &options));
    EXPECT(AWRITE_OK, awrite_writer_write(writer, "new", 3));
    EXPECT(AWRITE_STOPPED, awrite_writer_commit(writer, NULL));
    awrite_writer_free(writer);
    CHECK(has_content("checked", "old"));
    answer = 0;
    EXPECT(AWRITE_OK, awrite_write("checked", "new", 3, &options, NULL));
    options.check = put_right;
    EXPECT(AWRITE_OK, awrite_write("checked", "wrong", 5, &options, NULL));
    CHECK(has_content("checked", "righted"));
    options.check = replace_it;
    EXPECT(AWRITE_STOPPED, awrite_write("checked", "x", 1, &options, NULL));
    CHECK(awrite_last_hint()[0] != '\0');
    CHECK(has_content("checked", "righted") && !exists("checked.lock"));
}

static void test_expect(void)
{
    char before[AWRITE_DIGEST_SIZE], after[AWRITE_DIGEST_SIZE + 8];
    awrite_write_options options = {.size = sizeof options};
    awrite_result result = {.size = sizeof result};
    awrite_writer *writer;

    EXPECT(AWRITE_OK, awrite_digest("expected", before, sizeof before));
    CHECK(strcmp(before, "absent") == 0);
    options.expect = before;
    EXPECT(AWRITE_OK, awrite_write("expected", "abc", 3, &options, &result));
    EXPECT(AWRITE_OK, awrite_digest("expected", after, sizeof after));
    CHECK(strcmp(after, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0);
    CHECK(strcmp(after, result.digest) == 0);

    EXPECT(AWRITE_CONFLICT, awrite_write("expected", "mine", 4, &options, &result));
    CHECK(strcmp(awrite_last_error(), "expected: Not what was expected") == 0);
    CHECK(strcmp(awrite_last_found(), after) == 0 && strstr(awrite_last_hint(), after) != NULL);
    EXPECT(AWRITE_CONFLICT, awrite_writer_open(&writer, "expected", &options));
    CHECK(writer == NULL);
    options.flags = AWRITE_WRITE_LATE_LOCK | AWRITE_WRITE_ALLOW_EMPTY;
    EXPECT(AWRITE_OK, awrite_writer_open(&writer, "expected", &options));
    EXPECT(AWRITE_CONFLICT, awrite_writer_commit(writer, NULL));
    awrite_writer_free(writer);
    CHECK(has_content("expected", "abc"));

    options = (awrite_write_options){.size = sizeof options, .expect = after + strlen("sha256:")};
    EXPECT(AWRITE_OK, awrite_writer_open(&writer, "expected", &options));
    EXPECT(AWRITE_OK, awrite_writer_write(writer, "mine", 4));
    make_file("expected", "x");
    EXPECT(AWRITE_CONFLICT, awrite_writer_commit(writer, NULL));
    awrite_writer_free(writer);
    CHECK(has_content("expected", "x"));
    make_file("expected-copy", "x");
    options = (awrite_write_options){.size = sizeof options, .expect_same = "expected-copy"};
    EXPECT(AWRITE_OK, awrite_write("expected", "y", 1, &options, NULL));
    EXPECT(AWRITE_CONFLICT, awrite_write("expected", "z", 1, &options, NULL));
    EXPECT(AWRITE_ERROR, awrite_digest(".", after, sizeof after));
    CHECK(strcmp(awrite_last_found(), "") == 0 && after[0] == 's');

    options = (awrite_write_options){.size = sizeof options, .flags = AWRITE_WRITE_VERIFY};
    EXPECT(AWRITE_OK, awrite_write("expected", "abc", 3, &options, &result));
    CHECK(strcmp(result.digest, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0);
    EXPECT(AWRITE_OK, awrite_write("expected", "z", 1, NULL, &result));
    CHECK(strcmp(result.digest, "") == 0);
    options.sync = AWRITE_SYNC_NONE;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("expected", "z", 1, &options, NULL));

    options = (awrite_write_options){.size = sizeof options, .expect = "sha256:12"};
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("expected", "z", 1, &options, NULL));
    options.expect = "";
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("expected", "z", 1, &options, NULL));
    options = (awrite_write_options){.size = sizeof options, .expect = "absent", .expect_same = "expected-copy"};
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("expected", "z", 1, &options, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_digest(NULL, after, sizeof after));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_digest("expected", NULL, sizeof after));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_digest("expected", after, AWRITE_DIGEST_SIZE - 1));
}

/* Structs of a later version of the header. */
struct later_write {
    awrite_write_options known;
    size_t more;
};

struct later_lock {
    awrite_lock_options known;
    size_t more[2];
};

struct later_housekeep {
    awrite_housekeep_options known;
    char more[8];
};

struct later_info {
    awrite_lease_info known;
    char more[8];
};

/* Members that this library does not know must be zero on input, and are set to zero on output. */
static void test_later_structs(void)
{
    struct later_lock lock = {.known = {.size = sizeof lock}, .more = {0, 1}};
    struct later_housekeep housekeep = {.known = {.size = sizeof housekeep, .flags = AWRITE_CLEAN_LOCKS}, .more = "x"};
    struct later_info info = {.known = {.size = sizeof info}, .more = "another"};
    awrite_lock *held;
    awrite_lease *lease;

    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_acquire(&held, "later", &lock.known));
    CHECK(strcmp(awrite_last_error(),
                 "awrite_lock_options asks for something that this version of libawrite does not know") == 0);
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_acquire(&lease, "later", "a", 1000, &lock.known));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_read("later", &lock.known, &info.known));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_housekeep(".", &housekeep.known, NULL, NULL, NULL));
    CHECK(!exists("later.lock") && !exists("later.lease"));
    lock.more[1] = 0;
    EXPECT(AWRITE_OK, awrite_lock_acquire(&held, "later", &lock.known));
    awrite_lock_free(held);
    EXPECT(AWRITE_OK, awrite_lease_read("later", &lock.known, &info.known));
    CHECK(info.known.size == sizeof info && info.more[0] == '\0' && info.more[6] == '\0');

    /* Not set, cut short, or not where such a struct can be. */
    lock.known.size = offsetof(awrite_lock_options, notice);
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_acquire(&held, "later", &lock.known));
    housekeep.known.size = 0;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_housekeep(".", &housekeep.known, NULL, NULL, NULL));
    CHECK(strstr(awrite_last_error(), "sizeof(awrite_housekeep_options)") != NULL);
    lock.known.size = sizeof lock.known;
    EXPECT(AWRITE_BAD_ARGUMENT,
           awrite_lock_acquire(&held, "later", (const awrite_lock_options *)(const void *)((const char *)&lock + 1)));
}

static void test_write_wrong(void)
{
    awrite_write_options options = {.size = sizeof options};
    awrite_lock_options lock = {.size = sizeof lock};
    awrite_result result = {.size = sizeof result};
    struct later_write later = {.known = {.size = sizeof later}};
    struct {
        awrite_result known;
        char more[16];
    } later_result = {.known = {.size = sizeof later_result}, .more = "must be cleared"};

    make_file("g", "old");
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write(NULL, "x", 1, NULL, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", NULL, 1, NULL, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", SIZE_MAX, NULL, NULL));

    options.size = 0;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &options, NULL));
    CHECK(strstr(awrite_last_error(), "sizeof(awrite_write_options)") != NULL);
    options.size = sizeof options - 1;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &options, NULL));
    options.size = SIZE_MAX;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &options, NULL));
    result.size = 8;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, NULL, &result));

    options = (awrite_write_options){.size = sizeof options, .flags = 1u << 31};
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &options, NULL));
    options = (awrite_write_options){.size = sizeof options, .sync = 3};
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &options, NULL));
    options = (awrite_write_options){.size = sizeof options, .ownership = 3};
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &options, NULL));
    options = (awrite_write_options){.size = sizeof options, .mode = 010000};
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &options, NULL));
    options = (awrite_write_options){.size = sizeof options, .reserved = 1};
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &options, NULL));
    options = (awrite_write_options){.size = sizeof options, .backup_suffix = "a/b"};
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &options, NULL));

    options = (awrite_write_options){.size = sizeof options, .lock = &lock};
    lock.size = 1;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &options, NULL));
    lock = (awrite_lock_options){.size = sizeof lock, .wait = 9};
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &options, NULL));
    lock = (awrite_lock_options){.size = sizeof lock, .timeout_ms = 5};
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &options, NULL));
    lock = (awrite_lock_options){.size = sizeof lock, .method = 3};
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &options, NULL));
    lock = (awrite_lock_options){.size = sizeof lock, .token = 1};
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &options, NULL));
    lock = (awrite_lock_options){.size = sizeof lock, .lock_file = "a", .lock_dir = "b"};
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &options, NULL));

    /* A member that this library does not know must be zero. */
    later.more = 1;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("g", "x", 1, &later.known, NULL));
    CHECK(has_content("g", "old"));
    later.more = 0;
    EXPECT(AWRITE_OK, awrite_write("g", "new", 3, &later.known, &later_result.known));
    CHECK(later_result.known.bytes == 3 && later_result.more[0] == '\0' && later_result.more[15] == '\0');
    CHECK(has_content("g", "new"));

    EXPECT(AWRITE_ERROR, awrite_write("missing/f", "x", 1, NULL, NULL));
    CHECK(awrite_last_errno() == ENOENT);
    CHECK(strcmp(awrite_last_error(), "missing/f: No such file or directory") == 0);
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("", "x", 1, NULL, NULL));
    EXPECT(AWRITE_ERROR, awrite_write("new", "x", 1, NULL, NULL));
    CHECK(strcmp(awrite_last_error(), "new: Is a directory") == 0);
    CHECK(strcmp(awrite_last_hint(), "name a file in it") == 0);
    EXPECT(AWRITE_ERROR, awrite_write("/dev/null", "x", 1, NULL, NULL));
    CHECK(exists("new/dir/f"));
    EXPECT(AWRITE_ERROR, awrite_write("g/f", "x", 1, NULL, NULL));
    CHECK(awrite_last_errno() == ENOTDIR);
    CHECK(symlink("loop", "loop") == 0);
    EXPECT(AWRITE_ERROR, awrite_write("loop", "x", 1, NULL, NULL));
    CHECK(awrite_last_errno() == ELOOP);
    {
        char name[300];
        memset(name, 'n', sizeof name - 1);
        name[sizeof name - 1] = '\0';
        EXPECT(AWRITE_ERROR, awrite_write(name, "x", 1, NULL, NULL));
        CHECK(awrite_last_errno() == ENAMETOOLONG);
        EXPECT(AWRITE_ERROR, lock_now(&(awrite_lock *){NULL}, name, NULL));
    }
    /* A path that is not UTF-8 is shown in another form, but used as it is. */
    EXPECT(AWRITE_ERROR, awrite_write("missing\n\xff/f", "x", 1, NULL, NULL));
    CHECK(strcmp(awrite_last_error(), "missing\\n\xef\xbf\xbd/f: No such file or directory") == 0);
    EXPECT(AWRITE_OK, awrite_write("\xff\n", "x", 1, NULL, NULL));
    CHECK(has_content("\xff\n", "x"));
}

static void test_lock(void)
{
    awrite_lock *lock, *second = (awrite_lock *)1;
    awrite_lock_options options = {.size = sizeof options};

    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "l", NULL));
    CHECK(exists("l.lock") && !exists("l"));
    CHECK(strstr(awrite_lock_path(lock), "l.lock") != NULL);
    CHECK(awrite_lock_fd(lock) >= 0 && (fcntl(awrite_lock_fd(lock), F_GETFD) & FD_CLOEXEC) != 0);
    EXPECT(AWRITE_OK, awrite_lock_check(lock));

    EXPECT(AWRITE_LOCKED, lock_now(&second, "l", NULL));
    CHECK(second == NULL);
    CHECK(strcmp(awrite_last_error(), "l: File locked by this process") == 0);
    CHECK(strstr(awrite_last_hint(), "held_lock") != NULL);
    CHECK(awrite_last_errno() == 0);
    EXPECT(AWRITE_LOCKED, lock_within(&second, "l", 20, NULL));
    CHECK(second == NULL && strcmp(awrite_last_error(), "l: Lock acquisition timeout after 20ms") == 0);
    options.wait = AWRITE_WAIT_NO;
    EXPECT(AWRITE_LOCKED, awrite_lock_acquire(&second, "l", &options));
    options.flags = AWRITE_LOCK_SHARED;
    EXPECT(AWRITE_LOCKED, awrite_lock_acquire(&second, "l", &options));
    {
        awrite_write_options write = {.size = sizeof write, .lock = &options};
        EXPECT(AWRITE_LOCKED, awrite_write("l", "x", 1, &write, NULL));
    }
    EXPECT(AWRITE_OK, awrite_lock_release(lock));
    CHECK(!exists("l.lock"));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_release(lock));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_check(lock));
    CHECK(awrite_lock_fd(lock) == -1);
    CHECK(awrite_lock_path(lock) != NULL);
    awrite_lock_free(lock);

    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "l", &options));
    EXPECT(AWRITE_OK, awrite_lock_acquire(&second, "l", &options));
    awrite_lock_free(second);
    EXPECT(AWRITE_LOCKED, lock_now(&second, "l", NULL));
    {
        /* A write always takes an exclusive lock, whatever the options are. */
        awrite_write_options write = {.size = sizeof write, .lock = &options};
        EXPECT(AWRITE_LOCKED, awrite_write("l", "x", 1, &write, NULL));
        CHECK(!exists("l"));
    }
    awrite_lock_free(lock);
    CHECK(!exists("l.lock"));

    options = (awrite_lock_options){.size = sizeof options, .flags = AWRITE_LOCK_KEEP, .lock_file = "other"};
    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "l", &options));
    CHECK(strcmp(awrite_lock_path(lock), "other") == 0);
    awrite_lock_free(lock);
    CHECK(exists("other"));

    options = (awrite_lock_options){.size = sizeof options, .method = AWRITE_METHOD_LINK, .stale_after_ms = 60000};
    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "l", &options));
    CHECK(awrite_lock_fd(lock) == -1);
    EXPECT(AWRITE_OK, awrite_lock_check(lock));
    EXPECT(AWRITE_LOCKED, lock_now(&second, "l", NULL));
    EXPECT(AWRITE_OK, awrite_lock_release(lock));
    awrite_lock_free(lock);
    CHECK(!exists("l.lock"));

    /* Another process has broken this lock. A write under it fails. */
    {
        awrite_write_options write = {.size = sizeof write, .lock = &options};
        awrite_writer *writer;

        EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "l", &options));
        CHECK(unlink("l.lock") == 0);
        EXPECT(AWRITE_LOCKED, awrite_lock_check(lock));
        CHECK(strstr(awrite_last_error(), "Lock lost") != NULL && awrite_last_hint()[0] != '\0');
        awrite_lock_free(lock);
        EXPECT(AWRITE_OK, awrite_writer_open(&writer, "l", &write));
        EXPECT(AWRITE_OK, awrite_writer_write(writer, "x", 1));
        CHECK(unlink("l.lock") == 0);
        EXPECT(AWRITE_LOCKED, awrite_writer_commit(writer, NULL));
        awrite_writer_free(writer);
        CHECK(!exists("l") && !exists("l.lock"));
    }

    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_acquire(NULL, "l", NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_acquire(&lock, NULL, NULL));
    CHECK(lock == NULL);
    options.flags = 16;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_acquire(&lock, "l", &options));
    EXPECT(AWRITE_ERROR, awrite_lock_acquire(&lock, "missing/l", NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_release(NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_check(NULL));
    CHECK(awrite_lock_fd(NULL) == -1);
    CHECK(awrite_lock_path(NULL) == NULL);
    awrite_lock_free(NULL);
    CHECK(!exists("l.lock"));
}

static void test_file(void)
{
    awrite_writer *writer;
    awrite_result result = {.size = sizeof result};
    awrite_write_options options = {.size = sizeof options, .flags = AWRITE_WRITE_LATE_LOCK};
    uint64_t bytes = 0;
    int ends[2];

    EXPECT(AWRITE_OK, awrite_writer_open(&writer, "s", NULL));
    EXPECT(AWRITE_OK, awrite_writer_write(writer, "a piece, ", 9));
    EXPECT(AWRITE_OK, awrite_writer_write(writer, NULL, 0));
    CHECK(pipe(ends) == 0);
    CHECK(write(ends[1], "another", 7) == 7);
    CHECK(close(ends[1]) == 0);
    EXPECT(AWRITE_OK, awrite_writer_write_from(writer, ends[0], &bytes));
    CHECK(bytes == 7);
    CHECK(close(ends[0]) == 0);
    CHECK(!exists("s"));
    EXPECT(AWRITE_OK, awrite_writer_commit(writer, &result));
    CHECK(result.bytes == 16 && result.changed == 1);
    CHECK(has_content("s", "a piece, another"));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_commit(writer, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_write(writer, "x", 1));
    awrite_writer_free(writer);

    EXPECT(AWRITE_OK, awrite_writer_open(&writer, "s", &options));
    CHECK(!exists("s.lock"));
    EXPECT(AWRITE_OK, awrite_writer_write(writer, "discarded", 9));
    awrite_writer_free(writer);
    CHECK(has_content("s", "a piece, another"));

    /* A bad argument spoils nothing; a failed write does. */
    EXPECT(AWRITE_OK, awrite_writer_open(&writer, "s", NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_write(writer, NULL, 1));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_write_from(writer, -1, NULL));
    result.size = 0;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_commit(writer, &result));
    EXPECT(AWRITE_ERROR, awrite_writer_write_from(writer, 99999, NULL));
    CHECK(awrite_last_errno() == EBADF);
    EXPECT(AWRITE_ERROR, awrite_writer_commit(writer, NULL));
    awrite_writer_free(writer);
    CHECK(has_content("s", "a piece, another"));

    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_open(NULL, "s", NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_open(&writer, NULL, NULL));
    CHECK(writer == NULL);
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_write(NULL, "x", 1));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_write_from(NULL, 0, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_commit(NULL, NULL));
    awrite_writer_free(NULL);
    CHECK(!exists("s.lock"));
}

/* The disk is full, as far as this can be had without one. */
static void test_full(void)
{
    struct rlimit before, limit;
    char block[8192] = {0};

    CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    limit = before;
    limit.rlim_cur = 4096;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    EXPECT(AWRITE_ERROR, awrite_write("s", block, sizeof block, NULL, NULL));
    CHECK(awrite_last_errno() == EFBIG);
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK(has_content("s", "a piece, another"));
}

static int count(awrite_update_io *io, void *context)
{
    char text[32];
    size_t got = 0, all = 0;

    do {
        EXPECT(AWRITE_OK, awrite_update_read(io, text + all, sizeof text - 1 - all, &got));
        all += got;
    } while (got > 0);
    text[all] = '\0';
    snprintf(text, sizeof text, "%ld\n", strtol(text, NULL, 10) + *(long *)context);
    EXPECT(AWRITE_OK, awrite_update_write(io, text, strlen(text)));
    return 0;
}

static int refuse(awrite_update_io *io, void *context)
{
    (void)context;
    EXPECT(AWRITE_OK, awrite_update_write(io, "refused", 7));
    return 42;
}

static int misuse(awrite_update_io *io, void *context)
{
    char text[1];
    size_t got;

    (void)context;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_update_read(NULL, text, 1, &got));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_update_read(io, text, 1, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_update_read(io, NULL, 1, &got));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_update_write(io, NULL, 1));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_update_write(NULL, "x", 1));
    return 0;
}

static int fill_up(awrite_update_io *io, void *context)
{
    static char block[65536];

    CHECK(awrite_update_write(io, block, sizeof block) == *(awrite_status *)context);
    return 0;
}

static void test_update(void)
{
    awrite_result result = {.size = sizeof result};
    awrite_write_options options = {.size = sizeof options, .flags = AWRITE_WRITE_LATE_LOCK};
    long step = 2;

    EXPECT(AWRITE_OK, awrite_update("n", count, &step, NULL, NULL));
    EXPECT(AWRITE_OK, awrite_update("n", count, &step, NULL, &result));
    CHECK(has_content("n", "4\n") && result.bytes == 2);
    EXPECT(AWRITE_STOPPED, awrite_update("n", refuse, NULL, NULL, NULL));
    CHECK(strstr(awrite_last_error(), "42") != NULL);
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_update("n", NULL, NULL, NULL, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_update(NULL, count, &step, NULL, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_update("n", count, &step, &options, NULL));
    CHECK(has_content("n", "4\n"));
    EXPECT(AWRITE_ERROR, awrite_update("n", misuse, NULL, NULL, NULL));
    CHECK(has_content("n", "4\n"));
    options.flags = AWRITE_WRITE_ALLOW_EMPTY;
    EXPECT(AWRITE_OK, awrite_update("n", misuse, NULL, &options, NULL));
    CHECK(has_content("n", ""));
    {
        struct rlimit before, limit;
        awrite_status wanted = AWRITE_ERROR;

        CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
        limit = before;
        limit.rlim_cur = 4096;
        CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        /* The callback ignores the failure; the library does not. */
        EXPECT(AWRITE_ERROR, awrite_update("n", fill_up, &wanted, NULL, NULL));
        CHECK(awrite_last_errno() == EFBIG);
        CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    }
    CHECK(has_content("n", ""));
    CHECK(!exists("n.lock"));
}

/* The locks of several files, by one handle. */
static void test_several_locks(void)
{
    const char *one_way[] = {"a", "b", "./a"}, *other_way[] = {"b", "a"}, *nothing[] = {"a", NULL};
    awrite_lock_options options = {.size = sizeof options, .wait = AWRITE_WAIT_NO};
    awrite_lock *lock, *second;

    EXPECT(AWRITE_OK, awrite_lock_acquire_all(&lock, one_way, 3, NULL));
    CHECK(exists("a.lock") && exists("b.lock"));
    CHECK(strstr(awrite_lock_path(lock), "a.lock") != NULL && awrite_lock_fd(lock) >= 0);
    EXPECT(AWRITE_OK, awrite_lock_check(lock));
    EXPECT(AWRITE_LOCKED, lock_now(&second, "b", NULL));
    EXPECT(AWRITE_LOCKED, awrite_lock_acquire_all(&second, other_way, 2, &options));
    CHECK(second == NULL);
    EXPECT(AWRITE_OK, awrite_lock_release(lock));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_check(lock));
    awrite_lock_free(lock);
    CHECK(!exists("a.lock") && !exists("b.lock"));
    EXPECT(AWRITE_OK, awrite_lock_acquire_all(&lock, other_way, 2, &options));
    awrite_lock_free(lock);
    CHECK(!exists("a.lock") && !exists("b.lock"));

    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_acquire_all(NULL, one_way, 3, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_acquire_all(&lock, NULL, 1, NULL));
    CHECK(lock == NULL);
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_acquire_all(&lock, one_way, 0, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_acquire_all(&lock, nothing, 2, NULL));
    options.lock_file = "l";
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_acquire_all(&lock, other_way, 2, &options));
    CHECK(!exists("a.lock") && !exists("b.lock") && !exists("l"));
}

/* Why a lease was taken, and its end by somebody else. */
static void test_reason_and_break(void)
{
    awrite_lock_options why = {.size = sizeof why, .reason = "rebuilding"};
    awrite_lease_info info = {.size = sizeof info};
    awrite_lease *lease;
    awrite_lock *lock;
    uint64_t token;

    EXPECT(AWRITE_OK, awrite_lease_acquire(&lease, "r", "a", 60000, &why));
    token = awrite_lease_token(lease);
    EXPECT(AWRITE_OK, awrite_lease_refresh(lease));
    EXPECT(AWRITE_OK, awrite_lease_read("r", NULL, &info));
    CHECK(strcmp(info.reason, "rebuilding") == 0 && info.lock_since_ms == 0);
    EXPECT(AWRITE_LOCKED, lock_now(&lock, "r", NULL));
    CHECK(strstr(awrite_last_error(), "(rebuilding)") != NULL);

    memset(&info.state, 0xff, sizeof info - offsetof(awrite_lease_info, state));
    EXPECT(AWRITE_OK, awrite_lease_break("r", NULL, &info));
    CHECK(info.state == AWRITE_LEASE_LIVE && info.token == token && strcmp(info.owner, "a") == 0);
    CHECK(strcmp(info.reason, "rebuilding") == 0 && info.locked == 0);
    EXPECT(AWRITE_LOCKED, awrite_lease_refresh(lease));
    awrite_lease_free(lease);
    EXPECT(AWRITE_OK, awrite_lease_break("r", NULL, &info));
    CHECK(info.state == AWRITE_LEASE_NONE && info.token == 0 && info.reason[0] == '\0');
    EXPECT(AWRITE_OK, awrite_lease_break("r", NULL, NULL));
    CHECK(!exists("r.lease"));

    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_break(NULL, NULL, NULL));
    info.size = 1;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_break("r", NULL, &info));
    why.reason = "two\nlines";
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_acquire(&lease, "r", "a", 60000, &why));
    why.reason = "";
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_acquire(&lease, "r", "a", 60000, &why));
    CHECK(!exists("r.lease"));
}

struct holds {
    int calls, held, leased, stop;
};

static int note_hold(const awrite_hold *hold, void *context)
{
    struct holds *holds = context;

    CHECK(hold->size == sizeof *hold);
    holds->calls++;
    if (hold->state == AWRITE_HOLD_HELD) {
        CHECK(strcmp(hold->target, "held/l") == 0 && strcmp(hold->lock_file, "held/l.lock") == 0);
        CHECK(hold->lease == NULL && hold->since_ms > 0);
        /* 0 if /proc/locks cannot be read. */
        CHECK(hold->pid == (uint32_t)getpid() || hold->pid == 0);
        holds->held++;
    } else if (hold->state == AWRITE_HOLD_LEASED) {
        CHECK(strcmp(hold->target, "held/sub/p") == 0 && hold->command[0] == '\0' && hold->pid == 0);
        CHECK(hold->lease->size == sizeof *hold->lease && strcmp(hold->lease->owner, "a") == 0);
        CHECK(hold->since_ms == hold->lease->locked_at_ms);
        holds->leased++;
    }
    return holds->stop;
}

static void test_holds(void)
{
    struct holds holds = {0}, first = {.stop = 1};
    awrite_lease *lease;
    awrite_lock *lock;

    CHECK(mkdir("held", 0777) == 0 && mkdir("held/sub", 0777) == 0);
    EXPECT(AWRITE_OK, awrite_hold_list("held", 0, NULL, note_hold, &holds));
    CHECK(holds.calls == 0);
    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "held/l", NULL));
    EXPECT(AWRITE_OK, awrite_lease_acquire(&lease, "held/sub/p", "a", 60000, NULL));
    EXPECT(AWRITE_OK, awrite_hold_list("held", 0, NULL, note_hold, &holds));
    CHECK(holds.calls == 1 && holds.held == 1);
    EXPECT(AWRITE_OK, awrite_hold_list("held", AWRITE_HOLDS_RECURSIVE, NULL, note_hold, &holds));
    CHECK(holds.calls == 3 && holds.held == 2 && holds.leased == 1);
    EXPECT(AWRITE_STOPPED, awrite_hold_list("held", AWRITE_HOLDS_RECURSIVE, NULL, note_hold, &first));
    CHECK(first.calls == 1);
    awrite_lock_free(lock);
    awrite_lease_free(lease);

    EXPECT(AWRITE_ERROR, awrite_hold_list("missing", 0, NULL, note_hold, &holds));
    CHECK(awrite_last_errno() == ENOENT);
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_hold_list(NULL, 0, NULL, note_hold, &holds));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_hold_list("held", 2, NULL, note_hold, &holds));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_hold_list("held", 0, NULL, NULL, &holds));
    CHECK(rmdir("held/sub") == 0 && rmdir("held") == 0);
}

static void test_lease(void)
{
    awrite_lease *lease, *other;
    awrite_lease_info info = {.size = sizeof info};
    awrite_lock_options no_wait = {.size = sizeof no_wait, .wait = AWRITE_WAIT_NO};
    awrite_lock_options as_a = {.size = sizeof as_a, .wait = AWRITE_WAIT_NO, .owner = "a"};
    awrite_write_options write = {.size = sizeof write, .lock = &no_wait};
    uint64_t token;

    EXPECT(AWRITE_OK, awrite_lease_read("p", NULL, &info));
    CHECK(info.state == AWRITE_LEASE_NONE && info.locked == 0 && info.token == 0 && info.owner[0] == '\0');
    EXPECT(AWRITE_OK, awrite_lease_acquire(&lease, "p", "a", 60000, NULL));
    token = awrite_lease_token(lease);
    CHECK(token > 0);
    CHECK(awrite_lease_time_to_refresh(lease) > 10000 && awrite_lease_time_to_refresh(lease) <= 20000);
    EXPECT(AWRITE_OK, awrite_lease_refresh(lease));
    CHECK(awrite_lease_token(lease) == token);
    EXPECT(AWRITE_OK, awrite_lease_read("p", NULL, &info));
    CHECK(info.size == sizeof info && info.state == AWRITE_LEASE_LIVE && info.token == token);
    CHECK(strcmp(info.owner, "a") == 0 && info.pid == (uint32_t)getpid() && info.host[0] != '\0');
    CHECK(info.ttl_ms == 60000 && info.left_ms > 0 && info.left_ms <= 60000);
    CHECK(info.locked_at_ms <= info.refreshed_at_ms && info.refreshed_at_ms < info.expires_at_ms);

    EXPECT(AWRITE_LOCKED, awrite_lease_acquire(&other, "p", "b", 60000, &no_wait));
    CHECK(other == NULL);
    CHECK(strncmp(awrite_last_error(), "p: Leased by a until ", 21) == 0);
    EXPECT(AWRITE_LOCKED, awrite_write("p", "x", 1, &write, NULL));
    write.lock = &as_a;
    as_a.token = token + 1;
    EXPECT(AWRITE_LOCKED, awrite_write("p", "x", 1, &write, NULL));
    as_a.token = token;
    EXPECT(AWRITE_OK, awrite_write("p", "x", 1, &write, NULL));

    EXPECT(AWRITE_OK, awrite_lease_detach(lease));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_detach(lease));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_refresh(lease));
    CHECK(awrite_lease_token(lease) == 0 && awrite_lease_time_to_refresh(lease) == 0);
    awrite_lease_free(lease);
    CHECK(exists("p.lease"));
    EXPECT(AWRITE_LOCKED, awrite_lease_resume(&lease, "p", "a", token + 1, 0, NULL));
    EXPECT(AWRITE_OK, awrite_lease_resume(&lease, "p", "a", token, 0, NULL));
    CHECK(awrite_lease_token(lease) == token);
    awrite_lease_free(lease);
    CHECK(!exists("p.lease"));
    EXPECT(AWRITE_LOCKED, awrite_lease_resume(&lease, "p", "a", 0, 0, NULL));

    EXPECT(AWRITE_OK, awrite_lease_acquire(&lease, "p", "b", 60000, NULL));
    CHECK(awrite_lease_token(lease) > token);
    EXPECT(AWRITE_OK, awrite_lease_detach(lease));
    awrite_lease_free(lease);
    EXPECT(AWRITE_LOCKED, awrite_lease_release_claimed("p", "a", 0, NULL));
    EXPECT(AWRITE_OK, awrite_lease_release_claimed("p", "b", 0, NULL));
    EXPECT(AWRITE_OK, awrite_lease_release_claimed("p", "b", 0, NULL));
    EXPECT(AWRITE_OK, awrite_lease_acquire(&lease, "p", "b", 60000, NULL));
    EXPECT(AWRITE_OK, awrite_lease_release(lease));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_release(lease));
    awrite_lease_free(lease);
    CHECK(!exists("p.lease"));

    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_acquire(NULL, "p", "b", 1, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_acquire(&lease, NULL, "b", 1, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_acquire(&lease, "p", NULL, 1, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_acquire(&lease, "p", "", 1, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_acquire(&lease, "p", "\xff", 1, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_acquire(&lease, "p", "b", 0, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_acquire(&lease, "p", "b", UINT64_MAX, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_resume(&lease, "p", NULL, 0, 0, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_resume(NULL, "p", "b", 0, 0, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_resume(&lease, NULL, "b", 0, 0, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_release_claimed("p", NULL, 0, NULL));
    CHECK(awrite_lease_token(NULL) == 0 && awrite_lease_time_to_refresh(NULL) == 0);
    EXPECT(AWRITE_ERROR, awrite_lease_acquire(&lease, "missing/p", "b", 1000, NULL));
    CHECK(lease == NULL && awrite_last_errno() == ENOENT);
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_release_claimed(NULL, "b", 0, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_refresh(NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_release(NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_detach(NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_read("p", NULL, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_read(NULL, NULL, &info));
    info.size = 16;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_read("p", NULL, &info));
    awrite_lease_free(NULL);

    /* The lease has expired and another owner has it: nothing can be done under the old one. */
    EXPECT(AWRITE_OK, awrite_lease_acquire(&lease, "p", "a", 1, NULL));
    EXPECT(AWRITE_OK, awrite_lease_acquire(&other, "p", "b", 60000, NULL));
    EXPECT(AWRITE_LOCKED, awrite_lease_refresh(lease));
    as_a.token = awrite_lease_token(lease);
    EXPECT(AWRITE_LOCKED, awrite_write("p", "late", 4, &write, NULL));
    CHECK(has_content("p", "x"));
    EXPECT(AWRITE_OK, awrite_lease_release(lease));
    awrite_lease_free(lease);
    CHECK(exists("p.lease"));
    awrite_lease_free(other);
    CHECK(!exists("p.lease"));

    make_file("p.lease", "{");
    EXPECT(AWRITE_ERROR, awrite_lease_acquire(&lease, "p", "b", 60000, NULL));
    info.size = sizeof info;
    EXPECT(AWRITE_ERROR, awrite_lease_read("p", NULL, &info));
    CHECK(unlink("p.lease") == 0);
}

struct told {
    int deleted, others, stop;
};

static int hear(const awrite_housekeep_event *event, void *context)
{
    struct told *told = context;

    CHECK(event->size >= sizeof *event && event->path != NULL && event->reason != NULL);
    if (event->kind == AWRITE_EVENT_DELETED && event->leftover == AWRITE_LEFTOVER_LOCK)
        told->deleted++;
    else
        told->others++;
    return told->stop;
}

static void test_housekeep(void)
{
    awrite_housekeep_options options = {.size = sizeof options, .flags = AWRITE_CLEAN_LOCKS | AWRITE_CLEAN_DRY_RUN};
    awrite_housekeep_summary summary = {.size = sizeof summary};
    struct told told = {0, 0, 0};

    CHECK(mkdir("h", 0777) == 0);
    make_file("h/a.lock", "");
    make_file("h/b.lock", "");
    make_file("h/Cargo.lock", "has content");
    EXPECT(AWRITE_OK, awrite_housekeep("h", &options, hear, &told, &summary));
    CHECK(told.deleted == 2 && summary.locks == 2 && summary.directories == 1 && exists("h/a.lock"));

    options.flags = AWRITE_CLEAN_LOCKS;
    told = (struct told){0, 0, 1};
    EXPECT(AWRITE_STOPPED, awrite_housekeep("h", &options, hear, &told, &summary));
    CHECK(told.deleted + told.others == 1);
    told.stop = 0;
    EXPECT(AWRITE_OK, awrite_housekeep("h", &options, NULL, NULL, NULL));
    CHECK(!exists("h/a.lock") && !exists("h/b.lock") && exists("h/Cargo.lock"));
    EXPECT(AWRITE_OK, awrite_housekeep("h", &options, hear, &told, &summary));
    CHECK(summary.locks == 0 && summary.failures == 0);

    make_file("h/f.backup", "");
    options.flags = AWRITE_CLEAN_BACKUPS;
    EXPECT(AWRITE_OK, awrite_housekeep("h", &options, NULL, NULL, &summary));
    CHECK(summary.backups == 0);
    options.flags = AWRITE_CLEAN_BACKUPS | AWRITE_CLEAN_KEEP_NONE;
    EXPECT(AWRITE_OK, awrite_housekeep("h", &options, NULL, NULL, &summary));
    CHECK(summary.backups == 1 && !exists("h/f.backup"));

    /* Only what is awrite's own: of these, what has its file beside it, and never the last backup. */
    make_file("h/own", "");
    make_file("h/own.lock", "");
    make_file("h/install.lock", "");
    make_file("h/own.backup", "");
    make_file("h/terraform.tfstate.backup", "");
    options.flags = AWRITE_CLEAN_ALL;
    options.backups_older_than_s = 1;
    EXPECT(AWRITE_OK, awrite_housekeep("h", &options, NULL, NULL, &summary));
    CHECK(summary.locks == 1 && summary.backups == 0 && summary.other_locks == 1 && summary.other_backups == 0);
    options.backups_older_than_s = 0;
    EXPECT(AWRITE_OK, awrite_housekeep("h", &options, NULL, NULL, &summary));
    CHECK(summary.locks == 0 && summary.other_locks == 1 && summary.other_backups == 1 && exists("h/own.backup"));
    options.flags = AWRITE_CLEAN_ALL | AWRITE_CLEAN_KEEP_NONE;
    EXPECT(AWRITE_OK, awrite_housekeep("h", &options, NULL, NULL, &summary));
    CHECK(summary.backups == 1 && !exists("h/own.backup") && exists("h/terraform.tfstate.backup"));

    options.keep_newest = 1;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_housekeep("h", &options, NULL, NULL, NULL));
    options = (awrite_housekeep_options){.size = sizeof options};
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_housekeep("h", &options, NULL, NULL, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_housekeep("h", NULL, NULL, NULL, NULL));
    options.flags = 1u << 30;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_housekeep("h", &options, NULL, NULL, NULL));
    options.flags = AWRITE_CLEAN_LOCKS;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_housekeep(NULL, &options, NULL, NULL, NULL));
    summary.size = 0;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_housekeep("h", &options, NULL, NULL, &summary));
    EXPECT(AWRITE_ERROR, awrite_housekeep("missing", &options, NULL, NULL, NULL));
    CHECK(awrite_last_errno() == ENOENT);
}

static int say_so(const awrite_notice *notice, void *context)
{
    char kind = (char)notice->kind;

    CHECK(write(*(int *)context, &kind, 1) == 1);
    return 0;
}

static void *count_often(void *name)
{
    long step = 1;
    int i;

    CHECK(strcmp(awrite_last_error(), "") == 0);
    EXPECT(AWRITE_ERROR, awrite_write(name, "x", 1, NULL, NULL));
    for (i = 0; i < 50; i++)
        EXPECT(AWRITE_OK, awrite_update("t", count, &step, NULL, NULL));
    /* Each thread has its own last error. */
    CHECK(strncmp(awrite_last_error(), name, strlen(name)) == 0);
    return NULL;
}

/* Waits for a lock that another thread holds, and says so; the handle goes back to that thread. */
static void *wait_for(void *told)
{
    awrite_lock_options options = {.size = sizeof options, .notice = say_so, .notice_context = told};
    awrite_lock *lock;

    EXPECT(AWRITE_LOCKED, lock_now(&lock, "between", NULL));
    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "between", &options));
    return lock;
}

static void test_threads(void)
{
    static char names[2][16] = {"missing/1", "missing/2"};
    pthread_t threads[2];
    int i, told[2];
    char kind;
    void *passed;
    awrite_lock *lock;

    CHECK(pipe(told) == 0);
    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "between", NULL));
    CHECK(pthread_create(&threads[0], NULL, wait_for, &told[1]) == 0);
    CHECK(read(told[0], &kind, 1) == 1 && kind == AWRITE_NOTICE_WAITING);
    EXPECT(AWRITE_OK, awrite_lock_release(lock));
    awrite_lock_free(lock);
    CHECK(pthread_join(threads[0], &passed) == 0);
    lock = passed;
    EXPECT(AWRITE_OK, awrite_lock_check(lock));
    EXPECT(AWRITE_OK, awrite_lock_release(lock));
    awrite_lock_free(lock);
    CHECK(close(told[0]) == 0 && close(told[1]) == 0 && !exists("between.lock"));

    for (i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, count_often, names[i]) == 0);
    for (i = 0; i < 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(has_content("t", "100\n"));
    CHECK(!exists("t.lock"));
}

struct heard {
    int kinds[AWRITE_NOTICE_INFO + 1];
    const char *target;
    awrite_lock *held;
};

static int listen_to(const awrite_notice *notice, void *context)
{
    struct heard *heard = context;

    CHECK(notice->size >= sizeof *notice && notice->text != NULL && notice->text[0] != '\0');
    CHECK(strcmp(notice->path, heard->target) == 0);
    if (notice->kind < sizeof heard->kinds / sizeof *heard->kinds)
        heard->kinds[notice->kind]++;
    /* The holder releases the lock only when the waiter has begun to wait. */
    if (notice->kind == AWRITE_NOTICE_WAITING && heard->held != NULL) {
        EXPECT(AWRITE_OK, awrite_lock_release(heard->held));
        awrite_lock_free(heard->held);
        heard->held = NULL;
    }
    return 0;
}

static void test_notices(void)
{
    struct heard heard = {.target = "told"}, nobody = {.target = "nobody"};
    awrite_lock_options lock = {.size = sizeof lock, .notice = listen_to, .notice_context = &heard};
    awrite_write_options options = {.size = sizeof options, .lock = &lock};
    awrite_lease *lease;
    awrite_writer *writer;
    awrite_lock *taken;

    EXPECT(AWRITE_OK, awrite_lock_acquire(&heard.held, "told", NULL));
    EXPECT(AWRITE_OK, awrite_lock_acquire(&taken, "told", &lock));
    CHECK(heard.kinds[AWRITE_NOTICE_WAITING] == 1 && heard.kinds[AWRITE_NOTICE_LOCKED] == 1);
    lock.wait = AWRITE_WAIT_LIMITED;
    lock.timeout_ms = 5;
    EXPECT(AWRITE_LOCKED, awrite_lease_acquire(&lease, "told", "a", 1000, &lock));
    CHECK(heard.kinds[AWRITE_NOTICE_WAITING] == 2 && heard.kinds[AWRITE_NOTICE_LOCKED] == 1);
    awrite_lock_free(taken);

    /* The callback of the lock's options gets the notices of the write, unless the write's options have another. */
    make_file("told", "");
    CHECK(link("told", "linked") == 0);
    options.flags = AWRITE_WRITE_ALLOW_EMPTY;
    EXPECT(AWRITE_OK, awrite_writer_open(&writer, "told", &options));
    EXPECT(AWRITE_OK, awrite_writer_commit(writer, NULL));
    awrite_writer_free(writer);
    CHECK(heard.kinds[AWRITE_NOTICE_INFO] == 1);
    CHECK(unlink("linked") == 0 && link("told", "linked") == 0);
    lock.notice_context = &nobody;
    options.notice = listen_to;
    options.notice_context = &heard;
    EXPECT(AWRITE_OK, awrite_write("told", "x", 1, &options, NULL));
    CHECK(heard.kinds[AWRITE_NOTICE_INFO] == 2);

    /* AWRITE_LOCK_KEEP has no effect on a link lock, which a warning says. */
    lock = (awrite_lock_options){.size = sizeof lock, .method = AWRITE_METHOD_LINK, .flags = AWRITE_LOCK_KEEP};
    EXPECT(AWRITE_OK, awrite_write("told", "x", 1, &options, NULL));
    CHECK(heard.kinds[AWRITE_NOTICE_WARNING] == 1);
    CHECK(!exists("told.lock"));
}

static volatile sig_atomic_t interruptions;

static void interrupted(int number)
{
    (void)number;
    interruptions++;
}

/* Signals come all the time and interrupt system calls. */
static void test_signals(void)
{
    struct sigaction action = {.sa_handler = interrupted};
    struct itimerval often = {{0, 10000}, {0, 10000}}, never = {{0, 0}, {0, 0}};
    static char block[1 << 20];
    awrite_result result = {.size = sizeof result};
    awrite_lock *lock, *second;
    long step = 1;
    int before, i;

    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "signalled", NULL));
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    before = interruptions;
    while (interruptions < before + 10)
        EXPECT(AWRITE_LOCKED, lock_within(&second, "signalled", 20, NULL));
    EXPECT(AWRITE_OK, awrite_lock_release(lock));
    awrite_lock_free(lock);
    before = interruptions;
    for (i = 1; interruptions < before + 10; i++) {
        EXPECT(AWRITE_OK, awrite_update("signalled", count, &step, NULL, NULL));
        EXPECT(AWRITE_OK, awrite_write("large", block, sizeof block, NULL, &result));
        CHECK(result.bytes == sizeof block);
    }
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    {
        char text[16];
        snprintf(text, sizeof text, "%d\n", i - 1);
        CHECK(has_content("signalled", text));
    }
    CHECK(!exists("signalled.lock"));
}

/* More than is buffered, before and after. The child returns from the callback, too, which it should not. */
static int fork_in_update(awrite_update_io *io, void *parent)
{
    static char block[20000];
    pid_t child;
    int status;
    size_t got;

    memset(block, 'p', sizeof block);
    EXPECT(AWRITE_OK, awrite_update_write(io, block, sizeof block));
    child = fork();
    CHECK(child >= 0);
    *(int *)parent = child != 0;
    if (child == 0) {
        EXPECT(AWRITE_BAD_ARGUMENT, awrite_update_write(io, "child", 5));
        EXPECT(AWRITE_BAD_ARGUMENT, awrite_update_read(io, block, 1, &got));
        return 0;
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    EXPECT(AWRITE_OK, awrite_update_write(io, block, sizeof block));
    return 0;
}

static void test_fork_in_update(void)
{
    awrite_result result = {.size = sizeof result};
    int parent;
    awrite_status status = awrite_update("forked", fork_in_update, &parent, NULL, &result);

    if (!parent) {
        EXPECT(AWRITE_BAD_ARGUMENT, status);
        CHECK(!exists("forked") && exists("forked.lock"));
        execlp("true", "true", (char *)NULL);
        _exit(1);
    }
    EXPECT(AWRITE_OK, status);
    CHECK(result.bytes == 40000 && !exists("forked.lock"));
}

static void test_fork(void)
{
    awrite_lock *lock, *linked, *second;
    awrite_lock_options by_link = {.size = sizeof by_link, .method = AWRITE_METHOD_LINK};
    awrite_writer *writer;
    awrite_lease *lease;
    awrite_lease_info info = {.size = sizeof info};
    pid_t child;
    int status, fd;

    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "x", NULL));
    fd = awrite_lock_fd(lock);
    EXPECT(AWRITE_OK, awrite_lock_acquire(&linked, "w", &by_link));
    EXPECT(AWRITE_OK, awrite_writer_open(&writer, "y", NULL));
    EXPECT(AWRITE_OK, awrite_writer_write(writer, "parent", 6));
    EXPECT(AWRITE_OK, awrite_lease_acquire(&lease, "z", "a", 60000, NULL));
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_release(lock));
        EXPECT(AWRITE_BAD_ARGUMENT, awrite_lock_release(linked));
        CHECK(awrite_lock_fd(lock) == -1);
        EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_write(writer, "child", 5));
        EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_commit(writer, NULL));
        EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_refresh(lease));
        EXPECT(AWRITE_BAD_ARGUMENT, awrite_lease_release(lease));
        awrite_lock_free(lock);
        awrite_lock_free(linked);
        awrite_writer_free(writer);
        awrite_lease_free(lease);
        /* The child has no share in the lock, even if it outlives the parent. */
        CHECK(fcntl(fd, F_GETFD) == -1);
        /* The child can use the library, and the parent's lock keeps it out. */
        EXPECT(AWRITE_LOCKED, lock_now(&second, "x", NULL));
        EXPECT(AWRITE_LOCKED, lock_now(&second, "w", &by_link));
        EXPECT(AWRITE_OK, awrite_write("of-child", "x", 1, NULL, NULL));
        /* Not _exit(): valgrind would report what belonged to the parent's threads, which are not here to free it. */
        execlp("true", "true", (char *)NULL);
        _exit(1);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(exists("x.lock") && exists("y.lock") && exists("w.lock") && exists("of-child"));
    EXPECT(AWRITE_LOCKED, lock_now(&second, "x", NULL));
    EXPECT(AWRITE_LOCKED, lock_now(&second, "w", NULL));
    EXPECT(AWRITE_OK, awrite_lease_read("z", NULL, &info));
    CHECK(info.state == AWRITE_LEASE_LIVE);
    EXPECT(AWRITE_OK, awrite_writer_commit(writer, NULL));
    CHECK(has_content("y", "parent"));
    EXPECT(AWRITE_OK, awrite_lock_release(lock));
    EXPECT(AWRITE_OK, awrite_lock_release(linked));
    EXPECT(AWRITE_OK, awrite_lease_release(lease));
    awrite_lock_free(lock);
    awrite_lock_free(linked);
    awrite_writer_free(writer);
    awrite_lease_free(lease);
    CHECK(!exists("x.lock") && !exists("y.lock") && !exists("w.lock") && !exists("z.lease"));
}

static int open_descriptors(void)
{
    int fd, count = 0;

    for (fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) != -1;
    return count;
}

int main(void)
{
    int tries, before = open_descriptors();

    test_status();
    test_write();
    test_modes();
    test_check();
    test_expect();
    test_later_structs();
    test_write_wrong();
    test_lock();
    test_file();
    test_full();
    test_update();
    test_several_locks();
    test_reason_and_break();
    test_holds();
    test_lease();
    test_housekeep();
    test_threads();
    test_notices();
    test_signals();
    test_fork();
    test_fork_in_update();
    /* The heartbeat thread of a link lock may not have ended yet. */
    for (tries = 0; open_descriptors() != before; tries++) {
        CHECK(tries < 60000);
        usleep(1000);
    }
    return 0;
}
