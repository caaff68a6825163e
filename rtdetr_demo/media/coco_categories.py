"""Category ids of COCO files: the data set's own where the classes are COCO's."""

from collections.abc import Sequence

# In the order of their ids from 1; COCO leaves some ids out.
_NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,,"
    "backpack,umbrella,,,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,"
    "baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,,wine glass,cup,fork,"
    "knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,"
    "couch,potted plant,bed,,dining table,,,toilet,,tv,laptop,mouse,remote,keyboard,cell phone,"
    "microwave,oven,toaster,sink,refrigerator,,book,clock,vase,scissors,teddy bear,hair drier,"
    "toothbrush"
).split(",")

_OTHER_NAMES = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
}
"""Names that checkpoints have for some classes, as VOC writes them."""

COCO_IDS = {name: number for number, name in enumerate(_NAMES, start=1) if name}
COCO_IDS |= {other: COCO_IDS[name] for other, name in _OTHER_NAMES.items()}


def category_ids(class_names: Sequence[str]) -> list[int]:
    """The category id of each class.

    COCO's own, 1 to 90 with gaps, where every class is one of COCO's; else 1, 2, 3 and so on.
    """
    ids = [COCO_IDS.get(name, 0) for name in class_names]
    own = all(ids) and len(set(ids)) == len(ids)
    return ids if own else list(range(1, len(class_names) + 1))
