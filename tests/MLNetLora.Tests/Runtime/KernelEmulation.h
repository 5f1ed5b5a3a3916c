// What CUDA C has beyond C, as far as the kernels of src/MLNetLora/Runtime/Kernels use it, for a processor: a block's threads take turns.
#pragma once
#include <math.h>
#include <string.h>

typedef struct { unsigned x; } extent;
extern extent threadIdx, blockIdx, blockDim, gridDim;

// One block runs at a time, so what its threads share can be there once.
#define __shared__ static

// Threads go on when all of the block, or of the warp, are here.
void __syncthreads(void);
float __shfl_xor_sync(unsigned lanes, float value, int distance);

static inline float __uint_as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
static inline unsigned __float_as_uint(float value) {
  unsigned bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

// float16 is the compiler's.
static inline float of_float16(unsigned bits) {
  unsigned short half = (unsigned short)bits;
  _Float16 value;
  memcpy(&value, &half, sizeof value);
  return (float)value;
}
static inline unsigned to_float16(float value) {
  _Float16 rounded = (_Float16)value;
  unsigned short bits;
  memcpy(&bits, &rounded, sizeof bits);
  return bits;
}
