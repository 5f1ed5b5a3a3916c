// Numbers of the fused kernels: float32, bfloat16 and float16 in memory, float32 in between. The kernels are written in what CUDA C and C have in common, so
// that tests compile the same files for a processor (tests/MLNetLora.Tests/Runtime/KernelEmulation.h).
#pragma once

#ifdef __CUDACC__
#define KERNEL extern "C" __global__ void
#define INLINE static __device__ __forceinline__
#else
#define KERNEL void
#define INLINE static inline
#endif

// A type in memory. It is known where a kernel is compiled, so nothing is asked at run time.
enum { FLOAT32, BFLOAT16, FLOAT16 };

// What a thread reads or writes at once: 16 bytes.
#define PACKET_BYTES 16
#define PACKET_MOST 8
#define PACKET_OF(type) ((type) == FLOAT32 ? 4 : 8)
typedef struct
#ifdef __CUDACC__
    __align__(PACKET_BYTES)
#endif
{
  unsigned words[4];
} packet;

// In float32 every bfloat16 is itself with zeros behind it.
INLINE float of_bfloat16(unsigned bits) { return __uint_as_float(bits << 16); }

// To the nearest, even where two are as near; what is no number stays none.
INLINE unsigned to_bfloat16(float value) {
  unsigned bits = __float_as_uint(value);
  return (bits & 0x7FFFFFFFu) > 0x7F800000u ? (bits >> 16) | 0x40u : (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
}

#ifdef __CUDACC__
INLINE float of_float16(unsigned bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"((unsigned short)bits));
  return value;
}

INLINE unsigned to_float16(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
#endif

INLINE float of_bits(int type, unsigned bits) { return type == BFLOAT16 ? of_bfloat16(bits) : of_float16(bits); }
INLINE unsigned to_bits(int type, float value) { return type == BFLOAT16 ? to_bfloat16(value) : to_float16(value); }

INLINE float read_one(int type, const void *numbers, long long at) {
  return type == FLOAT32 ? ((const float *)numbers)[at] : of_bits(type, ((const unsigned short *)numbers)[at]);
}

INLINE void write_one(int type, void *numbers, long long at, float value) {
  if (type == FLOAT32) {
    ((float *)numbers)[at] = value;
  } else {
    ((unsigned short *)numbers)[at] = (unsigned short)to_bits(type, value);
  }
}

// The packet of a number, counted in packets.
INLINE void read_packet(int type, const void *numbers, long long at, float *values) {
  packet packed = ((const packet *)numbers)[at];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    if (type == FLOAT32) {
      values[i] = __uint_as_float(packed.words[i]);
    } else {
      values[2 * i] = of_bits(type, packed.words[i] & 0xFFFFu);
      values[2 * i + 1] = of_bits(type, packed.words[i] >> 16);
    }
  }
}

INLINE void write_packet(int type, void *numbers, long long at, const float *values) {
  packet packed;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    packed.words[i] = type == FLOAT32 ? __float_as_uint(values[i]) : to_bits(type, values[2 * i]) | (to_bits(type, values[2 * i + 1]) << 16);
  }
  ((packet *)numbers)[at] = packed;
}

// Whether packets can be read from an address.
INLINE int is_aligned(const void *numbers) { return ((unsigned long long)numbers & (PACKET_BYTES - 1)) == 0; }
