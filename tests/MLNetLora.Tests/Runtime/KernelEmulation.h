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

// float16 by arithmetic: not every gcc has the type.
static inline float of_float16(unsigned bits) {
  int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  float value = exponent == 31 ? (fraction ? NAN : INFINITY) : ldexpf((float)(fraction + (exponent ? 1024 : 0)), (exponent ? exponent : 1) - 25);
  return bits & 0x8000 ? -value : value;
}
static inline unsigned to_float16(float value) {
  unsigned sign = signbit(value) ? 0x8000u : 0u;
  float size = fabsf(value);
  if (isnan(value) || size >= 65520.0f) {
    return sign | (isnan(value) ? 0x7E00u : 0x7C00u);
  }
  int exponent;
  frexpf(size, &exponent);
  exponent = size > 0.0f && exponent - 1 > -14 ? exponent - 1 : -14;
  return sign | ((unsigned)(exponent + 14) * 1024 + (unsigned)rintf(ldexpf(size, 10 - exponent))); // to even where two are as near
}
