// The gallery: thumbnails with attribution maps over them, drawn in the browser so that switching costs no round trip.
// Data of the run reaches the page through textContent and attributes only, never as HTML.

const instances = new WeakMap();
const FOLLOW = "gazelake-view";
const LATER = 1200; // milliseconds after something else was pressed until the server is told of the view
const SETTLE = 300; // milliseconds without a change before the view stands in the address
const PAUSE = 1500; // milliseconds without anything pressed until the rest of the page follows
const UNDER_WAY = "[data-test-script-state]:not([data-test-script-state=notRunning])"; // Streamlit has been asked for something

class Gallery extends Bar {
  constructor(root) {
    super();
    this.root = root;
    this.view = { overlay: true, opacity: 70, method: "", size: 150, object: true };
    this.serial = null;
    this.shown = null;
    this.tiles = [];
    this.focus = 0;
    this.timer = this.rest = null;
    this.chosen = new Set();
    this.anchor = null;
    this.pending = this.asked = false;
    this.painter = new Painter();
    this.build();
    this.watch();
  }

  // A view from the server counts only when it is news: otherwise an echo would undo what the person did meanwhile.
  update(data, handlers) {
    Object.assign(this, handlers);
    if (data.serial !== this.serial) {
      this.serial = data.serial;
      Object.assign(this.view, data.view);
    }
    if (data.key !== this.shown) {
      const another = this.data && data.page !== this.data.page && !this.turned; // from the keyboard, the focus leads there
      this.shown = data.key;
      this.data = data;
      this.fill();
      if (another && this.root.getBoundingClientRect().top < 0) this.root.scrollIntoView({ block: "start" });
    } else {
      this.data = data;
    }
    this.apply(true);
    if (this.pending) this.writeAddress();
    this.restLater();
  }

  // Of a page that shows another selection still, somebody who goes on pressing wants the gallery first. Never together with
  // what was pressed: each request brings the address along, and of two under way the later would undo what the earlier wrote.
  restLater() {
    clearTimeout(this.rest);
    if (!this.data?.behind) return;
    this.rest = setTimeout(() => {
      if (!this.root.isConnected || !this.data.behind) return;
      if (document.querySelector(UNDER_WAY)) this.restLater();
      else this.whole();
    }, PAUSE);
  }

  fill() {
    const { data } = this;
    const focused = this.turned || this.root.getRootNode().activeElement?.classList.contains("tile");
    this.bar.hidden = !data.toolbar && !data.legend;
    this.bar.classList.toggle("bare", !data.toolbar);
    this.hint.hidden = !data.toolbar || !data.groups.some((group) => group.tiles.some((tile) => tile.href));
    const [plain, signed] = [bytes(data.colours), bytes(data.signedColours)];
    this.painter.begin(plain, signed, data.floor);
    this.fillScale(this.scale, plain);
    this.fillScale(this.signedScale, signed);
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
      ["pointerdown", (event) => { this.restLater(); if (!event.composedPath().includes(this.bar)) this.tellLater(); }],
      ["beforeprint", () => this.painter.all()],
      ["keydown", (event) => { this.restLater(); if (event.key === "Enter" && !event.composedPath().includes(this.bar)) this.tellLater(); }],
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
    root.classList.toggle("usual", view.size === this.data.usual.size);
    for (const button of this.methods.children) {
      const chosen = button.dataset.method === view.method;
      button.setAttribute("aria-checked", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
    if (!repaint) return;
    const drawn = this.tiles.map((tile) => this.draw(tile)).filter(Boolean);
    this.painter.show(this.tiles);
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
    tile.overlay.style.display = map ? "" : "none";
    tile.map = map;
    return map;
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
    whole: () => setTriggerValue("whole", true),
  });
}
