"""Say in plain words what `data_scripts.prepare` found, guessed, passed over and wrote."""

import shlex
from collections import Counter
from pathlib import Path

from ..file_checks import upright_and_wide
from .annotated import GIVE_NAMES, REST_IS_BACKGROUND, Annotated
from .correction import Plan
from .found import count, some
from .writing import Written

SPLITS = ("train", "val", "test")
LARGE = 1024  # photos of more pixels than its square are best shown to a network with this longer side


def report(source: str, root: Path, annotated: Annotated, planned: Plan, written: Written) -> list[str]:
    """Return the lines of the report."""
    lines = [f"{source}: {annotated.kind}", *_photos(written), *(f"  {line}" for line in annotated.facts), ""]
    if annotated.licence:
        lines.insert(-1, f"  licence, as the annotations state it: {annotated.licence}")
    lines += [*_classes(planned, written), ""]
    doubts = _to_check(annotated, planned, written)
    flags = ", or give the flag" if any("--" in line for line in doubts) else ""
    lines += _section(f"Please check (correct {root / 'classes.yaml'}{flags}):", doubts)
    lines += _section("Passed over:", _passed_over(annotated, written))
    return lines + _next(root, written)


def _photos(written: Written) -> list[str]:
    splits = [f"{split} {written.splits[split]}" for split in SPLITS if written.splits[split]]
    sizes = [
        f"{height}x{width}" + (f" ({number})" if len(written.sizes) > 1 else "")
        for (height, width), number in written.sizes.most_common()
    ]
    return [
        f"  photos: {sum(written.splits.values())} ({', '.join(splits) or 'not divided into splits'})",
        f"  height x width: {some(sizes)}",
    ]


def _classes(planned: Plan, written: Written) -> list[str]:
    """Return the table of classes, and a line on ignored pixels."""
    labels = planned.labels
    total = max(1, int(written.counts.sum()))
    wide = max(len(name) for name in (*labels.names, "ignored"))
    lines = [f"  {'id':>3}  {'class':{wide}}  {'color':15}  {'photos':>6}  {'pixels':>7}"]
    for name, number, color in zip(labels.names, labels.source_ids, labels.palette, strict=True):
        share = _share(written.counts[number], total)
        lines.append(f"  {number:3}  {name:{wide}}  {str(list(color)):15}  {written.images[number]:6}  {share:>7}")
    for number in sorted(labels.void_ids):
        if written.counts[number]:
            share = _share(written.counts[number], total)
            lines.append(f"  {number:3}  {'ignored':{wide}}  {'':15}  {written.images[number]:6}  {share:>7}")
    return lines


def _share(pixels: int, total: int) -> str:
    if not pixels:
        return "none"
    return f"{pixels / total:.2%}" if pixels >= total / 10000 else "<0.01%"


def _to_check(annotated: Annotated, planned: Plan, written: Written) -> list[str]:
    lines = [line for line in annotated.guesses if not (planned.corrected and GIVE_NAMES in line)]
    if 0 in planned.labels.void_ids:
        lines = [line for line in lines if not line.startswith(REST_IS_BACKGROUND)]
    lines += planned.notes
    lines += [f"{text}: {number} (the first in {first})" for text, (number, first) in written.remarks.items()]
    empty = [
        name
        for name, number in zip(planned.labels.names, planned.labels.source_ids, strict=True)
        if not written.counts[number]
    ]
    if empty:
        needed = "it from classes.yaml if you do not need it"
        if len(empty) > 1:
            needed = "these from classes.yaml if you do not need them"
        lines.append(f"no pixel is labelled {some(empty, 10)}: delete {needed}")
    known = Counter({split: number for split, number in written.splits.items() if split})
    if known and not known["train"]:
        lines.append(f"there is no training split, only {some(known)}")
    return lines


def _passed_over(annotated: Annotated, written: Written) -> list[str]:
    lines = [f"{reason}: {count(names)}" for reason, names in annotated.passed_over.items()]
    bad = [*annotated.errors, *written.errors]
    return lines + [f"bad file (--skip_bad): {line}" for line in bad]


def _section(title: str, lines: list[str]) -> list[str]:
    return [title, *(f"  - {line}" for line in lines), ""] if lines else []


def _next(root: Path, written: Written) -> list[str]:
    folder = shlex.quote(str(root))
    train = f"accelerate launch train_seg.py --dataset_path {folder} --model streetnet --max_train_time 2h"
    notes = [] if written.splits["val"] else ["a fifth of the photos is held out for validation"]
    (height, width), _ = written.sizes.most_common(1)[0]
    if height * width > LARGE**2:
        notes.append("the photos are large: the network sees them at this height and width")
        if upright_and_wide(list(written.sizes.elements())):
            width = height
            notes.append("a square changes upright and wide photos alike")
        size = " ".join(str(max(32, round(side * LARGE / max(height, width) / 32) * 32)) for side in (height, width))
        train += f" --train_size {size} --test_size {size}"
    return [
        f"Wrote {root}: images/, masks/ and classes.yaml. Next:",
        f"  python -m data_scripts.check {folder}",
        f"  {train}{'  # ' + '; '.join(notes) if notes else ''}",
    ]
