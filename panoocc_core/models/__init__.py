"""The network's parts, each in one file; `panoocc.py` puts them together."""
