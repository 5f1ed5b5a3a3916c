// CUDA without a GPU, for tests: libraries with the names and functions of CUDA 13's that ONNX Runtime's provider asks for. Device memory is the process's,
// kernels of others do nothing, and what would have happened on the device is counted. The tests compile them when they start: StandIn.cs.
#pragma once
#include <stddef.h>
#include <stdint.h>

// The device that is played: an H200.
#ifndef CHIP
#define CHIP 90 // its compute capability, 9.0
#endif
#define DEVICE_MEMORY ((size_t)139 << 30)
#define TAKEN_BY_CUDA ((size_t)1 << 30)
#define MULTIPROCESSORS 132
#define L2_CACHE (60 << 20)
#define THREADS_OF_BLOCK 1024
#define THREADS_OF_MULTIPROCESSOR 2048
#define BLOCKS_OF_MULTIPROCESSOR 32
#define REGISTERS 65536
#define SHARED_OF_BLOCK (48 << 10)
#define SHARED_OF_BLOCK_AT_MOST (227 << 10) // for kernels that ask for more than the usual
#define SHARED_OF_MULTIPROCESSOR (228 << 10)
#define SHARED_TAKEN_BY_CUDA (1 << 10)
#define GRID_X 2147483647
#define GRID_YZ 65535
#define EMULATED_AT_MOST 16384 // threads of a kernel that is done on the processor

// Results, the numbers being CUDA's.
enum {
  SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONFIGURATION = 9, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, INVALID_PTX = 218, ILLEGAL_STATE = 401,
  NOT_FOUND = 500, LAUNCH_OUT_OF_RESOURCES = 701, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901,
};

// Whether a GPU takes a kernel's sizes.
static inline int can_be_launched(unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z, size_t shared) {
  return grid_x && grid_y && grid_z && block_x && block_y && block_z && (uint64_t)block_x * block_y * block_z <= THREADS_OF_BLOCK && grid_x <= GRID_X
      && grid_y <= GRID_YZ && grid_z <= GRID_YZ && shared <= SHARED_OF_BLOCK_AT_MOST;
}

// A function whose arguments do not matter here.
#define DOES_NOTHING(name) int name(void) { return SUCCESS; }

// One that nothing calls yet. What it would have to do comes with the first that does.
#define IS_REFUSED(name) int name(void) { return NOT_SUPPORTED; }

// What happened on the device; StandIn.cs has the same struct.
typedef struct {
  int64_t launches;
  int64_t chosen_launches;
  int64_t to_device;
  int64_t to_host;
  int64_t live_bytes;
  int64_t peak_bytes;
  int64_t captures;
  int64_t captured_launches;
  int64_t captured_from_host;
  int64_t replays;
} standin_counts;

// Counts from zero; the peak, from what is taken now. Launches of kernels whose names contain a text are counted a second time, apart.
void standin_begin(const char *chosen);
void standin_read(standin_counts *counts);

// Those kernels do one thing, where a number is given: they add one to it, as gradients are added up. Null: nothing.
void standin_add_to(float *number);

// The next capture is lost, as if a thread had done what CUDA refuses meanwhile.
void standin_lose_capture(void);

// A kernel was started in a stream, or captured. The name is null where a library does it, of whose kernels nothing is known.
void standin_launch(const char *name, void *stream);

// For cudart's own files: the counts, and the lock that they and all tables are under.
#define OWN __attribute__((visibility("hidden")))
extern OWN standin_counts counts;
OWN void lock(void);
OWN void unlock(void);

// A kernel runs: at once, or when a graph with it is launched. Under the lock.
OWN void run_kernel(const char *name);

// A call that takes effect when the graph is launched: recorded, and then 1, where the stream is captured; else 0.
typedef struct call call;
struct call {
  void (*run)(const call *);
  const char *name; // of a kernel
  char *to;
  const char *from;
  size_t to_pitch, from_pitch, width, height;
  int value, is_kernel, is_from_host;
  void (*function)(void *);
};
OWN int record(void *stream, call made);

// What CUDA refuses while a stream is captured, and the capture is then lost.
OWN int refuse_in_capture(void);
#define OUTSIDE_CAPTURE \
  if (refuse_in_capture()) { \
    return CAPTURE_UNSUPPORTED; \
  }
