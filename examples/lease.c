/* Keep everybody else from a file during some steps of work: lease FILE OWNER */

#include <stdio.h>
#include <string.h>

#include <awrite.h>

/* A step: writes the file as the owner of the lease. If another owner has taken the lease meanwhile, this fails. */
static awrite_status step(const char *path, const char *owner, uint64_t token, const char *text)
{
    awrite_lock_options lock = {.size = sizeof lock, .owner = owner, .token = token};
    awrite_write_options options = {.size = sizeof options, .lock = &lock, .flags = AWRITE_WRITE_APPEND};

    return awrite_write(path, text, strlen(text), &options, NULL);
}

int main(int argc, char **argv)
{
    awrite_lock_options options = {.size = sizeof options, .wait = AWRITE_WAIT_LIMITED, .timeout_ms = 5000};
    awrite_lease_info info = {.size = sizeof info};
    awrite_lease *lease;
    awrite_status status;
    int i;

    if (argc != 3) {
        fprintf(stderr, "usage: lease FILE OWNER\n");
        return 1;
    }
    status = awrite_lease_acquire(&lease, argv[1], argv[2], 60000, &options);
    for (i = 1; status == AWRITE_OK && i <= 3; i++) {
        char text[32];

        snprintf(text, sizeof text, "step %d\n", i);
        status = step(argv[1], argv[2], awrite_lease_token(lease), text);
        if (status == AWRITE_OK && awrite_lease_time_to_refresh(lease) == 0)
            status = awrite_lease_refresh(lease);
    }
    if (status == AWRITE_OK)
        status = awrite_lease_read(argv[1], NULL, &info);
    if (status == AWRITE_OK) {
        printf("%s is %s by %s\n", argv[1], info.state == AWRITE_LEASE_LIVE ? "leased" : "no longer leased", info.owner);
        status = awrite_lease_release(lease);
    }
    if (status != AWRITE_OK)
        fprintf(stderr, "lease: %s\n", awrite_last_error());
    awrite_lease_free(lease);
    return (int)status;
}
