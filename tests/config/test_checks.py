import json
from dataclasses import asdict, fields, is_dataclass

import pytest
from omegaconf import OmegaConf

from deeplabx.config import checks, schema, stored
from deeplabx.config.fields import setting_keys
from deeplabx.errors import ConfigError, nearest
from deeplabx.registry import families
from deeplabx.run.description import config_from_plain
from tests.conftest import Compose


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.lr=nan", r"optimizer.lr=nan is not a finite number: it must be above 0"),
        ("optimizer.lr=inf", r"optimizer.lr=inf is not a finite number"),
        ("optimizer.lr=-0.1", r"optimizer.lr=-0.1 is out of range: it must be above 0"),
        ("augment.crop_size=-5", r"augment.crop_size=-5 is out of range: it must be at least 8"),
        ("trainer.batch_size=0", r"trainer.batch_size=0 is out of range"),
        ("backbone.output_stride=12", r"backbone.output_stride=12 is not one of 8, 16, 32"),
        (
            "trainer.precision=bf61",
            r"trainer.precision=bf61 is not one of auto, fp32, tf32, bf16, fp16. Did you mean bf16\?",
        ),
        ("trainer.devices=gpu", r"trainer.devices=gpu is not one of auto, cpu, or a number of processes"),
        ("trainer.workers=many", r"trainer.workers=many is not auto or a whole number that is at least 0"),
        ("trainer.workers=atuo", r"trainer.workers=atuo is not auto .*256\. Did you mean auto\?"),
        ("trainer.workers=-1", r"trainer.workers=-1 is out of range: it must be at least 0 and at most 256"),
        (
            "trainer.workers=300",
            r"trainer.workers=300 is out of range: it must be at least 0 and at most",
        ),
        ("trainer.workers='300'", r"trainer.workers=300 is out of range"),
        ("augment.scale_min=3", r"augment.scale_min=3.0 is above augment.scale_max=2.0"),
        ("augment.blur_sigma=[2,1]", r"augment.blur_sigma=\[2.0, 1.0\] must be \[least,most\]"),
        ("augment.mix=mixup", r"augment.mix=mixup is not one of cutmix, classmix"),
        ("augment.cat_max_ratio=1", r"augment.cat_max_ratio=1.0 is out of range: .* below 1"),
        ("eval.crop=[513]", r"eval.crop=\[513\] must be \[height,width\]"),
        ("eval.scales=[]", r"eval.scales=\[\] is empty"),
        ("eval.scales=[1.0,-1.0]", r"eval.scales=-1.0 is out of range"),
        ("schedule.warmup_iters=9999", r"schedule.warmup_iters=9999 must be smaller than schedule.max_iters"),
        ("+optimizer.trust=true", r"optimizer.trust is not a setting"),
        ("trainer.swa_start=1", r"trainer.swa_start=1.0 is out of range: it must be above 0 and below 1"),
        ("trainer.swa_every=2", r"trainer.swa_every=2 has no effect without trainer.swa_start"),
        ("trainer.ema_decay=1", r"trainer.ema_decay=1.0 is out of range: it must be above 0 and below 1"),
        ("trainer.freeze_stride=3", r"trainer.freeze_stride=3 is not one of 2, 4, 8, 16, 32"),
        (
            "loss.class_balance=median_frequence",
            r"loss.class_balance=median_frequence is not one of .*Did you mean median_frequency\?",
        ),
        ("loss.class_weights=[1,0]", r"loss.class_weights=0.0 is out of range: it must be above 0"),
        ("~schedule", r"schedule.name must be given"),
    ],
)
def test_a_value_out_of_range_names_setting_value_and_choices(
    compose: Compose, override: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        compose(override)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            "folds=5",
            r"dataset.folds=5 needs dataset.fold, from 0 to 4\nall of them .*: -m dataset.fold=0,1,2,3,4",
        ),
        ("fold=0", "dataset.fold=0 without dataset.folds"),
        ("folds=5 fold=5", "dataset.fold=5 is not one of dataset.folds=5: 0 to 4"),
        ("folds=1 fold=0", "dataset.folds=1 is out of range: it must be at least 2"),
        ("folds=5 fold=0 val_fraction=0.2", "set only one of them"),
        ("group=x", "dataset.group=x has no effect without dataset.val_fraction or dataset.folds"),
        ("annotations=a.json format=coco", "dataset.annotations=a.json has no effect without"),
        (
            "annotations=a.json val_fraction=0.2",
            "has no effect with dataset.format=masks\nit belongs to dataset.fo",
        ),
        ("unlabelled=ignore", "dataset.unlabelled=ignore has no effect with dataset.format=masks"),
        ("mask_suffix=_m format=coco", "dataset.mask_suffix=_m has no effect with dataset.format=coco"),
        (
            "mask_alpha=keep format=labelme",
            "dataset.mask_alpha=keep has no effect with dataset.format=labelme",
        ),
        (
            "format=coc",
            "dataset.format=coc is not one of masks, beside, coco, labelme, list. Did you mean coco",
        ),
    ],
)
def test_settings_of_a_folder_that_do_not_go_together(compose: Compose, settings: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compose("dataset=folder", *(f"dataset.{one}" for one in settings.split()))


def test_settings_of_a_folder_that_go_together(compose: Compose) -> None:
    for settings in (
        "folds=5 fold=4 group=x",
        "val_fraction=0.2 group=x format=labelme unlabelled=ignore",
        "format=coco annotations=a.json val_fraction=0.2",
        "format=beside mask_suffix=_m mask_alpha=void",
    ):
        compose("dataset=folder", *(f"dataset.{one}" for one in settings.split()))


@pytest.mark.parametrize("crop_size", [512, 513])
def test_any_crop_of_one_stride_or_more_is_fine(compose: Compose, crop_size: int) -> None:
    assert compose(f"augment.crop_size={crop_size}").augment.crop_size == crop_size


def test_a_crop_below_one_stride_is_refused(compose: Compose) -> None:
    with pytest.raises(ConfigError, match=r"augment.crop_size=31 is smaller than backbone.output_stride=32"):
        compose("augment.crop_size=31", "backbone.output_stride=32")
    compose("augment.crop_size=32", "backbone.output_stride=32")


def test_a_batch_must_divide(compose: Compose) -> None:
    with pytest.raises(ConfigError, match=r"trainer.batch_size=9 is not divisible by .* = 6"):
        compose("trainer.batch_size=9", "trainer.accumulate=3", "trainer.devices=2")
    assert (
        compose("trainer.batch_size=12", "trainer.accumulate=3", "trainer.devices=2").trainer.batch_size == 12
    )


def test_one_image_per_pass_is_refused_unless_norm_is_frozen(compose: Compose) -> None:
    with pytest.raises(ConfigError, match="a batch norm needs at least two values per channel"):
        compose("trainer.batch_size=4", "trainer.accumulate=4")
    compose("trainer.batch_size=4", "trainer.accumulate=4", "model.norm=frozen")


def test_what_a_data_set_recommends_is_beaten_by_what_is_typed(compose: Compose) -> None:
    camvid, shapes = compose("dataset=camvid"), compose()
    assert camvid.augment.crop_size == camvid.dataset.recommended.crop_size != shapes.augment.crop_size
    assert camvid.trainer.batch_size == camvid.dataset.recommended.batch_size
    assert camvid.optimizer.lr == camvid.dataset.recommended.lr
    typed = compose("dataset=camvid", "schedule.max_iters=10")
    assert typed.schedule.max_iters == 10
    assert typed.augment.crop_size == camvid.augment.crop_size


@pytest.mark.parametrize(
    ("overrides", "fits"),
    [
        (["model=deeplabv3"], False),
        (["model=deeplabv3", "model.norm=group"], True),
        (["model=deeplabv3", "model.image_pooling=65"], False),  # the crop's side: still one value
        (["model=deeplabv3", "model.image_pooling=33"], True),
        (["model=deeplabv3", "model.image_pooling=none"], True),
        (["model=deeplabv3", "model.aspp=false"], True),
        (["model=lraspp"], True),  # no norm behind its pooling
        (["model=deeplabv2"], True),
        (["model=deeplabv2", "augment.crop_size=9"], True),
        (["model=deeplabv2", "augment.crop_size=9", "model.scales=[1,0.5]"], False),  # 1 x 1 features
    ],
)
def test_one_image_per_pass_where_no_norm_sees_a_single_value(
    compose: Compose, overrides: list[str], fits: bool
) -> None:
    overrides = [*overrides, "trainer.batch_size=1"]
    if fits:
        assert compose(*overrides).trainer.batch_size == 1
    else:
        with pytest.raises(ConfigError, match="needs at least two values"):
            compose(*overrides)


@pytest.mark.parametrize(
    "overrides", [[], ["backbone=resnet50", "dataset=camvid", "model=deeplabv3", "model.atrous_rates=[6,12]"]]
)
def test_a_config_comes_back_from_json(compose: Compose, overrides: list[str]) -> None:
    config = compose(*overrides)
    assert config_from_plain(json.loads(json.dumps(stored.to_plain(config)))) == config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": "1"}, "seed='1' is not a whole number"),
        ({"seed": True}, "seed=True is not a whole number"),
        ({"eval": {**asdict(schema.EvalConfig()), "scales": [10**400]}}, "scales=.* is not"),
        ({"extra": 1}, r"unknown \['extra'\]"),
        ({"model": 3}, "model is not a table"),
        ({"backbone": {"name": "evil"}}, "backbone=evil is not known"),
        ({"backbone": {"name": "shapes"}}, "backbone=shapes is not known"),
        ({"optimizer": {"_target_": "os.system"}}, "unknown"),
    ],
)
def test_stored_data_is_read_strictly(compose: Compose, change: dict, words: str) -> None:
    plain = stored.to_plain(compose())
    with pytest.raises(ConfigError, match=words):
        config_from_plain({**plain, **change})


def test_interpolations_in_stored_data_stay_text(compose: Compose) -> None:
    plain = stored.to_plain(compose())
    plain["init_from"] = "${oc.env:HOME}"
    assert config_from_plain(plain).init_from == "${oc.env:HOME}"


def test_the_nearest_name_is_suggested() -> None:
    keys = setting_keys(schema.TrainConfig, families())
    assert nearest("lr", keys) == " Did you mean optimizer.lr?"
    assert nearest("optimizer.momentun", keys) == " Did you mean optimizer.momentum?"
    assert nearest("zzz", keys) == ""


def test_weights_that_are_given_and_computed_are_refused_unless_a_run_wrote_both(compose: Compose) -> None:
    with pytest.raises(ConfigError, match=r"set only one of them\nleave the other null"):
        compose("loss.class_weights=[1,2]", "loss.class_balance=enet")
    config = compose("loss.class_balance=enet")
    config.loss.class_weights = [1.0, 2.0]
    checks.check(config)


def test_priors_are_kept_of_weights(compose: Compose) -> None:
    with pytest.raises(
        ConfigError,
        match=r"loss.keep_priors=true, but there are no class weights\nset loss.class_balance=enet",
    ):
        compose("loss.keep_priors=true")
    assert compose("loss.keep_priors=true", "loss.class_weights=[1,2]").loss.keep_priors


def test_there_must_be_a_batch_norm_to_freeze(compose: Compose) -> None:
    with pytest.raises(ConfigError, match="trainer.freeze_backbone_norm=true, but model.norm=group"):
        compose("trainer.freeze_backbone_norm=true", "model.norm=group")


def test_adamw_has_a_learning_rate_of_its_own(compose: Compose) -> None:
    assert (
        compose("optimizer=adamw").optimizer.lr
        == compose("optimizer=adamw", "dataset=voc").optimizer.lr
        == 1e-3
    )


def test_every_number_has_a_range_or_a_choice() -> None:
    for owner in vars(schema).values():
        if is_dataclass(owner):
            for field in fields(owner):
                if field.type in (int, float):
                    assert {"at_least", "options"} & set(field.metadata), f"{owner}.{field.name}"


def test_a_checkpoint_is_used_without_the_rules_of_its_training(compose: Compose) -> None:
    config = compose("trainer.batch_size=4")
    config.trainer.devices = "3"
    checks.check(config, training=False)
    with pytest.raises(ConfigError, match="is not divisible"):
        checks.check(config)
    config.trainer.devices = "some"
    with pytest.raises(ConfigError, match="trainer.devices=some"):
        checks.check(config, training=False)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("~eval.window", "~eval.window removes a setting"),
        ("eval.window=${nothing}", "eval.window: Interpolation key 'nothing' not found"),
    ],
)
def test_what_is_typed_onto_a_checkpoints_config_is_told_in_words(
    compose: Compose, override: str, words: str
) -> None:
    base = compose()
    composed = OmegaConf.create({"eval": {"window": "${nothing}"}})
    with pytest.raises(ConfigError, match=words):
        stored.replace_overridden(base, composed, [override], own_keys=())


def test_a_wrong_value_is_quoted_in_short(compose: Compose) -> None:
    value: list[object] = ["x"] * 9
    for _ in range(30):
        value = [value] * 9  # as aliases in YAML can make it
    with pytest.raises(ConfigError, match="seed=.*is not a whole number") as raised:
        config_from_plain({**stored.to_plain(compose()), "seed": value})
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("eval.crf_position=[3]", r"eval.crf_position=\[3.0\] must be \[weight,pixels\]"),
        ("eval.crf_bilateral=[4,67]", "must be \\[weight,pixels,grey levels\\]"),
        ("eval.crf_bilateral=[4,67,1e-9]", "a distance must be at least 0.1"),
        ("model.image_pooling=65", "model.image_pooling=65 has no effect with model.aspp=false"),
        (
            "model.channels=512",
            "model.channels=512 has no effect with model.aspp=false and model.head_convolution=false",
        ),
        ("model.projection_kernel=3", "model.projection_kernel=3 has no effect with model.aspp=false"),
        ("model.projection_kernel=2", "model.projection_kernel=2 is not one of 1, 3"),
        ("model.atrous_rates=[99999999999999999999]", "out of range"),
    ],
)
def test_settings_that_no_model_or_crf_can_have(compose: Compose, override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compose("model=deeplabv3", "model.aspp=false", override)


def test_without_aspp_the_3x3_of_the_head_has_channels(compose: Compose) -> None:
    assert (
        compose(
            "model=deeplabv3", "model.aspp=false", "model.head_convolution=true", "model.channels=512"
        ).model.channels
        == 512
    )


def test_a_mix_needs_two_images_for_each_process(compose: Compose) -> None:
    few = ["augment.mix=cutmix", "trainer.batch_size=3", "trainer.devices=3", "model.norm=group"]
    with pytest.raises(ConfigError, match="augment.mix=cutmix needs at least 2 images for each process"):
        compose(*few)
    assert compose(*few, "trainer.batch_size=6").augment.mix == "cutmix"


@pytest.mark.parametrize(
    ("transforms", "words"),
    [
        ([{"name": "A", "_target_": "os.system"}], "'_target_' is not the name of an argument"),
        ([{"name": "A", "p": float("nan")}], r"transforms\[0\].p=nan is not a finite number"),
        ([{"name": "A", "x": [[float("inf")]]}], r"transforms\[0\].x\[0\]\[0\]=inf is not a finite number"),
        ([{"p": 1}], r"transforms\[0\] has no name"),
        ([{"name": 5}], r"transforms\[0\] has no name"),
        ([{"name": "A", "x": list(range(2000))}], "more than 1000 values"),
    ],
)
def test_what_describes_no_transform_is_answered_in_words(transforms: list[dict], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        checks.check_transforms(transforms)


def test_descriptions_nested_too_deeply_are_refused() -> None:
    nested: dict = {"name": "A"}
    for _ in range(30):
        nested = {"name": "OneOf", "transforms": [nested]}
    with pytest.raises(ConfigError, match="more than 20 inside each other"):
        checks.check_transforms([nested])
