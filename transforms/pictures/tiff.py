"""TIFF by Pillow, with what Pillow's reader leaves out of tags that decide which number is white.

Pillow knows a picture by byte order, photometric interpretation, sample format and bits. Grey of more than 8 bits it
hands over as the numbers that stand in the file, whatever these tags say; and what it reads plane by plane, it reads as
bytes. What is not honoured here is refused: a negative looks like a picture, too.
"""

from typing import Any, Final

from PIL import ImageFile, TiffImagePlugin

STRIPS_LIMIT: Final = 1 << 18
"""Strips, or tiles, of a TIFF, of which Pillow makes a Python object each."""

_CCITT: Final = frozenset({2, 3, 4})
"""Compressions of fax machines, where a missing interpretation is "0 is white"; elsewhere it is "0 is black"."""

_NATIVE: Final = {
    "I;16S": "I;16NS", "I;16BS": "I;16NS", "I;32S": "I;32NS", "I;32BS": "I;32NS", "F;32F": "F;32NF", "F;32BF": "F;32NF",
}  # fmt: skip
"""libtiff returns numbers in the order of this machine, which Pillow minds for unsigned 16 bits only."""

_INK_SET: Final = 332
_WEIGHTS: Final = 529


class TiffPicture(TiffImagePlugin.TiffImageFile):
    """The first picture of a TIFF.

    Attributes:
        white: the number that is white in deep grey, where all are within 0..white; None: 65535, of floats 1.
        is_negative: of deep grey that 0 is white. (8 bits and fewer, Pillow has turned round.)
        is_unsigned: 32-bit integers have no sign, where Pillow gives them one.
        declares_alpha: False: there is a fourth channel, and no tag says what it is.
    """

    white: int | None = None
    is_negative = False
    is_unsigned = False
    declares_alpha = True

    def _setup(self) -> None:
        tags = self.tag_v2
        for tag in (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS):
            if len(tags._tagdata.get(tag, b"")) > 8 * STRIPS_LIMIT:
                raise SyntaxError(f"it is cut into more than {STRIPS_LIMIT} strips or tiles: save it with larger ones")
        samples, format_ = _first(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)), self._sample_format()
        compression = tags.get(TiffImagePlugin.COMPRESSION, 1)
        bits = _first(tags.get(TiffImagePlugin.BITSPERSAMPLE, 1))
        if samples == 1 and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2:
            tags[TiffImagePlugin.PLANAR_CONFIGURATION] = 1  # one sample is one plane; TIFF 6.0: the tag is irrelevant
        if samples == 1 and TiffImagePlugin.PHOTOMETRIC_INTERPRETATION not in tags and compression not in _CCITT:
            tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 1  # as libtiff guesses
        interpretation = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 0)
        if format_ == 2 and bits == 8:
            raise SyntaxError("its samples are signed bytes, which are not read: save it with unsigned ones")
        if interpretation == 5 and tags.get(_INK_SET, 1) != 1:
            raise SyntaxError("its inks are not cyan, magenta, yellow and black: save it as RGB")
        super()._setup()
        deep = self.mode in {"I", "F"} or self.mode.startswith("I;16")
        self.is_negative = deep and interpretation == 0
        self.is_unsigned = self.mode == "I" and format_ == 1
        self.white = {(12, 1): 4095, (16, 2): 32767}.get((bits, format_)) if deep else None
        self.declares_alpha = TiffImagePlugin.EXTRASAMPLES in tags
        if self._compression == "raw":
            if tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2 and bits == 16:
                self._read_by_libtiff(f"{self.mode};16N")
            elif interpretation == 6 and samples == 3:
                if not all(0 < weight < 1 for weight in tags.get(_WEIGHTS, (0.3, 0.6, 0.1))):
                    raise SyntaxError("the weights of its colours are no shares of one: save it as RGB")
                self._read_by_libtiff("RGBX")
        if self.use_load_libtiff:
            self.tile = [tile._replace(args=_native(tile.args)) for tile in self.tile]

    def _sample_format(self) -> int:
        return _first(self.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, 1))

    def _read_by_libtiff(self, rawmode: str) -> None:
        """Leaves to libtiff what Pillow's own reader would take for planes of bytes, or for RGB."""
        arguments = (rawmode, self._compression, False, self.tag_v2.offset)
        self.tile = [ImageFile._Tile("libtiff", (0, 0, *self._tile_size), 0, arguments)]
        self.use_load_libtiff = True


def _native(arguments: tuple[Any, ...] | str | None) -> tuple[Any, ...]:
    assert isinstance(arguments, tuple)  # Pillow's own for libtiff, of which the first is the raw mode
    return (_NATIVE.get(arguments[0], arguments[0]), *arguments[1:])


def _first(value: int | tuple[int, ...]) -> int:
    return value[0] if isinstance(value, tuple) else value
