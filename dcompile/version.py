"""The version: read by the build of the package and written into every artifact."""

VERSION = "0.1.0"
