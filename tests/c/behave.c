/* What a call does to the thread, the locks and the files of a program around it. In an empty directory. */

#define _GNU_SOURCE

#include <pthread.h>
#include <sys/stat.h>

#include "check.h"

static void *cancelled = NULL;

/* --- A callback ends a wait. */

struct patience {
    int waiting;
    int still;
    int give_up_at;
};

static int lose_patience(const awrite_notice *notice, void *context)
{
    struct patience *patience = context;

    if (notice->kind != AWRITE_NOTICE_WAITING && notice->kind != AWRITE_NOTICE_STILL_WAITING)
        return 0;
    CHECK(notice->text[0] != '\0' && strcmp(notice->path, "w") == 0);
    if (notice->kind == AWRITE_NOTICE_WAITING)
        patience->waiting++;
    else
        patience->still++;
    return patience->waiting + patience->still >= patience->give_up_at;
}

struct held {
    awrite_lock *lock;
    pthread_barrier_t taken, over;
};

/* Another thread, since a thread does not wait for itself. */
static void *hold(void *argument)
{
    struct held *held = argument;

    EXPECT(AWRITE_OK, awrite_lock_acquire(&held->lock, "w", NULL));
    pthread_barrier_wait(&held->taken);
    pthread_barrier_wait(&held->over);
    awrite_lock_free(held->lock);
    return NULL;
}

static void hold_from(struct held *held, pthread_t *holder)
{
    CHECK(pthread_barrier_init(&held->taken, NULL, 2) == 0 && pthread_barrier_init(&held->over, NULL, 2) == 0);
    CHECK(pthread_create(holder, NULL, hold, held) == 0);
    pthread_barrier_wait(&held->taken);
}

static void let_go(struct held *held, pthread_t holder)
{
    pthread_barrier_wait(&held->over);
    CHECK(pthread_join(holder, NULL) == 0);
}

static void test_giving_up(void)
{
    struct patience patience;
    awrite_lock_options lock = {.size = sizeof lock, .notice = lose_patience, .notice_context = &patience};
    awrite_write_options options = {.size = sizeof options, .lock = &lock};
    awrite_lock *mine = (awrite_lock *)1;
    awrite_lease *lease;
    struct held held;
    pthread_t holder;
    int give_up_at;

    hold_from(&held, &holder);
    /* At once, or later. */
    for (give_up_at = 1; give_up_at <= 3; give_up_at++) {
        patience = (struct patience){.give_up_at = give_up_at};
        EXPECT(AWRITE_STOPPED, awrite_lock_acquire(&mine, "w", &lock));
        CHECK(mine == NULL && patience.waiting == 1 && patience.still == give_up_at - 1);
        CHECK(strcmp(awrite_last_error(), "w: The caller gave up waiting for the lock") == 0);
        patience = (struct patience){.give_up_at = give_up_at};
        EXPECT(AWRITE_STOPPED, awrite_write("w", "x", 1, &options, NULL));
        CHECK(patience.waiting == 1 && patience.still == give_up_at - 1 && !exists("w"));
        lock.method = AWRITE_METHOD_LINK;
        patience = (struct patience){.give_up_at = give_up_at};
        EXPECT(AWRITE_STOPPED, awrite_lock_acquire(&mine, "w", &lock));
        lock.method = AWRITE_METHOD_AUTO;
    }
    let_go(&held, holder);
    CHECK(!exists("w.lock"));

    /* The end of a lease is waited for in the same way. */
    EXPECT(AWRITE_OK, awrite_lease_acquire(&lease, "w", "somebody", 60000, NULL));
    patience = (struct patience){.give_up_at = 2};
    EXPECT(AWRITE_STOPPED, awrite_write("w", "x", 1, &options, NULL));
    CHECK(patience.waiting == 1 && patience.still == 1);
    EXPECT(AWRITE_OK, awrite_lease_release(lease));
    awrite_lease_free(lease);

    patience = (struct patience){.give_up_at = 1};
    EXPECT(AWRITE_OK, awrite_write("w", "x", 1, &options, NULL));
    CHECK(patience.waiting == 0);
}

/* --- A thread is cancelled. */

static pthread_barrier_t cancel_now;

static int cancel_is_due(const awrite_notice *notice, void *context)
{
    (void)context;
    if (notice->kind == AWRITE_NOTICE_WAITING) {
        pthread_barrier_wait(&cancel_now);
        /* A cancellation point, at which the request is there by now. */
        pthread_barrier_wait(&cancel_now);
        usleep(1);
    }
    return 0;
}

static void *wait_for_lock(void *argument)
{
    awrite_lock_options lock = {.size = sizeof lock, .notice = cancel_is_due, .timeout_ms = 300};
    awrite_write_options options = {.size = sizeof options, .lock = &lock};
    int state;

    (void)argument;
    lock.wait = AWRITE_WAIT_LIMITED;
    EXPECT(AWRITE_LOCKED, awrite_write("w", "x", 1, &options, NULL));
    /* It can be cancelled again. */
    CHECK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state) == 0 && state == PTHREAD_CANCEL_ENABLE);
    CHECK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL) == 0);
    EXPECT(AWRITE_OK, awrite_write("other", "x", 1, NULL, NULL));
    CHECK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state) == 0 && state == PTHREAD_CANCEL_DISABLE);
    cancelled = &cancelled;
    pthread_testcancel();
    CHECK(!"it was not cancelled");
    return NULL;
}

static void test_cancellation(void)
{
    struct held held;
    pthread_t holder, waiter;
    void *result;

    hold_from(&held, &holder);
    CHECK(pthread_barrier_init(&cancel_now, NULL, 2) == 0);
    CHECK(pthread_create(&waiter, NULL, wait_for_lock, NULL) == 0);
    pthread_barrier_wait(&cancel_now);
    CHECK(pthread_cancel(waiter) == 0);
    pthread_barrier_wait(&cancel_now);
    CHECK(pthread_join(waiter, &result) == 0);
    CHECK(result == PTHREAD_CANCELED && cancelled == &cancelled);
    let_go(&held, holder);
    CHECK(!exists("w.lock") && has_content("other", "x"));
}

/* --- Under a lock that the program holds. */

static int double_it(awrite_update_io *io, void *context)
{
    char text[64];
    size_t got;

    (void)context;
    if (awrite_update_read(io, text, sizeof text, &got) != AWRITE_OK || awrite_update_write(io, text, got) != AWRITE_OK)
        return 1;
    return awrite_update_write(io, text, got) != AWRITE_OK;
}

static int lock_it_again(awrite_update_io *io, void *context)
{
    (void)context;
    EXPECT(AWRITE_LOCKED, awrite_write("u", "x", 1, NULL, NULL));
    return awrite_update_write(io, "new", 3) != AWRITE_OK;
}

static void test_held_lock(void)
{
    awrite_write_options options = {.size = sizeof options};
    awrite_lock_options shared = {.size = sizeof shared, .flags = AWRITE_LOCK_SHARED};
    awrite_lock_options no_wait = {.size = sizeof no_wait, .wait = AWRITE_WAIT_NO};
    const char *both[] = {"u", "v"};
    awrite_lock *lock, *second;
    awrite_writer *file;
    awrite_set *set;

    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "u", NULL));
    /* Without it this thread would wait for itself. */
    EXPECT(AWRITE_LOCKED, awrite_write("u", "x", 1, NULL, NULL));
    CHECK(strstr(awrite_last_error(), "u: File locked by this process") == awrite_last_error());
    CHECK(strstr(awrite_last_hint(), "held_lock") != NULL);
    EXPECT(AWRITE_LOCKED, awrite_lock_acquire(&second, "u", NULL));

    options.held_lock = lock;
    EXPECT(AWRITE_OK, awrite_write("u", "ab", 2, &options, NULL));
    EXPECT(AWRITE_OK, awrite_update("u", double_it, NULL, &options, NULL));
    EXPECT(AWRITE_OK, awrite_writer_open(&file, "u", &options));
    EXPECT(AWRITE_OK, awrite_writer_write(file, "given up", 8));
    awrite_writer_free(file);
    CHECK(has_content("u", "abab"));
    EXPECT(AWRITE_OK, awrite_lock_check(lock));
    EXPECT(AWRITE_LOCKED, awrite_lock_acquire(&second, "u", &no_wait));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("v", "x", 1, &options, NULL));
    options.flags = AWRITE_WRITE_LATE_LOCK;
    EXPECT(AWRITE_OK, awrite_writer_open(&file, "v", &options));
    EXPECT(AWRITE_OK, awrite_writer_write(file, "x", 1));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_commit(file, NULL));
    CHECK(strstr(awrite_last_error(), "is not the lock of this file") != NULL);
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_commit(file, NULL));
    CHECK(strstr(awrite_last_error(), "used up") != NULL);
    awrite_writer_free(file);
    CHECK(!exists("v"));
    options.flags = AWRITE_WRITE_DEFAULT;

    /* It must be held until the commit. */
    EXPECT(AWRITE_OK, awrite_writer_open(&file, "u", &options));
    EXPECT(AWRITE_OK, awrite_writer_write(file, "late", 4));
    EXPECT(AWRITE_OK, awrite_lock_release(lock));
    EXPECT(AWRITE_LOCKED, awrite_writer_commit(file, NULL));
    awrite_writer_free(file);
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("u", "x", 1, &options, NULL));
    awrite_lock_free(lock);
    CHECK(has_content("u", "abab") && !exists("u.lock"));

    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "u", &shared));
    options.held_lock = lock;
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_write("u", "x", 1, &options, NULL));
    awrite_lock_free(lock);

    EXPECT(AWRITE_OK, awrite_lock_acquire_all(&lock, both, 2, NULL));
    options.held_lock = lock;
    EXPECT(AWRITE_OK, awrite_write("v", "x", 1, &options, NULL));
    EXPECT(AWRITE_OK, awrite_set_open(&set, both, 2, &options));
    EXPECT(AWRITE_OK, awrite_writer_write(awrite_set_writer(set, 1), "y", 1));
    EXPECT(AWRITE_OK, awrite_set_commit(set));
    awrite_set_free(set);
    awrite_lock_free(lock);
    CHECK(has_content("u", "abab") && has_content("v", "y"));

    EXPECT(AWRITE_OK, awrite_update("u", lock_it_again, NULL, NULL, NULL));
    CHECK(has_content("u", "new") && !exists("u.lock"));
}

/* --- The environment says where locks are, as for the commands. */

static void test_environment(void)
{
    awrite_lock_options options = {.size = sizeof options, .flags = AWRITE_LOCK_NO_ENVIRONMENT};
    awrite_lock *lock;

    CHECK(mkdir("locks", 0700) == 0 && setenv("AWRITE_LOCK_DIR", "locks", 1) == 0);
    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "e", NULL));
    CHECK(strncmp(awrite_lock_path(lock), "locks/", 6) == 0 && !exists("e.lock"));
    awrite_lock_free(lock);
    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "e", &options));
    CHECK(exists("e.lock"));
    awrite_lock_free(lock);
    options = (awrite_lock_options){.size = sizeof options, .lock_file = "mine"};
    EXPECT(AWRITE_OK, awrite_lock_acquire(&lock, "e", &options));
    CHECK(strcmp(awrite_lock_path(lock), "mine") == 0);
    awrite_lock_free(lock);
    CHECK(unsetenv("AWRITE_LOCK_DIR") == 0 && rmdir("locks") == 0);
}

/* --- Several files together. */

static void test_sets(void)
{
    const char *names[] = {"s1", "s2", "s3"}, *twice[] = {"s1", "./s1"}, *wrong[] = {"s1", NULL};
    awrite_write_options options = {.size = sizeof options, .flags = AWRITE_WRITE_IN_PLACE};
    awrite_result result = {.size = sizeof result};
    awrite_set *set = (awrite_set *)1;
    awrite_writer *file;
    size_t i;

    EXPECT(AWRITE_BAD_ARGUMENT, awrite_set_open(NULL, names, 3, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_set_open(&set, NULL, 3, NULL));
    CHECK(set == NULL);
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_set_open(&set, names, 0, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_set_open(&set, wrong, 2, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_set_open(&set, twice, 2, NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_set_open(&set, names, 3, &options));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_set_commit(NULL));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_set_result(NULL, 0, &result));
    CHECK(awrite_set_writer(NULL, 0) == NULL);
    awrite_set_free(NULL);

    /* Given up: nothing has happened. */
    EXPECT(AWRITE_OK, awrite_set_open(&set, names, 3, NULL));
    CHECK(exists("s1.lock") && exists("s2.lock") && exists("s3.lock"));
    EXPECT(AWRITE_OK, awrite_writer_write(awrite_set_writer(set, 0), "one", 3));
    awrite_set_free(set);
    CHECK(!exists("s1") && !exists("s1.lock"));

    make_file("s2", "two");
    make_file("s3", "three");
    options.flags = AWRITE_WRITE_BACKUP;
    EXPECT(AWRITE_OK, awrite_set_open(&set, names, 3, &options));
    CHECK(awrite_set_writer(set, 3) == NULL);
    file = awrite_set_writer(set, 0);
    EXPECT(AWRITE_OK, awrite_writer_write(file, "one", 3));
    EXPECT(AWRITE_OK, awrite_writer_write(awrite_set_writer(set, 1), "TWO", 3));
    /* Only as a whole. */
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_commit(file, NULL));
    awrite_writer_free(file);
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_set_result(set, 0, &result));
    EXPECT(AWRITE_OK, awrite_set_commit(set));
    CHECK(has_content("s1", "one") && has_content("s2", "TWO") && has_content("s3", "three"));
    for (i = 0; i < 3; i++) {
        EXPECT(AWRITE_OK, awrite_set_result(set, i, &result));
        CHECK(result.changed == (i < 2));
        CHECK((result.backup != NULL) == (i == 1));
        awrite_free(result.backup);
    }
    CHECK(has_content("s2.backup", "two") && !exists("s3.backup"));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_set_result(set, 3, &result));
    /* Used up. */
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_writer_write(file, "x", 1));
    EXPECT(AWRITE_BAD_ARGUMENT, awrite_set_commit(set));
    awrite_set_free(set);
    CHECK(!exists("s1.lock") && !exists("s2.lock") && !exists("s3.lock"));
}

int main(void)
{
    test_giving_up();
    test_cancellation();
    test_held_lock();
    test_environment();
    test_sets();
    return 0;
}
