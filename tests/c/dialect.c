/* What every dialect of C and C++ must take without a warning: see tests/it/capi.rs. With WRONG_FAMILY, what it must
 * refuse. */

#include "awrite.h"

static awrite_lock_options lock_options = AWRITE_LOCK_OPTIONS_INIT;

static int tell(const awrite_housekeep_event *event, void *context)
{
    (void)context;
    switch (event->kind) {
    case AWRITE_EVENT_DELETED:
        return event->leftover == AWRITE_LEFTOVER_TEMP;
    case AWRITE_EVENT_KEPT:
    case AWRITE_EVENT_NOT_ENTERED:
    case AWRITE_EVENT_FAILED:
        break;
    }
    return 0;
}

const char *dialect(const char *target)
{
    struct awrite_write_options options = AWRITE_WRITE_OPTIONS_INIT;
    struct awrite_result result = AWRITE_RESULT_INIT;
    awrite_lease_info info = AWRITE_LEASE_INFO_INIT;
    awrite_housekeep_options clean = AWRITE_HOUSEKEEP_OPTIONS_INIT;
    awrite_housekeep_summary summary = AWRITE_HOUSEKEEP_SUMMARY_INIT;
    awrite_status status;

    lock_options.wait = AWRITE_WAIT_LIMITED;
    lock_options.flags = AWRITE_LOCK_SHARED;
    options.lock = &lock_options;
    options.flags = AWRITE_WRITE_BACKUP | AWRITE_WRITE_MKDIR;
#ifdef WRONG_FAMILY
    options.flags = AWRITE_LOCK_SHARED;
#endif
#ifdef __cplusplus
    options.flags |= AWRITE_WRITE_APPEND;
#endif
    clean.flags = AWRITE_CLEAN_ALL | AWRITE_CLEAN_RECURSIVE;
#ifdef IGNORED
    awrite_write(target, NULL, 0, &options, &result);
#endif
    status = awrite_write(target, NULL, 0, &options, &result);
    if (status == AWRITE_OK)
        status = awrite_lease_read(target, &lock_options, &info);
    if (status == AWRITE_OK)
        status = awrite_housekeep(target, &clean, tell, NULL, &summary);
    return info.state == AWRITE_LEASE_NONE && AWRITE_VERSION_NUMBER > 0 ? awrite_strerror(status) : result.digest;
}
