/* The fork of a zygote into a sandbox that was made for it.
 *
 * Only a child that is born after its parent has entered a process namespace is in that namespace, so it
 * takes two forks. Whoever enters needs no memory of its own: it borrows the zygote's, which waits meanwhile,
 * so that the zygote's pages are shared out once and not twice, and nothing is copied that soon goes.
 *
 * It stays in the zygote's control groups: in the function's own it could be held up by the function's share
 * of the processors, and the zygote with it, or be ended together with what shares its memory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What a clone enters: each of the doors of its control groups, then each of its namespaces. */
struct sandbox {
    const int *doors, *namespaces;
    int door_count, namespace_count;
};

/* Of the C library, where it registers threads with the kernel for restartable sequences. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));
#define RSEQ_BYTES_MIN 32
#if defined(SYS_rseq) && __has_builtin(__builtin_thread_pointer) /* As wherever the C library registers. */
#if defined(__x86_64__)
#define RSEQ_SIGNATURE 0x53053053
#elif defined(__aarch64__)
#define RSEQ_SIGNATURE 0xd428bc00
#endif
#endif

static void tell(int status, const char *note, int bytes) {
    /* A line that a pipe takes at once; without a reader nobody waits for it. */
    if (bytes > 0 && write(status, note, (size_t)bytes) < 0) return;
}

/* A child of somebody who borrows memory is not registered, though the C library thinks so. */
static void register_thread(void) {
#ifdef RSEQ_SIGNATURE
    if (!&__rseq_size || !__rseq_size) return;
    size_t bytes = __rseq_size < RSEQ_BYTES_MIN ? RSEQ_BYTES_MIN : __rseq_size;
    syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, bytes, 0, RSEQ_SIGNATURE);
#endif
}

/* Ends this process, saying why. */
static void fail(int status, const char *step) {
    char note[256];
    const char *form = "{\"Failed\": {\"step\": \"%s\", \"error\": \"%s\"}}\n";
    tell(status, note, snprintf(note, sizeof note, form, step, strerror(errno)));
    _exit(1);
}

/* Enters a sandbox and forks in it. Returns in the clone alone, on a stack of its own. */
static __attribute__((noinline)) void fork_inside(const struct sandbox *sandbox, int status) {
    for (int index = 0; index < sandbox->namespace_count; index++) {
        if (setns(sandbox->namespaces[index], 0)) fail(status, "enter a namespace");
    }
    /* The clone must not go unnoticed that ends before this process does. */
    signal(SIGCHLD, SIG_DFL);
    pid_t clone = fork();
    if (clone < 0) fail(status, "fork the zygote");
    if (clone == 0) {
        register_thread();
        /* First, so that what the clone touches is its function's. */
        for (int index = 0; index < sandbox->door_count; index++) {
            if (write(sandbox->doors[index], "0", 1) != 1) fail(status, "join the control groups");
        }
        return;
    }
    char note[64];
    tell(status, note, snprintf(note, sizeof note, "{\"Cloned\": {\"pid\": %d}}\n", (int)clone));
    _exit(0);
}

/* Forks into a sandbox and tells the spawner so, or what failed; true in the clone. To be called by the only
 * thread, which holds Python's lock. */
int headwater_fork(const int *doors, int door_count, const int *namespaces, int namespace_count, int status) {
    struct sandbox sandbox = {doors, namespaces, door_count, namespace_count};
    /* A handler would run in borrowed memory. */
    sigset_t all, usual;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &usual);
    pid_t entering = vfork();
    if (entering == 0) fork_inside(&sandbox, status);
    if (entering < 0) {
        char note[] = "{\"Failed\": {\"step\": \"fork the zygote\", \"error\": \"none is made\"}}\n";
        tell(status, note, sizeof note - 1);
    }
    sigprocmask(SIG_SETMASK, &usual, NULL);
    return entering == 0;
}
