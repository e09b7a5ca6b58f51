"""What an editor may ask of a model, and how a model is loaded. Wraps diffusers; re-implements nothing of it."""
