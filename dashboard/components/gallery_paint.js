// How the gallery draws attribution maps over pictures, and what its files share.
// Data of the run reaches the page through textContent and attributes only, never as HTML.

const SIDE = 64; // pixels at least of the longer side of a coloured map, and two a cell; CSS stretches it over the image

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

// Maps are pictures, which the browser draws as part of the page. Canvases would each be a layer of their own, put together anew
// for every frame. A bitmap costs nothing to write: its headers (BITMAPV4HEADER), then four bytes a pixel, the top row first.
const HEADERS = 124;
function bitmap(width, height) {
  const file = new ArrayBuffer(HEADERS + 4 * width * height);
  const view = new DataView(file);
  view.setUint16(0, 0x424d); // "BM"
  view.setUint16(26, 1, true); // planes
  view.setUint16(28, 32, true); // bits a pixel
  const words = {
    2: file.byteLength, 10: HEADERS, 14: 108, 18: width, 22: -height, 30: 3, 34: 4 * width * height, // 108 bytes of header; 3: masks
    54: 0xff, 58: 0xff00, 62: 0xff0000, 66: 0xff000000, 70: 0x73524742, // red, green, blue, opacity; sRGB
  };
  for (const [at, value] of Object.entries(words)) view.setUint32(Number(at), value, true);
  return { file, pixels: new Uint32Array(file, HEADERS) };
}

function address(file) {
  let text = "";
  for (let at = 0; at < file.byteLength; at += 8192) text += String.fromCharCode(...new Uint8Array(file, at, Math.min(8192, file.byteLength - at)));
  return `data:image/bmp;base64,${btoa(text)}`;
}

function paint(picture, map, inked) {
  const [height, width, text, signed] = map;
  const values = bytes(text);
  const ink = signed ? inked.signed : inked.plain;
  const scale = Math.max(2, SIDE / Math.max(height, width));
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
  const { file, pixels } = bitmap(w, h);
  for (let y = 0, at = 0; y < h; y++) {
    const [a, b, c, d] = down.weight.subarray(y * 4, y * 4 + 4);
    const [first, second, third, fourth] = down.cell.subarray(y * 4, y * 4 + 4).map((cell) => cell * w);
    for (let x = 0; x < w; x++, at++) {
      const sum = a * rows[first + x] + b * rows[second + x] + c * rows[third + x] + d * rows[fourth + x];
      pixels[at] = ink[Math.min(255, Math.max(0, Math.round(sum)))];
    }
  }
  picture.src = address(file);
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
    if (tile.map && tile.painted !== tile.map) paint(tile.overlay, tile.map, this.inked);
    tile.painted = tile.map;
  }

  all() {
    for (const tile of [...this.waiting.values()]) this.finish(tile);
  }
}
