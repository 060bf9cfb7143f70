// The gallery: thumbnails with attribution maps over them, drawn in the browser so that switching costs no round trip.
// Data of the run reaches the page through textContent and attributes only, never as HTML.

const instances = new WeakMap();
const SVG = "http://www.w3.org/2000/svg";
const FOLLOW = "gazelake-view";
const LATER = 1200; // milliseconds after something else was pressed until the server is told of the view
const SETTLE = 300; // milliseconds without a change before the view stands in the address

class Gallery extends Reviewing {
  constructor(root) {
    super();
    this.root = root;
    this.view = { overlay: true, opacity: 70, method: "", size: 150, object: true };
    this.serial = null;
    this.shown = null;
    this.tiles = [];
    this.focus = 0;
    this.timer = null;
    this.chosen = new Set();
    this.anchor = null;
    this.pending = this.asked = false;
    this.build();
    this.watch();
  }

  build() {
    const root = this.root;
    this.bar = element("div", "bar");
    this.bar.setAttribute("role", "toolbar");
    this.bar.setAttribute("aria-label", "How attention is shown");
    this.overlay = element("input", "switch");
    this.overlay.type = "checkbox";
    this.overlay.setAttribute("role", "switch");
    this.overlay.onchange = () => this.set({ overlay: this.overlay.checked });
    this.bar.append(this.labelled("Attention", this.overlay));
    this.opacity = this.range(10, 100, 5, (value) => this.set({ opacity: value }));
    this.bar.append(this.labelled("Opacity", this.opacity));
    this.object = element("input", "switch");
    this.object.type = "checkbox";
    this.object.setAttribute("role", "switch");
    this.object.onchange = () => this.set({ object: this.object.checked });
    this.objectLabel = this.labelled("Object", this.object);
    this.objectLabel.firstChild.append(element("i", "swatch"));
    this.bar.append(this.objectLabel);
    this.methods = element("div", "methods");
    this.methods.setAttribute("role", "radiogroup");
    this.methods.setAttribute("aria-label", "Attribution method");
    this.list = element("select", "list");
    this.list.setAttribute("aria-label", "Attribution method");
    this.list.onchange = () => this.set({ method: this.list.value });
    this.bar.append(this.methods, this.list);
    this.size = this.range(90, 400, 10, (value) => this.set({ size: value }));
    this.sizeLabel = this.labelled("Size", this.size);
    this.bar.append(this.sizeLabel);
    this.scales = element("div", "scales");
    this.scale = this.colourScale("least", "most attention");
    this.signedScale = this.colourScale("against", "for the class");
    this.scales.append(this.scale, this.signedScale);
    this.choosing = element("input", "switch");
    this.choosing.type = "checkbox";
    this.choosing.setAttribute("role", "switch");
    this.choosing.onchange = () => root.classList.toggle("choosing", this.choosing.checked);
    this.choosingLabel = this.labelled("Select", this.choosing);
    this.choosingLabel.title = "A click selects instead of opening; shift-click always does, from the last one on";
    this.clear = element("button", "clear");
    this.clear.onclick = () => this.choose(new Set());
    this.bar.append(this.choosingLabel, this.clear);
    this.bar.append(this.scales);
    this.groups = element("div", "groups");
    this.hint = element("div", "hint");
    this.prompt = this.tagPrompt();
    this.status = element("div", "sr");
    this.status.setAttribute("aria-live", "polite");
    root.replaceChildren(this.bar, this.groups, this.prompt, this.hint, this.status);
    root.onkeydown = (event) => this.key(event);
  }

  fillHint() {
    const keys = [["arrows", "move"], ["space", "attention"], ["1–9", "method"], ["enter", "open"]];
    if (this.data.turns.some(Boolean)) keys.push(["page ↑↓", "turn the page"]);
    if (this.data.reviewing) keys.push(["t", "tag"], ["x", "select"], ["a", "all"]);
    if (this.data.similar) keys.push(["s", "find similar"]);
    this.hint.replaceChildren();
    for (const [key, text] of keys) {
      if (this.hint.childNodes.length) this.hint.append("  ·  ");
      this.hint.append(element("kbd", "", key), " " + text);
    }
  }

  labelled(text, input) {
    const label = element("label", "");
    label.append(element("span", "", text), input);
    return label;
  }

  colourScale(low, high) {
    const scale = element("div", "scale");
    scale.append(element("span", "", low), element("canvas"), element("span", "", high));
    return scale;
  }

  fillScale(scale, colours) {
    const canvas = scale.querySelector("canvas");
    canvas.width = 256;
    canvas.height = 1;
    const context = canvas.getContext("2d");
    const line = context.createImageData(256, 1);
    for (let v = 0; v < 256; v++) line.data.set([...colours.slice(v * 3, v * 3 + 3), 255], v * 4);
    context.putImageData(line, 0, 0);
  }

  range(low, high, step, change) {
    const input = element("input");
    input.type = "range";
    Object.assign(input, { min: low, max: high, step });
    input.oninput = () => change(Number(input.value));
    return input;
  }

  // A view from the server counts only when it is news: otherwise an echo would undo what the person did meanwhile.
  update(data, handlers) {
    Object.assign(this, handlers);
    if (data.serial !== this.serial) {
      this.serial = data.serial;
      Object.assign(this.view, data.view);
    }
    if (data.key !== this.shown) {
      this.shown = data.key;
      this.data = data;
      this.tables = { plain: bytes(data.colours), signed: bytes(data.signedColours) };
      this.fill();
    } else {
      this.data = data;
    }
    this.apply(true);
    if (this.pending) this.writeAddress();
  }

  fill() {
    const { data } = this;
    const focused = this.turned || this.root.getRootNode().activeElement?.classList.contains("tile");
    this.bar.hidden = !data.toolbar && !data.legend;
    this.bar.classList.toggle("bare", !data.toolbar);
    this.hint.hidden = !data.toolbar || !data.groups.some((group) => group.tiles.some((tile) => tile.href));
    this.fillScale(this.scale, this.tables.plain);
    this.fillScale(this.signedScale, this.tables.signed);
    this.objectLabel.style.display = Object.keys(data.shapes).length ? "" : "none";
    this.objectLabel.title = data.shapeSource ? `The object's outline, from ${data.shapeSource}` : "";
    this.size.max = data.largest;
    this.sizeLabel.style.display = data.layout === "sheet" ? "none" : "";
    this.fillMethods(data.methods);
    this.fillHint();
    this.choosingLabel.style.display = data.reviewing ? "" : "none";
    const marked = this.turned ? null : this.root.getRootNode().activeElement?.dataset?.id;
    this.turned = false;
    this.tiles = [];
    const arranged = ["cards", "sheet"].includes(data.layout)
      ? `groups ${data.layout}`
      : data.groups.length === 2 && data.layout !== "row" ? "groups two" : "groups";
    this.groups.className = arranged;
    this.groups.replaceChildren(
      ...data.groups.flatMap((group, at) => (group.heading ? [element("h3", "", group.heading), this.group(group, at)] : [this.group(group, at)])),
    );
    const again = this.tiles.findIndex((tile) => marked && tile.node.dataset.id === marked);
    this.focus = again >= 0 ? again : Math.min(this.focus, Math.max(0, this.tiles.length - 1));
    const here = new Set(this.tiles.map((tile) => tile.node.dataset.id));
    this.chosen = new Set([...this.chosen].filter((id) => here.has(id)));
    this.showChosen();
    this.rove(focused);
  }

  // Few methods are buttons side by side; many are a list, ordered by family.
  fillMethods(methods) {
    const many = methods.length > 9;
    this.methods.style.display = methods.length < 2 || many ? "none" : "";
    this.list.style.display = many ? "" : "none";
    this.methods.replaceChildren(
      ...methods.map((method, i) => {
        const button = element("button", "", method.title);
        button.setAttribute("role", "radio");
        button.dataset.method = method.name;
        button.title = i < 9 ? `${method.title} (key ${i + 1})` : method.title;
        button.onclick = () => this.set({ method: method.name });
        return button;
      }),
    );
    this.list.replaceChildren();
    for (const family of new Set(methods.map((method) => method.family))) {
      const group = element("optgroup");
      group.label = family || "Methods";
      for (const method of methods.filter((one) => one.family === family)) {
        const option = element("option", "", method.title);
        option.value = method.name;
        group.append(option);
      }
      this.list.append(group);
    }
  }

  group(group, at) {
    const box = element("section", "group");
    const title = element("h4", "", group.title || "");
    title.hidden = !group.title;
    if (group.note) title.append(" ", element("span", "aside", group.note));
    if (group.more) {
      const more = element("button", "more", group.more);
      more.setAttribute("aria-label", `${group.more}: ${group.title}`);
      more.onclick = () => this.more(at);
      title.append(more);
    }
    const list = element("ul", `tiles ${this.data.layout}`);
    list.setAttribute("aria-label", group.title || "Samples");
    list.style.setProperty("--across", String(group.tiles.length));
    for (const tile of group.tiles) {
      const item = element("li");
      item.append(this.tile(tile));
      if (this.data.reviewing && tile.href) item.append(this.check(this.tiles.length - 1));
      if (this.data.similar && tile.href) item.append(this.like(tile));
      list.append(item);
    }
    box.append(title, list);
    return box;
  }

  // Beside the tile, which is a link: a button within one is none. From the keyboard it is "x".
  check(index) {
    const button = element("button", "check", "✓");
    button.title = "Select (x); with shift, all from the last one on";
    button.setAttribute("aria-label", `Select ${this.tiles[index].node.dataset.id}`);
    button.tabIndex = -1;
    button.onclick = (event) => this.toggle(index, event.shiftKey);
    return button;
  }

  // The same for "s".
  like(tile) {
    const button = element("button", "like", "≈");
    button.title = "Find similar images (s)";
    button.setAttribute("aria-label", `Find images similar to ${tile.id}`);
    button.tabIndex = -1;
    button.onclick = () => this.similar(tile.id);
    return button;
  }

  tile(tile) {
    const index = this.tiles.length;
    const node = element(tile.href ? "a" : "div", "tile");
    if (tile.href) {
      node.href = tile.href;
      node.target = "_self";
      node.onclick = (event) => {
        const apart = event.ctrlKey || event.metaKey || event.button !== 0;
        if (this.data.reviewing && !apart && (event.shiftKey || this.choosing.checked)) {
          event.preventDefault();
          this.toggle(index, event.shiftKey);
          return;
        }
        if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
        event.preventDefault();
        this.open(tile.id);
      };
    }
    node.setAttribute("aria-label", tile.alt);
    node.title = tile.title || tile.id || "";
    node.dataset.id = tile.id || "";
    node.onfocus = () => { this.focus = index; this.rove(false); };
    const frame = element("div", "frame");
    const image = element("img");
    image.alt = tile.alt;
    image.decoding = "async";
    image.draggable = false;
    image.src = this.data.images[tile.image] || "";
    if (tile.ratio) frame.style.aspectRatio = image.style.aspectRatio = String(tile.ratio);
    frame.append(image);
    const maps = Object.fromEntries(Object.entries(tile.maps || {}).map(([name, map]) => [name, map && [map[0], map[1], bytes(map[2]), map[3]]]));
    const place = tile.place || [0, 0, 1, 1];
    if (tile.outline) frame.append(this.placed(element("div", "crop"), place));
    const canvas = this.placed(element("canvas"), place);
    canvas.setAttribute("aria-hidden", "true");
    const missing = element("div", "missing", "no positive attention");
    if (tile.maps) frame.append(canvas);
    if (tile.shape && this.data.shapes[tile.shape]) frame.append(this.shape(this.data.shapes[tile.shape], place));
    if (tile.maps) frame.append(missing);
    if (tile.badge) {
      const badge = element("span", "badge", tile.badge[0]);
      badge.title = tile.badge[1];
      frame.append(badge);
    }
    node.append(frame, this.caption(tile));
    this.tiles.push({ node, canvas, missing, maps, fixed: tile.method });
    return node;
  }

  // A light line within a dark one shows on any picture.
  shape(path, place) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "shape");
    svg.setAttribute("viewBox", "0 0 1 1");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    for (const kind of ["halo", "line"]) {
      const line = document.createElementNS(SVG, "path");
      line.setAttribute("class", kind);
      line.setAttribute("d", path);
      svg.append(line);
    }
    return this.placed(svg, place);
  }

  placed(node, [x0, y0, x1, y1]) {
    Object.assign(node.style, { left: `${x0 * 100}%`, top: `${y0 * 100}%`, width: `${(x1 - x0) * 100}%`, height: `${(y1 - y0) * 100}%` });
    return node;
  }

  caption(tile) {
    const caption = element("div", "caption");
    const names = element("div", "names");
    if (tile.mark) {
      const mark = element("span", "mark", tile.mark[0]);
      mark.style.setProperty("--mark", tile.mark[1]);
      mark.setAttribute("aria-hidden", "true");
      names.append(mark);
    }
    names.append(element("span", "text", tile.text));
    if (tile.value) names.append(element("span", "value", tile.value));
    caption.append(names);
    if (tile.note) caption.append(element("div", "note", tile.note));
    return caption;
  }

  // Another method may change more on the page than the maps. Everything else is the browser's own affair: it goes into the
  // address at once, and the server learns of it with the next thing that somebody does elsewhere on the page.
  set(change) {
    Object.assign(this.view, change);
    this.apply("method" in change);
    this.pending = true;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => ("method" in change || this.asked ? this.flush() : this.writeAddress()), SETTLE);
    this.asked ||= "method" in change;
    const { overlay, opacity, object } = this.view;
    window.dispatchEvent(new CustomEvent(FOLLOW, { detail: { from: this, view: { overlay, opacity, object } } }));
  }

  flush() {
    clearTimeout(this.timer);
    this.asked = false;
    if (!this.pending || !this.root.isConnected) return;
    this.pending = false;
    this.send({ ...this.view });
  }

  writeAddress() {
    if (!this.root.isConnected) return;
    const { view, data } = this;
    const values = { overlay: [view.overlay ? 1 : 0, 1], opacity: [view.opacity, data.usual.opacity], object: [view.object ? 1 : 0, 1] };
    if (data.usual.size) values.tile = [view.size, data.usual.size];
    // Only these parameters are touched: the others stay letter by letter as the server wrote them.
    const kept = location.search.slice(1).split("&").filter((part) => part && !(part.split("=")[0] in values));
    for (const [name, [value, usual]] of Object.entries(values)) if (value !== usual) kept.push(`${name}=${value}`);
    const address = location.pathname + (kept.length ? `?${kept.join("&")}` : "") + location.hash;
    if (address !== location.pathname + location.search + location.hash) history.replaceState(history.state, "", address);
  }

  // Not together with what was just pressed: Streamlit would take both for the gallery's own affair and run no more than it.
  tellLater() {
    if (!this.pending) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), LATER);
  }

  // What one gallery of a page shows, the others show too; and somebody who goes on to something else takes the view along.
  watch() {
    const listeners = [
      [FOLLOW, (event) => { if (event.detail.from !== this) { Object.assign(this.view, event.detail.view); this.apply(false); } }],
      ["pointerdown", (event) => { if (!event.composedPath().includes(this.bar)) this.tellLater(); }],
      ["keydown", (event) => { if (event.key === "Enter" && !event.composedPath().includes(this.bar)) this.tellLater(); }],
    ];
    for (const [name, hear] of listeners) {
      const heard = (event) => (this.root.isConnected ? hear(event) : window.removeEventListener(name, heard, true));
      window.addEventListener(name, heard, true);
    }
  }

  apply(repaint) {
    const { view, root } = this;
    this.overlay.checked = view.overlay;
    this.opacity.value = view.opacity;
    this.size.value = view.size;
    this.object.checked = view.object;
    this.list.value = view.method;
    root.classList.toggle("off", !view.overlay);
    root.classList.toggle("plain", !view.object);
    root.style.setProperty("--opacity", String(view.opacity / 100));
    root.style.setProperty("--tile", `${view.size}px`);
    for (const button of this.methods.children) {
      const chosen = button.dataset.method === view.method;
      button.setAttribute("aria-checked", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
    if (!repaint) return;
    const drawn = this.tiles.map((tile) => this.draw(tile)).filter(Boolean);
    const signed = drawn.some((map) => map[3]);
    this.signedScale.style.display = signed ? "" : "none";
    this.scale.style.display = signed && drawn.every((map) => map[3]) ? "none" : "";
  }

  draw(tile) {
    const name = tile.fixed || this.view.method;
    const map = tile.maps[name];
    tile.missing.textContent = name in tile.maps ? "no positive attention" : this.data.partial ? "loading …" : "no map for this class";
    tile.missing.hidden = Boolean(map);
    tile.missing.style.display = map ? "none" : "";
    tile.canvas.style.display = map ? "" : "none";
    if (map) paint(tile.canvas, map, this.tables, this.data.floor);
    return map;
  }

  // Beyond the last picture lies the next page's first, before the first the last of the page before.
  turn(step) {
    if (!this.data.turns[step > 0 ? 1 : 0]) return false;
    this.focus = step > 0 ? 0 : Number.MAX_SAFE_INTEGER;
    this.turned = true;
    this.turnTo(step);
    this.status.textContent = step > 0 ? "next page" : "page before";
    return true;
  }

  rove(focus) {
    this.tiles.forEach((tile, i) => { tile.node.tabIndex = i === this.focus ? 0 : -1; });
    if (focus) this.tiles[this.focus]?.node.focus();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === this.list) return;
    const inBar = this.bar.contains(event.target);
    const digit = /^[1-9]$/.test(event.key) ? this.data.methods[Number(event.key) - 1] : null;
    if (digit) {
      this.set({ method: digit.name, overlay: true });
      this.status.textContent = digit.title;
    } else if (inBar) {
      const at = this.data.methods.findIndex((method) => method.name === this.view.method);
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step || !this.methods.contains(event.target)) return;
      const next = this.data.methods[(at + step + this.data.methods.length) % this.data.methods.length];
      this.set({ method: next.name });
      [...this.methods.children].find((button) => button.dataset.method === next.name).focus();
    } else if (event.key === " ") {
      this.set({ overlay: !this.view.overlay });
      this.status.textContent = this.view.overlay ? "attention shown" : "attention hidden";
    } else if (event.key === "t" && this.data.reviewing) {
      this.startTag();
    } else if (event.key === "x" && this.data.reviewing) {
      if (this.tiles[this.focus]) this.toggle(this.focus, false);
    } else if (event.key === "a" && this.data.reviewing) {
      const all = this.tiles.map((tile) => tile.node.dataset.id);
      this.choose(new Set(this.chosen.size === all.length ? [] : all));
    } else if (event.key === "PageDown" || event.key === "PageUp") {
      if (!this.turn(event.key === "PageDown" ? 1 : -1)) return;
    } else if (event.key === "s" && this.data.similar) {
      const id = this.tiles[this.focus]?.node.dataset.id;
      if (id) this.similar(id);
    } else if (event.key === "Escape") {
      if (this.chosen.size) this.choose(new Set());
      else this.root.getRootNode().activeElement?.blur();
    } else {
      const columns = getComputedStyle(this.groups.querySelector(".tiles")).gridTemplateColumns.split(" ").length;
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
      const target = event.key === "Home" ? 0 : event.key === "End" ? this.tiles.length - 1 : step ? this.focus + step : -1;
      if (step && (target < 0 || target >= this.tiles.length) && Math.abs(step) === 1 && this.turn(step)) event.preventDefault();
      if (target < 0 || target >= this.tiles.length) return;
      this.focus = target;
      this.rove(true);
    }
    event.preventDefault();
    event.stopPropagation();
  }
}

export default function (component) {
  const { parentElement, data, setStateValue, setTriggerValue } = component;
  const root = parentElement.querySelector(".gl");
  if (!instances.has(root)) instances.set(root, new Gallery(root));
  const gallery = instances.get(root);
  gallery.update(data, {
    send: (view) => setStateValue("view", view),
    open: (id) => setTriggerValue("open", id),
    select: (ids) => setStateValue("selected", ids),
    tag: (said) => setTriggerValue("tag", said),
    similar: (id) => setTriggerValue("similar", id),
    more: (at) => setTriggerValue("more", at),
    turnTo: (step) => setTriggerValue("turn", step),
  });
}
