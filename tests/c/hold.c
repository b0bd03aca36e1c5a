/* hold TARGET: takes the lock without waiting, says "held", and gives it back when its input ends.
 * hold TARGET COUNT: adds 1 to the number in TARGET, COUNT times.
 * The exit status is the library's. Warnings go to stderr. */

#include "check.h"

static int add_one(awrite_update_io *io, void *context)
{
    char text[32] = "";
    size_t got;

    (void)context;
    if (awrite_update_read(io, text, sizeof text - 1, &got) != AWRITE_OK)
        return 1;
    snprintf(text, sizeof text, "%ld\n", strtol(text, NULL, 10) + 1);
    return awrite_update_write(io, text, strlen(text)) != AWRITE_OK;
}

static void tell(const awrite_notice *notice, void *context)
{
    (void)context;
    if (notice->kind == AWRITE_NOTICE_WARNING)
        fprintf(stderr, "%s: %s\n", notice->path, notice->text);
}

int main(int argc, char **argv)
{
    awrite_write_options write_options = {.size = sizeof write_options, .notice = tell};
    awrite_lock_options options = {.size = sizeof options, .flags = AWRITE_LOCK_ENVIRONMENT};
    awrite_lock *lock = NULL;
    awrite_status status = AWRITE_OK;

    CHECK(argc >= 2);
    if (argc > 2) {
        long left = strtol(argv[2], NULL, 10);
        while (left-- > 0 && status == AWRITE_OK)
            status = awrite_update(argv[1], add_one, NULL, &write_options, NULL);
    } else {
        status = lock_now(&lock, argv[1], &options);
        if (status == AWRITE_OK) {
            fputs("held\n", stderr);
            while (getchar() != EOF)
                continue;
            status = awrite_lock_release(lock);
        }
        awrite_lock_free(lock);
    }
    if (status != AWRITE_OK)
        fprintf(stderr, "%s\n", awrite_last_error());
    return (int)status;
}
