"""Make the embedded digits: ``python -m bench.make_digits`` (needs scikit-learn, which carries the UCI data).

8x8 blocks of 0 to 16 become 28x28 bytes by bicubic interpolation. 360 of the 1,797, the same share of each digit, are
held out; both parts are in a fixed random order. The same bytes come out each time (a test looks at their digest).
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import interpolate

from appliance.training.examples import Examples, encode

TARGET = Path(__file__).parent.parent / "appliance" / "training" / "digits" / "digits.safetensors"
HELD_OUT = 360
SEED = 20260101


def main() -> None:
    """Write the file."""
    source = load_digits()
    blocks = torch.from_numpy(source.images).float().unsqueeze(1)
    pixels = interpolate(blocks, size=(28, 28), mode="bicubic", align_corners=False).squeeze(1)
    images = (pixels * (255 / 16)).round().clamp(0, 255).to(torch.uint8).numpy()
    digits = Examples(images, source.target.astype(np.uint8))
    random = np.random.default_rng(SEED)
    held_out = stratified(digits.labels, HELD_OUT, random)
    training = random.permutation(np.setdiff1d(np.arange(len(digits)), held_out))
    TARGET.write_bytes(encode(digits.take(training), digits.take(held_out)))


def stratified(labels: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Return the indices of ``count`` samples in random order, spread over the labels as all samples are."""
    shuffled = random.permutation(labels.size)
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    every = np.linspace(0, labels.size, count, endpoint=False).astype(np.int64)
    return random.permutation(by_label[every])


if __name__ == "__main__":
    main()
