"""Scores of one edited image against its case: pixels outside the mask, attributes as a parser reads them."""
