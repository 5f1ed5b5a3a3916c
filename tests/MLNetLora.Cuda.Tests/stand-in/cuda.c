// libcuda, the driver. What it says can be set where it is compiled: MissingPiecesTests make ones that do not do.
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

// For kernels of Hopper, which do nothing.
DOES_NOTHING(cuTensorMapEncodeTiled)
