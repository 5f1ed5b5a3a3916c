// libcublas: products, of which each is one kernel.
#include <stdlib.h>
#include "stand-in.h"

#define COUNTED(name) \
  int name(void) { \
    standin_launch(NULL); \
    return SUCCESS; \
  }

COUNTED(cublasGemmEx)
COUNTED(cublasGemmBatchedEx)
COUNTED(cublasGemmStridedBatchedEx)
COUNTED(cublasSgemm_v2)
COUNTED(cublasSgemmBatched)
COUNTED(cublasSgemmStridedBatched)
COUNTED(cublasDgemm_v2)
COUNTED(cublasDgemmBatched)
COUNTED(cublasDgemmStridedBatched)
COUNTED(cublasSgeam)
COUNTED(cublasDgeam)
COUNTED(cublasScopy_v2)
COUNTED(cublasSscal_v2)
COUNTED(cublasSgetrfBatched)
COUNTED(cublasSgetriBatched)
COUNTED(cublasDgetrfBatched)
COUNTED(cublasDgetriBatched)

// A handle keeps whether TF32 is allowed: the provider reads it, sets it and sets it back.
int cublasCreate_v2(int **handle) { return (*handle = calloc(1, sizeof **handle)) ? SUCCESS : 3 /* CUBLAS_STATUS_ALLOC_FAILED */; }
int cublasDestroy_v2(int *handle) {
  free(handle);
  return SUCCESS;
}
int cublasGetMathMode(int *handle, int *mode) {
  *mode = *handle;
  return SUCCESS;
}
int cublasSetMathMode(int *handle, int mode) {
  *handle = mode;
  return SUCCESS;
}
DOES_NOTHING(cublasSetStream_v2)

const char *cublasGetStatusName(int status) { return status ? "CUBLAS_STATUS of the stand-in" : "CUBLAS_STATUS_SUCCESS"; }
const char *cublasGetStatusString(int status) { return cublasGetStatusName(status); }
