"""Lists of names, links and file names that lead elsewhere, or that a terminal would act upon."""

import os
import shutil
from pathlib import Path

import pytest

from deeplabx.dataset.fake import write_fake
from tests.security.conftest import ON_FOLDER, ONE_STEP, PREDICT, RESUME, Harmless, Place, image, short_form

CURSOR = "\x1b[2J\x1b]0;owned\x07"  # clears the screen and renames the window
LISTS: dict[str, str | bytes] = {
    "a name that leads out": "../../outside/decoy.txt\n",
    "an absolute name": "/etc/passwd\n",
    "a NUL": "a\0b\n",
    "a name of 10^5 letters": "x" * 100_000 + "\n",
    "bytes": bytes(range(256)),
    "a name that moves the cursor": f"{CURSOR}\n",
    "a name that begins with a dash": "--config-dir=/\n",
    "a glob": "**/*\n",
}
VOC_LISTS = {
    "a name that leads out": "../../../../outside/decoy\n",
    "a name of 10^5 letters": "x" * 100_000 + "\n",
    "a NUL": "a\0b\n",
}
FILES = ["config.yaml", "overrides.yaml", "environment.json", "metrics.jsonl", "train.log", "result.json"]
FOLDERS = ["checkpoints", "checkpoints/step-00000001", "samples", "tensorboard"]
PARTS = [*FILES, "checkpoints/last.json", "error.log", *FOLDERS]  # of a run
IMAGES: dict[str, tuple[str, bytes]] = {
    "a newline": ("a\nb.png", b"no image"),
    "a sequence that moves the cursor": (f"{CURSOR}.png", b"no image"),
    "bytes that are no UTF-8": (os.fsdecode(b"\xff\xfe.png"), b"no image"),
    "a leading dash": ("--config-dir.png", image()),
    "a command": ("$(touch RAN);`touch RAN`.png", image()),
}


@pytest.mark.parametrize("kind", short_form(LISTS))
def test_the_list_of_a_split(kind: str, place: Place, harmless: Harmless) -> None:
    write_fake("folder", Path("data"), images=2, seed=0)
    for folder in (Path("data/images"), Path("data/masks")):
        shutil.copytree(folder / "train", folder, dirs_exist_ok=True)
        shutil.rmtree(folder / "train")
    place.write("data/train.txt", LISTS[kind])
    harmless(ON_FOLDER)


@pytest.mark.slow
@pytest.mark.parametrize("kind", VOC_LISTS)
def test_a_list_of_voc(kind: str, place: Place, harmless: Harmless) -> None:
    write_fake("voc", Path("voc"), images=2, seed=0)
    place.write("voc/VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt", VOC_LISTS[kind])
    harmless(f"{ONE_STEP} dataset=voc dataset.root=voc dataset.train_split=train")


@pytest.mark.parametrize("kind", short_form(["images", "masks"]))
def test_a_link_to_a_file_of_the_system(kind: str, place: Place, harmless: Harmless) -> None:
    write_fake("folder", Path("data"), images=2, seed=0)
    for path in Path(f"data/{kind}/train").iterdir():
        path.unlink()
        path.symlink_to("/etc/passwd")
    harmless(ON_FOLDER)


@pytest.mark.slow
def test_a_link_to_image_elsewhere(place: Place, harmless: Harmless) -> None:
    place.copy_run()
    theirs = place.write("../outside/theirs.png", image())
    Path("photos/theirs.png").symlink_to(theirs)
    harmless(PREDICT, may_succeed=True)  # data sets are often folders of links; it is only read


def test_a_link_in_the_place_of_an_overlay(place: Place, harmless: Harmless) -> None:
    place.copy_run()
    place.write("out/a.jpg", image("JPEG"))
    Path("out/a_overlay.png").symlink_to(place.outside / "new.png")
    harmless("predict ckpt=run input=out out=out trainer.devices=cpu")


@pytest.mark.parametrize("name", short_form(PARTS))
def test_a_link_in_the_place_of_a_part_of_a_run(name: str, place: Place, harmless: Harmless) -> None:
    place.copy_run()
    path, elsewhere = Path("run", name), place.outside / "theirs"
    if path.exists():
        shutil.move(path, elsewhere)
    else:
        elsewhere.write_text("theirs\n")
    path.symlink_to(elsewhere)
    harmless(RESUME)


@pytest.mark.parametrize("kind", short_form(IMAGES))
def test_the_name_of_an_image(kind: str, place: Place, harmless: Harmless) -> None:
    place.copy_run()
    name, content = IMAGES[kind]
    place.write(f"photos/{name}", content)
    harmless(PREDICT, may_succeed=content != b"no image")
