// Part of cudart: memory of the device, which is the process's, and copies.
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "stand-in.h"

// Larger ones are counted and not done: they are weights, activations and states, whose numbers mean nothing here, and untouched memory costs nothing, so
// that models fit that the machine has no memory for. Sizes and ids, on which a run depends, are far smaller.
#define COPIED_AT_MOST ((size_t)1 << 20)

// What CUDA takes is whole granules.
#define GRANULE 512

typedef struct { char *begin; size_t size; } block;
static block *blocks;
static size_t block_count, block_room;

static size_t whole(size_t size) { return (size + GRANULE - 1) / GRANULE * GRANULE; }

// Mapped apart, so that what was freed is gone: who uses it ends there.
int cudaMalloc(void **result, size_t size) {
  OUTSIDE_CAPTURE
  *result = NULL;
  if (!size) {
    return SUCCESS;
  }
  int status = OUT_OF_MEMORY;
  lock();
  size_t taken = whole(size);
  if (taken >= size && taken <= DEVICE_MEMORY - TAKEN_BY_CUDA - counts.live_bytes) {
    void *begin = mmap(NULL, taken, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (begin != MAP_FAILED) {
      if (block_count == block_room) {
        block_room = block_room ? 2 * block_room : 256;
        blocks = realloc(blocks, block_room * sizeof *blocks);
      }
      blocks[block_count++] = (block){ begin, taken };
      counts.live_bytes += taken;
      counts.peak_bytes = counts.live_bytes > counts.peak_bytes ? counts.live_bytes : counts.peak_bytes;
      *result = begin;
      status = SUCCESS;
    }
  }
  unlock();
  return status;
}

int cudaFree(void *begin) {
  OUTSIDE_CAPTURE
  int status = begin ? INVALID_VALUE : SUCCESS;
  lock();
  for (size_t i = 0; begin && i < block_count; i++) {
    if (blocks[i].begin == begin) {
      munmap(begin, blocks[i].size);
      counts.live_bytes -= blocks[i].size;
      blocks[i] = blocks[--block_count];
      status = SUCCESS;
      break;
    }
  }
  unlock();
  return status;
}

// In the order of a stream, in which all before it is done.
int cudaFreeAsync(void *begin, void *stream) { return cudaFree(begin); }
int cudaMallocFromPoolAsync(void **result, size_t size, void *pool, void *stream) { return cudaMalloc(result, size); }

static int is_on_device(const void *address) {
  int found = 0;
  lock();
  for (size_t i = 0; i < block_count && !found; i++) {
    found = (const char *)address >= blocks[i].begin && (const char *)address < blocks[i].begin + blocks[i].size;
  }
  unlock();
  return found;
}

// The direction is that of the addresses, as in CUDA, where one address space holds both.
static void count_copy(void *to, const void *from) {
  int goes_to_device = is_on_device(to), comes_from_device = is_on_device(from);
  lock();
  counts.to_device += goes_to_device && !comes_from_device;
  counts.to_host += comes_from_device && !goes_to_device;
  unlock();
}

static void copy(const call *made) {
  for (size_t i = 0; made->width * made->height <= COPIED_AT_MOST && i < made->height; i++) {
    memmove(made->to + i * made->to_pitch, made->from + i * made->from_pitch, made->width);
  }
}
static int copy_in(void *stream, call made) {
  made.run = copy;
  made.is_from_host = !is_on_device(made.from);
  if (!record(stream, made)) {
    count_copy(made.to, made.from);
    copy(&made);
  }
  return SUCCESS;
}

int cudaMemcpy(void *to, const void *from, size_t size, int kind) {
  OUTSIDE_CAPTURE
  return copy_in(NULL, (call){ .to = to, .from = from, .width = size, .height = 1 });
}
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
  return copy_in(stream, (call){ .to = to, .from = from, .width = size, .height = 1 });
}
int cudaMemcpy2DAsync(char *to, size_t to_pitch, const char *from, size_t from_pitch, size_t width, size_t height, int kind, void *stream) {
  return copy_in(stream, (call){ .to = to, .from = from, .to_pitch = to_pitch, .from_pitch = from_pitch, .width = width, .height = height });
}

// A variable in the device's code; kernels do nothing, so none was written.
int cudaMemcpyFromSymbol(void *to, const void *symbol, size_t size, size_t offset, int kind) {
  memset(to, 0, size);
  return SUCCESS;
}

static void set(const call *made) {
  if (made->width <= COPIED_AT_MOST) {
    memset(made->to, made->value, made->width);
  }
}
int cudaMemsetAsync(void *to, int value, size_t size, void *stream) {
  call made = { .run = set, .to = to, .value = value, .width = size };
  if (!record(stream, made)) {
    set(&made);
  }
  return SUCCESS;
}
int cudaMemset(void *to, int value, size_t size) {
  OUTSIDE_CAPTURE
  return cudaMemsetAsync(to, value, size, NULL);
}

int cudaMemGetInfo(size_t *unused, size_t *total) {
  lock();
  *unused = DEVICE_MEMORY - TAKEN_BY_CUDA - counts.live_bytes;
  *total = DEVICE_MEMORY;
  unlock();
  return SUCCESS;
}

typedef struct { int type, device; const void *on_device, *on_host; } place;
int cudaPointerGetAttributes(place *result, const void *address) {
  int is_device = is_on_device(address);
  *result = (place){ is_device ? 2 : 0, 0, is_device ? address : NULL, is_device ? NULL : address };
  return SUCCESS;
}

// Memory of the process that a GPU could reach, which starts at pages.
int cudaMallocHost(void **result, size_t size) {
  OUTSIDE_CAPTURE
  return posix_memalign(result, 4096, size ? size : 1) ? OUT_OF_MEMORY : SUCCESS;
}
int cudaHostAlloc(void **result, size_t size, unsigned flags) { return cudaMallocHost(result, size); }
int cudaFreeHost(void *memory) {
  OUTSIDE_CAPTURE
  free(memory);
  return SUCCESS;
}

// Pools: ONNX Runtime's default arena has none.
IS_REFUSED(cudaMemPoolCreate)
IS_REFUSED(cudaMemPoolDestroy)
IS_REFUSED(cudaMemPoolGetAttribute)
IS_REFUSED(cudaMemPoolSetAttribute)
IS_REFUSED(cudaMemPoolTrimTo)
