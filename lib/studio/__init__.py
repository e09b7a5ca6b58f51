"""What the notebooks show: figures in one style, readings of pictures, and the panel to play with."""
