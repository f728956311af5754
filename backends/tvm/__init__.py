"""TVM: straight-line graphs as functions of one Relax VM library, for processors that LLVM knows."""
