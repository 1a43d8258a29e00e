"""Rigs surveyed: what cameras and transforms send, which rig that makes, and what is wrong with one."""
