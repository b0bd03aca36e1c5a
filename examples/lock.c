/* Hold the lock of a file while doing something that is not a write: lock FILE
 *
 * This one reads two files that belong together: FILE and FILE.index. Their writers hold the same lock, exclusively.
 * Readers share it.
 */

#include <stdio.h>

#include <awrite.h>

static void show(const char *path)
{
    FILE *file = fopen(path, "r");
    int c;

    if (file == NULL) {
        perror(path);
        return;
    }
    while ((c = getc(file)) != EOF)
        putchar(c);
    fclose(file);
}

int main(int argc, char **argv)
{
    /* AWRITE_LOCK_DIR and the other variables count here as they do for the commands. */
    awrite_lock_options options = {
        .size = sizeof options,
        .flags = AWRITE_LOCK_ENVIRONMENT | AWRITE_LOCK_SHARED,
        .wait = AWRITE_WAIT_LIMITED,
        .timeout_ms = 5000,
    };
    awrite_lock *lock;
    awrite_status status;
    char index[4096];

    if (argc != 2) {
        fprintf(stderr, "usage: lock FILE\n");
        return 1;
    }
    status = awrite_lock_acquire(&lock, argv[1], &options);
    if (status == AWRITE_LOCKED) {
        /* The hint names the holder, where the library can find it. */
        fprintf(stderr, "lock: %s\n%s\n", awrite_last_error(), awrite_last_hint());
        return (int)status;
    }
    if (status != AWRITE_OK) {
        fprintf(stderr, "lock: %s\n", awrite_last_error());
        return (int)status;
    }
    show(argv[1]);
    snprintf(index, sizeof index, "%s.index", argv[1]);
    show(index);

    /* To free the lock releases it too, but cannot report an error. */
    status = awrite_lock_release(lock);
    if (status != AWRITE_OK)
        fprintf(stderr, "lock: %s\n", awrite_last_error());
    awrite_lock_free(lock);
    return (int)status;
}
