"""Masks of dropout layers, drawn from a stream: which units of which image stay. Knows no network."""

import numpy as np
import numpy.typing as npt

BITS = 8  # of a byte


def mask(rng: np.random.Generator, rows: int, units: int, rate: float) -> npt.NDArray[np.bool_]:
    """Bool (rows, units), true with probability 1 - rate, to one part in 65,536 where a bit or a byte is not exact."""
    if rate == 0.5:  # noqa: PLR2004 - what a bit is
        draws = np.frombuffer(rng.bytes(-(-rows * units // BITS)), np.uint8)
        return np.unpackbits(draws, count=rows * units).view(bool).reshape(rows, units)
    bits = 8 if (rate * 256).is_integer() else 16
    draws = np.frombuffer(rng.bytes(rows * units * bits // BITS), f"u{bits // BITS}")
    return np.asarray(draws >= round(rate * 2**bits)).reshape(rows, units)


def packed_mask(batch_size: int, rng: np.random.Generator, rows: int, units: int, rate: float) -> npt.NDArray[np.uint8]:
    """The same mask by batch, eight units a byte: uint8 (batches, bytes). Bits that fill up the end are of no use."""
    batches = -(-rows // batch_size)
    if rate == 0.5 and batch_size * units % BITS == 0:  # noqa: PLR2004 - as above: what is drawn is packed already
        drawn = np.frombuffer(rng.bytes(-(-rows * units // BITS)), np.uint8)
        size = batch_size * units // BITS
        return np.pad(drawn, (0, batches * size - len(drawn))).reshape(batches, size)
    whole = np.zeros((batches * batch_size, units), bool)
    whole[:rows] = mask(rng, rows, units, rate)
    return np.packbits(whole.reshape(batches, -1), axis=1)
