// libcudart: the device and what it says of itself, streams, events. Memory is in memory.c, kernels are in launches.c.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "stand-in.h"

// One device.
int cudaGetDeviceCount(int *count) {
  *count = 1;
  return SUCCESS;
}
int cudaGetDevice(int *device) {
  *device = 0;
  return SUCCESS;
}
int cudaSetDevice(int device) { return device == 0 ? SUCCESS : INVALID_DEVICE; }
int cudaDriverGetVersion(int *version) {
  *version = 13000;
  return SUCCESS;
}
int cudaRuntimeGetVersion(int *version) { return cudaDriverGetVersion(version); }

// The attributes of a device that the provider asks for, by CUDA's numbers. Of others nothing is known, and who asks is told.
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
  switch (attribute) {
    case 1: *value = THREADS_OF_BLOCK; break;
    case 2: case 3: *value = 1024; break; // x and y of a block
    case 4: *value = 64; break; // z of it
    case 5: *value = GRID_X; break;
    case 6: case 7: *value = GRID_YZ; break;
    case 8: *value = SHARED_OF_BLOCK; break;
    case 10: *value = 32; break; // threads of a warp
    case 12: *value = REGISTERS; break; // of a block
    case 16: *value = MULTIPROCESSORS; break;
    case 38: *value = L2_CACHE; break;
    case 39: *value = THREADS_OF_MULTIPROCESSOR; break;
    case 75: *value = CHIP / 10; break;
    case 76: *value = CHIP % 10; break;
    case 81: *value = SHARED_OF_MULTIPROCESSOR; break;
    case 82: *value = REGISTERS; break; // of a multiprocessor
    case 95: *value = 1; break; // cooperative launches
    case 97: *value = SHARED_OF_BLOCK_AT_MOST; break;
    case 106: *value = BLOCKS_OF_MULTIPROCESSOR; break;
    case 111: *value = SHARED_TAKEN_BY_CUDA; break;
    default: return INVALID_VALUE;
  }
  return SUCCESS;
}

// The same as a struct, of CUDA 13: 1,008 bytes, of which the fields that matter are written at their offsets. The rest is zero.
static void put(char *properties, size_t offset, int value) { memcpy(properties + offset, &value, sizeof value); }
static void put_size(char *properties, size_t offset, size_t value) { memcpy(properties + offset, &value, sizeof value); }

int cudaGetDeviceProperties(char *properties, int device) {
  if (device != 0) {
    return INVALID_DEVICE;
  }
  memset(properties, 0, 1008);
  strcpy(properties, "Stand-in"); // name
  put_size(properties, 288, DEVICE_MEMORY); // totalGlobalMem
  put_size(properties, 296, SHARED_OF_BLOCK); // sharedMemPerBlock
  put(properties, 304, REGISTERS); // regsPerBlock
  put(properties, 308, 32); // warpSize
  put_size(properties, 312, 2147483647); // memPitch
  put(properties, 320, THREADS_OF_BLOCK); // maxThreadsPerBlock
  put(properties, 324, 1024); // maxThreadsDim
  put(properties, 328, 1024);
  put(properties, 332, 64);
  put(properties, 336, GRID_X); // maxGridSize
  put(properties, 340, GRID_YZ);
  put(properties, 344, GRID_YZ);
  put_size(properties, 352, 65536); // totalConstMem
  put(properties, 360, CHIP / 10); // major
  put(properties, 364, CHIP % 10); // minor
  put_size(properties, 368, 512); // textureAlignment
  put_size(properties, 376, 32); // texturePitchAlignment
  put(properties, 384, MULTIPROCESSORS); // multiProcessorCount
  put(properties, 392, 1); // canMapHostMemory
  put(properties, 560, 1); // concurrentKernels
  put(properties, 584, 3); // asyncEngineCount
  put(properties, 588, 1); // unifiedAddressing
  put(properties, 592, 6144); // memoryBusWidth
  put(properties, 596, L2_CACHE); // l2CacheSize
  put(properties, 604, THREADS_OF_MULTIPROCESSOR); // maxThreadsPerMultiProcessor
  put_size(properties, 624, SHARED_OF_MULTIPROCESSOR); // sharedMemPerMultiprocessor
  put(properties, 632, REGISTERS); // regsPerMultiprocessor
  put(properties, 636, 1); // managedMemory
  put(properties, 668, 1); // cooperativeLaunch
  put_size(properties, 672, SHARED_OF_BLOCK_AT_MOST); // sharedMemPerBlockOptin
  put(properties, 688, BLOCKS_OF_MULTIPROCESSOR); // maxBlocksPerMultiProcessor
  put_size(properties, 696, SHARED_TAKEN_BY_CUDA); // reservedSharedMemPerBlock
  return SUCCESS;
}

// What a kernel needs: what most do.
typedef struct {
  size_t shared, constant, local;
  int threads, registers, virtual_code, code, caches, shared_at_most;
} needs;
int cudaFuncGetAttributes(needs *result, const void *function) {
  *result = (needs){ .threads = THREADS_OF_BLOCK, .registers = 64, .virtual_code = CHIP, .code = CHIP, .shared_at_most = SHARED_OF_BLOCK_AT_MOST };
  return SUCCESS;
}
DOES_NOTHING(cudaFuncSetAttribute)
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function, int threads, size_t shared, unsigned flags) {
  *blocks = THREADS_OF_MULTIPROCESSOR / THREADS_OF_BLOCK;
  return SUCCESS;
}

// Streams and events are only told apart: whatever is put into a stream is done at once.
static int create(void **result) { return (*result = malloc(1)) ? SUCCESS : OUT_OF_MEMORY; }
static int destroy(void *handle) {
  free(handle);
  return SUCCESS;
}

int cudaStreamCreate(void **stream) { return create(stream); }
int cudaStreamCreateWithFlags(void **stream, unsigned flags) { return create(stream); }
int cudaStreamDestroy(void *stream) { return destroy(stream); }
int cudaStreamSynchronize(void *stream) {
  OUTSIDE_CAPTURE
  return SUCCESS;
}
int cudaDeviceSynchronize(void) { return cudaStreamSynchronize(NULL); }
DOES_NOTHING(cudaStreamWaitEvent)

int cudaEventCreate(void **event) { return create(event); }
int cudaEventCreateWithFlags(void **event, unsigned flags) { return create(event); }
int cudaEventDestroy(void *event) { return destroy(event); }
DOES_NOTHING(cudaEventRecord)
DOES_NOTHING(cudaEventRecordWithFlags)
DOES_NOTHING(cudaEventSynchronize)
int cudaEventElapsedTime(float *milliseconds, void *begin, void *end) {
  *milliseconds = 1;
  return SUCCESS;
}

// Functions of the driver, which only kernels that do nothing here would need.
int cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, unsigned long long flags, int *found) {
  *function = (void *)cudaDeviceSynchronize;
  if (found) {
    *found = 0; // it is
  }
  return SUCCESS;
}

// A failure is returned where it happens, and none is left for later.
DOES_NOTHING(cudaGetLastError)
DOES_NOTHING(cudaPeekAtLastError)
const char *cudaGetErrorName(int error) {
  switch (error) {
    case SUCCESS: return "cudaSuccess";
    case INVALID_VALUE: return "cudaErrorInvalidValue";
    case OUT_OF_MEMORY: return "cudaErrorMemoryAllocation";
    case INVALID_CONFIGURATION: return "cudaErrorInvalidConfiguration";
    case INVALID_DEVICE: return "cudaErrorInvalidDevice";
    case ILLEGAL_STATE: return "cudaErrorIllegalState";
    case NOT_SUPPORTED: return "cudaErrorNotSupported";
    case CAPTURE_UNSUPPORTED: return "cudaErrorStreamCaptureUnsupported";
    case CAPTURE_INVALIDATED: return "cudaErrorStreamCaptureInvalidated";
    default: return "an error that the stand-in does not return";
  }
}
const char *cudaGetErrorString(int error) { return cudaGetErrorName(error); }
