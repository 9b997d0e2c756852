/* The snapshot of a zygote: its heap after the imports, in one sealed file that is mapped privately at the
 * original addresses.
 *
 * Python writes to an object even when it only reads it, because it updates the reference count. The kernel
 * then copies the page for the clone. Afterwards the count is the same as before, but the clone keeps the
 * copy. If the page is mapped from a file, the copy can be dropped: the kernel then shows the page of the
 * file again, which all clones share.
 *
 * `headwater_snapshot` creates the file, once, before the first clone. `headwater_rest` drops the unchanged
 * copies of an idle clone.
 *
 * The snapshot covers Python's arenas and the heap that the C library extends by `brk`. Other mappings are not
 * covered, because their allocators may expect that dropped pages read as zero.
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
#define POPULATE_READ 22 /* MADV_POPULATE_READ of the kernel. */
#define CHUNK 512 /* Number of pages that are examined together. */
#define COPIED (1ull << 63 | 1ull << 62) /* Page map flags: present, or swapped out. */
#define OF_FILE (1ull << 61) /* Page map flag: a page of a file. */

struct range {
    size_t start, end;
};

/* The layout of `PyObjectArenaAllocator`. */
struct allocator {
    void *context;
    void *(*alloc)(void *, size_t);
    void (*free)(void *, void *, size_t);
};

typedef void (*accessor)(struct allocator *);

static size_t page_bytes;
static struct allocator below; /* The original allocator. */
static struct range ranges[ARENAS_MAX + 1];
static size_t count;

static const char *original; /* A read-only mapping of the whole file. */
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

/* Records all arenas. Runs before Python starts, so that no arena is missed. */
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

/* A reader of the lines of `/proc/self/maps`. It has its own buffer, because an allocation would change the
 * mappings that are read. */
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

/* Reads the page map entries of the pages of a range. Returns the number of entries. */
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

/* Writes the pages of a range that were ever written to. The other pages read as zero. */
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

/* Maps the file over the ranges. No other thread runs, and this function does not use memory in the ranges. */
static void map_over(int file) {
    size_t offset = 0;
    for (size_t index = 0; index < count; index++) {
        size_t start = ranges[index].start, bytes = ranges[index].end - start;
        int how = MAP_PRIVATE | MAP_FIXED;
        long at = syscall(SYS_mmap, start, bytes, PROT_READ | PROT_WRITE, how, file, offset);
        if (at == -1) abort(); /* The previous content may be lost. */
        /* Populate the mapping, so that clones have no page fault for each page that they read. Older kernels do
         * not support this. */
        madvise((void *)start, bytes, POPULATE_READ);
        offset += bytes;
    }
}

/* Moves the heap of this process to a file. Returns the number of bytes; 0 if the heap was not moved. Must be
 * called by the only thread of the process. */
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

/* Drops the copied pages of a range that are equal to those of the file. Returns their number of bytes. */
static size_t drop_copies(int pagemap, const struct mapping *mapping) {
    size_t dropped = 0;
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
                if (madvise(own - bytes, bytes, MADV_DONTNEED) == 0) dropped += bytes;
                run = 0;
            }
        }
        at += pages * page_bytes;
    }
    return dropped;
}

/* Drops every copied page that is equal to the page of the zygote. Returns the number of bytes. Must be called
 * by the only thread of the process, because no other thread may write during the comparison. */
size_t headwater_rest(void) {
    if (!original) return 0;
    int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    lines = (struct lines){.file = maps};
    struct mapping mapping;
    size_t dropped = 0;
    while (pagemap >= 0 && next_mapping(&lines, &mapping)) {
        int is_ours = mapping.inode == inode && makedev(mapping.major, mapping.minor) == device &&
                      mapping.start != (size_t)original;
        if (is_ours && mapping.offset + (mapping.end - mapping.start) <= original_bytes) {
            dropped += drop_copies(pagemap, &mapping);
        }
    }
    /* Drop the pages that were read only for the comparison, so that they are not charged to this process. */
    madvise((void *)original, original_bytes, MADV_DONTNEED);
    close(maps), close(pagemap);
    return dropped;
}
