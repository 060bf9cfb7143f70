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

// Maps are pictures, which the browser draws as part of the page. Canvases would each be a layer of their own, put together anew
// for every frame. They are PNGs with a byte a pixel, whose colours stand once in a palette and whose bytes are not compressed
// (PNG, third edition, 2025; stored blocks: RFC 1951, 3.2.4; checksums: RFC 1950 and PNG, annex D).
const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});
const BLOCK = 4096; // bytes of a stored block, of at most 65,535: few enough that a usual map has more than one

class Png {
  // Everything but the pixels and their checksums is the same for all maps of one size and palette, and is written once.
  constructor(width, height, palette) {
    this.width = width;
    this.rows = height * (width + 1); // each begins with the number of its filter: 0, none
    const blocks = Math.ceil(this.rows / BLOCK);
    const data = 2 + 5 * blocks + this.rows + 4;
    this.file = new Uint8Array(8 + 25 + (12 + 768) + (12 + 256) + (12 + data) + 12);
    this.view = new DataView(this.file.buffer);
    this.file.set([137, 80, 78, 71, 13, 10, 26, 10]);
    let at = this.chunk(8, "IHDR", 13, (to) => {
      this.view.setUint32(to, width);
      this.view.setUint32(to + 4, height);
      this.file.set([8, 3], to + 8); // bits a pixel, which is a colour's number
    });
    at = this.chunk(at, "PLTE", 768, (to) => palette.forEach(([red, green, blue], v) => this.file.set([red, green, blue], to + 3 * v)));
    at = this.chunk(at, "tRNS", 256, (to) => palette.forEach(([, , , opacity], v) => { this.file[to + v] = opacity; }));
    this.data = [at, data];
    this.chunk(at, "IDAT", data, (to) => {
      this.file.set([0x78, 1], to);
      for (let block = 0, from = to + 2; block < blocks; block++, from += 5 + BLOCK) {
        const size = Math.min(BLOCK, this.rows - block * BLOCK);
        this.file[from] = block === blocks - 1 ? 1 : 0;
        this.view.setUint16(from + 1, size, true);
        this.view.setUint16(from + 3, ~size, true);
      }
    });
    this.chunk(at + 12 + data, "IEND", 0, () => {});
  }

  chunk(at, type, size, write) {
    this.view.setUint32(at, size);
    for (let i = 0; i < 4; i++) this.file[at + 4 + i] = type.charCodeAt(i);
    write(at + 8);
    this.sum(at, size);
    return at + 12 + size;
  }

  sum(at, size) {
    const { file } = this;
    let crc = -1;
    for (let i = at + 4; i < at + 8 + size; i++) crc = CRC[(crc ^ file[i]) & 255] ^ (crc >>> 8);
    this.view.setUint32(at + 8 + size, ~crc);
  }

  // Takes the numbers of the pixels' colours, row by row.
  address(pixels) {
    const { file, width, rows } = this;
    const [at, size] = this.data;
    let [to, left, from, one, two] = [at + 10, 0, 0, 1, 0];
    for (let done = 0; done < rows; done++, left--) {
      if (!left) [to, left] = [to + 5, BLOCK];
      const byte = done % (width + 1) ? pixels[from++] : 0;
      file[to++] = byte;
      one += byte;
      if (one >= 65521) one -= 65521;
      two += one;
      if (two >= 65521) two -= 65521;
    }
    this.view.setUint16(to, two);
    this.view.setUint16(to + 2, one);
    this.sum(at, size);
    let text = "";
    for (let i = 0; i < file.length; i += 8192) text += String.fromCharCode.apply(null, file.subarray(i, i + 8192));
    return `data:image/png;base64,${btoa(text)}`;
  }
}

// What each of a map's 256 values looks like. A signed map's bytes lie about ZERO: its colour says which way, and its opacity how
// far from nothing.
const ZERO = 128;
class Ink {
  constructor(colours, signed, floor) {
    this.palette = Array.from({ length: 256 }, (_, v) => {
      const strength = signed ? Math.min(1, Math.abs(v - ZERO) / (255 - ZERO)) : v / 255;
      return [...colours.subarray(v * 3, v * 3 + 3), Math.round(255 * (floor + (1 - floor) * strength))];
    });
    this.files = new Map();
  }

  png(width, height) {
    const size = `${width} ${height}`;
    if (!this.files.has(size)) this.files.set(size, new Png(width, height, this.palette));
    return this.files.get(size);
  }
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
  const pixels = new Uint8Array(w * h);
  for (let y = 0, at = 0; y < h; y++) {
    const [a, b, c, d] = down.weight.subarray(y * 4, y * 4 + 4);
    const [first, second, third, fourth] = down.cell.subarray(y * 4, y * 4 + 4).map((cell) => cell * w);
    for (let x = 0; x < w; x++, at++) {
      const sum = a * rows[first + x] + b * rows[second + x] + c * rows[third + x] + d * rows[fourth + x];
      pixels[at] = Math.min(255, Math.max(0, Math.round(sum)));
    }
  }
  picture.src = ink.png(w, h).address(pixels);
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

  begin(plain, signed, floor) {
    this.observer.disconnect();
    this.waiting.clear();
    this.inked ||= { plain: new Ink(plain, false, floor), signed: new Ink(signed, true, floor) };
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
