"""The readers for planners, in Python and C++: one set of cases for both."""
