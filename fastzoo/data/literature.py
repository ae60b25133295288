"""Results that others published, to stand beside ours: each with its data, how its size was counted, and its source.

Nothing here was measured by fastzoo. A data set of the same name is not always the same data: :attr:`Published.variant`
says which windows and which split a number belongs to, and whoever shows a number shows the variant with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

KIB = 1024  # the papers' KB

FASTGRNN = "Kusupati et al.: FastGRNN, NeurIPS 2018"
EMI = "Dennis, Pabbaraju, Simhadri, Jain: Multiple Instance Learning for Efficient Sequential Data, NeurIPS 2018"
SHARNN = "Dennis et al.: Shallow RNN, NeurIPS 2019, table 1"

# What the sizes of the FastGRNN paper count.
SPARSE = "weights in sparse storage: a byte for the value and one for the index of each non-zero"
DENSE = "weights in fp32, dense"
FILE = "the int8 network's file"

PI3 = "Raspberry Pi 3"


@dataclass(frozen=True)
class Published:
    """One published number.

    Args:
        model: what its authors call it.
        value: of ``metric``, between 0 and 1.
        variant: data, classes and split behind it, in short.
        source: where it was published.
        bytes: size as published; None where there is none.
        counted: what ``bytes`` counts.
        parameters: where no bytes, but a number of parameters is given.
        latency_us: for one window, on ``device``.
        device: where the latency was measured.
        metric: ``"accuracy"`` or ``"macro_f1"``.
        note: what else has to be known.
    """

    model: str
    value: float
    variant: str
    source: str
    bytes: int | None = None
    counted: str | None = None
    parameters: int | None = None
    latency_us: float | None = None
    device: str | None = None
    metric: str = "accuracy"
    note: str | None = None


def published(dataset: str, metric: str = "accuracy") -> tuple[Published, ...]:
    """What is known of a data set's task in ``metric``; empty where nothing is."""
    return tuple(one for one in RESULTS.get(dataset, ()) if one.metric == metric)


def _paper(
    variant: str, dense: str, compressed: Iterable[tuple[str, float, float, str]], pi3: float | None = None
) -> Iterator[Published]:
    """Rows of the FastGRNN paper's table 3, as ``model accuracy KB`` separated by commas, and of its tables 8 to 10."""
    for row in dense.split(","):
        name, percent, size = row.rsplit(maxsplit=2)
        value, count = round(float(percent) / 100, 4), round(float(size) * KIB)
        yield Published(name.strip(), value, variant, f"{FASTGRNN}, table 3", count, DENSE)
    for model, accuracy, kib, what in compressed:
        final = model == "FastGRNN"
        yield Published(
            model,
            round(accuracy / 100, 4),
            variant,
            f"{FASTGRNN}, {'table 3' if final else 'tables 8 to 10'}",
            round(kib * KIB),
            what,
            latency_us=1000 * pi3 if final and pi3 else None,
            device=PI3 if final and pi3 else None,
        )


def _compressed(
    full: tuple[float, float], quantized: tuple[float, float], low_rank: tuple[float, float]
) -> tuple[tuple[str, float, float, str], ...]:
    """(accuracy, KB) of FastGRNN as it is, without byte quantization, and with low rank alone."""
    floats = SPARSE.replace("a byte for the value and one for the index", "4 bytes for the value and 4 for the index")
    return (
        ("FastGRNN", *full, SPARSE),
        ("FastGRNN-Q", *quantized, floats),
        ("FastGRNN-SQ", *low_rank, DENSE),
    )


_UCI6 = "UCI HAR windows, 6 classes, 9 channels"
_UCI2 = "UCI HAR windows, 2 groups, 9 channels"
_DSA = "DSA-19, 4560 windows for training, 4560 for test"
_MNIST = "pixel by pixel MNIST, T = 784"
_WORDS = "Speech Commands v1, the paper's own 12 classes, 32 bands"
_WORDS2 = "Speech Commands v2, official 12 classes"
_ECG = "CinC 2017, hidden test set"

_HAR6 = (
    Published("LSTM-8", 0.8954, _UCI6, f"{EMI}, table 1"),
    Published("LSTM-16", 0.9290, _UCI6, f"{EMI}, table 1"),
    Published("LSTM-32", 0.9304, _UCI6, f"{EMI}, table 1"),
    Published("ShaRNN", 0.9402, _UCI6, SHARNN),
    Published(
        "EfficientHAR-Lite", 0.961, _UCI6, "README of EfficientHAR-Lite", parameters=108_000,
        note="80 to 108 thousand parameters; a convolutional network",
    ),
    Published(
        "MicroBi-ConvLSTM", 0.9341, _UCI6, "arXiv 2602.06523", 23 * KIB, FILE, parameters=11_400, metric="macro_f1",
    ),
)  # fmt: skip

RESULTS: dict[str, tuple[Published, ...]] = {
    "har": (
        *_HAR6,
        Published(
            "FastGRNN, 283 non-zeros", 0.853, "HAPT windows", "arXiv 2606.17249", 566, "16-bit values of the non-zeros",
            metric="macro_f1", note="mean of five seeds, standard deviation 0.107; the best seed 0.918",
        ),
    ),
    "ucihar": _HAR6,
    "har2": tuple(
        _paper(
            _UCI2,
            "RNN 91.31 29, FastRNN 94.50 29, FastGRNN-LSQ 95.38 29, SpectralRNN 95.48 525, UGRNN 94.53 37, "
            "GRU 93.62 71, LSTM 93.65 74",
            _compressed((95.59, 3), (96.37, 17), (96.81, 28)),
            pi3=1.8,
        )
    ),
    "dsa19": (
        *_paper(
            _DSA,
            "RNN 71.68 20, FastRNN 84.14 97, FastGRNN-LSQ 85.00 208, SpectralRNN 80.37 50, UGRNN 84.74 399, "
            "GRU 84.84 270, LSTM 84.84 526",
            _compressed((83.73, 3.25), (83.93, 13), (85.67, 22)),
        ),
        Published("MI-RNN", 0.8811, _DSA, SHARNN),
        Published("MI-ShaRNN", 0.8736, _DSA, SHARNN),
    ),
    "mnist": tuple(
        _paper(
            _MNIST,
            "RNN 94.10 71, FastRNN 96.44 166, FastGRNN-LSQ 98.72 71, SpectralRNN 97.70 25, UGRNN 97.29 84, "
            "GRU 98.70 123, LSTM 97.80 265",
            _compressed((98.20, 6), (98.58, 25), (98.72, 37)),
        )
    ),
    "kws12": (
        *_paper(
            _WORDS,
            "RNN 73.25 56, FastRNN 92.21 56, FastGRNN-LSQ 93.18 57, SpectralRNN 91.59 228, UGRNN 92.63 75, "
            "GRU 93.15 248, LSTM 92.30 212",
            _compressed((92.10, 5.5), (92.60, 22), (93.76, 41)),
            pi3=7.7,
        ),
        Published(
            "SparkNet", 0.957, _WORDS2, "README of SparkNet", parameters=4_636, note="a convolutional network",
        ),
        Published(
            "BC-ResNet-1", 0.969, _WORDS2, "README of SparkNet", parameters=9_232, note="a convolutional network",
        ),
        Published("DS-CNN-S", 0.9311, _WORDS2, "Arm ML zoo", round(47.6 * KIB), FILE, note="a convolutional network"),
        Published("MicroNet-S", 0.953, _WORDS2, "Arm ML zoo", round(114.5 * KIB), FILE, note="a convolutional network"),
    ),
    "cinc2017": (
        Published(
            "challenge winners", 0.83, _ECG, "Clifford et al., Computing in Cardiology 2017", metric="macro_f1",
            note="the challenge's score: the mean F1 of normal, AF and other rhythms, without noise; large models",
        ),
    ),
}  # fmt: skip
