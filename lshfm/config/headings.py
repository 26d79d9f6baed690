"""What the help pages say of keys beside the schema: the first ones, each one's heading, and what groups' keys mean."""

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
    "pictures and labels": ("input", "threshold", "top", "pictures", "sheet", "features", "devkit", "coco_ids"),
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
        "pool": "how the last feature map becomes a feature: GAP (mean), GMP (maximum) or GWP (the mean of both)",
        "projection": "a linear layer before the classifier, of this width",
        "weights": "where it starts: imagenet, auto (imagenet's, if they are there already), none or a file",
        "path": "a checkpoint, by its file or its name",
    },
    "loss": {"weight": "factor of this loss, beside beta"},
}

_DATA = {
    "dataset=voc2007": "the data: shapes (embedded), manifest (your own), voc2007, coco, ...",
    "dataset.root=~/VOCdevkit": "its folder",
}
_RUN = {
    "gpus=[0]": "the first GPU (default, if there is one); gpus=[0,1] two, gpus=[] the CPU",
    "seed=1": "another seed, another run",
    "name=mine": "name of the run; by default made of its settings",
}
FIRST: dict[str, dict[str, str]] = {  # command -> an example of each key that one types first, and what it is for
    "train": {
        **_DATA,
        "model=resnet34": "the network; model=timm model.arch=NAME for timm's",
        "model.weights=imagenet": "what it starts from: imagenet (downloads), none (random), or a file",
        "epochs=20": "passes over the training images; a run can be given more later",
        "batch_size=32": "images per step, over all GPUs",
        "lr=0.01": "learning rate",
        **_RUN,
    },
    "mimic": {
        **_DATA,
        "teacher=resnet34": "the trained network: a checkpoint, or a network that was trained on these data",
        "student=resnet18": "the network that learns",
        "loss=lshl2": "what is mimicked: lsh the direction, l2 all, lshl2 both; several as [l2,kl_sigmoid]",
        "loss.beta=3": "weight of these losses beside the labels'",
        "epochs=20": "passes over the training images; stage1.epochs=5 for stage 1 alone",
        **_RUN,
    },
    "eval": {
        "checkpoint=NAME": "the network: a checkpoint's file or name; `checkpoint=` may be left out",
        "teacher=resnet34": "also measure angle, length and hash agreement",
        "dataset.root=/data": "where the data are now; the checkpoint knows the rest",
        "dataset.eval_split=val": "another split",
        "threshold=0.3": "precision, recall and F1 from this probability on",
        "thresholds=tune": "choose a threshold for each class on held-out images",
        "calibration=temperature": "fit a temperature there",
        "eval_batch_size=128": "images per batch",
        "gpus=[]": "on the CPU; gpus=[0,1] on two GPUs",
        "name=mine": "name of the results' folder",
    },
    "predict": {
        "checkpoint=NAME": "the network: a checkpoint's file or name; `checkpoint=` may be left out",
        "input=photos": "pictures: a file, a folder, a glob in quotes, a .txt list",
        "threshold=0.7": "labels from this probability on",
        "top=3": "at most 3 labels per picture",
        "format=csv": "a table in place of JSON lines",
        "pictures=true": "copies with their labels on them",
        "sheet=true": "small copies on one sheet",
        "features=true": "features.npy, for search and clustering",
        "gpus=[]": "on the CPU",
        "name=mine": "name of the results' folder",
    },
    "export": {
        "checkpoint=NAME": "the network: a checkpoint's file or name; `checkpoint=` may be left out",
        "format=onnx": "the format: onnx, pt2, safetensors, torchvision, timm, published",
        "images=photos": "pictures to check the file on, if you do not have the data set",
        "dataset.root=/data": "where the data set is now, to check the file on",
        "file=student.onnx": "the file to write",
        "uint8=true": "the graph takes pixels and returns probabilities",
        "feature=true": "the graph also returns the feature",
        "precision=int8": "smaller and faster: fp16, or int8 for ONNX",
        "bench=true": "images per second, before and after",
        "overwrite=true": "replace a file that is there",
    },
    "check": {
        "dataset=manifest": "the data: manifest (your own table), coco, voc2007, imagefolder, boxes, ...",
        "dataset.root=DIR": "its folder",
        "dataset.train_split=train": "the split to train on",
        "dataset.eval_split=val": "the split to test on; none with dataset.holdout",
        "dataset.holdout=0.2": "share of the training split to test on",
        "dataset.task=singlelabel": "one label per image",
        "dataset.size=448": "pixels a side that pictures are decoded to",
        "dataset.cache=off": "keep no decoded pixels",
        "workers=8": "processes that decode",
        "format=json": "for scripts",
    },
}
