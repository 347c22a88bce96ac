"""The version, once: dumps, artifacts and cache keys carry it."""

VERSION = "0.1.0"
