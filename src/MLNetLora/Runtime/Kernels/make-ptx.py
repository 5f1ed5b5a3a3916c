#!/usr/bin/env python3
"""Makes fused.ptx from the .cu files beside it with NVRTC, which needs neither a GPU nor a toolkit beside it, and lets ptxas assemble them where it is there.

  make-ptx.py LIBNVRTC [PTXAS]     such as libnvrtc.so.11.2 of Debian's package libnvrtc11.2

PTX is text for the driver, which compiles it for its GPU: for compute capability 7.5, it runs there and on every later one.
"""
import ctypes
import hashlib
import os
import re
import subprocess
import sys

folder = os.path.dirname(os.path.abspath(__file__))
nvrtc = ctypes.CDLL(sys.argv[1])
options = [b"--gpu-architecture=compute_75", b"--std=c++14"]
chips = ["75", "80", "86", "89", "90", "100", "120"]


def check(result, program=None):
    if result:
        text = ""
        if program:
            size = ctypes.c_size_t()
            nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
            log = ctypes.create_string_buffer(size.value)
            nvrtc.nvrtcGetProgramLog(program, log)
            text = log.value.decode()
        sys.exit(f"NVRTC returned {result}. {text}")


def read(name):
    with open(os.path.join(folder, name), "rb") as file:
        return file.read()


version = (ctypes.c_int(), ctypes.c_int())
check(nvrtc.nvrtcVersion(ctypes.byref(version[0]), ctypes.byref(version[1])))
names = ["numbers.h", "swiglu.cu", "rms_norm_grad.cu"]
sources = [read(name) for name in names]
source = read("fused.cu")
program, size = ctypes.c_void_p(), ctypes.c_size_t()
contents = (ctypes.c_char_p * len(names))(*sources)
included = (ctypes.c_char_p * len(names))(*[name.encode() for name in names])
check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"fused.cu", len(names), contents, included))
check(nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options)), program)
check(nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size)))
ptx = ctypes.create_string_buffer(size.value)
check(nvrtc.nvrtcGetPTX(program, ptx))
body = re.sub(r"\A(\s*//[^\n]*\n|\s*\n)*", "", ptx.value.decode())  # without the compiler's own remarks
body = "\n".join(line.rstrip() for line in body.rstrip().split("\n"))
path = os.path.join(folder, "fused.ptx")
with open(path, "w", newline="\n") as file:
    file.write(f"// Made by make-ptx.py with NVRTC {version[0].value}.{version[1].value}. SHA-256 of {', '.join(names)} and fused.cu, one behind the other:\n")
    file.write(f"// {hashlib.sha256(b''.join([*sources, source])).hexdigest()}\n{body}\n")
for chip in chips if len(sys.argv) > 2 else []:
    done = subprocess.run([sys.argv[2], "-v", f"-arch=sm_{chip}", "-o", os.devnull, path], capture_output=True, text=True)
    said = re.findall(r"Used \d+ registers|\d+ bytes spill stores", done.stderr)
    print(f"sm_{chip}: {', '.join(sorted(set(said))) if done.returncode == 0 else done.stderr.strip()}")
