"""What CUDA does beside torch's operators: raw kernels through CuPy, pinned uploads, captured steps.

CuPy is imported when a kernel is first wanted: nothing else needs it, nor a GPU.
"""
