// Selecting and tagging in the gallery: what the class of the gallery is built upon.

class Reviewing {
  // What "t" opens: one line at the foot of the window, so that hands stay on the keyboard.
  tagPrompt() {
    const box = element("form", "prompt");
    box.hidden = true;
    this.promptText = element("label", "");
    this.promptInput = element("input");
    Object.assign(this.promptInput, { type: "text", maxLength: 100, placeholder: "tag", autocomplete: "off" });
    this.promptInput.setAttribute("aria-label", "Tag");
    this.suggestions = element("div", "suggestions");
    this.promptInput.oninput = () => this.suggest();
    box.onsubmit = (event) => { event.preventDefault(); this.sendTag(this.promptInput.value); };
    box.onkeydown = (event) => {
      event.stopPropagation();
      if (event.key === "Escape") this.endTag();
    };
    box.append(this.promptText, this.promptInput, this.suggestions, element("span", "keys", "enter adds it · esc leaves"));
    return box;
  }

  tagged() {
    const focused = this.tiles[this.focus]?.node.dataset.id;
    return this.chosen.size ? [...this.chosen] : focused ? [focused] : [];
  }

  startTag() {
    const ids = this.tagged();
    if (!this.data.reviewing || !ids.length) return;
    const refusal = this.data.reviewing.refusal;
    this.promptText.textContent = refusal || (ids.length === 1 ? "Tag this image" : `Tag ${ids.length} images`);
    for (const node of [this.promptInput, this.suggestions, this.prompt.lastChild]) node.style.display = refusal ? "none" : "";
    this.prompt.hidden = false;
    this.promptInput.value = "";
    this.suggest();
    if (!refusal) this.promptInput.focus();
  }

  suggest() {
    const typed = this.promptInput.value.trim().toLowerCase();
    const fitting = this.data.reviewing.tags.filter((tag) => tag.toLowerCase().includes(typed) && tag.toLowerCase() !== typed);
    this.suggestions.replaceChildren(...fitting.slice(0, 6).map((tag) => {
      const button = element("button", "", tag);
      button.type = "button";
      button.onclick = () => this.sendTag(tag);
      return button;
    }));
  }

  sendTag(text) {
    const ids = this.tagged();
    if (!text.trim() || !ids.length) return;
    this.tag({ ids, tag: text.trim() });
    this.status.textContent = `tagged ${ids.length}: ${text.trim()}`;
    this.endTag();
  }

  endTag() {
    this.prompt.hidden = true;
    this.rove(true);
  }

  choose(ids) {
    this.chosen = ids;
    if (!ids.size) this.anchor = null;
    this.showChosen();
    clearTimeout(this.choosingTimer);
    this.choosingTimer = setTimeout(() => this.root.isConnected && this.select([...this.chosen]), 150);
  }

  showChosen() {
    for (const tile of this.tiles) tile.node.classList.toggle("chosen", this.chosen.has(tile.node.dataset.id));
    this.root.classList.toggle("some", this.chosen.size > 0);
    // Short, and in the place of the word beside the switch: the bar must not break into two lines by a click.
    this.clear.textContent = `${this.chosen.size} ✕`;
    this.clear.title = `${this.chosen.size} selected: select nothing (esc)`;
    this.clear.setAttribute("aria-label", this.clear.title);
    this.clear.style.display = this.chosen.size ? "" : "none";
  }

  toggle(index, range) {
    const ids = new Set(this.chosen);
    if (range && this.anchor !== null && this.anchor < this.tiles.length) {
      const [low, high] = [Math.min(this.anchor, index), Math.max(this.anchor, index)];
      for (const tile of this.tiles.slice(low, high + 1)) ids.add(tile.node.dataset.id);
    } else {
      const id = this.tiles[index].node.dataset.id;
      if (!ids.delete(id)) ids.add(id);
      this.anchor = index;
    }
    this.focus = index;
    this.rove(false);
    this.choose(ids);
  }
}
