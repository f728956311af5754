"""The names of what lies in an artifact, for both of its sides."""

LIBRARY = "program.so"
SOURCES = "kernels.c", "program.c"  # the code, and a table of what it calls
WEIGHTS = "weights.safetensors"
