/**
 * Pictures to a model's input, as the checkpoint's own processor prepares them. No DOM in here.
 *
 * The resize is Pillow's antialiased bilinear one, to the bit: a triangle as wide as what is shrunk,
 * in fixed point, across first and then down, rounded to whole levels after each.
 */

const PRECISION_BITS = 22;
const HALF = 1 << (PRECISION_BITS - 1);

/**
 * @typedef {Object} Weights
 * @property {Int32Array} starts  first source pixel of each target pixel
 * @property {Int32Array} counts  how many source pixels it reads
 * @property {Int32Array} values  their weights, `taps` to a target pixel, in fixed point
 * @property {number} taps
 */

/** @type {Map<string, Weights>} */
const known = new Map();

/**
 * @param {number} from  pixels there are
 * @param {number} to  pixels there shall be
 * @returns {Weights}
 */
function weightsOf(from, to) {
  const key = `${from} ${to}`;
  const before = known.get(key);
  if (before) return before;
  const scale = from / to;
  const reach = Math.max(scale, 1);
  const taps = Math.ceil(reach) * 2 + 1;
  const starts = new Int32Array(to);
  const counts = new Int32Array(to);
  const values = new Int32Array(to * taps);
  const shares = new Float64Array(taps);
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale;
    const start = Math.max(Math.trunc(center - reach + 0.5), 0);
    const count = Math.min(Math.trunc(center + reach + 0.5), from) - start;
    let sum = 0;
    for (let j = 0; j < count; j++) {
      const distance = Math.abs((j + start - center + 0.5) * (1 / reach));
      shares[j] = distance < 1 ? 1 - distance : 0;
      sum += shares[j];
    }
    for (let j = 0; j < count; j++)
      values[i * taps + j] = Math.trunc(0.5 + (shares[j] / sum) * (1 << PRECISION_BITS));
    starts[i] = start;
    counts[i] = count;
  }
  const weights = { starts, counts, values, taps };
  if (known.size > 16) known.clear();
  known.set(key, weights);
  return weights;
}

/**
 * Resize as Pillow's `Image.resize(size, BILINEAR)` does.
 *
 * @param {Uint8ClampedArray | Uint8Array} rgba  four bytes a pixel; the fourth is not looked at
 * @param {number} width
 * @param {number} height
 * @param {number} toWidth
 * @param {number} toHeight
 * @returns {Uint8ClampedArray}  three bytes a pixel
 */
export function resize(rgba, width, height, toWidth, toHeight) {
  const across = across3(rgba, width, height, toWidth);
  return height === toHeight ? across : down3(across, toWidth, height, toHeight);
}

/**
 * @param {Uint8ClampedArray | Uint8Array} rgba
 * @param {number} width
 * @param {number} height
 * @param {number} toWidth
 */
function across3(rgba, width, height, toWidth) {
  const out = new Uint8ClampedArray(3 * toWidth * height);
  if (width === toWidth) {
    for (let i = 0, from = 0, to = 0; i < width * height; i++, from += 4, to += 3) {
      out[to] = rgba[from];
      out[to + 1] = rgba[from + 1];
      out[to + 2] = rgba[from + 2];
    }
    return out;
  }
  const { starts, counts, values, taps } = weightsOf(width, toWidth);
  for (let y = 0, to = 0; y < height; y++) {
    const row = 4 * y * width;
    for (let x = 0; x < toWidth; x++, to += 3) {
      let red = HALF;
      let green = HALF;
      let blue = HALF;
      let at = row + 4 * starts[x];
      for (let j = x * taps, end = j + counts[x]; j < end; j++, at += 4) {
        const weight = values[j];
        red = (red + Math.imul(rgba[at], weight)) | 0;
        green = (green + Math.imul(rgba[at + 1], weight)) | 0;
        blue = (blue + Math.imul(rgba[at + 2], weight)) | 0;
      }
      out[to] = red >> PRECISION_BITS;
      out[to + 1] = green >> PRECISION_BITS;
      out[to + 2] = blue >> PRECISION_BITS;
    }
  }
  return out;
}

/**
 * @param {Uint8ClampedArray} rgb
 * @param {number} width
 * @param {number} height
 * @param {number} toHeight
 */
function down3(rgb, width, height, toHeight) {
  const { starts, counts, values, taps } = weightsOf(height, toHeight);
  const row = 3 * width;
  const out = new Uint8ClampedArray(row * toHeight);
  const sums = new Int32Array(row);
  for (let y = 0; y < toHeight; y++) {
    sums.fill(HALF);
    for (let j = 0; j < counts[y]; j++) {
      const weight = values[y * taps + j];
      const from = (starts[y] + j) * row;
      for (let x = 0; x < row; x++) sums[x] += Math.imul(rgb[from + x], weight);
    }
    for (let x = 0; x < row; x++) out[y * row + x] = sums[x] >> PRECISION_BITS;
  }
  return out;
}

/**
 * From levels to the numbers that a model takes, channel by channel.
 *
 * @param {Uint8ClampedArray} rgb
 * @param {number[]} scale  of each channel
 * @param {number[]} shift
 * @returns {Float32Array}
 */
export function normalize(rgb, scale, shift) {
  const count = rgb.length / 3;
  const out = new Float32Array(rgb.length);
  for (let channel = 0; channel < 3; channel++) {
    const table = Float32Array.from({ length: 256 }, (_, level) =>
      Math.fround(Math.fround(level * Math.fround(scale[channel])) + Math.fround(shift[channel])),
    );
    for (let i = 0, at = channel, to = channel * count; i < count; i++, at += 3, to++)
      out[to] = table[rgb[at]];
  }
  return out;
}
