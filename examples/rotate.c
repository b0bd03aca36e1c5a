/* Replace a log by its last lines, in constant memory, and keep the whole log as a backup: rotate LOG BYTES
 *
 * The new log begins at the start of a line, and has BYTES bytes at the most.
 */

#include <stdio.h>
#include <stdlib.h>

#include <awrite.h>

/* Moves to the first line that begins within the last `bytes` bytes. */
static int skip(FILE *log, long bytes)
{
    int c = 0;
    long length;

    if (fseek(log, 0, SEEK_END) != 0 || (length = ftell(log)) < 0)
        return -1;
    if (length <= bytes) {
        rewind(log);
        return 0;
    }
    if (fseek(log, length - bytes - 1, SEEK_SET) != 0)
        return -1;
    while (c != '\n' && c != EOF)
        c = getc(log);
    return 0;
}

static awrite_status copy(awrite_writer *writer, FILE *log)
{
    static char block[65536];
    size_t got;
    awrite_status status = AWRITE_OK;

    while (status == AWRITE_OK && (got = fread(block, 1, sizeof block, log)) > 0)
        status = awrite_writer_write(writer, block, got);
    if (status == AWRITE_OK && ferror(log)) {
        perror("rotate");
        exit(1);
    }
    return status;
}

int main(int argc, char **argv)
{
    awrite_write_options options = {.size = sizeof options, .flags = AWRITE_WRITE_BACKUP_TIMESTAMP};
    awrite_result result = {.size = sizeof result};
    awrite_writer *writer;
    awrite_status status;
    FILE *log;

    if (argc != 3) {
        fprintf(stderr, "usage: rotate LOG BYTES\n");
        return 1;
    }
    status = awrite_writer_open(&writer, argv[1], &options);
    if (status == AWRITE_OK) {
        /* From here on the lock is held. What is written replaces the log at the commit, and not before. */
        log = fopen(argv[1], "r");
        if (log == NULL || skip(log, strtol(argv[2], NULL, 10)) != 0) {
            perror(argv[1]);
            awrite_writer_free(writer);
            return 1;
        }
        status = copy(writer, log);
        fclose(log);
    }
    if (status == AWRITE_OK)
        status = awrite_writer_commit(writer, &result);
    if (status == AWRITE_OK)
        printf("%s: %llu bytes, the whole is in %s\n", argv[1], (unsigned long long)result.bytes, result.backup);
    else
        fprintf(stderr, "rotate: %s\n", awrite_last_error());
    awrite_free(result.backup);
    awrite_writer_free(writer);
    return (int)status;
}
