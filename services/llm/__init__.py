"""The language model: chat format, constrained decoding, and an engine of many streams over ONNX Runtime."""
