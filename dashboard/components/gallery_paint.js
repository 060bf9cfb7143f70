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

// Keys' cubic convolution (a = −0.5), cell centres at half steps, edges repeated: as the server draws it. Four cells count for a pixel.
const tapCache = new Map();
function taps(cells, pixels) {
  const key = cells * 4096 + pixels;
  if (tapCache.has(key)) return tapCache.get(key);
  const found = { cell: new Int32Array(pixels * 4), weight: new Float32Array(pixels * 4) };
  for (let p = 0; p < pixels; p++) {
    const centre = ((p + 0.5) * cells) / pixels - 0.5;
    for (let i = 0; i < 4; i++) {
      const k = Math.floor(centre) - 1 + i;
      const d = Math.abs(centre - k);
      found.cell[p * 4 + i] = Math.min(cells - 1, Math.max(0, k));
      found.weight[p * 4 + i] = d < 1 ? 1.5 * d ** 3 - 2.5 * d ** 2 + 1 : d < 2 ? -0.5 * d ** 3 + 2.5 * d ** 2 - 4 * d + 2 : 0;
    }
  }
  tapCache.set(key, found);
  return found;
}

// What each of a map's 256 values looks like, as one number a pixel. A signed map's bytes lie about ZERO: its colour says which
// way, and its opacity how far from nothing.
const ZERO = 128;
function inks(colours, signed, floor) {
  const found = new Uint8ClampedArray(256 * 4);
  for (let v = 0; v < 256; v++) {
    const strength = signed ? Math.min(1, Math.abs(v - ZERO) / (255 - ZERO)) : v / 255;
    found.set([colours[v * 3], colours[v * 3 + 1], colours[v * 3 + 2], Math.round(255 * (floor + (1 - floor) * strength))], v * 4);
  }
  return new Uint32Array(found.buffer);
}

function paint(canvas, map, inked) {
  const [height, width, text, signed] = map;
  const values = bytes(text);
  const ink = signed ? inked.signed : inked.plain;
  const scale = SIDE / Math.max(height, width);
  const h = Math.max(1, Math.round(height * scale));
  const w = Math.max(1, Math.round(width * scale));
  const across = taps(width, w);
  const down = taps(height, h);
  const rows = new Float32Array(height * w);
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0; x < w; x++, at++) {
      let sum = 0;
      for (let i = x * 4; i < x * 4 + 4; i++) sum += across.weight[i] * values[y * width + across.cell[i]];
      rows[at] = sum;
    }
  canvas.width = w;
  canvas.height = h;
  const context = canvas.getContext("2d");
  const image = context.createImageData(w, h);
  const pixels = new Uint32Array(image.data.buffer);
  for (let y = 0, at = 0; y < h; y++) {
    const [a, b, c, d] = down.weight.subarray(y * 4, y * 4 + 4);
    const [first, second, third, fourth] = down.cell.subarray(y * 4, y * 4 + 4).map((cell) => cell * w);
    for (let x = 0; x < w; x++, at++) {
      const sum = a * rows[first + x] + b * rows[second + x] + c * rows[third + x] + d * rows[fourth + x];
      pixels[at] = ink[Math.min(255, Math.max(0, Math.round(sum)))];
    }
  }
  context.putImageData(image, 0, 0);
}

// Paints the maps that can be seen or soon will be; the others when they come near, or are printed.
const NEAR = 0.5; // of the window's height
class Painter {
  constructor() {
    const margin = `${100 * NEAR}% 0px`;
    const came = (entries) => entries.forEach((entry) => { if (entry.isIntersecting) this.finish(this.waiting.get(entry.target)); });
    this.observer = new IntersectionObserver(came, { rootMargin: margin, scrollMargin: margin });
    this.waiting = new Map();
  }

  begin(inked) {
    this.observer.disconnect();
    this.waiting.clear();
    this.inked = inked;
  }

  // Tiles that show their map already are left alone. All places are read before anything is drawn.
  show(tiles) {
    const stale = tiles.filter((tile) => tile.painted !== tile.map);
    const boxes = stale.map((tile) => tile.node.getBoundingClientRect());
    const near = NEAR * window.innerHeight;
    stale.forEach((tile, at) => {
      const { top, bottom } = boxes[at];
      if (bottom >= -near && top <= window.innerHeight + near) return this.finish(tile);
      this.waiting.set(tile.node, tile);
      this.observer.observe(tile.node);
    });
  }

  finish(tile) {
    if (!tile) return;
    this.observer.unobserve(tile.node);
    this.waiting.delete(tile.node);
    if (tile.map && tile.painted !== tile.map) paint(tile.canvas, tile.map, this.inked);
    tile.painted = tile.map;
  }

  all() {
    for (const tile of [...this.waiting.values()]) this.finish(tile);
  }
}
