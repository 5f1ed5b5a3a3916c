// libcublasLt: products that are described first.
#include <stdlib.h>
#include <string.h>
#include "stand-in.h"

int cublasLtMatmul(void *handle, void *product, void *alpha, void *a, void *a_layout, void *b, void *b_layout, void *beta, void *c, void *c_layout,
    void *d, void *d_layout, void *algorithm, void *workspace, size_t workspace_size, void *stream) {
  standin_launch(NULL, stream);
  return SUCCESS;
}
int cublasLtMatrixTransform(void *handle, void *transform, void *alpha, void *a, void *a_layout, void *beta, void *b, void *b_layout, void *c, void *c_layout,
    void *stream) {
  standin_launch(NULL, stream);
  return SUCCESS;
}

// Descriptions have the same size, and none of it is read.
static int create(void **result) { return (*result = malloc(1)) ? SUCCESS : 3 /* CUBLAS_STATUS_ALLOC_FAILED */; }
static int destroy(void *handle) {
  free(handle);
  return SUCCESS;
}
#define DESCRIPTION(name) \
  int name##Create(void **result) { return create(result); } \
  int name##Destroy(void *handle) { return destroy(handle); }

DESCRIPTION(cublasLt)
DESCRIPTION(cublasLtMatrixLayout)
DESCRIPTION(cublasLtMatmulDesc)
DESCRIPTION(cublasLtMatmulPreference)
DESCRIPTION(cublasLtMatrixTransformDesc)
DOES_NOTHING(cublasLtMatrixLayoutSetAttribute)
DOES_NOTHING(cublasLtMatmulDescSetAttribute)
DOES_NOTHING(cublasLtMatmulPreferenceSetAttribute)

// Algorithms: there is one, which needs no memory.
typedef struct { uint64_t algorithm[8]; size_t workspace; int status; float waves; int reserved[4]; } choice;
int cublasLtMatmulAlgoGetHeuristic(void *handle, void *product, void *a, void *b, void *c, void *d, void *preference, int room, choice *choices, int *count) {
  memset(choices, 0, room * sizeof *choices);
  *count = room > 0;
  return SUCCESS;
}
DOES_NOTHING(cublasLtMatmulAlgoInit)
DOES_NOTHING(cublasLtMatmulAlgoConfigSetAttribute)
