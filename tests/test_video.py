"""Videos: every frame, at its time, upright, with the sound; and predict_seg.py on one."""

from fractions import Fraction

import numpy as np
import pytest

from data_scripts.labels import DataError
from data_scripts.video import count_frames, frame_size, is_video, rewrite
from seg_runs.lock import locked

av = pytest.importorskip("av", reason="videos need PyAV")

TIMES = [0, 1, 2, 4, 8, 9]  # of the frames, in 1/10 s: they are not evenly spaced


def make_video(path, size=(48, 64), sound=True, ratio=1):
    """Write a video of six frames: the left half becomes brighter, and the top is blue."""
    with av.open(str(path), "w") as video:
        pictures = video.add_stream("libx264", rate=10, options={"crf": "5"})
        pictures.height, pictures.width = size
        pictures.pix_fmt, pictures.codec_context.time_base = "yuv420p", Fraction(1, 10)
        pictures.codec_context.sample_aspect_ratio = Fraction(ratio)
        tone = video.add_stream("aac" if sound is True else sound, rate=8000, layout="mono") if sound else None
        for number, time in enumerate(TIMES):
            frame = np.zeros((*size, 3), np.uint8)
            frame[:, : size[1] // 2] = 40 * number
            frame[: size[0] // 4] = (0, 0, 200)
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 10)
            video.mux(pictures.encode(picture))
        video.mux(pictures.encode())
        if sound:
            wave = (8000 * np.sin(np.arange(8000) / 5)).astype(np.int16)
            samples = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
            samples.rate, samples.pts, samples.time_base = 8000, 0, Fraction(1, 8000)
            video.mux(tone.encode(samples))
            video.mux(tone.encode())
    return path


@pytest.mark.parametrize(("name", "codec"), [("x.avi", "libopus"), ("x.m4v", "mp3")])
def test_sound_that_the_format_cannot_hold_is_one_line(tmp_path, name, codec):
    source = make_video(tmp_path / "source.mkv", sound=codec)
    with pytest.raises(DataError, match=r"cannot hold the video's sound \(.*\): give an --output that ends in .mkv"):
        list(rewrite(source, tmp_path / name, lambda frame: frame))
    list(rewrite(source, tmp_path / "x.mkv", lambda frame: frame))


def test_frames_of_one_pixel_are_one_line(tmp_path):
    source = make_video(tmp_path / "source.mkv")
    with pytest.raises(DataError, match="its frames are one pixel high or wide"):
        list(rewrite(source, tmp_path / "x.mkv", lambda frame: frame[:1]))


def frames_of(path):
    with av.open(str(path)) as video:
        return [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in video.decode(video=0)]


def sound_of(path):
    with av.open(str(path)) as video:
        return b"".join(bytes(packet) for packet in video.demux(audio=0))


def negative(frame):
    return 255 - frame


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov"])
def test_frames_times_and_sound_are_kept(tmp_path, ending):
    source, target = make_video(tmp_path / f"drive{ending}"), tmp_path / f"negative{ending}"
    assert 6 <= count_frames(source) <= 12 and frame_size(source) == (48, 64)
    assert list(rewrite(source, target, negative)) == [1, 2, 3, 4, 5, 6]
    before, after = frames_of(source), frames_of(target)
    assert [round(time, 3) for time, _ in after] == [round(time, 3) for time, _ in before]
    assert max(np.abs(255 - old.astype(int) - new).mean() for (_, old), (_, new) in zip(before, after, strict=True)) < 4
    assert sound_of(target) == sound_of(source) != b""


def first_frame(path, colors):
    with av.open(str(path)) as video:
        frame = next(video.decode(video=0))
        tags = video.streams.video[0].codec_context
        found = (tags.colorspace, tags.color_primaries, tags.color_trc, tags.color_range)
        return frame.to_ndarray(format="rgb24", src_colorspace=colors), found


@pytest.mark.parametrize(("size", "colors"), [((720, 1280), "ITU709"), ((240, 320), "ITU601")])
def test_colours_are_those_of_hd_video_and_say_so(tmp_path, size, colors):
    """Players take the colours of a video without tags for BT.709 if it is large, and for BT.601 if not."""
    source, target = make_video(tmp_path / "drive.mp4", size=size), tmp_path / "same.mp4"
    list(rewrite(source, target, lambda frame: frame))
    (before, untagged), (after, tags) = first_frame(source, colors), first_frame(target, "ITU709")
    assert tags == (1, 1, 1, 1) != untagged
    blue = size[0] // 8, size[1] // 2
    assert np.abs(after[blue].astype(int) - before[blue]).max() <= 3


def test_a_video_without_sound(tmp_path):
    source = make_video(tmp_path / "silent.mp4", sound=False)
    assert len(list(rewrite(source, tmp_path / "out.mp4", negative))) == 6
    assert len(frames_of(tmp_path / "out.mp4")) == 6


def test_pixels_keep_their_aspect_ratio(tmp_path):
    source = make_video(tmp_path / "drive.mp4", ratio=Fraction(16, 11))
    list(rewrite(source, tmp_path / "out.mp4", negative))
    turn(source)
    list(rewrite(source, tmp_path / "turned.mp4", negative))
    for name, ratio in (("out.mp4", Fraction(16, 11)), ("turned.mp4", Fraction(11, 16))):
        with av.open(str(tmp_path / name)) as video:
            assert video.streams.video[0].sample_aspect_ratio == ratio


def turn(source):
    """Make a video of 48x64 one that its players turn clockwise."""
    content = source.read_bytes()
    identity = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    turned = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30], ">i4").tobytes()  # clockwise
    track = content.index(b"tkhd")
    place = content.index(identity, track)
    source.write_bytes(content[:place] + turned + content[place + 36 :])


def test_a_video_of_a_turned_phone_is_upright(tmp_path):
    source = make_video(tmp_path / "phone.mp4")
    turn(source)
    seen = []
    assert frame_size(source) == (64, 48)
    list(rewrite(source, tmp_path / "out.mp4", lambda frame: seen.append(frame) or frame))
    assert seen[0].shape == (64, 48, 3)
    assert seen[-1][:, 44, 2].mean() > 150 > seen[-1][:, 2, 2].mean()  # the blue top is on the right
    assert frames_of(tmp_path / "out.mp4")[0][1].shape == (64, 48, 3)


def test_odd_sides_lose_a_pixel(tmp_path):
    source = make_video(tmp_path / "drive.mp4")
    list(rewrite(source, tmp_path / "out.mp4", lambda frame: frame[:47, :63]))
    assert frames_of(tmp_path / "out.mp4")[0][1].shape == (46, 62, 3)


@pytest.mark.parametrize("content", [b"", b"no video", None])
def test_what_is_no_video_is_refused(tmp_path, content):
    path = tmp_path / "drive.mp4"
    if content is None:
        make_video(path)
        path.write_bytes(path.read_bytes()[:600])
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match="drive.mp4"):
        list(rewrite(path, tmp_path / "out.mp4", negative))


def test_endings():
    assert is_video("a/B.MP4") and not is_video("a/b.png") and not is_video("mp4")


# predict_seg.py


def test_a_video_is_predicted_frame_by_frame(in_process, tmp_path, capsys):
    source = make_video(tmp_path / "drive.mp4", size=(96, 128))
    in_process("predict_seg", "--input", source, "--output", "out.mp4")
    frames = frames_of(tmp_path / "out.mp4")
    assert len(frames) == 6 and len({frame.tobytes() for _, frame in frames}) > 1
    assert sound_of(tmp_path / "out.mp4") == sound_of(source)
    assert {path.name for path in tmp_path.iterdir()} == {"drive.mp4", "out.mp4"}
    assert "video: out.mp4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--input", "drive.mp4"], "--input drive.mp4 is a video: give --output too, the video to write"),
        (["--input", "photo.png", "--output", "out.mp4"], "--output is a video, but --input photo.png is none of .mp4"),
        (["--input", "drive.mp4", "--output", "out.gif"], "--output out.gif: the name of the video to write"),
        (["--input", "drive.mp4", "--output", "out.webm"], "--output out.webm: the name of the video to write"),
        (["--input", "drive.mp4", "--output", "here.mp4"], "--output here.mp4 exists: give another name"),
        (["--input", "drive.mp4", "--output", "gone/out.mp4"], "--output gone/out.mp4: there is no folder"),
        (["--input", "drive.mp4", "--output", "out.mp4", "--save", "color"], "--output and --save exclude each other"),
        (["--input", "drive.mp4", "--output", "out.mp4"], "cannot read drive.mp4"),
        (["--output", "out.mp4"], "--output needs --input"),
    ],
)
def test_what_cannot_be_written_is_refused(in_process, tmp_path, capsys, flags, said):
    for name in ("drive.mp4", "here.mp4"):
        (tmp_path / name).write_bytes(b"no video")
    with pytest.raises(SystemExit):
        in_process("predict_seg", *flags)
    assert f"error: {said}" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"drive.mp4", "here.mp4"}


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_truncated_video_is_named(in_process, tmp_path, capsys, monkeypatch, share):
    monkeypatch.setattr("seg_jobs.prediction_job.Predictor.labels", lambda self, image: image[0] * 0)
    rng, path = np.random.default_rng(0), tmp_path / "drive.mkv"
    with av.open(str(path), "w") as video:
        pictures = video.add_stream("libx264", rate=10, options={"g": "1", "bf": "0"})
        pictures.height, pictures.width, pictures.pix_fmt = 48, 64, "yuv420p"
        for _ in range(60):
            frame = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            video.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        video.mux(pictures.encode())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    if share < 0.5:
        with pytest.raises(SystemExit):
            in_process("predict_seg", "--input", path, "--output", "out.mp4")
    else:
        in_process("predict_seg", "--input", path, "--output", "out.mp4")
    said = capsys.readouterr()
    found = len(frames_of(tmp_path / "out.mp4"))
    assert 0 < found < 54 and f"{found} of about 60 frames of {path} could be read" in said.out + said.err


def test_an_interrupted_video_leaves_nothing(in_process, tmp_path, monkeypatch):
    from seg_jobs import prediction_job

    def stopped(*args):
        raise KeyboardInterrupt

    make_video(tmp_path / "drive.mp4")
    monkeypatch.setattr(prediction_job.Predictor, "labels", stopped)
    with pytest.raises(SystemExit):
        in_process("predict_seg", "--input", "drive.mp4", "--output", "out.mp4")
    assert {path.name for path in tmp_path.iterdir()} == {"drive.mp4"}


def test_a_second_prediction_to_the_same_video_is_refused(in_process, tmp_path, capsys):
    make_video(tmp_path / "drive.mp4")
    with locked(tmp_path / ".out.mp4.unfinished", "--output"), pytest.raises(SystemExit):
        in_process("predict_seg", "--input", "drive.mp4", "--output", "out.mp4")
    assert ".out.mp4.unfinished is in use by " in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()
