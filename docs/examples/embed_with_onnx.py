"""Embed images with an exported re-ID model: `python embed_with_onnx.py MODEL.onnx A.ppm B.ppm`.

Needs onnxruntime and numpy, and nothing of this project. Prints the cosine of all pairs.
"""

import re
import sys

import numpy as np
import onnxruntime


def read_ppm(path: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Your own decoder goes here; OpenCV's BGR needs `image[..., ::-1]`."""
    data = open(path, "rb").read()  # noqa: SIM115, PTH123 - ends with the process
    head = re.match(rb"P6\s+(?:#.*\s+)*(\d+)\s+(\d+)\s+255\s", data)
    return np.frombuffer(data, np.uint8, offset=head.end()).reshape(int(head[2]), int(head[1]), 3)


session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
# images of one size may be embedded together; the network resizes and normalises them itself
features = [session.run(None, {"images": read_ppm(path)[None]})[0] for path in sys.argv[2:]]
features = np.concatenate(features)  # (N, D) of unit length
print(np.array2string(features @ features.T, precision=4, suppress_small=True))
threshold = session.get_modelmeta().custom_metadata_map.get("threshold")
print(f"the same identity from {threshold} on" if threshold else "no threshold in the file")
