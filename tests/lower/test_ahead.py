"""What a call predicts beyond what it is fed, variables with a program's own names, the model's mask token."""

from __future__ import annotations

import pytest

from dcompile.strategy import RESERVED
from tests.lower.test_random_programs import agree
from tests.passes.rows import compiled, lowered, oracle, read
from tests.reference.scripted import MASK, play, scripted


@pytest.mark.parametrize(("shift", "block_cache"), [(True, True), (True, False), (False, True)])
def test_a_finished_block_predicts_the_first_token_of_the_next(shift: bool, block_cache: bool) -> None:
    strategy = read("fast_dllm_v2", block=4, sub_block=4 if block_cache else 2, threshold=0.3, block_cache=block_cache)
    prompts = [(12, 13, 14), (15, 16, 17, 18)]  # one in its first block, one that fills it
    want = oracle(strategy, prompts, 6, shift)
    assert compiled(lowered(strategy, 2, shift=shift), prompts, 6) == want
    if shift:
        assert all(0 not in row.order[:6] and not any(row.order[6:]) for row in want)
        assert want[1].order[0] == 1  # by the call that stored the prompt
        assert want[0].order[1] not in want[0].order[2:]  # nothing else comes from the call that stored the block
    else:
        assert want[1].order[0] > 1


def test_a_shifted_model_predicts_the_position_behind_a_block() -> None:
    body = """
        for b in blocks(answer, 3) {
          p = lm(b)
          commit p.token at masked in b and not unreadable(b)
          p = lm(everything)
          commit p.token at unreadable(b)
          p = lm(b)
          commit p.token at unreadable(after(b))
        }"""
    agree(read(body), shift=True)
    agree(read(body))


def test_variables_may_have_the_names_of_a_program() -> None:
    body = """
        state calls: int = 2
        state order: float[canvas] = 0.5
        state k0: int = 0 per block
        for b in blocks(answer, 3) {
          stored = not any(masked)
          fed = count(masked in b)
          while any(masked in b) and not stored {
            p = lm(b)
            done = fed < 0
            order = max(order, p.max if b else 0.0)
            k0 = k0 + 1
            calls = calls + k0
            commit p.token at top(masked in b, 1, by: order * calls)
            break when done
          }
          for go in 1 to 2 { filled = go }
        }"""
    strategy = read(body)
    assert not [s.name for s in strategy.states if RESERVED.fullmatch(s.name)]
    agree(strategy)


def test_the_mask_token_is_no_proposal() -> None:
    table = {2: {MASK: 0.9}, 3: {4: 0.6}, 4: {5: 0.7}, 5: {MASK: 0.8}}
    body = "p = lm(everything)\ncommit p.token at masked where p.token != mask_token"
    assert play(body, scripted(table)).order == (0, 1, 1, 0)
    agree(read("p = lm(everything)\ncommit p.token at masked where p.token != mask_token and token == mask_token"))


def test_dinfer_goes_on_where_only_masks_are_proposed() -> None:
    table = {2: {MASK: 0.9}, 3: {4: 0.6}, 4: {5: 0.6}, 5: {MASK: 0.8}}
    text = read("dinfer_threshold").text
    assert play(text[text.index("strategy") :], scripted(table)).order == (2, 1, 1, 3)  # near-equal best go together
