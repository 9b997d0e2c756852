/* Forks a zygote into an existing sandbox.
 *
 * A process is in a PID namespace only if it was forked after its parent entered the namespace, so two forks
 * are necessary. The first child (the helper) enters the namespaces. It is created by vfork and uses the
 * zygote's memory while the zygote waits. So the zygote's page tables are copied once instead of twice.
 *
 * The helper stays in the zygote's control groups. In the control groups of the function, the CPU limit of the
 * function could delay the helper and the zygote, and an out-of-memory kill could end both.
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

/* Descriptors of a sandbox: the files for joining its control groups, and its namespaces. */
struct sandbox {
    const int *cgroup_files, *namespaces;
    int cgroup_file_count, namespace_count;
};

/* Symbols of the C library: the location of a thread's restartable sequences (rseq). */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));
#define RSEQ_BYTES_MIN 32
#if defined(SYS_rseq) && __has_builtin(__builtin_thread_pointer) /* As in the C library. */
#if defined(__x86_64__)
#define RSEQ_SIGNATURE 0x53053053
#elif defined(__aarch64__)
#define RSEQ_SIGNATURE 0xd428bc00
#endif
#endif

static void report(int status, const char *note, int bytes) {
    /* A pipe accepts a short line immediately. If the pipe has no reader, the line is not needed. */
    if (bytes > 0 && write(status, note, (size_t)bytes) < 0) return;
}

/* Registers this thread for restartable sequences. The kernel has no registration for a clone of a vfork child,
 * but the C library assumes that there is one. */
static void register_thread(void) {
#ifdef RSEQ_SIGNATURE
    if (!&__rseq_size || !__rseq_size) return;
    size_t bytes = __rseq_size < RSEQ_BYTES_MIN ? RSEQ_BYTES_MIN : __rseq_size;
    syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, bytes, 0, RSEQ_SIGNATURE);
#endif
}

/* Reports the failed step, and exits. */
static void fail(int status, const char *step) {
    char note[256];
    const char *form = "{\"Failed\": {\"step\": \"%s\", \"error\": \"%s\"}}\n";
    report(status, note, snprintf(note, sizeof note, form, step, strerror(errno)));
    _exit(1);
}

/* Enters a sandbox and forks in it. Returns only in the clone, which has its own stack. */
static __attribute__((noinline)) void fork_inside(const struct sandbox *sandbox, int status) {
    for (int index = 0; index < sandbox->namespace_count; index++) {
        if (setns(sandbox->namespaces[index], 0)) fail(status, "enter a namespace");
    }
    /* The end of a clone must be reported even if the clone ends before this process. */
    signal(SIGCHLD, SIG_DFL);
    pid_t clone = fork();
    if (clone < 0) fail(status, "fork a process");
    if (clone == 0) {
        register_thread();
        /* Join first, so that the memory that the clone uses is charged to its function. */
        for (int index = 0; index < sandbox->cgroup_file_count; index++) {
            if (write(sandbox->cgroup_files[index], "0", 1) != 1) fail(status, "join the control groups");
        }
        return;
    }
    char note[64];
    report(status, note, snprintf(note, sizeof note, "{\"Cloned\": {\"pid\": %d}}\n", (int)clone));
    _exit(0);
}

/* Forks into a sandbox, and reports the clone or the failed step to the spawner. Returns true in the clone. Must
 * be called by the only thread of the process, which holds Python's lock. */
int headwater_fork(const int *cgroup_files, int cgroup_file_count, const int *namespaces, int namespace_count,
                   int status) {
    struct sandbox sandbox = {cgroup_files, namespaces, cgroup_file_count, namespace_count};
    /* Block signals: a signal handler in the helper would run in the zygote's memory. */
    sigset_t all, usual;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &usual);
    pid_t helper = vfork();
    if (helper == 0) fork_inside(&sandbox, status);
    if (helper < 0) {
        char note[] = "{\"Failed\": {\"step\": \"fork a process\", \"error\": \"vfork failed\"}}\n";
        report(status, note, sizeof note - 1);
    }
    sigprocmask(SIG_SETMASK, &usual, NULL);
    return helper == 0;
}
