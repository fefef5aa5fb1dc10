"""Pattern matching and rewriting of graphs; lowering; ONNX export."""
