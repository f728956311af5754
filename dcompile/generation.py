"""One generation under way: drives the graphs, watches for stop strings, gives out text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from dcompile.artifact import Manifest
from dcompile.drive import Executable, Turn, turns
from dcompile.feed import Arrays, Request, feed, remember
from dcompile.result import Reason, Result, Row, before_eos, nothing_done, read_row
from dcompile.text import Text, find_stop, safe, whole


@dataclass
class Generation:
    """Rows in the making. A row that meets a stop string keeps what it had then, whatever its neighbours do.

    `memory`: the session's states; changed when the strategy comes to its end, not when the host leaves before.
    """

    manifest: Manifest
    executable: Executable
    text: Text | None
    requests: Sequence[Request]
    stops: tuple[str, ...]
    memory: Arrays = field(default_factory=dict)
    seconds: float = 0.0
    _ended: dict[int, tuple[Row, Reason]] = field(default_factory=dict)

    def pieces(self) -> Iterator[str]:
        """Run to the end; after each turn the text of row 0 that is now sure and was not given before."""
        shown = ""
        for turn in self._turns():
            sure = self._sure(turn)
            if len(sure) > len(shown) and sure.startswith(shown):
                yield sure[len(shown) :]
                shown = sure
        last = self.results()[0].text or ""
        if last.startswith(shown) and last != shown:
            yield last[len(shown) :]

    def finish(self) -> Generation:
        """Run to the end, giving out nothing."""
        for _ in self._turns():
            pass
        return self

    def _turns(self) -> Iterator[Turn]:
        began = time.perf_counter()
        inputs = {**nothing_done(self.manifest), **feed(self.manifest, self.requests, self.memory)}
        for turn in turns(self.executable, self.manifest, inputs):
            self._look(turn)
            if turn.done:
                self.memory.update(remember(self.manifest, len(self.requests), inputs, turn.state))
            self.seconds = time.perf_counter() - began
            if len(self._ended) == len(self.requests):
                return
            yield turn

    def rows(self) -> list[Row]:
        """The rows as the graphs left them; for after the run."""
        return [self._ended[r][0] for r in range(len(self.requests))]

    def results(self) -> list[Result]:
        """What each row came to; for after the run."""
        return [self._result(r) for r in range(len(self.requests))]

    def _look(self, turn: Turn) -> None:
        """Note the rows that have come to their end."""
        if not (self.stops or turn.done or turn.interrupted):
            return
        for r, request in enumerate(self.requests):
            if r in self._ended:
                continue
            row = read_row(self.manifest, request, turn.state, r, turn.done)
            if (length := self._stop_length(row, r)) is not None:
                self._ended[r] = replace(row, ids=row.ids[:length], ended=False), "stop"
            elif turn.done:
                self._ended[r] = row, "eos" if row.ended else "length"
            elif turn.interrupted:
                self._ended[r] = row, "interrupted"

    def _stop_length(self, row: Row, r: int) -> int | None:
        """How many tokens it takes until a stop string is complete; None where there is none."""
        if not self.stops or find_stop(self._words(row, r), self.stops) is None:
            return None
        lengths = range(1, len(row.ids) + 1)
        return next(
            n for n in lengths if find_stop(self._words(replace(row, ids=row.ids[:n]), r), self.stops) is not None
        )

    def _words(self, row: Row, r: int) -> str:
        if self.text is None:
            return ""
        return self.text.decode(before_eos(row.ids, self.requests[r].controls.eos_ids))

    def _sure(self, turn: Turn) -> str:
        if self.text is None or self.manifest.canvas.revises or 0 in self._ended:
            return ""
        row = read_row(self.manifest, self.requests[0], turn.state, 0, turn.done)
        return safe(whole(self._words(row, 0)), self.stops)

    def _result(self, r: int) -> Result:
        row, reason = self._ended[r]
        words = self._words(row, r)
        cut = find_stop(words, self.stops)
        words = whole(words) if reason == "interrupted" else words[:cut]
        return Result(
            prompt_ids=self.requests[r].prompt,
            output_ids=row.ids,
            text=words if self.text is not None else None,
            seed=self.requests[r].controls.seed,
            model_calls=row.calls,
            batch_calls=row.batch_calls,
            positions_fed=row.fed,
            committed_per_call=row.per_call,
            seconds=self.seconds,
            finish_reason=reason,
            drafts=self.manifest.canvas.drafts,
        )
