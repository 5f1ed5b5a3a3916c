#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: gradients of the reference cases, with and without fused kernels, and codes of 8-bit states on it, then training at 0.5B,
# 1.5B and 7B sizes, both ways, beside transformers + PEFT and Unsloth where Python has
# them. Everything goes into one JSON file.
#   bench/gpu/run.sh [OUT.json] [PEAK_TFLOPS]      989 is an H100 SXM's or an H200's in bfloat16, 312 an A100's, 165 an RTX 4090's
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${1:-gpu.json}
peak=${2:-989}
models=$(mktemp -d)
trap 'rm -rf "$models"' EXIT
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 MLNETLORA_TEST_DEVICE=cuda:0

dotnet build -c Release -p:OnnxRuntimePackage=Gpu || exit 1
tool() { dotnet "src/MLNetLora.Cli/bin/Release/net10.0/MLNetLora.Cli.dll" new-checkpoint "$@"; }
# Whether tests pass, and any ran.
passes() {
  local output
  output=$(dotnet test -c Release --no-build -p:OnnxRuntimePackage=Gpu tests/MLNetLora.Tests --filter "FullyQualifiedName~$1" 2>&1)
  local status=$?
  echo "$output" | tail -20 >&2
  [ $status -eq 0 ] && grep -qE 'Passed: +[1-9]' <<<"$output"
}
bench() { dotnet "bench/MLNetLora.Bench/bin/Release/net10.0/MLNetLora.Bench.dll" "$@"; }

# Against PyTorch's gradients, in float32 without TF32.
if passes GradientGoldenTests; then parity=true; else parity=false; fi

# The library's own kernels: alone against double precision, then the same gradients with them.
if MLNETLORA_TEST_DEVICE=cuda:0+fused passes "Runtime.FusedKernelTests|FullyQualifiedName~GradientGoldenTests"; then fused=true; else fused=false; fi

# Against the processor's.
if passes DynamicMapGraphTests; then codes=true; else codes=false; fi

# In 16 bits, against PyTorch's error in bfloat16; and scores beside the processor's.
if passes Gradients_are_as_near_as; then near=true; else near=false; fi
if passes DeviceAnswersTests; then answers=true; else answers=false; fi

# With CUDA graphs, against runs without.
if passes CapturedRunsTests; then graphs_equal=true; else graphs_equal=false; fi

rows=""
for case in "Qwen2.5-0.5B 1 256" "Qwen2.5-0.5B 1 256 --graphs" "Qwen2.5-0.5B 1 512" "Qwen2.5-0.5B 8 1024" "Qwen2.5-1.5B 4 2048" "Qwen2.5-7B 4 2048"; do
  read -r size batch length graphs <<<"$case"
  [ -d "$models/$size" ] || tool --size "$size" --dtype bf16 --out "$models/$size" || exit 1
  memory=$(mktemp)
  nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 200 >"$memory" 2>/dev/null & sampler=$!
  setting=(training --model "$models/$size" --batch "$batch" --length "$length" --rank 16 --targets all-linear --dropout 0 --checkpointing --steps 10
    --no-floor --device cuda:0 --peak-tflops "$peak" --json $graphs)
  ours=$(bench "${setting[@]}") || ours=null
  kill "$sampler"; wait "$sampler" 2>/dev/null
  own=$(bench "${setting[@]}" --fused-kernels) || own=null
  peer=null
  if [ -z "$graphs" ] && python3 -c 'import torch, transformers, peft' 2>/dev/null; then
    peer=$(python3 bench/gpu/peft_step.py "$models/$size" "$batch" "$length") || peer=null
  fi
  unsloth=null
  if [ -z "$graphs" ] && python3 -c 'import unsloth' 2>/dev/null; then
    unsloth=$(python3 bench/gpu/peft_step.py "$models/$size" "$batch" "$length" --unsloth) || unsloth=null
  fi
  rows="$rows${rows:+,}{\"model\":\"$size\",\"batch\":$batch,\"length\":$length,\"graphs\":$([ -n "$graphs" ] && echo true || echo false),\"memory_mib\":$(sort -n "$memory" | tail -1 | grep . || echo null),\"ours\":${ours:-null},\"ours_fused\":${own:-null},\"peft\":${peer:-null},\"unsloth\":${unsloth:-null}}"
done

driver=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1)
echo "{\"gpu\":\"$driver\",\"peak_tflops\":$peak,\"gradients_equal\":$parity,\"gradients_equal_fused\":$fused,\"codes_equal\":$codes,\"gradients_near_in_16_bits\":$near,\"answers_near\":$answers,\"graphs_equal\":$graphs_equal,\"training\":[$rows]}" >"$out"
echo "written: $out"
[ "$parity$fused$codes$near$answers$graphs_equal" = truetruetruetruetruetrue ]
