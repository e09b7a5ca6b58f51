"""Paired comparisons: bootstrap intervals over the cases of a benchmark."""
