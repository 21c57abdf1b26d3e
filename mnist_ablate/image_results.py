"""Which images a network classified correctly, as a short text: one bit an image, packed. Judges nothing."""

import base64
import zlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.bool_]


def encoded(correct: Bits) -> str:
    """Bool (images,) as text: their number, and their bits compressed, in base64: `10000:eJz...`."""
    packed = zlib.compress(np.packbits(correct).tobytes(), 9)
    return f"{len(correct)}:{base64.b64encode(packed).decode()}"


@lru_cache(1024)  # an adaptive sweep reads the same results at every look
def decoded(text: str) -> Bits:
    """Bool (images,) of such a text, not to be written to. Raises ValueError if it is damaged."""
    number, _, packed = text.partition(":")
    try:
        bits = np.frombuffer(zlib.decompress(base64.b64decode(packed, validate=True)), np.uint8)
    except zlib.error as error:
        raise ValueError(f"{text[:20]}: damaged results of test images") from error
    if 8 * len(bits) < int(number):
        raise ValueError(f"{text[:20]}: fewer results of test images than it says")
    return np.unpackbits(bits, count=int(number)).view(bool)
