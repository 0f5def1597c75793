"""Write a comparison of runs as the sections of an HTML page. Every text from a run folder passes `html.escape`."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from . import report_charts as charts
from .pace import in_words
from .parsing import as_given
from .report_noise import Difference, mean_and_deviation
from .report_pictures import Color, Photo
from .report_runs import Comparison, Group

EPOCH = "<p class='axis-name'>epoch</p>"
NOTHING = "\u2013"  # stands for a number that is not known
MOST_NAMES = 6  # of changes in one line
TIMES, MINUS, PLUS_MINUS = "\u00d7", "\u2212", "\u00b1"


def points(value: float, sign: bool = False) -> str:
    """Return a share as per cent with one decimal."""
    if math.isnan(value):
        return NOTHING
    value = round(100 * value, 1) + 0.0  # -0.0 + 0.0 is 0.0
    text = f"{value:+.1f}" if sign else f"{value:.1f}"
    return text.replace("-", MINUS)


def plus_minus(deviation: float) -> str:
    """Return a deviation or a margin after its sign, as HTML; "" if it is not known. Small ones get two decimals."""
    if math.isnan(deviation):
        return ""
    return f" <small>{PLUS_MINUS} {100 * deviation:.{1 if deviation >= 0.001 else 2}f}</small>"


def who(comparison: Comparison, group: int) -> str:
    """Return the colour and the name of a group, for a table."""
    key = charts.key_classes(comparison)[group]
    name = escape(comparison.name(group))
    runs = escape(", ".join(run.folder.name for run in comparison.groups[group].runs))
    return f'<div class="who {key}" title="{runs}"><i class="key"></i><span title="{name}">{name}</span></div>'


def is_of_one_seed(group: Group) -> bool:
    """Whether no two runs of a group differ in their seed alone."""
    return len({(run.fold, run.seed) for run in group.runs}) == len({run.fold for run in group.runs})


def count_of(group: Group) -> str:
    """Return the number of seeds and folds of a group, as HTML. One seed is marked."""
    seeds, folds = len({run.seed for run in group.runs}), len({run.fold for run in group.runs})
    parts = [f"{folds} folds"] if folds > 1 else []
    if len(group.runs) not in (folds, folds * seeds):
        parts.append(f"{len(group.runs)} runs")
    elif not is_of_one_seed(group):
        parts.append(f"{seeds} seeds")
    if is_of_one_seed(group):
        parts.append('<span class="one">one seed</span>')
    return f"<small>{f' {TIMES} '.join(parts)}</small>"


def header(comparison: Comparison, title: str, warnings: Sequence[str]) -> str:
    runs = sum(len(group.runs) for group in comparison.groups)
    groups = len(comparison.groups)
    counted = f"{runs} run{'s' if runs > 1 else ''} in {groups} group{'s' if groups > 1 else ''}"
    common = shared(comparison)
    noted = "".join(f'<p class="warning">{escape(warning)}</p>' for warning in warnings)
    lines = "".join(f"<li>{line}</li>" for line in findings(comparison))
    return (
        f'<h1>{escape(title)}</h1><p class="soft">{counted}{escape(f"; all: {common}" if common else "")}</p>{noted}'
        f'<ul class="facts">{lines}</ul>'
    )


def shared(comparison: Comparison) -> str:
    """Return the most important flags that all groups have in common."""
    flags = comparison.groups[0].flags
    parts = []
    for key, text in (
        ("model", "{}"),
        ("max_train_steps", "{} steps"),
        ("epochs", "{} epochs"),
        ("batch_size", "batches of {}"),
        ("crop_size", "crops of {}"),
    ):
        if key not in comparison.varying and flags.get(key) is not None:
            value = "x".join(map(str, flags[key])) if isinstance(flags[key], list) else flags[key]
            parts.append(text.format(value))
    return ", ".join(parts)


def findings(comparison: Comparison) -> list[str]:
    """Return what the comparison says in a few lines of HTML: the best, the changes that count, and the noise."""
    best, ties = comparison.best()
    lines = []
    if best is not None and len(comparison.comparable) > 1:
        mean, _ = mean_and_deviation(comparison.groups[best].scores())
        tied = f"; a tie with {_listed([comparison.name(i) for i in ties])}" if ties else ""
        lines.append(f"Highest: <b>{escape(comparison.name(best))}</b>, mIoU {points(mean)}{tied}.")
    others = [i for i in comparison.comparable if i != comparison.baseline]
    if others and comparison.fits[None].deviation is not None:
        for sign, word in ((1, "Above"), (-1, "Below")):
            found = [i for i in others if comparison.gain(i).is_noise is False and sign * comparison.gain(i).value > 0]
            if found:
                lines.append(f"{word} the baseline: {_listed([comparison.name(i) for i in found])}.")
        count = sum(comparison.gain(i).is_noise is not False for i in others)
        lines.append(f"Within noise of the baseline: {count} of {len(others)}.")
    return [*lines, noise_line(comparison)]


def _listed(names: Sequence[str]) -> str:
    more = [f"and {len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
    return " \u00b7 ".join([*map(escape, names[:MOST_NAMES]), *more])


def noise_line(comparison: Comparison) -> str:
    """Return where the noise comes from, or that none is known."""
    fit = comparison.fits[None]
    if fit.deviation is None:
        return (
            "<b>One seed: no noise is known</b>, so no difference here can be told from chance. Train some groups with "
            "a second --seed."
        )
    groups = [comparison.groups[i] for i in comparison.comparable]
    repeated = sum(len(group.runs) > len({run.images for run in group.runs}) for group in groups)
    folds = len({run.images for group in groups for run in group.runs}) > 1
    sources = [f"how runs of {repeated} group{'s' if repeated > 1 else ''} differ by their seed"] if repeated else []
    sources += ["how groups differ from fold to fold"] if folds else []
    freedom = f"{fit.freedom} degree{'s' if fit.freedom > 1 else ''} of freedom"
    return (
        f"Noise: a run deviates by <b>{points(fit.deviation)}</b> points, from {' and '.join(sources)} ({freedom}), "
        "taken as equal in all groups. "
        f"{PLUS_MINUS} after a gain is its 95 % interval, from this deviation and the numbers of runs. One in twenty "
        "such intervals is wrong, and other images add to the noise."
    )


def ranking(comparison: Comparison) -> str:
    """Return the table of the groups with their scores and gains."""
    groups = comparison.groups
    scores = [100 * score for group in groups for score in group.scores() if not math.isnan(score)]
    gains = [comparison.gain(i) for i in range(len(groups))]
    axis = charts.Axis.over(scores, 7, least=2)
    reach = [100 * g.value + side * min(100 * (g.margin or 0), 1e3) for g in gains if g is not None for side in (-1, 1)]
    gain_axis = charts.Axis.over([-1, 1, *reach], 7)
    keys = charts.key_classes(comparison)
    rows = ""
    for i, group in enumerate(groups):
        mean, deviation = mean_and_deviation(group.scores())
        is_base = i == comparison.baseline
        gain = None if is_base else gains[i]
        rows += (
            f'<tr class="{keys[i]}" data-g="{i}"><th>{who(comparison, i)}</th><td>{count_of(group)}</td>'
            f'<td class="num">{points(mean)}{plus_minus(deviation)}</td>'
            f"<td>{charts.score_strip(axis, group.scores())}</td>"
            f'<td class="num">{"" if is_base else gain_text(gain)}</td>'
            f"<td>{charts.gain_strip(gain_axis, gain)}</td></tr>"
        )
    titles = "<th>change</th><th>runs</th><th class='num'>mIoU, %</th><th class='when'>each run, and the mean</th>"
    titles += "<th class='num'>gain</th><th class='when'>over the baseline, with its 95 % interval</th>"
    ticks = f"<th></th><th></th>{_ticks('mIoU, %', charts.tick_row(axis))}"
    ticks += _ticks("gain", charts.tick_row(gain_axis, sign=True))
    base = baseline_line(comparison)
    return (
        f"<h2>Gain of each change</h2><p class='soft'>{base}</p><div class='card'><table class='ranking'><thead>"
        f"<tr>{titles}</tr></thead><tbody>{rows}</tbody><tfoot><tr>{ticks}</tr></tfoot></table></div>"
    )


def shown(value: object) -> str:
    """Return the value of a flag in a word."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "default" if value is None else as_given(value)


def _ticks(title: str, ticks: str) -> str:
    return f"<th><span class='narrow'>{title}</span></th><th>{ticks}</th>"


def baseline_line(comparison: Comparison) -> str:
    """Return what the baseline is, as HTML."""
    flags = comparison.groups[comparison.baseline].flags
    values = ", ".join(f"{key} {shown(flags.get(key))}" for key in comparison.varying[:8])
    more = len(comparison.varying) - 8
    values += f" and {more} more flag{'s' if more > 1 else ''}" if more > 0 else ""
    text = f"The baseline has {values}. " if values else ""
    return f"{escape(text)}Hollow dots are within noise, or no noise is known."


def gain_text(gain: Difference | None) -> str:
    if gain is None:
        return '<small title="scored on other images or classes than the baseline">other images or classes</small>'
    margin = plus_minus(math.nan if gain.margin is None else gain.margin)
    text = points(gain.value, sign=True)
    return f"{text}{margin}" if gain.is_noise is False else f'<span class="soft">{text}</span>{margin}'


def flags_table(comparison: Comparison) -> str:
    """Return the flags in which the groups differ."""
    if not comparison.varying:
        return ""
    base = comparison.groups[comparison.baseline].flags
    head = "".join(f"<th>{escape(key)}</th>" for key in comparison.varying)
    rows = ""
    order = [comparison.baseline, *(i for i in range(len(comparison.groups)) if i != comparison.baseline)]
    for i in order:
        flags = comparison.groups[i].flags
        cells = ""
        for key in comparison.varying:
            text = escape(shown(flags.get(key)))
            same = i != comparison.baseline and flags.get(key) == base.get(key)
            cells += f'<td class="same">{text}</td>' if same else f"<td>{text}</td>"
        rows += f'<tr data-g="{i}"><th>{who(comparison, i)}</th>{cells}</tr>'
    return (
        "<h2>What differs</h2><p class='soft'>All other flags that bear on the scores are the same in all runs.</p>"
        f"<div class='card scroll'><table class='flags'><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody>"
        "</table></div>"
    )


def class_table(comparison: Comparison) -> str:
    """Return the IoU of each class in each group, with the best and its ties, or the change to the baseline."""
    names: list[str | None] = [None, *comparison.classes]
    leaders = {name: comparison.best(name) for name in names}
    head = "".join(
        f'<th class="{"" if name else "first"}" title="{escape(name or "mean IoU")}">{escape(name or "mIoU")}</th>'
        for name in names
    )
    rows = ""
    for i in range(len(comparison.groups)):
        cells = "".join(class_cell(comparison, i, name, leaders[name]) for name in names)
        rows += f'<tr data-g="{i}"><th>{who(comparison, i)}</th>{cells}</tr>'
    deviations = [comparison.fits[name].deviation for name in names]
    foot = "".join(f"<td>{NOTHING if value is None else points(value)}</td>" for value in deviations)
    known = deviations[0] is not None
    tied = "Shaded: noise does not separate it from the highest, a tie. The last line is the noise of a run. "
    text = "Bold: the highest. " + (tied if known else "No noise is known, so no ties are marked. ")
    text += "IoU in per cent, mean over the runs of a group."
    return (
        f"<h2>IoU of each class</h2><p class='soft'>{text}</p>"
        "<label><input type='checkbox' id='change'> change to the baseline, coloured where it exceeds the noise</label>"
        f"<div class='card scroll'><table class='wide'><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody>"
        f"<tfoot><tr><th>deviation of a run</th>{foot}</tr></tfoot></table></div>"
    )


def class_cell(comparison: Comparison, group: int, name: str | None, leaders: tuple[int | None, list[int]]) -> str:
    mean, _ = mean_and_deviation(comparison.groups[group].scores(name))
    gain = comparison.gain(group, name)
    best, ties = leaders
    marks = ["first"] if name is None else []
    if mean > 0 and group == best:
        marks.append("best")
    elif mean > 0 and group in ties:
        marks.append("tie")
    marked = f' class="{" ".join(marks)}"' if marks else ""
    tint = ""
    change = NOTHING
    if gain is not None:
        change = "" if group == comparison.baseline else points(gain.value, sign=True)
        if gain.is_noise is False:
            amount = min(45, 12 + 400 * abs(gain.value))
            tint = f' style="--tint:var(--{"up" if gain.value > 0 else "down"});--amount:{amount:.0f}%"'
    return f'<td{marked}{tint}><span class="score">{points(mean)}</span><span class="change">{change}</span></td>'


def curves_section(comparison: Comparison) -> str:
    """Return the learning curves."""
    main = charts.curves(comparison, "mean_iou", 100)
    small = ""
    for column, title in (("train_loss", "Training loss"), ("val_loss", "Validation loss")):
        drawn = charts.curves(comparison, column)
        small += f"<div><h3>{title}</h3>{drawn}{EPOCH}</div>" if drawn else ""
    if not main + small:
        return ""
    drawn = f"<h3>Validation mIoU, %</h3>{main}{EPOCH}" if main else ""
    texts = ["Thick: the mean of a group; thin: its runs."]
    if not main:
        texts.append("No group was validated twice, so there is no curve of the mIoU.")
    if "loss" in comparison.varying:
        texts.append("Groups with different losses have different units of loss.")
    texts.append("Point at a group to follow it through the page, click to keep it.")
    return (
        f"<h2>Learning curves</h2><p class='soft'>{' '.join(texts)}</p><div class='card'>{drawn}"
        f"{key_list(comparison, always=not main)}<div class='two'>{small}</div></div>"
    )


def key_list(comparison: Comparison, always: bool) -> str:
    """Return the colours of the groups, shown `always` or only where a chart has no room for names."""
    keys = charts.key_classes(comparison)
    entries = "".join(
        f'<span class="{keys[i]}" data-g="{i}"><i class="key"></i>{escape(comparison.name(i))}</span>'
        for i in range(len(comparison.groups))
    )
    return f'<div class="keys{" always" if always else ""}">{entries}</div>'


def cost_section(comparison: Comparison) -> str:
    """Return time, memory, parameters and operations of the groups, and the mean IoU against the operations."""
    sizes = {run.image_size for group in comparison.groups for run in group.runs if run.image_size}
    hardware = {run.hardware for group in comparison.groups for run in group.runs}
    base = comparison.groups[comparison.baseline].mean_of("seconds")
    rows = ""
    for i, group in enumerate(comparison.groups):
        seconds, memory = group.mean_of("seconds"), group.mean_of("peak_memory")
        parameters, macs = group.mean_of("parameters"), group.mean_of("macs")
        cells = [
            NOTHING if seconds is None else in_words(seconds),
            f"{seconds / base:.2f}" if seconds and base else NOTHING,
            NOTHING if memory is None else f"{memory / 1e9:.2f}",
            NOTHING if parameters is None else f"{parameters / 1e6:.2f}",
            NOTHING if macs is None else f"{macs / 1e9:.2f}",
        ]
        numbers = "".join(f'<td class="num">{cell}</td>' for cell in cells)
        rows += f'<tr data-g="{i}"><th>{who(comparison, i)}</th>{numbers}</tr>'
    size = f" for {next(iter(sizes))}" if len(sizes) == 1 else ""
    titles = ("time of a run", f"{TIMES} baseline", "peak memory, GB", "parameters, M", f"GMACs{size}")
    head = "".join(f'<th class="num">{escape(title)}</th>' for title in titles)
    chart = charts.operations_chart(comparison)
    drawn = (
        "<div class='operations'><h3>mIoU, %, against operations</h3>"
        f"{chart}<p class='axis-name'>GMACs{escape(size)}</p></div>"
    )
    notes = "Times include validation. Memory is the peak of one process. A run on a busy machine takes longer."
    if len(hardware) > 1:
        notes += f" Times do not compare between machines: {'; '.join(sorted(hardware)[:4])}."
    if not chart and any(group.mean_of("macs") for group in comparison.groups):
        notes += " All networks have the same operations."
    return (
        f"<h2>Time, memory, operations</h2><p class='soft'>{escape(notes)}</p>"
        "<div class='card costs'><div class='scroll'>"
        f"<table class='cost'><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        f"{drawn if chart else ''}</div>"
    )


def photos_section(comparison: Comparison, photos: Sequence[Photo], palette: Mapping[str, Color], hidden: int) -> str:
    """Return the photos under each model. `hidden` is the number of groups that are not shown."""
    if not photos:
        return ""
    legend = "".join(
        f'<span><i class="swatch" style="background:rgb({red},{green},{blue})"></i>{escape(name)}</span>'
        for name, (red, green, blue) in palette.items()
    )
    shown = "".join(f'<div class="photos">{_photo(comparison, photo)}</div>' for photo in photos)
    more = f" The best groups are shown, without {hidden} others." if hidden else ""
    return (
        "<h2>The same photos</h2><p class='soft'>Validation images, each under one run of a group. The number is the "
        f"share of labelled pixels in the picture that are right.{more}</p>"
        f"<label><input type='checkbox' id='errors'> errors only</label><div class='legend'>{legend}</div>{shown}"
    )


def _photo(comparison: Comparison, photo: Photo) -> str:
    figures = _figure(f'<img class="photo" src="{photo.image}" alt="photo">', "photo")
    figures += _figure(f'<img src="{photo.truth}" alt="truth">', "truth")
    keys = charts.key_classes(comparison)
    for found in photo.predictions:
        name = escape(comparison.name(found.group))
        pictures = f'<img src="{found.picture}" alt="{name}" title="{escape(found.run)}">'
        pictures += f'<img src="{found.correct}" alt="">'
        caption = f'<i class="key"></i> {name} <small>{points(found.share)}</small>'
        figures += _figure(pictures, caption, f' class="{keys[found.group]}" data-g="{found.group}"')
    return figures


def _figure(pictures: str, caption: str, attributes: str = "") -> str:
    return f'<figure{attributes}><span class="stack">{pictures}</span><figcaption>{caption}</figcaption></figure>'


def runs_section(comparison: Comparison, left_out: Sequence[tuple[Path, str]]) -> str:
    """Return every run in a table that can be opened, and the folders that are left out, each with the reason."""
    rows = ""
    for i, group in enumerate(comparison.groups):
        for run in group.runs:
            cells = (str(value) if value is not None else NOTHING for value in (run.fold, run.seed, run.best_epoch))
            seconds = NOTHING if run.seconds is None else in_words(run.seconds)
            rows += (
                f'<tr data-g="{i}"><td>{escape(run.folder.name)}</td><td>{escape(comparison.name(i))}</td>'
                + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
                + f"<td>{points(run.mean_iou)}</td><td>{seconds}</td></tr>"
            )
    titles = ("run", "group", "fold", "seed", "epoch of the scores", "mIoU, %", "time")
    head = "".join(f"<th>{title}</th>" for title in titles)
    reasons = "".join(f"<li><code>{escape(folder.name)}</code>: {escape(why)}</li>" for folder, why in left_out)
    missing = f"<h2 id='left-out'>Left out</h2><ul class='out'>{reasons}</ul>" if reasons else ""
    return (
        f"<details><summary>All runs</summary><div class='card scroll'><table class='plain'><thead><tr>{head}</tr>"
        f"</thead><tbody>{rows}</tbody></table></div></details>{missing}"
    )
