// The gradient of RMS norm, y = w∘x·r with r = 1/√(mean(x²) + ε):  dx = r·(u − x·r²·mean(u∘x)),  u = dy∘w.
// A block a row, of whole warps. A row is read twice, the second time from a cache where it fits; the arithmetic is in float32, rounded at the end.
#include "numbers.h"

#define WARP 32
#define ALL_LANES 0xFFFFFFFFu

INLINE float sum_of_warp(float value) {
#pragma unroll
  for (int distance = WARP / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(ALL_LANES, value, distance);
  }
  return value;
}

// In every thread of the block, to the same bit.
INLINE float sum_of_block(float value) {
  __shared__ float of_warps[WARP];
  value = sum_of_warp(value);
  if (threadIdx.x % WARP == 0) {
    of_warps[threadIdx.x / WARP] = value;
  }
  __syncthreads();
  return sum_of_warp(threadIdx.x % WARP < blockDim.x / WARP ? of_warps[threadIdx.x % WARP] : 0.0f);
}

// dx may stand where dy or x does: every thread has read the row for the sum before one writes.
INLINE void rms_norm_grad(int type, const void *dy, const void *x, const void *w, const float *r, void *dx, int columns) {
  long long first = (long long)blockIdx.x * columns;
  int is_packed = columns % PACKET_OF(type) == 0 && is_aligned(dy) && is_aligned(x) && is_aligned(w) && is_aligned(dx);
  int packets = is_packed ? columns / PACKET_OF(type) : 0;
  long long first_packet = is_packed ? first / PACKET_OF(type) : 0;
  float sum = 0.0f; // of u∘x
  for (int at = threadIdx.x; at < packets; at += blockDim.x) {
    float dys[PACKET_MOST], xs[PACKET_MOST], ws[PACKET_MOST];
    read_packet(type, dy, first_packet + at, dys);
    read_packet(type, x, first_packet + at, xs);
    read_packet(type, w, at, ws);
#pragma unroll
    for (int i = 0; i < PACKET_OF(type); i++) {
      sum += dys[i] * ws[i] * xs[i];
    }
  }
  for (int at = packets * PACKET_OF(type) + threadIdx.x; at < columns; at += blockDim.x) {
    sum += read_one(type, dy, first + at) * read_one(type, w, at) * read_one(type, x, first + at);
  }

  float scale = r[blockIdx.x];
  float along = scale * scale * (sum_of_block(sum) / columns);
  for (int at = threadIdx.x; at < packets; at += blockDim.x) {
    float dys[PACKET_MOST], xs[PACKET_MOST], ws[PACKET_MOST];
    read_packet(type, dy, first_packet + at, dys);
    read_packet(type, x, first_packet + at, xs);
    read_packet(type, w, at, ws);
#pragma unroll
    for (int i = 0; i < PACKET_OF(type); i++) {
      dys[i] = (dys[i] * ws[i] - xs[i] * along) * scale;
    }
    write_packet(type, dx, first_packet + at, dys);
  }
  for (int at = packets * PACKET_OF(type) + threadIdx.x; at < columns; at += blockDim.x) {
    float u = read_one(type, dy, first + at) * read_one(type, w, at);
    write_one(type, dx, first + at, (u - read_one(type, x, first + at) * along) * scale);
  }
}

KERNEL rms_norm_grad_float32(const void *dy, const void *x, const void *w, const float *r, void *dx, int columns) {
  rms_norm_grad(FLOAT32, dy, x, w, r, dx, columns);
}
KERNEL rms_norm_grad_bfloat16(const void *dy, const void *x, const void *w, const float *r, void *dx, int columns) {
  rms_norm_grad(BFLOAT16, dy, x, w, r, dx, columns);
}
KERNEL rms_norm_grad_float16(const void *dy, const void *x, const void *w, const float *r, void *dx, int columns) {
  rms_norm_grad(FLOAT16, dy, x, w, r, dx, columns);
}
