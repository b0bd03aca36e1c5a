/* The library in one process for as long as the soak lasts: library DIR THREADS
 *
 * Its threads do all that the library can, also wrongly. Again and again they all stop, and it prints a line:
 *
 *     OPERATIONS ADDED KILOBYTES DESCRIPTORS THREADS
 *
 * how many calls there have been, how many of its increments of DIR/count have succeeded, and the memory, the descriptors
 * and the threads that it has. It ends when its standard input does. When something is not as it must be, it says so and
 * ends with 1. DIR/count is shared with other processes; what is in DIR/own is its own.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <awrite.h>

/* So many operations of each thread lie between two lines. */
#define ROUND 20
#define MOST 16

static char counter[4096], own[4096];
static pthread_barrier_t barrier;
static atomic_ulong operations, added;
static atomic_int over;
/* One at a time is in a section that a lock guards. */
static atomic_int inside[2];

static void fail(const char *what, awrite_status status)
{
    printf("library: %s: status %d: %s\n", what, (int)status, awrite_last_error());
    fflush(stdout);
    _exit(1);
}

static void must(const char *what, awrite_status got, awrite_status wanted)
{
    if (got != wanted)
        fail(what, got);
}

static unsigned draw(unsigned *seed, unsigned below)
{
    return (unsigned)rand_r(seed) % below;
}

static void name(char *path, size_t size, const char *file, int number)
{
    snprintf(path, size, "%s/%s%d", own, file, number);
}

static int add(awrite_update_io *io, void *context)
{
    char text[64];
    size_t got = 0;

    (void)context;
    if (awrite_update_read(io, text, sizeof text - 1, &got) != AWRITE_OK)
        return 1;
    text[got] = '\0';
    snprintf(text, sizeof text, "%lu\n", strtoul(text, NULL, 10) + 1);
    return awrite_update_write(io, text, strlen(text)) != AWRITE_OK;
}

static int refuse(awrite_update_io *io, void *context)
{
    (void)io, (void)context;
    return 1;
}

static void count_up(unsigned *seed)
{
    awrite_write_options options = AWRITE_WRITE_OPTIONS_INIT;

    options.sync = AWRITE_SYNC_NONE;
    must("update", awrite_update(counter, add, NULL, &options, NULL), AWRITE_OK);
    added++;
    if (draw(seed, 4) == 0)
        must("refused update", awrite_update(counter, refuse, NULL, &options, NULL), AWRITE_STOPPED);
}

/* One line again and again; a file that another has replaced half would have two kinds. */
static void write_whole(int thread, unsigned *seed)
{
    char path[4200], text[8192];
    awrite_write_options options = AWRITE_WRITE_OPTIONS_INIT;
    awrite_result result = AWRITE_RESULT_INIT;
    size_t length = 1 + draw(seed, sizeof text - 1);

    name(path, sizeof path, "file", (int)draw(seed, 3));
    memset(text, 'a' + thread % 26, length);
    options.sync = AWRITE_SYNC_NONE;
    options.flags = draw(seed, 2) ? AWRITE_WRITE_BACKUP : AWRITE_WRITE_IF_CHANGED;
    if (draw(seed, 8) == 0)
        options.backup_keep = 3;
    must("write", awrite_write(path, text, length, &options, &result), AWRITE_OK);
    awrite_free(result.backup);
}

static void read_whole(unsigned *seed)
{
    char path[4200], digest[AWRITE_DIGEST_SIZE];
    char *data;
    size_t size, at;
    awrite_status status;

    name(path, sizeof path, "file", (int)draw(seed, 3));
    status = awrite_read(path, (void **)&data, &size, digest, NULL);
    if (status != AWRITE_OK)
        return;
    for (at = 1; at < size; at++)
        if (data[at] != data[0])
            fail("a file of two writers", status);
    awrite_free(data);
}

static void write_in_parts(int thread, unsigned *seed)
{
    char path[4200];
    awrite_write_options options = AWRITE_WRITE_OPTIONS_INIT;
    awrite_writer *writer;
    unsigned n, end = draw(seed, 3);

    name(path, sizeof path, "parts", thread);
    options.sync = AWRITE_SYNC_NONE;
    must("open", awrite_writer_open(&writer, path, &options), AWRITE_OK);
    for (n = 0; n < 3; n++)
        must("part", awrite_writer_write(writer, "part\n", 5), AWRITE_OK);
    if (end > 0)
        must("commit", awrite_writer_commit(writer, NULL), AWRITE_OK);
    awrite_writer_free(writer);
}

static void lock(unsigned *seed)
{
    char path[4200];
    awrite_lock_options options = AWRITE_LOCK_OPTIONS_INIT;
    awrite_lock *held;
    int method = (int)draw(seed, 2);
    awrite_status status;

    name(path, sizeof path, "locked", method);
    options.method = method ? AWRITE_METHOD_LINK : AWRITE_METHOD_FLOCK;
    options.wait = (awrite_wait)draw(seed, 3);
    options.timeout_ms = options.wait == AWRITE_WAIT_LIMITED ? 1 + draw(seed, 20) : 0;
    status = awrite_lock_acquire(&held, path, &options);
    if (status == AWRITE_LOCKED && options.wait != AWRITE_WAIT_FOREVER)
        return;
    must("lock", status, AWRITE_OK);
    if (atomic_fetch_add(&inside[method], 1) != 0)
        fail("two holders", status);
    must("check", awrite_lock_check(held), AWRITE_OK);
    atomic_fetch_sub(&inside[method], 1);
    must("release", awrite_lock_release(held), AWRITE_OK);
    awrite_lock_free(held);
}

static void lease(int thread, unsigned *seed)
{
    char path[4200], owner[32];
    awrite_lock_options options = AWRITE_LOCK_OPTIONS_INIT;
    awrite_write_options with = AWRITE_WRITE_OPTIONS_INIT;
    awrite_lease_info info = AWRITE_LEASE_INFO_INIT;
    awrite_lease *held;
    awrite_status status;

    name(path, sizeof path, "leased", (int)draw(seed, 2));
    snprintf(owner, sizeof owner, "thread %d", thread);
    options.wait = AWRITE_WAIT_NO;
    status = awrite_lease_acquire(&held, path, owner, 60000, &options);
    if (status == AWRITE_LOCKED)
        return;
    must("lease", status, AWRITE_OK);
    options.wait = AWRITE_WAIT_FOREVER;
    options.owner = owner;
    options.token = awrite_lease_token(held);
    with.lock = &options;
    with.sync = AWRITE_SYNC_NONE;
    must("write under a lease", awrite_write(path, owner, strlen(owner), &with, NULL), AWRITE_OK);
    options.token--;
    must("an old token", awrite_write(path, owner, strlen(owner), &with, NULL), AWRITE_LOCKED);
    must("status", awrite_lease_read(path, NULL, &info), AWRITE_OK);
    /* By its handle, which does not wait if somebody looks at the lease just then, or as the next program would do it. */
    status = draw(seed, 2) ? awrite_lease_release(held) : AWRITE_LOCKED;
    awrite_lease_detach(held);
    awrite_lease_free(held);
    if (status == AWRITE_LOCKED)
        status = awrite_lease_release_claimed(path, owner, options.token + 1, NULL);
    must("give back", status, AWRITE_OK);
}

static void write_set(int thread, unsigned *seed)
{
    char paths[3][4200], text[32];
    const char *targets[3];
    awrite_write_options options = AWRITE_WRITE_OPTIONS_INIT;
    awrite_set *set;
    size_t n;

    for (n = 0; n < 3; n++) {
        name(paths[n], sizeof paths[n], "set", (int)n);
        targets[n] = paths[n];
    }
    options.sync = AWRITE_SYNC_NONE;
    must("open a set", awrite_set_open(&set, targets, 3, &options), AWRITE_OK);
    snprintf(text, sizeof text, "%d %u\n", thread, draw(seed, 1000000));
    for (n = 0; n < 3; n++)
        must("part of a set", awrite_writer_write(awrite_set_writer(set, n), text, strlen(text)), AWRITE_OK);
    if (draw(seed, 4))
        must("commit a set", awrite_set_commit(set), AWRITE_OK);
    awrite_set_free(set);
}

static void check_set(void)
{
    char paths[3][4200];
    const char *targets[3];
    char *data[3] = {NULL, NULL, NULL};
    size_t n, size[3];
    awrite_lock *held;

    for (n = 0; n < 3; n++) {
        name(paths[n], sizeof paths[n], "set", (int)n);
        targets[n] = paths[n];
    }
    must("lock a set", awrite_lock_acquire_all(&held, targets, 3, NULL), AWRITE_OK);
    for (n = 0; n < 3; n++) {
        FILE *file = fopen(paths[n], "r");
        data[n] = calloc(1, 64);
        size[n] = file == NULL ? 0 : fread(data[n], 1, 63, file);
        if (file != NULL)
            fclose(file);
    }
    must("release a set", awrite_lock_release(held), AWRITE_OK);
    awrite_lock_free(held);
    for (n = 0; n < 3; n++) {
        if (size[n] != size[0] || memcmp(data[n], data[0], size[0]) != 0)
            fail("a set of two writers", AWRITE_OK);
    }
    for (n = 0; n < 3; n++)
        free(data[n]);
}

static void err(void)
{
    awrite_lock_options options = AWRITE_LOCK_OPTIONS_INIT;
    char digest[AWRITE_DIGEST_SIZE];
    awrite_lock *held;
    awrite_writer *writer;

    must("no name", awrite_write(NULL, "", 0, NULL, NULL), AWRITE_BAD_ARGUMENT);
    must("no directory", awrite_write("/nowhere/at/all", "x", 1, NULL, NULL), AWRITE_ERROR);
    must("a directory", awrite_writer_open(&writer, own, NULL), AWRITE_ERROR);
    must("no place for a digest", awrite_digest(own, digest, 1), AWRITE_BAD_ARGUMENT);
    options.size = 3;
    must("a size that is none", awrite_lock_acquire(&held, own, &options), AWRITE_BAD_ARGUMENT);
}

static int see_hold(const awrite_hold *hold, void *context)
{
    (void)hold, (void)context;
    return 0;
}

static int see_event(const awrite_housekeep_event *event, void *context)
{
    (void)context;
    if (event->kind == AWRITE_EVENT_FAILED)
        printf("library: %s: %s\n", event->path, event->reason);
    return 0;
}

static void look_and_clean(void)
{
    awrite_housekeep_options options = AWRITE_HOUSEKEEP_OPTIONS_INIT;
    awrite_housekeep_summary summary = AWRITE_HOUSEKEEP_SUMMARY_INIT;

    must("list", awrite_hold_list(own, AWRITE_HOLDS_DEFAULT, NULL, see_hold, NULL), AWRITE_OK);
    options.flags = AWRITE_CLEAN_ALL | AWRITE_CLEAN_RECURSIVE;
    options.keep_newest = 3;
    must("housekeep", awrite_housekeep(own, &options, see_event, NULL, &summary), AWRITE_OK);
}

static void one(int thread, unsigned *seed)
{
    switch (draw(seed, 12)) {
    case 0: case 1: count_up(seed); break;
    case 2: write_whole(thread, seed); break;
    case 3: read_whole(seed); break;
    case 4: write_in_parts(thread, seed); break;
    case 5: case 6: lock(seed); break;
    case 7: lease(thread, seed); break;
    case 8: write_set(thread, seed); break;
    case 9: check_set(); break;
    case 10: err(); break;
    default:
        if (draw(seed, 10) == 0)
            look_and_clean();
    }
    operations++;
}

static int entries(const char *path)
{
    DIR *dir = opendir(path);
    int count = 0;

    if (dir == NULL)
        fail(path, AWRITE_ERROR);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static void tell(void)
{
    struct pollfd input = {0, POLLIN, 0};
    char line[256];
    long resident = 0;
    FILE *file = fopen("/proc/self/status", "r");

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "VmRSS:", 6) == 0)
            resident = strtol(line + 6, NULL, 10);
    if (file != NULL)
        fclose(file);
    /* Without ".", ".." and the descriptor of the directory itself. */
    printf("%lu %lu %ld %d %d\n", operations, added, resident, entries("/proc/self/fd") - 3,
           entries("/proc/self/task") - 2);
    fflush(stdout);
    over = poll(&input, 1, 0) != 0;
}

static void *work(void *argument)
{
    int thread = *(int *)argument, n;
    unsigned seed = 1u + (unsigned)thread;

    do {
        for (n = 0; n < ROUND; n++)
            one(thread, &seed);
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
            tell();
        pthread_barrier_wait(&barrier);
    } while (!over);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[MOST];
    int numbers[MOST], count = argc == 3 ? atoi(argv[2]) : 0, n;

    if (count < 1 || count > MOST) {
        fprintf(stderr, "usage: library DIR THREADS\n");
        return 1;
    }
    snprintf(counter, sizeof counter, "%s/count", argv[1]);
    snprintf(own, sizeof own, "%s/own", argv[1]);
    pthread_barrier_init(&barrier, NULL, (unsigned)count);
    for (n = 0; n < count; n++) {
        numbers[n] = n;
        if (pthread_create(&threads[n], NULL, work, &numbers[n]) != 0)
            fail("a thread", AWRITE_ERROR);
    }
    for (n = 0; n < count; n++)
        pthread_join(threads[n], NULL);
    return 0;
}
