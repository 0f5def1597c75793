"""Segment photos in the browser: upload a photo, look at the prediction, download it.

    python app_gradio.py                                        # the newest finished run under runs/
    python app_gradio.py --model_name_or_path runs/A USER/NAME  # users choose between these; the second is on a hub
    python app_gradio.py --examples my_photos
    python app_gradio.py --export_space my_space                # writes a folder for a hub Space

The id image equals the one that predict_seg.py writes with the same scales and flips, byte for byte.

This file lays the page out. What it does stands in seg_app/:

- checks.py: what is refused before torch and gradio load
- server.py: the server's folder, and the gate that keeps users from all but their own files
- facts.py: what is known of a model before it is loaded
- models.py: a loaded model
- requests.py: from a request to an answer
- viewer.py: the picture with its classes
- space.py: `--export_space`

The page is there as soon as gradio is. The models, and torch with them, load meanwhile. A photo waits for them.
"""

from seg_app.checks import bare_address, cannot_listen, check_app, is_public
from seg_jobs.arguments import AppArguments, answer_early

answer_early(__name__, AppArguments, check_app)

import json
from collections.abc import Callable
from concurrent.futures import Future
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from seg_app.server import API_NAME, KEPT_SECONDS, PAGE_NAME, Gate, server_folder, swept  # isort: skip

import gradio as gr
from starlette.middleware import Middleware

from data_scripts.labels import DataError
from data_scripts.listing import list_images
from seg_app.facts import Facts, facts_of, models_by_name
from seg_app.requests import NOTHING, WINDOWS, Requests, refusal
from seg_app.space import export_space
from seg_app.viewer import sent, viewer
from seg_jobs.model_paths import note_on_default
from seg_models.errors import ModelError
from seg_models.names import MULTI_SCALE
from seg_runs.errors import one_line_errors
from seg_runs.launch import spare_libraries
from seg_runs.parsing import parse_arguments
from seg_runs.stop import ended_by_signals

if TYPE_CHECKING:
    from seg_app.models import Segmenter

NUM_EXAMPLES = 6
MOST_LINES = 2  # models that the header describes; the others are folded away
CSS = "#head, #view, #other-view, :is(#head, #view, #other-view) .html-container { padding: 0 !important; }"
API_EXAMPLE = """from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860")  # the address of this page
photo = handle_file("street.png")
ids, colours, shares = client.predict(photo, {name}, [1.0], False, api_name="/segment")
print(ids, shares)"""


def main(argv: list[str] | None = None) -> None:
    with one_line_errors(DataError, ModelError):
        args = parse_arguments(AppArguments, argv)
        if args.export_space:
            space = Path(args.export_space)
            export_space(space, (args.model_name_or_path or [None])[0])
            card = space / "model" / "README.md"
            terms = f"read the terms in {card}" if card.is_file() else "ask for the terms of the model: it has no card"
            print(f"wrote {space}. Before you publish it, {terms}")
            return
        if not args.model_name_or_path and (note := note_on_default()):
            print(note, flush=True)
        with ended_by_signals(), server_folder() as folder:
            models = models_by_name(args.model_name_or_path)
            loading = Future()
            requests = Requests(loading.result, folder, args.max_megapixels)
            page = build_page(models, requests, args.examples, is_public(args))
            # All requests go through the queue, which runs one at a time.
            page.queue(default_concurrency_limit=1, max_size=20, api_open=False)
            with swept(folder) as make_room:
                try:
                    launch(page, args, folder, make_room)
                    loading.set_result(load(models, args))
                    page.block_thread()
                finally:
                    loading.cancel()  # no photo waits for what will not come
                    page.close(verbose=False)


def launch(page: gr.Blocks, args: AppArguments, folder: Path, make_room: Callable[[], int]) -> None:
    """Start to serve the page."""
    functions = {number: function.api_name for number, function in page.fns.items()}
    size = args.max_file_size * 10**6
    gate = Middleware(Gate, folder=folder, functions=functions, max_upload=size, make_room=make_room)
    address = bare_address(args.server_name)
    try:
        page.launch(
            server_name=f"[{address}]" if ":" in address else address,  # gradio builds URLs with it
            server_port=args.server_port,
            max_file_size=f"{args.max_file_size}mb",
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            state_session_capacity=1000,
            app_kwargs={"middleware": [gate]},
            auth=[tuple(entry.split(":", 1)) for entry in args.auth or ()] or None,
            share=args.share,
            css=CSS,
            theme=gr.themes.Default().set(body_text_color_subdued="*neutral_600"),  # gradio's own grey is too pale
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise cannot_listen(args, error) from error


def load(models: dict[str, str], args: AppArguments) -> dict[str, "Segmenter"]:
    """Load the models. `models` maps names to run folders, saved models or hub ids."""
    from seg_app.models import Segmenter
    from seg_runs.launch import make_accelerator

    accelerator = make_accelerator()
    options = {"test_size": args.test_size, "trust_remote_code": args.trust_remote_code, "accelerator": accelerator}
    return {name: Segmenter(model, **options) for name, model in models.items()}


def build_page(models: dict[str, str], requests: Requests, folder: str | None, public: bool = False) -> gr.Blocks:
    """Return the page of the models. `folder` holds the examples; None for the models' own.

    public  whether people on other machines see it
    """
    facts = {name: facts_of(model) for name, model in models.items()}
    first = next(iter(facts.values()))
    examples = [str(path) for path in list_images(Path(folder))] if folder else first.examples
    if public and not folder and not first.publishable:
        data = first.data or "its data"
        print(f"note: others can open this page, so it shows no images of {data}; --examples FOLDER shows photos")
        examples = []
    examples = examples[:: max(1, len(examples) // NUM_EXAMPLES)][:NUM_EXAMPLES]
    return lay_out(facts, requests, examples)


def lay_out(facts: dict[str, Facts], requests: Requests, examples: list[str]) -> gr.Blocks:
    """Return the page. `examples` are paths of photos."""
    names = list(facts)
    caching = {"delete_cache": (60, KEPT_SECONDS)}
    with gr.Blocks(title="minicity-seg", analytics_enabled=False, fill_width=True, **caching) as page:
        gr.HTML(header(facts), elem_id="head", padding=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                with gr.Row():  # side by side where there is room
                    view = viewer(elem_id="view", min_width=320)
                    other_view = viewer(elem_id="other-view", min_width=320, visible=False)
            with gr.Column(scale=2, min_width=320):
                # gradio would open the photo itself without image_mode=None and `raw` below.
                sources = ["upload", "webcam", "clipboard"]
                photo = gr.Image(type="filepath", image_mode=None, sources=sources, label="Photo", height=280)
                chosen = add_examples(examples, photo) if examples else None
                with gr.Row():
                    ids_file = gr.DownloadButton("Ids (PNG)", size="sm")
                    colors_file = gr.DownloadButton("Colours (PNG)", size="sm")
                several = len(names) > 1
                name = gr.Dropdown(names, value=names[0], label="Model", visible=several)
                other = gr.Dropdown([NOTHING, *names], value=NOTHING, label="Compare with", visible=several)
                with gr.Accordion("More accurate, slower", open=False):
                    settings = add_settings(any(known.has_temperatures for known in facts.values()))
                    hint = gr.Markdown()
                    again = gr.Button("Segment again")
                about(facts)
        # Otherwise gradio opens photos itself, and names the files that it writes after their content.
        raw = {"preprocess": False, "postprocess": False}
        answered = [view, other_view, ids_file, colors_file]
        # The old answer goes at once, and stays away if the new photo cannot be read.
        photo.change(None, None, answered, js="() => [null, null, null, null]", api_visibility="private")
        private = {"api_name": PAGE_NAME, "api_visibility": "private", "trigger_mode": "always_last"}
        events, asked = [photo.change, name.input, other.input, again.click], [photo, name, other, *settings]
        gr.on(events, requests.show, asked, [*answered, hint], show_progress_on=view, **private, **raw)
        if chosen:  # an example is there, and segmented, when the page opens
            page.load(chosen, None, photo, api_visibility="private", **raw)
        scales, flip, window, _ = settings
        add_api(requests, [photo, name, scales, flip, window], raw)
    return page


def add_settings(has_temperatures: bool) -> list[gr.Component]:
    """Add what a user can choose for a prediction, and return it in the order of `Requests.show`."""
    scales = gr.CheckboxGroup(list(MULTI_SCALE), value=[1.0], label="Scales to average over")
    flip = gr.Checkbox(False, label="Mirrored views too")
    sides = [(f"windows of {side} x {side} pixels, blended" if side else "as a whole", side) for side in WINDOWS]
    use = "Windows take less memory for large photos. They cut nothing if the model resizes photos to less."
    window = gr.Dropdown(sides, value=0, label="Look at the photo", info=use)
    calibrated = gr.Checkbox(True, label="Calibrated confidence", visible=has_temperatures)
    return [scales, flip, window, calibrated]


def add_api(requests: Requests, inputs: list[gr.Component], raw: dict) -> None:
    """Add the API's function, whose outputs the page does not show."""
    outputs = [gr.File(label="ids", visible=False), gr.File(label="colours", visible=False)]
    outputs.append(gr.JSON(label="shares", visible=False))
    gr.Button(visible=False).click(requests.segment, inputs, outputs, api_name=API_NAME, **raw)


def header(models: dict[str, Facts]) -> str:
    """Return the head of the page as HTML: what it does, with which models."""
    lines = []
    for name, facts in models.items():
        known = [f"{facts.classes} classes"]
        known += [f"trained on {facts.data}"] if facts.data else []
        known += [facts.score] if facts.score else []
        toy = ". A toy: it knows drawn streets only" if "toycity" in facts.data.lower() else ""
        lines.append(f"<p style='margin:2px 0'><b>{escape(name)}</b>: {escape(', '.join(known))}{toy}.</p>")
    shown, folded = lines[:MOST_LINES], lines[MOST_LINES:]
    if folded:
        shown.append(f"<details><summary>and {len(folded)} more to choose from</summary>{''.join(folded)}</details>")
    return "<h1 style='margin:0 0 4px;font-size:26px'>What is each pixel?</h1>" + "".join(shown)


def about(models: dict[str, Facts]) -> None:
    """Add what the cards say of the models' limits, and how to call the API."""
    for name, facts in models.items():
        if facts.limits:
            with gr.Accordion(f"What {name} can and cannot do", open=False):
                gr.Markdown(facts.limits)
    with gr.Accordion("Use it from Python", open=False):
        example = API_EXAMPLE.format(name=json.dumps(next(iter(models)), ensure_ascii=False))
        gr.Code(example, language=None, interactive=False, show_label=False, lines=1, wrap_lines=True)


def add_examples(paths: list[str], photo: gr.Image) -> Callable[[], dict]:
    """Add example photos to the page, and return a function that returns the first one.

    gradio copies them into its folder, and users get the copies.
    """
    dataset = gr.Dataset(components=[photo], samples=[[path] for path in paths], label="Examples", type="index")
    copies = [sample[0]["path"] if isinstance(sample[0], dict) else sample[0] for sample in dataset.samples]

    def pick(index: int) -> dict:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(copies):
            raise refusal("There is no such example.")
        return sent(Path(copies[index]))

    dataset.click(pick, dataset, photo, api_visibility="private", preprocess=False, postprocess=False)
    return lambda: pick(0)


if __name__ == "__main__":
    spare_libraries()
    main()
