"""The registered data sets: what they are, where they come from, what may be done with them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """What must be said beside every number measured on a data set; ``brief`` where there is room for a line only."""

    id: str
    title: str
    variant: str
    brief: str
    source: str
    licence: str
    citation: str


HAR_LICENCE = (
    'Conflict: the README inside the data says "Any commercial use is prohibited", the UCI page lists CC BY 4.0'
)
HAPT_CITATION = (
    "Jorge-L. Reyes-Ortiz, Luca Oneto, Albert Samà, Xavier Parra, Davide Anguita: Transition-Aware Human Activity "
    "Recognition Using Smartphones. Neurocomputing 171, 2016"
)

REGISTERED = {
    entry.id: entry
    for entry in (
        About(
            id="har",
            title="Human activities, smartphone at the waist",
            variant="HAPT windows: raw 50 Hz smartphone accelerometer and gyroscope, 6 activities, official test "
            "subjects; not the UCI HAR window set",
            brief="HAPT windows, raw accelerometer and gyroscope, official test subjects; not the UCI HAR window set",
            source="UCI Machine Learning Repository, data set 341",
            licence=HAR_LICENCE,
            citation=HAPT_CITATION,
        ),
        About(
            id="har2",
            title="Human activities in two groups",
            variant="HAPT windows as in har, grouped as in the FastGRNN paper: sitting, laying and walking upstairs "
            "against the rest; not the UCI HAR window set that the paper used",
            brief="the windows of har in the FastGRNN paper's two groups; not the paper's UCI HAR window set",
            source="made of har",
            licence=HAR_LICENCE,
            citation=HAPT_CITATION,
        ),
        About(
            id="ucihar",
            title="UCI HAR, the authors' own windows",
            variant="UCI HAR windows, 9 channels, 50 Hz, filtered by their authors, official test subjects; a file "
            "with 2400 training and 950 test windows holds a third of the rows, with about 4 digits, and its subjects "
            "were recovered by matching",
            brief="UCI HAR windows, filtered by their authors, official test subjects",
            source="UCI Machine Learning Repository, data set 240",
            licence=HAR_LICENCE,
            citation="Davide Anguita, Alessandro Ghio, Luca Oneto, Xavier Parra, Jorge L. Reyes-Ortiz: A Public Domain "
            "Dataset for Human Activity Recognition Using Smartphones. ESANN 2013",
        ),
        About(
            id="dsa19",
            title="Daily and sports activities, five places on the body",
            variant="19 activities, 45 channels, 25 Hz, 5 s; training on subjects 1 to 4, test on 5 to 8 (splits by "
            "segment leak); compact copies are rounded to 0.004 m/s2, 0.001 rad/s and 1/8000",
            brief="45 channels; training on subjects 1 to 4, test on 5 to 8",
            source="UCI Machine Learning Repository, data set 256",
            licence="CC BY 4.0 according to the UCI page; the data themselves name none",
            citation="Kerem Altun, Billur Barshan, Orkun Tunçel: Comparative Study on Classifying Human Activities "
            "with Miniature Inertial and Magnetic Sensors. Pattern Recognition 43(10), 2010; Billur Barshan, Murat "
            "Cihan Yüksek: Recognizing Daily and Sports Activities in Two Open Source Machine Learning Environments "
            "Using Body-Worn Sensor Units. The Computer Journal 57(11), 2014",
        ),
        About(
            id="mnist",
            title="Handwritten digits, pixel by pixel",
            variant="pixels of 28 x 28 images, official test set",
            brief="784 pixels or, in models named rows, 28 rows of 28; official test set",
            source="MNIST database, mirrored by PyTorch and by the CVDF",
            licence="The authors state none; copies are often labelled CC BY-SA 3.0",
            citation="Yann LeCun, Léon Bottou, Yoshua Bengio, Patrick Haffner: Gradient-Based Learning Applied to "
            "Document Recognition. Proceedings of the IEEE 86(11), 1998",
        ),
        About(
            id="kws12",
            title="Ten spoken words, other words, background",
            variant="Speech Commands v2 as 8-bit log-mel maps, 98 frames x 40 bands up to 4 kHz; official split by "
            "speaker; unknown is a fifth of the other 25 words' clips; background is 1000 overlapping patches without "
            "an official split; not the canonical 12-class test set. A file without a front end inside comes from "
            "lossy JPEG maps (4 of 255 levels off) with another sample of unknown words",
            brief="Speech Commands v2 as log-mel maps, official split by speaker; not the canonical 12-class test set",
            source="Google, speech_commands_v0.02",
            licence="CC BY 4.0",
            citation="Pete Warden: Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition. "
            "arXiv:1804.03209, 2018",
        ),
        About(
            id="cinc2017",
            title="Heart rhythm from one ECG lead",
            variant="PhysioNet/CinC Challenge 2017, public training records with labels of version 3, resampled from "
            "300 to 100 Hz, first 30 s, zeros after a shorter record; split by record, since no patients are known; "
            "not the challenge's hidden test set",
            brief="PhysioNet/CinC Challenge 2017, public records, split by record; not its hidden test set",
            source="PhysioNet, challenge-2017 1.0.0",
            licence="Open Data Commons Attribution 1.0 according to PhysioNet",
            citation="Gari D. Clifford et al.: AF Classification from a Short Single Lead ECG Recording: The "
            "PhysioNet/Computing in Cardiology Challenge 2017. Computing in Cardiology 2017; Ary L. Goldberger et al.: "
            "PhysioBank, PhysioToolkit, and PhysioNet. Circulation 101(23), 2000",
        ),
        About(
            id="digits",
            title="Handwritten digits, 8 x 8 pixels",
            variant="the images that come with scikit-learn, read as 8 steps of 8 pixels; writers hardly shared "
            "between the splits",
            brief="the images that come with scikit-learn",
            source="scikit-learn; test images of the UCI Machine Learning Repository, data set 80",
            licence="CC BY 4.0",
            citation="E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits. "
            "UCI Machine Learning Repository, 1998",
        ),
    )
}


def about(id: str) -> About | None:
    """What is known of a data set; None where it is not registered."""
    return REGISTERED.get(id)
