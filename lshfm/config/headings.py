"""What the help pages say of keys beside the schema: under which heading each stands, and what groups' keys mean."""

STAGES = ("stage1", "stage2")
SECTIONS = {  # heading -> the keys under it that belong to no group
    "training": (
        "epochs", "early_stop", "batch_size", "drop_last", "accumulate", "balanced", "freeze", "freeze_epochs", "ema",
        "average", "average_bn", "augment",
        "select", "allow_test", "seed",
    ),
    "optimiser and learning rate": (
        "optimizer", "lr", "head_lr", "momentum", "weight_decay", "decay_weights_only", "clip_grad", "schedule",
    ),
    "BatchNorm": ("bn_group_size", "sync_bn"),
    "evaluation": ("checkpoint", "eval_every", "eval_batch_size", "thresholds", "calibration"),
    "pictures and labels": ("input", "threshold", "top", "pictures", "sheet", "features"),
    "the exported file": ("format", "file", "feature", "uint8", "opset", "licence"),
    "its check": ("images", "check_images", "tolerance", "calibration_images", "max_drop", "bench"),
    "one stage alone": STAGES,
    "devices and arithmetic": ("gpus", "ranks", "workers", "speed", "precision", "channels_last", "deterministic"),
    "the teacher": ("teacher_tape",),
    "names, files and the log": (
        "name", "output_dir", "checkpoint_dir", "overwrite", "take_over",
        "log_every", "track", "checkpoint_minutes", "keep_last",
    ),
}  # fmt: skip
HIDDEN = {"recipe", "published"}  # a recipe's to say, and nobody's to type
TEXTS = {  # keys that many options of a group have; what is behind a key in an option's file comes before these
    "model": {
        "arch": "the network's design",
        "pool": "how the last feature map becomes a feature: GAP (mean), GMP (maximum) or GWP (learnt weights)",
        "projection": "a linear layer before the classifier, of this width",
        "weights": "where it starts: imagenet, auto (imagenet's, if they are there already), none or a file",
        "path": "a checkpoint, by its file or its name",
    },
    "loss": {"weight": "factor of this loss, beside beta"},
}
