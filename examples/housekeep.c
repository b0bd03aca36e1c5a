/* Clear away what crashed programs left below a directory, but not too much at once: housekeep DIRECTORY */

#include <stdio.h>

#include <awrite.h>

enum { ENOUGH = 1000 };

/* A return value other than 0 stops housekeeping. */
static int report(const awrite_housekeep_event *event, void *context)
{
    int *deleted = context;

    switch (event->kind) {
    case AWRITE_EVENT_DELETED:
        printf("deleted %s\n", event->path);
        return ++*deleted >= ENOUGH;
    case AWRITE_EVENT_FAILED:
        fprintf(stderr, "housekeep: %s: %s\n", event->path, event->reason);
        return 0;
    default:
        return 0;
    }
}

int main(int argc, char **argv)
{
    awrite_housekeep_options options = {.size = sizeof options};
    awrite_housekeep_summary summary = {.size = sizeof summary};
    awrite_status status;
    int deleted = 0;

    if (argc != 2) {
        fprintf(stderr, "usage: housekeep DIRECTORY\n");
        return 1;
    }
    options.flags = AWRITE_CLEAN_ALL | AWRITE_CLEAN_RECURSIVE;
    options.keep_newest = 2;
    status = awrite_housekeep(argv[1], &options, report, &deleted, &summary);
    if (status != AWRITE_OK && status != AWRITE_STOPPED) {
        fprintf(stderr, "housekeep: %s\n", awrite_last_error());
        return (int)status;
    }
    printf("%llu lock files, %llu temporary files, %llu backups\n", (unsigned long long)summary.locks,
           (unsigned long long)summary.temps, (unsigned long long)summary.backups);
    return 0;
}
