"""Super-resolution: images in, the same images two to four times as large out."""
