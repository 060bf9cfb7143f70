// Draws a figure as SVG: bars, points with intervals, lines, texts and matrices; says what is under the pointer, and what is picked.

const charts = new WeakMap();
const FLATTEST = 1.8; // width of a cell by its height, at most
const SMALLEST = 8; // pixels of the figures in a cell, at least
const NEAR = 18; // pixels within which a point counts as pointed at
const PAD = 6;

class Chart {
  constructor(root) {
    this.root = root;
    this.legend = document.createElement("div");
    this.legend.className = "legend";
    this.plot = document.createElement("div");
    this.plot.className = "plot";
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    this.tip.hidden = true;
    this.said = document.createElement("div");
    this.said.className = "sr";
    this.said.setAttribute("aria-live", "polite");
    this.plot.append(this.tip);
    root.replaceChildren(this.legend, this.plot, this.said);
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(this.plot);
  }

  update(data, pick) {
    this.pick = pick;
    const shown = JSON.stringify(data);
    if (shown === this.shown) return;
    Object.assign(this, { shown, data, size: "" });
    const { layout } = data;
    this.root.style.height = `${layout.height}px`;
    this.root.classList.toggle("picks", data.picks);
    this.brushes = data.picks && layout.dragmode === "select";
    this.root.classList.toggle("brushes", this.brushes);
    this.fillLegend();
    this.draw();
  }

  fillLegend() {
    const named = this.data.layout.showlegend ? this.data.traces.filter((trace) => trace.name && trace.showlegend !== false) : [];
    this.legend.style.display = named.length ? "" : "none";
    this.legend.replaceChildren(...named.map((trace) => {
      const entry = document.createElement("span");
      const sign = make("svg", { width: 14, height: 14, style: "width:14px;height:14px" });
      this.symbol(sign, 7, 7, { ...trace.marker, size: 10 });
      entry.append(sign, unescaped(trace.name));
      return entry;
    }));
  }

  draw() {
    const [width, height] = [this.plot.clientWidth, this.plot.clientHeight];
    if (!this.data || width < 40 || height < 40 || this.size === `${width}×${height}`) return;
    this.size = `${width}×${height}`;
    this.family = getComputedStyle(this.root).fontFamily;
    this.hits = [];
    const old = this.svg;
    this.svg = make("svg", { role: "img", "aria-label": this.data.alt, tabindex: this.data.picks ? 0 : undefined });
    this.arrange(width, height);
    const back = make("g", {}, this.svg);
    for (const axis of Object.values(this.axes)) this.drawAxis(back, axis);
    for (const trace of this.data.traces) this.trace(trace);
    for (const shape of this.data.layout.shapes || []) this.shape(shape);
    for (const note of this.data.layout.annotations || []) this.annotation(note);
    this.mark = make("rect", { class: "marked", visibility: "hidden" }, this.svg);
    this.brush = make("rect", { class: "brush", visibility: "hidden" }, this.svg);
    const { left, right, top, bottom } = this.frame;
    this.area = make("rect", { class: "area", x: left, y: top, width: right - left, height: bottom - top }, this.svg);
    this.listen();
    if (old) old.replaceWith(this.svg);
    else this.plot.prepend(this.svg);
    this.hide();
  }

  // Leaves each side as much room as its labels take.
  arrange(width, height) {
    const { layout, traces } = this.data;
    const font = layout.font?.size || 12;
    this.font = font;
    const of = (id) => traces.filter((trace) => (trace[`${id[0]}axis`] || id[0]) === id);
    const ids = ["x", "y", ...["x2", "y2"].filter((id) => of(id).length)];
    this.axes = Object.fromEntries(ids.map((id) => [id, new Axis(id, layout.axes[`${id[0]}axis${id.slice(1)}`] || {}, of(id), font, this.family)]));
    const margin = layout.margin || {};
    const [across, down] = [ids.filter((id) => id[0] === "x"), ids.filter((id) => id[0] === "y")].map((list) => list.map((id) => this.axes[id]));
    const titled = (axis) => (axis.given.title?.text ? 20 : 0);
    const left = Math.max(...down.map((axis) => Math.max(0, ...axis.ticks(height).map(([, text]) => widthOf(text, axis.size, this.family))) + titled(axis))) + PAD + 4;
    const bare = across.every((axis) => axis.given.visible === false);
    let right = width - (bare ? 8 : Math.max(margin.r || 8, 10));
    let [top, bottom] = [bare ? 2 : margin.t ?? 8, height - 2];
    for (const axis of across) {
      const told = axis.ticks((right - left) * (axis.domain[1] - axis.domain[0]));
      const widest = Math.max(0, ...told.map(([, text]) => widthOf(text, axis.size, this.family)));
      const crowded = axis.given.tickvals && widest + PAD > (right - left) / Math.max(told.length, 1);
      axis.angle = axis.given.tickangle || (crowded ? -40 : 0);
      const [apart, line] = [((right - left) / Math.max(told.length, 1)) * Math.sin((Math.abs(axis.angle) * Math.PI) / 180), axis.size * 1.05];
      if (axis.angle && apart < line) axis.angle = -90;
      const turned = (Math.abs(axis.angle) * Math.PI) / 180;
      axis.room = bare ? 0 : (turned ? widest * Math.sin(turned) + axis.size * 0.7 : axis.size + 4) + PAD;
      if (axis.given.side === "top") top = Math.max(top, axis.room + titled(axis) + 2);
      else bottom = Math.min(bottom, height - axis.room - titled(axis));
    }
    if (traces.some((trace) => trace.bar)) bottom -= 30;
    right = Math.min(right, left + this.widest(bottom - top));
    this.frame = { left, right, top, bottom };
    for (const axis of across) [axis.start, axis.end] = axis.domain.map((share) => left + share * (right - left));
    for (const axis of down) [axis.start, axis.end] = axis.domain.map((share) => bottom - share * (bottom - top));
  }

  // Cells of a matrix may be wider than they are high, but no bars: on a wide page the matrix keeps to the left.
  widest(height) {
    if (!this.data.traces.some((trace) => trace.type === "heatmap")) return Infinity;
    const [columns, rows] = [this.axes.x, this.axes.y].map((axis) => Math.abs(axis.high - axis.low));
    return (FLATTEST * height * columns) / rows;
  }

  drawAxis(parent, axis) {
    const { given } = axis;
    const { left, top, bottom } = this.frame;
    const others = Object.values(this.axes).filter((one) => one.horizontal !== axis.horizontal);
    const grid = given.gridcolor || "currentColor";
    const length = Math.abs(axis.end - axis.start);
    const upper = given.side === "top";
    const told = axis.ticks(length);
    const every = axis.given.tickvals ? Math.ceil((told.length * axis.size * 1.05) / length) : 1; // labels that stand too close are left out
    for (const [index, [value, text]] of told.entries()) {
      const at = axis.at(value);
      if (given.showgrid !== false)
        for (const other of others) {
          const line = axis.horizontal ? { x1: at, x2: at, y1: other.start, y2: other.end } : { x1: other.start, x2: other.end, y1: at, y2: at };
          make("line", { ...line, stroke: grid, "stroke-width": 1 }, parent);
        }
      if (index % every && (!axis.horizontal || axis.angle)) continue;
      if (!axis.horizontal) {
        write(parent, left - PAD, at, text, axis.size, { "text-anchor": "end", "dominant-baseline": "central", class: "tick" });
        continue;
      }
      const { angle } = axis;
      const y = upper ? top - PAD : bottom + PAD;
      const anchor = !angle ? "middle" : upper ? "start" : "end";
      write(parent, at, y, text, axis.size, {
        "text-anchor": anchor, class: "tick", "dominant-baseline": upper ? "auto" : angle ? "central" : "hanging",
        transform: angle ? `rotate(${angle} ${at} ${y})` : undefined,
      });
    }
    if (given.zeroline && axis.horizontal)
      make("line", { x1: axis.at(0), x2: axis.at(0), y1: top, y2: bottom, stroke: given.zerolinecolor || "currentColor" }, parent);
    if (!given.title?.text) return;
    const middle = (axis.start + axis.end) / 2;
    if (axis.horizontal) write(parent, middle, bottom + axis.room + 8, given.title.text, this.font, { "text-anchor": "middle", "dominant-baseline": "central" });
    else write(parent, 9, middle, given.title.text, this.font, { "text-anchor": "middle", "dominant-baseline": "central", transform: `rotate(-90 9 ${middle})` });
  }

  trace(trace) {
    const [across, down] = [this.axes[trace.xaxis || "x"], this.axes[trace.yaxis || "y"]];
    if (trace.type === "heatmap") return this.cells(trace, across, down);
    if (trace.mode === "lines") {
      const points = trace.x.map((x, at) => `${across.at(x)},${down.at(trace.y[at])}`).join(" ");
      return make("polyline", { points, fill: "none", stroke: trace.line.color, "stroke-width": trace.line.width, "stroke-dasharray": dashes(trace.line.dash) }, this.svg);
    }
    const group = make("g", { class: trace.type === "bar" ? "bars" : "points" }, this.svg);
    const each = (value, at) => (Array.isArray(value) ? value[at] : value);
    const { marker = {} } = trace;
    const figures = trace.mode === "text" ? this.figures(trace, Math.abs(across.at(1) - across.at(0)) - 3) : null;
    trace.x.forEach((x, at) => {
      const y = trace.y[at];
      if (x === null || y === null) return;
      const hit = { tip: trace.tips?.[at], custom: trace.custom?.[at], x: across.at(x), y: down.at(y) };
      if (trace.type === "bar") {
        const half = (each(trace.width, at) || 1) / 2;
        const [x0, x1] = [across.at(x - half), across.at(x + half)];
        const [y0, y1] = [down.at(Math.max(down.low, 0)), hit.y];
        Object.assign(hit, { span: [x0, x1], lane: [down.start, down.end].sort((a, b) => a - b), box: [x0, Math.min(y0, y1), x1 - x0, Math.abs(y1 - y0)] });
        make("rect", { x: x0, y: Math.min(y0, y1), width: Math.max(x1 - x0, 0), height: Math.abs(y1 - y0), fill: each(marker.color, at), "fill-opacity": marker.opacity }, group);
      } else if (trace.mode === "text") {
        write(group, hit.x, hit.y, figures.texts[at], figures.size, {
          "text-anchor": "middle", "dominant-baseline": "central", style: `fill:${each(trace.textfont?.color, at) || "currentColor"}`, class: "tick",
        });
        return;
      } else {
        const unit = Math.abs(across.at(1) - across.at(0));
        const tall = Math.abs(down.at(1) - down.at(0));
        if (marker.opacity === 0) hit.box = [hit.x - unit / 2, hit.y - tall / 2, unit, tall];
      }
      for (const [name, axis, along] of [["error_x", across, "x"], ["error_y", down, "y"]]) {
        const bars = trace[name];
        if (!bars) continue;
        const centre = along === "x" ? x : y;
        const [a, b] = [axis.at(centre - bars.arrayminus[at]), axis.at(centre + bars.array[at])];
        const line = along === "x" ? { x1: a, x2: b, y1: hit.y, y2: hit.y } : { x1: hit.x, x2: hit.x, y1: a, y2: b };
        make("line", { ...line, stroke: bars.color, "stroke-width": bars.thickness }, group);
        if (bars.width && along === "y") for (const end of [a, b]) make("line", { x1: hit.x - bars.width, x2: hit.x + bars.width, y1: end, y2: end, stroke: bars.color }, group);
      }
      if (trace.mode === "markers" && marker.opacity !== 0) this.symbol(group, hit.x, hit.y, { ...marker, color: each(marker.color, at) });
      if (hit.tip !== undefined) this.hits.push(hit);
    });
  }

  // The figures of a matrix have one size, in which the longest fits its cell; rather than too small, thousands are written
  // short, and what does not fit then is left to hovering.
  figures(trace, room) {
    const usual = trace.textfont?.size || this.font;
    const wide = (text, size) => widthOf(text, size, this.family);
    for (const texts of [trace.text, trace.text.map(short)]) {
      const size = Math.min(usual, (usual * room) / Math.max(1, ...texts.map((text) => wide(text, usual))));
      if (size >= SMALLEST) return { texts, size };
    }
    return { texts: trace.text.map((text) => (wide(short(text), SMALLEST) <= room ? short(text) : "")), size: SMALLEST };
  }

  symbol(parent, x, y, marker) {
    const r = (marker.size || 8) / 2;
    const kind = (marker.symbol || "circle").replace("-open", "");
    const open = (marker.symbol || "").endsWith("-open");
    const colour = Array.isArray(marker.color) ? marker.color[0] : marker.color;
    const looks = open ? { fill: "none", stroke: colour, "stroke-width": 2 } : { fill: colour };
    if (kind === "circle") make("circle", { cx: x, cy: y, r, ...looks }, parent);
    else if (kind === "square") make("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, ...looks }, parent);
    else make("path", { d: `M${x} ${y - 1.25 * r}l${1.25 * r} ${1.25 * r} ${-1.25 * r} ${1.25 * r} ${-1.25 * r} ${-1.25 * r}z`, ...looks }, parent);
  }

  cells(trace, across, down) {
    const group = make("g", { class: "cells" }, this.svg);
    const [wide, tall] = [Math.abs(across.at(1) - across.at(0)), Math.abs(down.at(1) - down.at(0))];
    trace.x.forEach((x, at) => {
      const box = [across.at(x) - wide / 2, down.at(trace.y[at]) - tall / 2, wide, tall];
      make("rect", { x: box[0] + trace.gap / 2, y: box[1] + trace.gap / 2, width: wide - trace.gap, height: tall - trace.gap, fill: trace.colours[at], rx: wide > 20 ? 2 : 0 }, group);
      if (trace.tips) this.hits.push({ tip: trace.tips[at], x: box[0] + wide / 2, y: box[1] + tall / 2, box });
    });
    if (!trace.bar) return;
    const { right, left, bottom } = this.frame;
    const long = trace.bar.len * (right - left);
    const steps = 40;
    const stops = trace.scale.map(rgbOf);
    const scale = make("g", { class: "scale" }, this.svg);
    for (let at = 0; at < steps; at++) {
      const place = (at / (steps - 1)) * (stops.length - 1);
      const [a, b] = [stops[Math.floor(place)], stops[Math.min(Math.floor(place) + 1, stops.length - 1)]];
      const mixed = a.map((value, c) => Math.round(value + (b[c] - value) * (place % 1)));
      make("rect", { x: right - long + (at * long) / steps, y: bottom + 8, width: long / steps + 0.5, height: trace.bar.thickness, fill: `rgb(${mixed})` }, scale);
    }
    trace.bar.ticktext.forEach((text, at) => write(scale, right - long + (at * long) / (trace.bar.ticktext.length - 1), bottom + 20, text, 11, { "text-anchor": "middle", "dominant-baseline": "hanging" }));
  }

  // Where a shape or a note refers to: an axis, or the whole of the plot.
  place(value, reference, fallback) {
    const name = reference || fallback;
    const { left, right, top, bottom } = this.frame;
    if (name === "paper" || name.endsWith("domain")) return fallback === "x" ? left + value * (right - left) : bottom - value * (bottom - top);
    return this.axes[name].at(value);
  }

  shape({ x0, x1, y0, y1, xref, yref, line, opacity }) {
    make("line", {
      x1: this.place(x0, xref, "x"), x2: this.place(x1, xref, "x"), y1: this.place(y0, yref, "y"), y2: this.place(y1, yref, "y"),
      stroke: line.color, "stroke-width": line.width, "stroke-dasharray": dashes(line.dash), opacity,
    }, this.svg);
  }

  annotation({ x, y, xref, yref, text, font, xanchor, yanchor, xshift, opacity }) {
    const anchor = { left: "start", right: "end" }[xanchor] || "middle";
    write(this.svg, this.place(x, xref, "x") + (xshift || 0), this.place(y, yref, "y") - (yanchor === "bottom" ? 3 : 0), text, font?.size || 11, {
      "text-anchor": anchor, opacity, style: font?.color ? `fill:${font.color}` : undefined,
    });
  }

  // --- what is pointed at, and what is picked ---

  under(x, y) {
    const bars = this.hits.filter((hit) => hit.span && x >= hit.span[0] && x < hit.span[1] && y >= hit.lane[0] - 1 && y <= hit.lane[1] + 1);
    if (bars.length) return bars;
    const distance = (hit) => (hit.box ? Math.max(Math.abs(hit.x - x) / hit.box[2], Math.abs(hit.y - y) / hit.box[3]) : Math.hypot(hit.x - x, hit.y - y));
    const points = this.hits.filter((hit) => !hit.span && distance(hit) <= (hit.box ? 0.5001 : NEAR));
    return points.length ? [points.reduce((best, hit) => (distance(hit) < distance(best) ? hit : best))] : [];
  }

  show(hits, speak) {
    if (!hits.length) return this.hide();
    const told = [...new Set(hits.map((hit) => hit.tip))];
    this.tip.replaceChildren(...told.flatMap((tip, at) => lines(tip).map((line, row) => {
      const node = document.createElement("div");
      if (at && !row) node.className = "apart";
      node.append(...line.map(([piece, bold]) => {
        const part = document.createElement(bold ? "b" : "span");
        part.textContent = piece;
        return part;
      }));
      return node;
    })));
    this.tip.hidden = false;
    const box = hits.map((hit) => hit.box).filter(Boolean).sort((a, b) => b[3] - a[3])[0];
    if (box) for (const [name, value] of Object.entries({ x: box[0], y: box[1], width: box[2], height: box[3], visibility: "visible" })) this.mark.setAttribute(name, value);
    else this.mark.setAttribute("visibility", "hidden");
    const [across, high] = [this.tip.offsetWidth, this.tip.offsetHeight];
    const { x, y } = hits[0];
    const beside = x + 14 + across > this.plot.clientWidth ? x - 14 - across : x + 14;
    this.tip.style.left = `${Math.max(0, beside)}px`;
    this.tip.style.top = `${Math.min(Math.max(0, y - high - 8), this.plot.clientHeight - high)}px`;
    if (speak) this.said.textContent = this.tip.innerText;
  }

  hide() {
    this.tip.hidden = true;
    this.mark?.setAttribute("visibility", "hidden");
  }

  choose(hits) {
    const hit = hits.find((one) => one.custom);
    if (this.data.picks && hit) this.pick({ custom: hit.custom });
  }

  listen() {
    const { svg, area } = this;
    const place = (event) => {
      const box = svg.getBoundingClientRect();
      return [event.clientX - box.x, event.clientY - box.y];
    };
    let from = null;
    area.onpointerdown = (event) => {
      if (event.button !== 0) return;
      from = place(event);
      if (this.brushes) area.setPointerCapture(event.pointerId);
    };
    area.onpointermove = (event) => {
      const [x, y] = place(event);
      if (from && this.brushes && Math.abs(x - from[0]) > 4) {
        this.hide();
        const ends = this.dragged(from[0], x);
        for (const [name, value] of Object.entries({ x: ends[0], y: this.frame.top, width: ends[1] - ends[0], height: this.frame.bottom - this.frame.top, visibility: "visible" })) this.brush.setAttribute(name, value);
      } else this.show(this.under(x, y));
    };
    area.onpointerup = (event) => {
      const [x, y] = place(event);
      if (!from) return;
      const start = from;
      from = null;
      this.brush.setAttribute("visibility", "hidden");
      if (this.brushes && Math.abs(x - start[0]) > 4) this.pick({ range: this.dragged(start[0], x).map((end) => this.axes.x.value(end)) });
      else this.choose(this.under(x, y));
    };
    area.onpointercancel = () => { from = null; this.brush.setAttribute("visibility", "hidden"); };
    area.onpointerleave = () => { if (!from) this.hide(); };
    svg.onkeydown = (event) => this.key(event);
    svg.onblur = () => this.hide();
  }

  dragged(a, b) {
    const { left, right } = this.frame;
    return [a, b].map((end) => Math.min(Math.max(end, left), right)).sort((p, q) => p - q);
  }

  // Arrows go from mark to mark in reading order, enter picks.
  key(event) {
    const picks = this.hits.filter((hit) => hit.custom);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step && picks.length) {
      this.at = Math.min(Math.max((this.at ?? (step > 0 ? -1 : picks.length)) + step, 0), picks.length - 1);
      this.show([picks[this.at]], true);
    } else if (event.key === "Enter" && picks[this.at]) this.choose([picks[this.at]]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

const dashes = (kind) => ({ dash: "6 4", dot: "2 3" })[kind];
const rgbOf = (colour) => (colour[0] === "#" ? [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)) : colour.match(/[\d.]+/g).slice(0, 3).map(Number));

export default function ({ parentElement, data, setTriggerValue }) {
  const root = parentElement.querySelector(".chart");
  if (!charts.has(root)) charts.set(root, new Chart(root));
  charts.get(root).update(data, (said) => setTriggerValue("picked", said));
}
