/*
 * awrite.h: replace a file all-or-nothing and durably, under a lock that every cooperating writer takes too.
 *
 * The library behind the commands awrite, awrite-lock and awrite-housekeep. C programs take the same locks and leases
 * as they do, and make the same writes.
 *
 * One call replaces a file. Whatever happens, the file has the old content or the new one:
 *
 *     if (awrite_write("config.json", text, strlen(text), NULL, NULL) != AWRITE_OK)
 *         fprintf(stderr, "%s\n", awrite_last_error());        // config.json: No space left on device
 *
 * awrite_update() reads and replaces a file under its lock, so that no other update is lost. awrite_lock_acquire()
 * takes the lock alone, awrite_lease_acquire() a lease that can outlive this process, and awrite_housekeep() deletes
 * what crashes have left.
 *
 * A task of several steps has a handle:
 *
 *     awrite_writer *writer;
 *     awrite_write_options options = AWRITE_WRITE_OPTIONS_INIT;
 *     awrite_status status;
 *
 *     options.flags = AWRITE_WRITE_BACKUP;
 *     status = awrite_writer_open(&writer, "report.txt", &options);
 *     if (status == AWRITE_OK)
 *         status = awrite_writer_write(writer, data, size);     // as often as you like
 *     if (status == AWRITE_OK)
 *         status = awrite_writer_commit(writer, NULL);          // only now the file is replaced
 *     awrite_writer_free(writer);                               // without a commit: nothing has happened
 *
 *     open or acquire --> use --> commit, release or detach --> free
 *            |             `------------- give up --------------^
 *            `-- failed: the handle is NULL, which may be freed too
 *
 * Handles.  The caller frees each handle once, in whatever state it is, with the _free function of its kind. Freeing
 * NULL does nothing. A commit, a release or a detach uses the handle up: the only thing left to do is to free it. Freeing
 * a handle that is not used up gives up what was begun: the write is discarded, the lock or the lease is given back.
 *
 * Ownership.  Arguments stay the caller's, and the library reads them only during the call. What a callback's context
 * points to must stay valid as long as the handle exists. Strings that a call returns belong to the library or to the
 * handle, as the call's description says. What the caller shall free, awrite_free() frees: never pass it to free().
 *
 * Options.  A struct that the caller fills in begins with its size. Every other member may be 0 or NULL, which is its
 * default. Start with the macro AWRITE_..._INIT of the struct, which does both, and set what differs. Since C99 that is
 * also {.size = sizeof options, .flags = ...}. A program built with one version of this header runs with any later
 * libawrite.so.1. It also runs with an earlier one that has the functions that it calls; that library refuses options
 * that it does not know, unless they are zero.
 *
 * Flags.  Each family of constants is an enum with a prefix of its own, and so has each member that takes them. C++
 * refuses a constant of another family; C compilers warn about it (-Wenum-conversion, part of -Wextra in gcc).
 *
 * Errors.  A call that fails returns a status and has changed nothing, unless the status says otherwise. On the same
 * thread, awrite_last_error() says why, awrite_last_hint() what can be done about it, and awrite_last_errno() which
 * system error it was; after AWRITE_CONFLICT, awrite_last_found() says what the target contains. A callback is told
 * what is not an error but should be known (a wait; a file system that cannot sync a directory): see Notices. A wrong
 * argument is an error and not a crash, if the library can detect it: NULL, an impossible size, an unknown flag, a
 * handle that is used up or belongs to the parent process. A bug in the library is AWRITE_INTERNAL; a panic does not
 * leave the library (but Rust writes about it to standard error).
 *
 * Callbacks.  A callback runs on the thread that made the call, with the target's lock held. It must return: no longjmp,
 * no pthread_exit. A C++ exception that leaves a callback ends the program (abort), after what was begun has been given
 * up: the lock is given back and the temporary file is gone. Catch it in the callback, and return a number that stops
 * the call.
 *
 * Tools.  valgrind has nothing to say about the library. For helgrind and ThreadSanitizer, which do not see its locks, there
 * are suppressions: helgrind.supp and tsan.supp, in share/doc/awrite.
 *
 * Memory.  If there is no memory, the library aborts the program, as Rust programs do. The target is whole then, and the
 * lock free; a lock file and a temporary file may stay, as after a kill. What the library needs does not grow with the
 * content that is written.
 *
 * Environment.  The library reads AWRITE_LOCK_DIR, AWRITE_KEEP_LOCK, AWRITE_LOCK_METHOD and AWRITE_STALE_AFTER (unless
 * AWRITE_LOCK_NO_ENVIRONMENT says otherwise), and AWRITE_HELD, by which awrite-lock tells what it holds. As with
 * getenv(3), no other thread may change the environment meanwhile.
 *
 * Paths.  A path is a string of bytes that ends in a zero byte. Relative paths start from the current directory.
 *
 * Threads.  All functions may be called by several threads at once. The notes on thread-safety at a handle's type and
 * at its functions are about calls with the same handle. Structs are plain data: the library keeps no pointer to one,
 * and writes into one only during the call that gets it.
 *
 * Cancellation.  A thread cannot be cancelled (pthread_cancel(3)) inside a call, nor in a callback: the request waits
 * until the call returns. To end a wait, let the notice function give up. Asynchronous cancellation must be off.
 *
 * Fork.  A handle belongs to the process that made it. In a forked child, every function that does something with the
 * parent's handle, or with an update of the parent's, refuses it with AWRITE_BAD_ARGUMENT. Only _free accepts it: it
 * frees the child's copy and leaves the parent's lock, lease and write alone. The child has copies of the descriptors
 * until it frees the handle, calls exec or ends; if the parent dies, a lock stays held until then. The child may make
 * handles of its own, unless it was forked while another thread was inside the library.
 *
 * Signals.  The library handles none, and changes nothing that belongs to the whole process. None of its functions may
 * be called from a signal handler. A signal that the program handles does not end a wait or a write: to end a wait,
 * give it a limit, or let the notice function give up. A write beyond the limit on file sizes raises SIGXFSZ, unless the program ignores that signal. A
 * program that is killed leaves the target whole and the lock free. It leaves at most a lock file and a temporary file
 * behind, which awrite_housekeep() deletes.
 *
 * Link with: pkg-config --cflags --libs awrite
 */

#ifndef AWRITE_H
#define AWRITE_H

#include <stddef.h>
#include <stdint.h>

/* The version of this header. awrite_version() and awrite_version_number() tell that of the library. */
#define AWRITE_VERSION_MAJOR 0
#define AWRITE_VERSION_MINOR 1
#define AWRITE_VERSION_PATCH 0
#define AWRITE_VERSION "0.1.0"
#define AWRITE_VERSION_NUMBER (AWRITE_VERSION_MAJOR * 1000000 + AWRITE_VERSION_MINOR * 1000 + AWRITE_VERSION_PATCH)

/* A call whose result must not be ignored. */
#ifndef AWRITE_NODISCARD
#if defined(__GNUC__)
#define AWRITE_NODISCARD __attribute__((__warn_unused_result__))
#else
#define AWRITE_NODISCARD
#endif
#endif

/* Where the language allows, the enums say that later versions may add values. They have 32 bits everywhere. */
#if (defined(__cplusplus) && __cplusplus >= 201103L) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L)
#define AWRITE_UINT32_ : uint32_t
#else
#define AWRITE_UINT32_
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* === Status and errors =============================================================================================
 *
 * Nearly every function returns an awrite_status. On the thread that made the call, awrite_last_error(),
 * awrite_last_hint() and awrite_last_errno() say what exactly went wrong, and with which file.
 */

/**
 * The result of a call. 0, 1, 2 and 4 are also the exit codes of the commands. (3 is theirs alone: a signal ended the
 * command. The library handles no signals.)
 */
typedef enum awrite_status AWRITE_UINT32_ {
    /** It is done. */
    AWRITE_OK = 0,
    /** A system call failed, or the target is not a file that can be replaced. The target is unchanged. */
    AWRITE_ERROR = 1,
    /**
     * The lock could not be taken, or was lost: somebody else holds it and the time to wait is over, another owner has
     * a lease, or the named lease is not the caller's (any more). The target is unchanged.
     */
    AWRITE_LOCKED = 2,
    /**
     * The target is not what awrite_write_options.expect says. It is unchanged. awrite_last_found() says what it is.
     */
    AWRITE_CONFLICT = 4,
    /**
     * An argument is wrong: NULL where something must be, a whose size is not set, an unknown flag, options
     * that contradict each other, a handle of the parent process. Nothing was done.
     */
    AWRITE_BAD_ARGUMENT = 5,
    /** The caller's own callback stopped it, or gave up a wait. A target is unchanged then. */
    AWRITE_STOPPED = 6,
    /**
     * A bug in the library. The call ended as if it had failed. The target is whole: it has the old content, or the
     * new content if it had just been replaced.
     */
    AWRITE_INTERNAL = 7,
    /**
     * The target has been replaced, but its directory could not be synced: after a power cut the old content may be
     * back. (If it was overwritten in place by AWRITE_WRITE_IN_PLACE, it may then have only a part of the new
     * content.)
     */
    AWRITE_NOT_DURABLE = 8
} awrite_status;

/**
 * Says what a status means: a short phrase in English.
 *
 * @param status any number, also one of a later version.
 *
 * @return a string that belongs to the library and stays. Never NULL. Thread-safe.
 */
const char *awrite_strerror(awrite_status status);

/**
 * Says what was wrong in the last call on this thread that returned anything but AWRITE_OK: "PATH: REASON". One line
 * in UTF-8, without a newline at its end. Control characters in a path are escaped, and bytes that are not UTF-8 are
 * replaced. A call that succeeds leaves the text as it was.
 *
 * @return a string that belongs to the library and stays until the next call on this thread that fails; "" before the
 * first one. Never NULL. Thread-safe: each thread has its own.
 */
const char *awrite_last_error(void);

/**
 * What can be done about awrite_last_error(), or who holds the lock ("held by PID 4711 (python3 deploy.py)"): one
 * line, without a newline at its end, that the commands print as "Hint: ...". What it names are flags and members of
 * the options here.
 *
 * @return a string that belongs to the library and stays until the next call on this thread that fails; "" where there
 * is no hint. Never NULL. Thread-safe: each thread has its own.
 */
const char *awrite_last_hint(void);

/**
 * The errno of the system call behind awrite_last_error(), or 0 if there was none (the lock is held, a bad argument).
 *
 * @return the number. It stays the same until the next call on this thread that fails. Thread-safe: each thread has
 * its own.
 */
int awrite_last_errno(void);

/**
 * What the target was found to contain when the last call on this thread failed with AWRITE_CONFLICT: "sha256:" and 64
 * hexadecimal digits, or "absent". The next awrite_write_options.expect, once the caller has read the target again.
 *
 * @return a string that belongs to the library and stays until the next call on this thread that fails; "" if the last
 * one failed otherwise. Never NULL. Thread-safe: each thread has its own.
 */
const char *awrite_last_found(void);

/**
 * The version of the library that runs, such as "1.2.3". Compare it with AWRITE_VERSION, the version of the header.
 *
 * @return a string that belongs to the library and stays. Never NULL. Thread-safe.
 */
const char *awrite_version(void);

/**
 * The same as a number. Compare it with AWRITE_VERSION_NUMBER.
 *
 * @return 1002003 for 1.2.3. Thread-safe.
 */
uint32_t awrite_version_number(void);

/* === Memory ========================================================================================================
 *
 * What a call allocates for its caller is freed by awrite_free(): what awrite_read() has read, the path of a backup in
 * an awrite_result.
 */

/**
 * Frees what a call has allocated for the caller, as that call's description says. Not for handles, which have
 * functions of their own, and not for any other memory.
 *
 * @param memory what the call has returned. NULL: nothing is done.
 */
void awrite_free(void *memory);

/* === Notices =======================================================================================================
 *
 * A notice is what a person should know about a call that goes on and does not fail: that it waits, or that the file
 * system keeps less than was asked for. The commands print notices. The library prints nothing: it calls the function
 * in the member notice of the options, unless that is NULL.
 */

/** awrite_notice.kind. Later versions may add kinds: ignore those that you do not know. */
typedef enum awrite_notice_kind AWRITE_UINT32_ {
    /**
     * Nothing has failed, but something is less than it should be: the file system cannot sync a
     * directory, a lock file could not be removed, a file is being overwritten in place.
     */
    AWRITE_NOTICE_WARNING = 1,
    /**
     * Somebody else holds the lock or a lease, and this call waits for it. At most once in a call. If the
     * callback returns anything but 0, the call gives up and returns AWRITE_STOPPED.
     */
    AWRITE_NOTICE_WAITING = 2,
    /** The lock is held now, after AWRITE_NOTICE_WAITING. */
    AWRITE_NOTICE_LOCKED = 3,
    /** Worth knowing: other hard links keep the old content, an extended attribute was not kept. */
    AWRITE_NOTICE_INFO = 4,
    /**
     * The wait goes on. Comes about ten times a second after AWRITE_NOTICE_WAITING, so that the callback
     * can end the wait, as there; not a text to print each time.
     */
    AWRITE_NOTICE_STILL_WAITING = 5
} awrite_notice_kind;

/**
 * Something that the library tells while it works. The library makes it and its strings. They exist only during the
 * callback.
 */
typedef struct awrite_notice {
    /** The size of this struct in the library that runs. */
    size_t size;
    /** What kind of notice it is. */
    awrite_notice_kind kind;
    /** 0. */
    uint32_t reserved;
    /** What it is about: the target as it was given, the lock file, the backup. Never NULL. */
    const char *path;
    /** What happened: a phrase in English without a full stop at its end. Never NULL. */
    const char *text;
} awrite_notice;

/**
 * Gets notices, on the thread that makes the call, while the call goes on. It should be quick, and must not lock or
 * write the same target. It must return: see Callbacks.
 *
 * Returns 0. Anything else gives up a wait: at AWRITE_NOTICE_WAITING and AWRITE_NOTICE_STILL_WAITING. To all other notices
 * the answer is ignored. A call with such a function asks for a busy lock every few milliseconds instead of sleeping until
 * it is free, and others may overtake it.
 */
typedef int (*awrite_notice_fn)(const awrite_notice *notice, void *context);

/* === Locks =========================================================================================================
 *
 * The lock of a target is the one that the command awrite takes before it replaces the target, and that awrite-lock
 * holds around a command. Locks are advisory: they only exclude programs that ask for them. Two threads of one process
 * exclude each other like two processes. awrite_write(), awrite_update() and awrite_writer_open() take the lock
 * themselves. If this program already holds the lock of their target, awrite_write_options.held_lock lets them go on under
 * it. Without that, they wait for the thread that holds it; a thread that would wait for itself without a limit gets
 * AWRITE_LOCKED at once. (A program that passes a lock to another thread, and means to wait for that one, sets a limit.) A
 * command awrite that the program runs waits for the lock. Below awrite-lock TARGET -- COMMAND, all of them go on under
 * the lock of awrite-lock.
 */

/** lock_mode, mode, backup_mode: no permission bits at all (chmod 000), since 0 stands for the default there. */
#define AWRITE_MODE_NONE 65536

/**
 * A lock that is held, or those of several targets.
 *
 * Thread-safety: may be passed from thread to thread. awrite_lock_fd(), awrite_lock_path() and awrite_lock_check() may
 * be called by several threads at once; awrite_lock_release() and awrite_lock_free() only while nobody else uses it.
 */
typedef struct awrite_lock awrite_lock;

/** awrite_lock_options.wait: how long to wait for a lock that somebody else holds. */
typedef enum awrite_wait AWRITE_UINT32_ {
    /** Wait until the lock is free. */
    AWRITE_WAIT_FOREVER = 0,
    /** Wait for timeout_ms at the most. */
    AWRITE_WAIT_LIMITED = 1,
    /**
     * Do not wait. (The library tries again for a few milliseconds, so that a program that only
     * looks at the lock does not make the call fail.)
     */
    AWRITE_WAIT_NO = 2
} awrite_wait;

/** awrite_lock_options.flags, or-ed. */
typedef enum awrite_lock_flags AWRITE_UINT32_ {
    /** None of them. */
    AWRITE_LOCK_DEFAULT = 0,
    /** Share the lock with other shared holders. A write ignores it. */
    AWRITE_LOCK_SHARED = 1,
    /**
     * Leave the lock file in place on release, for a lock shared with programs that do not
     * check its inode, such as flock(1). Every program that locks the same target must then do so.
     */
    AWRITE_LOCK_KEEP = 2,
    /** If the target is a symbolic link, use the link itself and not the file behind it. */
    AWRITE_LOCK_NO_FOLLOW = 4,
    /**
     * Do not take what is not set here from the environment. Without this flag the variables
     * AWRITE_LOCK_DIR, AWRITE_KEEP_LOCK, AWRITE_LOCK_METHOD, AWRITE_STALE_AFTER and AWRITE_STORE count as they do for the
     * commands, so that both find the same lock and the same lease.
     */
    AWRITE_LOCK_NO_ENVIRONMENT = 8
} awrite_lock_flags;

/** awrite_lock_options.method: what a lock is. */
typedef enum awrite_method AWRITE_UINT32_ {
    /** flock(2), but link locks where advisory locks cannot be trusted (NFS, SMB, AFS). */
    AWRITE_METHOD_AUTO = 0,
    /** flock(2) on a lock file without content. */
    AWRITE_METHOD_FLOCK = 1,
    /**
     * A lock file that is created by link(2) and says who holds it. A thread of the library
     * keeps it fresh.
     */
    AWRITE_METHOD_LINK = 2
} awrite_method;

/**
 * How a lock is found and taken. All programs that lock the same target must use the same lock_file, lock_dir and
 * AWRITE_LOCK_KEEP. The struct and its strings are only read during the call.
 */
typedef struct awrite_lock_options {
    /** sizeof(awrite_lock_options). */
    size_t size;
    /** How long to wait. 0: for ever. */
    awrite_wait wait;
    /** AWRITE_LOCK_*, or-ed. */
    awrite_lock_flags flags;
    /** With AWRITE_WAIT_LIMITED: how long. Otherwise 0. */
    uint64_t timeout_ms;
    /** Use this lock file instead of TARGET.lock. */
    const char *lock_file;
    /** Put lock files in this directory, named after the target's whole path with / written %. */
    const char *lock_dir;
    /**
     * Permission bits of a lock file that is created. 0: 0600, and read and write for group or others where the target
     * gives them write.
     */
    uint32_t lock_mode;
    /** What a lock is. 0: AWRITE_METHOD_AUTO. */
    awrite_method method;
    /** For a link lock: others break it after this time without a sign of life from this process. 0: a minute. */
    uint64_t stale_after_ms;
    /**
     * Act as the holder of this owner's lease: the lock is only taken while the lease is this owner's, and a write
     * checks that again right before it replaces the target. NULL: act without a lease, and wait for the end of any
     * lease as for the lock.
     */
    const char *owner;
    /** With owner: the token of that lease. 0: whichever lease the owner has. */
    uint64_t token;
    /** Gets the notices of this call, and of later calls with the handle that it makes. NULL: there are none. */
    awrite_notice_fn notice;
    /** Passed to notice. What it points to must stay valid until the handle is freed. */
    void *notice_context;
    /**
     * For awrite_lease_acquire() and awrite_lease_resume(): why the lease is taken, for those whom it keeps out. One
     * line of UTF-8, of 1 to 255 bytes. NULL: none; a lease that is there keeps its own.
     */
    const char *reason;
} awrite_lock_options;

/** What awrite_lock_options begins as: with its size, and all else default. */
#define AWRITE_LOCK_OPTIONS_INIT \
    {sizeof(awrite_lock_options), AWRITE_WAIT_FOREVER, AWRITE_LOCK_DEFAULT, 0, NULL, NULL, 0, \
     AWRITE_METHOD_AUTO, 0, NULL, 0, NULL, NULL, NULL}

/**
 * Takes the lock of a target. It waits as the options say (for ever, if they say nothing), and shares the lock with
 * other readers if AWRITE_LOCK_SHARED is among their flags.
 *
 * @param lock receives the handle, which must be freed with awrite_lock_free(); NULL on failure.
 * @param target the file, which need not exist; its directory must.
 * @param options NULL for the defaults.
 *
 * @return AWRITE_OK; AWRITE_LOCKED if it could not be taken in time; AWRITE_STOPPED if the notice function gave up the
 * wait; AWRITE_BAD_ARGUMENT; AWRITE_ERROR if the lock
 * file could not be made or opened. Thread-safe.
 */
AWRITE_NODISCARD
awrite_status awrite_lock_acquire(awrite_lock **lock,
                                  const char *target,
                                  const awrite_lock_options *options);

/**
 * Takes the locks of several targets, or none of them. The order in which it takes them is the same for every caller,
 * so two callers never wait for each other, whatever the order of their targets. Take all that is needed in one call:
 * a lock that is taken in addition later has no part in this.
 *
 * @param lock receives one handle for all of them, to be freed with awrite_lock_free(); NULL on failure.
 * @param targets,count the files, at least one. One that is named twice is locked once.
 * @param options NULL for the defaults. The time to wait is about all of them together. Without lock_file, unless
 * there is one target only.
 *
 * @return as awrite_lock_acquire(). Thread-safe.
 */
AWRITE_NODISCARD
awrite_status awrite_lock_acquire_all(awrite_lock **lock,
                                      const char *const *targets,
                                      size_t count,
                                      const awrite_lock_options *options);

/**
 * The descriptor of the lock file (of several targets: the first one's), through which the lock is held. It belongs to
 * the handle: do not close it, and do not lock or unlock it. It is closed on exec; a child process that is to keep the
 * lock alive needs a copy of it.
 *
 * @return the descriptor; -1 if there is none, because it is a link lock, or if the handle is NULL, released or the
 * parent process's (awrite_last_error() says so then). Thread-safe, with the same handle too.
 */
int awrite_lock_fd(const awrite_lock *lock);

/**
 * The path of the lock file; of several targets: the first one's.
 *
 * @return a string that belongs to the handle and stays until the handle is freed, also after the release; NULL if the
 * handle is NULL. Thread-safe, with the same handle too.
 */
const char *awrite_lock_path(const awrite_lock *lock);

/**
 * Makes sure that the lock is still held; of several targets: all of them. A lock by flock(2) always is. A link lock
 * is lost if the process was stopped, or cut off from the file server, for too long.
 *
 * @return AWRITE_OK; AWRITE_LOCKED if it is lost; AWRITE_ERROR if that could not be found out; AWRITE_BAD_ARGUMENT.
 * Thread-safe, with the same handle too.
 */
AWRITE_NODISCARD
awrite_status awrite_lock_check(const awrite_lock *lock);

/**
 * Gives the lock back. The handle is still to be freed.
 *
 * @return AWRITE_OK; AWRITE_ERROR if the lock file could not be removed (the lock is given back even so);
 * AWRITE_BAD_ARGUMENT if the handle is NULL, was released before, or is the parent process's. No other call with the
 * same handle at the same time.
 */
awrite_status awrite_lock_release(awrite_lock *lock);

/**
 * Frees a handle, giving the lock back if it is still held; NULL is fine. In a forked child it frees the copy, and the
 * parent's lock stays. No other call with the same handle at the same time, or later.
 */
void awrite_lock_free(awrite_lock *lock);

/* === Writing =======================================================================================================
 *
 * A target is replaced as a whole or not at all, under its lock: by a block of memory (awrite_write), by what a
 * callback makes of the current content (awrite_update), or piece by piece (awrite_writer_open). At every instant it
 * is the complete old or the complete new content, for readers and after a crash. A symbolic link is followed and
 * stays, unless AWRITE_LOCK_NO_FOLLOW is among the flags of the lock options.
 */

/** The size of a string that says what a target contains, with the zero byte at its end. */
#define AWRITE_DIGEST_SIZE 72

/**
 * An update that is going on: the callback of awrite_update() reads from it and writes to it. It exists only during
 * the callback, and only the thread that runs the callback may use it.
 */
typedef struct awrite_update_io awrite_update_io;

/** awrite_write_options.flags, or-ed. */
typedef enum awrite_write_flags AWRITE_UINT32_ {
    /** None of them. */
    AWRITE_WRITE_DEFAULT = 0,
    /**
     * Take the lock at the commit instead of at the start, so that a slow producer blocks
     * nobody. Not with awrite_update(), which would lose updates.
     */
    AWRITE_WRITE_LATE_LOCK = 1,
    /** The new content begins with the current content. */
    AWRITE_WRITE_APPEND = 2,
    /** Give the new file 0666 less umask, whatever the original had. */
    AWRITE_WRITE_NO_PRESERVE_MODE = 4,
    /** Do not carry extended attributes and ACLs over. */
    AWRITE_WRITE_NO_PRESERVE_XATTRS = 8,
    /** Replace a file that this user may not write. */
    AWRITE_WRITE_FORCE = 16,
    /**
     * Replace the target even if there is nothing to write, and make it empty. Without this flag that is an error, because a
     * producer or a callback that failed may look so.
     */
    AWRITE_WRITE_ALLOW_EMPTY = 32,
    /**
     * Leave the target untouched when its content is identical. A mode or an owner that is asked
     * for is still set, on the file itself.
     */
    AWRITE_WRITE_IF_CHANGED = 64,
    /**
     * Where rename is impossible, overwrite the file under the lock: something is mounted on it,
     * only its directory may not be written, or it is another user's in a sticky directory. Not atomic.
     */
    AWRITE_WRITE_IN_PLACE = 128,
    /** Create missing parent directories. */
    AWRITE_WRITE_MKDIR = 256,
    /**
     * Keep the current content as TARGET.backup. Setting any of the backup members does the
     * same.
     */
    AWRITE_WRITE_BACKUP = 512,
    /** Keep it as TARGET.YYYYMMDD-HHMMSS.backup, in local time. */
    AWRITE_WRITE_BACKUP_TIMESTAMP = 1024,
    /**
     * Write into the existing file, so that its other hard links, and a container that it is
     * mounted into, have the new content too. Atomic where the file system can exchange contents (XFS, since Linux 6.10);
     * elsewhere the file is overwritten, as with AWRITE_WRITE_IN_PLACE.
     */
    AWRITE_WRITE_KEEP_INODE = 2048,
    /**
     * Do everything but the commit, and take it back: the target stays as it is, and nothing is
     * left. The call fails where a real one would, as far as that can be known. The result says what would have been done.
     */
    AWRITE_WRITE_DRY_RUN = 4096,
    /**
     * Before the target is replaced, read the new content back and compare it with what was
     * received: from the disk, where the system allows to drop what it has cached. A difference is AWRITE_ERROR, and the
     * target is unchanged. Not with AWRITE_SYNC_NONE.
     */
    AWRITE_WRITE_VERIFY = 8192
} awrite_write_flags;

/** awrite_write_options.sync: what is forced to the disk before a call returns. */
typedef enum awrite_sync AWRITE_UINT32_ {
    /** File and directory. The new content survives power loss. */
    AWRITE_SYNC_FULL = 0,
    /** The file only. Power loss may bring the old content back, never a partial one. */
    AWRITE_SYNC_DATA = 1,
    /** Neither. Only a crash of the process is survived. */
    AWRITE_SYNC_NONE = 2
} awrite_sync;

/** awrite_write_options.ownership: whose the new file is. */
typedef enum awrite_ownership AWRITE_UINT32_ {
    /**
     * Owner and group are kept as far as this user may do so. Where the group cannot be
     * kept, its permissions are cut down to those of others.
     */
    AWRITE_OWNERSHIP_TRY = 0,
    /**
     * Owner and group are kept; it is an error if that fails. Only then set-user-id and
     * set-group-id bits and capabilities are kept, too.
     */
    AWRITE_OWNERSHIP_KEEP = 1,
    /** The new file belongs to the user who writes it. */
    AWRITE_OWNERSHIP_WRITER = 2
} awrite_ownership;

/**
 * Decides whether a target is replaced. It is called right before that, with the lock held, on the thread that makes
 * the call. It gets the path of the new file, which is complete, and the target as it was given. It may read and
 * change the new file, but not replace or remove it. Returns 0 to go on; anything else leaves the target as it was. It
 * must return: no longjmp, no C++ exception.
 */
typedef int (*awrite_check_fn)(const char *new_file, const char *target, void *context);

/**
 * How a target is replaced. The struct, its strings and the lock options are only read during the call. What the
 * contexts point to must stay valid during the call; with awrite_writer_open(), until the handle is freed.
 */
typedef struct awrite_write_options {
    /** sizeof(awrite_write_options). */
    size_t size;
    /** How the target's lock is taken. NULL: the defaults. */
    const awrite_lock_options *lock;
    /** AWRITE_WRITE_*, or-ed. */
    awrite_write_flags flags;
    /** What is forced to the disk. 0: file and directory. */
    awrite_sync sync;
    /** Permission bits of the new file. 0: the original's; for a new file 0666 less umask. */
    uint32_t mode;
    /** Whose the new file is. 0: AWRITE_OWNERSHIP_TRY. */
    awrite_ownership ownership;
    /** What is appended to the target's name for a backup. NULL: ".backup". */
    const char *backup_suffix;
    /** Put backups into this directory. NULL: beside the target. */
    const char *backup_dir;
    /** Permission bits of a backup. 0: the original's. */
    uint32_t backup_mode;
    /** 0. */
    uint32_t reserved;
    /** Called when the new file is complete, before the target is replaced. NULL: there is no check. */
    awrite_check_fn check;
    /** Passed to check. */
    void *check_context;
    /** Gets the notices. NULL: the notice function in the lock options gets them, if there is one. */
    awrite_notice_fn notice;
    /** Passed to notice. */
    void *notice_context;
    /**
     * After the commit, delete the target's backups with a time in their names but this number of the newest ones. The
     * one that was just made is among these, and has a time in its name. 0: delete none.
     */
    uint64_t backup_keep;
    /**
     * Replace the target only if it contains this: what awrite_digest() says, the 64 digits alone, or "absent". It is
     * compared as soon as the lock is held, and again right before the target is replaced; otherwise the write fails
     * with AWRITE_CONFLICT. NULL: it may contain anything.
     */
    const char *expect;
    /**
     * Replace the target only if it contains the same as this file, which is read once, before the lock is taken.
     * NULL: it may contain anything. Not together with expect.
     */
    const char *expect_same;
    /**
     * Go on under this lock of the target, which the program holds, instead of taking it. It stays held, and must not be
     * freed before the call returns; a write of several calls fails at its commit if it is released before. It must have
     * been acquired with the same lock options, and alone: not with AWRITE_LOCK_SHARED. Two writes under one lock at the
     * same time do not exclude each other. NULL: take the lock.
     */
    const awrite_lock *held_lock;
} awrite_write_options;

/** What awrite_write_options begins as: with its size, and all else default. */
#define AWRITE_WRITE_OPTIONS_INIT \
    {sizeof(awrite_write_options), NULL, AWRITE_WRITE_DEFAULT, AWRITE_SYNC_FULL, 0, \
     AWRITE_OWNERSHIP_TRY, NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL}

/** What a write has done. */
typedef struct awrite_result {
    /** sizeof(awrite_result), to be set by the caller. */
    size_t size;
    /** Length of the content in bytes. */
    uint64_t bytes;
    /**
     * The path of the backup of the previous content, to be freed with awrite_free(); NULL: there is none (or no
     * memory for it). The call does not look at what was here before.
     */
    char *backup;
    /** 1; or 0 when the content was identical and the file was left alone (AWRITE_WRITE_IF_CHANGED). */
    uint32_t changed;
    /** 0. */
    uint32_t reserved;
    /**
     * What the target contains now, as awrite_digest() says it, if expect, expect_same or AWRITE_WRITE_VERIFY was
     * used; else "". The next awrite_write_options.expect.
     */
    char digest[AWRITE_DIGEST_SIZE];
} awrite_result;

/** What awrite_result begins as: with its size, and all else default. */
#define AWRITE_RESULT_INIT \
    {sizeof(awrite_result), 0, NULL, 0, 0, ""}

/**
 * Makes the new content of a target. Returns 0 to replace the target by what was written; anything else leaves it as
 * it was. So does a callback that has written nothing, unless AWRITE_ALLOW_EMPTY is set: where a language turns an
 * exception of the callback into 0, as Python does, the file is not emptied. It must return: see Callbacks.
 */
typedef int (*awrite_update_fn)(awrite_update_io *io, void *context);

/**
 * Replaces a target by a block of memory.
 *
 * @param target the file, which need not exist.
 * @param data,size the new content. They are only read during the call. A size of 0, with which data may be NULL, needs
 * AWRITE_WRITE_ALLOW_EMPTY.
 * @param options NULL for the defaults.
 * @param result receives what was done; or NULL. Left alone on failure.
 *
 * @return AWRITE_OK; AWRITE_LOCKED; AWRITE_CONFLICT; AWRITE_BAD_ARGUMENT; AWRITE_ERROR; AWRITE_STOPPED by the check of
 * the options; AWRITE_NOT_DURABLE. Thread-safe.
 */
AWRITE_NODISCARD
awrite_status awrite_write(const char *target,
                           const void *data,
                           size_t size,
                           const awrite_write_options *options,
                           awrite_result *result);

/**
 * Reads and replaces a target under its lock, so that no other update is lost.
 *
 * @param target the file, which need not exist; its content is empty then.
 * @param change called once, on this thread, with the lock held. It must not write or lock the same target in any
 * other way.
 * @param context passed to change.
 * @param options NULL for the defaults.
 * @param result receives what was done; or NULL. Left alone on failure.
 *
 * @return AWRITE_OK; AWRITE_STOPPED if a callback returned anything but 0; AWRITE_ERROR, also if reading or writing
 * failed in the callback and it returned 0 even so, or if it wrote nothing without AWRITE_WRITE_ALLOW_EMPTY; AWRITE_LOCKED; AWRITE_CONFLICT; AWRITE_BAD_ARGUMENT;
 * AWRITE_NOT_DURABLE. Thread-safe.
 */
AWRITE_NODISCARD
awrite_status awrite_update(const char *target,
                            awrite_update_fn change,
                            void *context,
                            const awrite_write_options *options,
                            awrite_result *result);

/**
 * In a callback of awrite_update(): reads the next part of the current content.
 *
 * @param io what the callback was called with.
 * @param buffer,capacity where to put it, and how many bytes fit there. The buffer stays the caller's.
 * @param got receives the number of bytes that were read; 0 at the end of the content, or on failure.
 *
 * @return AWRITE_OK; AWRITE_ERROR; AWRITE_BAD_ARGUMENT. Only on the thread that runs the callback.
 */
AWRITE_NODISCARD
awrite_status awrite_update_read(awrite_update_io *io,
                                 void *buffer,
                                 size_t capacity,
                                 size_t *got);

/**
 * In a callback of awrite_update(): adds a block to the new content. It is buffered, so small ones are fine.
 *
 * @param io what the callback was called with.
 * @param data,size the block; data may be NULL if size is 0.
 *
 * @return AWRITE_OK; AWRITE_ERROR; AWRITE_BAD_ARGUMENT. Only on the thread that runs the callback.
 */
AWRITE_NODISCARD
awrite_status awrite_update_write(awrite_update_io *io,
                                  const void *data,
                                  size_t size);

/* === Writing piece by piece ========================================================================================
 *
 * A handle for a write of several steps: open, write as often as you like, commit, free.
 */

/**
 * A target that is being replaced piece by piece. Its lock is held from awrite_writer_open() on, unless
 * AWRITE_WRITE_LATE_LOCK puts that off. awrite_writer_commit() makes what was written the content of the target.
 *
 * Thread-safety: may be passed from thread to thread. Only one thread at a time may use it, in all its functions.
 */
typedef struct awrite_writer awrite_writer;

/**
 * Begins to replace a target.
 *
 * @param writer receives the handle, which must be freed with awrite_writer_free(); NULL on failure.
 * @param target the file, which need not exist.
 * @param options NULL for the defaults.
 *
 * @return AWRITE_OK; AWRITE_LOCKED; AWRITE_CONFLICT; AWRITE_BAD_ARGUMENT; AWRITE_ERROR. Thread-safe.
 */
AWRITE_NODISCARD
awrite_status awrite_writer_open(awrite_writer **writer,
                                 const char *target,
                                 const awrite_write_options *options);

/**
 * Adds a block to the new content. Not buffered: each call is a system call.
 *
 * @param data,size the block; data may be NULL if size is 0.
 *
 * @return AWRITE_OK; AWRITE_BAD_ARGUMENT; AWRITE_ERROR, after which the handle can only be freed: a commit fails. With
 * the same handle from one thread at a time.
 */
AWRITE_NODISCARD
awrite_status awrite_writer_write(awrite_writer *writer,
                                  const void *data,
                                  size_t size);

/**
 * Adds all that is left to read from a descriptor, up to its end. Needs constant memory. Where both are files and the
 * file system can, the kernel shares or copies the data.
 *
 * @param fd an open descriptor, which stays the caller's.
 * @param bytes receives the number of bytes that were added; or NULL. Left alone on failure.
 *
 * @return AWRITE_OK; AWRITE_BAD_ARGUMENT; AWRITE_ERROR, after which the handle can only be freed: a commit fails. With
 * the same handle from one thread at a time.
 */
AWRITE_NODISCARD
awrite_status awrite_writer_write_from(awrite_writer *writer,
                                       int fd,
                                       uint64_t *bytes);

/**
 * The descriptor of the new content, for fdopen(3), sendfile(2), mmap(2) and the like: a regular file, open for
 * reading and writing, that contains what was written so far, at whose end it stands. The commit takes the file as it
 * is then. What is in it counts as input, except for the old content with AWRITE_WRITE_APPEND. With expect or
 * AWRITE_WRITE_VERIFY, the commit reads it once more.
 *
 * It belongs to the handle, and exists until the commit: do not close it. For stdio, use fdopen() with a copy by
 * dup(), and call fclose() before the commit. The file has no name, or a temporary one, and is not yet as the target
 * will be.
 *
 * @return the descriptor; -1 on failure, and awrite_last_error() says why. With the same handle from one thread at a
 * time.
 */
int awrite_writer_fd(awrite_writer *writer);

/**
 * Opens the current content of the target for reading. It is what the lock protects, so no other update is lost.
 *
 * @param fd receives a descriptor at the beginning of the file, which the caller closes; -1 if there is no file, or on
 * failure.
 *
 * @return AWRITE_OK; AWRITE_BAD_ARGUMENT, also with AWRITE_WRITE_LATE_LOCK, since the lock is not held yet;
 * AWRITE_ERROR. With the same handle from one thread at a time.
 */
AWRITE_NODISCARD
awrite_status awrite_writer_open_old(awrite_writer *writer,
                                     int *fd);

/**
 * Makes what was written the target's content, and gives the lock back. Whatever it returns, the handle is used up, and
 * must still be freed; it is not used up only if AWRITE_BAD_ARGUMENT is about result.
 *
 * @param result receives what was done; or NULL. Left alone on failure.
 *
 * @return AWRITE_OK; AWRITE_LOCKED if the lock or the lease has been lost, or, with AWRITE_WRITE_LATE_LOCK, could not
 * be taken; AWRITE_CONFLICT; AWRITE_BAD_ARGUMENT; AWRITE_ERROR; AWRITE_STOPPED by the check of the options;
 * AWRITE_NOT_DURABLE. With the same handle from one thread at a time.
 */
AWRITE_NODISCARD
awrite_status awrite_writer_commit(awrite_writer *writer,
                                   awrite_result *result);

/**
 * Frees a handle; NULL is fine. If it was not committed, what was written is discarded, the target stays as it was,
 * and the lock is given back. In a forked child it frees the copy, and what the parent is doing goes on. No other call
 * with the same handle at the same time, or later. The writer of a set is freed with the set: this does nothing to it.
 */
void awrite_writer_free(awrite_writer *writer);

/* === Several files together ========================================================================================
 *
 * A set of files is replaced together, or not at all: whoever takes their locks sees all the old contents, or all the new
 * ones, also after a crash. awrite_set_open() takes all the locks, in an order that is the same for every caller. What is
 * written to each awrite_set_writer() is staged, and awrite_set_commit() replaces them all. A file to which nothing was
 * written, or the same as it contains, is left alone. After a crash behind the commit point, whoever takes the lock of one
 * of the files next finishes the work; so does awrite_housekeep() with AWRITE_CLEAN_TEMPS. All the files must be on one
 * file system. Programs that take no lock may see some files replaced and others not yet, for an instant.
 */

/**
 * Several files that are being replaced together. Their locks are held from awrite_set_open() on.
 *
 * Thread-safety: may be passed from thread to thread. Only one thread at a time may use it and its files, in all their
 * functions.
 */
typedef struct awrite_set awrite_set;

/**
 * Begins to replace several files, and takes their locks, or none of them.
 *
 * @param set receives the handle, which must be freed with awrite_set_free(); NULL on failure.
 * @param targets,count the files, which need not exist, at least one. Two names of one file are an error.
 * @param options for each of them; NULL for the defaults. The time to wait is about all of them together. Without
 * AWRITE_WRITE_LATE_LOCK, AWRITE_WRITE_IN_PLACE, AWRITE_WRITE_KEEP_INODE and check, which a set cannot have.
 *
 * @return AWRITE_OK; AWRITE_LOCKED; AWRITE_STOPPED if the notice function gave up the wait; AWRITE_CONFLICT;
 * AWRITE_BAD_ARGUMENT, also if the files are not all on one file system; AWRITE_ERROR. Thread-safe.
 */
AWRITE_NODISCARD
awrite_status awrite_set_open(awrite_set **set,
                              const char *const *targets,
                              size_t count,
                              const awrite_write_options *options);

/**
 * One file of a set, to be written with awrite_writer_write() and awrite_writer_write_from(). It belongs to the set: it is
 * not committed or freed by itself.
 *
 * @param number which one, from 0, in the order of the targets.
 *
 * Returns the file, which stays until the set is freed; NULL if there is none of this number, or if the set is NULL, used
 * up or the parent process's (awrite_last_error() says so then). With the same set from one thread at a time.
 */
awrite_writer *awrite_set_writer(awrite_set *set,
                                 size_t number);

/**
 * Replaces all files of the set by what was written to them, and gives the locks back. Whatever it returns, the set is used
 * up, and must still be freed.
 *
 * @return AWRITE_OK; AWRITE_LOCKED if a lock or a lease has been lost; AWRITE_CONFLICT; AWRITE_BAD_ARGUMENT; AWRITE_ERROR.
 * All files are as before then. AWRITE_NOT_DURABLE: the set is committed, and the files have their new contents or get
 * them as soon as anybody takes their locks. With the same set from one thread at a time.
 */
AWRITE_NODISCARD
awrite_status awrite_set_commit(awrite_set *set);

/**
 * What the commit has done with one file.
 *
 * @param number which one, from 0, in the order of the targets.
 * @param result receives it; its size must be set. Left alone on failure. For a file to which nothing was written, changed is 0.
 *
 * @return AWRITE_OK; AWRITE_BAD_ARGUMENT, also if the set has not been committed. With the same set from one thread at a
 * time.
 */
AWRITE_NODISCARD
awrite_status awrite_set_result(const awrite_set *set,
                                size_t number,
                                awrite_result *result);

/**
 * Frees a set and its files; NULL is fine. If it was not committed, every file stays as it was, and the locks are given
 * back. In a forked child it frees the copy, and what the parent is doing goes on. No other call with the same set at the
 * same time, or later.
 */
void awrite_set_free(awrite_set *set);

/* === Reading =======================================================================================================
 *
 * A target needs no lock to be read: what this library replaces is whole at every instant, so fopen(3) and open(2) do.
 * These functions are for who wants to read and then replace (with awrite_write_options.expect, without a lock between
 * the two), and for targets that are written in place, or several of them that belong together.
 */

/**
 * Reads all that a target contains, under its lock, which it shares with other readers. A symbolic link is followed.
 *
 * @param target the file, which must exist.
 * @param data receives the content, to be freed with awrite_free(). A zero byte is behind it, so that text is a
 * string. NULL on failure.
 * @param size receives its length, without that zero byte; 0 on failure.
 * @param digest receives what awrite_digest() would say of this content: AWRITE_DIGEST_SIZE bytes, left alone on
 * failure; or NULL.
 * @param options NULL for the defaults. The lock is shared in any case.
 *
 * @return AWRITE_OK; AWRITE_LOCKED; AWRITE_BAD_ARGUMENT; AWRITE_ERROR, with awrite_last_errno() ENOENT if there is no
 * such file. Thread-safe.
 */
AWRITE_NODISCARD
awrite_status awrite_read(const char *target,
                          void **data,
                          size_t *size,
                          char *digest,
                          const awrite_lock_options *options);

/**
 * Says what a target contains now: what awrite_write_options.expect takes, and a caller remembers while it thinks. No
 * lock is taken: what this library replaces is whole at every instant. A symbolic link is followed.
 *
 * @param target the file, which need not exist.
 * @param digest receives "sha256:" and 64 hexadecimal digits, or "absent". Left alone on failure.
 * @param capacity the size of that buffer, at least AWRITE_DIGEST_SIZE.
 *
 * @return AWRITE_OK; AWRITE_BAD_ARGUMENT; AWRITE_ERROR, also for a directory, a FIFO or a device. Thread-safe.
 */
AWRITE_NODISCARD
awrite_status awrite_digest(const char *target,
                            char *digest,
                            size_t capacity);

/* === Leases ========================================================================================================
 *
 * A lease keeps all other owners, and all writers without a lease, away from a target, across many processes, until it
 * is released or its time has passed. While you need it, call awrite_lease_refresh() in good time: nothing refreshes a
 * lease by itself. To write as its holder, set owner and token in the awrite_lock_options of the write.
 */

/**
 * A lease of a target.
 *
 * Thread-safety: may be passed from thread to thread. Only one thread at a time may use it, in all its functions.
 */
typedef struct awrite_lease awrite_lease;

/** awrite_lease_info.state */
typedef enum awrite_lease_state AWRITE_UINT32_ {
    /** There is none. */
    AWRITE_LEASE_NONE = 0,
    /** The target is leased. */
    AWRITE_LEASE_LIVE = 1,
    /** The time of the lease has passed, and nobody has taken it since. */
    AWRITE_LEASE_EXPIRED = 2
} awrite_lease_state;

/**
 * The lock and the lease of a target. Members about the lease are 0 or "" where there is none. Times are in
 * milliseconds since 1970, by the wall clock of the host that wrote the record.
 */
typedef struct awrite_lease_info {
    /** sizeof(awrite_lease_info), to be set by the caller. */
    size_t size;
    /** Whether there is a lease. */
    awrite_lease_state state;
    /** 1 if the target's lock is held at this moment, else 0. */
    uint32_t locked;
    /** The process that holds the lock; 0 where nobody does or it could not be found. */
    uint32_t lock_pid;
    /** The process that wrote the record of the lease. */
    uint32_t pid;
    /** The lease's token. */
    uint64_t token;
    /** How long a refresh lets it last, in milliseconds. */
    uint64_t ttl_ms;
    /** How long it still lasts, in milliseconds. */
    uint64_t left_ms;
    /** When it was acquired. */
    int64_t locked_at_ms;
    /** When it was last refreshed. */
    int64_t refreshed_at_ms;
    /** When it ends. */
    int64_t expires_at_ms;
    /** The owner of the lease. */
    char owner[256];
    /** The host that wrote the record. */
    char host[256];
    /** Why the lease was taken; "" if its owner did not say. */
    char reason[256];
    /** Since when the lock is held; 0 where it is not or that is not known. */
    int64_t lock_since_ms;
} awrite_lease_info;

/** What awrite_lease_info begins as: with its size, and all else default. */
#define AWRITE_LEASE_INFO_INIT \
    {sizeof(awrite_lease_info), AWRITE_LEASE_NONE, 0, 0, 0, 0, 0, 0, 0, 0, 0, "", "", "", 0}

/**
 * Takes a lease of a target, for some time from now. If the owner has it already, this refreshes it, and the token
 * stays. Waits for the lock, and for the end of another owner's lease, as the options say.
 *
 * @param lease receives the handle, which must be freed with awrite_lease_free(); NULL on failure.
 * @param target the file, which need not exist.
 * @param owner any text in UTF-8 of 1 to 255 bytes without control characters.
 * @param ttl_ms for how long, in milliseconds; at most ten years.
 * @param options NULL for the defaults. The members owner and token mean nothing here.
 *
 * @return AWRITE_OK; AWRITE_LOCKED if another owner's lease did not end in time; AWRITE_BAD_ARGUMENT; AWRITE_ERROR,
 * also if the record of a lease is there but cannot be understood. Thread-safe.
 */
AWRITE_NODISCARD
awrite_status awrite_lease_acquire(awrite_lease **lease,
                                   const char *target,
                                   const char *owner,
                                   uint64_t ttl_ms,
                                   const awrite_lock_options *options);

/**
 * Goes on with a lease that was detached (awrite_lease_detach(), awrite-lock --acquire): refreshes it.
 *
 * @param lease,target,owner,options as in awrite_lease_acquire().
 * @param token its token; 0: whichever lease the owner has.
 * @param ttl_ms for how long from now, in milliseconds; 0: for as long as the last time.
 *
 * @return AWRITE_OK; AWRITE_LOCKED if the lease is not this owner's (any more); AWRITE_BAD_ARGUMENT; AWRITE_ERROR.
 * Thread-safe.
 */
AWRITE_NODISCARD
awrite_status awrite_lease_resume(awrite_lease **lease,
                                  const char *target,
                                  const char *owner,
                                  uint64_t token,
                                  uint64_t ttl_ms,
                                  const awrite_lock_options *options);

/**
 * Refreshes a lease: it lasts its whole time again, from now. This works even after the time has passed, so long as
 * nobody else has taken the lease.
 *
 * @return AWRITE_OK; AWRITE_LOCKED if somebody else has the lease by now; AWRITE_LOCKED also if the target's lock
 * could not be taken in time, in which case the lease is unchanged and the caller should try again;
 * AWRITE_BAD_ARGUMENT; AWRITE_ERROR. With the same handle from one thread at a time.
 */
AWRITE_NODISCARD
awrite_status awrite_lease_refresh(awrite_lease *lease);

/**
 * The fencing token of a lease: greater than that of every lease of this target before. If the token is sent along
 * with what is done under the lease, a holder that is too late can be told from its successor.
 *
 * @return the token; 0 if the handle is NULL, used up, or the parent process's. With the same handle from one thread
 * at a time.
 */
uint64_t awrite_lease_token(const awrite_lease *lease);

/**
 * How long until the lease should be refreshed, in milliseconds; 0: now. It should be refreshed when a third of its
 * time has passed. After a sleep, ask again: the machine may have been suspended.
 *
 * @return 0 also if the handle is NULL, used up, or the parent process's. With the same handle from one thread at a
 * time.
 */
uint64_t awrite_lease_time_to_refresh(const awrite_lease *lease);

/**
 * Gives a lease back. The handle is still to be freed.
 *
 * @return AWRITE_OK, also if somebody else has it by now; AWRITE_LOCKED or AWRITE_ERROR if the record could not be
 * removed (the lease then ends by itself); AWRITE_BAD_ARGUMENT. With the same handle from one thread at a time.
 */
awrite_status awrite_lease_release(awrite_lease *lease);

/**
 * Leaves a lease standing until its end, so that another process can go on with it. The handle is used up and must
 * still be freed.
 *
 * @return AWRITE_OK; AWRITE_BAD_ARGUMENT. With the same handle from one thread at a time.
 */
awrite_status awrite_lease_detach(awrite_lease *lease);

/**
 * Frees a handle; NULL is fine. A lease that was neither released nor detached is given back; for that, this waits up
 * to a second for the target's lock. In a forked child it frees the copy, and the parent's lease stays. No other call
 * with the same handle at the same time, or later.
 */
void awrite_lease_free(awrite_lease *lease);

/**
 * Looks at the lock and the lease of a target. Changes nothing and waits for nothing.
 *
 * @param target the file, which need not exist.
 * @param options where its lock is; NULL for the defaults.
 * @param info receives the answer; its size must be set. Left alone on failure.
 *
 * @return AWRITE_OK, whether it is free or not; AWRITE_BAD_ARGUMENT; AWRITE_ERROR, also if the record of a lease is
 * there but cannot be understood. Thread-safe.
 */
AWRITE_NODISCARD
awrite_status awrite_lease_read(const char *target,
                                const awrite_lock_options *options,
                                awrite_lease_info *info);

/**
 * Gives back a lease that was detached, without a handle.
 *
 * @param target,owner,options as in awrite_lease_acquire().
 * @param token its token; 0: whichever lease the owner has.
 *
 * @return AWRITE_OK, also if there was none; AWRITE_LOCKED if somebody else has it, or if the lock could not be taken
 * in time; AWRITE_BAD_ARGUMENT; AWRITE_ERROR. Thread-safe.
 */
awrite_status awrite_lease_release_claimed(const char *target,
                                           const char *owner,
                                           uint64_t token,
                                           const awrite_lock_options *options);

/**
 * Ends the lease of a target, whoever has it. Whoever works under it finds out at the next refresh or write. The next
 * token is greater, as ever. For those who may write the target only.
 *
 * @param target,options as in awrite_lease_acquire().
 * @param info receives whose lease it was, its state is AWRITE_LEASE_NONE if there was none; its size must be set. Or
 * NULL.
 *
 * @return AWRITE_OK, also if there was none; AWRITE_LOCKED if the lock could not be taken in time;
 * AWRITE_BAD_ARGUMENT; AWRITE_ERROR, also if this user may not write the target. Thread-safe.
 */
awrite_status awrite_lease_break(const char *target,
                                 const awrite_lock_options *options,
                                 awrite_lease_info *info);

/* === What is held ==================================================================================================
 *
 * Who holds, leases or waits for the files in a directory.
 */

/** What awrite_hold_list() looks at, or-ed. */
typedef enum awrite_holds_flags AWRITE_UINT32_ {
    /** What is in the directory itself. */
    AWRITE_HOLDS_DEFAULT = 0,
    /** Also what is below the directory; never through symbolic links. */
    AWRITE_HOLDS_RECURSIVE = 1
} awrite_holds_flags;

/** awrite_hold.state. Later versions may add some: ignore those that you do not know. */
typedef enum awrite_hold_state AWRITE_UINT32_ {
    /** The process holds the lock. */
    AWRITE_HOLD_HELD = 1,
    /** The process waits for the lock. Known on Linux only. */
    AWRITE_HOLD_WAITING = 2,
    /** The target is leased. */
    AWRITE_HOLD_LEASED = 3
} awrite_hold_state;

/**
 * Somebody who holds, leases or waits for a target. The library makes it and its strings. They exist only during the
 * callback.
 */
typedef struct awrite_hold {
    /** The size of this struct in the library that runs. */
    size_t size;
    /** What the process, or the owner of the lease, does. */
    awrite_hold_state state;
    /** The process that holds the lock or waits for it; 0 where it could not be found, and for a lease. */
    uint32_t pid;
    /**
     * The target: the directory as it was given, and the path from there. The path of the lock file where its name
     * does not say which target it is of. Never NULL.
     */
    const char *target;
    /** The lock file. Never NULL. */
    const char *lock_file;
    /** The command line of the process. Never NULL; "" where it is not known. */
    const char *command;
    /** Since when, in milliseconds since 1970; 0 where it is not known. */
    int64_t since_ms;
    /** AWRITE_HOLD_LEASED: the lease. Otherwise NULL. */
    const awrite_lease_info *lease;
} awrite_hold;

/** Gets what is held, one by one. Returns 0 to go on; anything else stops it. It must return: see Callbacks. */
typedef int (*awrite_hold_fn)(const awrite_hold *hold, void *context);

/**
 * Tells who holds, leases or waits for the files in a directory, in the order of their names. Changes nothing and
 * waits for nothing. Those who wait for the end of a lease are not known.
 *
 * @param dir the directory.
 * @param flags AWRITE_HOLDS_*, or-ed.
 * @param options where the locks are: lock_dir; NULL for the defaults.
 * @param tell called on this thread for each of them; not NULL.
 * @param context passed to tell.
 *
 * @return AWRITE_OK; AWRITE_STOPPED if the callback returned anything but 0; AWRITE_ERROR if the directory could not
 * be read, or if something in it could not be looked at (the rest was told); AWRITE_BAD_ARGUMENT. Thread-safe.
 */
awrite_status awrite_hold_list(const char *dir,
                               awrite_holds_flags flags,
                               const awrite_lock_options *options,
                               awrite_hold_fn tell,
                               void *context);

/* === Housekeeping ==================================================================================================
 *
 * Deletes what crashed programs and time have left in a directory: lock files that nobody holds, the records of
 * expired leases, temporary files whose writer has gone, old backups. It may run while writers are at work: it breaks
 * no lock, and makes no writer fail.
 */

/** awrite_housekeep_options.flags, or-ed. */
typedef enum awrite_clean_flags AWRITE_UINT32_ {
    /** None of them. */
    AWRITE_CLEAN_NOTHING = 0,
    /**
     * Delete lock files that no process has open, of whatever program, and the records of
     * expired leases.
     */
    AWRITE_CLEAN_LOCKS = 1,
    /** Delete old backups, of whatever program. */
    AWRITE_CLEAN_BACKUPS = 2,
    /** Delete temporary files whose writer has gone. */
    AWRITE_CLEAN_TEMPS = 4,
    /** Look into subdirectories too, never through symbolic links. */
    AWRITE_CLEAN_RECURSIVE = 8,
    /** Do not go into directories where something else is mounted. */
    AWRITE_CLEAN_ONE_FILE_SYSTEM = 16,
    /** Delete nothing; tell what would be deleted. */
    AWRITE_CLEAN_DRY_RUN = 32,
    /**
     * Delete backups by their age alone or, without an age, all of them. Needed because a
     * keep_newest of 0 stands for its default.
     */
    AWRITE_CLEAN_KEEP_NONE = 64,
    /**
     * Delete lock files, backups and temporary files, but only what is awrite's own, whatever
     * else is in the directory: NAME.lock and NAME.backup where the regular file NAME is beside them, a lock file that no
     * process has open, backups with a time in their name. The last backup of a file stays, unless AWRITE_CLEAN_KEEP_NONE
     * says otherwise. Safe anywhere. The flags for one kind go by what a file looks like, whoever made it.
     */
    AWRITE_CLEAN_ALL = 128
} awrite_clean_flags;

/**
 * What housekeeping is to do. Without one of AWRITE_CLEAN_ALL, AWRITE_CLEAN_LOCKS, AWRITE_CLEAN_BACKUPS and
 * AWRITE_CLEAN_TEMPS there is nothing to do, which is an error. Strings are only read during the call.
 */
typedef struct awrite_housekeep_options {
    /** sizeof(awrite_housekeep_options). */
    size_t size;
    /** AWRITE_CLEAN_*, or-ed. */
    awrite_clean_flags flags;
    /** 0. */
    uint32_t reserved;
    /** Keep lock files that were modified less than this many seconds ago. 0: none is too young. */
    uint64_t locks_older_than_s;
    /** Keep temporary files that were modified less than this many seconds ago. 0: none is too young. */
    uint64_t temps_older_than_s;
    /** Delete only backups that are at least this many seconds old. 0: whatever their age. */
    uint64_t backups_older_than_s;
    /**
     * Keep this many of the newest backups of each file. 0: 1, or none where backups_older_than_s is set without
     * AWRITE_CLEAN_ALL.
     */
    uint64_t keep_newest;
    /** What the names of backups end with. NULL: ".backup". */
    const char *backup_suffix;
} awrite_housekeep_options;

/** What awrite_housekeep_options begins as: with its size, and all else default. */
#define AWRITE_HOUSEKEEP_OPTIONS_INIT \
    {sizeof(awrite_housekeep_options), AWRITE_CLEAN_NOTHING, 0, 0, 0, 0, 0, NULL}

/** awrite_housekeep_event.kind. Later versions may add kinds: ignore those that you do not know. */
typedef enum awrite_event_kind AWRITE_UINT32_ {
    /** The file has been deleted; in a dry run: would be. */
    AWRITE_EVENT_DELETED = 1,
    /** A file that looked like a leftover was left alone, for this reason. */
    AWRITE_EVENT_KEPT = 2,
    /** A directory was left out, for this reason. */
    AWRITE_EVENT_NOT_ENTERED = 3,
    /** Something could not be read or deleted, for this reason. The rest goes on. */
    AWRITE_EVENT_FAILED = 4
} awrite_event_kind;

/** awrite_housekeep_event.leftover: what kind of file it is. */
typedef enum awrite_leftover AWRITE_UINT32_ {
    /** None of these. */
    AWRITE_LEFTOVER_NONE = 0,
    /** A lock file. */
    AWRITE_LEFTOVER_LOCK = 1,
    /** The record of a lease. */
    AWRITE_LEFTOVER_LEASE = 2,
    /** A backup. */
    AWRITE_LEFTOVER_BACKUP = 3,
    /** A temporary file. */
    AWRITE_LEFTOVER_TEMP = 4
} awrite_leftover;

/**
 * Something that housekeeping tells while it works. The library makes it and its strings. They exist only during the
 * callback.
 */
typedef struct awrite_housekeep_event {
    /** The size of this struct in the library that runs. */
    size_t size;
    /** What has become of the file. */
    awrite_event_kind kind;
    /** What kind of file it is. */
    awrite_leftover leftover;
    /** The path of the file: the directory as it was given, and the path from there. Never NULL. */
    const char *path;
    /** Why. Never NULL; "" for AWRITE_EVENT_DELETED. */
    const char *reason;
    /** AWRITE_EVENT_DELETED: how many bytes the deletion has freed. */
    uint64_t bytes;
    /** AWRITE_EVENT_DELETED: how old the file was, in seconds. */
    uint64_t age_s;
} awrite_housekeep_event;

/** Gets the events of housekeeping. Returns 0 to go on; anything else stops it. It must return: see Callbacks. */
typedef int (*awrite_housekeep_fn)(const awrite_housekeep_event *event, void *context);

/** What housekeeping has done; in a dry run: would have done. */
typedef struct awrite_housekeep_summary {
    /** sizeof(awrite_housekeep_summary), to be set by the caller. */
    size_t size;
    /** Lock files deleted. */
    uint64_t locks;
    /** Records of leases deleted. */
    uint64_t leases;
    /** Backups deleted. */
    uint64_t backups;
    /** Temporary files deleted. */
    uint64_t temps;
    /** Bytes freed by the deletions. */
    uint64_t bytes;
    /** Directories looked at. */
    uint64_t directories;
    /** How many files and directories could not be read or deleted. */
    uint64_t failures;
    /** AWRITE_CLEAN_ALL: files that look like lock files and may be other programs', left alone. */
    uint64_t other_locks;
    /** The same of backups. */
    uint64_t other_backups;
} awrite_housekeep_summary;

/** What awrite_housekeep_summary begins as: with its size, and all else default. */
#define AWRITE_HOUSEKEEP_SUMMARY_INIT \
    {sizeof(awrite_housekeep_summary), 0, 0, 0, 0, 0, 0, 0, 0, 0}

/**
 * Deletes what the options name from a directory.
 *
 * @param dir the directory.
 * @param options what to delete; not NULL.
 * @param report called on this thread for each file that is deleted, kept, or cannot be deleted; NULL: nobody is told.
 * @param context passed to report.
 * @param summary receives what was done, also if the run was stopped or something failed; or NULL.
 *
 * @return AWRITE_OK; AWRITE_STOPPED if the callback returned anything but 0; AWRITE_ERROR if the directory could not
 * be read, or if something in it could not be read or deleted (the rest was done); AWRITE_BAD_ARGUMENT. Thread-safe.
 */
awrite_status awrite_housekeep(const char *dir,
                               const awrite_housekeep_options *options,
                               awrite_housekeep_fn report,
                               void *context,
                               awrite_housekeep_summary *summary);

#ifdef __cplusplus
} /* extern "C" */

/* In C++, flags of one family are or-ed to flags of that family. */
#define AWRITE_OR_FLAGS_(flags) \
    inline flags operator|(flags a, flags b) \
    { \
        return static_cast<flags>(static_cast<uint32_t>(a) | static_cast<uint32_t>(b)); \
    } \
    inline flags &operator|=(flags &a, flags b) \
    { \
        return a = a | b; \
    }
AWRITE_OR_FLAGS_(awrite_lock_flags)
AWRITE_OR_FLAGS_(awrite_write_flags)
AWRITE_OR_FLAGS_(awrite_holds_flags)
AWRITE_OR_FLAGS_(awrite_clean_flags)
#undef AWRITE_OR_FLAGS_
#endif

#endif /* AWRITE_H */
