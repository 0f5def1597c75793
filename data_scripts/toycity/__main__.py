"""Draw ToyCity: python -m data_scripts.toycity OUT ..."""

from .files import main

raise SystemExit(main())
