// Scales, ticks and texts of charts. Texts come with <b>, <br> and escapes, as Plotly takes them, and become nodes, never HTML.

const NS = "http://www.w3.org/2000/svg";
const BETWEEN = 12; // pixels between the labels of an axis
const rulers = document.createElement("canvas").getContext("2d");

function make(tag, attributes, parent) {
  const node = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined && value !== null) node.setAttribute(name, value);
  if (parent) parent.append(node);
  return node;
}

const ESCAPES = { "&lt;": "<", "&gt;": ">", "&amp;": "&" };
const unescaped = (text) => text.replace(/&(lt|gt|amp);/g, (found) => ESCAPES[found]);

// Lines of pieces: [[text, bold], …]
function lines(text) {
  let bold = false;
  return String(text).split("<br>").map((line) =>
    line.split(/(<\/?b>)/).flatMap((piece) => {
      if (piece === "<b>" || piece === "</b>") { bold = piece === "<b>"; return []; }
      return piece ? [[unescaped(piece), bold]] : [];
    }));
}

function widthOf(text, size, family) {
  rulers.font = `${size}px ${family}`;
  return Math.max(0, ...lines(text).map((line) => line.reduce((sum, [piece]) => sum + rulers.measureText(piece).width, 0)));
}

function write(parent, x, y, text, size, attributes = {}) {
  const node = make("text", { x, y, "font-size": size, ...attributes }, parent);
  const told = lines(text);
  told.forEach((line, at) => {
    const row = make("tspan", at ? { x, dy: "1.25em" } : { dy: `${-0.625 * (told.length - 1)}em` }, node);
    for (const [piece, bold] of line) {
      const part = make("tspan", bold ? { "font-weight": 650 } : {}, row);
      part.textContent = piece;
    }
  });
  return node;
}

// Ticks at 1, 2 or 5 times a power of ten, about as many as are wanted.
function niceTicks(low, high, wanted) {
  const rough = (high - low) / Math.max(wanted, 1);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.7);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-6); at * step <= high + step * 1e-6; at++) found.push(at * step);
  return found;
}

function number(value, form, step) {
  const exact = Math.abs(value) < 1e-12 ? 0 : value;
  if (form && form.endsWith("%")) {
    const digits = Math.max(0, -Math.floor(Math.log10(step * 100) + 1e-9));
    return `${(100 * exact).toFixed(Math.min(digits, 3))}%`;
  }
  if (Math.abs(exact) >= 1e6) return `${+(exact / 1e6).toPrecision(3)}M`;
  if (Math.abs(exact) >= 1e4) return `${+(exact / 1e3).toPrecision(3)}k`;
  return Math.abs(exact) >= 1e3 ? exact.toLocaleString("en-US") : String(+exact.toPrecision(4));
}

// A whole number with its thousands as "k": 1,234 is 1.2k.
function short(text) {
  const value = Number(String(text).replace(/,/g, ""));
  const [unit, sign] = value >= 1e6 ? [1e6, "M"] : [1e3, "k"];
  return value >= 1e3 ? `${+(value / unit).toFixed(value < 10 * unit ? 1 : 0)}${sign}` : text;
}

// An axis: its range in the data, its place in pixels once `span` is set, and its ticks.
class Axis {
  constructor(id, given, traces, font, family) {
    Object.assign(this, { id, given, family, horizontal: id[0] === "x" });
    this.size = given.tickfont?.size || font;
    this.domain = given.domain || [0, 1];
    const [low, high] = given.range || this.spanned(traces);
    Object.assign(this, { low, high });
  }

  spanned(traces) {
    let [low, high] = [Infinity, -Infinity];
    for (const trace of traces) {
      const values = this.horizontal ? trace.x : trace.y;
      values.forEach((value, at) => {
        if (value === null) return;
        const half = trace.type === "bar" && this.horizontal ? (Array.isArray(trace.width) ? trace.width[at] : trace.width || 1) / 2 : 0;
        low = Math.min(low, value - half);
        high = Math.max(high, value + half);
      });
      if (trace.type === "bar" && !this.horizontal) low = Math.min(low, 0);
    }
    if (this.given.rangemode === "tozero") low = Math.min(low, 0);
    if (!(high > low)) return [Number.isFinite(low) ? low - (low ? 0 : 0.5) : 0, Number.isFinite(high) ? high + 0.5 : 1];
    return this.horizontal ? [low, high] : [low, high + 0.05 * (high - low)];
  }

  at(value) {
    return this.start + ((value - this.low) / (this.high - this.low)) * (this.end - this.start);
  }

  value(pixel) {
    return this.low + ((pixel - this.start) / (this.end - this.start)) * (this.high - this.low);
  }

  ticks(length) {
    if (this.given.visible === false) return [];
    if (this.given.tickvals) return this.given.tickvals.map((value, at) => [value, String(this.given.ticktext?.[at] ?? value)]);
    const [low, high] = [Math.min(this.low, this.high), Math.max(this.low, this.high)];
    // Across, as many as stand side by side without touching; at least two.
    for (let wanted = Math.min(this.given.nticks || 12, Math.max(2, Math.floor(length / 42))); ; wanted--) {
      const places = niceTicks(low, high, wanted);
      const step = places.length > 1 ? places[1] - places[0] : high - low;
      const told = places.map((value) => [value, number(value, this.given.tickformat, step)]);
      const widest = Math.max(0, ...told.map(([, text]) => widthOf(text, this.size, this.family)));
      if (!this.horizontal || wanted <= 2 || (widest + BETWEEN) * told.length <= length) return told;
    }
  }
}
