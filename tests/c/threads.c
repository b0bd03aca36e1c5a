/* Eight threads count together, by locks of both kinds: for the tools that look for races. In an empty directory. */

#include <pthread.h>

#include "check.h"

static int add_one(awrite_update_io *io, void *context)
{
    char text[32] = "";
    size_t got;

    (void)context;
    EXPECT(AWRITE_OK, awrite_update_read(io, text, sizeof text - 1, &got));
    snprintf(text, sizeof text, "%ld\n", strtol(text, NULL, 10) + 1);
    return awrite_update_write(io, text, strlen(text)) != AWRITE_OK;
}

static void *often(void *by_link)
{
    awrite_lock_options lock = {.size = sizeof lock, .method = by_link != NULL ? AWRITE_METHOD_LINK : AWRITE_METHOD_AUTO};
    awrite_write_options options = {.size = sizeof options, .lock = &lock};
    int i;

    for (i = 0; i < 20; i++)
        EXPECT(AWRITE_OK, awrite_update(by_link != NULL ? "by-link" : "by-flock", add_one, NULL, &options, NULL));
    return NULL;
}

int main(void)
{
    pthread_t threads[8];
    int i;

    for (i = 0; i < 8; i++)
        CHECK(pthread_create(&threads[i], NULL, often, i % 2 == 0 ? threads : NULL) == 0);
    for (i = 0; i < 8; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(has_content("by-link", "80\n") && has_content("by-flock", "80\n"));
    return 0;
}
