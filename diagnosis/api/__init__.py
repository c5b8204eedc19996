"""The clinic's REST API. Thin doors like the views: parse, call one service or selector, answer."""
