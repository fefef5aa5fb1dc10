"""tf_keras architectures, what trains them, and what they can be lowered to."""
