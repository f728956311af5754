"""The names of what lies in an artifact, for both of its sides."""

LIBRARY = "program.so"
SOURCES = "kernels.c", "program.c"  # what TVM compiles, and the bytecode that its virtual machine runs
WEIGHTS = "weights.safetensors"
