"""The one place that chooses Keras 2 (tf_keras): every other module imports `keras` and `tf` from here."""

import os

# Both are read while TensorFlow is imported, so they must be set before it.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
import tf_keras as keras

__all__ = ["keras", "tf"]
