"""External sources (the hub, URLs, model folders), and the checks that make them safe to use."""
