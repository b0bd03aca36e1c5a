/* The floor: the system calls that replace a file as awrite does, and nothing else.
 *
 *     floor [-n] TARGET < input        -n: no fsync, as awrite --sync none
 *     floor -l                         deletes the lock files here, as awrite-housekeep --clean-locks does
 *     floor -c TARGET COMMAND [ARG...] runs COMMAND with the lock held, as awrite-lock does
 *
 * It makes the file calls of an uncontended `awrite TARGET` in the same order: resolve, lock, look again under the
 * lock, stage, metadata, name, sync, rename, sync the directory, unlock. What awrite takes beyond this is its own cost:
 * starting up, arguments, the thread that waits for signals. This program is a yardstick, not a tool. It leaves out
 * input over 1 MiB, waiting for a lock, links, attributes to copy, and file systems without O_TMPFILE. After an error
 * its files stay. */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static char input[1 << 20];

static void must(int ok, const char *what)
{
    if (!ok)
        err(1, "%s", what);
}

/* A lease says that nobody has the lock file open. It is renamed over the last one, and not unlinked, because its name
 * could not be given back to who comes to open it in between. */
static int delete_locks(void)
{
    static const char aside[] = ".awrite-removed";
    static char names[4 << 20];
    size_t used = 0;
    DIR *here = opendir(".");
    must(here != NULL, ".");
    for (struct dirent *entry; (entry = readdir(here)) != NULL;) {
        size_t length = strlen(entry->d_name);
        if (length <= 5 || strcmp(entry->d_name + length - 5, ".lock") != 0 || used + length >= sizeof names)
            continue;
        memcpy(names + used, entry->d_name, length + 1);
        used += length + 1;
    }
    int dir = dirfd(here);
    for (char *name = names; name < names + used; name += strlen(name) + 1) {
        struct stat seen, now;
        int lock = openat(dir, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
        must(lock >= 0 && fstat(lock, &seen) == 0, name);
        must(fcntl(lock, F_SETSIG, SIGURG) == 0 && fcntl(lock, F_SETLEASE, F_WRLCK) == 0, "lease");
        must(fstatat(dir, name, &now, AT_SYMLINK_NOFOLLOW) == 0, name);
        if (now.st_ino != seen.st_ino || now.st_dev != seen.st_dev || now.st_size != 0 || now.st_nlink != 1)
            errx(1, "%s was replaced", name);
        must(renameat(dir, name, dir, aside) == 0, name);
        must(fcntl(lock, F_GETLEASE) == F_WRLCK, "somebody has come to open it");
        close(lock);
    }
    return used > 0 && unlinkat(dir, aside, 0) != 0;
}

/* Without the marks by which processes below COMMAND know this holder, and without passing signals on. */
static int run_locked(const char *target, char **command)
{
    char lock_name[300];
    struct stat seen, held;
    snprintf(lock_name, sizeof lock_name, "%s.lock", target);
    int lock = open(lock_name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0600);
    must(lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0, lock_name);
    must(fstat(lock, &held) == 0 && lstat(lock_name, &seen) == 0, lock_name);
    if (held.st_ino != seen.st_ino || held.st_dev != seen.st_dev)
        errx(1, "the lock file was replaced");
    pid_t child = vfork();
    if (child == 0) {
        execvp(command[0], command);
        _exit(127);
    }
    int status;
    must(child > 0 && waitpid(child, &status, 0) == child, command[0]);
    struct flock waiters = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    must(fcntl(lock, F_OFD_GETLK, &waiters) == 0, "F_OFD_GETLK");
    must(lstat(lock_name, &seen) == 0 && seen.st_ino == held.st_ino && unlink(lock_name) == 0, lock_name);
    must(flock(lock, LOCK_UN) == 0, "flock");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "-l") == 0)
        return delete_locks();
    if (argc >= 4 && strcmp(argv[1], "-c") == 0)
        return run_locked(argv[2], argv + 3);
    int sync = !(argc == 3 && strcmp(argv[1], "-n") == 0);
    if (argc != (sync ? 2 : 3))
        errx(1, "usage: floor [-n] TARGET | floor -l | floor -c TARGET COMMAND");
    char *target = argv[argc - 1];

    struct stat old, seen, held, here;
    char *slash = strrchr(target, '/');
    char *name = slash ? slash + 1 : target;
    char *parent = slash ? strndup(target, slash == target ? 1 : (size_t)(slash - target)) : ".";
    int dir = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(dir >= 0 && fstat(dir, &here) == 0, parent);
    int existed = fstatat(dir, name, &old, AT_SYMLINK_NOFOLLOW) == 0;
    must(existed || errno == ENOENT, target);

    char lock_name[300];
    snprintf(lock_name, sizeof lock_name, "%s.lock", name);
    int lock = openat(dir, lock_name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0600);
    must(lock >= 0, lock_name);
    must(flock(lock, LOCK_EX | LOCK_NB) == 0, "flock");
    must(fstat(lock, &held) == 0 && fstatat(dir, lock_name, &seen, AT_SYMLINK_NOFOLLOW) == 0, lock_name);
    if (held.st_ino != seen.st_ino || held.st_dev != seen.st_dev)
        errx(1, "the lock file was replaced");

    /* The state under the lock is the one that counts. */
    existed = fstatat(dir, name, &old, AT_SYMLINK_NOFOLLOW) == 0;
    must(existed || errno == ENOENT, target);
    must(stat(parent, &seen) == 0, parent);
    if (seen.st_ino != here.st_ino || seen.st_dev != here.st_dev)
        errx(1, "the directory was replaced");
    if (existed)
        must(faccessat(dir, name, W_OK, AT_EACCESS) == 0, target);

    size_t size = 0;
    for (ssize_t got; (got = read(0, input + size, sizeof input - size)) != 0; size += (size_t)got)
        must(got > 0, "read");

    int stage = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, existed ? 0600 : 0666);
    must(stage >= 0, "O_TMPFILE");
    must(write(stage, input, size) == (ssize_t)size, "write");
    if (existed) {
        char names[256];
        int original = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        must(original >= 0 && fstat(original, &old) == 0 && flistxattr(original, names, sizeof names) >= 0, target);
        /* The directory's default ACL may have given the stage an ACL; most directories have none. */
        fremovexattr(stage, "system.posix_acl_access");
        must(fchmod(stage, old.st_mode & 07777) == 0, "fchmod");
    }

    char stage_name[300], stage_path[64];
    snprintf(stage_name, sizeof stage_name, ".awrite-%08x.%s", 0x29623195u, name);
    snprintf(stage_path, sizeof stage_path, "/proc/self/fd/%d", stage);
    struct flock mark = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)1 << 62, .l_len = 1};
    must(fcntl(stage, F_OFD_SETLK, &mark) == 0, "mark");
    must(linkat(AT_FDCWD, stage_path, dir, stage_name, AT_SYMLINK_FOLLOW) == 0, stage_name);
    if (sync)
        must(fsync(stage) == 0, "fsync");
    must(renameat(dir, stage_name, dir, name) == 0, target);
    if (sync)
        must(fsync(dir) == 0, parent);

    struct flock waiters = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    must(fcntl(lock, F_OFD_GETLK, &waiters) == 0, "F_OFD_GETLK");
    must(fstatat(dir, lock_name, &seen, AT_SYMLINK_NOFOLLOW) == 0 && seen.st_ino == held.st_ino, lock_name);
    must(unlinkat(dir, lock_name, 0) == 0, lock_name);
    must(flock(lock, LOCK_UN) == 0, "flock");
    return 0;
}
