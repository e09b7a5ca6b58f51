"""What everything else rests on: errors, paths, the image contract, noise and the recipe. No models here."""
