/**
 * The views below the stage, and the sources that may stand on it. Each is a custom element in a
 * module of its own, fetched when it is first asked for. Add yours here, and nowhere else.
 *
 * @typedef {Object} View
 * @property {string} name  in the address
 * @property {string} title
 * @property {string} element  tag of the custom element
 * @property {() => Promise<unknown>} load
 * @property {boolean} [needsServer]  left out where there is none
 */

/** @type {View[]} */
export const VIEWS = [
  {
    name: "detections",
    title: "Detections",
    element: "rt-detections",
    load: () => import("../components/rt-detections.js"),
  },
  {
    name: "inside",
    title: "Inside",
    element: "rt-inside",
    load: () => import("../components/rt-inside.js"),
  },
];

/**
 * What stands on the stage instead of a photo. Its element lies under the boxes and fills the stage.
 *
 * @typedef {Object} Source
 * @property {"camera" | "video"} name
 * @property {string} title
 * @property {string} element
 * @property {() => Promise<unknown>} load
 */

/** @type {Source[]} */
export const SOURCES = [];
