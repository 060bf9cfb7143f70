// Draws a region over a picture and its attention. While the hand draws, Python is asked what the shape would hold,
// one question at a time; when the hand lets go, it is told the region. Shapes are described in `region_shapes.js`.

const PATIENCE = 10000; // milliseconds that an answer may take before the server's word counts again
const EVERY = 90; // at least so many milliseconds between two questions while drawing
const HISTORY = 100;
const pickers = new WeakMap();
const PARTS = [
  "stage", "photo", "heat", "invite", "answer", "presets", "told", "snap", "size", "radius", "alpha", "undo", "redo", "clear",
];

class Picker {
  constructor(root) {
    this.root = root;
    for (const name of PARTS) this[name] = root.querySelector(`.${name}`);
    this.svg = this.stage.querySelector("svg");
    this.tools = [...root.querySelectorAll("[data-tool]")];
    Object.assign(this, { region: null, drag: null, waiting: null, sent: null, sentAt: 0, past: [], future: [] });
    Object.assign(this, { asked: 0, askedAt: 0, answered: 0, asking: null, cursor: null, hover: false });
    this.alpha.value = "60";
    this.radius.value = "4";
    this.tools.forEach((button) => (button.onclick = () => this.choose(button.dataset.tool)));
    this.clear.onclick = () => this.commit(null);
    this.undo.onclick = () => this.back(this.past, this.future);
    this.redo.onclick = () => this.back(this.future, this.past);
    this.alpha.oninput = () => this.fade();
    this.radius.oninput = () => this.draw();
    this.snap.onchange = () => this.draw();
    this.stage.onpointerdown = (event) => this.start(event);
    this.stage.onpointermove = (event) => this.move(event);
    this.stage.onpointerup = () => this.finish();
    this.stage.onpointercancel = () => this.abandon();
    this.stage.onpointerleave = () => this.leave();
    this.stage.onkeydown = (event) => this.key(event);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.stage);
    this.fade();
    this.choose("box");
  }

  get painting() {
    return this.tool === "brush" || this.tool === "eraser";
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
    this.tell(data.answer);
    // While a hand draws, keys are still counted, or an answer to something older arrives, the server is behind.
    const behind = data.turn < this.sent && Date.now() - this.sentAt < PATIENCE;
    if (this.drag || this.waiting || behind) return;
    this.adopt(data.region ?? null);
  }

  // A region that was chosen elsewhere on the page: undoing brings back what was here.
  adopt(region) {
    const own = this.heard !== this.sent;
    this.heard = this.sent;
    if (!own && JSON.stringify(region) !== JSON.stringify(this.region)) this.remember();
    this.region = region;
    this.draw();
  }

  tell(answer) {
    if (!answer) return;
    this.answered = Math.max(this.answered, answer.asked);
    if (answer.asked < this.asked && this.drag) return;
    this.answer.replaceChildren();
    answer.words.forEach((words, i) => {
      const part = document.createElement(i % 2 ? "b" : "span");
      part.textContent = words;
      this.answer.appendChild(part);
    });
  }

  show(image, url, alt) {
    image.hidden = !url;
    image.alt = url ? alt : "";
    if (url && image.src !== url) image.src = url;
  }

  buttons(presets) {
    const names = JSON.stringify(presets);
    if (this.offered === names) return;
    this.offered = names;
    this.presets.replaceChildren();
    for (const preset of presets) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.preset = preset.name;
      const icon = make("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, button);
      make("path", { d: outline(preset.region, 16, 16).area }, icon);
      // Corners, halves and quadrants say by their picture what they are; the others have room for a word.
      if (preset.named) button.append(preset.title);
      button.classList.toggle("named", preset.named);
      button.setAttribute("aria-label", preset.title);
      button.title = preset.title;
      button.onclick = () => this.commit(preset.region);
      this.presets.appendChild(button);
    }
  }

  choose(tool) {
    this.tool = tool;
    this.tools.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.tool === tool)));
    this.size.classList.toggle("off", !this.painting);
    this.radius.disabled = !this.painting;
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
    const before = this.region;
    if (this.painting) {
      this.drag = { grip: "paint", from, before };
      this.cursor = from;
      this.paint(from, from);
    } else if (grip) this.drag = { grip, from, box: this.region, before };
    else if (this.tool === "box") this.drag = { grip: "new", from, before };
    else this.drag = { grip: "lasso", points: [from], before };
  }

  move(event) {
    const [x, y] = this.at(event);
    if (this.painting) this.cursor = [x, y];
    this.hover = true;
    if (!this.drag) return this.painting ? this.brush() : undefined;
    const { grip, from, box } = this.drag;
    if (grip === "paint") {
      this.paint(from, [x, y]);
      this.drag.from = [x, y];
    } else if (grip === "lasso") {
      const last = this.drag.points[this.drag.points.length - 1];
      if (Math.hypot(x - last[0], y - last[1]) > 0.006) this.drag.points.push([x, y]);
      this.region = { kind: "polygon", points: this.drag.points };
    } else if (grip === "new") {
      this.region = tidy(this.snap.checked, from[0], from[1], x, y);
    } else if (grip === "body") {
      this.region = shifted(this.snap.checked, box, x - from[0], y - from[1]);
    } else {
      const [l, r] = [grip.includes("w") ? x : box.x0, grip.includes("e") ? x : box.x1];
      const [t, b] = [grip.includes("n") ? y : box.y0, grip.includes("s") ? y : box.y1];
      this.region = tidy(this.snap.checked, l, t, r, b);
    }
    this.drag.moved = true;
    this.draw();
    this.ask();
  }

  paint(from, to) {
    const cells = this.region?.cells ?? painted(this.region);
    stroke(cells, from, to, Number(this.radius.value), this.tool === "brush" ? 1 : 0, this.data?.aspect || 1);
    this.region = { kind: "mask", rows: CELLS, cols: CELLS, cells };
    this.draw();
  }

  finish() {
    if (!this.drag) return;
    const { before, moved, grip } = this.drag;
    this.drag = null;
    const region = moved || grip === "paint" ? finished(this.region) : null;
    // A stray click is not a region: what was there stays. Erasing all of it clears.
    const erased = grip === "paint" && !region && before;
    this.region = before;
    if (region || erased) this.commit(region);
    else this.forget();
  }

  abandon() {
    if (!this.drag) return;
    this.region = this.drag.before;
    this.drag = null;
    this.forget();
  }

  // The answer goes back to the shape that stays.
  forget() {
    this.draw();
    if (!this.askedAt) return;
    this.asked += 1;
    this.send("drawing", { region: this.region, asked: this.asked });
  }

  leave() {
    this.hover = false;
    if (!this.drag) this.brush();
  }

  key(event) {
    const letter = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && (letter === "z" || letter === "y")) {
      if (letter === "z" && !event.shiftKey) this.back(this.past, this.future);
      else this.back(this.future, this.past);
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const tools = { b: "box", l: "lasso", p: "brush", e: "eraser" };
    const step = steps[event.key];
    if (step && this.painting) this.steer(step, event.shiftKey);
    else if (step) this.nudge(step, event.shiftKey);
    else if (this.painting && (event.key === " " || event.key === "Enter")) this.dab();
    else if (this.painting && (event.key === "[" || event.key === "]")) {
      this.radius.value = String(Number(this.radius.value) + (event.key === "]" ? 1 : -1));
      this.draw();
    } else if (event.key === "Escape") {
      if (this.drag) this.abandon();
      else if (this.region) this.commit(null);
    } else if (tools[event.key]) this.choose(tools[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  steer([right, down], far) {
    const [x, y] = this.cursor ?? [0.5, 0.5];
    const size = (far ? 6 : 2) / CELLS;
    this.cursor = [clamp(x + right * size), clamp(y + down * size)];
    this.hover = true;
    this.draw();
  }

  dab() {
    this.cursor ??= [0.5, 0.5];
    this.hover = true;
    this.before ??= { region: this.region };
    this.paint(this.cursor, this.cursor);
    this.later();
  }

  nudge(step, resize) {
    this.before ??= { region: this.region };
    const size = this.snap.checked ? 1 / GRID : 0.5 / GRID;
    const box = this.region?.kind === "box" ? this.region : { kind: "box", x0: 0.25, y0: 0.25, x1: 0.75, y1: 0.75 };
    if (this.region?.kind !== "box") this.region = box;
    else if (resize) {
      const x1 = clamp(box.x1 + step[0] * size, box.x0 + size, 1);
      const y1 = clamp(box.y1 + step[1] * size, box.y0 + size, 1);
      this.region = tidy(this.snap.checked, box.x0, box.y0, x1, y1);
    } else this.region = shifted(this.snap.checked, box, step[0] * size, step[1] * size);
    this.draw();
    this.later();
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
    const region = finished(this.region);
    if (this.before) this.region = this.before.region;
    this.commit(region);
  }

  // What would the shape hold? One question at a time; the newest shape is asked about when the answer is there.
  ask() {
    if (this.asking || !this.send) return;
    const open = this.asked > this.answered && Date.now() - this.askedAt < PATIENCE / 5;
    const rest = EVERY - (Date.now() - this.askedAt);
    if (open || rest > 0) {
      this.asking = setTimeout(() => {
        this.asking = null;
        if (this.drag) this.ask();
      }, Math.max(rest, 20));
      return;
    }
    const region = this.drag ? finished(this.region) : null;
    if (!region) return;
    this.asked += 1;
    this.askedAt = Date.now();
    this.send("drawing", { region, asked: this.asked });
  }

  remember() {
    this.past.push(this.region);
    if (this.past.length > HISTORY) this.past.shift();
    this.future.length = 0;
  }

  back(from, to) {
    this.settle();
    if (this.drag || !from.length) return;
    to.push(this.region);
    this.tellServer(from.pop());
  }

  commit(region) {
    clearTimeout(this.waiting);
    this.waiting = null;
    this.before = null;
    if (JSON.stringify(region) !== JSON.stringify(this.region)) this.remember();
    this.tellServer(region);
  }

  tellServer(region) {
    clearTimeout(this.asking);
    this.asking = null;
    this.region = region;
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
    if (this.snap.checked && !this.painting) {
      for (let i = 1; i < GRID; i += 1) {
        make("line", { class: "grid", x1: (i / GRID) * width, x2: (i / GRID) * width, y1: 0, y2: height }, svg);
        make("line", { class: "grid", y1: (i / GRID) * height, y2: (i / GRID) * height, x1: 0, x2: width }, svg);
      }
    }
    if (this.data?.object) {
      const scaled = { d: this.data.object, transform: `scale(${width} ${height})`, "vector-effect": "non-scaling-stroke" };
      make("path", { class: "object", ...scaled }, svg);
    }
    const { area, edge } = outline(region, width, height);
    if (area) {
      make("path", { class: "shade", d: rectangle(0, 0, 1, 1, width, height) + area, "fill-rule": "evenodd" }, svg);
      make("path", { class: "edge-under", d: edge }, svg);
      make("path", { class: "edge", d: edge }, svg);
    }
    if (region?.kind === "box" && this.tool === "box") grips(svg, region, width, height);
    this.brush();
    this.invite.hidden = Boolean(region);
    this.invite.textContent = `${INVITATIONS[this.tool]}, or pick a preset below`;
    this.undo.disabled = !this.past.length;
    this.redo.disabled = !this.future.length;
    const chosen = JSON.stringify(region);
    for (const button of this.presets.children) {
      const preset = this.data?.presets.find((each) => each.name === button.dataset.preset);
      button.setAttribute("aria-pressed", String(region !== null && JSON.stringify(preset?.region) === chosen));
    }
    this.told.textContent = guidance(this.tool, region);
  }

  brush() {
    this.svg.querySelectorAll(".cursor").forEach((ring) => ring.remove());
    if (!this.painting || !this.cursor || !this.hover) return;
    const [width, height] = [this.stage.clientWidth, this.stage.clientHeight];
    const place = { cx: this.cursor[0] * width, cy: this.cursor[1] * height };
    const r = (Number(this.radius.value) / CELLS) * Math.min(width, height);
    make("circle", { class: "cursor under", ...place, r }, this.svg);
    make("circle", { class: `cursor ${this.tool}`, ...place, r }, this.svg);
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
    clearTimeout(picker.asking);
    picker.observer.disconnect();
    pickers.delete(parentElement);
  };
}
