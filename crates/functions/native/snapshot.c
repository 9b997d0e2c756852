/* The snapshot: what a zygote holds when it is done with importing, in one file that nobody can write, mapped
 * privately where it was before.
 *
 * A clone that only looks at an object writes to it: Python counts who refers to it, and the kernel copies
 * the page. When the clone is done the count is what it was, but the copy stays the clone's own. Over a file
 * such a copy can be given back: the kernel then shows the page of the file again, which all clones share.
 * `headwater_snapshot` makes the file, once and before the first clone; `headwater_rest` gives back what a
 * clone holds copies of for nothing, while it waits for its next call.
 *
 * It covers Python's own arenas and the heap that the C library extends by `brk`. Others that map memory may
 * count on what they give back reading as zero, and are left alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define ARENAS_MAX 16384
#define POPULATE_READ 22 /* As the kernel has it. */
#define CHUNK 512 /* Pages that are looked at together. */
#define COPIED (1ull << 63 | 1ull << 62) /* There, or swapped out. */
#define OF_FILE (1ull << 61)

struct range {
    size_t start, end;
};

/* As `PyObjectArenaAllocator` is defined. */
struct allocator {
    void *context;
    void *(*alloc)(void *, size_t);
    void (*free)(void *, void *, size_t);
};

typedef void (*accessor)(struct allocator *);

static size_t page_bytes;
static struct allocator below;
static struct range ranges[ARENAS_MAX + 1];
static size_t count;

static const char *original; /* The whole file, as it was made. */
static size_t original_bytes;
static dev_t device;
static ino_t inode;

static void *arena_alloc(void *context, size_t bytes) {
    (void)context;
    char *at = below.alloc(below.context, bytes);
    if (at && !original) {
        if (count < ARENAS_MAX) ranges[count++] = (struct range){(size_t)at, (size_t)at + bytes};
    }
    return at;
}

static void arena_free(void *context, void *at, size_t bytes) {
    (void)context;
    for (size_t index = 0; !original && index < count; index++) {
        if (ranges[index].start == (size_t)at) {
            ranges[index] = ranges[--count];
            break;
        }
    }
    below.free(below.context, at, bytes);
}

/* Before Python starts, so that no arena is missed. */
__attribute__((constructor)) static void watch_arenas(void) {
    page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    accessor get = (accessor)dlsym(RTLD_DEFAULT, "PyObject_GetArenaAllocator");
    accessor set = (accessor)dlsym(RTLD_DEFAULT, "PyObject_SetArenaAllocator");
    if (!get || !set) return;
    get(&below);
    if (!below.alloc || !below.free) return;
    struct allocator watched = {NULL, arena_alloc, arena_free};
    set(&watched);
}

static int compare(const void *one, const void *other) {
    size_t a = ((const struct range *)one)->start, b = ((const struct range *)other)->start;
    return a < b ? -1 : a > b;
}

/* The next line of `/proc/self/maps`; in a buffer of its own, since to allocate would change what is read. */
struct lines {
    int file;
    size_t from, until;
    char buffer[8192];
};

static int next_line(struct lines *lines, char *line, size_t most) {
    size_t length = 0;
    for (;;) {
        if (lines->from == lines->until) {
            ssize_t got = read(lines->file, lines->buffer, sizeof lines->buffer);
            if (got <= 0) return 0;
            lines->from = 0, lines->until = (size_t)got;
        }
        char one = lines->buffer[lines->from++];
        if (one == '\n') break;
        if (length + 1 < most) line[length++] = one;
    }
    line[length] = 0;
    return 1;
}

struct mapping {
    size_t start, end, offset;
    unsigned major, minor;
    unsigned long inode;
    int is_heap;
};

static int next_mapping(struct lines *lines, struct mapping *mapping) {
    static char line[512];
    while (next_line(lines, line, sizeof line)) {
        char access[8];
        int found = sscanf(line, "%zx-%zx %7s %zx %x:%x %lu", &mapping->start, &mapping->end, access,
                           &mapping->offset, &mapping->major, &mapping->minor, &mapping->inode);
        if (found == 7) {
            mapping->is_heap = strstr(line, "[heap]") != NULL;
            return 1;
        }
    }
    return 0;
}

static struct lines lines;
static uint64_t entries[CHUNK];

/* What the kernel says of pages; how many it says it of. */
static size_t look(int pagemap, size_t at, size_t end) {
    size_t pages = (end - at) / page_bytes;
    if (pages > CHUNK) pages = CHUNK;
    ssize_t got = pread(pagemap, entries, pages * 8, (off_t)(at / page_bytes * 8));
    return got > 0 ? (size_t)got / 8 : 0;
}

static int write_all(int file, size_t from, size_t bytes, size_t at) {
    while (bytes) {
        ssize_t done = pwrite(file, (const void *)from, bytes, (off_t)at);
        if (done <= 0) return 0;
        from += (size_t)done, at += (size_t)done, bytes -= (size_t)done;
    }
    return 1;
}

/* Writes the pages of a range that anybody ever wrote to; the others read as zero. */
static int write_range(int file, int pagemap, struct range range, size_t offset) {
    for (size_t at = range.start; at < range.end;) {
        size_t pages = look(pagemap, at, range.end);
        if (!pages) return 0;
        for (size_t page = 0; page < pages;) {
            size_t run = 0;
            while (page + run < pages && (entries[page + run] & COPIED)) run++;
            size_t from = at + page * page_bytes;
            if (run && !write_all(file, from, run * page_bytes, offset + from - range.start)) return 0;
            page += run ? run : 1;
        }
        at += pages * page_bytes;
    }
    return 1;
}

/* Nobody else runs meanwhile, and nothing that lies there is used. */
static void map_over(int file) {
    size_t offset = 0;
    for (size_t index = 0; index < count; index++) {
        size_t start = ranges[index].start, bytes = ranges[index].end - start;
        int how = MAP_PRIVATE | MAP_FIXED;
        long at = syscall(SYS_mmap, start, bytes, PROT_READ | PROT_WRITE, how, file, offset);
        if (at == -1) abort(); /* What lay there may be gone. */
        /* So that no clone has to ask for each page that it reads; older kernels cannot. */
        madvise((void *)start, bytes, POPULATE_READ);
        offset += bytes;
    }
}

/* Moves what this process has allocated so far to a file; how many bytes, or none where it stays. To be
 * called by the only thread. */
size_t headwater_snapshot(void) {
    if (original) return 0;
    int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    int file = memfd_create("headwater-snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    lines = (struct lines){.file = maps};
    struct mapping mapping;
    while (next_mapping(&lines, &mapping)) {
        if (mapping.is_heap && count <= ARENAS_MAX) {
            ranges[count++] = (struct range){mapping.start, mapping.end};
        }
    }
    qsort(ranges, count, sizeof ranges[0], compare);
    size_t bytes = 0, done = 0;
    for (size_t index = 0; index < count; index++) {
        size_t size = ranges[index].end - ranges[index].start;
        if (pagemap < 0 || file < 0 || !write_range(file, pagemap, ranges[index], bytes)) goto end;
        bytes += size;
    }
    int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    struct stat status;
    if (ftruncate(file, (off_t)bytes) || fcntl(file, F_ADD_SEALS, seals) || fstat(file, &status)) goto end;
    void *view = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file, 0);
    if (view == MAP_FAILED) goto end;
    original = view, original_bytes = bytes;
    device = status.st_dev, inode = status.st_ino;
    map_over(file);
    done = bytes;
end:
    close(maps), close(pagemap), close(file);
    return done;
}

/* Gives back the copies in a range that are as they were. */
static size_t give_back(int pagemap, const struct mapping *mapping) {
    size_t given = 0;
    for (size_t at = mapping->start; at < mapping->end;) {
        size_t pages = look(pagemap, at, mapping->end);
        if (!pages) break;
        size_t run = 0;
        for (size_t page = 0; page <= pages; page++) {
            char *own = (char *)at + page * page_bytes;
            const char *was = original + mapping->offset + ((size_t)own - mapping->start);
            int copied = page < pages && (entries[page] & COPIED) && !(entries[page] & OF_FILE);
            if (copied && memcmp(own, was, page_bytes) == 0) {
                run++;
            } else if (run) {
                size_t bytes = run * page_bytes;
                if (madvise(own - bytes, bytes, MADV_DONTNEED) == 0) given += bytes;
                run = 0;
            }
        }
        at += pages * page_bytes;
    }
    return given;
}

/* Gives back every copy of a page that is as it was in the zygote; how many bytes. To be called by the only
 * thread: nobody else may write meanwhile. */
size_t headwater_rest(void) {
    if (!original) return 0;
    int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    lines = (struct lines){.file = maps};
    struct mapping mapping;
    size_t given = 0;
    while (pagemap >= 0 && next_mapping(&lines, &mapping)) {
        int is_ours = mapping.inode == inode && makedev(mapping.major, mapping.minor) == device &&
                      mapping.start != (size_t)original;
        if (is_ours && mapping.offset + (mapping.end - mapping.start) <= original_bytes) {
            given += give_back(pagemap, &mapping);
        }
    }
    /* What was only looked at here is nothing that this process holds. */
    madvise((void *)original, original_bytes, MADV_DONTNEED);
    close(maps), close(pagemap);
    return given;
}
