/* Tries the arena: threads that allocate, resize, map, unmap and free at random, each byte of which is
 * theirs alone, and forks whose children see what was there. Ends with 0 where all held.
 *
 * Arguments: a file to have the arena in, rounds, a seed, the arena's library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4
#define HELD 24
#define PAGE 4096

#define MUST(holds)                                                                 \
    do {                                                                            \
        if (!(holds)) {                                                             \
            fprintf(stderr, "line %d: %s does not hold\n", __LINE__, #holds);       \
            _exit(1);                                                               \
        }                                                                           \
    } while (0)

struct held {
    unsigned char *at;
    size_t bytes, mapped; /* How much of it is mapped; none where malloc gave it. */
    uint64_t mark;
};

struct worker {
    uint64_t state, inside;
    long rounds;
    struct held held[HELD];
};

static unsigned char *base;
static size_t arena_bytes = (size_t)1 << 30;
static int (*is_whole)(void);

static uint64_t next(struct worker *worker) {
    worker->state ^= worker->state << 13;
    worker->state ^= worker->state >> 7;
    worker->state ^= worker->state << 17;
    return worker->state;
}

/* Marks so many of its bytes that an overlap with any other shows. */
static void mark(struct held *held, uint64_t mark) {
    held->mark = mark;
    for (size_t at = 0; at + 8 <= held->bytes; at += at + 520 < held->bytes ? 512 : 8)
        *(uint64_t *)(held->at + (at & ~7UL)) = mark ^ (at & ~7UL);
}

static int is_marked(const struct held *held, size_t until) {
    for (size_t at = 0; at + 8 <= until && at + 520 < held->bytes; at += 512)
        if (*(uint64_t *)(held->at + at) != (held->mark ^ at)) return 0;
    return 1;
}

static int is_zero(const unsigned char *at, size_t bytes) {
    for (size_t n = 0; n < bytes; n += n + 64 < bytes ? 61 : 1)
        if (at[n]) return 0;
    return 1;
}

static size_t some_size(struct worker *worker) {
    uint64_t chance = next(worker) % 10;
    if (chance < 2) return next(worker) % 5000 + 1;
    if (chance < 5) return ((size_t)1 << 20) - 5 + next(worker) % 10;
    if (chance < 7) return ((size_t)2 << 20) * (1 + next(worker) % 3) - 3 + next(worker) % 6;
    return ((size_t)1 << 20) + next(worker) % ((size_t)6 << 20);
}

static void give(struct held *held) {
    MUST(is_marked(held, held->bytes));
    if (held->mapped) MUST(munmap(held->at, held->mapped) == 0);
    else free(held->at);
    memset(held, 0, sizeof *held);
}

static void get(struct worker *worker, struct held *held) {
    size_t bytes = some_size(worker), align = (size_t)16 << next(worker) % 19;
    void *found = NULL;
    int zero = 0;
    switch (next(worker) % 5) {
    case 0: found = malloc(bytes); break;
    case 1: found = calloc(bytes / 7 + 1, 7), zero = 1; break;
    case 2: MUST(posix_memalign(&found, align, bytes) == 0 && (uintptr_t)found % align == 0); break;
    case 3: found = realloc(NULL, bytes); break;
    default:
        found = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        MUST(found != MAP_FAILED);
        held->mapped = bytes, zero = 1;
    }
    MUST(found);
    held->at = found, held->bytes = bytes;
    MUST(!zero || is_zero(held->at, bytes));
    MUST(held->mapped || malloc_usable_size(found) >= bytes);
    worker->inside += held->at >= base && held->at < base + arena_bytes;
}

static void change(struct worker *worker, struct held *held) {
    size_t bytes = some_size(worker), before = held->bytes;
    if (!held->mapped) {
        unsigned char *found = realloc(held->at, bytes);
        MUST(found);
        held->at = found, held->bytes = before < bytes ? before : bytes;
        MUST(is_marked(held, held->bytes > 520 ? held->bytes - 520 : 0));
        held->bytes = bytes;
        return;
    }
    size_t pages = (before + PAGE - 1) / PAGE, some = next(worker) % pages * PAGE;
    switch (next(worker) % 3) {
    case 0:
        MUST(madvise(held->at + some, before - some, MADV_DONTNEED) == 0);
        MUST(is_zero(held->at + some, before - some));
        break;
    case 1: /* As allocators do that want an address of a larger grain. */
        if (some) MUST(munmap(held->at, some) == 0);
        held->at += some, held->bytes -= some, held->mapped -= some;
        break;
    default: {
        void *found = mremap(held->at, held->mapped, bytes, MREMAP_MAYMOVE);
        MUST(found != MAP_FAILED);
        held->at = found, held->mapped = held->bytes = bytes;
        MUST(bytes <= before || is_zero(held->at + pages * PAGE,
                                        bytes > pages * PAGE ? bytes - pages * PAGE : 0));
    }
    }
}

/* A child sees what was there when it was forked, whatever its parent does then. */
static void fork_off(struct worker *worker) {
    int told[2];
    MUST(pipe(told) == 0);
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        char byte;
        MUST(read(told[0], &byte, 1) == 1);
        for (int n = 0; n < HELD; n++)
            if (worker->held[n].at) MUST(is_marked(&worker->held[n], worker->held[n].bytes));
        for (int n = 0; n < HELD; n++)
            if (worker->held[n].at) give(&worker->held[n]);
        void *more = malloc((size_t)5 << 20);
        MUST(more && ((unsigned char *)more < base || (unsigned char *)more >= base + arena_bytes));
        memset(more, 1, (size_t)5 << 20);
        _exit(0);
    }
    for (int n = 0; n < HELD; n++)
        if (worker->held[n].at) mark(&worker->held[n], next(worker));
    int status = 1;
    MUST(write(told[1], "x", 1) == 1 && waitpid(child, &status, 0) == child && status == 0);
    close(told[0]), close(told[1]);
}

static void *work(void *given) {
    struct worker *worker = given;
    for (long round = 0; round < worker->rounds; round++) {
        struct held *held = worker->held + next(worker) % HELD;
        if (!held->at) get(worker, held);
        else if (next(worker) % 3) give(held);
        else change(worker, held);
        if (held->at) mark(held, next(worker));
        if (next(worker) % 400 == 0) fork_off(worker);
        if (next(worker) % 50 == 0) MUST(is_whole());
    }
    for (int n = 0; n < HELD; n++)
        if (worker->held[n].at) give(&worker->held[n]);
    return NULL;
}

int main(int count, char **arguments) {
    MUST(count == 5);
    void *library = dlopen(arguments[4], RTLD_NOW);
    void *(*start)(int, size_t) = (void *(*)(int, size_t))dlsym(library, "headwater_arena_start");
    is_whole = (int (*)(void))dlsym(library, "headwater_arena_is_whole");
    int file = open(arguments[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    MUST(start && is_whole && file >= 0);
    base = start(file, arena_bytes);
    MUST(base);
    static struct worker workers[THREADS];
    pthread_t threads[THREADS];
    for (int n = 0; n < THREADS; n++) {
        workers[n].state = strtoull(arguments[3], NULL, 10) * 7919 + n * 104729 + 88172645463325252ULL;
        workers[n].rounds = strtol(arguments[2], NULL, 10);
        MUST(pthread_create(threads + n, NULL, work, workers + n) == 0);
    }
    uint64_t inside = 0;
    for (int n = 0; n < THREADS; n++) {
        MUST(pthread_join(threads[n], NULL) == 0);
        inside += workers[n].inside;
    }
    MUST(is_whole());
    /* All was freed: nothing of it is left in the file. */
    off_t data = lseek(file, 0, SEEK_DATA);
    MUST(inside > 0);
    printf("%lu in the arena, first left at %ld\n", (unsigned long)inside, (long)data);
    return data < 0 ? 0 : 1;
}
