/* The arena: large allocations of an instance in a file, so that what a function returns lies in that file
 * already and need not be copied to be handed over.
 *
 * Preloaded in zygotes, where it passes every call on. Switched on in an instance, after its fork, by
 * `headwater_arena_start`: from then on allocations of 1 MiB and more, whether by malloc and the like or by
 * anonymous mmap, are places in one shared mapping of the file that the server gave, which has huge pages.
 * What is freed is punched out of the file, so that it takes no memory and reads as zero.
 *
 * A forked child of the function gets a copy of its own, and allocates as everybody does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRAIN ((size_t)2 << 20)
#define PAGE ((size_t)4096)
#define LARGE ((size_t)1 << 20)
#define BLOCKS_MAX 32768

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

/* A place that is taken: from where in the arena on, how far its pages go, and how many bytes were asked
 * for, which is none where it was mapped. Sorted by place; between two of them is nothing. One as large as
 * a huge page begins with one. */
struct block {
    size_t start, end, asked;
};

static struct {
    _Atomic(char *) base; /* None: off. */
    size_t size;
    int file;
    _Atomic int frozen;
    pthread_mutex_t lock;
    size_t count, hint;
    struct block blocks[BLOCKS_MAX];
} arena = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t up(size_t number, size_t grain) { return (number + grain - 1) & ~(grain - 1); }

static int is_inside(const void *at) {
    char *base = atomic_load_explicit(&arena.base, memory_order_acquire);
    return base && (const char *)at >= base && (const char *)at < base + arena.size;
}

/* Gives memory back to the file system; it reads as zero from then on. */
static void punch(size_t start, size_t end) {
    if (end <= start) return;
    int saved = errno;
    int flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (syscall(SYS_fallocate, arena.file, flags, (off_t)start, (off_t)(end - start)) != 0) {
        /* Never leave what was there for somebody who expects zeros. */
        memset(arena.base + start, 0, end - start);
    }
    errno = saved;
}

/* The first block that ends behind a place. */
static size_t block_behind(size_t place) {
    size_t low = 0, high = arena.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (arena.blocks[middle].end > place) high = middle;
        else low = middle + 1;
    }
    return low;
}

static int insert(size_t index, struct block block) {
    if (arena.count == BLOCKS_MAX) return 0;
    memmove(arena.blocks + index + 1, arena.blocks + index, (arena.count - index) * sizeof block);
    arena.blocks[index] = block;
    arena.count++;
    return 1;
}

static void drop(size_t index) {
    arena.count--;
    memmove(arena.blocks + index, arena.blocks + index + 1,
            (arena.count - index) * sizeof arena.blocks[0]);
}

/* Looks for a gap from a place on, and takes it. */
static void *take_from(size_t from, size_t bytes, size_t asked, size_t align) {
    size_t index = block_behind(from);
    size_t place = from;
    for (;; index++) {
        place = up((size_t)arena.base + place, align) - (size_t)arena.base;
        size_t until = index < arena.count ? arena.blocks[index].start : arena.size;
        if (place <= until && until - place >= bytes) {
            if (!insert(index, (struct block){place, place + bytes, asked})) return NULL;
            arena.hint = place + bytes;
            return arena.base + place;
        }
        if (index >= arena.count) return NULL;
        place = arena.blocks[index].end;
    }
}

/* A new place of zeros; none where there is no room, or it is off. */
static void *take(size_t bytes, size_t asked, size_t align) {
    if (bytes > arena.size) return NULL;
    bytes = up(bytes, PAGE);
    size_t least = bytes < GRAIN ? LARGE : GRAIN;
    align = align < least ? least : align;
    pthread_mutex_lock(&arena.lock);
    void *found = NULL;
    if (arena.base && !arena.frozen) {
        found = take_from(arena.hint, bytes, asked, align);
        if (!found) found = take_from(0, bytes, asked, align);
    }
    pthread_mutex_unlock(&arena.lock);
    return found;
}

/* Punches out what is free now between two places, where it has huge pages to itself; the rest is only
 * cleared, since half a huge page cannot be given back without taking the page apart. */
static void punch_around(size_t start, size_t end) {
    size_t from = start & ~(GRAIN - 1), to = up(end, GRAIN);
    size_t index = block_behind(start);
    if (index > 0 && arena.blocks[index - 1].end > from) from += GRAIN;
    if (index < arena.count && arena.blocks[index].start < to) to -= GRAIN;
    if (from >= to) {
        memset(arena.base + start, 0, end - start);
        return;
    }
    if (from > start) memset(arena.base + start, 0, from - start);
    if (end > to) memset(arena.base + to, 0, end - to);
    punch(from, to);
}

/* Frees all that is taken between two places, whole pages of it. */
static void release(size_t start, size_t end) {
    pthread_mutex_lock(&arena.lock);
    if (!arena.frozen) {
        size_t index = block_behind(start);
        while (index < arena.count && arena.blocks[index].start < end) {
            struct block block = arena.blocks[index];
            size_t from = block.start > start ? block.start : start;
            size_t to = block.end < end ? block.end : end;
            drop(index);
            /* Somebody may have protected it; whoever gets it next does not expect that. */
            syscall(SYS_mprotect, arena.base + from, to - from, PROT_READ | PROT_WRITE);
            if (block.start < from) insert(index++, (struct block){block.start, from, block.asked});
            /* There was room for one; for a second there may be none: then it is gone for good. */
            if (to < block.end && !insert(index++, (struct block){to, block.end, 0})) index--;
            punch_around(from, to);
        }
    }
    pthread_mutex_unlock(&arena.lock);
}

/* What was asked for at an address that malloc gave; how far its pages go. */
static int find(const void *at, struct block *found) {
    size_t place = (size_t)((const char *)at - arena.base);
    pthread_mutex_lock(&arena.lock);
    size_t index = block_behind(place);
    int is_there = index < arena.count && arena.blocks[index].start <= place;
    if (is_there) *found = arena.blocks[index];
    pthread_mutex_unlock(&arena.lock);
    return is_there;
}

static void give_back(void *at) {
    struct block block;
    if (find(at, &block)) release(block.start, block.end);
}

static int wanted(size_t bytes) {
    return bytes >= LARGE && atomic_load_explicit(&arena.base, memory_order_relaxed);
}

void *malloc(size_t bytes) {
    void *found = wanted(bytes) ? take(bytes, bytes, GRAIN) : NULL;
    return found ? found : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t each) {
    size_t bytes;
    if (__builtin_mul_overflow(count, each, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    void *found = wanted(bytes) ? take(bytes, bytes, GRAIN) : NULL;
    return found ? found : __libc_calloc(count, each);
}

void free(void *at) {
    if (is_inside(at)) give_back(at);
    else __libc_free(at);
}

static size_t (*usable_size)(void *);

size_t malloc_usable_size(void *at) {
    struct block block;
    if (is_inside(at)) return find(at, &block) ? block.asked : 0;
    if (!usable_size) usable_size = (size_t (*)(void *))dlsym(RTLD_NEXT, "malloc_usable_size");
    return usable_size ? usable_size(at) : 0;
}

/* Up to the next one a block may grow, and it may shrink. */
static int resized(void *at, size_t bytes) {
    size_t place = (size_t)((char *)at - arena.base);
    int done = 0;
    pthread_mutex_lock(&arena.lock);
    size_t index = block_behind(place);
    if (index < arena.count && arena.blocks[index].start == place && bytes >= LARGE) {
        struct block *block = arena.blocks + index;
        size_t end = place + up(bytes, PAGE), before = block->end;
        size_t most = index + 1 < arena.count ? block[1].start : arena.size;
        if (bytes <= arena.size && end <= most && !arena.frozen) {
            block->end = end;
            block->asked = bytes;
            if (end < before) punch_around(end, before);
            done = 1;
        }
    }
    pthread_mutex_unlock(&arena.lock);
    return done;
}

void *realloc(void *at, size_t bytes) {
    int inside = at && is_inside(at);
    if (!inside && !wanted(bytes)) return __libc_realloc(at, bytes);
    if (!at) return malloc(bytes);
    if (inside && bytes == 0) {
        give_back(at);
        return NULL;
    }
    if (inside && resized(at, bytes)) return at;
    size_t before = malloc_usable_size(at);
    void *found = malloc(bytes);
    if (!found) return NULL;
    memcpy(found, at, before < bytes ? before : bytes);
    free(at);
    return found;
}

void *reallocarray(void *at, size_t count, size_t each) {
    size_t bytes;
    if (__builtin_mul_overflow(count, each, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(at, bytes);
}

void *memalign(size_t align, size_t bytes) {
    void *found = wanted(bytes) && (align & (align - 1)) == 0 ? take(bytes, bytes, align) : NULL;
    return found ? found : __libc_memalign(align, bytes);
}

void *aligned_alloc(size_t align, size_t bytes) { return memalign(align, bytes); }

int posix_memalign(void **found, size_t align, size_t bytes) {
    if (align < sizeof(void *) || (align & (align - 1))) return EINVAL;
    int saved = errno;
    void *made = memalign(align, bytes);
    errno = saved;
    if (!made) return ENOMEM;
    *found = made;
    return 0;
}

void *valloc(size_t bytes) { return memalign(PAGE, bytes); }
void *pvalloc(size_t bytes) { return memalign(PAGE, up(bytes, PAGE)); }

void *mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset) {
    int plain = MAP_PRIVATE | MAP_ANONYMOUS;
    /* Python's own memory for small objects comes in pieces of just 1 MiB. */
    if (bytes > LARGE && wanted(bytes) && !at && protection == (PROT_READ | PROT_WRITE) &&
        (flags & ~(MAP_NORESERVE | MAP_POPULATE)) == plain) {
        void *found = take(bytes, 0, GRAIN);
        if (found) return found;
    }
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, file, offset);
}

void *mmap64(void *at, size_t bytes, int protection, int flags, int file, off_t offset) {
    return mmap(at, bytes, protection, flags, file, offset);
}

int munmap(void *at, size_t bytes) {
    if (!is_inside(at)) return (int)syscall(SYS_munmap, at, bytes);
    if ((uintptr_t)at % PAGE || bytes == 0) {
        errno = EINVAL;
        return -1;
    }
    size_t start = (size_t)((char *)at - arena.base);
    size_t most = arena.size - start;
    release(start, start + (up(bytes, PAGE) < most ? up(bytes, PAGE) : most));
    return 0;
}

void *mremap(void *at, size_t before, size_t bytes, int flags, ...) {
    __builtin_va_list rest;
    __builtin_va_start(rest, flags);
    void *target = flags & MREMAP_FIXED ? __builtin_va_arg(rest, void *) : NULL;
    __builtin_va_end(rest);
    if (!is_inside(at)) return (void *)syscall(SYS_mremap, at, before, bytes, flags, target);
    before = up(before, PAGE);
    bytes = up(bytes, PAGE);
    if (bytes <= before && !(flags & MREMAP_FIXED)) {
        if (bytes < before) munmap((char *)at + bytes, before - bytes);
        return at;
    }
    if (!(flags & MREMAP_MAYMOVE) || (flags & ~MREMAP_MAYMOVE)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    void *found = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED) return found;
    memcpy(found, at, before);
    munmap(at, before);
    return found;
}

int madvise(void *at, size_t bytes, int advice) {
    if (!is_inside(at)) return (int)syscall(SYS_madvise, at, bytes, advice);
    size_t start = (size_t)((char *)at - arena.base);
    if (start % PAGE || bytes > arena.size - start) {
        errno = EINVAL;
        return -1;
    }
    /* Of shared memory the kernel would keep what was there. */
    if (advice == MADV_DONTNEED) {
        pthread_mutex_lock(&arena.lock);
        if (!arena.frozen) punch(start, start + up(bytes, PAGE));
        pthread_mutex_unlock(&arena.lock);
    }
    return 0;
}

/* Fork: the child copies what is taken before the parent goes on, and has no arena from then on. Its
 * memory stays at its addresses; what it frees of it is gone with it. */
static _Atomic int *copied;

static void before_fork(void) {
    pthread_mutex_lock(&arena.lock);
    if (!arena.base) return;
    copied = (void *)syscall(SYS_mmap, NULL, PAGE, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if ((void *)copied == MAP_FAILED) copied = NULL;
    else atomic_store(copied, getpid());
}

static void after_fork_in_parent(void) {
    if (copied) {
        /* A child that dies before it is done has nobody to tell of it; so look again now and then. */
        struct timespec {
            long seconds, nanoseconds;
        } soon = {0, 20000000};
        int mine = getpid();
        for (int looked = 0; atomic_load(copied) == mine && looked < 3000; looked++)
            syscall(SYS_futex, copied, FUTEX_WAIT, mine, &soon, NULL, 0);
        syscall(SYS_munmap, copied, PAGE);
        copied = NULL;
    }
    pthread_mutex_unlock(&arena.lock);
}

static void after_fork_in_child(void) {
    for (size_t index = 0; arena.base && index < arena.count; index++) {
        struct block *block = arena.blocks + index;
        size_t bytes = block->end - block->start;
        char *old = arena.base + block->start;
        char *made = (char *)syscall(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (made == MAP_FAILED) _exit(127);
        syscall(SYS_madvise, made, bytes, MADV_HUGEPAGE);
        for (size_t at = 0; at < bytes;) {
            /* What nobody touched is a hole, and stays one. */
            off_t data = syscall(SYS_lseek, arena.file, (off_t)(block->start + at), SEEK_DATA);
            if (data < 0 || (size_t)data >= block->end) break;
            off_t hole = syscall(SYS_lseek, arena.file, data, SEEK_HOLE);
            size_t until = hole < 0 || (size_t)hole > block->end ? block->end : (size_t)hole;
            memcpy(made + ((size_t)data - block->start), arena.base + data, until - (size_t)data);
            at = until - block->start;
        }
        if ((char *)syscall(SYS_mremap, made, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, old) != old)
            _exit(127);
    }
    if (arena.base) {
        syscall(SYS_close, arena.file);
        /* Everything is taken for good: frees do nothing, and nothing new is given. */
        atomic_store(&arena.frozen, 1);
    }
    if (copied) {
        atomic_store(copied, 0);
        syscall(SYS_futex, copied, FUTEX_WAKE, 1, NULL, NULL, 0);
        syscall(SYS_munmap, copied, PAGE);
        copied = NULL;
    }
    pthread_mutex_init(&arena.lock, NULL);
}

/* Switches it on: a file of the server's, and how many bytes of addresses it may have. Answers where it is
 * mapped; none where that failed. */
void *headwater_arena_start(int file, size_t size) {
    static int handlers;
    size = up(size, GRAIN);
    if (arena.base || syscall(SYS_ftruncate, file, (off_t)size) != 0) return NULL;
    char *all = (char *)syscall(SYS_mmap, NULL, size + GRAIN, PROT_NONE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) return NULL;
    char *base = (char *)up((size_t)all, GRAIN);
    if ((char *)syscall(SYS_mmap, base, size, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_FIXED | MAP_NORESERVE, file, 0) != base)
        return NULL;
    if (!handlers && pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) != 0)
        return NULL;
    handlers = 1;
    arena.file = file;
    arena.size = size;
    arena.count = arena.hint = 0;
    atomic_store(&arena.frozen, 0);
    atomic_store(&arena.base, base);
    return base;
}

/* From here on nothing that is there changes by a free, and nothing new comes. */
void headwater_arena_freeze(void) {
    pthread_mutex_lock(&arena.lock);
    atomic_store(&arena.frozen, 1);
    pthread_mutex_unlock(&arena.lock);
}

/* Has the file hold what nobody has touched yet between two addresses, so that it has no holes there. */
int headwater_arena_fill(const char *at, size_t bytes) {
    if (!is_inside(at) || bytes > arena.size - (size_t)(at - arena.base)) return 0;
    size_t place = (size_t)(at - arena.base), end = place + bytes;
    while (place < end) {
        off_t hole = syscall(SYS_lseek, arena.file, (off_t)place, SEEK_HOLE);
        if (hole < 0) return 0;
        if ((size_t)hole >= end) return 1;
        off_t data = syscall(SYS_lseek, arena.file, hole, SEEK_DATA);
        place = data < 0 || (size_t)data > end ? end : (size_t)data;
        /* A write, since what is only read may stay a hole. */
        for (size_t page = (size_t)hole & ~(PAGE - 1); page < place; page += PAGE)
            __atomic_fetch_or(arena.base + page, 0, __ATOMIC_RELAXED);
    }
    return 1;
}

/* Whether it is whole: its places lie side by side in it. For tests. */
int headwater_arena_is_whole(void) {
    int whole = 1;
    size_t end = 0;
    pthread_mutex_lock(&arena.lock);
    for (size_t index = 0; index < arena.count; index++) {
        struct block *block = arena.blocks + index;
        whole &= block->start >= end && block->end > block->start && block->end <= arena.size;
        end = block->end;
    }
    pthread_mutex_unlock(&arena.lock);
    return whole;
}
