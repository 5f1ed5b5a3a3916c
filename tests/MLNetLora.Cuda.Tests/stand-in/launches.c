// Part of cudart: kernels by name, their launches, and the counts.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "stand-in.h"

OWN standin_counts counts;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
OWN void lock(void) { pthread_mutex_lock(&mutex); }
OWN void unlock(void) { pthread_mutex_unlock(&mutex); }

static char *chosen_text;

void standin_begin(const char *chosen) {
  lock();
  int64_t live = counts.live_bytes;
  counts = (standin_counts){ .live_bytes = live, .peak_bytes = live };
  free(chosen_text);
  chosen_text = chosen ? strdup(chosen) : NULL;
  unlock();
}

void standin_read(standin_counts *result) {
  lock();
  *result = counts;
  unlock();
}

static float *added_to;

void standin_add_to(float *number) {
  lock();
  added_to = number;
  unlock();
}

static int is_chosen(const char *name) { return name && chosen_text && strstr(name, chosen_text); }

void run_kernel(const char *name) {
  if (added_to && is_chosen(name)) {
    ++*added_to;
  }
}

static void run_recorded(const call *made) { run_kernel(made->name); }

void standin_launch(const char *name, void *stream) {
  if (record(stream, (call){ .run = run_recorded, .name = name, .is_kernel = 1 })) {
    return;
  }
  lock();
  counts.launches++;
  counts.chosen_launches += is_chosen(name);
  run_kernel(name);
  unlock();
}

// Kernels are launched by the address of a function of the process that stands for them; the provider registers some ten thousand when it is loaded.
// A hash table: slots follow each other, and at least half of them are free.
typedef struct { const void *function; const char *name; } kernel;
static kernel *kernels;
static size_t slots, used;

static kernel *slot_of(const void *function) {
  size_t at = ((uintptr_t)function >> 4) * 0x9E3779B97F4A7C15u;
  for (;; at++) {
    kernel *slot = &kernels[at & (slots - 1)];
    if (!slot->function || slot->function == function) {
      return slot;
    }
  }
}

static void remember(const void *function, const char *name) {
  lock();
  if (2 * (used + 1) > slots) {
    kernel *old = kernels;
    size_t count = slots;
    slots = slots ? 2 * slots : 1 << 14;
    kernels = calloc(slots, sizeof *kernels);
    for (size_t i = 0; i < count; i++) {
      if (old[i].function) {
        *slot_of(old[i].function) = old[i];
      }
    }
    free(old);
  }
  kernel *slot = slot_of(function);
  used += !slot->function;
  *slot = (kernel){ function, name };
  unlock();
}

static const char *name_of(const void *function) {
  lock();
  const char *name = slots ? slot_of(function)->name : NULL;
  unlock();
  return name;
}

// What nvcc's code calls when a library with kernels is loaded.
void **__cudaRegisterFatBinary(void *binary) {
  static void *handle;
  return &handle;
}
DOES_NOTHING(__cudaRegisterFatBinaryEnd)
DOES_NOTHING(__cudaUnregisterFatBinary)
DOES_NOTHING(__cudaRegisterVar)
void __cudaRegisterFunction(void **binary, const void *function, char *symbol, const char *name) { remember(function, name); }

// Kernels that are compiled apart and looked up by name: the name is also what they are launched by.
int cudaLibraryLoadData(void **library) {
  *library = malloc(1);
  return SUCCESS;
}
int cudaLibraryUnload(void *library) {
  free(library);
  return SUCCESS;
}
int cudaLibraryGetKernel(void **handle, void *library, const char *name) {
  char *copy = strdup(name);
  remember(copy, copy);
  *handle = copy;
  return SUCCESS;
}
DOES_NOTHING(cudaKernelSetAttributeForDevice)

// A launch in nvcc's code is three calls: the sizes, the sizes again in the kernel's stub, the launch.
typedef struct { unsigned x, y, z; } extent;
typedef struct { extent grid, block; size_t shared; void *stream; } configuration;
static __thread configuration pushed;

unsigned __cudaPushCallConfiguration(extent grid, extent block, size_t shared, void *stream) {
  pushed = (configuration){ grid, block, shared, stream };
  return SUCCESS;
}
int __cudaPopCallConfiguration(extent *grid, extent *block, size_t *shared, void **stream) {
  *grid = pushed.grid;
  *block = pushed.block;
  *shared = pushed.shared;
  *stream = pushed.stream;
  return SUCCESS;
}
int __cudaGetKernel(const void **handle, const void *function) {
  *handle = function;
  return SUCCESS;
}

// Sizes that no GPU takes are refused, as there.
static int launch(const void *function, extent grid, extent block, size_t shared, void *stream) {
  if (!can_be_launched(grid.x, grid.y, grid.z, block.x, block.y, block.z, shared)) {
    return INVALID_CONFIGURATION;
  }
  standin_launch(name_of(function), stream);
  return SUCCESS;
}

int __cudaLaunchKernel(const void *handle, extent grid, extent block, void **arguments, size_t shared, void *stream) {
  return launch(handle, grid, block, shared, stream);
}
int cudaLaunchKernel(const void *function, extent grid, extent block, void **arguments, size_t shared, void *stream) {
  return launch(function, grid, block, shared, stream);
}
int cudaLaunchCooperativeKernel(const void *function, extent grid, extent block, void **arguments, size_t shared, void *stream) {
  return launch(function, grid, block, shared, stream);
}
int cudaLaunchKernelExC(const configuration *configured, const void *function, void **arguments) {
  return launch(function, configured->grid, configured->block, configured->shared, configured->stream);
}

// A function of the process in a stream: all before it is done.
static void run_function(const call *made) { made->function(made->to); }
int cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
  if (!record(stream, (call){ .run = run_function, .function = function, .to = data })) {
    function(data);
  }
  return SUCCESS;
}
