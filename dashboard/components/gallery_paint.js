// How the gallery draws attribution maps over pictures, and what its files share.
// Data of the run reaches the page through textContent and attributes only, never as HTML.

const SIDE = 128; // pixels of the longer side of a coloured map; CSS stretches it over the image

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function bytes(base64) {
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

// Keys' cubic convolution (a = −0.5), cell centres at half steps, edges repeated: as the server draws it.
const weightCache = new Map();
function weights(cells, pixels) {
  const key = cells * 4096 + pixels;
  if (weightCache.has(key)) return weightCache.get(key);
  const table = new Float32Array(pixels * cells);
  for (let p = 0; p < pixels; p++) {
    const centre = ((p + 0.5) * cells) / pixels - 0.5;
    for (let k = Math.floor(centre) - 1; k <= Math.floor(centre) + 2; k++) {
      const d = Math.abs(centre - k);
      const w = d < 1 ? 1.5 * d ** 3 - 2.5 * d ** 2 + 1 : d < 2 ? -0.5 * d ** 3 + 2.5 * d ** 2 - 4 * d + 2 : 0;
      table[p * cells + Math.min(cells - 1, Math.max(0, k))] += w;
    }
  }
  weightCache.set(key, table);
  return table;
}

// A signed map's bytes lie about ZERO: its colour says which way, and its opacity how far from nothing.
const ZERO = 128;
function paint(canvas, map, tables, floor) {
  const [height, width, values, signed] = map;
  const colours = signed ? tables.signed : tables.plain;
  const scale = SIDE / Math.max(height, width);
  const h = Math.max(1, Math.round(height * scale));
  const w = Math.max(1, Math.round(width * scale));
  const across = weights(width, w);
  const down = weights(height, h);
  const rows = new Float32Array(height * w);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < w; x++) {
      let sum = 0;
      for (let k = 0; k < width; k++) sum += across[x * width + k] * values[y * width + k];
      rows[y * w + x] = sum;
    }
  canvas.width = w;
  canvas.height = h;
  const context = canvas.getContext("2d");
  const image = context.createImageData(w, h);
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x++) {
      let sum = 0;
      for (let k = 0; k < height; k++) {
        const weight = down[y * height + k];
        if (weight !== 0) sum += weight * rows[k * w + x];
      }
      const v = Math.min(255, Math.max(0, Math.round(sum)));
      const at = (y * w + x) * 4;
      image.data[at] = colours[v * 3];
      image.data[at + 1] = colours[v * 3 + 1];
      image.data[at + 2] = colours[v * 3 + 2];
      const strength = signed ? Math.min(1, Math.abs(v - ZERO) / (255 - ZERO)) : v / 255;
      image.data[at + 3] = Math.round(255 * (floor + (1 - floor) * strength));
    }
  context.putImageData(image, 0, 0);
}
