"""Rewrite the frames of a video. Needs PyAV: `pip install av`."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .labels import DataError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer, OutputContainer

ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
WRITTEN = (".mp4", ".m4v", ".mov", ".mkv", ".avi")  # formats that can hold H.264
HD = 720  # least height of HD video
UNTAGGED = (2, 0)  # unspecified, and what PyAV says without a colour space
BT709 = 1  # the number of this standard for colours in a video's tags, and of the range 16 to 235
QUALITY = {"crf": "20", "preset": "veryfast"}  # of libx264


def is_video(path: str | Path) -> bool:
    """Whether the ending of `path` is one of a video."""
    return Path(path).suffix.lower() in ENDINGS


def require_av() -> None:
    """Raise DataError if PyAV is missing."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise DataError("videos need PyAV: pip install av") from error


def count_frames(path: Path) -> int | None:
    """Return about how many frames a video has, or None if it does not say. Raises DataError if it cannot be read."""
    with opened(path) as video:
        stream = video.streams.video[0]
        if stream.frames:
            return stream.frames
        rate, length = stream.average_rate, video.duration  # microseconds
        return None if rate is None or length is None else max(1, round(rate * length / 10**6))


def frame_size(path: Path) -> tuple[int, int]:
    """Return the (H, W) of the frames of a video, upright. Raises DataError if it has no frame."""
    with opened(path) as video:
        for frame in video.decode(video=0):
            return upright(pixels_of(frame), frame.rotation).shape[:2]
    raise DataError(f"{path} has no frame")


def rewrite(source: Path, target: Path, change: Callable[[np.ndarray], np.ndarray]) -> Iterator[int]:
    """Write `target`, a video with the frames of `source` as `change` returns them, and the sound of `source`.

    change  maps a frame, uint8 (H, W, 3) and upright, to one of the same size

    Yields the number of each frame that is done, from 1. Only a few frames are in memory at a time. Sides of an odd
    number of pixels lose their last one, because H.264 halves the resolution of colours. Raises DataError if the source
    is damaged or the target's format has no place for the frames or the sound.
    """
    import av

    try:
        with opened(source) as video, av.open(str(target), "w") as result:
            yield from _rewrite(video, result, change)
    except av.error.FFmpegError as error:
        raise DataError(f"cannot rewrite {source} as {target}: {error}") from error


def _rewrite(
    video: "InputContainer", result: "OutputContainer", change: Callable[[np.ndarray], np.ndarray]
) -> Iterator[int]:
    import av

    pictures = video.streams.video[0]
    sound = video.streams.audio[0] if video.streams.audio else None
    copied = None
    number = 0
    pictures.thread_type = "AUTO"
    written = result.add_stream("libx264", rate=pictures.average_rate or Fraction(25), options=QUALITY)
    written.pix_fmt = "yuv420p"
    written.codec_context.time_base = pictures.time_base
    for tag in ("colorspace", "color_primaries", "color_trc", "color_range"):
        setattr(written.codec_context, tag, BT709)
    if sound is not None:
        try:
            copied = result.add_stream_from_template(sound)
        except ValueError as error:
            raise DataError(
                f"this format cannot hold the video's sound ({sound.codec_context.name}): give an --output that "
                "ends in .mkv"
            ) from error
    waiting = []  # sound before the first frame: the file's header needs the size of the frames
    for packet in video.demux(*(stream for stream in (pictures, sound) if stream is not None)):
        if packet.stream is sound:
            if packet.dts is not None:
                packet.stream = copied
                waiting.append(packet)
        else:
            for frame in packet.decode():
                changed = change(upright(pixels_of(frame), frame.rotation))
                height, width = (side // 2 * 2 for side in changed.shape[:2])
                if not height or not width:
                    raise DataError(f"{video.name}: its frames are one pixel high or wide")
                if not number:
                    written.height, written.width = height, width
                    if ratio := pictures.sample_aspect_ratio:  # pixels that are not square
                        turned = round(frame.rotation / 90) % 2
                        written.codec_context.sample_aspect_ratio = 1 / ratio if turned else ratio
                drawn = av.VideoFrame.from_ndarray(np.ascontiguousarray(changed[:height, :width]), format="rgb24")
                drawn = drawn.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
                drawn.pts, drawn.time_base = frame.pts, frame.time_base
                result.mux(written.encode(drawn))
                number += 1
                yield number
        if number:
            result.mux(waiting)
            waiting = []
    result.mux(written.encode())
    if not number:
        raise DataError(f"{video.name} has no frame")


def pixels_of(frame: "VideoFrame") -> np.ndarray:
    """Return a frame as RGB, uint8 (H, W, 3). Large ones without tags have the colours of HD, as for players."""
    untagged = frame.colorspace in UNTAGGED and frame.height >= HD
    return frame.to_ndarray(format="rgb24", **({"src_colorspace": "ITU709"} if untagged else {}))


def upright(frame: np.ndarray, rotation: int) -> np.ndarray:
    """Return a frame (H, W, 3) turned counter-clockwise by `rotation` degrees, as its video asks for."""
    return np.rot90(frame, round(rotation / 90) % 4)


def opened(path: Path) -> "InputContainer":
    """Open a video. Raises DataError if it cannot be read or has no pictures."""
    import av

    try:
        video = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not video.streams.video:
        video.close()
        raise DataError(f"{path} has no pictures, only sound")
    return video
