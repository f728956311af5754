"""The traces beside this file, and the runner that compares them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.conformance.__main__ import find_model, main
from tests.conformance.cases import Case, read_cases
from tests.conformance.engines import artifact, oracle
from tests.conformance.plan import NotCovered
from tests.conformance.plans import METHODS, plan
from tests.conformance.verdicts import compared, judge

HERE = Path(__file__).parent
CASES = {case.name: case for case in read_cases(HERE / "cases")}
TINY = [name for name, case in CASES.items() if case.method not in ("autoregressive", "prompt-lookup")]
ONE_OF_EACH = [
    "llada-lowconf-cfg", "dream-topk-margin", "fastdllm1-threshold-dual", "fastdllm1-factor-prefix",
    "fastdllm1-r0-quota-dual", "fastdllm1-dream-entropy-dual", "sdar-dynamic-b4", "sdar-static-b8-s3",
    "prophet-constraints", "dimple-confident-prefill", "fastdllm2-sub8-blockcache", "fastdllm2-stop",
    "dinfer-threshold-eos", "dinfer-hierarchy", "freedave-l2r-static",
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def some(case: Case, runs: slice) -> Case:
    return replace(case, runs=case.runs[runs])


@pytest.mark.parametrize("name", TINY)
def test_the_oracle_reproduces_a_run_of_each_case(name: str) -> None:
    case = some(CASES[name], slice(1))
    verdict = judge(case, find_model(case.model, HERE / "models"), {"oracle": oracle})
    assert verdict.same, verdict.words


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_the_oracle_reproduces_all_other_runs(name: str) -> None:
    case = some(CASES[name], slice(1, None))
    verdict = judge(case, find_model(case.model, HERE / "models"), {"oracle": oracle})
    assert verdict.same, verdict.words


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in TINY])
def test_the_oracle_reproduces_smollm2(name: str) -> None:
    case = CASES[name]
    model = find_model(case.model, HERE / "models")
    if model is None:
        pytest.skip("SmolLM2 is not here (make models)")
    verdict = judge(some(case, slice(2)), model, {"oracle": oracle})
    assert verdict.same, verdict.words


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_an_artifact_reproduces_a_run_of_one_case_each(name: str) -> None:
    case = some(CASES[name], slice(1))
    verdict = judge(case, find_model(case.model, HERE / "models"), {"onnx": artifact("onnx", "inside")})
    assert verdict.same, verdict.words


def test_every_method_has_a_case() -> None:
    assert {case.method for case in CASES.values()} == set(METHODS)


# ---------------------------------------------------------------- the mapping


def changed(name: str, **params: object) -> Case:
    case = CASES[name]
    return replace(case, params={k: v for k, v in {**case.params, **params}.items() if v is not None})


@pytest.mark.parametrize(
    ("case", "file"),
    [
        (changed("fastdllm1-threshold-dual"), "fast_dllm_dual"),
        (changed("fastdllm1-threshold-dual", steps=24), "fast_dllm_dual_capped"),
        (changed("fastdllm1-threshold-dual", threshold=None), "fast_dllm_dual_capped"),
        (changed("fastdllm1-threshold-prefix", steps=24), "fast_dllm_prefix"),
        (changed("fastdllm1-threshold-prefix", threshold=None), "fast_dllm_prefix_quota"),
        (changed("fastdllm1-r0-threshold-nocache"), "fast_dllm_none"),
        (changed("fastdllm1-r0-threshold-nocache", threshold=None), "fast_dllm_none_quota"),
        (changed("fastdllm1-r0-threshold-prefix"), "fast_dllm_prefix_first_release"),
        (changed("fastdllm1-dream-threshold-nocache", alg="entropy"), "dream"),
        (changed("fastdllm1-dream-threshold-prefix", alg="maskgit_plus"), "fast_dllm_dream_prefix_schedule"),
        (changed("sdar-static-b4"), "sdar_static"),
        (changed("sdar-dynamic-b16", denoising_steps=6), "sdar_overfull"),
        (changed("sdar-sequential-b8", denoising_steps=3), "sdar_sequential"),
        (changed("dimple-confident", alg="topk_margin"), "dimple_margin"),
        (changed("freedave-sdar-b8-static", alg_temp=-1), "sdar_sequential"),
    ],
)
def test_parameters_choose_the_file(case: Case, file: str) -> None:
    made = plan(case)
    assert made is not None and made.file.stem == file and made.file.is_file()


def test_whole_blocks_are_asked_for_by_the_length_of_the_prompt() -> None:
    made = plan(CASES["fastdllm2-sub8"])  # 96 tokens in blocks of 32
    assert made is not None and [made.asked(n) for n in (14, 40, 63, 64)] == [83, 89, 66, 97]


def test_what_stands_behind_the_end_is_not_compared() -> None:
    made = plan(CASES["fastdllm2-stop"])
    assert made is not None and made.options["eos_ids"] == (135,)
    assert compared(made, (9, 135, 0), (1, 2, 3)) == compared(made, (9, 135, 4, 7), (1, 2, 2, 0))
    assert compared(made, (9, 8, 7), (1, 2, 0)) == [(9, 1), (8, 2)]
    assert compared(made, (9, 135, 0), (1, 2, 3)) != compared(made, (9, 135, 0), (1, 1, 3))


def test_fixed_tokens_are_a_template() -> None:
    made = plan(changed("dimple-prior", structure_prior={"1": 7, "3": 8}))
    assert made is not None and made.options["template"] == (None, 7, None, 8)


def test_the_mapping_does_not_look_at_names() -> None:
    for case in CASES.values():
        assert plan(replace(case, name="other")) == plan(case)


@pytest.mark.parametrize(
    "case",
    [
        changed("sdar-dynamic-b4", temperature=0.5),
        changed("dream-entropy", alg="origin"),
        changed("llada-lowconf-b32", remasking="random"),
        changed("sdar-dynamic-b4", remasking_strategy="entropy_bounded"),
        changed("dimple-confident", decoding_pipeline="dream"),
        changed("freedave-l2r-static", decoding_steps=16),
        changed("freedave-sdar-b8-static", confidence_threshold=0.9),
    ],
)
def test_what_the_language_has_no_words_for_is_told(case: Case) -> None:
    with pytest.raises(NotCovered):
        plan(case)
    assert judge(case, None, {}).same is False


# ---------------------------------------------------------------- the runner


def doctored(tmp_path: Path, **changes: object) -> Path:
    """A folder with one good case, one with its first run changed, and one of an unknown method."""
    raw = json.loads((HERE / "cases" / "sdar-dynamic-b4.json").read_text())
    raw["runs"] = raw["runs"][:1]
    for name, update in (("good", {}), ("bad", changes)):
        one = {**raw, "name": name, "runs": [{**raw["runs"][0], **update}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(one))
    (tmp_path / "other.json").write_text(json.dumps({**raw, "name": "other", "method": "telepathy"}))
    return tmp_path


def test_a_changed_token_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = list(CASES["sdar-dynamic-b4"].runs[0].output)
    output[7] += 1
    folder = doctored(tmp_path, output_ids=output)
    models = str(HERE / "models")
    assert main(["--cases", str(folder), "--models", models, "--engine", "oracle"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("different bad")
    assert "answer position 7" in said[0] and "no near-tie" in said[0]
    assert said[1].split() == ["same", "good"]
    assert said[2].startswith("skipped   other")
    assert said[-1] == "conformance: 1 of 2 same"


def test_a_changed_count_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = doctored(tmp_path, nfe=51)
    assert main(["--cases", str(folder), "--models", str(HERE / "models"), "--engine", "oracle"]) == 1
    assert "50 calls for 51" in capsys.readouterr().out


def test_all_same_is_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = doctored(tmp_path)
    assert main(["--cases", str(folder), "--models", str(HERE / "models"), "--engine", "oracle"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "conformance: 2 of 2 same"


def test_nothing_to_run_is_no_success(tmp_path: Path) -> None:
    assert main(["--cases", str(tmp_path), "--engine", "oracle"]) == 1


def test_a_missing_model_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = doctored(tmp_path)
    assert main(["--cases", str(folder), "--models", str(tmp_path), "--engine", "oracle"]) == 1
    assert "no model `tiny-sdar`" in capsys.readouterr().out
