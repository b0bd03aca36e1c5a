/*
 * close_fails LOG WHICH NUMBER ERROR COMMAND [ARG...]: runs COMMAND, and lets its close(2) number NUMBER return the error
 * ERROR (a number), although the descriptor is closed, as the kernel does it. strace's injection leaves the descriptor
 * open, and what it locks.
 *
 * The close of a directory never fails: no file system of Linux is asked then (the `flush` of its file operations).
 *
 * Each thread and child counts its own calls, as for strace. WHICH is `first` for those of COMMAND's first thread alone, or
 * `all`. What a child does once it has become another program does not count. NUMBER 0 lets no call fail.
 *
 * LOG gets a line for each call that counts: the task's ID, its count, the descriptor, the error that the caller gets or 0,
 * and the file.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>
#include <elf.h>
#include <linux/ptrace.h>

#define TASKS 256

struct task {
    pid_t id;
    long closes;
    /* Between the entry to close(2) and the return from it. */
    int inside;
    unsigned long long fd;
    int is_dir;
    char file[PATH_MAX];
};

static struct task tasks[TASKS];
static char program[PATH_MAX];

static void die(const char *what)
{
    perror(what);
    exit(125);
}

/* The task, and in *is_new whether it has not been seen before. */
static struct task *task_of(pid_t id, int *is_new)
{
    int i;
    for (i = 0; i < TASKS && tasks[i].id != 0; i++)
        if (tasks[i].id == id)
            break;
    if (i == TASKS) {
        fputs("close_fails: too many tasks\n", stderr);
        exit(125);
    }
    *is_new = tasks[i].id == 0;
    tasks[i].id = id;
    return &tasks[i];
}

/* Where a link in /proc/ID leads to; empty if it is gone. */
static void read_link(pid_t id, const char *link, char *into)
{
    char path[64];
    ssize_t length;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)id, link);
    length = readlink(path, into, PATH_MAX - 1);
    into[length < 0 ? 0 : length] = '\0';
}

static int is_ours(pid_t id)
{
    char now[PATH_MAX];
    read_link(id, "exe", now);
    return strcmp(now, program) == 0;
}

static void set_result(pid_t id, long result)
{
    struct user_regs_struct registers;
    struct iovec all = { &registers, sizeof registers };
    if (ptrace(PTRACE_GETREGSET, id, NT_PRSTATUS, &all) != 0)
        die("PTRACE_GETREGSET");
#if defined(__x86_64__)
    registers.rax = (unsigned long long)result;
#elif defined(__aarch64__)
    registers.regs[0] = (unsigned long long)result;
#else
#error "which register has the result of a system call?"
#endif
    if (ptrace(PTRACE_SETREGSET, id, NT_PRSTATUS, &all) != 0)
        die("PTRACE_SETREGSET");
}

/* At the entry to any system call, and at the return from it. */
static void at_call(struct task *task, pid_t first, int all, long number, int error, FILE *log)
{
    struct __ptrace_syscall_info info;
    struct stat file;
    char name[32], path[64];
    int result;
    /* It may have been killed meanwhile. */
    if (ptrace(PTRACE_GET_SYSCALL_INFO, task->id, sizeof info, &info) <= 0)
        return;
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == SYS_close && is_ours(task->id)) {
        task->inside = 1;
        task->fd = info.entry.args[0];
        snprintf(name, sizeof name, "fd/%llu", task->fd);
        read_link(task->id, name, task->file);
        snprintf(path, sizeof path, "/proc/%d/%s", (int)task->id, name);
        task->is_dir = stat(path, &file) == 0 && S_ISDIR(file.st_mode);
    } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && task->inside) {
        task->inside = 0;
        task->closes++;
        result = (int)-info.exit.rval;
        if (result == 0 && !task->is_dir && task->closes == number && (all || task->id == first)) {
            set_result(task->id, -error);
            result = error;
        }
        fprintf(log, "%d %ld %llu %d %s\n", (int)task->id, task->closes, task->fd, result, task->file);
    }
}

int main(int argc, char **argv)
{
    const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                         PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    int status, is_new, signal, code = 125;
    pid_t id, first;
    FILE *log;
    if (argc < 6)
        return 125;
    if ((log = fopen(argv[1], "we")) == NULL)
        die(argv[1]);
    if ((first = fork()) < 0)
        die("fork");
    if (first == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execvp(argv[5], argv + 5);
        perror(argv[5]);
        _exit(127);
    }
    if (waitpid(first, &status, 0) != first || !WIFSTOPPED(status) || ptrace(PTRACE_SETOPTIONS, first, 0, options) != 0)
        die("ptrace");
    read_link(first, "exe", program);
    task_of(first, &is_new);
    ptrace(PTRACE_SYSCALL, first, 0, 0);
    while ((id = waitpid(-1, &status, __WALL)) > 0) {
        if (!WIFSTOPPED(status)) {
            if (id == first)
                code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            continue;
        }
        struct task *task = task_of(id, &is_new);
        signal = WSTOPSIG(status);
        if (signal == (SIGTRAP | 0x80)) {
            at_call(task, first, strcmp(argv[2], "all") == 0, atol(argv[3]), atoi(argv[4]), log);
            signal = 0;
        } else if (status >> 16 != 0 || (is_new && signal == SIGSTOP)) {
            signal = 0;
        }
        /* One that has been killed meanwhile is not there any more. */
        if (ptrace(PTRACE_SYSCALL, id, 0, signal) != 0 && errno != ESRCH)
            die("PTRACE_SYSCALL");
    }
    return fclose(log) == 0 ? code : 125;
}
