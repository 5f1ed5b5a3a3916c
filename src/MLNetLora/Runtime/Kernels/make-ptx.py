#!/usr/bin/env python3
"""Makes the .ptx files beside the .cu files with NVRTC, which needs neither a GPU nor a toolkit beside it, and lets ptxas assemble them where it is there.

  make-ptx.py LIBNVRTC [PTXAS]     such as /usr/lib/x86_64-linux-gnu/libnvrtc.so.11.2, of Debian's package libnvrtc11.2

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
header = read("numbers.h")
for name in ["swiglu", "rms_norm_grad"]:
    source = read(f"{name}.cu")
    program = ctypes.c_void_p()
    contents, names = (ctypes.c_char_p * 1)(header), (ctypes.c_char_p * 1)(b"numbers.h")
    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, f"{name}.cu".encode(), 1, contents, names))
    check(nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options)), program)
    size = ctypes.c_size_t()
    check(nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size)))
    ptx = ctypes.create_string_buffer(size.value)
    check(nvrtc.nvrtcGetPTX(program, ptx))
    body = re.sub(r"\A(\s*//[^\n]*\n|\s*\n)*", "", ptx.value.decode())  # without the compiler's own remarks
    body = "\n".join(line.rstrip() for line in body.rstrip().split("\n"))
    digest = hashlib.sha256(header + source).hexdigest()
    with open(os.path.join(folder, f"{name}.ptx"), "w", newline="\n") as file:
        file.write(f"// Made by make-ptx.py from numbers.h and {name}.cu, NVRTC {version[0].value}.{version[1].value}; sha256 of both, one behind the other:\n")
        file.write(f"// {digest}\n{body}\n")
    for chip in chips if len(sys.argv) > 2 else []:
        done = subprocess.run([sys.argv[2], "-v", f"-arch=sm_{chip}", "-o", os.devnull, os.path.join(folder, f"{name}.ptx")], capture_output=True, text=True)
        said = re.findall(r"Used \d+ registers|\d+ bytes spill stores", done.stderr)
        print(f"{name} sm_{chip}: {', '.join(sorted(set(said))) if done.returncode == 0 else done.stderr.strip()}")
