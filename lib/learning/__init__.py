"""Objectives and training loops. Each module trains one thing; its entry `train(scratch, settings)` is resumable."""
