/* Change two files that belong together, or neither: set FILE1 TEXT1 FILE2 TEXT2
 *
 * Whoever takes their locks finds both old texts or both new ones, also after a crash.
 */

#include <stdio.h>
#include <string.h>

#include <awrite.h>

static awrite_status write_both(awrite_set *set, char **texts)
{
    awrite_status status = AWRITE_OK;
    size_t i;

    for (i = 0; i < 2 && status == AWRITE_OK; i++)
        status = awrite_writer_write(awrite_set_writer(set, i), texts[i], strlen(texts[i]));
    /* Up to here nothing has changed. */
    return status == AWRITE_OK ? awrite_set_commit(set) : status;
}

int main(int argc, char **argv)
{
    awrite_result result = {.size = sizeof result};
    awrite_set *set;
    awrite_status status;
    size_t i;

    if (argc != 5) {
        fprintf(stderr, "usage: set FILE1 TEXT1 FILE2 TEXT2\n");
        return 1;
    }
    const char *files[] = {argv[1], argv[3]};
    char *texts[] = {argv[2], argv[4]};

    status = awrite_set_open(&set, files, 2, NULL);
    if (status == AWRITE_OK)
        status = write_both(set, texts);
    if (status != AWRITE_OK)
        fprintf(stderr, "set: %s\n", awrite_last_error());
    for (i = 0; i < 2 && status == AWRITE_OK; i++) {
        status = awrite_set_result(set, i, &result);
        if (status == AWRITE_OK)
            printf("%s: %s\n", files[i], result.changed ? "replaced" : "unchanged");
    }
    awrite_set_free(set);
    return (int)status;
}
