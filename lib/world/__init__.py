"""The emoji world: scenes that are records, a renderer that is a pure function of them, and edits with known right
answers.
"""
