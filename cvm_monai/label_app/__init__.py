"""The MONAI Label app: clicks, automatic segmentation, training and active learning over HTTP.

MONAI Label is no dependency of this package: it lives in an environment of its own (`make label-env`). Only `main`,
`app`, `datastore` and `tasks` import it, and only its server imports these.
"""
