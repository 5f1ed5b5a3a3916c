// An execution provider of ONNX Runtime for tests, as its plugin interface wants it. What it does is in the name under which it is registered:
//   ...Idle...    lists no device
//   ...Itself...  calls itself NamedByItself
//   ...Memory...  has memory of its own, in which numbers are enciphered: who reads it without a copy reads nonsense
// and in its options:
//   take = Add    computes the nodes of this operator, Add or Mul, in float32; without it none
//   refuse = why  does not start
// A result is written before an operand is read, as one kernel for many nodes may do. By default it lists two devices, both the processor.
#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "onnxruntime_c_api.h"

#define CIPHER 0x5a
#define AXES 8
#define TRY(call) do { OrtStatus* status_ = (call); if (status_ != NULL) return status_; } while (0)

typedef struct {
  OrtEpFactory base;
  char name[128];
  int devices;
  OrtMemoryInfo* memory;  // NULL: the process's
  OrtAllocator allocator;
  OrtDataTransferImpl transfer;
} Factory;

typedef struct {
  OrtEp base;
  Factory* factory;
  char take[32];
} Provider;

typedef struct {
  OrtNodeComputeInfo base;
  int multiplies;
} Node;

static const OrtApi* s_api;
static const OrtEpApi* s_ep;
static int s_nodes, s_runs, s_copies;

int test_provider_nodes(void) { return s_nodes; }
int test_provider_runs(void) { return s_runs; }
int test_provider_copies(void) { return s_copies; }

static void Cipher(void* to, const void* from, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) ((unsigned char*)to)[i] = ((const unsigned char*)from)[i] ^ CIPHER;
}

// Memory of its own.

static void* Alloc(OrtAllocator* a, size_t size) { (void)a; return malloc(size == 0 ? 1 : size); }
static void Free(OrtAllocator* a, void* p) { (void)a; free(p); }
static const OrtMemoryInfo* Info(const OrtAllocator* a) { return ((const Factory*)((const char*)a - offsetof(Factory, allocator)))->memory; }

static OrtStatus* CreateAllocator(OrtEpFactory* f, const OrtMemoryInfo* info, const OrtKeyValuePairs* options, OrtAllocator** out) {
  (void)info; (void)options;
  *out = ((Factory*)f)->memory == NULL ? NULL : &((Factory*)f)->allocator;
  return NULL;
}

static void ReleaseAllocator(OrtEpFactory* f, OrtAllocator* a) { (void)f; (void)a; }
static void ReleaseTransfer(OrtDataTransferImpl* t) { (void)t; }

static int IsOwn(const OrtMemoryDevice* device) { return s_ep->MemoryDevice_GetDeviceType(device) != OrtMemoryInfoDeviceType_CPU; }

static bool CanCopy(const OrtDataTransferImpl* t, const OrtMemoryDevice* from, const OrtMemoryDevice* to) {
  (void)t;
  return IsOwn(from) || IsOwn(to);
}

static OrtStatus* CopyTensors(OrtDataTransferImpl* t, const OrtValue** from, OrtValue** to, OrtSyncStream** streams, size_t count) {
  (void)t; (void)streams;
  for (size_t i = 0; i < count; i++) {
    const void* source;
    void* target;
    size_t bytes;
    TRY(s_api->GetTensorData(from[i], &source));
    TRY(s_api->GetTensorMutableData(to[i], &target));
    TRY(s_api->GetTensorSizeInBytes(from[i], &bytes));
    if (IsOwn(s_ep->Value_GetMemoryDevice(from[i])) == IsOwn(s_ep->Value_GetMemoryDevice(to[i]))) memmove(target, source, bytes);
    else Cipher(target, source, bytes);
    s_copies++;
  }
  return NULL;
}

static OrtStatus* CreateDataTransfer(OrtEpFactory* f, OrtDataTransferImpl** out) {
  *out = ((Factory*)f)->memory == NULL ? NULL : &((Factory*)f)->transfer;
  return NULL;
}

// Nodes.

static OrtStatus* CreateState(OrtNodeComputeInfo* node, OrtNodeComputeContext* context, void** state) { (void)context; *state = node; return NULL; }
static void ReleaseState(OrtNodeComputeInfo* node, void* state) { (void)node; (void)state; }

static OrtStatus* Shape(const OrtValue* value, int64_t* shape, size_t* axes) {
  OrtTensorTypeAndShapeInfo* info;
  TRY(s_api->GetTensorTypeAndShape(value, &info));
  OrtStatus* status = s_api->GetDimensionsCount(info, axes);
  if (status == NULL && *axes > AXES) status = s_api->CreateStatus(ORT_FAIL, "too many axes");
  if (status == NULL) status = s_api->GetDimensions(info, shape, *axes);
  s_api->ReleaseTensorTypeAndShapeInfo(info);
  return status;
}

static OrtStatus* Compute(OrtNodeComputeInfo* info, void* state, OrtKernelContext* context) {
  (void)state;
  Node* node = (Node*)info;
  const OrtValue* inputs[2];
  const void* data[2];
  int is_own[3];  // ONNX Runtime hands over what the processor has computed where it is
  int64_t given[2][AXES], shape[AXES];
  size_t axes[2], count = 1, different;
  TRY(s_api->KernelContext_GetInputCount(context, &different));
  for (int k = 0; k < 2; k++) {
    TRY(s_api->KernelContext_GetInput(context, k < (int)different ? k : 0, &inputs[k]));  // one where a number is squared
    TRY(s_api->GetTensorData(inputs[k], &data[k]));
    TRY(Shape(inputs[k], given[k], &axes[k]));
    is_own[k] = IsOwn(s_ep->Value_GetMemoryDevice(inputs[k]));
  }
  size_t rank = axes[0] > axes[1] ? axes[0] : axes[1];
  int64_t stride[2][AXES];
  for (int k = 0; k < 2; k++) {
    int64_t step = 1;
    for (size_t i = 0; i < rank; i++) {  // from the last axis
      int64_t size = i < axes[k] ? given[k][axes[k] - 1 - i] : 1;
      stride[k][i] = size == 1 ? 0 : step;
      step *= size;
      if (k == 0 || size != 1) shape[rank - 1 - i] = size;
    }
  }
  for (size_t i = 0; i < rank; i++) count *= shape[i];
  OrtValue* output;
  void* target;
  TRY(s_api->KernelContext_GetOutput(context, 0, shape, rank, &output));
  TRY(s_api->GetTensorMutableData(output, &target));
  is_own[2] = IsOwn(s_ep->Value_GetMemoryDevice(output));
  memset(target, 0, count * sizeof(float));
  for (size_t at = 0; at < count; at++) {
    int64_t offset[2] = {0, 0};
    size_t rest = at;
    for (size_t i = 0; i < rank; i++) {
      size_t index = rest % shape[rank - 1 - i];
      rest /= shape[rank - 1 - i];
      for (int k = 0; k < 2; k++) offset[k] += (int64_t)index * stride[k][i];
    }
    float operand[2], result;
    for (int k = 0; k < 2; k++) {
      if (is_own[k]) Cipher(&operand[k], (const float*)data[k] + offset[k], sizeof(float));
      else operand[k] = ((const float*)data[k])[offset[k]];
    }
    result = node->multiplies ? operand[0] * operand[1] : operand[0] + operand[1];
    if (is_own[2]) Cipher((float*)target + at, &result, sizeof(float));
    else ((float*)target)[at] = result;
  }
  s_runs++;
  return NULL;
}

static OrtStatus* IsFloat(const OrtNode* node, int* is) {
  size_t count;
  TRY(s_api->Node_GetNumInputs(node, &count));
  const OrtValueInfo* inputs[2];
  *is = 0;
  if (count != 2) return NULL;
  TRY(s_api->Node_GetInputs(node, inputs, 2));
  const OrtTypeInfo* type;
  const OrtTensorTypeAndShapeInfo* tensor;
  ONNXTensorElementDataType element;
  TRY(s_api->GetValueInfoTypeInfo(inputs[0], &type));
  TRY(s_api->CastTypeInfoToTensorInfo(type, &tensor));
  TRY(s_api->GetTensorElementType(tensor, &element));
  *is = element == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  return NULL;
}

static OrtStatus* GetCapability(OrtEp* ep, const OrtGraph* graph, OrtEpGraphSupportInfo* support) {
  Provider* provider = (Provider*)ep;
  size_t count;
  TRY(s_api->Graph_GetNumNodes(graph, &count));
  const OrtNode** nodes = calloc(count + 1, sizeof(*nodes));
  OrtStatus* status = s_api->Graph_GetNodes(graph, nodes, count);
  for (size_t i = 0; status == NULL && i < count; i++) {
    const char* type;
    int is_float;
    status = s_api->Node_GetOperatorType(nodes[i], &type);
    if (status != NULL || strcmp(type, provider->take) != 0) continue;
    status = IsFloat(nodes[i], &is_float);
    if (status == NULL && is_float) {
      status = s_ep->EpGraphSupportInfo_AddNodesToFuse(support, &nodes[i], 1, NULL);
      s_nodes++;
    }
  }
  free(nodes);
  return status;
}

static OrtStatus* Compile(OrtEp* ep, const OrtGraph** graphs, const OrtNode** fused, size_t count, OrtNodeComputeInfo** infos, OrtNode** contexts) {
  (void)graphs; (void)fused; (void)contexts;
  for (size_t i = 0; i < count; i++) {
    Node* node = calloc(1, sizeof(Node));
    node->base.ort_version_supported = ORT_API_VERSION;
    node->base.CreateState = CreateState;
    node->base.Compute = Compute;
    node->base.ReleaseState = ReleaseState;
    node->multiplies = strcmp(((Provider*)ep)->take, "Mul") == 0;
    infos[i] = &node->base;
  }
  return NULL;
}

static void ReleaseInfos(OrtEp* ep, OrtNodeComputeInfo** infos, size_t count) {
  (void)ep;
  for (size_t i = 0; i < count; i++) free(infos[i]);
}

// The provider.

static const char* ProviderName(const OrtEp* ep) { return ((const Provider*)ep)->factory->name; }
static const char* FactoryName(const OrtEpFactory* f) { return ((const Factory*)f)->name; }
static const char* Vendor(const OrtEpFactory* f) { (void)f; return "Tests"; }
static uint32_t VendorId(const OrtEpFactory* f) { (void)f; return 0xfeed; }
static const char* Version(const OrtEpFactory* f) { (void)f; return "1.0.0"; }
static bool IsStreamAware(const OrtEpFactory* f) { (void)f; return false; }

static OrtStatus* GetSupportedDevices(OrtEpFactory* f, const OrtHardwareDevice* const* devices, size_t count, OrtEpDevice** out, size_t most, size_t* found) {
  Factory* factory = (Factory*)f;
  *found = 0;
  for (size_t i = 0; i < count; i++) {
    if (s_api->HardwareDevice_Type(devices[i]) != OrtHardwareDeviceType_CPU) continue;
    for (int k = 0; k < factory->devices && *found < most; k++) {
      TRY(s_ep->CreateEpDevice(f, devices[i], NULL, NULL, &out[*found]));
      if (factory->memory != NULL) TRY(s_ep->EpDevice_AddAllocatorInfo(out[*found], factory->memory));
      (*found)++;
    }
  }
  return NULL;
}

// An option as the session holds it: under ep.NAME.OPTION, in lower case.
static OrtStatus* Option(const Factory* factory, const OrtSessionOptions* options, const char* name, char* value, size_t size) {
  char key[256];
  int has;
  snprintf(key, sizeof(key), "ep.%s.%s", factory->name, name);
  for (char* c = key; *c != 0; c++) *c = (char)tolower(*c);
  *value = 0;
  TRY(s_api->HasSessionConfigEntry(options, key, &has));
  return has ? s_api->GetSessionConfigEntry(options, key, value, &size) : NULL;
}

static OrtStatus* CreateEp(OrtEpFactory* f, const OrtHardwareDevice* const* devices, const OrtKeyValuePairs* const* metadata, size_t count,
                           const OrtSessionOptions* options, const OrtLogger* logger, OrtEp** out) {
  (void)devices; (void)metadata; (void)logger;
  char why[128];
  TRY(Option((Factory*)f, options, "refuse", why, sizeof(why)));
  if (*why != 0) return s_api->CreateStatus(ORT_INVALID_ARGUMENT, why);
  if (count != 1) return s_api->CreateStatus(ORT_INVALID_ARGUMENT, "one device at a time");
  Provider* provider = calloc(1, sizeof(Provider));
  provider->base.ort_version_supported = ORT_API_VERSION;
  provider->base.GetName = ProviderName;
  provider->base.GetCapability = GetCapability;
  provider->base.Compile = Compile;
  provider->base.ReleaseNodeComputeInfos = ReleaseInfos;
  provider->factory = (Factory*)f;
  *out = &provider->base;
  return Option((Factory*)f, options, "take", provider->take, sizeof(provider->take));
}

static void ReleaseEp(OrtEpFactory* f, OrtEp* ep) { (void)f; free(ep); }

OrtStatus* CreateEpFactories(const char* name, const OrtApiBase* base, const OrtLogger* logger, OrtEpFactory** factories, size_t most, size_t* count) {
  (void)logger; (void)most;
  s_api = base->GetApi(ORT_API_VERSION);
  s_ep = s_api->GetEpApi();
  Factory* factory = calloc(1, sizeof(Factory));
  snprintf(factory->name, sizeof(factory->name), "%s", strstr(name, "Itself") != NULL ? "NamedByItself" : name);
  factory->devices = strstr(name, "Idle") != NULL ? 0 : 2;
  factory->base.ort_version_supported = ORT_API_VERSION;
  factory->base.GetName = FactoryName;
  factory->base.GetVendor = Vendor;
  factory->base.GetVendorId = VendorId;
  factory->base.GetVersion = Version;
  factory->base.GetSupportedDevices = GetSupportedDevices;
  factory->base.CreateEp = CreateEp;
  factory->base.ReleaseEp = ReleaseEp;
  factory->base.CreateAllocator = CreateAllocator;
  factory->base.ReleaseAllocator = ReleaseAllocator;
  factory->base.CreateDataTransfer = CreateDataTransfer;
  factory->base.IsStreamAware = IsStreamAware;
  if (strstr(name, "Memory") != NULL) {
    TRY(s_api->CreateMemoryInfo_V2("TestMemory", OrtMemoryInfoDeviceType_NPU, 0xfeed, 0, OrtDeviceMemoryType_DEFAULT, 0, OrtDeviceAllocator, &factory->memory));
    factory->allocator.version = ORT_API_VERSION;
    factory->allocator.Alloc = Alloc;
    factory->allocator.Free = Free;
    factory->allocator.Info = Info;
    factory->allocator.Reserve = Alloc;
    factory->transfer.ort_version_supported = ORT_API_VERSION;
    factory->transfer.Release = ReleaseTransfer;
    factory->transfer.CanCopy = CanCopy;
    factory->transfer.CopyTensors = CopyTensors;
  }
  factories[0] = &factory->base;
  *count = 1;
  return NULL;
}

OrtStatus* ReleaseEpFactory(OrtEpFactory* factory) {
  if (((Factory*)factory)->memory != NULL) s_api->ReleaseMemoryInfo(((Factory*)factory)->memory);
  free(factory);
  return NULL;
}
