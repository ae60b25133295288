"""The picture of a comparison: a scene is all that it shows, words included; only drawing needs matplotlib."""

from fastzoo._scatter.picture import draw
from fastzoo._scatter.scene import NAMES, Scene, caption, title

__all__ = ["NAMES", "Scene", "caption", "draw", "title"]
