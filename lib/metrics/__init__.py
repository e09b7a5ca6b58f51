"""Scores of edited images: pixels outside the mask, structure, perception, CLIP, identity, attributes; sets of them."""
