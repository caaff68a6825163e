/**
 * Category ids of COCO files, as `media/coco_categories.py` gives them.
 */

/** In the order of their ids from 1; COCO leaves some ids out. */
const NAMES =
  "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,,stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,,backpack,umbrella,,,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,,dining table,,,toilet,,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,,book,clock,vase,scissors,teddy bear,hair drier,toothbrush".split(
    ",",
  );

/**
 * Names that checkpoints have for some classes, as VOC writes them.
 *
 * @type {Record<string, string>}
 */
const OTHER_NAMES = {
  motorbike: "motorcycle",
  aeroplane: "airplane",
  sofa: "couch",
  pottedplant: "potted plant",
  diningtable: "dining table",
  tvmonitor: "tv",
};

/**
 * COCO's own ids where every class is one of COCO's; else 1, 2, 3 and so on.
 *
 * @param {string[]} classes
 */
export function categoryIds(classes) {
  const ids = classes.map((name) => NAMES.indexOf(OTHER_NAMES[name] ?? (name || "?")) + 1);
  const own = ids.every(Boolean) && new Set(ids).size === ids.length;
  return own ? ids : classes.map((_, i) => i + 1);
}
