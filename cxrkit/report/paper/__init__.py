"""The paper's tables and figures of results, with one's own runs in them."""
