// libcublas: products, of which each is one kernel.
#include <stdlib.h>
#include "stand-in.h"

// A handle keeps whether TF32 is allowed, which the provider reads, sets and sets back, and the stream that products are put into.
typedef struct { int mode; void *stream; } handle;

#define COUNTED(name) \
  int name(handle *of) { \
    standin_launch(NULL, of->stream); \
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

int cublasCreate_v2(handle **made) { return (*made = calloc(1, sizeof **made)) ? SUCCESS : 3 /* CUBLAS_STATUS_ALLOC_FAILED */; }
int cublasDestroy_v2(handle *of) {
  free(of);
  return SUCCESS;
}
int cublasGetMathMode(handle *of, int *mode) {
  *mode = of->mode;
  return SUCCESS;
}
int cublasSetMathMode(handle *of, int mode) {
  of->mode = mode;
  return SUCCESS;
}
int cublasSetStream_v2(handle *of, void *stream) {
  of->stream = stream;
  return SUCCESS;
}

const char *cublasGetStatusName(int status) { return status ? "CUBLAS_STATUS of the stand-in" : "CUBLAS_STATUS_SUCCESS"; }
const char *cublasGetStatusString(int status) { return cublasGetStatusName(status); }
