// The toolbar of the gallery: which method, how strongly, how large, and what the colours mean.

class Bar extends Tiles {
  build() {
    const root = this.root;
    this.bar = element("div", "bar");
    this.bar.setAttribute("role", "toolbar");
    this.bar.setAttribute("aria-label", "How attention is shown");
    this.methods = element("div", "methods");
    this.methods.setAttribute("role", "radiogroup");
    this.methods.setAttribute("aria-label", "Attribution method");
    this.list = element("select", "list");
    this.list.setAttribute("aria-label", "Attribution method");
    this.list.onchange = () => this.set({ method: this.list.value });
    this.overlay = this.switch((on) => this.set({ overlay: on }));
    this.opacity = this.range(10, 100, 5, (value) => this.set({ opacity: value }));
    this.object = this.switch((on) => this.set({ object: on }));
    this.objectLabel = this.labelled("Object", this.object);
    this.objectLabel.firstChild.append(element("i", "swatch"));
    this.size = this.range(90, 400, 10, (value) => this.set({ size: value }));
    this.sizeLabel = this.labelled("Size", this.size);
    this.scales = element("div", "scales");
    this.scale = this.colourScale("least", "most attention");
    this.signedScale = this.colourScale("against", "for the class");
    this.signedScale.classList.add("signed");
    this.scales.append(this.scale, this.signedScale);
    this.choosing = this.switch((on) => root.classList.toggle("choosing", on));
    this.choosingLabel = this.labelled("Select", this.choosing);
    this.choosingLabel.classList.add("select");
    this.choosingLabel.title = "A click selects instead of opening; shift-click always does, from the last one on";
    this.clear = element("button", "clear");
    this.clear.onclick = () => this.choose(new Set());
    // Two parts, so that a narrow bar breaks between them and not within.
    const looks = element("div", "looks");
    looks.append(
      this.labelled("Attention", this.overlay), this.labelled("Opacity", this.opacity), this.scales, this.objectLabel,
      this.sizeLabel, this.choosingLabel, this.clear,
    );
    this.bar.append(this.methods, this.list, looks);
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

  switch(change) {
    const input = element("input", "switch");
    input.type = "checkbox";
    input.setAttribute("role", "switch");
    input.onchange = () => change(input.checked);
    return input;
  }

  labelled(text, input) {
    const label = element("label", "");
    label.append(element("span", "", text), input);
    return label;
  }

  colourScale(low, high) {
    const scale = element("div", "scale");
    scale.title = `From ${low} to ${high}`;
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
}
