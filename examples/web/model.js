// Reads the texts of an ONNX file that scripts.export wrote. onnxruntime-web does not hand them
// out: an ONNX file is a protobuf message, and its texts are pairs of strings in field 14.

const METADATA = 14n;
const KEY = 1n;
const VALUE = 2n;

// Fields of a message that have a length: their numbers and bytes.
function* fields(bytes) {
  let at = 0;
  const number = () => {
    let value = 0n;
    for (let shift = 0n; shift < 64n && at < bytes.length; shift += 7n) {
      const byte = bytes[at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw new Error('is no ONNX file');
  };
  while (at < bytes.length) {
    const tag = number();
    const kind = Number(tag & 7n);
    if (kind === 0) {
      number();
      continue;
    }
    const length = { 1: () => 8, 2: () => Number(number()), 5: () => 4 }[kind]?.();
    const end = at + length;
    if (!(end <= bytes.length)) throw new Error('is no ONNX file');
    yield [tag >> 3n, bytes.subarray(at, end)];
    at = end;
  }
}

// All texts of a file, parsed, by name.
export function readTexts(bytes) {
  const decoder = new TextDecoder();
  const texts = {};
  for (const [field, entry] of fields(bytes)) {
    if (field !== METADATA) continue;
    const pair = new Map(fields(entry));
    const value = decoder.decode(pair.get(VALUE));
    try {
      texts[decoder.decode(pair.get(KEY))] = JSON.parse(value);
    } catch {
      // Another program's.
    }
  }
  return texts;
}

// What a file of scripts.export says of itself: its points, class names and how images are cut.
export function describe(bytes) {
  const { points, images, class_names: classes, cascade } = readTexts(bytes);
  if (!points?.length || !images?.augmentation) {
    throw new Error('does not say how it is run; expected a file of scripts.export');
  }
  if (images.dtype !== 'uint8') {
    throw new Error('leaves preprocessing to others; export it without --no-preprocess');
  }
  if (images.channels !== 'BGR') {
    throw new Error('is of grey images, which this page does not make');
  }
  if (cascade?.sides.length) {
    throw new Error('takes the image in several sizes, which this page does not make');
  }
  // What it costs by the thresholds of the file, the mean over images.
  if (cascade) points[0].madds = cascade.validation_madds;
  return { points, classes: classes ?? [], augmentation: images.augmentation, resize: images.resize };
}
