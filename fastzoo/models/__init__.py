"""The bundles that ship with fastzoo, one folder each."""
