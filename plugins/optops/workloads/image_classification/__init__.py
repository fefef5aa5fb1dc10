"""Image classification: images in, a class and the probability of each out."""
