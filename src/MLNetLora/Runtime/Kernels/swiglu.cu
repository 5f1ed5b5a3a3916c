// SwiGLU: y = gate·σ(gate)·up, and its gradient. An element is read once and written once; everything between is in float32, rounded at the end.
#include "numbers.h"

// σ(x) and σ(−x), each with the relative precision of float32: neither is one less the other. Of what is no number both are none.
INLINE void sigmoids(float x, float *of_x, float *of_minus_x) {
  float small = expf(-fabsf(x)); // ≤ 1
  float large_side = 1.0f / (1.0f + small);
  float small_side = small * large_side;
  *of_x = x >= 0.0f ? large_side : small_side;
  *of_minus_x = x >= 0.0f ? small_side : large_side;
}

INLINE float forward(float gate, float up) {
  float of_gate, of_minus_gate;
  sigmoids(gate, &of_gate, &of_minus_gate);
  return gate * of_gate * up;
}

// With t = dy·σ(gate):  dup = t·gate,  dgate = t·up·(1 + gate·σ(−gate)).
INLINE void backward(float dy, float gate, float up, float *dgate, float *dup) {
  float of_gate, of_minus_gate;
  sigmoids(gate, &of_gate, &of_minus_gate);
  float share = dy * of_gate;
  *dup = share * gate;
  *dgate = share * up * (1.0f + gate * of_minus_gate);
}

// Any number of blocks and threads; y may stand where gate or up does.
INLINE void swiglu(int type, const void *gate, const void *up, void *y, long long count) {
  long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  long long threads = (long long)gridDim.x * blockDim.x;
  long long packets = is_aligned(gate) && is_aligned(up) && is_aligned(y) ? count / PACKET_OF(type) : 0;
  for (long long at = thread; at < packets; at += threads) {
    float gates[PACKET_MOST], ups[PACKET_MOST];
    read_packet(type, gate, at, gates);
    read_packet(type, up, at, ups);
#pragma unroll
    for (int i = 0; i < PACKET_OF(type); i++) {
      gates[i] = forward(gates[i], ups[i]);
    }
    write_packet(type, y, at, gates);
  }
  for (long long at = packets * PACKET_OF(type) + thread; at < count; at += threads) {
    write_one(type, y, at, forward(read_one(type, gate, at), read_one(type, up, at)));
  }
}

// The same; dgate and dup may stand where dy, gate and up do.
INLINE void swiglu_grad(int type, const void *dy, const void *gate, const void *up, void *dgate, void *dup, long long count) {
  long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  long long threads = (long long)gridDim.x * blockDim.x;
  int aligned = is_aligned(dy) && is_aligned(gate) && is_aligned(up) && is_aligned(dgate) && is_aligned(dup);
  long long packets = aligned ? count / PACKET_OF(type) : 0;
  for (long long at = thread; at < packets; at += threads) {
    float dys[PACKET_MOST], gates[PACKET_MOST], ups[PACKET_MOST];
    read_packet(type, dy, at, dys);
    read_packet(type, gate, at, gates);
    read_packet(type, up, at, ups);
#pragma unroll
    for (int i = 0; i < PACKET_OF(type); i++) {
      float of_gate_gradient, of_up_gradient;
      backward(dys[i], gates[i], ups[i], &of_gate_gradient, &of_up_gradient);
      gates[i] = of_gate_gradient;
      ups[i] = of_up_gradient;
    }
    write_packet(type, dgate, at, gates);
    write_packet(type, dup, at, ups);
  }
  for (long long at = packets * PACKET_OF(type) + thread; at < count; at += threads) {
    float of_gate_gradient, of_up_gradient;
    backward(read_one(type, dy, at), read_one(type, gate, at), read_one(type, up, at), &of_gate_gradient, &of_up_gradient);
    write_one(type, dgate, at, of_gate_gradient);
    write_one(type, dup, at, of_up_gradient);
  }
}

KERNEL swiglu_float32(const void *gate, const void *up, void *y, long long count) { swiglu(FLOAT32, gate, up, y, count); }
KERNEL swiglu_bfloat16(const void *gate, const void *up, void *y, long long count) { swiglu(BFLOAT16, gate, up, y, count); }
KERNEL swiglu_float16(const void *gate, const void *up, void *y, long long count) { swiglu(FLOAT16, gate, up, y, count); }

KERNEL swiglu_grad_float32(const void *dy, const void *gate, const void *up, void *dgate, void *dup, long long count) {
  swiglu_grad(FLOAT32, dy, gate, up, dgate, dup, count);
}
KERNEL swiglu_grad_bfloat16(const void *dy, const void *gate, const void *up, void *dgate, void *dup, long long count) {
  swiglu_grad(BFLOAT16, dy, gate, up, dgate, dup, count);
}
KERNEL swiglu_grad_float16(const void *dy, const void *gate, const void *up, void *dgate, void *dup, long long count) {
  swiglu_grad(FLOAT16, dy, gate, up, dgate, dup, count);
}
