"""``python -m cvm_monai`` is ``cvm-monai``."""

from cvm_monai.cli.main import main

raise SystemExit(main())
