"""Where the pictures come from: a folder, a video, or the photographs that scikit-image ships.

The pictures of a folder and the frames of a video keep their sizes. The photographs of scikit-image
are smaller than today's cameras deliver, and most of them are PNG, which takes several times as
long to decode. So they are scaled to full-HD height and saved as JPEG, once, in the folder of
results.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import cv2
import numpy as np

from onecopy.demo.decode import codec_warnings_hidden, decode_into
from onecopy.demo.errors import DemoError, UnreadablePictureError

if TYPE_CHECKING:
    import numpy.typing as npt

    Image: TypeAlias = npt.NDArray[np.uint8]

Memory = Callable[[int], "Image"]

CAMERA_HEIGHT = 1080  # rows of a full-HD camera

# Files with another ending are not pictures (a README, a thumbnail database). They are no error.
# fmt: off
SUFFIXES = frozenset({
    ".avif", ".bmp", ".dib", ".exr", ".gif", ".hdr", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm",
    ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".pxm", ".ras", ".sr", ".tif", ".tiff", ".webp",
})
# fmt: on

# The photographs in the wheel of scikit-image. Its data folder also has drawings, masks and test
# patterns.
_SHIPPED = (
    "astronaut.png",
    "coffee.png",
    "rocket.jpg",
    "chelsea.png",
    "retina.jpg",
    "motorcycle_left.png",
    "hubble_deep_field.jpg",
    "motorcycle_right.png",
    "camera.png",
    "ihc.png",
    "moon.png",
    "coins.png",
    "brick.png",
    "grass.png",
    "gravel.png",
)


class Decoded(NamedTuple):
    """A picture that was just decoded.

    Attributes
    ----------
    number : int
        The frame's number.
    picture : int
        Which picture of the source it is.
    image : numpy.ndarray
        (height, width, 3) uint8, in the memory from the producer.
    copies : int
        Copies made after decoding.
    """

    number: int
    picture: int
    image: Image
    copies: int


class Source(Protocol):
    """Pictures to decode. A source is picklable, so that each producer gets its own."""

    @property
    def description(self) -> str:
        """A short description."""

    @property
    def largest(self) -> tuple[int, int]:
        """Height and width of the picture with the most pixels."""

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Names of the pictures that could not be read before the start."""

    def label(self, picture: int) -> str:
        """Name a picture, for captions and file names."""

    def read(self, numbers: range, memory: Memory, unreadable: set[str]) -> Iterator[Decoded]:
        """Decode the frames with these numbers, in order, into memory from `memory`.

        If a picture cannot be read, its name is added to `unreadable`, and the next picture is used
        instead.
        """

    def preview(self, picture: int) -> Image | None:
        """Decode one picture again, for the contact sheet."""


def open_source(path: Path | None, limit: int, out: Path) -> Source:
    """Determine what `path` is, and read the sizes of its pictures.

    Parameters
    ----------
    path : pathlib.Path or None
        A folder, a picture, or a video. None: the photographs of scikit-image.
    limit : int
        The greatest number of pictures.
    out : pathlib.Path
        The folder for the scaled photographs of scikit-image.

    Returns
    -------
    Source
        It has at least one picture.

    Raises
    ------
    DemoError
        There is nothing, or nothing that OpenCV can read.
    """
    if path is None:
        return _shipped(limit, out / "originals")
    try:
        if path.is_dir():
            files = sorted(
                file
                for file in path.iterdir()
                if file.suffix.lower() in SUFFIXES
                and not file.name.startswith(".")
                and file.is_file()
            )
            if not files:
                raise DemoError(f"no pictures in {path} (of the kinds that OpenCV reads)")
            return _folder(files, limit, str(path))
        with path.open("rb"):
            pass
    except PermissionError as error:
        raise DemoError(f"no permission to read {error.filename or path}") from error
    if path.suffix.lower() in SUFFIXES:
        return _folder([path], limit, str(path))
    return _video(path)


@dataclass(frozen=True)
class PictureFiles:
    """Picture files, each with its own size.

    Attributes
    ----------
    files : tuple of (path, height, width)
        The files and their sizes.
    """

    description: str
    files: tuple[tuple[str, int, int], ...]
    unreadable: tuple[str, ...]
    largest: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        """Find the largest picture."""
        sizes = ((height, width) for _, height, width in self.files)
        object.__setattr__(self, "largest", max(sizes, key=lambda size: size[0] * size[1]))

    def label(self, picture: int) -> str:
        """Name a picture after its file."""
        return Path(self.files[picture][0]).stem

    def read(self, numbers: range, memory: Memory, unreadable: set[str]) -> Iterator[Decoded]:
        """Decode files in turn, from the first again after the last."""
        bad: set[int] = set()
        for number in numbers:
            for offset in range(len(self.files)):
                picture = (number + offset) % len(self.files)
                if picture in bad:
                    continue
                path, height, width = self.files[picture]
                image = memory(height * width * 3).reshape(height, width, 3)
                try:
                    copies = decode_into(path, image)
                except UnreadablePictureError:
                    bad.add(picture)
                    unreadable.add(Path(path).name)
                    # Release this memory before requesting more. Otherwise a small pool may have no
                    # free frame.
                    del image
                    continue
                yield Decoded(number, picture, image, copies)
                del image
                break
            else:
                return

    def preview(self, picture: int) -> Image | None:
        """Decode one picture into fresh memory."""
        path, height, width = self.files[picture]
        image = np.empty((height, width, 3), np.uint8)
        try:
            decode_into(path, image)
        except UnreadablePictureError:
            return None
        return image


@dataclass(frozen=True)
class VideoFile:
    """A video that OpenCV reads. After the last frame it starts again from the beginning.

    Attributes
    ----------
    path : str
        The file.
    """

    description: str
    path: str
    largest: tuple[int, int]
    unreadable: tuple[str, ...] = ()

    def label(self, picture: int) -> str:
        """Name a frame by its number."""
        return f"{Path(self.path).stem}-{picture:05d}"

    def read(self, numbers: range, memory: Memory, unreadable: set[str]) -> Iterator[Decoded]:
        """Decode the frames with these numbers. Other frames are skipped without decoding."""
        height, width = self.largest
        with codec_warnings_hidden():
            capture = cv2.VideoCapture(self.path)
        position = 0  # index of the next frame in this pass through the video
        passed = 0  # number of all frames since the beginning of the first pass
        try:
            for number in numbers:
                while True:
                    with codec_warnings_hidden():
                        grabbed = capture.grab()
                    if grabbed and passed == number:
                        image = memory(height * width * 3).reshape(height, width, 3)
                        grabbed, frame = capture.retrieve(image)
                        if grabbed:
                            copies = _settle(frame, image)
                            yield Decoded(number, position, image, copies)
                        del image, frame
                    if grabbed:
                        position, passed = position + 1, passed + 1
                        if passed > number:
                            break
                    elif position == 0:
                        unreadable.add(Path(self.path).name)
                        return
                    else:
                        # The end. Opening again works with every container; seeking does not.
                        capture.release()
                        with codec_warnings_hidden():
                            capture = cv2.VideoCapture(self.path)
                        position = 0
        finally:
            capture.release()

    def preview(self, picture: int) -> Image | None:
        """Decode one frame, by reading from the beginning."""
        with codec_warnings_hidden():
            capture = cv2.VideoCapture(self.path)
            try:
                for _ in range(picture):
                    capture.grab()
                found, frame = capture.read()
            finally:
                capture.release()
        return np.asarray(frame, np.uint8) if found else None


def _settle(frame: object, image: Image) -> int:
    """Put a video frame into `image`, if it is not there; return the number of copies made."""
    pixels = np.asarray(frame, np.uint8)
    if np.shares_memory(pixels, image):
        return 0
    if pixels.shape != image.shape:  # the frame size of a video may change
        pixels = np.asarray(cv2.resize(pixels, (image.shape[1], image.shape[0])), np.uint8)
    np.copyto(image, pixels)
    return 1


def _shipped(limit: int, folder: Path) -> Source:
    """Scale the small photographs of scikit-image to the size that a camera delivers."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise DemoError(
            "the photographs of scikit-image are not installed. "
            "Run: pip install 'onecopy[demo]', or give --input FOLDER"
        )
    shipped = Path(spec.submodule_search_locations[0]) / "data"
    later = shipped.parents[1] / "_skimage2" / "data"  # since scikit-image 0.27
    if later.is_dir():
        shipped = later
    folder.mkdir(exist_ok=True)
    files: list[Path] = []
    for name in _SHIPPED[:limit]:
        with codec_warnings_hidden():
            picture = cv2.imread(str(shipped / name), cv2.IMREAD_COLOR)
        if picture is None:  # another release may contain fewer
            continue
        height, width = picture.shape[:2]
        size = (round(width * CAMERA_HEIGHT / height), CAMERA_HEIGHT)
        scaled = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
        files.append(folder / f"{Path(name).stem}.jpg")
        _, encoded = cv2.imencode(".jpg", scaled, [cv2.IMWRITE_JPEG_QUALITY, 92])
        files[-1].write_bytes(encoded.tobytes())
    if not files:
        raise DemoError(f"no photographs of scikit-image in {shipped}: give --input FOLDER")
    return _folder(
        files,
        limit,
        f"{len(files)} photographs from scikit-image, scaled to {CAMERA_HEIGHT} rows",
    )


def _folder(files: list[Path], limit: int, description: str) -> Source:
    found: list[tuple[str, int, int]] = []
    unreadable: list[str] = []
    for file in files:
        size = _picture_size(file)
        if size is None:
            unreadable.append(file.name)
            continue
        found.append((str(file), *size))
        if len(found) == limit:
            break
    if not found:
        raise DemoError(
            f"no picture can be read: {len(unreadable)} unreadable "
            f"({', '.join(unreadable[:3])}{', …' if len(unreadable) > 3 else ''})"
        )
    return PictureFiles(description, tuple(found), tuple(unreadable))


def _picture_size(path: Path) -> tuple[int, int] | None:
    """Return (height, width) of the decoded picture, or None if OpenCV cannot decode the file."""
    with codec_warnings_hidden():
        try:
            if not cv2.haveImageReader(str(path)):
                return None
            return _header_size(path) or _decoded_size(path)
        except cv2.error:
            return None


def _header_size(path: Path) -> tuple[int, int] | None:
    """Read the size from the header, if Pillow (which matplotlib installs) knows the format."""
    import warnings

    from PIL import Image as PillowImage

    orientation = 0x0112  # the EXIF tag; from 5 on, width and height are exchanged
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PillowImage.open(path) as picture:
                width, height = picture.size
                on_its_side = picture.getexif().get(orientation, 1) >= 5
    except (OSError, ValueError, SyntaxError, PillowImage.DecompressionBombError):
        return None
    return (width, height) if on_its_side else (height, width)


def _decoded_size(path: Path) -> tuple[int, int] | None:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None if picture is None else (picture.shape[0], picture.shape[1])


def _video(path: Path) -> Source:
    with codec_warnings_hidden():
        capture = cv2.VideoCapture(str(path))
        try:
            found, frame = capture.read() if capture.isOpened() else (False, None)
        except cv2.error:
            found, frame = False, None
        finally:
            capture.release()
    if not found or frame is None:
        raise DemoError(f"neither a folder, nor a picture or video that OpenCV reads: {path}")
    height, width = frame.shape[:2]
    return VideoFile(str(path), str(path), (height, width))
