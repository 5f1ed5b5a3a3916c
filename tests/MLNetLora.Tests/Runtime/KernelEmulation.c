// The kernels of src/MLNetLora/Runtime/Kernels on a processor: compiled from the same files, started by name with the grid, block and arguments that a GPU
// would be given.
#include "KernelEmulation.h"
#include <stdlib.h>
#include <ucontext.h>
#include "swiglu.cu"
#include "rms_norm_grad.cu"

#define MOST_THREADS 1024
#define STACK ((size_t)64 << 10)

extent threadIdx, blockIdx, blockDim, gridDim;

// A thread of the block is a context of its own, which runs until it waits for the others.
static ucontext_t scheduler, threads[MOST_THREADS];
static char *stacks;
static int is_done[MOST_THREADS];
static float lanes[MOST_THREADS];

typedef struct { unsigned arrived, generation; } barrier;
static barrier of_block, of_warps[MOST_THREADS / WARP];

static void wait_for(barrier *at, unsigned count) {
  unsigned generation = at->generation;
  if (++at->arrived == count) {
    at->arrived = 0;
    at->generation++;
  }
  while (at->generation == generation) {
    swapcontext(&threads[threadIdx.x], &scheduler);
  }
}

void __syncthreads(void) { wait_for(&of_block, blockDim.x); }

// A block is of whole warps.
float __shfl_xor_sync(unsigned mask, float value, int distance) {
  barrier *warp = &of_warps[threadIdx.x / WARP];
  lanes[threadIdx.x] = value;
  wait_for(warp, WARP);
  float other = lanes[threadIdx.x ^ distance];
  wait_for(warp, WARP); // before the next value is put there
  return mask == ALL_LANES ? other : NAN;
}

typedef void (*of_four)(const void *, const void *, void *, long long);
typedef void (*of_six)(const void *, const void *, const void *, void *, void *, long long);
typedef void (*of_rows)(const void *, const void *, const void *, const float *, void *, int);

static const struct {
  const char *name;
  of_four four;
  of_six six;
  of_rows rows;
} kernels[] = {
  { "swiglu_float32", swiglu_float32, 0, 0 },
  { "swiglu_bfloat16", swiglu_bfloat16, 0, 0 },
  { "swiglu_float16", swiglu_float16, 0, 0 },
  { "swiglu_grad_float32", 0, swiglu_grad_float32, 0 },
  { "swiglu_grad_bfloat16", 0, swiglu_grad_bfloat16, 0 },
  { "swiglu_grad_float16", 0, swiglu_grad_float16, 0 },
  { "rms_norm_grad_float32", 0, 0, rms_norm_grad_float32 },
  { "rms_norm_grad_bfloat16", 0, 0, rms_norm_grad_bfloat16 },
  { "rms_norm_grad_float16", 0, 0, rms_norm_grad_float16 },
};

static int started;
static void **given;

static void run(void) {
#define POINTER(i) (*(void **)given[i])
  if (kernels[started].four) {
    kernels[started].four(POINTER(0), POINTER(1), POINTER(2), *(long long *)given[3]);
  } else if (kernels[started].six) {
    kernels[started].six(POINTER(0), POINTER(1), POINTER(2), POINTER(3), POINTER(4), *(long long *)given[5]);
  } else {
    kernels[started].rows(POINTER(0), POINTER(1), POINTER(2), POINTER(3), POINTER(4), *(int *)given[5]);
  }
  is_done[threadIdx.x] = 1;
}

// One launch at a time in a process.
int emulate(const char *name, unsigned grid, unsigned block, void **arguments) {
  int count = sizeof kernels / sizeof kernels[0];
  for (started = 0; started < count && strcmp(kernels[started].name, name); started++) {
  }
  if (started == count || !grid || !block || block > MOST_THREADS) {
    return 1;
  }
  stacks = stacks ? stacks : malloc(MOST_THREADS * STACK);
  given = arguments;
  gridDim.x = grid;
  blockDim.x = block;
  for (blockIdx.x = 0; blockIdx.x < grid; blockIdx.x++) {
    for (unsigned i = 0; i < block; i++) {
      is_done[i] = 0;
      getcontext(&threads[i]);
      threads[i].uc_stack.ss_sp = stacks + i * STACK;
      threads[i].uc_stack.ss_size = STACK;
      threads[i].uc_link = &scheduler;
      makecontext(&threads[i], run, 0);
    }
    for (unsigned left = block; left;) {
      for (unsigned i = 0; i < block; i++) {
        if (!is_done[i]) {
          threadIdx.x = i;
          swapcontext(&scheduler, &threads[i]);
          left -= is_done[i];
        }
      }
    }
  }
  return 0;
}
