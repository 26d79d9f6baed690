"""What the console says of a detector's answers."""

from lshfm.shipping.box_answers import BoxAnswers, DetectedObject, Detections


def test_a_picture_with_very_many_objects_stays_readable() -> None:
    """An untrained detector finds a hundred in each; the rest is counted, with where all of them go."""
    answers = BoxAnswers(["dog"], [1], coco_ids=None, devkit=False, saw_only_its_data=False)
    objects = [DetectedObject("dog", 0.5, (0.0, 0.0, 9.0, 9.0))] * 23
    shown = answers.words(Detections("a.jpg", objects[:20]))
    assert shown.count("dog 0.500 (0,0 9,9)") == 20
    assert answers.words(Detections("a.jpg", objects)) == f"{shown}, and 3 more (format=csv writes them all)"
