/**
 * Where labels go: beside their boxes, off one another, inside the frame. No DOM in here.
 *
 * @typedef {{x: number, y: number, width: number, height: number}} Rect
 */

/** Past so many detections labels would hide the picture: they shrink to scores. */
export const FULL_LABELS = 8;
/** Past so many, the weaker ones have none until they are pointed at. */
export const MOST_LABELS = 60;

/**
 * A place for each label, or null where there is none left. Earlier labels choose first.
 *
 * @param {{box: Rect, width: number, height: number}[]} labels  in one unit, as all here
 * @param {Rect} frame  that labels stay inside
 * @param {Rect[]} obstacles  that labels keep off
 * @param {boolean} insist  whether a label that finds no free place is put at its first one
 * @returns {(Rect | null)[]}
 */
export function placeLabels(labels, frame, obstacles = [], insist = true) {
  const taken = [...obstacles];
  return labels.map(({ box, width, height }) => {
    const places = candidates(box, width, height).map(({ x, y }) => ({
      x: clamp(x, frame.x, frame.x + frame.width - width),
      y: clamp(y, frame.y, frame.y + frame.height - height),
      width,
      height,
    }));
    const free = places.find((place) => !taken.some((other) => overlaps(place, other)));
    const chosen = free ?? (insist ? places[0] : null);
    if (chosen) taken.push(chosen);
    return chosen;
  });
}

/**
 * @param {Rect} box
 * @param {number} width
 * @param {number} height
 */
function candidates({ x, y, width: w, height: h }, width, height) {
  return [
    { x, y: y - height },
    { x, y },
    { x: x + w - width, y: y - height },
    { x: x + w - width, y },
    { x, y: y + h - height },
    { x: x + w - width, y: y + h - height },
    { x, y: y + h },
    { x: x + w, y },
    { x: x - width, y },
    { x: x + (w - width) / 2, y: y + (h - height) / 2 },
    { x, y: y + height },
    { x, y: y - 2 * height },
  ];
}

/**
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
const clamp = (value, low, high) => Math.max(low, Math.min(value, Math.max(low, high)));

/**
 * @param {Rect} a
 * @param {Rect} b
 */
const overlaps = (a, b) =>
  a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
