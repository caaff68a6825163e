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
  {
    name: "lab",
    title: "Speed lab",
    element: "rt-lab",
    load: () => import("../components/rt-lab.js"),
    needsServer: true,
  },
  {
    name: "api",
    title: "API",
    element: "rt-api",
    load: () => import("../components/rt-api.js"),
    needsServer: true,
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
 * @property {boolean} [needsServer]  left out where there is none
 * @property {string} [panel]  tag of what stands under it
 */

/** @type {Source[]} */
export const SOURCES = [
  {
    name: "camera",
    title: "Camera",
    element: "rt-camera",
    panel: "rt-live-figures",
    load: () =>
      Promise.all([
        import("../components/rt-camera.js"),
        import("../components/rt-live-figures.js"),
      ]),
  },
  {
    name: "video",
    title: "Video",
    element: "rt-video",
    panel: "rt-video-panel",
    load: () =>
      Promise.all([import("../components/rt-video.js"), import("../components/rt-video-panel.js")]),
    needsServer: true,
  },
];
