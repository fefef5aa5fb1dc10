"""Makes TensorFlow models faster, proves it, and promotes the winner."""
