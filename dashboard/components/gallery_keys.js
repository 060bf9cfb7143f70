// Moving about the gallery from the keyboard.

class Keys extends Reviewing {
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
