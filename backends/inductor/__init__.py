"""AOTInductor: a `.pt2` for the host CPU (`cpu`) or an NVIDIA GPU (`cuda`)."""
