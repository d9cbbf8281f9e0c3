"""CPU engines in an interpreter of their own, for benchmarks/generation.py: they want other versions.

    python -m venv PEERS && PEERS/bin/pip install torch==2.13.0 openvino-genai "optimum-intel[openvino]" \\
        xllamacpp gguf
    python benchmarks/generation.py --peers PEERS/bin/python

Each engine gets 16-bit weights and cache and the token ids of all prompts at once, and must write the same
number of tokens for each.

    generation_peers.py prepare FOLDER GGUF TARGET     the base's folder and packaged GGUF, converted for both
    generation_peers.py openvino TARGET PROMPTS NEW    prints {"seconds": …, "tokens": …, "version": …}
    generation_peers.py xllamacpp TARGET PROMPTS NEW
"""

import importlib.metadata
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

THREADS = 2
# Found by hand, the fastest of 32, 64, 128 and 256 (openvino) and of 16, 32 and 64 (xllamacpp).
OPENVINO_ROWS = 256
XLLAMACPP_ROWS = 32


def prepare(folder: str, packaged: str, target: Path) -> None:
    """``target``/openvino and ``target``/bf16.gguf."""
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            Path(sys.executable).parent / "optimum-cli", "export", "openvino", "--model", folder,
            "--task", "text-generation-with-past", "--weight-format", "fp16", target / "openvino",
        ],
        check=True,
    )  # fmt: skip
    _write_bf16(packaged, str(target / "bf16.gguf"))


def _write_bf16(packaged: str, path: str) -> None:
    """The packaged GGUF with its weights dequantised, as Tunesmith loads them."""
    import gguf
    from gguf.quants import dequantize, quantize

    reader: Any = gguf.GGUFReader(packaged)
    writer: Any = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    written = ("general.architecture", "general.file_type", "general.quantization_version")
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in written:
            continue
        kind = field.types[0]
        of = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind, of)
    bf16 = gguf.GGMLQuantizationType.BF16
    for tensor in reader.tensors:
        weights = dequantize(tensor.data, tensor.tensor_type)
        if weights.ndim == 1:  # llama.cpp wants norms in fp32
            writer.add_tensor(tensor.name, weights)
        else:
            writer.add_tensor(tensor.name, quantize(weights, bf16), raw_dtype=bf16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def openvino(target: Path, prompts: list[list[int]], new_tokens: int) -> tuple[float, int]:
    """Seconds and new tokens of openvino-genai's continuous batching."""
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    scheduler: Any = genai.SchedulerConfig()
    scheduler.cache_size = 2  # GB: room for all rows at once
    scheduler.max_num_seqs = OPENVINO_ROWS
    scheduler.max_num_batched_tokens = 4096
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16",
        "KV_CACHE_PRECISION": "bf16",
        "INFERENCE_NUM_THREADS": THREADS,
    }
    pipeline: Any = genai.ContinuousBatchingPipeline(str(target / "openvino"), scheduler, "CPU", settings)
    decoding: Any = genai.GenerationConfig()
    decoding.max_new_tokens = decoding.min_new_tokens = new_tokens
    decoding.ignore_eos, decoding.do_sample = True, False
    ids = [ov.Tensor(np.array([prompt], dtype=np.int64)) for prompt in prompts]
    pipeline.generate(ids[:4], [decoding] * 4)
    started = time.perf_counter()
    answers = pipeline.generate(ids, [decoding] * len(ids))
    seconds = time.perf_counter() - started
    return seconds, sum(len(answer.m_generation_ids[0]) for answer in answers)


def xllamacpp(target: Path, prompts: list[list[int]], new_tokens: int) -> tuple[float, int]:
    """Seconds and new tokens of llama.cpp's server with continuous batching, in this process."""
    import xllamacpp as peer

    params: Any = peer.CommonParams()
    params.model.path = str(target / "bf16.gguf")
    params.n_parallel = XLLAMACPP_ROWS
    params.n_ctx = XLLAMACPP_ROWS * (max(map(len, prompts)) + new_tokens + 8)
    params.n_batch = params.n_ubatch = 1024
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    server: Any = peer.Server(params)

    def answer(prompt: list[int]) -> int:
        asked = {"prompt": prompt, "n_predict": new_tokens, "ignore_eos": True, "temperature": 0.0}
        return int(server.handle_completions(asked)["usage"]["completion_tokens"])

    answer(prompts[0])
    with ThreadPoolExecutor(2 * XLLAMACPP_ROWS) as pool:
        started = time.perf_counter()
        tokens = sum(pool.map(answer, prompts))
        seconds = time.perf_counter() - started
    return seconds, tokens


def main() -> None:
    """See above."""
    what, *arguments = sys.argv[1:]
    if what == "prepare":
        folder, packaged, target = arguments
        prepare(folder, packaged, Path(target))
        return
    target, prompts, new_tokens = arguments
    engine, package = {"openvino": (openvino, "openvino-genai"), "xllamacpp": (xllamacpp, "xllamacpp")}[what]
    rows = json.loads(Path(prompts).read_text(encoding="utf-8"))
    seconds, tokens = engine(Path(target), rows, int(new_tokens))
    assert tokens == len(rows) * int(new_tokens), f"{what}: {tokens} tokens"
    answered = {"seconds": seconds, "tokens": tokens, "version": importlib.metadata.version(package)}
    sys.stdout.write("\n" + json.dumps(answered) + "\n")


if __name__ == "__main__":
    main()
