"""From kernels as values to LLVM IR: nothing here runs machine code."""
