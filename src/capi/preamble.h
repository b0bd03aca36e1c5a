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
#define AWRITE_VERSION_MAJOR @MAJOR@
#define AWRITE_VERSION_MINOR @MINOR@
#define AWRITE_VERSION_PATCH @PATCH@
#define AWRITE_VERSION "@MAJOR@.@MINOR@.@PATCH@"
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
