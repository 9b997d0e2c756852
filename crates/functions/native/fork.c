/* The fork of a zygote into a sandbox that was made for it.
 *
 * Only a child that is born after its parent has entered a process namespace is in that namespace, so it
 * takes two forks. Whoever enters needs no memory of its own: it borrows the zygote's, which waits meanwhile,
 * so that the zygote's pages are shared out once and not twice, and nothing is copied that soon goes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What a clone enters: each of the doors of its control groups, then each of its namespaces. */
struct sandbox {
    const int *doors, *namespaces;
    int door_count, namespace_count;
};

static void tell(int status, const char *note, int bytes) {
    /* A line that a pipe takes at once; without a reader nobody waits for it. */
    if (bytes > 0 && write(status, note, (size_t)bytes) < 0) return;
}

static void tell_failed(int status, const char *step) {
    char note[256];
    const char *form = "{\"Failed\": {\"step\": \"%s\", \"error\": \"%s\"}}\n";
    tell(status, note, snprintf(note, sizeof note, form, step, strerror(errno)));
}

/* What fails; nothing where all is entered. */
static const char *enter(const struct sandbox *sandbox) {
    for (int index = 0; index < sandbox->door_count; index++) {
        if (write(sandbox->doors[index], "0", 1) != 1) return "join the control groups";
    }
    for (int index = 0; index < sandbox->namespace_count; index++) {
        if (setns(sandbox->namespaces[index], 0)) return "enter a namespace";
    }
    return NULL;
}

/* Enters a sandbox and forks in it. Returns in the clone alone, on a stack of its own. */
static __attribute__((noinline)) void fork_inside(const struct sandbox *sandbox, int status) {
    const char *failed = enter(sandbox);
    if (!failed) {
        pid_t clone = fork();
        if (clone == 0) return;
        if (clone > 0) {
            char note[64];
            tell(status, note, snprintf(note, sizeof note, "{\"Cloned\": {\"pid\": %d}}\n", (int)clone));
            _exit(0);
        }
        failed = "fork the zygote";
    }
    tell_failed(status, failed);
    _exit(1);
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
    if (entering < 0) tell_failed(status, "fork the zygote");
    sigprocmask(SIG_SETMASK, &usual, NULL);
    return entering == 0;
}
