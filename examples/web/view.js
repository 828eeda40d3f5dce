// Images cut and scaled as evaluation does it (engine/data/shift.py, area_crop.py): the filters of
// OpenCV and of Pillow, to within one grey level of theirs. Pixels are bytes in BGR order.

// 224 out of 256 pixels are evaluated (engine/data/transforms.py).
const CENTRE_RATIO = 0.875;
// Shortest edges; ends of longer images are never seen.
const LONGEST = 128;

function cubic(x, a) {
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// To the nearest whole number, halves to the even one.
function roundEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 ? low + 1 : low;
}

// Filters: the source pixels of a scaled pixel, and their weights.
// from: pixels of the source; scale: how many of them a scaled pixel spans.

// OpenCV's INTER_CUBIC; the border pixel is repeated.
function cubicTaps(index, scale, from) {
  const place = Math.fround((index + 0.5) * scale - 0.5);
  const whole = Math.floor(place);
  const first = clamp(whole - 1, 0, from - 1);
  const weights = [];
  for (let k = -1; k <= 2; k++) {
    const at = clamp(whole + k, 0, from - 1) - first;
    weights[at] = (weights[at] ?? 0) + cubic(place - whole - k, -0.75);
  }
  return { first, weights };
}

// OpenCV's INTER_AREA: shares of the source pixels.
function areaTaps(index, scale, from) {
  const low = index * scale;
  const high = Math.min(low + scale, from);
  const first = Math.floor(low);
  const weights = [];
  for (let at = first; at < high; at++) {
    weights.push((Math.min(high, at + 1) - Math.max(low, at)) / (high - low));
  }
  return { first, weights };
}

// Pillow's filters, whose weights are numbers of 22 bits.
function pillowTaps(support, kernel) {
  return (index, scale, from) => {
    const stretch = Math.max(scale, 1);
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support * stretch + 0.5));
    const last = Math.min(from, Math.trunc(centre + support * stretch + 0.5));
    const weights = [];
    let sum = 0;
    for (let at = first; at < last; at++) {
      const weight = kernel((at - centre + 0.5) / stretch);
      weights.push(weight);
      sum += weight;
    }
    return { first, weights: weights.map((weight) => Math.round((weight / sum) * 2 ** 22) / 2 ** 22) };
  };
}

const AREA = { taps: areaTaps };
const CUBIC = { taps: cubicTaps };
// Pillow keeps bytes between its two passes.
const PILLOW = {
  antialias: { taps: pillowTaps(1, (x) => Math.max(0, 1 - Math.abs(x))), bytes: true },
  antialias_cubic: { taps: pillowTaps(2, (x) => cubic(x, -0.5)), bytes: true },
};

// An axis: from so many pixels to so many, of which `count` from `start` on are wanted.
function axisTaps({ from, to, start, count }, filter) {
  return Array.from({ length: count }, (_, i) => filter.taps(start + i, from / to, from));
}

const toByte = (value) => clamp(Math.floor(value + 0.5), 0, 255);

function scaleTo(image, across, down, filter) {
  const columns = axisTaps(across, filter);
  const rows = axisTaps(down, filter);
  const length = across.count * 3;
  const lines = new Float64Array(down.from * length);
  for (let y = 0; y < down.from; y++) {
    const row = ((image.top + y) * image.stride + image.left) * 3;
    for (let x = 0; x < length; x++) {
      const { first, weights } = columns[Math.floor(x / 3)];
      const from = row + first * 3 + (x % 3);
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * image.pixels[from + k * 3];
      lines[y * length + x] = filter.bytes ? toByte(sum) : sum;
    }
  }
  const view = new Uint8Array(down.count * length);
  for (let y = 0; y < down.count; y++) {
    const { first, weights } = rows[y];
    for (let x = 0; x < length; x++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * lines[(first + k) * length + x];
      view[y * length + x] = toByte(sum);
    }
  }
  return view;
}

// Scales all of an image and keeps a square of it.
function cutScaled(image, across, down, filter) {
  if (across.from !== across.to || down.from !== down.to) {
    return scaleTo(image, across, down, filter);
  }
  const view = new Uint8Array(across.count * down.count * 3);
  for (let y = 0; y < down.count; y++) {
    const at = (image.top + down.start + y) * image.stride + image.left + across.start;
    view.set(image.pixels.subarray(at * 3, (at + across.count) * 3), y * across.count * 3);
  }
  return view;
}

// By OpenCV: the shortest edge to so many pixels, and the centre of that.
function centreScaled(image, edge, filter, side) {
  const scale = edge / Math.min(image.width, image.height);
  const axis = (from) => {
    const to = Math.floor(from * scale + 0.5);
    return { from, to, start: Math.floor((to - side) / 2), count: side };
  };
  return cutScaled(image, axis(image.width), axis(image.height), filter);
}

// By Pillow: likewise, with the roundings of torchvision.
function centreAntialiased(image, filter, ratio, side) {
  const edge = Math.trunc(side / ratio);
  const shortest = Math.min(image.width, image.height);
  const axis = (from) => {
    const to = Math.trunc((edge * from) / shortest);
    return { from, to, start: roundEven((to - side) / 2), count: side };
  };
  return cutScaled(image, axis(image.width), axis(image.height), filter);
}

// The middle of an image whose edges are longer than that.
function middle(image, longest) {
  const width = Math.min(image.width, longest);
  const height = Math.min(image.height, longest);
  const left = Math.floor((image.width - width) / 2);
  const top = Math.floor((image.height - height) / 2);
  return { ...image, width, height, left, top };
}

// What evaluation makes of an image: a square of side * side * 3 bytes.
export function makeView(pixels, width, height, augmentation, resize, side) {
  const whole = { pixels, stride: width, width, height };
  const shortest = Math.min(width, height);
  const image = middle(whole, shortest * LONGEST);
  const pillow = PILLOW[resize];
  const [, share] = augmentation.split(':');
  const ratio = share ? Number(share) : CENTRE_RATIO;
  if (augmentation === 'shift' && pillow) {
    const edge = { from: shortest, to: side, start: 0, count: side };
    return cutScaled(middle(whole, shortest), edge, edge, pillow);
  }
  if (augmentation === 'shift') {
    return centreScaled(image, side, shortest > side ? AREA : CUBIC, side);
  }
  if (pillow) return centreAntialiased(image, pillow, ratio, side);
  return centreScaled(image, Math.round(side / ratio), CUBIC, side);
}
