"""Sampling operators, one folder each: the signature in `__init__.py`, a readable torch version in `reference.py`.

The references run on CPU and CUDA.  Each of them is one weighted gather: neighbouring cells of a zero-bordered table
are summed with interpolation weights by `torch.nn.functional.embedding_bag`, which never stores the gathered rows.
Coordinates stay in float32 whatever the precision of the features.
"""
