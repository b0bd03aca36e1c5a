/* The floor of a set: the system calls that replace all files of a directory durably, and nothing else.
 *
 *     floor_set SOURCE TARGET          each file of SOURCE replaces the one of its name in TARGET
 *
 * It stages all files, calls syncfs(2) once, renames all, and syncs the directory. It takes no locks, keeps no metadata
 * and no journal, so a crash between two renames leaves a mixture. After an error its files stay. */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char content[1 << 20];

static void must(int ok, const char *what)
{
    if (!ok)
        err(1, "%s", what);
}

static char *stage_name(const char *name)
{
    static char stage[300];
    snprintf(stage, sizeof stage, ".floor.%s", name);
    return stage;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(1, "usage: floor_set SOURCE TARGET");
    struct dirent **names;
    int count = scandir(argv[1], &names, NULL, alphasort);
    must(count >= 0, argv[1]);
    int from = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC), to = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(from >= 0 && to >= 0, "open");
    for (int i = 0; i < count; i++) {
        char *name = names[i]->d_name;
        if (name[0] == '.')
            continue;
        int source = openat(from, name, O_RDONLY | O_CLOEXEC);
        int stage = openat(to, stage_name(name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        must(source >= 0 && stage >= 0, name);
        for (ssize_t got; (got = read(source, content, sizeof content)) != 0;)
            must(got > 0 && write(stage, content, (size_t)got) == got, name);
        must(close(stage) == 0 && close(source) == 0, name);
    }
    must(syncfs(to) == 0, "syncfs");
    for (int i = 0; i < count; i++) {
        char *name = names[i]->d_name;
        if (name[0] != '.')
            must(renameat(to, stage_name(name), to, name) == 0, name);
    }
    must(fsync(to) == 0, "fsync");
    return 0;
}
