"""Where models come from: the catalogue, the download and the build of ONNX graphs."""
