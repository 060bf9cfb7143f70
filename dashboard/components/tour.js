// The tour's card. It waits in a corner, rings what it speaks of, and never keeps anybody from the page behind it.

const SEEN = "gazelake.tour";
const instances = new WeakMap();

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function seen() {
  try {
    return window.localStorage.getItem(SEEN) !== null;
  } catch {
    return true; // a browser that keeps nothing would be shown the tour for ever
  }
}

function remember() {
  try {
    window.localStorage.setItem(SEEN, "seen");
  } catch { /* it is shown once a session then */ }
}

class Tour {
  constructor(root) {
    this.root = root;
    this.shown = 0;
    this.ended = false;
    this.onKey = (event) => { if (event.key === "Escape" && this.shown && !event.defaultPrevented) this.go(0); };
    this.onMove = () => this.place();
  }

  update(data, send) {
    this.data = data;
    this.send = send;
    if (data.step) this.ended = false;
    const step = data.step || (data.offered && !this.ended && !seen() ? 1 : 0);
    const here = step && data.steps[step - 1].here ? step : 0;
    if (here !== this.shown) this.show(here);
  }

  show(step) {
    this.shown = step;
    clearInterval(this.timer);
    document.removeEventListener("keydown", this.onKey);
    window.removeEventListener("scroll", this.onMove, true);
    if (!step) return this.root.replaceChildren();
    const { title, text } = this.data.steps[step - 1];
    const count = this.data.steps.length;
    const card = element("section", "card");
    card.setAttribute("role", "dialog");
    card.setAttribute("aria-labelledby", "tour-title");
    card.setAttribute("aria-describedby", "tour-text");
    card.tabIndex = -1;
    const head = element("h2", "", title);
    head.id = "tour-title";
    const body = element("p", "", text);
    body.id = "tour-text";
    const dots = element("div", "dots");
    dots.setAttribute("role", "img");
    dots.setAttribute("aria-label", `Step ${step} of ${count}`);
    for (let i = 1; i <= count; i++) dots.append(element("i", i === step ? "on" : ""));
    const skip = this.button(step === count ? "Close" : "Skip the tour", "quiet", 0);
    const last = step === count;
    const foot = element("div", "foot");
    foot.append(dots);
    if (!last) foot.append(skip);
    if (step > 1) foot.append(this.button("Back", "", step - 1));
    foot.append(this.button(last ? "Done" : "Next", "main", last ? 0 : step + 1));
    card.append(head, body, foot);
    this.ring = element("div", "ring");
    this.ring.setAttribute("aria-hidden", "true");
    this.root.replaceChildren(this.ring, card);
    document.addEventListener("keydown", this.onKey);
    window.addEventListener("scroll", this.onMove, true);
    this.timer = setInterval(this.onMove, 250); // the page is still being drawn, and may be resized
    this.place();
    // Whoever is typing already is left alone.
    if (document.activeElement === document.body || step > 1) card.focus({ preventScroll: true });
  }

  button(text, className, to) {
    const node = element("button", className, text);
    node.type = "button";
    node.onclick = () => this.go(to);
    return node;
  }

  go(to) {
    if (!to) {
      remember();
      this.ended = true;
      this.show(0);
    }
    this.send(to);
  }

  place() {
    if (!this.root.isConnected) return clearInterval(this.timer);
    const target = document.querySelector(this.data.steps[this.shown - 1]?.target || "none");
    const box = target?.getBoundingClientRect();
    const visible = box && box.width > 0 && box.bottom > 0 && box.top < window.innerHeight;
    this.ring.style.display = visible ? "" : "none";
    if (!visible) return;
    Object.assign(this.ring.style, { left: `${box.left - 5}px`, top: `${box.top - 5}px`, width: `${box.width + 10}px`, height: `${box.height + 10}px` });
  }
}

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const root = parentElement.querySelector(".tour");
  if (!instances.has(root)) instances.set(root, new Tour(root));
  const tour = instances.get(root);
  tour.update(data, (to) => setTriggerValue("go", to));
  return () => tour.show(0);
}
