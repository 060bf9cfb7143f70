// Shapes in fractions of the image: {kind: "box", x0, y0, x1, y1}, {kind: "polygon", points: [[x, y], …]} and
// {kind: "mask", rows, cols, bits}, painted cells as base64 of their bits, row by row. No state and no page in here;
// `region_picker.js` follows in the same module.

const SVG = "http://www.w3.org/2000/svg";
const GRID = 14; // cells a side of the grid that attention is measured on
const CELLS = 56; // cells a side of what is painted
const SMALLEST = 0.012;

const clamp = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value));
const round = (value) => Math.round(value * 10000) / 10000;
const near = (value) => Math.round(value * GRID) / GRID;
const percent = (value) => `${Math.round(value * 100)}%`;

function make(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.appendChild(element);
  return element;
}

function rectangle(x0, y0, x1, y1, width, height) {
  const [l, t, r, b] = [x0 * width, y0 * height, x1 * width, y1 * height];
  return `M${l} ${t}H${r}V${b}H${l}Z`;
}

function unpacked({ rows, cols, bits }) {
  const bytes = Uint8Array.from(atob(bits.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  return Uint8Array.from({ length: rows * cols }, (_, i) => (bytes[i >> 3] >> (7 - (i & 7))) & 1);
}

function packed(cells) {
  const bytes = new Uint8Array(Math.ceil(cells.length / 8));
  cells.forEach((cell, i) => (bytes[i >> 3] |= cell << (7 - (i & 7))));
  const bits = btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  return { kind: "mask", rows: CELLS, cols: CELLS, bits };
}

// Whatever the shape, as cells to paint on: those whose middle lies in it.
function painted(region) {
  const cells = new Uint8Array(CELLS * CELLS);
  if (!region) return cells;
  const source = region.kind === "mask" ? unpacked(region) : null;
  for (let row = 0; row < CELLS; row += 1) {
    for (let column = 0; column < CELLS; column += 1) {
      const [x, y] = [(column + 0.5) / CELLS, (row + 0.5) / CELLS];
      let inside;
      if (source) inside = source[Math.floor(y * region.rows) * region.cols + Math.floor(x * region.cols)];
      else if (region.kind === "box") inside = x > region.x0 && x < region.x1 && y > region.y0 && y < region.y1;
      else inside = within(region.points, x, y);
      cells[row * CELLS + column] = inside ? 1 : 0;
    }
  }
  return cells;
}

function within(points, x, y) {
  let inside = false;
  for (let i = 0, j = points.length - 1; i < points.length; j = i, i += 1) {
    const [[ax, ay], [bx, by]] = [points[i], points[j]];
    if (ay > y !== by > y && x < ax + ((y - ay) / (by - ay)) * (bx - ax)) inside = !inside;
  }
  return inside;
}

// A round brush drawn from one point to another; its radius is in cells of the image's shorter side.
function stroke(cells, [ax, ay], [bx, by], radius, value, aspect) {
  const [wide, tall] = aspect >= 1 ? [aspect, 1] : [1, 1 / aspect];
  const [dx, dy] = [(bx - ax) * wide, (by - ay) * tall];
  const length = dx * dx + dy * dy;
  const reach = (radius / CELLS) ** 2;
  for (let row = 0; row < CELLS; row += 1) {
    for (let column = 0; column < CELLS; column += 1) {
      const [px, py] = [((column + 0.5) / CELLS - ax) * wide, ((row + 0.5) / CELLS - ay) * tall];
      const along = length ? clamp((px * dx + py * dy) / length) : 0;
      if ((px - along * dx) ** 2 + (py - along * dy) ** 2 <= reach) cells[row * CELLS + column] = value;
    }
  }
}

// Only the edges between painted and unpainted cells, so that a mask has one outline and no inner seams.
function seams(cells, rows, cols, width, height) {
  const at = (row, column) => row >= 0 && row < rows && column >= 0 && column < cols && cells[row * cols + column];
  const [w, h] = [width / cols, height / rows];
  let path = "";
  for (let row = 0; row <= rows; row += 1) {
    for (let column = 0; column <= cols; column += 1) {
      const here = at(row, column);
      if (Boolean(here) !== Boolean(at(row - 1, column))) path += `M${column * w} ${row * h}h${w}`;
      if (Boolean(here) !== Boolean(at(row, column - 1))) path += `M${column * w} ${row * h}v${h}`;
    }
  }
  return path;
}

function areas(cells, rows, cols, width, height) {
  let path = "";
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0, start = -1; column <= cols; column += 1) {
      const on = column < cols && cells[row * cols + column];
      if (on && start < 0) start = column;
      else if (!on && start >= 0) {
        path += rectangle(start / cols, row / rows, column / cols, (row + 1) / rows, width, height);
        start = -1;
      }
    }
  }
  return path;
}

// What a shape covers and where its edge runs, as two SVG paths.
function outline(region, width, height) {
  if (!region) return { area: "", edge: "" };
  if (region.kind === "mask") {
    const cells = region.cells ?? unpacked(region);
    const size = [region.rows, region.cols, width, height];
    return { area: areas(cells, ...size), edge: seams(cells, ...size) };
  }
  const path =
    region.kind === "box"
      ? rectangle(region.x0, region.y0, region.x1, region.y1, width, height)
      : "M" + region.points.map(([x, y]) => `${x * width} ${y * height}`).join("L") + "Z";
  return { area: path, edge: path };
}

// Ramer–Douglas–Peucker: a lasso of hundreds of points becomes a link that can still be sent around.
function simplify(points, tolerance) {
  if (points.length < 3) return points;
  const [[ax, ay], [bx, by]] = [points[0], points[points.length - 1]];
  const length = Math.hypot(bx - ax, by - ay);
  let furthest = 0;
  let index = 0;
  for (let i = 1; i < points.length - 1; i += 1) {
    const [x, y] = points[i];
    const away = length
      ? Math.abs((bx - ax) * (ay - y) - (ax - x) * (by - ay)) / length
      : Math.hypot(x - ax, y - ay);
    if (away > furthest) [furthest, index] = [away, i];
  }
  if (furthest <= tolerance) return [points[0], points[points.length - 1]];
  const left = simplify(points.slice(0, index + 1), tolerance);
  return left.slice(0, -1).concat(simplify(points.slice(index), tolerance));
}

function areaOf(points) {
  let twice = 0;
  points.forEach(([x, y], i) => {
    const [nx, ny] = points[(i + 1) % points.length];
    twice += x * ny - nx * y;
  });
  return Math.abs(twice) / 2;
}

// The shape as it is sent and kept, or null where it is too small to be meant.
function finished(region) {
  if (!region) return null;
  if (region.kind === "mask") {
    if (!region.cells) return region;
    return region.cells.some(Boolean) ? packed(region.cells) : null;
  }
  if (region.kind === "box") {
    return region.x1 - region.x0 < SMALLEST || region.y1 - region.y0 < SMALLEST ? null : region;
  }
  const points = simplify(region.points, 0.004).map((point) => point.map(round));
  return points.length >= 3 && areaOf(points) > SMALLEST ** 2 ? { kind: "polygon", points } : null;
}

function tidy(snap, xa, ya, xb, yb) {
  const fit = snap ? near : round;
  const [x0, x1] = [fit(Math.min(xa, xb)), fit(Math.max(xa, xb))];
  const [y0, y1] = [fit(Math.min(ya, yb)), fit(Math.max(ya, yb))];
  return { kind: "box", x0, y0, x1, y1 };
}

function shifted(snap, box, dx, dy) {
  const fit = snap ? near : round;
  const [width, height] = [box.x1 - box.x0, box.y1 - box.y0];
  const x0 = clamp(fit(box.x0 + dx), 0, 1 - width);
  const y0 = clamp(fit(box.y0 + dy), 0, 1 - height);
  return { kind: "box", x0: round(x0), y0: round(y0), x1: round(x0 + width), y1: round(y0 + height) };
}

function grips(svg, { x0, y0, x1, y1 }, width, height) {
  const [l, t, r, b] = [x0 * width, y0 * height, x1 * width, y1 * height];
  make("rect", { class: "body", "data-grip": "body", x: l, y: t, width: r - l, height: b - t }, svg);
  const places = {
    nw: [l, t], n: [(l + r) / 2, t], ne: [r, t], e: [r, (t + b) / 2],
    se: [r, b], s: [(l + r) / 2, b], sw: [l, b], w: [l, (t + b) / 2],
  };
  for (const [grip, [x, y]] of Object.entries(places)) {
    const cursor = `cursor:${grip}-resize`;
    // A finger needs more than the nine pixels that are drawn.
    make("circle", { "data-grip": grip, cx: x, cy: y, r: 12, fill: "transparent", style: cursor }, svg);
    make("rect", { class: "handle", "data-grip": grip, x: x - 4.5, y: y - 4.5, width: 9, height: 9, style: cursor }, svg);
  }
}

// What the hand and the keys can do, for the picture itself and for the line below it.
const INVITATIONS = { box: "Drag a box", lasso: "Draw around an area", brush: "Paint an area", eraser: "Nothing to erase yet" };

function guidance(tool, region) {
  if (tool === "brush" || tool === "eraser") {
    const verb = tool === "brush" ? "paints" : "erases";
    return `Arrow keys steer the ${tool}, Space ${verb}, [ and ] change its size, Ctrl+Z undoes, Escape clears.`;
  }
  if (!region) return "No region yet. With the image in focus, an arrow key starts a box.";
  if (region.kind === "box") {
    const { x0, y0, x1, y1 } = region;
    const where = `${percent(x0)} to ${percent(x1)} across, ${percent(y0)} to ${percent(y1)} down`;
    return `${where}. Arrow keys move it, with Shift they resize it, Escape clears.`;
  }
  return `${region.kind === "polygon" ? "A drawn shape" : region.preset ? "A preset" : "A painted area"}. Escape clears.`;
}
