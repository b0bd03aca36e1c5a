/* Add to the number in a file, while others do so at the same time: counter FILE NUMBER */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <awrite.h>

/* The library calls this with the file's lock held. If it returns anything but 0, the file stays as it was. */
static int add(awrite_update_io *io, void *context)
{
    const long *number = context;
    char text[32];
    size_t length = 0, got;

    do {
        if (awrite_update_read(io, text + length, sizeof text - 1 - length, &got) != AWRITE_OK)
            return 1;
        length += got;
    } while (got > 0);
    text[length] = '\0';
    if (strspn(text, "-0123456789\n") != length) {
        fprintf(stderr, "counter: there is something else in the file\n");
        return 1;
    }
    snprintf(text, sizeof text, "%ld\n", strtol(text, NULL, 10) + *number);
    return awrite_update_write(io, text, strlen(text)) != AWRITE_OK;
}

int main(int argc, char **argv)
{
    awrite_status status;
    long number;

    if (argc != 3) {
        fprintf(stderr, "usage: counter FILE NUMBER\n");
        return 1;
    }
    number = strtol(argv[2], NULL, 10);
    status = awrite_update(argv[1], add, &number, NULL, NULL);
    if (status != AWRITE_OK)
        fprintf(stderr, "counter: %s\n", awrite_last_error());
    return (int)status;
}
