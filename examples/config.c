/* Replace a configuration file, and keep the old content: config FILE TEXT
 *
 *     cc $(pkg-config --cflags awrite) config.c $(pkg-config --libs awrite) -o config
 */

#include <stdio.h>
#include <string.h>

#include <awrite.h>

/* Prints what is no error but should be known. The library itself prints nothing. Another answer than 0 would end a wait. */
static int tell(const awrite_notice *notice, void *context)
{
    (void)context;
    if (notice->kind == AWRITE_NOTICE_WARNING || notice->kind == AWRITE_NOTICE_WAITING)
        fprintf(stderr, "config: %s: %s\n", notice->path, notice->text);
    return 0;
}

int main(int argc, char **argv)
{
    awrite_write_options options = AWRITE_WRITE_OPTIONS_INIT;
    awrite_result result = AWRITE_RESULT_INIT;
    awrite_status status;

    if (argc != 3) {
        fprintf(stderr, "usage: config FILE TEXT\n");
        return 1;
    }
    options.notice = tell;
    options.flags = AWRITE_WRITE_BACKUP | AWRITE_WRITE_IF_CHANGED | AWRITE_WRITE_MKDIR;
    status = awrite_write(argv[1], argv[2], strlen(argv[2]), &options, &result);
    if (status != AWRITE_OK) {
        fprintf(stderr, "config: %s\n", awrite_last_error());
        if (awrite_last_hint()[0] != '\0')
            fprintf(stderr, "Hint: %s\n", awrite_last_hint());
        return (int)status;
    }
    if (!result.changed)
        printf("%s: unchanged\n", argv[1]);
    else
        printf("%s: %llu bytes%s%s\n", argv[1], (unsigned long long)result.bytes,
               result.backup != NULL ? ", before that: " : "", result.backup != NULL ? result.backup : "");
    awrite_free(result.backup);
    return 0;
}
