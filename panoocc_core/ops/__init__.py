"""Operators that decide how fast a network is, one folder each.

`__init__.py` holds the signature and chooses the implementation; `reference.py` says in a few readable lines of torch
what is computed, and every other implementation is tested against it; `tuned.py` is of torch's operations, for every
device; `native.py` calls loops that are compiled for CPUs (`native.c`), `triton.py` has kernels for CUDA.  `backend.py`
says which of them run.
Within `reference_mode.reference_operators` all of them are their references.

The tuned sampling operators are each one weighted gather: neighbouring cells of a zero-bordered table are summed with
interpolation weights by `torch.nn.functional.embedding_bag`, which never stores the gathered rows.  Coordinates stay in
float32 whatever the precision of the features.
"""
