"""The registered data sets: what they are, where they come from, what may be done with them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """What must be said beside every number measured on a data set."""

    id: str
    title: str
    variant: str
    source: str
    licence: str
    citation: str


REGISTERED = {
    entry.id: entry
    for entry in (
        About(
            id="har",
            title="Human activities, smartphone at the waist",
            variant="HAPT windows: raw 50 Hz smartphone accelerometer and gyroscope, 6 activities, official test "
            "subjects; not the UCI HAR window set",
            source="UCI Machine Learning Repository, data set 341",
            licence='Conflict: the README inside the data says "Any commercial use is prohibited", the UCI page lists '
            "CC BY 4.0",
            citation="Jorge-L. Reyes-Ortiz, Luca Oneto, Albert Samà, Xavier Parra, Davide Anguita: "
            "Transition-Aware Human Activity Recognition Using Smartphones. Neurocomputing 171, 2016",
        ),
        About(
            id="digits",
            title="Handwritten digits, 8 x 8 pixels",
            variant="the images that come with scikit-learn, read as 8 steps of 8 pixels; writers hardly shared "
            "between the splits",
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
