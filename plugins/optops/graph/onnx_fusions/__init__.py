"""Makes of a converted ONNX graph the operators that ONNX Runtime has fused kernels for, and proves it."""

from optops.graph.onnx_fusions.fuse import Fused, count_fused, fuse

__all__ = ["Fused", "count_fused", "fuse"]
