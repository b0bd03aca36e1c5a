// A C++ exception that leaves a callback: throw.cc CALL, in an empty directory with the file f. It ends the program, after
// the lock has been given back and the temporary file is gone.

#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "awrite.h"

static int change(awrite_update_io *io, void *)
{
    if (awrite_update_write(io, "new", 3) != AWRITE_OK)
        return 1;
    throw std::runtime_error("from the callback");
}

static int check(const char *, const char *, void *)
{
    throw std::runtime_error("from the check");
}

static int tell(const awrite_notice *notice, void *)
{
    if (notice->kind == AWRITE_NOTICE_INFO)
        throw std::runtime_error("from the notice");
    return 0;
}

int main(int, char **arguments)
{
    awrite_write_options options = AWRITE_WRITE_OPTIONS_INIT;
    awrite_status status = AWRITE_OK;

    try {
        if (std::strcmp(arguments[1], "update") == 0) {
            status = awrite_update("f", change, nullptr, &options, nullptr);
        } else if (std::strcmp(arguments[1], "check") == 0) {
            options.check = check;
            status = awrite_write("f", "new", 3, &options, nullptr);
        } else {
            options.notice = tell;
            status = awrite_write("f", "new", 3, &options, nullptr);
        }
    } catch (const std::exception &e) {
        std::printf("passed: %s\n", e.what());
        return 0;
    }
    return status == AWRITE_OK ? 1 : 2;
}
