// libcuda, the driver. What it says can be set where it is compiled: MissingPiecesTests make ones that do not do.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "stand-in.h"

#ifndef INIT
#define INIT SUCCESS // what starting it returns
#endif
#ifndef VERSION
#define VERSION 13000
#endif

int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *version) {
  *version = VERSION;
  return SUCCESS;
}

// Only where a number of devices is given: without it, what is said of a device that is not there comes from the runtime.
#ifdef DEVICES
int cuDeviceGetCount(int *count) {
  *count = DEVICES;
  return SUCCESS;
}
#endif

int cuDeviceGet(int *device, int number) {
  *device = number;
  return SUCCESS;
}
int cuDeviceGetName(char *name, int size, int device) {
  const char text[] = "Stand-in";
  for (int i = 0; i < size && i < (int)sizeof text; i++) {
    name[i] = text[i];
  }
  return SUCCESS;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
  *bytes = DEVICE_MEMORY;
  return SUCCESS;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  switch (attribute) {
    case 75: *value = CHIP / 10; return SUCCESS; // compute capability
    case 76: *value = CHIP % 10; return SUCCESS;
    default: return INVALID_VALUE;
  }
}

// Kernels that the application brings as text. A text is whatever says its version first; a kernel is there where the text has one of that name.
#ifndef MODULE
#define MODULE SUCCESS // what loading one returns
#endif

#ifndef FUNCTION
#define FUNCTION SUCCESS // what looking for a kernel in it returns
#endif
#ifndef CONTEXT
#define CONTEXT SUCCESS // what asking for the device's context returns
#endif

static int context; // the one of the device: its address stands for it
static __thread int current; // of contexts that were made current and are still
static int launch_status;

// What launches return from now on.
void standin_refuse_launches(int status) { launch_status = status; }

int cuDevicePrimaryCtxRetain(void **result, int device) {
  *result = &context;
  return CONTEXT;
}
int cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
int cuCtxPushCurrent_v2(void *pushed) {
  current += pushed == &context;
  return pushed == &context ? SUCCESS : INVALID_CONTEXT;
}
int cuCtxPopCurrent_v2(void **popped) {
  *popped = current > 0 ? &context : 0;
  return current-- > 0 ? SUCCESS : INVALID_CONTEXT;
}

#ifndef WITHOUT_MODULES
typedef struct { char *text; } module;
int cuModuleLoadDataEx(module **result, const char *text, unsigned count, const int *options, void **values) {
  for (unsigned i = 0; MODULE != SUCCESS && i < count; i++) {
    if (options[i] == 5) { // where errors are written; the next option is how much room there is
      strncpy(values[i], "ptxas: the stand-in takes none", (size_t)values[i + 1]);
    }
  }
  if (MODULE != SUCCESS || current <= 0) {
    return current > 0 ? MODULE : INVALID_CONTEXT;
  }
  const char *line = text;
  while (line[0] == '/' && line[1] == '/' && strchr(line, '\n')) {
    line = strchr(line, '\n') + 1;
  }
  if (strncmp(line, ".version ", 9)) {
    return INVALID_PTX;
  }
  *result = malloc(sizeof **result);
  (*result)->text = strdup(text);
  return SUCCESS;
}
int cuModuleUnload(module *loaded) {
  free(loaded->text);
  free(loaded);
  return SUCCESS;
}
#endif

// A kernel is known by its name and how many arguments it has.
typedef struct { char *name; int arguments; } function;
int cuModuleGetFunction(function **result, void *loaded, const char *name) {
  char entry[256];
  snprintf(entry, sizeof entry, ".entry %s(", name);
  const char *found = strstr(*(char **)loaded, entry);
  if (!found || FUNCTION != SUCCESS) {
    return NOT_FOUND;
  }
  *result = malloc(sizeof **result);
  **result = (function){ strdup(name), 0 };
  for (const char *at = found, *end = strchr(found + strlen(entry), ')'); (at = strstr(at, ".param ")) && at < end; at++) {
    (*result)->arguments++;
  }
  return SUCCESS;
}

// Counted with the other launches, and done by the processor: not where this library is compiled alone.
#ifdef WITH_EMULATION
int emulate(const char *name, unsigned grid, unsigned block, void **arguments);
static int launch(const char *name, unsigned grid, unsigned block, void *stream, void **arguments) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  standin_launch(name, stream);
  if ((int64_t)grid * block > EMULATED_AT_MOST) {
    return SUCCESS; // these are activations, whose numbers mean nothing here
  }
  pthread_mutex_lock(&mutex);
  int is_refused = emulate(name, grid, block, arguments);
  pthread_mutex_unlock(&mutex);
  return is_refused ? INVALID_VALUE : SUCCESS;
}
#else
static int launch(const char *name, unsigned grid, unsigned block, void *stream, void **arguments) { return SUCCESS; }
#endif

int cuLaunchKernel(function *started, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
    unsigned shared, void *stream, void **arguments, void **extra) {
  if (launch_status != SUCCESS || current <= 0) {
    return current > 0 ? launch_status : INVALID_CONTEXT;
  }
  if (!can_be_launched(grid_x, grid_y, grid_z, block_x, block_y, block_z, shared)) {
    return INVALID_VALUE;
  }
  uint64_t bytes = 0; // that every argument can be read
  for (int i = 0; i < started->arguments; i++) {
    bytes += *(volatile unsigned char *)arguments[i];
  }
  return launch(started->name, grid_x, block_x, stream, arguments);
}

int cuGetErrorName(int error, const char **text) {
  *text = error == INVALID_PTX ? "CUDA_ERROR_INVALID_PTX" : error == NOT_FOUND ? "CUDA_ERROR_NOT_FOUND" : error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
    : error == INVALID_VALUE ? "CUDA_ERROR_INVALID_VALUE" : error == LAUNCH_OUT_OF_RESOURCES ? "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES" : 0;
  return *text ? SUCCESS : INVALID_VALUE;
}
int cuGetErrorString(int error, const char **text) {
  *text = error == INVALID_PTX ? "a PTX JIT compilation failed" : error == OUT_OF_MEMORY ? "out of memory" : 0;
  return *text ? SUCCESS : INVALID_VALUE;
}

// For kernels of Hopper, which do nothing.
DOES_NOTHING(cuTensorMapEncodeTiled)
