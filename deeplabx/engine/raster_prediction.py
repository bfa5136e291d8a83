"""A GeoTIFF of any size to a GeoTIFF of class ids, band by band; killed and started again, it continues."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from dataclasses import replace as with_changes
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from deeplabx.dataset.contract import Palette, ignore_index_of, label_dtype
from deeplabx.dataset.raster import BLOCK, RasterSource, opened_raster, write_raster
from deeplabx.dataset.writing import place_for
from deeplabx.engine.durable import arriving_file, remove
from deeplabx.engine.journal import Journal, Part
from deeplabx.engine.lock import locked
from deeplabx.engine.predictor import Predictor, Tiling
from deeplabx.engine.windows import Band
from deeplabx.errors import needed

UNFINISHED = ".part"  # what the folder with the finished bands is called, behind the name of the file
IDS = "ids"


class RasterPrediction(NamedTuple):
    """continued: bands of `bands` that an earlier, interrupted prediction had finished. tiling: None of a
    raster that was predicted whole.
    """

    height: int
    width: int
    bands: int
    continued: int
    tiling: Tiling | None

    @property
    def words(self) -> str:
        parts = [f"{self.width} x {self.height} pixels"]
        parts += [self.tiling.words] if self.tiling is not None else []
        parts += [f"{self.continued} of {self.bands} bands were there already"] if self.continued else []
        return "; ".join(parts)


def predict_raster(
    predictor: Predictor,
    path: Path,
    *,
    ids_path: Path,
    classes: Sequence[str],
    palette: Palette,
    checkpoint: str,
    channels: Sequence[int] | None = None,
    probabilities_path: Path | None = None,
    beside: Callable[[], None] = lambda: None,
    progress: bool = False,
) -> RasterPrediction:
    """Write the ids of a raster, with its georeference, as a GeoTIFF with a colour table; pixels without data
    get the ignore index, which is its nodata value. Finished bands are kept in `ids_path`.part until all are;
    with the same source, checkpoint and settings, a later call continues from there to the same file.

    checkpoint: what identifies the weights, such as their hash. channels: see `RasterSource`.
    probabilities_path: float32 in 16 bits, a band for each class, NaN where there is no data. beside: writes
    what is made of the ids; the bands are kept until it returns, so that none is computed twice. Raises
    DataError for a file that cannot be used, ConfigError where rasterio is not installed, and as
    `Predictor.bands`.
    """
    needed("rasterio", extra="geo")
    folder = ids_path.with_name(ids_path.name + UNFINISHED)
    expected = len(predictor.normalization.mean)
    with opened_raster(path, expected=expected, channels=channels) as source:
        place_for(ids_path)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder) as warning:
            if warning:
                predictor.say(warning)
            same = {
                **identity(predictor, path, checkpoint=checkpoint, classes=len(classes)),
                "bands": source.bands,
                "probabilities": probabilities_path is not None,
            }
            journal = Journal(folder, same=same, chosen=choice(predictor, source))
            if journal.other:
                predictor.say(
                    f"{folder} holds part of another prediction ({', '.join(journal.other)} differs): "
                    "starting again"
                )
            found = filled(journal, predictor, source, classes=len(classes), progress=progress)
            assemble(
                journal,
                source,
                found.bands,
                ids_path=ids_path,
                probabilities_path=probabilities_path,
                classes=classes,
                palette=palette,
            )
            beside()
        remove(folder)
    return found


def identity(predictor: Predictor, path: Path, *, checkpoint: str, classes: int) -> dict[str, Any]:
    """All that the ids depend on, but the windows."""
    file = path.stat()
    return {
        "source": [str(path.resolve()), file.st_size, file.st_mtime_ns],
        "checkpoint": checkpoint,
        "classes": classes,
        "scales": list(predictor.scales),
        "flip": predictor.flip,
        "crop": predictor.crop,
        "crf": None if predictor.crf is None else asdict(predictor.crf),
        "window": predictor.window,
        "precision": [str(predictor.dtype), predictor.tf32, predictor.device.type],
    }


def choice(predictor: Predictor, source: RasterSource) -> dict[str, Any]:
    """The windows' side, null for the whole image, and how many are computed at once: both may depend on the
    memory that is free.
    """
    window = predictor.window_for(source.height, source.width)
    return {"window": window, "batch": None if window is None else predictor.at_once(window, window)}


def filled(
    journal: Journal, predictor: Predictor, source: RasterSource, *, classes: int, progress: bool
) -> RasterPrediction:
    """Compute the bands that the journal does not hold."""
    window, nodata = journal.chosen["window"], ignore_index_of(classes)
    wanted = journal.same["probabilities"]
    start = journal.finished(IDS)
    if window is None:
        total, windows = 1, 0
        bands = whole(predictor, source, nodata=nodata, probabilities=wanted)
    else:
        settled = with_changes(predictor, window=window, batch=journal.chosen["batch"])
        grid = settled.grid(source, window)
        total, windows = grid.bands, grid.windows
        bands = settled.bands(source, start=start, probabilities=wanted, nodata=nodata)
    if start < total:
        name = source.path.name
        for band in tqdm(bands, name, total, initial=start, unit="band", disable=not progress):
            keep(journal, band, nodata=nodata, layers=classes if wanted else 0)
    counts = [journal.read(number, IDS, head_only=True).counts for number in range(total)]
    overlapped, differing = (sum(one[name] for one in counts) for name in ("overlapped", "differing"))
    tiling = None if window is None else Tiling(window, windows, overlapped, differing)
    return RasterPrediction(source.height, source.width, total, start, tiling)


def whole(predictor: Predictor, source: RasterSource, *, nodata: int, probabilities: bool) -> Iterator[Band]:
    """The single band of a raster that fits into memory."""
    place = 0, source.height, 0, source.width
    pixels, valid = source.read(*place), source.valid(*place)
    if valid is not None:
        pixels[~valid] = predictor.normalization.pad_pixel
    found = predictor.predict([pixels], probabilities=probabilities)[0]
    ids = found.ids.cpu().numpy().astype(label_dtype(nodata))
    scores = None if found.probabilities is None else found.probabilities.cpu().numpy()
    if valid is not None:
        ids[~valid] = nodata
    yield Band(0, 0, 0, ids, scores, 0, 0)


def keep(journal: Journal, band: Band, *, nodata: int, layers: int) -> None:
    """Write a band, with `layers` probabilities. Its ids come last: they say that it is complete."""
    absent = band.ids == nodata
    empty = bool(absent.all())
    for layer in range(layers):
        half = None
        if band.probabilities is not None and not empty:
            half = np.where(absent, np.float16(np.nan), band.probabilities[layer].astype(np.float16))
        part = Part(band.top, band.left, band.ids.shape, half, {})
        journal.write(band.number, layer_name(layer), part)
    counts = {"overlapped": band.overlapped, "differing": band.differing}
    part = Part(band.top, band.left, band.ids.shape, None if empty else band.ids, counts)
    journal.write(band.number, IDS, part)


def layer_name(index: int) -> str:
    return f"class-{index:05d}"


# --- the file -----------------------------------------------------------------------------------------------


def assemble(
    journal: Journal,
    source: RasterSource,
    bands: int,
    *,
    ids_path: Path,
    probabilities_path: Path | None,
    classes: Sequence[str],
    palette: Palette,
) -> None:
    """The files of a complete journal. Each appears whole."""
    nodata = ignore_index_of(len(classes))
    dtype = label_dtype(nodata)
    if probabilities_path is not None:
        place_for(probabilities_path)
        layers = [layer_name(index) for index in range(len(classes))]
        with arriving_file(probabilities_path) as path:
            write_raster(
                path,
                source.dataset,
                rows_of(journal, source, bands, layers, fill=np.nan, dtype=np.dtype(np.float32)),
                dtype="float32",
                nodata=math.nan,
                count=len(classes),
                descriptions=classes,
                half=True,
            )
    with arriving_file(ids_path) as path:
        write_raster(
            path,
            source.dataset,
            rows_of(journal, source, bands, [IDS], fill=nodata, dtype=dtype),
            dtype=dtype.name,
            nodata=nodata,
            palette=palette if nodata < 256 else None,
            descriptions=["class id"],
        )


def rows_of(
    journal: Journal,
    source: RasterSource,
    bands: int,
    layers: Sequence[str],
    *,
    fill: float,
    dtype: np.dtype,
) -> Iterator[tuple[int, int, np.ndarray | None]]:
    """For each layer, counted from 1, whole rows of as many as a block of the file has; None for those that
    hold no data.
    """
    heads = [journal.read(number, IDS, head_only=True) for number in range(bands)]
    places = [(one.top, one.top + one.size[0]) for one in heads]
    for layer, name in enumerate(layers, start=1):
        for top in range(0, source.height, BLOCK):
            bottom, rows = min(top + BLOCK, source.height), None
            for number, (above, below) in enumerate(places):
                if below <= top or above >= bottom:
                    continue
                part = journal.read(number, name)
                if part.values is None:
                    continue
                if rows is None:
                    rows = np.full((bottom - top, source.width), fill, dtype)
                inside = slice(max(top, above) - above, min(bottom, below) - above)
                outside = slice(max(top, above) - top, min(bottom, below) - top)
                rows[outside, part.left : part.left + part.size[1]] = part.values[inside]
            yield layer, top, rows
