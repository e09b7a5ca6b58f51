"""Running notebooks and trainings as stages of the pipeline, and what `python -m lib.stages` offers."""
