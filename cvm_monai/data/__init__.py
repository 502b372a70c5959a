"""Data sets: the phantom, data lists, folds by patient, transforms, stains, tiles and the store of pseudo-labels."""
