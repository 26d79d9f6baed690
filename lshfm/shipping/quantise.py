"""int8 by static quantisation of an ONNX file, through ONNX Runtime."""

import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lshfm.datasets.loader import Batch
from lshfm.shipping.description import KEY, Description
from lshfm.shipping.graph import Returned
from lshfm.shipping.optional import library


def quantise(source: Path, batches: Iterator[Batch], described: Description) -> Callable[[Path, Description], None]:
    """What writes `source` with int8 weights and activations, whose ranges are those that the batches lead to.

    Weights have a scale for each channel and seven bits, which no CPU's sums overflow.
    """
    onnx = library("onnx")
    library("onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    given = Returned(lambda _images: {}, described)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            batch = next(batches, None)
            return None if batch is None else {"images": given.given(batch.images)}

    level = logging.getLogger().level
    with TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        ready, target = Path(folder, "ready.onnx"), Path(folder, "int8.onnx")
        logging.getLogger().setLevel(logging.ERROR)
        try:
            quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
            quantize_static(
                str(ready), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            )  # fmt: skip
        finally:
            logging.getLogger().setLevel(level)
        model = onnx.load(str(target))

    def save(path: Path, described: Description) -> None:
        del model.metadata_props[:]
        model.metadata_props.add(key=KEY, value=described.text())
        path.write_bytes(model.SerializeToString())

    return save
