// Puts X-ray, DRR and what lies over them together, pixel by pixel. Pure functions of bytes.

export const PALETTE = [[86, 180, 233], [230, 159, 0], [0, 158, 115], [240, 228, 66], [204, 121, 167], [213, 94, 0], [255, 255, 255]];
const EDGE = [240, 228, 66];
const SHADE = [120, 140, 190];
// Fraction of pixels that are shown as edges: those with the steepest gradient.
const EDGE_FRACTION = 0.1;
const BINS = 4096, BINS_PER_GREY = 64;
const SQUARES = 8;

// Grey values by a window: its middle and its width, in percent of the range.
export function table(level, width) {
  const out = new Uint8Array(256);
  const low = (level - width / 2) * 2.55;
  for (let value = 0; value < 256; value++) {
    out[value] = Math.max(0, Math.min(255, ((value - low) * 100) / width));
  }
  return out;
}

// Means of the pixels that fall together, or the nearest pixel where the picture is enlarged.
export function resampled(plane, width, height) {
  if (plane.width === width && plane.height === height) return plane.pixels;
  const out = new Uint8Array(width * height);
  const sx = plane.width / width, sy = plane.height / height;
  for (let row = 0; row < height; row++) {
    const top = Math.floor(row * sy), bottom = Math.max(Math.floor((row + 1) * sy), top + 1);
    for (let column = 0; column < width; column++) {
      const left = Math.floor(column * sx), right = Math.max(Math.floor((column + 1) * sx), left + 1);
      let sum = 0;
      for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) sum += plane.pixels[y * plane.width + x];
      out[row * width + column] = sum / ((bottom - top) * (right - left));
    }
  }
  return out;
}

// The steepest places of a picture, as lines one pixel wide. It is smoothed before (means of 3x3 pixels, twice): the
// steps of grey values are no edges.
export function edgesOf(pixels, width, height) {
  const smooth = smoothed(smoothed(Float32Array.from(pixels), width, height), width, height);
  const steepness = new Float32Array(width * height), counts = new Uint32Array(BINS);
  const isAcross = new Uint8Array(width * height);
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const i = y * width + x;
      const across = Math.abs(smooth[i + 1] - smooth[i - 1]), down = Math.abs(smooth[i + width] - smooth[i - width]);
      steepness[i] = Math.hypot(across, down);
      isAcross[i] = across > down ? 1 : 0;
      counts[bin(steepness[i])]++;
    }
  }
  let lowest = BINS - 1, above = 0;
  while (lowest > 1 && above + counts[lowest] < EDGE_FRACTION * width * height) above += counts[lowest--];
  const out = new Uint8Array(width * height);
  for (let i = width; i < out.length - width; i++) {
    const step = isAcross[i] ? 1 : width;
    if (bin(steepness[i]) > lowest && steepness[i] >= steepness[i - step] && steepness[i] > steepness[i + step]) out[i] = 1;
  }
  return out;
}

const bin = (value) => Math.min(Math.floor(value * BINS_PER_GREY), BINS - 1);

function smoothed(values, width, height) {
  const rows = new Float32Array(values.length), out = new Float32Array(values.length);
  for (let i = 1; i < values.length - 1; i++) rows[i] = (values[i - 1] + values[i] + values[i + 1]) / 3;
  for (let i = width; i < values.length - width; i++) out[i] = (rows[i - width] + rows[i] + rows[i + width]) / 3;
  // Borders have no neighbours on one side: they are as the pixels beside them.
  for (let y = 0; y < height; y++) {
    const from = Math.min(Math.max(y, 1), height - 2) * width;
    for (let x = 0; x < width; x++) if (y === 0 || y === height - 1 || x === 0 || x === width - 1) out[y * width + x] = out[from + Math.min(Math.max(x, 1), width - 2)];
  }
  return out;
}

// The picture as RGBA. `layers`: xray and drr are bytes of this size, drr may be null; edges, covered and outlines
// are bytes or null. `how`: mode, blend (0 to 1), xrayTable, drrTable, drrTurn (flicker), alone (X-ray alone).
export function composed(layers, width, height, how) {
  const out = new Uint8ClampedArray(width * height * 4);
  const { xray, drr, edges, covered, outlines } = layers;
  const square = Math.max(Math.round(Math.max(width, height) / SQUARES), 1);
  for (let row = 0, i = 0; row < height; row++) {
    for (let column = 0; column < width; column++, i++) {
      let weight = how.blend;
      if (how.mode === "checker") weight = (Math.floor(row / square) + Math.floor(column / square)) & 1;
      else if (how.mode === "flicker") weight = how.drrTurn ? 1 : 0;
      if (how.alone || drr === null) weight = 0;
      const seen = how.xrayTable[xray[i]];
      let r = weight === 0 ? seen : (1 - weight) * seen + weight * how.drrTable[drr[i]];
      let g = r, b = r;
      if (!how.alone) {
        if (covered && !covered[i] && (row + column) % 8 < 3) [r, g, b] = SHADE.map((one) => 0.5 * r + 0.5 * one);
        if (outlines && outlines[i]) [r, g, b] = PALETTE[(outlines[i] - 1) % PALETTE.length];
        if (edges && edges[i]) [r, g, b] = EDGE;
      }
      out[4 * i] = r;
      out[4 * i + 1] = g;
      out[4 * i + 2] = b;
      out[4 * i + 3] = 255;
    }
  }
  return new ImageData(out, width, height);
}
