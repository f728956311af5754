"""What is said of a strategy before anything is traced: errors, and a report of verdicts, shapes and memory."""

from __future__ import annotations

