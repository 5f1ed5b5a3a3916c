// Part of cudart: graphs. What is put into a stream while it is captured is recorded, and done each time the graph is launched: copies are real, and at the
// addresses of then, kernels do what they else do.
#include <stdlib.h>
#include <string.h>
#include "stand-in.h"

typedef struct { call *calls; size_t count, room; int users; } graph; // what is instantiated of one has the same calls

// One capture at a time, of the kind that forbids all threads what would wait or allocate (cudaStreamCaptureModeGlobal).
static graph *captured;
static void *captured_stream;
static int is_lost, will_be_lost;

void standin_lose_capture(void) {
  lock();
  will_be_lost = 1;
  unlock();
}

int record(void *stream, call made) {
  lock();
  int is_captured = captured && stream == captured_stream;
  if (is_captured) {
    if (captured->count == captured->room) {
      captured->room = captured->room ? 2 * captured->room : 1024;
      captured->calls = realloc(captured->calls, captured->room * sizeof *captured->calls);
    }
    captured->calls[captured->count++] = made;
    counts.captured_launches += made.is_kernel;
    counts.captured_from_host += made.is_from_host;
  }
  unlock();
  return is_captured;
}

int refuse_in_capture(void) {
  lock();
  int is_captured = captured != NULL;
  is_lost |= is_captured;
  unlock();
  return is_captured;
}

static int release(graph *released) {
  lock();
  int is_last = --released->users == 0;
  unlock();
  if (is_last) {
    free(released->calls);
    free(released);
  }
  return SUCCESS;
}

int cudaStreamBeginCapture(void *stream, int mode) {
  int status = stream ? ILLEGAL_STATE : CAPTURE_UNSUPPORTED; // the default stream is not captured
  lock();
  if (stream && !captured) {
    captured = calloc(1, sizeof *captured);
    captured->users = 1;
    captured_stream = stream;
    is_lost = will_be_lost;
    will_be_lost = 0;
    status = SUCCESS;
  }
  unlock();
  return status;
}

int cudaStreamEndCapture(void *stream, graph **result) {
  *result = NULL;
  lock();
  graph *ended = captured && stream == captured_stream ? captured : NULL;
  int was_lost = is_lost;
  if (ended) {
    captured = NULL;
    captured_stream = NULL;
    is_lost = 0;
    counts.captures++;
  }
  unlock();
  if (!ended) {
    return ILLEGAL_STATE;
  }
  if (was_lost) {
    release(ended);
    return CAPTURE_INVALIDATED;
  }
  *result = ended;
  return SUCCESS;
}

int cudaStreamIsCapturing(void *stream, int *status) {
  lock();
  *status = captured && stream == captured_stream ? 1 + is_lost : 0;
  unlock();
  return SUCCESS;
}

int cudaGraphInstantiate(graph **result, graph *from, unsigned long long flags) {
  lock();
  from->users++;
  unlock();
  *result = from;
  return SUCCESS;
}
int cudaGraphDestroy(graph *destroyed) { return release(destroyed); }
int cudaGraphExecDestroy(graph *destroyed) { return release(destroyed); }

int cudaGraphLaunch(graph *launched, void *stream) {
  OUTSIDE_CAPTURE
  lock();
  counts.replays++;
  unlock();
  for (size_t i = 0; i < launched->count; i++) {
    launched->calls[i].run(&launched->calls[i]);
  }
  return SUCCESS;
}
