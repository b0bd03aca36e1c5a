/* One of many processes that take a lock in turn, and mark shared memory while they hold it. The board is a file of
 * numbers. tests/it/exclusion.rs says where they are, and has the same in Rust.
 *
 *     mark BOARD KIND hold COUNT                  another process holds the lock for this one
 *     mark BOARD KIND shared-hold COUNT           the same, together with others
 *     mark BOARD KIND HOW TARGET METHOD COUNT     HOW: wait, timed, try or shared; METHOD: flock or link
 *
 * COUNT is the number of holds. 0: until the board has as many as it wants. -N: in the hold after N it kills itself. */

#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <fcntl.h>

#include "check.h"

enum { ALONE, OVERLAPS, HOLDS, WANTED, DEAD, KINDS = 8, SHARED = 64, SHARERS = 64, NUMBERS = 128 };

static uint64_t *board;

static uint64_t get(int place)
{
    return __atomic_load_n(&board[place], __ATOMIC_SEQ_CST);
}

static void add(int place)
{
    __atomic_add_fetch(&board[place], 1, __ATOMIC_SEQ_CST);
}

/* Whether a process has ended or is ending: the kernel sets PF_EXITING (4) before it takes the process's locks away. */
static int is_dead(uint64_t pid)
{
    char path[64], text[512], state, *end;
    unsigned flags;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%lu/stat", (unsigned long)pid);
    file = fopen(path, "r");
    if (file == NULL)
        return 1;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    end = strrchr(text, ')');
    return end == NULL || sscanf(end, ") %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2 || state == 'Z' ||
           state == 'X' || (flags & 4) != 0;
}

static void overlap(uint64_t other, const char *when)
{
    add(OVERLAPS);
    fprintf(stderr, "overlap: %ld finds %lu, %s\n", (long)getpid(), (unsigned long)other, when);
}

/* Checks a place where no mark should be. Only the mark of a killed holder may be there. */
static void must_be_gone(int place, uint64_t mark, const char *when)
{
    if (mark == 0)
        return;
    if (!is_dead(mark)) {
        overlap(mark, when);
        return;
    }
    add(DEAD);
    __atomic_compare_exchange_n(&board[place], &mark, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void linger(int64_t round)
{
    for (int64_t i = 0; i < round % 4; i++)
        sched_yield();
}

static void hold_alone(int64_t round, int die)
{
    uint64_t me = (uint64_t)getpid(), mine = me;

    must_be_gone(ALONE, __atomic_exchange_n(&board[ALONE], me, __ATOMIC_SEQ_CST), "coming");
    for (int i = SHARED; i < SHARED + SHARERS; i++)
        must_be_gone(i, get(i), "coming among sharers");
    if (die)
        raise(SIGKILL);
    linger(round);
    if (!__atomic_compare_exchange_n(&board[ALONE], &mine, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        overlap(mine, "going");
}

static void hold_shared(int64_t round, int die)
{
    uint64_t me = (uint64_t)getpid();
    int place = SHARED;

    for (;; place++) {
        uint64_t there = get(place);
        CHECK(place < SHARED + SHARERS);
        if ((there == 0 || is_dead(there)) &&
            __atomic_compare_exchange_n(&board[place], &there, me, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            break;
    }
    must_be_gone(ALONE, get(ALONE), "sharing");
    if (die)
        raise(SIGKILL);
    linger(round);
    must_be_gone(ALONE, get(ALONE), "still sharing");
    __atomic_store_n(&board[place], 0, __ATOMIC_SEQ_CST);
}

static awrite_status take(awrite_lock **lock, const char *how, const char *target, const awrite_lock_options *options)
{
    awrite_lock_options own = *options;

    if (strcmp(how, "timed") == 0)
        return lock_within(lock, target, 20, options);
    if (strcmp(how, "try") == 0)
        return lock_now(lock, target, options);
    if (strcmp(how, "shared") == 0)
        own.flags = AWRITE_LOCK_SHARED;
    return awrite_lock_acquire(lock, target, &own);
}

int main(int argc, char **argv)
{
    awrite_lock_options options = {.size = sizeof options};
    awrite_lock *lock = NULL;
    int64_t count, held = 0;
    int fd, alone;

    CHECK(argc == 5 || argc == 7);
    fd = open(argv[1], O_RDWR);
    CHECK(fd >= 0);
    board = mmap(NULL, NUMBERS * sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(board != MAP_FAILED);
    count = strtoll(argv[argc - 1], NULL, 10);
    alone = strncmp(argv[3], "shared", 6) != 0;
    if (argc == 7 && strcmp(argv[5], "link") == 0)
        options.method = AWRITE_METHOD_LINK;

    while (count == 0 ? get(HOLDS) < get(WANTED) : count < 0 || held < count) {
        int die = count < 0 && held >= -count;

        if (argc == 7) {
            awrite_status status = take(&lock, argv[3], argv[4], &options);
            if (status == AWRITE_LOCKED)
                continue;
            EXPECT(AWRITE_OK, status);
        }
        if (alone)
            hold_alone(held, die);
        else
            hold_shared(held, die);
        held++;
        add(KINDS + (int)strtol(argv[2], NULL, 10));
        add(HOLDS);
        if (argc == 7) {
            EXPECT(AWRITE_OK, awrite_lock_release(lock));
            awrite_lock_free(lock);
            /* Shared holders that follow each other without a gap would keep everybody else out. */
            if (!alone)
                usleep(500);
        }
    }
    return 0;
}
