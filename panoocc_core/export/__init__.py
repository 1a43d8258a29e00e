"""A streaming step as one file, to be run without this package or in the network's place: ONNX, or PyTorch's .pt2."""
