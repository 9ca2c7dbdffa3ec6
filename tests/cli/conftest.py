"""Published trees for the tests of `refusalctl data`."""

from tests.data.published_tree import fetched, publish, tree

__all__ = ["fetched", "publish", "tree"]
