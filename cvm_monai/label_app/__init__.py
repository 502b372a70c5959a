"""The MONAI Label app: clicks, automatic segmentation, training and active learning over HTTP.

MONAI Label is not a dependency of this package: it needs a separate environment (`make label-env`). Only `main`, `app`,
`datastore` and `tasks` import it, and only its server imports these.
"""
