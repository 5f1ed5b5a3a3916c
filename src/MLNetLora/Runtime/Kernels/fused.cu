// All fused kernels: what fused.ptx is made from.
#include "swiglu.cu"
#include "rms_norm_grad.cu"
