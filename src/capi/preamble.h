/*
 * awrite.h: replace a file all-or-nothing and durably, under a lock that every cooperating writer takes too.
 *
 * The library behind the commands awrite, awrite-lock and awrite-housekeep. C programs take the same locks and leases
 * as they do, and make the same writes.
 *
 * One call replaces a file; whatever happens, it has the old content or the new:
 *
 *     if (awrite_write("config.json", text, strlen(text), NULL, NULL) != AWRITE_OK)
 *         fprintf(stderr, "%s\n", awrite_last_error());        // config.json: No space left on device
 *
 * Another changes a file by its own content, under its lock, so that no other update is lost: awrite_update(). The lock
 * alone is awrite_lock_acquire(), a lease that outlives this process awrite_lease_acquire(), and awrite_housekeep()
 * clears away what crashes left.
 *
 * What has several steps has a handle:
 *
 *     awrite_file *file;
 *     awrite_write_options options = { .size = sizeof options, .flags = AWRITE_BACKUP };
 *
 *     awrite_status status = awrite_file_open(&file, "report.txt", &options);
 *     if (status == AWRITE_OK)
 *         status = awrite_file_write(file, data, size);         // as often as you like
 *     if (status == AWRITE_OK)
 *         status = awrite_file_commit(file, NULL);              // now, and not before, the file is replaced
 *     awrite_file_free(file);                                   // without a commit: nothing has happened
 *
 *     open or acquire --> use --> commit, release or keep --> free
 *            |             `------------ give up -------------^
 *            `-- failed: the handle is NULL, and to free it is fine
 *
 * Handles.  Who gets one frees it, once, with the _free function of its kind, in whatever state it is. To free NULL
 * does nothing. A commit, a release, a keep uses the handle up, and all that is left to do is to free it. Freeing one
 * that is not used up gives up what was begun: the write is discarded, the lock or the lease is given back.
 *
 * Ownership.  What a call is given stays the caller's, and is only read during the call; what a callback's context
 * points to must stay for as long as the handle does. Strings that a call returns belong to the library or to the
 * handle, as is said there; nothing that the library returns is for free().
 *
 * Options.  A struct of options begins with its size, and every other member may be 0 or NULL, which is its default.
 * Set the size, leave the rest zero, and set what differs. In C, an initialiser does so, as above; in C++:
 * awrite_write_options options = {}; options.size = sizeof options;. A program built with one version of this header
 * runs with any later libawrite.so.1, and with an earlier one that has the functions it calls: options that this does
 * not know are refused, unless they are zero.
 *
 * Errors.  A call that fails returns a status and has changed nothing, unless the status says otherwise. On the same
 * thread, awrite_last_error() says why, awrite_last_hint() what can be done about it, and awrite_last_errno() which
 * system error it was. What is no error but should be known (a wait; a file system that cannot sync a directory) is
 * told to a callback: see Notices. A wrong argument is an error and no crash, as far as it can be told from a right
 * one: NULL, a size that cannot be, an unknown flag, a handle that is used up or belongs to the parent process. A bug
 * in the library is AWRITE_INTERNAL; a panic does not leave it (but Rust writes about it to standard error).
 *
 * Paths.  Bytes that end in a zero; relative ones start from the current directory.
 *
 * Threads.  All functions may be called by several threads at once. What is said of thread-safety at a handle's type
 * and at its functions is about calls with the same handle. Structs are plain data: the library keeps none of them, and
 * puts nothing into one but during the call that it is given to.
 *
 * Fork.  A handle belongs to the process that made it. In a forked child every function that does something with it
 * refuses it with AWRITE_BAD_ARGUMENT, but for _free, which frees the child's copy of it and leaves the parent's lock,
 * lease and write alone. Until it does, or calls exec, or ends, the child has copies of the descriptors: should the
 * parent die, a lock lasts until then. Handles of its own a child may make, unless it was forked while another thread
 * was in here.
 *
 * Signals.  The library handles none, and changes nothing that belongs to the whole process. None of its functions may
 * be called from a signal handler. A signal that the program handles does not end a wait or a write: for a wait that is
 * to end, give it a limit. A write beyond the limit on file sizes raises SIGXFSZ, unless that is ignored. A program
 * that is killed leaves the target whole and the lock free, and at the most a lock file and a temporary file for
 * awrite_housekeep().
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

#ifdef __cplusplus
extern "C" {
#endif
