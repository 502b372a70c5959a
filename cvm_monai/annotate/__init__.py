"""Annotate a folder of images in the browser: a local server for clicks, segmentation, training and export.

The server needs the extra `annotate`. It leaves mathematics to `interactive` and file formats to `annotations`.
"""
