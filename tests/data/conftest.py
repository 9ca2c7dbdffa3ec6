"""Published trees for the tests of this room."""

from tests.data.published_tree import fetched, publish, tree

__all__ = ["fetched", "publish", "tree"]
