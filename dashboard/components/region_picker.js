// Draws a region over the mean image and its mean attention, and tells Python only when the hand lets go.
// Regions are fractions of the image: {kind: "box", x0, y0, x1, y1}, {kind: "polygon", points: [[x, y], …]}
// or {kind: "mask"}, which cannot be drawn here and arrives with `cells`, the rectangles that it covers.

const SVG = "http://www.w3.org/2000/svg";
const GRID = 14;
const SMALLEST = 0.012;
const PATIENCE = 10000; // milliseconds that an answer may take before the server's word counts again
const pickers = new WeakMap();

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

function outline(region, cells, width, height) {
  if (!region) return "";
  if (region.kind === "box") return rectangle(region.x0, region.y0, region.x1, region.y1, width, height);
  if (region.kind === "polygon") {
    return "M" + region.points.map(([x, y]) => `${x * width} ${y * height}`).join("L") + "Z";
  }
  return (cells ?? []).map(([x0, y0, x1, y1]) => rectangle(x0, y0, x1, y1, width, height)).join("");
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

class Picker {
  constructor(root) {
    this.root = root;
    for (const name of ["stage", "photo", "heat", "invite", "presets", "told", "snap", "alpha", "clear"]) {
      this[name] = root.querySelector(`.${name}`);
    }
    this.svg = this.stage.querySelector("svg");
    this.tools = [...root.querySelectorAll("[data-tool]")];
    this.tool = "box";
    this.region = null;
    this.cells = [];
    this.drag = null;
    this.waiting = null;
    this.sent = null;
    this.sentAt = 0;
    this.alpha.value = "60";
    this.tools.forEach((button) => (button.onclick = () => this.choose(button.dataset.tool)));
    this.clear.onclick = () => this.commit(null);
    this.alpha.oninput = () => this.fade();
    this.snap.onchange = () => this.draw();
    this.stage.onpointerdown = (event) => this.start(event);
    this.stage.onpointermove = (event) => this.move(event);
    this.stage.onpointerup = (event) => this.finish(event);
    this.stage.onpointercancel = () => this.abandon();
    this.stage.onkeydown = (event) => this.key(event);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.stage);
    this.fade();
  }

  update(data, send) {
    this.send = send;
    this.data = data;
    this.stage.style.aspectRatio = String(data.aspect || 1);
    this.stage.setAttribute("aria-label", data.label);
    this.show(this.photo, data.photo, data.photo_alt);
    this.show(this.heat, data.heat, data.heat_alt);
    this.alpha.disabled = !data.heat;
    this.buttons(data.presets);
    this.sent ??= data.turn;
    // While a hand draws, keys are still counted, or an answer to something older arrives, the server is behind.
    const behind = data.turn < this.sent && Date.now() - this.sentAt < PATIENCE;
    if (this.drag || this.waiting || behind) return;
    this.region = data.region ?? null;
    this.cells = data.cells ?? [];
    this.draw();
  }

  show(image, url, alt) {
    image.hidden = !url;
    image.alt = url ? alt : "";
    if (url && image.src !== url) image.src = url;
  }

  buttons(presets) {
    const names = JSON.stringify(presets.map((preset) => preset.name));
    if (this.presets.dataset.names !== names) {
      this.presets.dataset.names = names;
      this.presets.replaceChildren();
      for (const preset of presets) {
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.preset = preset.name;
        const icon = make("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, button);
        make("path", { d: outline(preset.region, preset.cells, 16, 16) }, icon);
        // Corners, halves and quadrants say by their picture what they are; the three others have room for a word.
        if (preset.named) button.append(preset.title);
        button.classList.toggle("named", preset.named);
        button.setAttribute("aria-label", preset.title);
        button.title = preset.title;
        button.onclick = () => this.commit(preset.region, preset.cells);
        this.presets.appendChild(button);
      }
    }
  }

  choose(tool) {
    this.tool = tool;
    this.tools.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.tool === tool)));
    this.draw();
  }

  fade() {
    this.heat.style.opacity = String(this.alpha.value / 100);
    this.alpha.setAttribute("aria-valuetext", `${this.alpha.value}%`);
  }

  at(event) {
    const frame = this.stage.getBoundingClientRect();
    return [clamp((event.clientX - frame.left) / frame.width), clamp((event.clientY - frame.top) / frame.height)];
  }

  start(event) {
    if (event.button !== 0 || this.drag) return;
    // preventDefault keeps the page from selecting text, and with it the focus that the keys need.
    event.preventDefault();
    this.stage.focus({ preventScroll: true });
    this.settle();
    this.stage.setPointerCapture(event.pointerId);
    const from = this.at(event);
    const grip = event.target.dataset?.grip;
    const before = { region: this.region, cells: this.cells };
    if (grip) this.drag = { grip, from, box: this.region, before };
    else if (this.tool === "box") this.drag = { grip: "new", from, before };
    else this.drag = { grip: "lasso", points: [from], before };
  }

  move(event) {
    if (!this.drag) return;
    const [x, y] = this.at(event);
    const { grip, from, box } = this.drag;
    if (grip === "lasso") {
      const last = this.drag.points[this.drag.points.length - 1];
      if (Math.hypot(x - last[0], y - last[1]) > 0.006) this.drag.points.push([x, y]);
      this.region = { kind: "polygon", points: this.drag.points };
    } else if (grip === "new") {
      this.region = this.tidy(from[0], from[1], x, y);
    } else if (grip === "body") {
      this.region = this.shifted(box, x - from[0], y - from[1]);
    } else {
      const [l, r] = [grip.includes("w") ? x : box.x0, grip.includes("e") ? x : box.x1];
      const [t, b] = [grip.includes("n") ? y : box.y0, grip.includes("s") ? y : box.y1];
      this.region = this.tidy(l, t, r, b);
    }
    this.drag.moved = true;
    this.draw();
  }

  finish() {
    if (!this.drag) return;
    const { before, moved } = this.drag;
    this.drag = null;
    let region = moved ? this.region : null;
    if (region?.kind === "polygon") {
      const points = simplify(region.points, 0.004).map((point) => point.map(round));
      region = points.length >= 3 && areaOf(points) > SMALLEST ** 2 ? { kind: "polygon", points } : null;
    } else if (region && (region.x1 - region.x0 < SMALLEST || region.y1 - region.y0 < SMALLEST)) {
      region = null;
    }
    // A stray click is not a region: what was there stays.
    if (region) this.commit(region);
    else {
      Object.assign(this, before);
      this.draw();
    }
  }

  abandon() {
    if (!this.drag) return;
    Object.assign(this, this.drag.before);
    this.drag = null;
    this.draw();
  }

  tidy(xa, ya, xb, yb) {
    const fit = this.snap.checked ? near : round;
    const [x0, x1] = [fit(Math.min(xa, xb)), fit(Math.max(xa, xb))];
    const [y0, y1] = [fit(Math.min(ya, yb)), fit(Math.max(ya, yb))];
    return { kind: "box", x0, y0, x1, y1 };
  }

  shifted(box, dx, dy) {
    const fit = this.snap.checked ? near : round;
    const [width, height] = [box.x1 - box.x0, box.y1 - box.y0];
    const x0 = clamp(fit(box.x0 + dx), 0, 1 - width);
    const y0 = clamp(fit(box.y0 + dy), 0, 1 - height);
    return { kind: "box", x0: round(x0), y0: round(y0), x1: round(x0 + width), y1: round(y0 + height) };
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (step) {
      const size = this.snap.checked ? 1 / GRID : 0.5 / GRID;
      const box = this.region?.kind === "box" ? this.region : { kind: "box", x0: 0.25, y0: 0.25, x1: 0.75, y1: 0.75 };
      if (this.region?.kind !== "box") this.region = box;
      else if (event.shiftKey) {
        const x1 = clamp(box.x1 + step[0] * size, box.x0 + size, 1);
        const y1 = clamp(box.y1 + step[1] * size, box.y0 + size, 1);
        this.region = this.tidy(box.x0, box.y0, x1, y1);
      } else this.region = this.shifted(box, step[0] * size, step[1] * size);
      this.cells = [];
      this.draw();
      this.later();
    } else if (event.key === "Escape") {
      if (this.drag) this.abandon();
      else if (this.region) this.commit(null);
    } else if (event.key === "b") this.choose("box");
    else if (event.key === "l") this.choose("lasso");
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // Keys come in bursts: the server hears of the last one.
  later() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.settle(), 350);
  }

  settle() {
    if (!this.waiting) return;
    clearTimeout(this.waiting);
    this.waiting = null;
    this.commit(this.region);
  }

  commit(region, cells = []) {
    clearTimeout(this.waiting);
    this.waiting = null;
    this.region = region;
    this.cells = cells;
    this.draw();
    this.sent += 1;
    this.sentAt = Date.now();
    this.send("picked", { region, turn: this.sent });
  }

  draw() {
    const [width, height] = [this.stage.clientWidth, this.stage.clientHeight];
    if (!width || !height) return;
    const { svg, region } = this;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    if (this.snap.checked) {
      for (let i = 1; i < GRID; i += 1) {
        make("line", { class: "grid", x1: (i / GRID) * width, x2: (i / GRID) * width, y1: 0, y2: height }, svg);
        make("line", { class: "grid", y1: (i / GRID) * height, y2: (i / GRID) * height, x1: 0, x2: width }, svg);
      }
    }
    const shape = outline(region, this.cells, width, height);
    if (shape) {
      const whole = rectangle(0, 0, 1, 1, width, height);
      make("path", { class: "shade", d: whole + shape, "fill-rule": "evenodd" }, svg);
      if (region.kind !== "mask") {
        // A mask arrives as many rectangles, whose inner edges would look like a region of their own.
        make("path", { class: "edge-under", d: shape }, svg);
        make("path", { class: "edge", d: shape }, svg);
      }
    }
    if (region?.kind === "box" && this.tool === "box") this.grips(region, width, height);
    this.invite.hidden = Boolean(region);
    this.invite.textContent =
      this.tool === "box" ? "Drag a box, or pick a preset below" : "Draw around an area, or pick a preset below";
    const chosen = JSON.stringify(region);
    for (const button of this.presets.children) {
      const preset = this.data?.presets.find((each) => each.name === button.dataset.preset);
      button.setAttribute("aria-pressed", String(region !== null && JSON.stringify(preset?.region) === chosen));
    }
    this.told.textContent = this.sentence(region);
  }

  sentence(region) {
    if (!region) return "No region yet. With the image in focus, an arrow key starts a box.";
    if (region.kind === "box") {
      const { x0, y0, x1, y1 } = region;
      const where = `${percent(x0)} to ${percent(x1)} across, ${percent(y0)} to ${percent(y1)} down`;
      return `${where}. Arrow keys move it, with Shift they resize it, Escape clears.`;
    }
    return region.kind === "polygon" ? "A drawn shape. Escape clears." : "A preset. Escape clears.";
  }

  grips({ x0, y0, x1, y1 }, width, height) {
    const [l, t, r, b] = [x0 * width, y0 * height, x1 * width, y1 * height];
    make("rect", { class: "body", "data-grip": "body", x: l, y: t, width: r - l, height: b - t }, this.svg);
    const places = {
      nw: [l, t], n: [(l + r) / 2, t], ne: [r, t], e: [r, (t + b) / 2],
      se: [r, b], s: [(l + r) / 2, b], sw: [l, b], w: [l, (t + b) / 2],
    };
    for (const [grip, [x, y]] of Object.entries(places)) {
      const cursor = `cursor:${grip}-resize`;
      // A finger needs more than the nine pixels that are drawn.
      make("circle", { "data-grip": grip, cx: x, cy: y, r: 12, fill: "transparent", style: cursor }, this.svg);
      make("rect", { class: "handle", "data-grip": grip, x: x - 4.5, y: y - 4.5, width: 9, height: 9, style: cursor }, this.svg);
    }
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  let picker = pickers.get(parentElement);
  if (!picker) {
    picker = new Picker(parentElement.querySelector(".picker"));
    pickers.set(parentElement, picker);
  }
  picker.update(data, setTriggerValue);
  return () => {
    clearTimeout(picker.waiting);
    picker.observer.disconnect();
    pickers.delete(parentElement);
  };
}
