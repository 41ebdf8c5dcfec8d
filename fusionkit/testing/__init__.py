"""What third parties run on their own plugins."""

from fusionkit.testing.conformance import assert_conforms, make_batch

__all__ = ["assert_conforms", "make_batch"]
